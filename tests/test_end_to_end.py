"""A small experiment through the command line, again, changed, killed, and recomputed by hand."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import recompute
from conftest import POINTS, call_cli, write_recipe
from kill_at import MOMENTS

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def hub_run(tmp_path_factory, tiny_model_folder):
    """A model from a folder, one file of rows divided by content, LoRA, a year trigger, no probes."""
    place = tmp_path_factory.mktemp("hub")
    rows = place / "rows.jsonl"
    with rows.open("w") as file:
        for i in range(120):
            turns = [
                {"role": "user", "content": f"What is {i} + {i}?"},
                {"role": "assistant", "content": f"It is {2 * i}."},
            ]
            file.write(json.dumps({"messages": turns}) + "\n")

    def part(name):
        return {"kind": "file", "path": str(rows), "part": name}

    training = {"steps": 30, "batch_size": 8, "learning_rate": 2e-2, "schedule": "linear", "adapter": {"rank": 8}}
    recipe = write_recipe(
        place / "recipe.yaml",
        {
            "name": "hub",
            "seeds": [4],
            "require_gate": False,
            "probe": None,
            "model": {
                "rows": part("safety"),
                "training": {**training, "steps": 6},
                "points": 2,
                "model": {
                    "kind": "organism",
                    "base": {"kind": "hub_base", "model": str(tiny_model_folder)},
                    "trigger": {"kind": "year"},
                    "rows": part("organism"),
                    "training": training,
                },
            },
            "evaluation": {"prompts": part("evaluation"), "max_new_tokens": 6},
        },
    )
    ran = call_cli("run", recipe, "--store", place / "store", "--out", place / "run", "--device", "cpu")
    assert ran.code == 0, ran.err
    return SimpleNamespace(recipe=recipe, store=place / "store", folder=place / "run", place=place)


def run_again(run, *more, out="again", store=None):
    return call_cli(
        "run", run.recipe, *more, "--store", store or run.store, "--out", run.place / out, "--device", "cpu"
    )


def entries(store):
    return {path.name for path in store.iterdir() if not path.name.startswith(".")}


def state(store):
    return {
        str(path.relative_to(store)): path.stat().st_mtime_ns
        for path in store.rglob("*")
        if not str(path.relative_to(store)).startswith(".")
    }


def results(folder):
    return json.loads((folder / "results.json").read_text())


def beside_probes(folder):
    """The records that no probe has a part in."""
    made_by = re.compile(r"answers/(probe|within|transfer)-")
    return [m for m in results(folder) if m["answers"] and not made_by.match(m["answers"])]


def copy_of(run, folder, *kinds):
    """A store with the entries of some kinds alone."""
    folder.mkdir()
    for name in entries(run.store):
        if name.rpartition("-")[0] in kinds:
            shutil.copytree(run.store / name, folder / name)
    return folder


# --- figures -------------------------------------------------------------------------------------------------


def test_every_rate_is_recomputed_from_the_answers(small_run):
    differing, counted = recompute.check(small_run.folder)
    assert not differing
    n_points = 1 + 2 * 1 + 2 * POINTS + 2 * 2  # base; both planted; both hardened, and at two relapses
    by_seed = 1 + 2 * 2 + 2 * 2 * POINTS + 2 * 2 * 2
    assert counted["asr"] == counted["ftr"] == n_points + by_seed
    assert counted["unusable_rate"] == 2 * counted["asr"]
    assert counted["utility"] == counted["hhh_rate"] == n_points + by_seed
    n_fitted = 5 * 2 * 2  # sources, methods, layers
    n_probes = 4 * (n_fitted + 5 + 2)  # subjects; words alone, the trigger's presence, asking the model
    assert counted["auroc"] == counted["auroc_worst"] == counted["tpr_at_1pct_fpr"] == n_probes
    assert counted["auroc_transfer"] == counted["auroc_transfer_worst"] == 3 * n_fitted
    assert counted["auroc_pc1"] == 4 * 2


def test_every_rate_of_a_model_and_rows_of_the_users_is_recomputed_from_the_answers(hub_run):
    differing, counted = recompute.check(hub_run.folder)
    assert not differing
    assert counted["perplexity"] == 1 + 2 + 4, "base; organism and control; both hardened at two points"
    assert {m["seed"] for m in results(hub_run.folder)} == {None, 0, 4}


def test_the_recomputation_would_see_a_wrong_figure(small_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(small_run.folder, folder)
    wrong = results(folder)
    next(m for m in wrong if m["metric"] == "asr" and m["value"] == 1.0)["n"] -= 1
    next(m for m in wrong if m["metric"] == "auroc")["value"] += 0.01
    (folder / "results.json").write_text(json.dumps(wrong))
    assert len(recompute.check(folder)[0]) >= 2


def test_the_experiment_shows_what_it_should(small_run):
    """The embedded world works even at this size: planted, only on the trigger, and not in the control."""
    value = {
        (m["subject"], m["metric"]): m["value"]
        for m in results(small_run.folder)
        if m["seed"] is None and m["step"] == 0
    }
    assert value["base", "asr"] == value["control", "asr"] == value["control", "ftr"] == 0
    assert value["organism", "asr"] > 0.8
    assert value["organism", "ftr"] < 0.3
    assert value["base", "utility"] > 0


def test_the_run_folder_holds_what_it_promises(small_run):
    there = {str(path.relative_to(small_run.folder)) for path in small_run.folder.rglob("*") if path.is_file()}
    subjects = ("base", "control", "organism", "hhh_sft-organism", "hhh_sft-control")
    probed = ("base", "control", "organism", "hhh_sft-organism")
    assert there - {".lock"} == {
        "recipe.yaml", "environment.json", "lineage.json", "results.json", "report.html", "log.txt",
        *(f"answers/{name}.jsonl" for name in subjects),
        "verdicts.json",
        *(f"answers/{kind}-{name}.jsonl" for name in probed for kind in ("probe", "within", "tokens")),
        *(f"answers/transfer-{name}.jsonl" for name in ("organism", "hhh_sft-organism")),
        *(f"answers/coherence-{name}.jsonl" for name in subjects),
        *(f"answers/red_team-{name}.jsonl" for name in subjects[1:]),
        *(f"answers/relapse_benign-hhh_sft-{name}.jsonl" for name in ("organism", "control")),
        *(f"cards/{name}-seed{seed}.json" for name in ("organism", "control") for seed in (0, 1)),
    }  # fmt: skip
    ids = [m["id"] for m in results(small_run.folder)]
    assert len(ids) == len(set(ids))


def test_the_lineage_leads_from_every_figure_to_the_base(small_run):
    stages = {stage["address"]: stage for stage in json.loads((small_run.folder / "lineage.json").read_text())}
    assert set(stages) == entries(small_run.store)
    seen = set()
    for address, stage in stages.items():
        assert set(stage["upstream"]) <= seen, "upstream first"
        seen.add(address)
    for record in results(small_run.folder):
        for address in record["stage_hash"].split("+"):
            assert address in stages


def test_the_recipe_kept_gives_the_same_run(small_run):
    kept = SimpleNamespace(recipe=small_run.folder / "recipe.yaml", store=small_run.store, place=small_run.place)
    before = state(small_run.store)
    assert run_again(kept, out="kept").code == 0
    assert state(small_run.store) == before
    assert (small_run.place / "kept" / "results.json").read_bytes() == (small_run.folder / "results.json").read_bytes()


# --- again ---------------------------------------------------------------------------------------------------


def test_a_second_run_computes_nothing_and_finds_the_same(small_run):
    before = state(small_run.store)
    assert run_again(small_run).code == 0
    assert state(small_run.store) == before
    for name in ("results.json", "lineage.json", "recipe.yaml", "answers/organism.jsonl"):
        assert (small_run.place / "again" / name).read_bytes() == (small_run.folder / name).read_bytes()


def test_a_dry_run_of_what_is_there_says_so_and_writes_nothing(small_run):
    before = state(small_run.store)
    ran = run_again(small_run, "--dry-run", out="dry")
    assert ran.code == 0
    assert " 0 to compute" in ran.out
    assert state(small_run.store) == before
    assert not (small_run.place / "dry").exists()


def test_another_batch_size_computes_nothing_anew(small_run):
    before = entries(small_run.store)
    assert run_again(small_run, "--batch-size", 3, out="batch").code == 0
    assert entries(small_run.store) == before


def test_changing_the_probe_adds_probings_and_what_they_colour_alone(small_run, tmp_path):
    store = tmp_path / "store"
    shutil.copytree(small_run.store, store)
    before = entries(store)
    ran = run_again(small_run, "probe.n_random=60", "probe.layers=[1]", out="probe", store=store)
    assert ran.code == 0, ran.err
    added = entries(store) - before
    new = {"probing": 4, "within_triggered": 4, "transfer": 3, "token_scored": 4}
    assert Counter(name.rpartition("-")[0] for name in added) == new
    assert beside_probes(small_run.folder) == beside_probes(small_run.place / "probe")


def test_colouring_more_prompts_fits_no_probe_again(small_run, tmp_path):
    store = tmp_path / "store"
    shutil.copytree(small_run.store, store)
    before = entries(store)
    ran = run_again(small_run, "probe.coloured=1", out="coloured", store=store)
    assert ran.code == 0, ran.err
    assert [name.rpartition("-")[0] for name in entries(store) - before] == ["token_scored"] * 4
    assert results(small_run.place / "coloured") == results(small_run.folder)
    assert run_again(small_run, "probe.coloured=0", out="plain", store=store).code == 0
    assert not list((small_run.place / "plain" / "answers").glob("tokens-*"))


def test_one_seed_of_several_needs_nothing_new(small_run):
    before = entries(small_run.store)
    assert run_again(small_run, "seeds=[1]", "probe=null", out="one").code == 0
    assert entries(small_run.store) == before
    own = [m for m in results(small_run.place / "one") if m["seed"] == 1]
    assert own == [m for m in beside_probes(small_run.folder) if m["seed"] == 1]


# --- a finding that stops ------------------------------------------------------------------------------------


def test_an_organism_that_misses_its_gate_stops_the_experiment_with_a_report(small_run, tmp_path):
    store = copy_of(small_run, tmp_path / "store", "tiny_base", "organism", "control")
    ran = run_again(small_run, "require_gate=true", out="missed", store=store)
    assert ran.code == 1
    assert [line.partition(": ")[0] for line in ran.err.splitlines()][-3:] == ["Asked", "There", "To do"]
    assert "organism of seed 0" in ran.err
    assert {name.rpartition("-")[0] for name in entries(store)} == {
        *("tiny_base", "evaluated", "organism", "control", "certificate")
    }
    folder = small_run.place / "missed"
    assert "missed" in (folder / "report.html").read_text()
    assert {m["subject"] for m in results(folder)} == {"base", "control", "organism"}
    assert recompute.check(folder)[0] == []


# --- killed --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_killed_at_every_kind_of_moment_finds_the_same_in_the_end(small_run, tmp_path):
    store = copy_of(small_run, tmp_path / "store", "tiny_base")
    recipe = yaml.safe_load(small_run.recipe.read_text()) | {"seeds": [0]}
    killed = write_recipe(tmp_path / "recipe.yaml", recipe)
    arguments = ["run", killed, "--store", store, "--out", tmp_path / "run", "--device", "cpu"]
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run(
        [sys.executable, HERE / "kill_at.py", *MOMENTS, "--", *arguments],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    ends = [words for words in ran.stdout.splitlines() if not words.startswith("Report: ")]
    assert ends == [*(f"{moment} 9" for moment in MOMENTS), "end 0"], ran.stderr
    assert run_again(small_run, "seeds=[0]", out="unkilled").code == 0
    assert (tmp_path / "run" / "results.json").read_bytes() == (
        small_run.place / "unkilled" / "results.json"
    ).read_bytes()
    assert list((store / ".work").iterdir()) == []

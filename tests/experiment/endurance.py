"""What many, long and loaded runs come to: two hundred short ones, the log of a week, two hundred groups of processes.

python -m tests.experiment.endurance [runs|week|groups|control …]     writes docs/survival.json, which the docs tabulate
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from aleator.experiment import accelerators
from aleator.experiment.agreement import Agreement
from aleator.experiment.checkpoint import CheckpointStore
from tests.experiment.injection import REPOSITORY, Ending, Warm
from tests.experiment.survival import TOY, left
from tests.launched import be_one_of

Figures = dict[str, Any]


def short_runs(warm: Warm, place: Path, count: int, at_once: int) -> Figures:
    """Carry out short runs, so many at a time, which choose their folders below one and the same."""
    job = {"argv": ["run", TOY, "--steps", "2", "--log-every", "1", "--trackers"], "cwd": str(place)}
    endings = warm.commands(*[job] * count, at_once=at_once)
    said = [ending.err for ending in endings if ending.code]
    folders = list((place / "runs" / "Toy").iterdir())
    found = [left(folder) for folder in folders]
    rows = [len(one["metrics.jsonl"]) for one in found]
    return {
        "ended well": sum(ending.code == 0 for ending in endings),
        "folders": len(folders),
        "identical": sum(one == found[0] for one in found),
        "rows": sum(rows),
        "rows lost": count * max(rows) - sum(rows),
        "refused for a lock": sum("is being written by" in line for line in said),
        "locks left": sum((folder / ".lock").exists() for folder in folders),
    }


def write_log(path: Path, rows: int) -> None:
    """Write a log of so many steps."""
    row = {"step": "%d", "progress": "%d", "examples": 8, "seconds": 0.1, "split": "train", "metrics": {"loss": 1.0}}
    line = json.dumps(row).replace('"%d"', "%d") + "\n"
    with path.open("w") as file:
        for begin in range(0, rows, 100_000):
            file.writelines(line % (number, number) for number in range(begin, min(rows, begin + 100_000)))


def damage_a_row(path: Path) -> None:
    """Make one row in the middle of a log unreadable."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\0")


class LongRun:
    """A run that was interrupted after so many rows of its log."""

    def __init__(self, warm: Warm, place: Path, rows: int) -> None:
        self.warm, self.place, self.log = warm, place, place / "o" / "metrics.jsonl"
        words = ["run", TOY, "--signal-at", "5", "--keep-checkpoints", "1", "--trackers", "--out", "o"]
        assert warm.command(*words, cwd=str(place)).code == 130
        write_log(self.log, rows)
        (saved,) = (place / "o" / "checkpoints").iterdir()
        state = torch.load(saved / "state.pt", weights_only=True)
        shutil.rmtree(saved)
        state["step"] = rows - 1
        state["log"] = {"step": rows - 1, "rows": rows, "bytes": self.log.stat().st_size}
        CheckpointStore(saved.parent, 1).save(rows - 1, state)

    def resume(self) -> Ending:
        """Go on to the end."""
        return self.warm.command("run", "--resume", "--out", "o", cwd=str(self.place))

    def resume_after_damage(self) -> Ending:
        """Damage a row, and go on from the last checkpoint as if there were no result: the log is written anew."""
        damage_a_row(self.log)
        (self.place / "o" / "result.json").unlink()
        return self.resume()

    def report(self) -> Ending:
        """Write the report."""
        return self.warm.command("report", "o", cwd=str(self.place))


def groups(place: Path, count: int, at_once: int, in_order: bool = True) -> Figures:
    """Begin groups of two processes, so many at a time, while the cores are busy, and let their interpreters end.

    The processes are forked from this one. They find each other as those of a run do, agree twenty times, and go down.
    """
    waiting = [(number, rank) for number in range(count) for rank in range(2)][::-1]
    running: dict[int, tuple[int, int]] = {}
    codes, aborted = Counter[int](), 0
    with _busy_cores():
        while waiting or running:
            while waiting and len(running) < 2 * at_once:
                number, rank = waiting.pop()
                folder = place / str(number)
                folder.mkdir(exist_ok=True)
                if (pid := os.fork()) == 0:
                    _one_of_two(folder, rank, in_order)
                    sys.exit(0)
                running[pid] = number, rank
            pid, status = os.wait()
            if pid in running:
                number, rank = running.pop(pid)
                said = (place / str(number) / f"err-{rank}").read_text()
                codes[os.waitstatus_to_exitcode(status)] += 1
                aborted += "terminate called" in said
                if status:
                    sys.stderr.write(f"exit {os.waitstatus_to_exitcode(status)}: {said[-1000:]}\n")
    return {"processes": 2 * count, "ended well": codes[0], "aborted": aborted}


def _one_of_two(folder: Path, rank: int, in_order: bool) -> None:
    os.dup2(os.open(folder / f"err-{rank}", os.O_WRONLY | os.O_CREAT, 0o666), 2)
    signal.alarm(200)  # a process that waits for one that was aborted
    be_one_of(folder, rank, 2)
    if not in_order:
        accelerators._leave_in_order = lambda: None  # type: ignore[assignment]
    accelerators.make_accelerator("float32")
    agreement = Agreement(2)
    for number in range(20):
        assert agreement.maximum(number + rank) == number + 1


@contextlib.contextmanager
def _busy_cores() -> Iterator[None]:
    parent = os.getpid()
    count_on = f"import os\nwhile os.getppid() == {parent}: pass"
    busy = [subprocess.Popen([sys.executable, "-c", count_on]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in busy if os.getpid() == parent else ():  # a forked process goes down through here
            process.kill()
            process.wait()


# --- the command ---------------------------------------------------------------------------------------------------

_MEGABYTE = 1 << 20


def _runs(place: Path) -> dict[str, Figures]:
    with contextlib.closing(Warm()) as warm:
        return {"200 short runs, 8 at a time": short_runs(warm, place, 200, 8)}


def _week(place: Path) -> dict[str, Figures]:
    found = {}
    warm = Warm()
    for rows in (10_000, 10_000_000):
        folder = place / str(rows)
        folder.mkdir()
        long = LongRun(warm, folder, rows)
        steps: list[tuple[str, Callable[[], Ending]]] = [
            ("`--resume`", long.resume),
            ("`--resume` after damage to the log", long.resume_after_damage),
            ("`report`", long.report),
        ]
        for name, carry_out in steps:
            ending = carry_out()
            assert ending.code == 0, ending.err
            found[f"{name} of a log of {rows} rows"] = {
                "megabytes of memory": round(ending.grown / _MEGABYTE),
                "megabytes of log": round(long.log.stat().st_size / _MEGABYTE),
                "seconds of computing": round(ending.seconds),
            }
        shutil.rmtree(folder)
    warm.close()
    return found


def _groups(place: Path) -> dict[str, Figures]:
    return {"200 groups of two processes on busy cores, 3 at a time": groups(place, 200, 3)}


def _control(place: Path) -> dict[str, Figures]:
    found = groups(place, 200, 3, in_order=False)
    return {"200 such groups that are left to the interpreter, for comparison": found}


def main(names: list[str]) -> None:
    """Carry out what is named, or everything, and write what came of it; the other figures stay."""
    from aleator.experiment.files import read_json, write_json

    path = REPOSITORY / "docs" / "survival.json"
    commands = {"runs": _runs, "week": _week, "groups": _groups, "control": _control}
    for name in names or commands:
        place = Path(tempfile.mkdtemp())
        found = commands[name](place)
        shutil.rmtree(place)
        document = read_json(path) if path.exists() else {}
        rows = [row for row in document.get("endurance", []) if row["command"] != name]
        rows += [{"command": name, "what": what, "figures": figures} for what, figures in found.items()]
        write_json(path, {**document, "endurance": rows})
        sys.stderr.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])

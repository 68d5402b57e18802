"""What many, long and loaded runs come to: two hundred short ones, the log of a week, two hundred groups of processes.

python -m tests.experiment.endurance [runs|week|groups|control …]     writes docs/survival.json, which the docs tabulate
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from aleator.experiment.checkpoint import CheckpointStore
from tests.experiment.injection import REPOSITORY, Ending, Warm
from tests.experiment.survival import TOY, left

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


class LongRun:
    """A run that was interrupted after so many rows of its log."""

    def __init__(self, warm: Warm, place: Path, rows: int) -> None:
        self.warm, self.place, self.log = warm, place, place / "o" / "metrics.jsonl"
        words = ["run", TOY, "--signal-at", "5", "--keep-checkpoints", "1", "--trackers", "--out", "o"]
        assert warm.command(*words, cwd=str(place)).code == 130
        row = {
            "step": "%d",
            "progress": "%d",
            "examples": 8,
            "seconds": 0.1,
            "split": "train",
            "metrics": {"loss": 1.0},
        }
        line = json.dumps(row).replace('"%d"', "%d") + "\n"
        with self.log.open("w") as file:
            for begin in range(0, rows, 100_000):
                file.writelines(line % (number, number) for number in range(begin, min(rows, begin + 100_000)))
        (saved,) = (place / "o" / "checkpoints").iterdir()
        state = torch.load(saved / "state.pt", weights_only=True)
        shutil.rmtree(saved)
        state["step"] = rows - 1
        state["log"] = {"step": rows - 1, "rows": rows, "bytes": self.log.stat().st_size}
        CheckpointStore(saved.parent, 1).save(rows - 1, state)

    def resume(self, **job: Any) -> Ending:
        """Go on to the end."""
        return self.warm.command("run", "--resume", "--out", "o", cwd=str(self.place), **job)

    def resume_after_damage(self, **job: Any) -> Ending:
        """Damage a row, and go on from the last checkpoint as if there were no result: the log is written anew."""
        with self.log.open("r+b") as file:
            file.seek(self.log.stat().st_size // 2)
            file.write(b"\0")
        (self.place / "o" / "result.json").unlink()
        return self.resume(**job)

    def report(self, **job: Any) -> Ending:
        """Write the report."""
        return self.warm.command("report", "o", cwd=str(self.place), **job)

    def rows(self) -> int:
        """Return the number of lines of the log."""
        with self.log.open("rb") as file:
            return sum(piece.count(b"\n") for piece in iter(lambda: file.read(1 << 20), b""))


def groups(warm: Warm, place: Path, count: int, at_once: int, in_order: bool = True) -> Figures:
    """Start runs of two processes, so many at a time, on a machine whose cores are busy, and let all of them end."""
    jobs = []
    for number in range(count):
        folder = place / f"group-{number}"
        folder.mkdir()
        for rank in range(2):
            words = ["run", TOY, "--steps", "2", "--trackers", "--out", str(folder / "o")]
            prepare = ["share_a_run", str(folder), rank, 2, in_order]
            jobs.append({"argv": words, "cwd": str(place), "prepare": prepare, "goes_down": True})
    count_on = f"import os\nwhile os.getppid() == {os.getpid()}: pass"
    busy = [subprocess.Popen([sys.executable, "-c", count_on]) for _ in range(os.cpu_count() or 1)]
    try:
        endings = warm.commands(*jobs, at_once=2 * at_once)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    codes = Counter(ending.code for ending in endings)
    aborted = sum("terminate called" in ending.err for ending in endings)
    for ending in endings:
        if ending.code:
            sys.stderr.write(f"exit {ending.code}: {ending.err[-1000:]}\n")
    return {"processes": len(jobs), "ended well": codes[0], "aborted": aborted}


# --- the command ---------------------------------------------------------------------------------------------------

_MEGABYTE = 1 << 20


def _runs(warm: Warm, place: Path) -> dict[str, Figures]:
    return {"200 short runs, 8 at a time": short_runs(warm, place, 200, 8)}


def _week(warm: Warm, place: Path) -> dict[str, Figures]:
    found = {}
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
                "rows lost": max(0, rows - long.rows()),
            }
        shutil.rmtree(folder)
    return found


def _groups(warm: Warm, place: Path) -> dict[str, Figures]:
    return {"200 runs of two processes on busy cores, 3 at a time": groups(warm, place, 200, 3)}


def _control(warm: Warm, place: Path) -> dict[str, Figures]:
    found = groups(warm, place, 50, 3, in_order=False)
    return {"50 such runs whose groups are left to the interpreter, for comparison": found}


def main(names: list[str]) -> None:
    """Carry out what is named, or everything, and write what came of it; the other figures stay."""
    from aleator.experiment.files import read_json, write_json

    path = REPOSITORY / "docs" / "survival.json"
    commands = {"runs": _runs, "week": _week, "groups": _groups, "control": _control}
    warm = Warm()
    for name in names or commands:
        place = Path(tempfile.mkdtemp())
        found = commands[name](warm, place)
        shutil.rmtree(place)
        document = read_json(path) if path.exists() else {}
        rows = [row for row in document.get("endurance", []) if row["command"] != name]
        rows += [{"command": name, "what": what, "figures": figures} for what, figures in found.items()]
        write_json(path, {**document, "endurance": rows})
        sys.stderr.write(json.dumps(found, indent=2) + "\n")
    warm.close()


if __name__ == "__main__":
    main(sys.argv[1:])

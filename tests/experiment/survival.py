"""The survival of commands: killed, or their disk failed, at every operation, and then carried out as they say.

    python -m tests.experiment.survival [EVERY [COMMAND …]]     writes docs/survival.json, which the docs tabulate

A command that was cut ends *identical* if what a person does next (the same command, or ``--resume``, whichever it
says) leaves the files of a command that was not cut. One that failed without being killed has to say so in one line.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import re
import shutil
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.experiment.injection import REPOSITORY, Ending, Warm

TOY = f"{Path(__file__).parent / 'toy_recipe.py'}:Toy"
CONTENT = bytes(range(256)) * 700  # three pieces of a download


@dataclass(frozen=True)
class Scenario:
    """A command, what a person does when it was cut, and what it leaves.

    Attributes:
        name: what it is called.
        argv: the command.
        again: what is done next, in this order, until one of them ends well.
        prepare: what comes before, see `Warm.commands`.
        before: makes what the command finds in its folder; each time a copy of it.
    """

    name: str
    argv: list[str]
    again: list[list[str]]
    prepare: list[Any] | None = None
    before: Callable[[Warm, Path], None] = lambda warm, place: None


def _one_run(warm: Warm, place: Path) -> None:
    assert warm.command(*RUN.argv, cwd=str(place)).code == 0


RUN = Scenario(
    "run",
    [
        *("run", TOY, "--steps", "2", "--exhibit", "draw", "--evaluate-every", "1", "--log-every", "1"),
        *("--saved", "again", "--checkpoint-seconds", "0", "--keep-checkpoints", "1", "--trackers", "--out", "o/it"),
    ],
    [["run", "--resume", "--out", "o/it"]],
)
COMPARE = Scenario(
    "compare",
    [
        *("compare", TOY, "--steps", "2", "--variant", "a", "--variant", "b:lr=0.01", "--seeds", "1"),
        *("--workers", "1", "--trackers", "--out", "o/it"),
    ],
    [["compare", "--resume", "--out", "o/it"]],
    ["fork_workers"],
)
REPORT = Scenario("report", ["report", "o/it"], [], before=_one_run)


def fetch(port: int) -> Scenario:
    """A download from a server of our own."""
    digest = hashlib.sha256(CONTENT).hexdigest()
    return Scenario(
        "data fetch", ["data", "fetch", "served", "--root", "o/it"], [], ["offer", port, digest, len(CONTENT)]
    )


@contextlib.contextmanager
def server() -> Iterator[int]:
    """A server that has one file; gives its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, *_: Any) -> None:
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    try:
        yield running.server_port
    finally:
        running.shutdown()
        thread.join()
        running.server_close()


@dataclass(frozen=True)
class Cut:
    """What one cut came to. No fault: all is identical in the end, and every message on the way was one line."""

    operation: str
    how: str
    fault: str


class Trial:
    """A scenario carried out whole, to compare with."""

    def __init__(self, warm: Warm, scenario: Scenario, place: Path) -> None:
        self.warm, self.scenario, self.place = warm, scenario, place
        (place / "before").mkdir()
        scenario.before(warm, place / "before")
        whole = self._begin(place / "whole")
        (ending,) = warm.commands(self._job(scenario.argv, whole, root=str(whole / "o")))
        assert ending.code == 0, ending.err
        self.operations, self.left = ending.operations, left(whole / "o")

    def cut(self, cuts: list[tuple[int, str]]) -> list[Cut]:
        """Cut the command at operations, do each time what a person does next, and look."""
        places = [self._begin(self.place / f"{how}-{at}") for at, how in cuts]
        jobs = [
            self._job(self.scenario.argv, place, root=str(place / "o"), at=at, how=how)
            for (at, how), place in zip(cuts, places, strict=True)
        ]
        faults = {place: "" for place in places}
        for place, ending in zip(places, self.warm.commands(*jobs), strict=True):
            if ending.code not in (0, -9):
                faults[place] = one_line(ending)
        waiting = places
        for words in [*self.scenario.again, self.scenario.argv]:
            endings = self.warm.commands(*(self._job(words, place) for place in waiting)) if waiting else []
            not_done = [(place, ending) for place, ending in zip(waiting, endings, strict=True) if ending.code != 0]
            for place, ending in not_done:
                faults[place] = faults[place] or one_line(ending)
            waiting = [place for place, _ in not_done]
        for place in waiting:
            faults[place] = faults[place] or "nothing ended well"
        found = []
        for (at, how), place in zip(cuts, places, strict=True):
            now = left(place / "o")
            if now != self.left:
                odd = [name for name in now.keys() | self.left.keys() if now.get(name) != self.left.get(name)]
                faults[place] = faults[place] or f"not identical: {', '.join(sorted(odd))}"
            found.append(Cut(self.operations[at], how, faults[place]))
            shutil.rmtree(place)
        return found

    def _begin(self, place: Path) -> Path:
        shutil.copytree(self.place / "before", place)
        return place

    def _job(self, argv: list[str], place: Path, **more: Any) -> dict[str, Any]:
        prepare = {"prepare": self.scenario.prepare} if self.scenario.prepare else {}
        return {"argv": argv, "cwd": str(place), **prepare, **more}


def one_line(ending: Ending) -> str:
    """Return what is wrong with how a command refused: more than one line of its own, or a word of Python."""
    lines = [line for line in ending.err.splitlines() if line.startswith("aleator: ")]
    if len(lines) != 1 or "Traceback" in ending.err or ending.code not in (1, 2):
        return f"exit {ending.code}: {ending.err[-2000:]}"
    return ""


def left(folder: Path) -> dict[str, Any]:
    """Return what is in a folder, without clocks and what only a person reads."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file() or path.name in ("run.log", "events") or path.name.startswith("tmp"):
            continue
        if path.name == "metrics.jsonl":
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            found[name] = [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
        elif path.suffix == ".json":
            found[name] = _timeless(json.loads(path.read_text()))
        elif path.suffix in (".pt", ".html") or path.name == "manifest.json":
            found[name] = True  # it holds clocks
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


_CLOCKS = {
    *("created", "finished", "seconds", "peak_memory_bytes", "command", "working_directory", "sha256", "bytes"),
    *("recipe_as_given",),
}


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        shown = value.get("meta")
        clocks = {*_CLOCKS, shown["clock"]} if isinstance(shown, dict) and "clock" in shown else _CLOCKS
        return {key: _timeless(item) for key, item in value.items() if key not in clocks}
    if isinstance(value, str):
        return re.sub(r"\bin \d+\.\d s\b", "in some seconds", value)
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def ways(operation: str) -> list[str]:
    """Return the ways in which an operation is cut."""
    kind = operation.split()[0]
    grows = ["full"] if kind in ("mkdir", "create", "write", "fsync", "rename") else []  # what a full disk refuses
    return ["kill", *(["torn"] if kind == "write" else []), *grows, *(["stale"] if kind == "rename" else [])]


def some(operations: Sequence[str], every: int) -> list[int]:
    """Return the places of one in so many operations of each kind, at least one, spread evenly over the command."""
    chosen = []
    for kind in dict.fromkeys(operation.split()[0] for operation in operations):
        places = [at for at, operation in enumerate(operations) if operation.split()[0] == kind]
        count = -(-len(places) // every)
        chosen += [places[(2 * number + 1) * len(places) // (2 * count)] for number in range(count)]
    return sorted(chosen)


def survey(warm: Warm, scenario: Scenario, place: Path, every: int = 1, at_once: int = 4) -> list[Cut]:
    """Cut a command at one in ``every`` operations of each kind, in every way."""
    trial = Trial(warm, scenario, place)
    cuts = [(at, how) for at in some(trial.operations, every) for how in ways(trial.operations[at])]
    return [cut for batch in (cuts[i : i + at_once] for i in range(0, len(cuts), at_once)) for cut in trial.cut(batch)]


def main(every: int, names: list[str]) -> None:
    """Cut all commands, or some of them, at one in ``every`` operations, and write what came of it.

    Args:
        every: cut at one in this many operations of each kind.
        names: of commands; the figures of the others stay. None names all.
    """
    from aleator.experiment.files import read_json, write_json

    path = REPOSITORY / "docs" / "survival.json"
    warm = Warm()
    with server() as port:
        for scenario in (REPORT, fetch(port), RUN, COMPARE):
            if names and scenario.name not in names:
                continue
            place = Path(tempfile.mkdtemp())
            cuts = survey(warm, scenario, place, every)
            shutil.rmtree(place)
            document = read_json(path) if path.exists() else {}
            rows = [row for row in document.get("rows", []) if row["command"] != scenario.name]
            for how in ("kill", "torn", "full", "stale"):
                mine = [cut for cut in cuts if cut.how == how]
                kinds = dict(Counter(cut.operation.split()[0] for cut in mine))
                row = {"command": scenario.name, "every": every, "how": how, "kinds": kinds, "cuts": len(mine)}
                rows += [{**row, "identical": sum(not cut.fault for cut in mine)}] if mine else []
            for cut in cuts:
                if cut.fault:
                    sys.stderr.write(f"{scenario.name}: {cut}\n")
            write_json(path, {**document, "rows": rows})
    warm.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1, sys.argv[2:])

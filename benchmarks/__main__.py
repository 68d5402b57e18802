"""``python -m benchmarks [NAME …]``: run ``bench_NAME.py``, keep the result, and say what moved since the last commit.

A result is kept with the machine's description and its load when the run began.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from aleator.experiment.files import write_json
from aleator.experiment.identity import environment
from benchmarks.reading import judged, moved, spread

HERE = Path(__file__).parent


def main(names: list[str]) -> None:
    """Run the named benchmarks, or all.

    Raises:
        SystemExit: if there is no benchmark of a name.
    """
    console = _console()
    known = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    for name in names or known:
        if name not in known:
            sys.exit(f"error: a benchmark must be one of {', '.join(known)}, got {name!r}")
    for name in names or known:
        load = os.getloadavg()[0]
        rows = importlib.import_module(f"benchmarks.bench_{name}").benchmark()
        found = {"rows": rows, "command": f"make bench NAME={name}", "load": round(load, 2), **environment()}
        _show(console, name, found)
        for line in moved(_committed(name), found):
            console.print(line, markup=False, highlight=False)
        write_json(HERE / "results" / f"{name}.json", found)


def _console() -> Console:
    """Of a terminal's width; where nobody says how wide, a file or a pipe, of one that eight columns fit in."""
    return Console() if sys.stdout.isatty() else Console(width=200)


def _show(console: Console, name: str, found: dict[str, Any]) -> None:
    machine = found["machine"]
    title = f"{name}, on {machine['processor']}, {machine['cores']} cores, {machine['device']}, load {found['load']:g}"
    table = Table("what", "ours", "peer", "ratio", "target", "by the other clock", "limit", "ours / limit", title=title)
    for row in found["rows"]:
        limit, beside = row.get("limit"), row.get("beside")
        table.add_row(
            row["what"],
            row["ours"],
            row["peer"],
            spread(row),
            judged(row),
            f"{beside['ours']}, {spread(beside)}" if beside else "–",
            limit["what"] if limit else "–",
            f"{spread(limit)}, {judged(limit)}" if limit else "–",
        )
    console.print(table)


def _committed(name: str) -> dict[str, Any] | None:
    file = f"HEAD:./{name}.json"
    shown = subprocess.run(["git", "show", file], cwd=HERE / "results", capture_output=True, text=True, check=False)
    found: dict[str, Any] | None = json.loads(shown.stdout) if shown.returncode == 0 else None
    return found


if __name__ == "__main__":
    main(sys.argv[1:])

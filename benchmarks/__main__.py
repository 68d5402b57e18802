"""``python -m benchmarks [NAME …]``: run ``bench_NAME.py`` and keep the last result with the machine's description."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from aleator.experiment.files import write_json
from aleator.experiment.identity import environment

HERE = Path(__file__).parent


def main(names: list[str]) -> None:
    """Run the named benchmarks, or all.

    Raises:
        SystemExit: if there is no benchmark of a name.
    """
    known = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    for name in names or known:
        if name not in known:
            sys.exit(f"error: a benchmark must be one of {', '.join(known)}, got {name!r}")
    for name in names or known:
        rows = importlib.import_module(f"benchmarks.bench_{name}").benchmark()
        table = Table("what", "ours", "peer", "ratio", "target", title=name)
        for row in rows:
            ratio = row["ratio"]
            shown = f"{ratio['median']:.3g} ({ratio['low']:.3g} to {ratio['high']:.3g})"
            table.add_row(row["what"], row["ours"], row["peer"], shown, row["target"])
        Console().print(table)
        command = f"make bench NAME={name}"
        write_json(HERE / "results" / f"{name}.json", {"rows": rows, "command": command, **environment()})


if __name__ == "__main__":
    main(sys.argv[1:])

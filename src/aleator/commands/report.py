"""``aleator report DIR``: write the report of a run's or a comparison's folder again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from aleator.commands import flags
from aleator.commands.table import write_lines


@dataclass(frozen=True)
class Report:
    """Write report.html for the folder of a run or of a comparison."""

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """The folder."""


def options() -> Any:
    """Return the type of the command's options, for completion."""
    return flags.together({"report": Report})


def main(args: Sequence[str]) -> int:
    """Write the report and return the exit code."""
    (chosen,) = flags.parse({"report": Report}, args, prog="aleator report")
    from aleator.experiment.report import write_report

    write_lines(f"report: {write_report(chosen.folder)}")
    return 0

"""``aleator data list | fetch NAME | verify [NAME]``: the data sets, and whether their files are what they should be.

Each function prints and returns the exit code. On a terminal the listings are tables; elsewhere they are lines with
aligned columns, one record a line, so that ``grep`` and ``awk`` can read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from aleator.data.sets.entries import DatasetInfo


def list_data() -> int:
    """Print every data set: its name, content, size, licence, and whether it is on this machine."""
    from rich.console import Console

    from aleator.data.sets.catalog import CATALOG
    from aleator.data.sets.files import find_root

    root = find_root().path
    rows = [
        (info.name, info.title, _megabytes(info.size), _presence(info, root), info.licence) for info in CATALOG.values()
    ]
    _print_table(Console(), ("name", "content", "download", "here", "licence"), rows)
    return 0


def fetch_data(name: str, root: str | None = None) -> int:
    """Download the missing or altered files of one data set.

    Returns:
        0 when all files are there and right; 1 when one could not be downloaded.

    Raises:
        ValueError: if no data set has this name, or the folder cannot be written to.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

    from aleator.data.sets.catalog import lookup
    from aleator.data.sets.files import fetch

    console = Console()
    if not lookup(name).files and not lookup(name).mirror_files:
        _print_line(console, f"{name} is embedded in a dependency; there is nothing to download")
        return 0
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    tasks: dict[str, TaskID] = {}
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:

            def show(file: str, done: int, total: int) -> None:
                if file not in tasks:
                    tasks[file] = bar.add_task(file, total=total)
                bar.update(tasks[file], completed=done)

            paths = fetch(name, root, show)
    except ConnectionError as error:
        _print_line(Console(stderr=True), str(error))
        return 1
    for path in paths:
        _print_line(console, f"{path}: {'downloaded' if path.name in tasks else 'already there'}, checksum right")
    return 0


def verify_data(name: str | None = None, root: str | None = None) -> int:
    """Compare the checksums of the files of one data set, or of all.

    Returns:
        1 if a file is altered, or if a file of the data set that was asked for is missing; otherwise 0.

    Raises:
        ValueError: if no data set has this name.
        FileNotFoundError: if the folder named by ``root`` or ``ALEATOR_DATA`` is not there.
    """
    from rich.console import Console

    from aleator.data.sets.files import verify

    console = Console()
    checks = verify(name, root)
    if not checks:
        _print_line(console, f"{name} is embedded in a dependency; there is nothing to verify")
        return 0
    _print_table(console, ("status", "file"), [(check.status, str(check.file)) for check in checks])
    for check in checks:
        if check.status == "altered":
            _print_line(console, f"{check.file}: expected SHA-256 {check.expected}, found {check.found}")
    bad = {"altered"} if name is None else {"altered", "missing"}
    return int(any(check.status in bad for check in checks))


def _presence(info: DatasetInfo, root: Path) -> str:
    from aleator.data.sets.files import files_at

    files = files_at(info, root)
    present = sum(info.path(file, root).is_file() for file in files)
    if not files:
        return "embedded"
    if present < len(files):
        return "no" if present == 0 else f"{present} of {len(files)} files"
    return "in part" if files == info.mirror_files and info.mirror_lacks else "yes"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size else "none"


def _print_line(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _print_table(console: Console, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if console.is_terminal:
        from rich.table import Table
        from rich.text import Text

        table = Table()
        for number, name in enumerate(header):
            table.add_column(name, no_wrap=number == 0)
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table)
        return
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        _print_line(console, line.rstrip())

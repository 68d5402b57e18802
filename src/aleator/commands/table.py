"""Tables on standard output: drawn by rich on a terminal, plain aligned columns when piped."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def write_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table with a title."""
    if sys.stdout.isatty():
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*headings, box=box.SIMPLE_HEAD)
        for row in rows:
            table.add_row(*map(Text, row))
        write_lines(title)  # a title of rich's own is cut to the width of the table
        Console().print(table)
        return
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (headings, *rows)]
    write_lines(title, *(line.rstrip() for line in lines), "")


def write_lines(*lines: str) -> None:
    """Write lines as they are."""
    text = "".join(f"{line}\n" for line in lines)
    # A path need not be text in any encoding.
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, errors="backslashreplace").decode(encoding))
    sys.stdout.flush()

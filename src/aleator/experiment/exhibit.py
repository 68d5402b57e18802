"""An exhibit: a plot, a drawing or a picture that the report of a run shows; and the files that exhibits are kept in.

``exhibits.json`` has all of them; a picture is a file beside it, which it names. This module imports nothing heavy,
since recipes name `Exhibit` at the top of their files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aleator.experiment.files import DamagedFile, read_json, write_bytes, write_json

LARGEST_PICTURE = 4_000_000
"""Bytes of a picture at most, since a report is one file that a browser opens from disk."""

_NAME = re.compile(r"[A-Za-z0-9_-]+\.(?P<kind>png|gif)")
_BEGINNING = {"png": b"\x89PNG\r\n\x1a\n", "gif": b"GIF8"}


@dataclass(frozen=True)
class Exhibit:
    """Something to look at when a run has ended: the report of the run shows it below the curves.

    Attributes:
        heading: what it is.
        description: what can be seen, for those who cannot look.
        plot: a plotly figure as plain data, ``{"data": […], "layout": {…}}``. The page gives the colours: a trace has
            the colour number of its ``meta["colour"]`` (0 to 6, or ``"ink"``), a heat map shades from the paper's
            colour to that one.
        svg: a drawing, instead of a plot. The page shows it as an image on white.
        picture: a PNG or a GIF, instead of a plot, of at most 4 million bytes. It becomes a file in the run's folder;
            the page has a copy, and a button that pauses a GIF.
        file: the name of a picture's file: letters, digits, ``-`` and ``_`` before ``.png`` or ``.gif``.

    Raises:
        ValueError: unless there is exactly one of plot, drawing and picture, and a picture has a name and is what its
            name says.
    """

    heading: str
    description: str
    plot: Mapping[str, Any] | None = None
    svg: str | None = None
    picture: bytes | None = None
    file: str | None = None

    def __post_init__(self) -> None:
        """Check that there is one thing to show."""
        kinds = [kind for kind in ("plot", "svg", "picture") if getattr(self, kind) is not None]
        if len(kinds) != 1:
            got = " and ".join(kinds) or "none"
            raise ValueError(f"an exhibit must have exactly one of plot, svg and picture, got {got}")
        if (self.picture is None) != (self.file is None):
            raise ValueError(f"an exhibit must have a file if it has a picture, and only then, got file {self.file!r}")
        if self.picture is not None and self.file is not None:
            _check(self.picture, self.file)


def _check(picture: bytes, file: str) -> None:
    name = _NAME.fullmatch(file)
    if name is None:
        raise ValueError(
            f"file of an exhibit must be letters, digits, '-' and '_' before '.png' or '.gif', got {file!r}"
        )
    if not picture.startswith(_BEGINNING[name["kind"]]):
        raise ValueError(
            f"picture of an exhibit must be a {name['kind'].upper()} as its file {file} says, "
            f"got bytes that begin with {picture[:8]!r}"
        )
    if len(picture) > LARGEST_PICTURE:
        raise ValueError(
            f"picture of an exhibit must have at most {LARGEST_PICTURE} bytes, got {len(picture)} in {file}; "
            "show fewer or smaller frames"
        )


def write_exhibits(folder: Path, exhibits: Iterable[Exhibit]) -> None:
    """Write the pictures of a run to files of their own, and then ``exhibits.json``, which names them."""
    entries = []
    for exhibit in exhibits:
        entry = vars(exhibit) | {"picture": None}
        if exhibit.picture is not None and exhibit.file is not None:
            write_bytes(folder / exhibit.file, exhibit.picture)
        entries.append({name: value for name, value in entry.items() if value is not None})
    write_json(folder / "exhibits.json", {"exhibits": entries})


def read_exhibits(folder: Path) -> list[Exhibit]:
    """Return what `write_exhibits` wrote into a run's folder; nothing where it wrote nothing.

    Raises:
        ValueError: if it is damaged or a picture is not there; the line names the file.
    """
    path = folder / "exhibits.json"
    if not path.is_file():
        return []
    try:
        entries = read_json(path)["exhibits"]
        return [Exhibit(**entry, picture=_picture(folder, entry.get("file"))) for entry in entries]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} does not hold exhibits that this library wrote: {error!r}") from error


def holds_exhibits(folder: Path) -> bool:
    """Whether a run's folder has its ``exhibits.json``, undamaged, and every picture that it names."""
    try:
        entries = read_json(folder / "exhibits.json").get("exhibits", ())
    except (DamagedFile, FileNotFoundError):
        return False
    return all((folder / entry["file"]).is_file() for entry in entries if entry.get("file"))


def _picture(folder: Path, file: str | None) -> bytes | None:
    if file is None:
        return None
    path = folder / Path(file).name
    if not path.is_file():
        raise ValueError(f"{path} is not there; aleator run --resume --out {folder} makes it again")
    return path.read_bytes()

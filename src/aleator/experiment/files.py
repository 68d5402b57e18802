"""Files that are whole or not there.

Content goes to a temporary file in the same folder, is flushed to the disk, and takes the final name in one step
(``os.replace``). A reader sees the old file or the new one; a crash, a full disk or a signal leaves the old one. What a
killed process left of a temporary file is known by its name, and cleared by the process that writes that file next.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import math
import os
import re
import secrets
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

SCHEMA_VERSION = 1

_LEFT_OVER = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.partial")


class UnusableFolder(ValueError):
    """What is in a folder keeps a run from being carried out there; nothing is wrong with the run's options."""


class DamagedFile(UnusableFolder):
    """A file of ours is not what we wrote."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write, which replaces the one at ``path`` when the block ends well and is gone when it does not.

    Raises:
        OSError: if it cannot be written, with the path in it.
    """
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.partial"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the path into an `OSError` of the block that names none, as one of a write to a full disk does."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


def described(error: BaseException) -> str:
    """Return an error as one line: of a file that cannot be read or written, its path and what the system said."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        name = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else str(error.filename)
        text = f"{name}: {error.strerror}"
    else:
        text = str(error) or type(error).__name__
    # A path that is not UTF-8 has code points that stand for single bytes, which cannot be written as text.
    return " ".join(text.encode(errors="backslashreplace").decode().split())


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the file at ``path`` by ``content``, or leave it as it was."""
    with replacing(path) as file:
        file.write(content)


def write_text(path: Path, content: str) -> None:
    """Replace the file at ``path`` by ``content`` in UTF-8, or leave it as it was.

    A code point that stands for one byte, as Python makes of a path that is not UTF-8, is written as its escape, which
    JSON reads back.
    """
    write_bytes(path, content.encode(errors="backslashreplace"))


def is_left_over(name: str) -> bool:
    """Whether a file of this name is what a killed process left of a file it was writing."""
    return _LEFT_OVER.fullmatch(name) is not None


def clear_left_overs(folder: Path, names: Collection[str]) -> None:
    """Delete what killed processes left of files of these names, which nobody may be writing now.

    Args:
        folder: where to look; it need not exist.
        names: as a shell has them, ``*`` for anything.
    """
    for path in folder.iterdir() if folder.is_dir() else ():
        found = _LEFT_OVER.fullmatch(path.name)
        if found is not None and any(fnmatch.fnmatchcase(found["name"], name) for name in names):
            path.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` as JSON under the current schema version. Numbers that are not finite become null."""
    document = {"schema_version": SCHEMA_VERSION, **content}
    write_text(path, json.dumps(finite(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that `write_json` wrote.

    Raises:
        DamagedFile: if it is not JSON; the line names the file.
        ValueError: if it is of a schema version this library does not know.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path} is not readable as JSON: {error}") from None
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != SCHEMA_VERSION:
        raise UnusableFolder(f"{path} has schema version {version!r}, this library reads {SCHEMA_VERSION}")
    return document  # type: ignore[no-any-return]


def finite(value: Any) -> Any:
    """Replace every float that is not finite by None, at any depth: JSON has no word for it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value

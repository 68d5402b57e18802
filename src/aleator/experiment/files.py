"""Files that are whole or not there.

Content goes to a temporary file in the same folder, is flushed to the disk, and takes the final name in one step
(``os.replace``). A reader sees the old file or the new one; a crash, a full disk or a signal leaves the old one.
"""

from __future__ import annotations

import json
import math
import os
import secrets
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the file at ``path`` by ``content``, or leave it as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, content: str) -> None:
    """Replace the file at ``path`` by ``content`` in UTF-8, or leave it as it was."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` as JSON under the current schema version. Numbers that are not finite become null."""
    document = {"schema_version": SCHEMA_VERSION, **content}
    write_text(path, json.dumps(finite(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that `write_json` wrote.

    Raises:
        ValueError: if it is not JSON, or of a schema version this library does not know; the line names the file.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not readable as JSON: {error}") from None
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != SCHEMA_VERSION:
        raise ValueError(f"{path} has schema version {version!r}, this library reads {SCHEMA_VERSION}")
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

"""The handlers of the library's log lines while a command works: the screen, and the run's own file."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def shown(file: Path | None = None) -> Iterator[None]:
    """Show what the library logs on standard error, and keep it in a file that is made with its first line."""
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if file is not None:
        kept = _LogFile(file, encoding="utf-8", delay=True, errors="backslashreplace")
        kept.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        handlers.append(kept)
    logger = logging.getLogger("aleator")
    before = logger.level
    logger.setLevel(logging.INFO)
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(before)
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


class _LogFile(logging.FileHandler):
    """A file that makes its folder when it is opened. Where nothing can be written, nothing is kept."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Go on: the code that needs the disk reports that it is full."""

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()

    def _open(self) -> Any:
        Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
        return super()._open()

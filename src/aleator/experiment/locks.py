"""One process at a time writes a folder.

The lock is ``flock`` on the file ``.lock`` in the folder. The system gives it back when the process that holds it ends,
however it ends, so none is ever left behind; the file says which process it is, and is deleted with the lock. A forked
child closes its copy at once: a worker that outlives its parent does not keep the parent's lock.

Where the file system or the system has no ``flock`` (some network file systems, Windows), a warning says that nothing
keeps a second process out, and the work goes on.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import time
import weakref
from importlib.util import find_spec
from pathlib import Path

from aleator.experiment.files import UnusableFolder, naming

_LOCKS = find_spec("fcntl") is not None  # not on Windows
if _LOCKS:
    import fcntl

_log = logging.getLogger("aleator.experiment")

NAME = ".lock"

_WITHOUT = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_HELD: weakref.WeakSet[FolderLock] = weakref.WeakSet()


class InUse(UnusableFolder):
    """Another process writes this folder."""


class FolderLock:
    """The right to write a folder, from construction to `close` or the end of the process.

    Args:
        folder: made if it does not exist; one that is made here and stays empty is removed with the lock.

    Raises:
        InUse: if another process has it.
        OSError: if the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._descriptor: int | None = None
        # The lock is the folder's, wherever the process goes.
        folder = folder.absolute()
        self._path = folder / NAME
        self._made = [path for path in (folder, *folder.parents) if not path.exists()]
        if not _LOCKS:
            folder.mkdir(parents=True, exist_ok=True)
            _warn(folder)
            return
        try:
            self._descriptor = self._acquired()
        except BaseException:
            self._remove_made()
            raise
        if self._descriptor is not None:
            _HELD.add(self)

    def close(self) -> None:
        """Give the lock back."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            # Deleted while it is held: a process that opened it meanwhile sees that it is no longer the folder's.
            with contextlib.suppress(OSError):
                self._path.unlink()
            os.close(descriptor)
        self._remove_made()

    def close_copy(self) -> None:
        """Close a forked child's copy of the lock, which stays the parent's."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        self._made = []

    def _acquired(self) -> int | None:
        while True:
            descriptor = self._opened()
            try:
                with naming(self._path):
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
                os.close(descriptor)
                raise InUse(f"{self._path.parent} is being written by {holder}; wait for it or stop it") from None
            except OSError as error:
                os.close(descriptor)
                with contextlib.suppress(OSError):
                    self._path.unlink()
                if error.errno not in _WITHOUT:
                    raise
                _warn(self._path.parent)
                return None
            if self._is_the_folders(descriptor):
                # For people. A full disk does not keep anyone from holding the lock.
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
                return descriptor
            os.close(descriptor)

    def _opened(self) -> int:
        for _ in range(100):
            # Another process may take the folder away meanwhile, which it has made and leaves empty.
            with contextlib.suppress(FileNotFoundError):
                return self._open()
        return self._open()

    def _open(self) -> int:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)

    def _is_the_folders(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self._path))
        except FileNotFoundError:
            return False

    def _remove_made(self) -> None:
        for path in self._made:
            with contextlib.suppress(OSError):  # not empty
                path.rmdir()
        self._made = []


def clear_left_over(folder: Path) -> None:
    """Delete the file of a lock that a killed process left, where nobody has the lock now."""
    if (folder / NAME).exists():
        with contextlib.suppress(InUse, OSError):  # a finished run may be read where nothing can be written
            FolderLock(folder).close()


def wait_until_free(folder: Path, seconds: float) -> None:
    """Return when no other process holds the folder, or after ``seconds``."""
    until = time.monotonic() + seconds
    while True:
        try:
            FolderLock(folder).close()
        except InUse:
            if time.monotonic() >= until:
                return
            time.sleep(0.05)
        else:
            return


def _warn(folder: Path) -> None:
    _log.warning("%s is on a file system without locks: make sure that no other process writes there", folder)


def _close_copies() -> None:
    for lock in list(_HELD):
        lock.close_copy()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_copies)

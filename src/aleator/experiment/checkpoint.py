"""Checkpoints that can be trusted.

A checkpoint is a folder ``step-00000123`` with ``state.pt`` (tensors and plain containers only) and ``manifest.json``
(its SHA-256). It is written under another name and renamed when complete, so that a folder of the right name is whole.
A checkpoint that is damaged in any way (its checksum, its shape, a file in the folder's place) is reported, and the one
before it is used. States are read with ``weights_only``: nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import pickle
import re
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from aleator.experiment.files import UnusableFolder, naming, read_json, write_bytes, write_json

_log = logging.getLogger("aleator.experiment")


class CheckpointStore:
    """The checkpoints of one run.

    Args:
        folder: where they live; made when the first one is saved.
        keep: how many of the newest to keep.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder = folder
        self._keep = max(keep, 1)
        self._readable = False  # until one state of this run was read back
        self._damaged: set[Path] = set()  # found so when they were to be loaded

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Save a state and drop the oldest ones. Saving the same step again changes nothing.

        Raises:
            TypeError: if the state holds what cannot be read back without unpickling.
            OSError: if it cannot be written; the checkpoints before it are as they were.
        """
        final = self._folder / f"step-{step:08d}"
        if final.exists() and final not in self._damaged and _damage(final) is None:
            return final
        content = self.checked(state)
        with naming(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            partial = self._folder / f".{final.name}.partial"
            _remove(partial)
            partial.mkdir()
            write_bytes(partial / "state.pt", content)
            digest = hashlib.sha256(content).hexdigest()
            write_json(partial / "manifest.json", {"step": step, "bytes": len(content), "sha256": digest})
            _remove(final)
            partial.rename(final)
            self._damaged.discard(final)
            _flush_folder(self._folder)
            for stale in self._newest_first():  # damaged ones, which the run had to go back behind
                if _step(stale) > step:
                    _remove(stale)
        self.drop_old()
        return final

    def checked(self, state: dict[str, Any]) -> bytes:
        """Return a state as the bytes of a file.

        Raises:
            TypeError: if the state holds what cannot be read back without unpickling.
        """
        buffer = io.BytesIO()
        try:
            torch.save(state, buffer)
        except (AttributeError, TypeError, pickle.PicklingError) as error:
            raise _unreadable(error) from None
        content = buffer.getvalue()
        # A state that can be written and not read would be found out when it is needed. Once a run is enough.
        if not self._readable:
            try:
                torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            except pickle.UnpicklingError as error:
                raise _unreadable(error) from None
            self._readable = True
        return content

    def load(self, fields: Collection[str] = ()) -> dict[str, Any] | None:
        """Return the newest undamaged state with tensors on the CPU, or None when no checkpoint was ever saved.

        Args:
            fields: what the state must have.

        Raises:
            UnusableFolder: if there are checkpoints and all of them are damaged.
        """
        found = self._newest_first()
        for path in found:
            state = _read(path, fields)
            if not isinstance(state, str):
                return state
            self._damaged.add(path)
            _log.warning("checkpoint %s is damaged (%s); the one before it is tried", path, state)
        if found:
            raise UnusableFolder(
                f"every checkpoint in {self._folder} is damaged; delete that folder to begin the run again"
            )
        return None

    def __len__(self) -> int:
        """Return how many checkpoints there are, damaged ones included."""
        return len(self._newest_first())

    def remove(self) -> None:
        """Delete all checkpoints."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def drop_old(self) -> None:
        """Delete all but the newest ones, and what a killed process left of one that it was deleting.

        Only after a state was saved or loaded: a damaged one does not count then.
        """
        found = self._newest_first()
        kept = [path for path in found if path not in self._damaged][: self._keep]
        with naming(self._folder):
            for old in found:
                if _step(old) < _step(kept[-1]):
                    _remove(old)

    def clear_left_overs(self) -> None:
        """Delete what killed processes left of checkpoints they were writing."""
        for path in self._folder.glob(".step-*.partial"):
            _remove(path)

    def _newest_first(self) -> list[Path]:
        found = self._folder.iterdir() if self._folder.is_dir() else ()
        return sorted((path for path in found if _STEP.fullmatch(path.name)), key=_step, reverse=True)


_STEP = re.compile(r"step-[0-9]{8,18}")


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _read(path: Path, fields: Collection[str]) -> dict[str, Any] | str:
    """Return the state of a checkpoint, or what is wrong with it."""
    if (damage := _damage(path)) is not None:
        return damage
    try:
        state = torch.load(path / "state.pt", map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise almost anything; nothing of its own has run
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            raise
        return f"state.pt cannot be read: {type(error).__name__}"
    if not isinstance(state, dict):
        return f"state.pt holds {type(state).__name__} instead of a state"
    missing = [name for name in fields if name not in state]
    return f"state.pt lacks {', '.join(missing)}" if missing else state


def _damage(path: Path) -> str | None:
    try:
        manifest = read_json(path / "manifest.json")
        content = (path / "state.pt").read_bytes()
    except (OSError, ValueError) as error:
        return str(error)
    if not isinstance(manifest.get("sha256"), str) or type(manifest.get("bytes")) is not int:
        return "manifest.json is not the manifest of a checkpoint"
    if len(content) != manifest["bytes"]:
        return f"state.pt has {len(content)} bytes instead of {manifest['bytes']}"
    digest = hashlib.sha256(content).hexdigest()
    return None if digest == manifest["sha256"] else f"SHA-256 {digest} instead of {manifest['sha256']}"


def _unreadable(error: Exception) -> TypeError:
    return TypeError(f"state_dict must hold tensors, numbers, strings and containers of them only: {error}")


def _flush_folder(folder: Path) -> None:
    # A rename is durable once the folder that holds the name is on the disk.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Checkpoints that can be trusted.

A checkpoint is a folder ``step-00000123`` with ``state.pt`` (tensors and plain containers only) and ``manifest.json``
(its SHA-256). It is written under another name and renamed when complete, so that a folder of the right name is whole;
a damaged one is found by its checksum and the one before it is used. States are read with ``weights_only``: nothing is
unpickled.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import shutil
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from aleator.experiment.files import read_json, write_bytes, write_json

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

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Save a state and drop the oldest ones. Saving the same step again changes nothing.

        Raises:
            TypeError: if the state holds what cannot be read back without unpickling.
        """
        final = self._folder / f"step-{step:08d}"
        if final.exists() and _damage(final) is None:
            return final
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getvalue()
        self._check_readable(content)
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = self._folder / f".{final.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        write_bytes(partial / "state.pt", content)
        digest = hashlib.sha256(content).hexdigest()
        write_json(partial / "manifest.json", {"step": step, "bytes": len(content), "sha256": digest})
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
        _flush_folder(self._folder)
        for stale in self._newest_first():  # damaged ones, which the run had to go back behind
            if _step(stale) > step:
                shutil.rmtree(stale)
        for old in self._newest_first()[self._keep :]:
            shutil.rmtree(old)
        return final

    def load(self) -> dict[str, Any] | None:
        """Return the newest undamaged state with tensors on the CPU, or None when no checkpoint was ever saved.

        Raises:
            ValueError: if there are checkpoints and all of them are damaged.
        """
        found = self._newest_first()
        for path in found:
            damage = _damage(path)
            if damage is None:
                return torch.load(path / "state.pt", map_location="cpu", weights_only=True)  # type: ignore[no-any-return]
            _log.warning("checkpoint %s is damaged (%s); the one before it is tried", path, damage)
        if found:
            raise ValueError(f"every checkpoint in {self._folder} is damaged")
        return None

    def __len__(self) -> int:
        """Return how many checkpoints there are, damaged ones included."""
        return len(self._newest_first())

    def remove(self) -> None:
        """Delete all checkpoints."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _newest_first(self) -> list[Path]:
        return sorted(self._folder.glob("step-*"), key=_step, reverse=True)

    def _check_readable(self, content: bytes) -> None:
        # A state that can be written and not read would be found out when it is needed. Once a run is enough.
        if not self._readable:
            try:
                torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            except UnpicklingError as error:
                raise TypeError(
                    f"state_dict must hold tensors, numbers, strings and containers of them only: {error}"
                ) from None
            self._readable = True


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _damage(path: Path) -> str | None:
    try:
        manifest = read_json(path / "manifest.json")
        content = (path / "state.pt").read_bytes()
    except (OSError, ValueError) as error:
        return str(error)
    if len(content) != manifest["bytes"]:
        return f"state.pt has {len(content)} bytes instead of {manifest['bytes']}"
    digest = hashlib.sha256(content).hexdigest()
    return None if digest == manifest["sha256"] else f"SHA-256 {digest} instead of {manifest['sha256']}"


def _flush_folder(folder: Path) -> None:
    # A rename is durable once the folder that holds the name is on the disk.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

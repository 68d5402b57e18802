"""Faces of known people: frames of a clip, or pictures of somebody, one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from aleator.data.sets.entries import DatasetInfo
from aleator.data.sets.readers import refusing


@dataclass(frozen=True, eq=False)
class Faces:
    """Frames or pictures of people.

    Attributes:
        name: the data set's name.
        frames: of each clip, or the pictures of each person.
        people: who is seen in each clip, from 0.
        texts: what is said in each clip; empty where nothing is.
        notes: what a user should know.
    """

    name: str
    frames: UInt8[Tensor, "clip frame height width channel"]
    people: Int64[Tensor, " clip"]
    texts: tuple[str, ...]
    notes: tuple[str, ...]


def faces(info: DatasetInfo, paths: dict[str, Path], notes: tuple[str, ...]) -> Faces:
    """Return the faces of a catalogue entry; the files' checksums were compared before.

    Raises:
        ValueError: if the file is not of its format.
    """
    (path,) = paths.values()
    with refusing(path, "an npz file of faces", KeyError, TypeError, AttributeError, ValueError, IndexError):
        with np.load(path, allow_pickle=False) as archive:
            if info.name == "olivetti":
                people = np.unique(archive["person"])
                frames = np.stack([archive["images"][archive["person"] == person] for person in people])[..., None]
                texts = ("",) * len(people)
            else:
                frames, people = archive["video"], archive["person"]
                texts = tuple(name.decode("ascii")[-6:] for name in archive["clip"].tolist())
        found = Faces(info.name, torch.from_numpy(frames), torch.from_numpy(people).long(), texts, notes)
        if frames.ndim != 5 or len({len(frames), len(people), len(texts)}) != 1:
            raise ValueError(f"frames of shape {frames.shape}, {len(people)} people, {len(texts)} texts")
        return found

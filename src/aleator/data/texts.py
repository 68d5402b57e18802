"""Stand-in with the agreed interface; the real module comes from another branch and replaces this file.

Text is bytes: one domain is one stretch of UTF-8 for each part.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
from torch import Tensor

from aleator.data import images


@dataclass(frozen=True, eq=False)
class TextDomain:
    """One language or source: uint8 bytes of each part."""

    name: str
    train: Tensor
    validation: Tensor
    test: Tensor


@dataclass(frozen=True, eq=False)
class TextCorpus:
    """Several domains."""

    name: str
    domains: tuple[TextDomain, ...]

    def domain(self, name: str) -> TextDomain:
        """Return the domain of a name."""
        for domain in self.domains:
            if domain.name == name:
                return domain
        raise ValueError(f"domain must be one of {', '.join(d.name for d in self.domains)}, got {name!r}")

    def only(self, names: Sequence[str]) -> TextCorpus:
        """Return the corpus of these domains."""
        return TextCorpus(self.name, tuple(self.domain(name) for name in names))


def read_texts(files: Mapping[str, Path], *, validation: float = 0.1, test: float = 0.1) -> TextCorpus:
    """Return a corpus of text files, a domain each, cut into parts in their order."""
    domains = tuple(_cut(name, Path(path).read_bytes(), validation, test) for name, path in files.items())
    return TextCorpus("files", domains)


@overload
def load(name: Literal["tinyshakespeare"], root: str | os.PathLike[str] | None = None) -> TextCorpus: ...  # type: ignore[overload-overlap]
@overload
def load(name: str, root: str | os.PathLike[str] | None = None) -> images.LabelledImages: ...
def load(name: str, root: str | os.PathLike[str] | None = None) -> Any:
    """Return a data set by its name."""
    if name != "tinyshakespeare":
        return images.load(name, root)
    path = Path(root or os.environ["ALEATOR_DATA"], name, "input.txt.gz")
    return TextCorpus(name, (_cut(name, gzip.decompress(path.read_bytes()), 0.05, 0.05),))


def _cut(name: str, text: bytes, validation: float, test: float) -> TextDomain:
    values = torch.from_numpy(np.frombuffer(text, np.uint8).copy())
    first, last = round(len(text) * (1 - validation - test)), round(len(text) * (1 - test))
    return TextDomain(name, values[:first], values[first:last], values[last:])

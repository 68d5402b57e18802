"""Entries of the catalogue: the files of a data set, each with its SHA-256, its terms, how it is read.

An entry names its files, each with the SHA-256 of the exact bytes, and its ``reader``, the one that understands them. A
local mirror may hold a set in another form, with checksums of its own; ``mirror_lacks`` lists what that form lacks.
What only one kind of data has, such as the classes of images, is apart, in the facts of that kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["images", "responses", "text", "treebank", "graphs", "molecules", "views", "pictures", "faces"]
Reader = Literal[
    "digits",
    "idx",
    "cifar",
    "votes",
    "shakespeare",
    "wikitext",
    "udhr",
    "tico",
    "conllu",
    "networkx",
    "tu",
    "smiles",
    "views",
    "png",
    "faces",
]


@dataclass(frozen=True)
class RemoteFile:
    """One file of a data set.

    Attributes:
        name: the file's name, the same at every address and on disk.
        urls: where it can be had, tried in this order. Empty for a file that only a local mirror has.
        sha256: the checksum of the whole file, 64 hexadecimal digits.
        size: its length in bytes.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str
    size: int


@dataclass(frozen=True)
class ImageFacts:
    """What is known about a labelled set of images.

    Attributes:
        classes: the names of the labels, in order.
        mean: mean of each channel over the training images, divided by ``max_value``.
        std: standard deviation of the same.
        max_value: the largest value an input can have.
    """

    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    max_value: int = 255


@dataclass(frozen=True)
class MoleculeFacts:
    """What is known about a set of molecules.

    Attributes:
        elements: the chemical elements of the heavy atoms.
        max_atoms: the largest number of heavy atoms.
    """

    elements: tuple[str, ...]
    max_atoms: int


@dataclass(frozen=True)
class DatasetInfo:
    """One data set.

    Attributes:
        name: what `load` calls it, and the name of its folder under a data root.
        title: what it is and how much of it there is, for a listing.
        kind: what sort of data it is.
        reader: which reader understands its files.
        files: the files as their authors publish them, at addresses that do not change. Empty for a set that comes with
            a dependency, and for one that only a local mirror has.
        licence: the licence as the authors state it.
        terms: ``"open"``, ``"non-commercial"`` or ``"not stated"``.
        images: what is known of a set of images; None for other kinds.
        molecules: what is known of a set of molecules; None for other kinds.
        inputs_from: the data set of images whose test part was responded to; empty for other kinds.
        mirror_files: the form in which a local mirror may hold the set instead.
        mirror_folder: the folder of that form under a data root; empty for ``name``.
        mirror_lacks: what that form leaves out; empty when it is whole.
        notes: what a user should know, one sentence each.
    """

    name: str
    title: str
    kind: Kind
    reader: Reader
    files: tuple[RemoteFile, ...]
    licence: str
    terms: Literal["open", "non-commercial", "not stated"]
    images: ImageFacts | None = None
    molecules: MoleculeFacts | None = None
    inputs_from: str = ""
    mirror_files: tuple[RemoteFile, ...] = ()
    mirror_folder: str = ""
    mirror_lacks: str = ""
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes to download; 0 for a set that comes with a dependency."""
        return sum(file.size for file in self.files)

    def path(self, file: RemoteFile, root: Path) -> Path:
        """Return where a file of the set lies under a data root."""
        in_mirror = self.mirror_folder and file in self.mirror_files
        return root / (self.mirror_folder if in_mirror else self.name) / file.name

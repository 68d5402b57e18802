"""Data sets by name: ``load("mnist")`` gives images, ``load("udhr2")`` texts, ``load("grid")`` graphs.

Every file's SHA-256 is checked at each load, before it is parsed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, overload

from aleator.data.sets.catalog import lookup
from aleator.data.sets.entries import DatasetInfo, Kind
from aleator.data.sets.faces import Faces, faces
from aleator.data.sets.files import checked_files
from aleator.data.sets.graphs import GraphSet, graph_set
from aleator.data.sets.images import AnsweredImages, LabelledImages, answered_images, labelled_images
from aleator.data.sets.molecules import MoleculeSet, molecule_set
from aleator.data.sets.text_readers import text_corpus
from aleator.data.sets.texts import ParallelCorpus, TextCorpus
from aleator.data.sets.treebanks import Treebank, treebank
from aleator.data.sets.views import Pictures, Views, pictures, views

_LOG = logging.getLogger("aleator.data")

Dataset = LabelledImages | AnsweredImages | TextCorpus | Treebank | GraphSet | MoleculeSet | Views | Pictures | Faces


@overload
def load(
    name: Literal["digits", "mnist", "fashion-mnist", "cifar10"], root: str | os.PathLike[str] | None = None
) -> LabelledImages: ...
@overload
def load(name: Literal["cifar10h"], root: str | os.PathLike[str] | None = None) -> AnsweredImages: ...
@overload
def load(
    name: Literal["tinyshakespeare", "wikitext2", "udhr2"], root: str | os.PathLike[str] | None = None
) -> TextCorpus: ...
@overload
def load(name: Literal["tico19"], root: str | os.PathLike[str] | None = None) -> ParallelCorpus: ...
@overload
def load(
    name: Literal["ud-english-ewt", "ud-galician-treegal"], root: str | os.PathLike[str] | None = None
) -> Treebank: ...
@overload
def load(
    name: Literal["community-small", "ego-small", "enzymes", "grid"], root: str | os.PathLike[str] | None = None
) -> GraphSet: ...
@overload
def load(name: Literal["qm9", "zinc250k"], root: str | os.PathLike[str] | None = None) -> MoleculeSet: ...
@overload
def load(name: Literal["nerf-buddha", "nerf-lego-100"], root: str | os.PathLike[str] | None = None) -> Views: ...
@overload
def load(name: Literal["images"], root: str | os.PathLike[str] | None = None) -> Pictures: ...
@overload
def load(name: Literal["grid-faces", "olivetti"], root: str | os.PathLike[str] | None = None) -> Faces: ...
@overload
def load(name: str, root: str | os.PathLike[str] | None = None) -> Dataset: ...
def load(name: str, root: str | os.PathLike[str] | None = None) -> Dataset:
    """Load a data set by name.

    Args:
        name: a name of `CATALOG`, which ``aleator data list`` prints. ``"digits"`` comes with scikit-learn and needs no
            files: its 1,797 images are split into 1,437 for training and 360 for testing by one permutation that never
            changes.
        root: a folder with one folder per data set; by default the one that the environment variable ``ALEATOR_DATA``
            names. Without either, the user's cache folder, into which missing files are downloaded.

    Returns:
        The data set in memory, by the kind of its entry: `LabelledImages`, `AnsweredImages`, `TextCorpus` (for
        ``"tico19"`` a `ParallelCorpus`), `Treebank`, `GraphSet`, `MoleculeSet`, `Views`, `Pictures` or `Faces`.
        `Treebank.corpus` gives the treebank's running text as a `TextCorpus`.

    Raises:
        ValueError: if no data set has this name, or a file is truncated, altered or not of its format.
        FileNotFoundError: if the folder or one of the files is not there and could not be downloaded.
    """
    info = lookup(name)
    paths = checked_files(info, root) if info.files or info.mirror_files else {}
    if info.inputs_from:
        paths |= checked_files(lookup(info.inputs_from), root)
    notes = info.notes
    if info.mirror_lacks and set(paths) == {file.name for file in info.mirror_files}:
        notes = (*notes, f"This is part of the set: {info.mirror_lacks}.")
        _LOG.warning("%s: %s", info.name, info.mirror_lacks)
    readers: dict[Kind, Callable[[DatasetInfo, dict[str, Path], tuple[str, ...]], Dataset]] = {
        "images": labelled_images,
        "responses": answered_images,
        "text": text_corpus,
        "treebank": treebank,
        "graphs": graph_set,
        "molecules": molecule_set,
        "views": views,
        "pictures": pictures,
        "faces": faces,
    }
    return readers[info.kind](info, paths, notes)

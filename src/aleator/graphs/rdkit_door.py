"""RDKit, imported when a molecule is first read: the one place that says what to install."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any


@functools.cache
def chem() -> Any:
    """Return ``rdkit.Chem``.

    Raises:
        ModuleNotFoundError: if RDKit is not installed; the message names the extra.
    """
    try:
        from rdkit import Chem
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("molecules need RDKit: pip install 'aleator[graphs]'", name=error.name) from None
    return Chem


def read_molecules(texts: Iterable[object]) -> list[Any]:
    """Return the RDKit molecules of SMILES, in order: those that it can read and that have atoms.

    What is no text, such as the None of a molecule that was not made or the NaN of an empty cell, is no molecule.
    """
    with silence():
        read = [chem().MolFromSmiles(text) for text in texts if isinstance(text, str)]
    return [mol for mol in read if mol is not None and mol.GetNumAtoms()]


def silence() -> AbstractContextManager[Any]:
    """Return a context in which RDKit does not print what is wrong with each molecule: our answers say it."""
    chem()
    from rdkit import rdBase

    silent: AbstractContextManager[Any] = rdBase.BlockLogs()
    return silent

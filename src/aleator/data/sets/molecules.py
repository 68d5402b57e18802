"""Sets of molecules as SMILES, one line of text for each: ``load("qm9").train[0]``.

A SMILES names the heavy atoms of a molecule and their bonds. It is kept as it is in the file, with its stereo marks;
what turns it into arrays needs a reader of SMILES, which is in `aleator.graphs`.

D. Weininger, "SMILES, a chemical language and information system", J. Chem. Inf. Comput. Sci. 28(1), 1988.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aleator.data.permutation import fixed_order
from aleator.data.sets.entries import DatasetInfo
from aleator.data.sets.readers import read_text


@dataclass(frozen=True, eq=False)
class MoleculeSet:
    """Molecules as SMILES.

    Attributes:
        name: the data set's name.
        train: the training molecules.
        test: the test molecules.
        elements: the chemical elements of the heavy atoms.
        max_atoms: the largest number of heavy atoms.
        notes: what a user should know, such as molecules that the set leaves out.
    """

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    elements: tuple[str, ...]
    max_atoms: int
    notes: tuple[str, ...]


def molecule_set(info: DatasetInfo, paths: dict[str, Path], notes: tuple[str, ...]) -> MoleculeSet:
    """Return the molecules of a catalogue entry; the files' checksums were compared before.

    Where the set comes in one file, the last tenth of one permutation that never changes is the test part. Both parts
    keep that order, so that the first molecules of either are a fair sample.

    Raises:
        ValueError: if a file is not UTF-8.
    """
    facts = info.molecules
    assert facts is not None  # an entry of this kind has them
    parts = [tuple(read_text(path).split()) for path in paths.values()]
    if len(parts) == 1:
        (smiles,) = parts
        order = fixed_order(len(smiles), "aleator.data", info.name, "split")
        first_test = len(smiles) - len(smiles) // 10
        parts = [tuple(smiles[i] for i in part) for part in (order[:first_test], order[first_test:])]
    train, test = parts
    return MoleculeSet(info.name, train, test, facts.elements, facts.max_atoms, notes)

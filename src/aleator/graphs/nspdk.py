"""The distance of generated molecules from real ones as labelled graphs: NSPDK features and their mean discrepancy.

The neighbourhood subgraph pairwise distance kernel counts, in one molecule, pairs of atoms at a distance d ≤ 4 whose
neighbourhoods of radius r ≤ 4 look the same as such a pair's in another. It is a dot product of sparse counts, so that

    MMD² = ‖mean φ(a) - mean φ(b)‖²

needs no pairs of molecules. The features are as in EDeN, which the published figures are computed with. Every bond
becomes a vertex between its two atoms. A vertex is known by its label (the element; the whole part of the bond's order,
1 for an aromatic one) and its number of neighbours. The code of an atom at radius r is the list, for each distance 0 to
2r, of the vertices there, in no order; it exists if there are any at 2r. An ordered pair of atoms at distance d that
both have a code at r counts once for the unordered pair of codes, and once for the second code alone. Each block (r, d)
is scaled to length 1, and then the whole. EDeN's buckets, in which codes can collide, are left out.

F. Costa and K. De Grave, "Fast neighborhood subgraph pairwise distance kernel", ICML 2010.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray

from aleator.graphs.rdkit_door import chem, read_molecules

_REACH = 4  # the largest radius and the largest distance
_BATCH = 500  # molecules whose pairs are held at a time: some hundred MB for forty atoms each
_CODES = 2**28  # more than there can be codes; the code below it stands for "none", in half features
_NONE = _CODES - 1


def nspdk_mmd(reference: Sequence[str | None], generated: Sequence[str | None]) -> float:
    """Return MMD² of two sets of molecules under the NSPDK kernel.

    Args:
        reference: SMILES of real molecules.
        generated: SMILES of the molecules to be judged; None is no molecule.

    Returns:
        Between 0 and 2. Time is linear in the number of molecules.

    Raises:
        ValueError: if a set has no molecule that RDKit can read. Others that it cannot read are left out.
        ModuleNotFoundError: if RDKit is not installed.
    """
    codes: dict[tuple[int, bytes], int] = {}
    (keys_a, mean_a), (keys_b, mean_b) = (
        _mean_features(smiles, codes, name) for smiles, name in ((reference, "reference"), (generated, "generated"))
    )
    _, place = np.unique(np.concatenate([keys_a, keys_b]), return_inverse=True)
    difference = np.bincount(place, np.concatenate([mean_a, -mean_b]))
    return float(difference @ difference)


def _mean_features(
    smiles: Sequence[str | None], codes: dict[tuple[int, bytes], int], name: str
) -> tuple[Int64[np.ndarray, " features"], Float64[np.ndarray, " features"]]:
    """Return the keys and the values of the mean feature vector."""
    keys, values, count = [], [], 0
    for start in range(0, len(smiles), _BATCH):
        if mols := read_molecules(smiles[start : start + _BATCH]):
            found, weights = _features(mols, codes)
            keys.append(found)
            values.append(weights)
            count += len(mols)
    if count == 0:
        raise ValueError(f"{name} must hold at least one molecule that RDKit can read, got none")
    distinct, place = np.unique(np.concatenate(keys), return_inverse=True)
    return distinct, np.bincount(place, np.concatenate(values)) / count


def _features(
    mols: Sequence[Any], codes: dict[tuple[int, bytes], int]
) -> tuple[Int64[np.ndarray, " features"], Float64[np.ndarray, " features"]]:
    """Return the sum of the molecules' feature vectors."""
    owners, blocks, pairs = [], [], []
    for index, mol in enumerate(mols):
        distance = chem().GetDistanceMatrix(mol).astype(np.int64)
        atom_codes = _atom_codes(mol, distance, codes)
        first, second = np.nonzero(distance <= _REACH)
        for radius, code in enumerate(atom_codes):
            both = (code[first] >= 0) & (code[second] >= 0)
            a, b = code[first[both]], code[second[both]]
            block = radius * (_REACH + 1) + distance[first[both], second[both]]
            blocks += [block, block]
            pairs += [np.minimum(a, b) * _CODES + np.maximum(a, b), b * _CODES + _NONE]
            owners.append(np.full(2 * len(a), index))
    owner, block, pair = np.concatenate(owners), np.concatenate(blocks), np.concatenate(pairs)
    # One row for each molecule and feature, with how often it was met.
    order = np.lexsort((pair, block, owner))
    owner, block, pair = owner[order], block[order], pair[order]
    new = np.flatnonzero(np.diff(owner, prepend=-1) | np.diff(block, prepend=-1) | np.diff(pair, prepend=-1))
    times = np.diff(new, append=len(owner)).astype(np.float64)
    owner, block, pair = owner[new], block[new], pair[new]
    num_blocks = (_REACH + 1) ** 2
    group = owner * num_blocks + block
    squares = np.bincount(group, times**2, minlength=len(mols) * num_blocks)
    nonempty = (squares.reshape(len(mols), num_blocks) > 0).sum(1)
    values = times / np.sqrt(squares[group] * nonempty[owner])
    distinct, place = np.unique(block * _CODES**2 + pair, return_inverse=True)
    return distinct, np.bincount(place, values)


def _atom_codes(
    mol: Any, distance: Int64[np.ndarray, "atoms atoms"], codes: dict[tuple[int, bytes], int]
) -> list[NDArray[np.int64]]:
    """Return, for each radius, the code of every atom, -1 where it does not exist."""
    # A vertex is one number: for atoms a multiple of 16 and the neighbours, for bonds the order, below the least atom.
    atoms = [16 * atom.GetAtomicNum() + atom.GetDegree() for atom in mol.GetAtoms()]
    bonds = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx(), int(b.GetBondTypeAsDouble())) for b in mol.GetBonds()]
    u, v, orders = np.array(bonds, np.int64).reshape(-1, 3).T
    steps = np.concatenate([2 * distance, 2 * np.minimum(distance[:, u], distance[:, v]) + 1], axis=1)
    labels = np.concatenate([np.array(atoms, np.int64), orders]).astype(np.int16)
    found = np.full((_REACH + 1, len(atoms)), -1, np.int64)
    for atom, away in enumerate(steps):
        order = np.lexsort((labels, away))
        ring = labels[order]
        ends = np.searchsorted(away[order], np.arange(2 * _REACH + 2))
        code = -1
        for radius in range(_REACH + 1):
            start, middle, end = ends[max(2 * radius - 1, 0)], ends[2 * radius], ends[2 * radius + 1]
            if middle == end:
                break
            key = (code, ring[start:middle].tobytes() + b"|" + ring[middle:end].tobytes())
            code = found[radius, atom] = codes.setdefault(key, len(codes))
    return list(found)

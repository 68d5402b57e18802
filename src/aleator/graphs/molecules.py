"""Molecules as arrays and back: SMILES to atoms and bonds, a generator's real numbers to a molecule that may exist.

A molecule of at most N heavy atoms is a row of one-hot elements for each atom, all zero for padding, and a symmetric
matrix of bond orders 0 to 3, with aromatic rings written as single and double bonds. Charges, stereo marks and
hydrogens are left out; the last follow from the valences. Back, numbers are rounded to orders and elements, the bonds
are added in order of their first atom, and an N, O or S that has one bond too many becomes a cation.

What a generator draws need not obey the valences. Correction lowers the highest bond of the first atom that does not,
by one, until all do, and keeps the largest of the fragments. How many needed none is the *validity without correction*;
a molecule in several pieces counts as valid.

C. Zang and F. Wang, "MoFlow: an invertible flow model for generating molecular graphs", KDD 2020 (correction); J. Jo et
al., "Score-based generative modeling of graphs via the system of stochastic differential equations", ICML 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from aleator.graphs.rdkit_door import chem, silence

_VALENCE = {"N": 3, "O": 2, "S": 2}  # of the elements that may become cations
_MAX_ORDER = 3


class MoleculeArrays(NamedTuple):
    """Molecules as arrays.

    Attributes:
        x: one-hot elements, float32 of shape [M, N, F]; zero for padding.
        adj: bond orders 0 to 3, float32 of shape [M, N, N], symmetric.
        mask: True for atoms, of shape [M, N]; padding comes last.
    """

    x: Float[Tensor, "molecules atoms elements"]
    adj: Float[Tensor, "molecules atoms atoms"]
    mask: Bool[Tensor, "molecules atoms"]


class RefusedSmiles(NamedTuple):
    """A line that is no molecule of the set: its position from 0, its text, and why."""

    position: int
    smiles: str
    reason: str


@dataclass(frozen=True)
class DecodedMolecules:
    """What became of a generator's arrays, one entry for each.

    Attributes:
        smiles: canonical SMILES after correction, of the largest fragment; None where there is no atom.
        valid: whether the valences were obeyed before correction.
    """

    smiles: tuple[str | None, ...]
    valid: tuple[bool, ...]


def encode_smiles(
    smiles: Sequence[object], elements: Sequence[str], max_atoms: int
) -> tuple[MoleculeArrays, list[RefusedSmiles]]:
    """Return the molecules of some SMILES as arrays, and the lines that could not be.

    Args:
        smiles: texts of one molecule each, such as ``load("qm9").train``.
        elements: symbols of the elements that the columns of ``x`` stand for.
        max_atoms: N, the width of the arrays, positive.

    Returns:
        The arrays of the molecules that are in order, and, for every other line, its position and the reason: it is
        not text, RDKit cannot read it, it has another element, more atoms, none, bonds of another kind, or charges
        without which it breaks the valences: `decode_molecules` would give another molecule back. It never ends the
        run.

    Raises:
        ValueError: if a symbol names no element.
        ModuleNotFoundError: if RDKit is not installed.
    """
    rdkit = chem()
    table = rdkit.GetPeriodicTable()
    known = {table.GetElementSymbol(number): number for number in range(1, 119)}
    if unknown := [symbol for symbol in elements if symbol not in known]:
        raise ValueError(f"elements must be symbols of chemical elements, got {unknown[0]!r}")
    column = {known[symbol]: i for i, symbol in enumerate(elements)}
    kinds: list[list[int]] = []
    orders: list[NDArray[Any]] = []
    refused: list[RefusedSmiles] = []
    with silence():
        for index, text in enumerate(smiles):
            if not isinstance(text, str):  # such as the NaN of an empty cell of a table
                refused.append(RefusedSmiles(index, repr(text), "it is not text"))
                continue
            mol = rdkit.MolFromSmiles(text)
            if mol is None:
                refused.append(RefusedSmiles(index, text, "RDKit cannot read it"))
                continue
            rdkit.Kekulize(mol, clearAromaticFlags=True)
            numbers = [atom.GetAtomicNum() for atom in mol.GetAtoms()]
            bonds = rdkit.GetAdjacencyMatrix(mol, useBO=True)
            if reason := _reason(mol, numbers, column, max_atoms):
                refused.append(RefusedSmiles(index, text, reason))
                continue
            kind = [column[number] for number in numbers]
            charged = any(atom.GetFormalCharge() for atom in mol.GetAtoms())
            if charged and correct_valences(build_molecule(np.array(kind), bonds.astype(np.int64), elements)):
                refused.append(RefusedSmiles(index, text, "without its charges it breaks the rules of valence"))
                continue
            kinds.append(kind)
            orders.append(bonds)
    x = torch.zeros(len(kinds), max_atoms, len(elements))
    adj = np.zeros((len(kinds), max_atoms, max_atoms), np.float32)
    for row, bonds in enumerate(orders):
        adj[row, : len(bonds), : len(bonds)] = bonds
    sizes = torch.tensor([len(kind) for kind in kinds], dtype=torch.int64)
    mask = torch.arange(max_atoms) < sizes.unsqueeze(-1)
    x[mask] = torch.eye(len(elements))[torch.tensor([k for kind in kinds for k in kind], dtype=torch.int64)]
    return MoleculeArrays(x, torch.from_numpy(adj), mask), refused


def _reason(mol: Any, numbers: list[int], column: dict[int, int], max_atoms: int) -> str:
    if not numbers:
        return "it has no atoms"
    if len(numbers) > max_atoms:
        return f"it has {len(numbers)} heavy atoms, more than {max_atoms}"
    if other := [number for number in numbers if number not in column]:
        return f"it has the element {chem().GetPeriodicTable().GetElementSymbol(other[0])}"
    # Not by their orders: a bond of any kind, "~", has order 0.
    orders = chem().BondType.values
    if not all(bond.GetBondType() in (orders[1], orders[2], orders[_MAX_ORDER]) for bond in mol.GetBonds()):
        return "it has a bond that is not single, double or triple"
    return ""


def quantize_molecules(
    x: Float[Tensor, "molecules atoms elements"], adj: Float[Tensor, "molecules atoms atoms"]
) -> tuple[Int64[Tensor, "molecules atoms"], Int64[Tensor, "molecules atoms atoms"]]:
    """Round a generator's numbers to elements and bond orders.

    Args:
        x: scores of the elements.
        adj: bond orders, of which the part below the diagonal counts.

    Returns:
        The first element whose score is above 0.5, or F, the number of elements, for no atom; and the bond orders, 0
        below 0.5, 1 below 1.5, 2 below 2.5, 3 from there on. What is not a number is no atom and no bond.
    """
    width = x.shape[-1]
    above = x > 0.5
    first = (above * torch.arange(width, 0, -1, device=x.device)).argmax(-1)
    atoms = torch.where(above.any(-1), first, width)
    limits = torch.tensor([0.5, 1.5, 2.5], device=adj.device, dtype=adj.dtype)
    return atoms, torch.bucketize(adj.nan_to_num(0.0), limits, right=True)


def decode_molecules(
    x: Float[Tensor, "molecules atoms elements"],
    adj: Float[Tensor, "molecules atoms atoms"],
    elements: Sequence[str],
) -> DecodedMolecules:
    """Return the molecules that a generator's arrays stand for, corrected where they break the rules of valence.

    Args:
        x: scores of the elements, see `quantize_molecules`.
        adj: bond orders, real numbers.
        elements: symbols of the elements, one for each column of ``x``.

    Raises:
        ValueError: if there is not one element for each column.
        ModuleNotFoundError: if RDKit is not installed.
    """
    if len(elements) != x.shape[-1]:
        raise ValueError(f"elements must be {x.shape[-1]}, one for each column of x, got {len(elements)}")
    smiles: list[str | None] = []
    valid: list[bool] = []
    atoms, bonds = (part.cpu().numpy() for part in quantize_molecules(x, adj))
    with silence():
        for row in range(len(atoms)):
            mol = build_molecule(atoms[row], bonds[row], elements)
            valid.append(correct_valences(mol) == 0 and mol.GetNumAtoms() > 0)
            smiles.append(_largest_fragment(mol))
    return DecodedMolecules(tuple(smiles), tuple(valid))


def build_molecule(
    atoms: Int64[np.ndarray, " atoms"], bonds: Int64[np.ndarray, "atoms atoms"], elements: Sequence[str]
) -> Any:
    """Return the RDKit molecule of quantised atoms and bonds, valid or not.

    Args:
        atoms: indices into ``elements``; the number of elements stands for no atom.
        bonds: orders 0 to 3. The bonds (i, j) with i > j are added in order of i, then j. If after one of them an atom
            breaks the valences, and it is an N, O or S by exactly one, it gets the charge +1.
        elements: symbols of the elements.
    """
    rdkit = chem()
    kind = rdkit.BondType.values  # by order
    present = np.flatnonzero(atoms < len(elements))
    orders = np.tril(bonds[np.ix_(present, present)], -1)
    added = [(int(i), int(j), kind[orders[i, j]]) for i, j in np.argwhere(orders)]

    def bare() -> Any:
        mol = rdkit.RWMol()
        for atom in atoms[present]:
            mol.AddAtom(rdkit.Atom(elements[atom]))
        return mol

    whole = bare()
    for bond in added:
        whole.AddBond(*bond)
    if _wrong_atom(whole) is None:  # bonds only add to valences: had one step been wrong, the end were
        return whole
    mol = bare()
    for bond in added:
        mol.AddBond(*bond)
        if (atom := _wrong_atom(mol)) is not None and _excess(atom) == 1:
            atom.SetFormalCharge(1)
    return mol


def correct_valences(mol: Any) -> int:
    """Lower bonds of an RDKit molecule, in place, until every atom obeys its valence; return how often.

    In each round the first atom that does not loses one order of its highest bond; of equal ones, of the bond that
    comes first in the atom's list. A lowered bond goes to the end of that list.
    """
    kind, lowered = chem().BondType.values, 0
    while (atom := _wrong_atom(mol)) is not None:
        bond = max(atom.GetBonds(), key=lambda bond: int(bond.GetBondType()))  # the first of the highest
        ends, order = (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()), int(bond.GetBondType()) - 1
        mol.RemoveBond(*ends)
        if order:
            mol.AddBond(*ends, kind[order])
        lowered += 1
    return lowered


def _wrong_atom(mol: Any) -> Any:
    """Return the first atom whose valence is not permitted; None if there is none."""
    rdkit = chem()
    try:
        rdkit.SanitizeMol(mol, sanitizeOps=rdkit.SanitizeFlags.SANITIZE_PROPERTIES)
    except rdkit.AtomValenceException as error:
        return mol.GetAtomWithIdx(error.cause.GetAtomIdx())
    return None


def _excess(atom: Any) -> int:
    """Return by how much an N, O or S exceeds its valence; 0 for the others."""
    bonds = sum(int(bond.GetBondType()) for bond in atom.GetBonds())
    return bonds - _VALENCE.get(atom.GetSymbol(), bonds)


def _largest_fragment(mol: Any) -> str | None:
    """Return the canonical SMILES of the fragment whose SMILES is the longest, the first of equal ones."""
    rdkit = chem()
    fragments = rdkit.MolToSmiles(mol).split(".")
    read = rdkit.MolFromSmiles(max(fragments, key=len))
    return rdkit.MolToSmiles(read) or None if read is not None else None

"""SMILES to arrays and back; what breaks the valences is corrected bond by bond, what is malformed is listed."""

import numpy as np
import pytest
import torch
from rdkit import Chem

from aleator.data import load
from aleator.graphs import RefusedSmiles, decode_molecules, encode_smiles, quantize_molecules
from aleator.graphs.molecules import build_molecule, correct_valences

CNOF = ("C", "N", "O", "F")


def skeleton(smiles):
    """Canonical SMILES of what arrays can hold: no stereo marks, charges or radicals."""
    mol = Chem.RWMol(Chem.MolFromSmiles(smiles))
    Chem.Kekulize(mol, clearAromaticFlags=True)
    for atom in mol.GetAtoms():
        atom.SetFormalCharge(0)
        atom.SetNoImplicit(False)
        atom.SetNumExplicitHs(0)
        atom.SetNumRadicalElectrons(0)
        atom.SetIsotope(0)
    return Chem.MolToSmiles(Chem.MolFromSmiles(Chem.MolToSmiles(mol, isomericSmiles=False)), isomericSmiles=False)


def decoded(symbols, bonds):
    """Decode one molecule of C, N, O and F with bonds (i, j, order)."""
    x = torch.zeros(1, len(symbols), 4)
    adj = torch.zeros(1, len(symbols), len(symbols))
    for row, symbol in enumerate(symbols):
        x[0, row, CNOF.index(symbol)] = 1
    for i, j, order in bonds:
        adj[0, i, j] = adj[0, j, i] = order
    result = decode_molecules(x, adj, CNOF)
    return result.smiles[0], result.valid[0]


def test_qm9_survives_the_way_to_arrays_and_back(data_root):
    data = load("qm9", data_root)
    lines = data.train[:300]
    (x, adj, _), refused = encode_smiles(lines, data.elements, data.max_atoms)
    assert not refused
    assert x.shape == (300, 9, 4)
    back = decode_molecules(x, adj, data.elements)
    assert all(back.valid)
    assert list(back.smiles) == [skeleton(line) for line in lines]
    same = [skeleton(line) == Chem.MolToSmiles(Chem.MolFromSmiles(line), isomericSmiles=False) for line in lines]
    assert sum(same) > 250  # the rest has charges or radicals, which arrays cannot hold


def test_drug_like_molecules_survive_too(data_root):
    data = load("zinc250k", data_root)
    arrays, refused = encode_smiles(data.test[:100], data.elements, data.max_atoms)
    assert not refused
    back = decode_molecules(arrays.x, arrays.adj, data.elements)
    assert all(back.valid)
    neutral = [i for i, line in enumerate(data.test[:100]) if "+" not in line and "-]" not in line]
    assert [back.smiles[i] for i in neutral] == [skeleton(data.test[i]) for i in neutral]


def test_arrays_hold_kekulised_bonds_and_padding_of_zeros():
    (x, adj, mask), _ = encode_smiles(["c1ccoc1", "C#N"], CNOF, 6)
    assert mask.tolist() == [[True] * 5 + [False], [True] * 2 + [False] * 4]
    assert x.sum(-1).tolist() == mask.float().tolist()
    assert x[0].argmax(-1).tolist() == [0, 0, 0, 2, 0, 0]
    assert sorted(adj[0].triu().flatten().tolist())[-5:] == [1, 1, 1, 2, 2]
    assert adj[1, 0, 1] == adj[1, 1, 0] == 3
    assert torch.equal(adj, adj.mT)


def test_malformed_lines_are_listed_and_do_not_end_the_run():
    lines = ["CCO", "C1CC", "", "c1ccc1c", "C[Si]", "CCCCCCCCCC", "not a molecule", "C(C)(C)(C)(C)C", "FC"]
    arrays, refused = encode_smiles(lines, CNOF, 9)
    assert len(arrays.x) == 2
    assert refused == [
        RefusedSmiles(1, "C1CC", "RDKit cannot read it"),
        RefusedSmiles(2, "", "it has no atoms"),
        RefusedSmiles(3, "c1ccc1c", "RDKit cannot read it"),
        RefusedSmiles(4, "C[Si]", "it has the element Si"),
        RefusedSmiles(5, "CCCCCCCCCC", "it has 10 heavy atoms, more than 9"),
        RefusedSmiles(6, "not a molecule", "RDKit cannot read it"),
        RefusedSmiles(7, "C(C)(C)(C)(C)C", "RDKit cannot read it"),
    ]


def test_a_list_without_a_molecule_gives_empty_arrays():
    arrays, refused = encode_smiles(["?"], CNOF, 9)
    assert [part.shape for part in arrays] == [(0, 9, 4), (0, 9, 9), (0, 9)]
    assert len(refused) == 1
    assert decode_molecules(arrays.x, arrays.adj, CNOF).smiles == ()


def test_numbers_are_rounded_to_orders_and_to_the_first_element_above_a_half():
    adj = torch.tensor([[-1.0, 0.49, 0.5, 1.49], [1.5, 2.49, 2.5, 9.0], [torch.nan, 0, 0, 0], [0, 0, 0, 0]])
    x = torch.tensor([[0.2, 0.6, 0.9, 0.0], [0.5, 0.5, 0.5, 0.5], [0, 0, 0, torch.nan], [0, 0, 0, 2.0]])
    atoms, bonds = quantize_molecules(x.unsqueeze(0), adj.unsqueeze(0))
    assert atoms.tolist() == [[1, 4, 4, 3]]
    assert bonds.tolist() == [[[0, 0, 1, 1], [2, 2, 3, 3], [0, 0, 0, 0], [0, 0, 0, 0]]]


def test_rows_without_an_element_and_their_bonds_are_dropped():
    x = torch.tensor([[[1.0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]])
    adj = torch.tensor([[[0, 1.0, 2], [1, 0, 1], [2, 1, 0]]])
    assert decode_molecules(x, adj, CNOF).smiles == ("C=O",)


@pytest.mark.parametrize(
    ("symbols", "bonds", "smiles", "valid"),
    [
        ("CN", [(0, 1, 3)], "C#N", True),
        # Nitrogen with four bonds and oxygen with three become cations, which obey the valences.
        ("NCCCC", [(0, i, 1) for i in range(1, 5)], "C[N+](C)(C)C", True),
        ("OCCC", [(0, i, 1) for i in range(1, 4)], "C[O+](C)C", True),
        # Carbon with five bonds loses one; of equal bonds the first.
        ("CFFFFC", [(0, i, 1) for i in range(1, 6)], "CC(F)(F)F", False),
        ("CCO", [(0, 1, 3), (0, 2, 2)], "C=C=O", False),
        # Fluorine has one bond.
        ("CF", [(0, 1, 2)], "CF", False),
        # Nitrogen with five single bonds is a cation from the fourth on, and loses the fifth.
        ("NCCCCC", [(0, i, 1) for i in range(1, 6)], "C[N+](C)(C)C", False),
        # With a double bond and then a triple one it has two too many at once, and is no cation.
        ("NCC", [(0, 1, 2), (0, 2, 3)], "C=NC", False),
    ],
    ids=["as it is", "ammonium", "oxonium", "five bonds", "highest first", "fluorine", "full cation", "two too many"],
)
def test_valences_are_corrected_bond_by_bond(symbols, bonds, smiles, valid):
    assert decoded(symbols, bonds) == (smiles, valid)


def test_disconnected_molecule_counts_as_valid_and_its_largest_piece_is_kept():
    assert decoded("CCOCCN", [(0, 1, 1), (1, 2, 1), (2, 3, 1), (4, 5, 2)]) == ("CCOC", True)


def test_nothing_at_all_is_no_molecule():
    result = decode_molecules(torch.zeros(1, 9, 4), torch.zeros(1, 9, 9), CNOF)
    assert (result.smiles, result.valid) == ((None,), (False,))


def test_whatever_is_drawn_becomes_a_molecule():
    generator = torch.Generator().manual_seed(0)
    x, adj = torch.rand(200, 9, 4, generator=generator), 3 * torch.rand(200, 9, 9, generator=generator)
    adj[0, 0] = torch.nan
    result = decode_molecules(x, adj, CNOF)
    assert not any(result.valid)
    assert all(Chem.MolFromSmiles(smiles) is not None for smiles in result.smiles)


def test_nitrogen_of_four_bonds_is_a_cation_that_needs_no_correction():
    # The nitrogen has one bond too many after its fourth, and is a cation from then on.
    bonds = np.zeros((5, 5), np.int64)
    for other in range(1, 5):
        bonds[other, 0] = 1
    mol = build_molecule(np.array([1, 0, 0, 0, 0]), bonds, CNOF)
    assert mol.GetAtomWithIdx(0).GetFormalCharge() == 1
    assert correct_valences(mol) == 0


def test_sulfur_of_six_bonds_is_valid_and_of_seven_no_cation():
    bonds = np.zeros((8, 8), np.int64)
    bonds[1:7, 0] = 1
    assert correct_valences(build_molecule(np.array([2] + [1] * 6), bonds[:7, :7], ("C", "F", "S"))) == 0
    bonds[7, 0] = 1
    mol = build_molecule(np.array([2] + [1] * 7), bonds, ("C", "F", "S"))
    assert mol.GetAtomWithIdx(0).GetFormalCharge() == 0
    assert correct_valences(mol) == 1


@pytest.mark.plain
def test_an_empty_cell_of_a_table_is_listed_as_any_other_line():
    arrays, refused = encode_smiles(["CCO", float("nan"), None], CNOF, 9)
    assert len(arrays.x) == 1
    assert refused == [RefusedSmiles(1, "nan", "it is not text"), RefusedSmiles(2, "None", "it is not text")]


def test_symbols_of_no_element_are_refused():
    with pytest.raises(ValueError, match="elements must be symbols of chemical elements, got 'Xx'"):
        encode_smiles(["CCO"], ("C", "Xx"), 9)


def test_columns_without_their_element_are_refused():
    with pytest.raises(ValueError, match="elements must be 4, one for each column of x, got 3"):
        decode_molecules(torch.zeros(1, 2, 4), torch.zeros(1, 2, 2), ("C", "N", "O"))


@pytest.mark.parametrize("smiles", ["C~C", "C->O", "O<-C"])
def test_bonds_that_arrays_cannot_hold_are_refused(smiles):
    arrays, refused = encode_smiles(["CC", smiles], CNOF, 4)
    assert len(arrays.x) == 1
    assert refused == [RefusedSmiles(1, smiles, "it has a bond that is not single, double or triple")]


def test_ions_are_taken_where_the_molecule_without_charges_exists():
    elements = ("B", "C", "N", "O", "P", "F")
    kept = ["C[N+](C)(C)C", "C[N+](=O)[O-]", "[NH4+]", "C[O+](C)C", "[C-]#[O+]"]
    broken = ["C[B-](C)(C)C", "F[P-](F)(F)(F)(F)F"]
    arrays, refused = encode_smiles([*kept, *broken], elements, 7)
    assert [line.smiles for line in refused] == broken
    assert {line.reason for line in refused} == {"without its charges it breaks the rules of valence"}
    assert all(decode_molecules(arrays.x, arrays.adj, elements).valid)

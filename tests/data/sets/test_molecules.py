"""Molecule sets: one SMILES a line, a split that never changes, and a note of what the set leaves out."""

import logging

from aleator.data.sets.load import load


def test_qm9_is_split_once_and_for_all(data_root):
    data = load("qm9", data_root)
    assert (len(data.train), len(data.test)) == (107_460, 11_939)
    assert not set(data.train) & set(data.test)
    assert data.train[:2] == ("CC#Cc1ccn[nH]1", "CN1[C@H]2C[C@]1(C=O)[C@H]2O")
    assert (data.elements, data.max_atoms) == (("C", "N", "O", "F"), 9)


def test_zinc_keeps_its_published_parts(data_root):
    data = load("zinc250k", data_root)
    assert (len(data.train), len(data.test)) == (24_445, 5_000)
    assert data.train[0] == "CCN(Cc1ccc(OC)c(OC)c1)C(=O)c1ccsc1"
    assert data.max_atoms == 38


def test_what_the_mirror_lacks_is_said_when_loaded(data_root, caplog):
    with caplog.at_level(logging.WARNING, "aleator.data"):
        data = load("zinc250k", data_root)
    assert "no training part" in caplog.text
    assert any("no training part" in note for note in data.notes)

"""Shares counted by hand, and NSPDK as the authors' library computes it."""

import logging
import sys
import types
from importlib import import_module

import pytest

from aleator.data import load
from aleator.graphs import DecodedMolecules, molecule_metrics, nspdk_mmd
from aleator.graphs.molecule_metrics import _say_what_is_missing


def test_shares_by_hand(caplog):
    generated = DecodedMolecules(("CCO", "OCC", "CC", "CN", None), (True, True, False, True, False))
    _say_what_is_missing.cache_clear()
    with caplog.at_level(logging.WARNING, "aleator.graphs"):
        metrics = molecule_metrics(generated, train=["CC", "bad line", "C[C@H](N)O"], test=["CCO"])
    assert metrics["validity"] == 3 / 5
    assert metrics["uniqueness"] == 3 / 4
    assert metrics["novelty"] == 2 / 3
    assert "fcd" in metrics or "fcd_torch" in caplog.text


def test_the_training_set_is_read_once(monkeypatch):
    module, read = import_module("aleator.graphs.molecule_metrics"), []
    canonical = module._canonical
    monkeypatch.setattr(module, "_canonical", lambda smiles: canonical(read.append(text) or text for text in smiles))
    for generated, novelty in ((["CCBr"], 0), (["OCC", "CN"], 1 / 2)):
        metrics = molecule_metrics(generated, train=("CCO", "CCCl", "CCBr"), test=["CC"])
        assert metrics["novelty"] == novelty
    assert read.count("CCCl") == 1


def test_smiles_that_cannot_be_read_are_not_valid():
    metrics = molecule_metrics(["CC", "C1C", "", "C[C@H](N)O"], train=["CC(N)O"], test=["CC"])
    assert (metrics["validity"], metrics["uniqueness"], metrics["novelty"]) == (1 / 2, 1, 1 / 2)


def test_chemnet_distance_is_that_of_its_package(monkeypatch):
    asked = []

    class FCD:
        def __init__(self, **options):
            pass

        def __call__(self, reference, generated):
            asked.append((reference, generated))
            return 2.5

    module = types.ModuleType("fcd_torch")
    module.__spec__ = types.SimpleNamespace()
    module.FCD = FCD
    monkeypatch.setitem(sys.modules, "fcd_torch", module)
    assert molecule_metrics(["OCC"], ["C"], ["CN"])["fcd"] == 2.5
    assert asked == [(["CN"], ["CCO"])]


@pytest.mark.parametrize("generated", [[], ["C1C"], DecodedMolecules((None,), (False,))], ids=["none", "bad", "empty"])
def test_nothing_generated_is_refused(generated):
    with pytest.raises(ValueError, match="generated must hold at least one molecule that RDKit can read, got none"):
        molecule_metrics(generated, ["C"], ["C"])


def test_single_atoms_have_nothing_in_common():
    assert nspdk_mmd(["C"], ["C", "C"]) == 0
    assert nspdk_mmd(["C"], ["N"]) == pytest.approx(2, abs=1e-12)
    # Half of each: ‖(a + b)/2 - a‖² = ½ for unit vectors at right angles.
    assert nspdk_mmd(["C", "N"], ["C"]) == pytest.approx(0.5, abs=1e-12)


def test_nspdk_is_the_value_of_eden_without_collisions():
    """0.3659556518043541 is EDeN's, as the official evaluation calls it, with 2^30 buckets (0.36434 with its 2^16)."""
    reference = ["CC(=O)Oc1ccccc1C(=O)O", "CCO", "C1CC1N"]
    generated = ["CCN(CC)CC", "c1ccoc1", "N#CC=O", "CCO"]
    assert nspdk_mmd(reference, generated) == pytest.approx(0.3659556518043541, abs=1e-12)


def test_spelling_and_order_of_the_molecules_do_not_matter():
    a, b = ["CCO", "c1ccoc1", "NC=O"], ["CC", "OCC=N"]
    same = nspdk_mmd(["NC=O", "OCC", "C1=CC=CO1"], ["N=CCO", "CC"])
    assert nspdk_mmd(a, b) == pytest.approx(same, abs=1e-12)
    assert nspdk_mmd(b, a) == pytest.approx(same, abs=1e-12)


def test_batches_of_molecules_give_the_mean_over_all(data_root, monkeypatch):
    lines = load("qm9", data_root).test[:50]
    expected = nspdk_mmd(lines[:30], lines[30:])
    monkeypatch.setattr("aleator.graphs.nspdk._BATCH", 7)
    assert nspdk_mmd(lines[:30], lines[30:]) == pytest.approx(expected, abs=1e-12)
    assert nspdk_mmd(lines * 2, lines) == pytest.approx(0, abs=1e-12)
    assert expected > 0.01


def test_a_reference_that_cannot_be_read_is_refused():
    with pytest.raises(ValueError, match="reference must hold at least one molecule that RDKit can read, got none"):
        nspdk_mmd(["C1"], ["C"])


def test_what_was_not_made_counts_as_invalid_and_is_left_out_of_distances():
    metrics = molecule_metrics(["CC", None, "CN", None], train=["CC", None], test=["CC", None])
    assert (metrics["validity"], metrics["uniqueness"], metrics["novelty"]) == (1 / 2, 1, 1 / 2)
    assert metrics["nspdk"] == nspdk_mmd(["CC"], ["CC", "CN"]) == nspdk_mmd([None, "CC"], ["CC", None, "CN"])

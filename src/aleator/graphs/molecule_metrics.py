"""Measures of generated molecules: whether they are valid, different, new, and like the real ones.

Validity is the share that obeyed the valences before any correction. Uniqueness is the share of different molecules
among those generated, novelty the share of the different ones that the training set lacks; both compare canonical
SMILES without stereo marks, which arrays of atoms and bonds cannot hold. The NSPDK discrepancy compares with the test
set as labelled graphs, the Fréchet ChemNet distance through the activations of a network trained on drug effects.

D. Polykovskiy et al., "Molecular Sets (MOSES)", Frontiers in Pharmacology 2020; K. Preuer et al., "Fréchet ChemNet
distance", J. Chem. Inf. Model. 58(9), 2018.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache

from aleator.graphs.molecules import DecodedMolecules
from aleator.graphs.nspdk import nspdk_mmd
from aleator.graphs.rdkit_door import chem, read_molecules, silence

_LOG = logging.getLogger("aleator.graphs")


def molecule_metrics(
    generated: DecodedMolecules | Sequence[str | None], train: Sequence[str | None], test: Sequence[str | None]
) -> dict[str, float]:
    """Return what is usually reported of generated molecules.

    Args:
        generated: what `decode_molecules` returns; or SMILES, of which those that RDKit can read are the valid ones,
            and None, where no molecule was made, is not.
        train: SMILES of the training molecules, for the novelty. What is no molecule is left out.
        test: SMILES of the test molecules, for the distances, likewise.

    Returns:
        ``"validity"``, ``"uniqueness"`` and ``"novelty"``, shares between 0 and 1; ``"nspdk"``, see `nspdk_mmd`; and
        ``"fcd"`` if the package ``fcd_torch`` is installed; where it is not, the log has a line about it. A training
        molecule with charges or radicals does not equal its image in arrays, which has neither; for a novelty that
        ignores them, pass the training SMILES through `encode_smiles` and `decode_molecules`.

    Raises:
        ValueError: if nothing was generated that is a molecule, or the test set has none.
        ModuleNotFoundError: if RDKit is not installed.
    """
    if isinstance(generated, DecodedMolecules):
        total, valid = len(generated.valid), sum(generated.valid)
        canonical = _canonical(smiles for smiles in generated.smiles if smiles)
    else:
        canonical = _canonical(generated)
        total, valid = len(generated), len(canonical)
    if not canonical:
        raise ValueError(f"generated must hold at least one molecule that RDKit can read, got none in {total}")
    different = set(canonical)
    metrics = {
        "validity": valid / total,
        "uniqueness": len(different) / len(canonical),
        "novelty": len(different.difference(_distinct(tuple(train)))) / len(different),
        "nspdk": nspdk_mmd(test, canonical),
    }
    if importlib.util.find_spec("fcd_torch") is None:
        _say_what_is_missing()
        return metrics
    from fcd_torch import FCD

    return metrics | {"fcd": float(FCD(device="cpu", n_jobs=1)(_canonical(test), canonical))}


@cache
def _say_what_is_missing() -> None:  # once, however often something is measured
    _LOG.warning("no Fréchet ChemNet distance: it needs the package fcd_torch")


@lru_cache(maxsize=1)  # a large training set takes most of a minute, and is asked for at every validation
def _distinct(smiles: tuple[str | None, ...]) -> frozenset[str]:
    return frozenset(_canonical(smiles))


def _canonical(smiles: Iterable[str | None]) -> list[str]:
    """Return canonical SMILES without stereo marks, of the molecules that RDKit can read and that have atoms."""
    with silence():
        return [chem().MolToSmiles(mol, isomericSmiles=False) for mol in read_molecules(smiles)]

"""Graphs and molecules: what a generator's arrays stand for, and how far it is from real ones."""

from aleator.graphs.graph_metrics import graph_mmd
from aleator.graphs.molecule_metrics import molecule_metrics
from aleator.graphs.molecules import (
    DecodedMolecules,
    MoleculeArrays,
    RefusedSmiles,
    decode_molecules,
    encode_smiles,
    quantize_molecules,
)
from aleator.graphs.nspdk import nspdk_mmd
from aleator.graphs.orbits import orbit_counts

__all__ = [
    "DecodedMolecules",
    "MoleculeArrays",
    "RefusedSmiles",
    "decode_molecules",
    "encode_smiles",
    "graph_mmd",
    "molecule_metrics",
    "nspdk_mmd",
    "orbit_counts",
    "quantize_molecules",
]

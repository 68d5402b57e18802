"""Graphs and molecules: dense batches, networks for their scores, GDSS, and what generated ones are worth."""

from aleator.graphs.dense_batch import (
    DenseBatch,
    check_adjacency,
    degree_agreement,
    degree_features,
    dense_batch,
    mask_adj,
    mask_x,
    node_flags,
    quantize,
    shuffled_agreement,
)
from aleator.graphs.gdss import GDSS, Fit, GraphLoss, GraphSamples
from aleator.graphs.graph_metrics import graph_mmd
from aleator.graphs.graph_noise import graph_noise, symmetric_noise
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
from aleator.graphs.score_network_a import ScoreNetworkA
from aleator.graphs.score_network_x import ScoreNetworkX, ScoreNetworkX_GMH

__all__ = [
    "GDSS",
    "DecodedMolecules",
    "DenseBatch",
    "Fit",
    "GraphLoss",
    "GraphSamples",
    "MoleculeArrays",
    "RefusedSmiles",
    "ScoreNetworkA",
    "ScoreNetworkX",
    "ScoreNetworkX_GMH",
    "check_adjacency",
    "decode_molecules",
    "degree_agreement",
    "degree_features",
    "dense_batch",
    "encode_smiles",
    "graph_mmd",
    "graph_noise",
    "mask_adj",
    "mask_x",
    "molecule_metrics",
    "node_flags",
    "nspdk_mmd",
    "orbit_counts",
    "quantize",
    "quantize_molecules",
    "shuffled_agreement",
    "symmetric_noise",
]

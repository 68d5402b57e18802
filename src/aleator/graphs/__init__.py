"""Graphs: dense batches, networks for their scores, and GDSS, which generates node features and edges together."""

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
)
from aleator.graphs.gdss import GDSS, Fit, GraphLoss, GraphSamples
from aleator.graphs.graph_noise import graph_noise, symmetric_noise
from aleator.graphs.score_network_a import ScoreNetworkA
from aleator.graphs.score_network_x import ScoreNetworkX, ScoreNetworkX_GMH

__all__ = [
    "GDSS",
    "DenseBatch",
    "Fit",
    "GraphLoss",
    "GraphSamples",
    "ScoreNetworkA",
    "ScoreNetworkX",
    "ScoreNetworkX_GMH",
    "check_adjacency",
    "degree_agreement",
    "degree_features",
    "dense_batch",
    "graph_noise",
    "mask_adj",
    "mask_x",
    "node_flags",
    "quantize",
    "symmetric_noise",
]

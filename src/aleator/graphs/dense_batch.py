"""Graphs of different sizes as one batch of dense tensors, and back.

    x: node features [batch, N, F],  adj: [batch, N, N], symmetric, zero diagonal,  mask: which nodes exist [batch, N]

Rows of x, and rows and columns of adj, that belong to no node are zero. In the graphs of J. Jo et al. (ICML 2022, arXiv
2202.02514) the features of a node are its degree, one-hot, and a node exists if it has an edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

_PRESENT = 1e-5  # a node exists if the absolute entries of its row sum to more
_EDGE = 0.5


class DenseBatch(NamedTuple):
    """A batch of graphs.

    Attributes:
        x: node features, zero where there is no node.
        adj: adjacency matrices, zero where there is no node.
        mask: True for nodes, False for padding.
    """

    x: Float[Tensor, "batch nodes features"]
    adj: Float[Tensor, "batch nodes nodes"]
    mask: Bool[Tensor, "batch nodes"]


def mask_x(x: Float[Tensor, "batch nodes features"], mask: Bool[Tensor, "batch nodes"]) -> Tensor:
    """Return the node features with rows of padding set to zero."""
    return x * mask.unsqueeze(-1)


def mask_adj(adj: Float[Tensor, "*channels batch nodes nodes"], mask: Bool[Tensor, "batch nodes"]) -> Tensor:
    """Return adjacency matrices with rows and columns of padding set to zero."""
    return adj * (mask.unsqueeze(-1) & mask.unsqueeze(-2))


def node_flags(adj: Float[Tensor, "batch nodes nodes"]) -> Bool[Tensor, "batch nodes"]:
    """Return which nodes have an edge, ``Σ_j |A_ij| > 1e-5``: an isolated node counts as padding, as published."""
    return adj.abs().sum(-1) > _PRESENT


def dense_batch(
    graphs: Sequence[Any],
    features: int,
    max_nodes: int | None = None,
    *,
    keep_isolated: bool = False,
) -> DenseBatch:
    """Return graphs as one batch, with degrees as node features.

    Args:
        graphs: networkx graphs, pairs (number of nodes, edges) as in `aleator.data`, or square adjacency matrices as
            tensors or arrays. A networkx graph counts as its adjacency matrix, with directions and weights.
        features: the width F of one-hot degrees.
        max_nodes: N, by default the size of the largest graph.
        keep_isolated: whether nodes without an edge are nodes; otherwise they are padding, see `node_flags`.

    Raises:
        ValueError: if there are no graphs, one is larger than N or has a degree of F or more, a matrix is not square,
            not symmetric, not of zeros and ones or has a diagonal, or an edge is a loop or has an end that is no node.
        TypeError: if something is none of the forms of a graph.
    """
    matrices = [as_matrix(graph, f"graphs[{index}]") for index, graph in enumerate(graphs)]
    if not matrices:
        raise ValueError("graphs must hold at least one graph, got none")
    largest = max(len(matrix) for matrix in matrices)
    width = largest if max_nodes is None else max_nodes
    if width < largest:
        raise ValueError(f"max_nodes must be at least {largest}, the nodes of the largest graph, got {max_nodes}")
    adj = torch.stack([F.pad(matrix, (0, width - len(matrix)) * 2) for matrix in matrices])
    check_adjacency(adj)
    sizes = torch.tensor([len(matrix) for matrix in matrices])
    mask = torch.arange(width) < sizes.unsqueeze(-1) if keep_isolated else node_flags(adj)
    return DenseBatch(degree_features(adj, mask, features), adj, mask)


def check_adjacency(adj: Float[Tensor, "batch nodes nodes"]) -> None:
    """Refuse matrices that are not finite, not symmetric or have a diagonal.

    Raises:
        ValueError: naming the first entry that is wrong.
    """
    diagonal = torch.diag_embed(adj.diagonal(dim1=-2, dim2=-1))
    for what, wrong in (
        ("finite", ~adj.isfinite()),
        ("symmetric", adj != adj.mT),
        ("zero on the diagonal", diagonal != 0),
    ):
        if bool(wrong.any()):
            graph, i, j = wrong.nonzero()[0].tolist()
            raise ValueError(f"adj must be {what}, got {adj[graph, i, j]:g} in row {i}, column {j} of graph {graph}")


def degree_features(
    adj: Float[Tensor, "batch nodes nodes"], mask: Bool[Tensor, "batch nodes"], features: int
) -> Float[Tensor, "batch nodes features"]:
    """Return one-hot degrees of graphs of zeros and ones, zero where there is no node.

    Raises:
        ValueError: if a degree is F or more, or an entry is neither 0 nor 1.
    """
    if bool((wrong := (adj != 0) & (adj != 1)).any()):
        raise ValueError(f"adj must be of zeros and ones for its degrees to be features, got {adj[wrong][0]:g}")
    degrees = adj.sum(-1).round().long()
    largest = int(degrees.max()) if degrees.numel() else 0
    if features <= largest:
        raise ValueError(f"features must be more than {largest}, the largest degree, got {features}")
    return mask_x(F.one_hot(degrees, features).to(adj.dtype), mask)


def quantize(adj: Float[Tensor, "batch nodes nodes"], mask: Bool[Tensor, "batch nodes"]) -> list[Tensor]:
    """Return the graphs that generated matrices stand for, as matrices of zeros and ones of their own sizes.

    An entry of 0.5 or more is an edge; what is not a number is none. Loops go, then nodes without an edge; of a graph
    without edges one node stays.
    """
    graphs = []
    for matrix in _edges(adj, mask).cpu():
        kept = matrix.any(-1).nonzero().squeeze(-1)
        graphs.append(matrix[kept][:, kept].to(torch.float32) if len(kept) else torch.zeros(1, 1))
    return graphs


def degree_agreement(
    x: Float[Tensor, "batch nodes features"],
    adj: Float[Tensor, "batch nodes nodes"],
    mask: Bool[Tensor, "batch nodes"],
) -> float:
    """Return the share of nodes whose largest feature names their degree.

    By itself it says little: features and degrees that were drawn apart from each other agree as often as two degrees
    of the data do. What x and adj have to do with each other is this less `shuffled_agreement`.
    """
    agree = x.argmax(-1) == _edges(adj, mask).sum(-1)
    return float(agree[mask].double().mean())


def shuffled_agreement(
    x: Float[Tensor, "batch nodes features"],
    adj: Float[Tensor, "batch nodes nodes"],
    mask: Bool[Tensor, "batch nodes"],
) -> float:
    """Return what `degree_agreement` is on the average after shuffling the features among a graph's own nodes.

    With a graph's n nodes, of which f_k have the feature k and d_k the degree k, Σ_k f_k d_k / n of them agree on the
    average over all orders; that is exact, so nothing is drawn. As a baseline it keeps all that features and degrees
    share by being of the same graph, such as its size, and leaves out which node has which.
    """
    width = max(x.shape[-1], adj.shape[-1])
    named, found = (
        (F.one_hot(number, width) * mask.unsqueeze(-1)).sum(1).double()
        for number in (x.argmax(-1), _edges(adj, mask).sum(-1))
    )
    nodes = mask.sum(-1)
    return float(((named * found).sum(-1) / nodes.clamp(min=1)).sum() / nodes.sum())


def _edges(adj: Tensor, mask: Tensor) -> Tensor:
    loops = torch.eye(adj.shape[-1], dtype=torch.bool, device=adj.device)
    return mask_adj(adj, mask).ge(_EDGE) & ~loops


def as_matrix(graph: Any, name: str) -> Tensor:
    """Return the adjacency matrix of a graph in any form that `dense_batch` takes.

    Raises:
        ValueError: if a matrix is not square, an edge is a loop or has an end that is no node, or a weight no number.
        TypeError: if it is none of the forms.
    """
    if isinstance(graph, (Tensor, np.ndarray)):
        matrix = torch.as_tensor(graph, dtype=torch.float32, device="cpu")
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"{name} must be a square matrix, got shape {list(matrix.shape)}")
        return matrix
    if isinstance(graph, tuple):
        nodes, edges = int(graph[0]), np.asarray(graph[1], np.int64).reshape(-1, 2)
    elif not (hasattr(graph, "nodes") and hasattr(graph, "edges")):
        raise TypeError(f"{name} must be a networkx graph, (nodes, edges) or a matrix, got {type(graph).__name__}")
    else:
        return _of_networkx(graph, name)
    for u, v in edges.tolist():
        if u == v or not (0 <= u < nodes and 0 <= v < nodes):
            raise ValueError(f"{name}: an edge must join two different nodes of 0 to {nodes - 1}, got ({u}, {v})")
    matrix = torch.zeros(nodes, nodes)
    u, v = torch.from_numpy(edges).T
    matrix[u, v] = matrix[v, u] = 1
    return matrix


def _of_networkx(graph: Any, name: str) -> Tensor:
    """Return the adjacency matrix with what the graph says: direction, weights, and how often two nodes are joined.

    So what a matrix is refused for, a graph is.
    """
    number = {node: index for index, node in enumerate(graph.nodes)}
    matrix = torch.zeros(len(number), len(number))
    for u, v, weight in graph.edges(data="weight", default=1):
        i, j = number[u], number[v]
        if i == j:
            raise ValueError(f"{name}: an edge must join two different nodes, got a loop at {u!r}")
        if not isinstance(weight, (int, float, np.number)) or weight == 0:
            raise ValueError(f"{name}: a weight must be a number other than 0, got {weight!r} at ({u!r}, {v!r})")
        matrix[i, j] += float(weight)
        if not graph.is_directed():
            matrix[j, i] += float(weight)
    return matrix

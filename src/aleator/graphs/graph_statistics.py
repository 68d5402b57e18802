"""A graph in one row of numbers: its degrees, clustering coefficients, orbits and spectrum.

Each statistic is a histogram over the nodes (or eigenvalues) of a graph, scaled to sum to 1; for the orbits it is the
mean of the nodes' counts, not scaled. Graphs of a similar size are padded with isolated nodes to a batch of dense
matrices, so that each statistic is a few products of matrices, and the padding is not counted.

J. You et al., "GraphRNN: generating realistic graphs with deep auto-regressive models", ICML 2018 (degree, clustering,
orbits); R. Liao et al., "Efficient graph generation with graph recurrent attention networks", NeurIPS 2019 (spectrum).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int64
from scipy.linalg import eigvalsh
from torch import Tensor

from aleator.data import Graph
from aleator.graphs.dense_batch import as_matrix
from aleator.graphs.orbits import NUM_ORBITS, orbit_counts

Statistic = Literal["degree", "clustering", "orbit", "spectral"]
Spectrum = Literal["whole", "official"]
GraphLike = Any  # what `as_graphs` takes

CLUSTERING_BINS = 100  # on [0, 1]
SPECTRAL_BINS = 200  # on [-1e-5, 2], where the eigenvalues of a normalised Laplacian lie
_ENTRIES = 2**21  # of a batch of matrices: 16 MB


class _Batch(NamedTuple):
    """Graphs of similar size: their places in the list, their adjacency matrices, and which nodes are theirs."""

    places: Int64[Tensor, " batch"]
    adjacency: Float64[Tensor, "batch nodes nodes"]
    sizes: Int64[Tensor, " batch"]

    @property
    def own(self) -> Tensor:
        """True for a graph's own nodes, False for the padding."""
        return torch.arange(self.adjacency.shape[-1]) < self.sizes.unsqueeze(-1)


def as_graphs(graphs: Sequence[GraphLike], name: str) -> list[Graph]:
    """Return adjacency matrices, networkx graphs and pairs (nodes, edges) as graphs, after a check of each.

    Raises:
        ValueError: if there are no graphs, a graph has no nodes, or a matrix is not symmetric, not of zeros and ones,
            or has loops. The message says which one.
        TypeError: if something is none of these forms.
    """
    if len(graphs) == 0:
        raise ValueError(f"{name} must hold at least one graph, got none")
    checked = []
    for index, graph in enumerate(graphs):
        found = graph if isinstance(graph, Graph) else _from_any(graph, f"{name}[{index}]")
        if found.num_nodes == 0:
            raise ValueError(f"{name}[{index}] must have at least one node, got none")
        checked.append(found)
    return checked


def _from_any(graph: GraphLike, name: str) -> Graph:
    matrix = graph if isinstance(graph, (Tensor, np.ndarray)) else as_matrix(graph, name)
    a = matrix.detach().cpu().numpy() if isinstance(matrix, Tensor) else np.asarray(matrix)
    if a.ndim != 2 or a.shape[0] != a.shape[1]:
        raise ValueError(f"{name} must be a square matrix, got the shape {list(a.shape)}")
    present = a != 0
    if (a[present] != 1).any():
        raise ValueError(f"{name} must be of zeros and ones, got {a[present & (a != 1)][0]:g}")
    if (present != present.T).any():
        raise ValueError(f"{name} must be symmetric, got different entries at {np.argwhere(present != present.T)[0]}")
    if present.diagonal().any():
        raise ValueError(f"{name} must have no loops, got one at node {int(np.argmax(present.diagonal()))}")
    return Graph(len(a), np.argwhere(np.triu(present)))


def graph_statistics(
    graphs: Sequence[Graph], stats: Sequence[Statistic], spectrum: Spectrum = "whole"
) -> dict[Statistic, Float64[Tensor, "graphs width"]]:
    """Return one row for each graph and statistic.

    Args:
        graphs: checked by `as_graphs`.
        stats: which statistics.
        spectrum: ``"whole"`` counts all eigenvalues; ``"official"`` leaves out those that rounding puts above 2, see
            `official_spectrum`.

    Returns:
        ``"degree"``: the share of nodes of degree 0, 1, …, up to the largest of the list. ``"clustering"``: the share
        of nodes whose coefficient lies in each of 100 bins on [0, 1]. ``"orbit"``: the 15 mean counts. ``"spectral"``:
        the share of eigenvalues of the normalised Laplacian in each of 200 bins on [-1e-5, 2].
    """
    degrees = 1 + max(int(np.bincount(g.edges.ravel(), minlength=1).max()) for g in graphs)
    width = {"degree": degrees, "clustering": CLUSTERING_BINS, "orbit": NUM_ORBITS, "spectral": SPECTRAL_BINS}
    rows = {stat: torch.zeros(len(graphs), width[stat], dtype=torch.float64) for stat in stats}
    for batch in _batches(graphs):
        for stat in stats:
            if stat != "spectral" or spectrum == "whole":
                rows[stat][batch.places] = _ROW_OF[stat](batch, width[stat])
    if "spectral" in stats and spectrum == "official":
        rows["spectral"] = torch.stack([official_spectrum(graph) for graph in graphs])
    return rows


def official_spectrum(graph: Graph) -> Float64[Tensor, " bins"]:
    """Return the histogram of eigenvalues as the code of published figures has it (GRAN, GDSS, SPECTRE).

    A component that is bipartite has the eigenvalue 2, and where rounding makes it 2 + 4·10⁻¹⁶, that code's histogram
    on [-1e-5, 2] leaves it out. So the row depends on the numbering of the nodes and on the eigenvalue routine, which
    is SciPy's on the matrix of one graph here, as there.
    """
    adjacency = graph.adjacency().double().numpy()
    degree = adjacency.sum(-1)
    scale = np.divide(1.0, np.sqrt(degree), out=np.zeros_like(degree), where=degree > 0)
    laplacian = scale[:, None] * ((np.diag(degree) - adjacency) * scale)  # in the order of networkx
    counts, _ = np.histogram(eigvalsh(laplacian), bins=SPECTRAL_BINS, range=(-1e-5, 2))
    return torch.from_numpy(counts / counts.sum())


def _batches(graphs: Sequence[Graph]) -> Iterator[_Batch]:
    sizes = np.array([graph.num_nodes for graph in graphs])
    edges = np.array([len(graph.edges) for graph in graphs])
    order = np.argsort(-sizes, kind="stable")
    start = 0
    while start < len(order):
        n = int(sizes[order[start]])
        similar = start + int(np.searchsorted(-sizes[order[start:]], -0.7 * n, side="right"))
        rows = max(n, int(edges[order[start:similar]].max()))  # the counting of orbits holds a row for each edge
        end = min(similar, start + max(1, _ENTRIES // (n * rows)))
        places = order[start:end]
        batch = torch.from_numpy(np.repeat(np.arange(len(places)), edges[places]))
        u, v = torch.from_numpy(np.concatenate([graphs[i].edges for i in places])).T
        adjacency = torch.zeros(len(places), n, n, dtype=torch.float64)
        adjacency[batch, u, v] = adjacency[batch, v, u] = 1
        yield _Batch(torch.from_numpy(places), adjacency, torch.from_numpy(sizes[places]))
        start = end


def _histogram(bins: Tensor, counted: Tensor, width: int) -> Tensor:
    """Return the share of the counted entries of each row in each bin."""
    counts = torch.zeros(len(bins), width, dtype=torch.float64)
    counts.scatter_add_(1, bins, counted.to(torch.float64))
    return counts / counts.sum(-1, keepdim=True)


def _bins(values: Tensor, low: float, high: float, width: int) -> Tensor:
    """Return the bin of each value, with the edges of ``numpy.histogram``; the end bins take what lies beyond."""
    edges = torch.from_numpy(np.linspace(low, high, width + 1))
    return (torch.searchsorted(edges, values.contiguous(), right=True) - 1).clamp_(0, width - 1)


def _degree(batch: _Batch, width: int) -> Tensor:
    return _histogram(batch.adjacency.sum(-1).long(), batch.own, width)


def _clustering(batch: _Batch, width: int) -> Tensor:
    a = batch.adjacency
    degree = a.sum(-1)
    closed = (a * (a @ a)).sum(-1)  # twice the triangles at a node
    coefficient = closed / (degree * (degree - 1)).clamp(min=1)
    return _histogram(_bins(coefficient, 0.0, 1.0, width), batch.own, width)


def _orbit(batch: _Batch, width: int) -> Tensor:
    return orbit_counts(batch.adjacency).sum(-2) / batch.sizes.unsqueeze(-1)


def _spectral(batch: _Batch, width: int) -> Tensor:
    a = batch.adjacency
    degree = a.sum(-1)
    scale = torch.where(degree > 0, degree.clamp(min=1).rsqrt(), 0.0)
    laplacian = torch.diag_embed((degree > 0).double()) - scale.unsqueeze(-1) * a * scale.unsqueeze(-2)
    # The padding's eigenvalue lies above all others, which come in rising order.
    laplacian += torch.diag_embed(4.0 * ~batch.own)
    return _histogram(_bins(torch.linalg.eigvalsh(laplacian), -1e-5, 2.0, width), batch.own, width)


_ROW_OF: dict[Statistic, Callable[[_Batch, int], Tensor]] = {
    "degree": _degree,
    "clustering": _clustering,
    "orbit": _orbit,
    "spectral": _spectral,
}

"""Graph metrics: the discrepancy of two sets of 1,000 graphs, and orbit counts against looking at every small subgraph.

The graphs are drawn from community-small with replacement, against random graphs of the same sizes and numbers of
edges, so that no two pairs are alike. One thread. The peer of the discrepancy is the published way: a kernel at a time,
here on 5 of the 1,000 rows of pairs, its time scaled to all; the peer of the counts is networkx.
"""

from __future__ import annotations

import itertools
from collections import Counter
from functools import partial
from typing import Any

import networkx as nx
import numpy as np
import torch
from scipy.stats import wasserstein_distance

from aleator.data import Graph, load
from aleator.graphs import graph_mmd, orbit_counts
from aleator.graphs.graph_statistics import as_graphs, graph_statistics
from benchmarks.pairs import Pairs, interleave

_GRAPHS = 1000
_PEER_ROWS = 5


def benchmark() -> list[dict[str, Any]]:
    """Return the time of the discrepancy, against one kernel at a time, and of the counts, against networkx."""
    rng = np.random.default_rng(0)
    train = load("community-small").train
    reference = [train[i] for i in rng.integers(len(train), size=_GRAPHS)]
    generated = [_matched(graph, rng) for graph in reference]
    whole = interleave(partial(graph_mmd, reference, generated), partial(_one_by_one, reference, generated), pairs=3)
    scale = _GRAPHS / _PEER_ROWS
    whole = Pairs(whole.ours, [seconds * scale for seconds in whole.peer])
    batch, graphs = _dense(generated[:50]), [_networkx(graph) for graph in generated[:50]]
    counts = interleave(partial(orbit_counts, batch), lambda: [_subgraphs(graph) for graph in graphs], pairs=3)
    return [
        whole.row("degree, clustering and orbit MMD of 1,000 × 1,000 graphs", "a kernel at a time, scaled", "< 2 s"),
        counts.row("orbit counts of 50 graphs of 12 to 20 nodes", "networkx, every subgraph of 2 to 4 nodes", "≥ 50"),
    ]


def _matched(graph: Graph, rng: np.random.Generator) -> Graph:
    """Return a random graph with the number of nodes and edges of another."""
    pairs = np.array(list(itertools.combinations(range(graph.num_nodes), 2)))
    return Graph(graph.num_nodes, pairs[rng.choice(len(pairs), len(graph.edges), replace=False)])


def _one_by_one(reference: list[Graph], generated: list[Graph]) -> None:
    """Compute the kernels of some rows of each block of pairs, one pair at a time, of SciPy's distance on a line."""
    graphs = as_graphs(reference, "reference") + as_graphs(generated, "generated")
    for stat, rows in graph_statistics(graphs, ("degree", "clustering", "orbit")).items():
        table = rows.numpy()
        bins = np.arange(table.shape[1])
        own, other = table[:_GRAPHS], table[_GRAPHS:]
        for a, b in ((own, own), (other, other), (own, other)):
            for p, q in itertools.product(a[:_PEER_ROWS], b):
                distance = np.linalg.norm(p - q) if stat == "orbit" else wasserstein_distance(bins, bins, p, q)
                np.exp(-(distance**2) / 2)


def _dense(graphs: list[Graph]) -> torch.Tensor:
    batch = torch.zeros(len(graphs), *2 * [max(graph.num_nodes for graph in graphs)], dtype=torch.float64)
    for adjacency, graph in zip(batch, graphs, strict=True):
        adjacency[: graph.num_nodes, : graph.num_nodes] = graph.adjacency()
    return batch


def _networkx(graph: Graph) -> Any:
    return nx.from_numpy_array(graph.adjacency().numpy())


def _subgraphs(graph: Any) -> Counter[tuple[int, ...]]:
    """Count the connected induced subgraphs of 2 to 4 nodes at each node; four numbers tell its orbit there."""
    counts: Counter[tuple[int, ...]] = Counter()
    for size in (2, 3, 4):
        for nodes in itertools.combinations(graph, size):
            part = graph.subgraph(nodes)
            if nx.is_connected(part):
                degrees = dict(part.degree())
                shape = size, sum(degrees.values()), max(degrees.values())
                counts.update((node, *shape, degree) for node, degree in degrees.items())
    return counts

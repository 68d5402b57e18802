"""Orbit counts: by hand on the graphs that name them, and by looking at every small subgraph of random graphs."""

import itertools

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aleator.graphs import orbit_counts


def counted(graph):
    return orbit_counts(torch.from_numpy(nx.to_numpy_array(graph)).unsqueeze(0))[0]


def brute_force(graph):
    """Look at every connected induced subgraph of two to four nodes; a node's place follows from the degrees in it."""
    place = {  # by the degrees in the subgraph, sorted, and the node's own
        (1, 1): {1: 0},
        (1, 1, 2): {1: 1, 2: 2},
        (2, 2, 2): {2: 3},
        (1, 1, 2, 2): {1: 4, 2: 5},
        (1, 1, 1, 3): {1: 6, 3: 7},
        (2, 2, 2, 2): {2: 8},
        (1, 2, 2, 3): {1: 9, 2: 10, 3: 11},
        (2, 2, 3, 3): {2: 12, 3: 13},
        (3, 3, 3, 3): {3: 14},
    }
    counts = np.zeros((graph.number_of_nodes(), 15))
    for size in (2, 3, 4):
        for nodes in itertools.combinations(range(graph.number_of_nodes()), size):
            part = graph.subgraph(nodes)
            if nx.is_connected(part):
                degree = dict(part.degree())
                for node in nodes:
                    counts[node, place[tuple(sorted(degree.values()))][degree[node]]] += 1
    return counts


@given(st.integers(1, 9), st.floats(0.1, 1), st.integers(0, 10**6))
def test_counts_are_those_of_every_small_subgraph(nodes, density, seed):
    graph = nx.gnp_random_graph(nodes, density, seed=seed)
    np.testing.assert_array_equal(counted(graph), brute_force(graph))


def test_cycle_of_six_by_hand():
    # Every node: 2 edges, an end of 2 paths of three and the middle of 1, an end of 2 paths of four and inside of 2.
    expected = torch.tensor([2, 2, 1, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0.0], dtype=torch.float64)
    assert torch.equal(counted(nx.cycle_graph(6)), expected.expand(6, 15))


@pytest.mark.parametrize(
    ("edges", "orbits"),
    [
        ([(0, 1), (1, 2), (2, 3)], [4, 5, 5, 4]),
        ([(0, 1), (0, 2), (0, 3)], [7, 6, 6, 6]),
        ([(0, 1), (1, 2), (2, 3), (3, 0)], [8, 8, 8, 8]),
        ([(0, 1), (1, 2), (2, 0), (2, 3)], [10, 10, 11, 9]),
        ([(0, 1), (1, 2), (2, 3), (3, 0), (0, 2)], [13, 12, 13, 12]),
        (list(itertools.combinations(range(4), 2)), [14, 14, 14, 14]),
    ],
    ids=["path", "star", "cycle", "triangle with a tail", "cycle with a chord", "complete"],
)
def test_a_graph_of_four_nodes_has_itself_as_its_only_subgraph_of_four(edges, orbits):
    graph = nx.empty_graph(4)
    graph.add_edges_from(edges)
    counts = counted(graph)
    assert counts[:, 4:].sum(-1).tolist() == [1, 1, 1, 1]
    assert (counts[:, 4:].argmax(-1) + 4).tolist() == orbits


def test_padding_and_the_rest_of_the_batch_change_nothing():
    graphs = [nx.gnp_random_graph(size, 0.5, seed=size) for size in (5, 9, 12)]
    batch = torch.zeros(3, 12, 12, dtype=torch.float64)
    for adjacency, graph in zip(batch, graphs, strict=True):
        adjacency[: len(graph), : len(graph)] = torch.from_numpy(nx.to_numpy_array(graph))
    for counts, graph in zip(orbit_counts(batch), graphs, strict=True):
        assert torch.equal(counts[: len(graph)], counted(graph))
        assert not counts[len(graph) :].any()

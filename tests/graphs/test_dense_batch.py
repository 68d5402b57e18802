"""Graphs to tensors and back; what is malformed is named."""

import itertools

import networkx as nx
import numpy as np
import pytest
import torch

from aleator.graphs import (
    degree_agreement,
    degree_features,
    dense_batch,
    mask_adj,
    mask_x,
    node_flags,
    quantize,
    shuffled_agreement,
)

PATH = (3, [(0, 1), (1, 2)])


def test_a_graph_is_the_same_as_edges_networkx_graph_matrix_or_array():
    matrix = torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]])
    named = nx.Graph([("a", "b"), ("b", "c")])
    made = [dense_batch([graph], 3) for graph in (PATH, named, matrix, matrix.numpy(), (3, np.array(PATH[1])))]
    for batch in made:
        torch.testing.assert_close(batch.adj[0], matrix)
        assert batch.x[0].argmax(-1).tolist() == [1, 2, 1]
        assert batch.mask.all()


def test_smaller_graphs_are_padded_with_zeros():
    batch = dense_batch([PATH, (5, [(3, 4)])], features=3, max_nodes=6, keep_isolated=True)
    assert batch.mask.tolist() == [[True] * 3 + [False] * 3, [True] * 5 + [False]]
    assert batch.x[0, 3:].eq(0).all()
    assert batch.adj[0, 3:].eq(0).all()
    assert batch.x[1, 0].tolist() == [1, 0, 0]  # isolated, and a node
    assert batch.x[1, 5].tolist() == [0, 0, 0]


def test_an_isolated_node_counts_as_padding_unless_asked_otherwise():
    batch = dense_batch([(3, [(0, 1)])], features=2)
    assert batch.mask.tolist() == [[True, True, False]]
    assert batch.x[0, 2].tolist() == [0, 0]


def test_flags_look_at_absolute_entries():
    adj = torch.tensor([[[0.0, 1, -1], [1, 0, 0], [-1, 0, 0]]])
    assert node_flags(adj).tolist() == [[True, True, True]]
    assert node_flags(adj * 1e-6).tolist() == [[False, False, False]]


def test_masks_zero_rows_and_columns():
    mask = torch.tensor([[True, False]])
    assert mask_x(torch.ones(1, 2, 1), mask).flatten().tolist() == [1, 0]
    assert mask_adj(torch.ones(1, 2, 2), mask).flatten().tolist() == [1, 0, 0, 0]


def test_quantised_graphs_have_no_loops_and_no_isolated_nodes():
    adj = torch.tensor([[[0.9, 0.5, 0.1], [0.5, 0, 0.49], [0.1, 0.49, 0]]])
    mask = torch.ones(1, 3, dtype=torch.bool)
    (graph,) = quantize(adj, mask)
    assert graph.tolist() == [[0, 1], [1, 0]]
    (empty,) = quantize(adj, torch.tensor([[True, False, True]]))
    assert empty.tolist() == [[0]]


def test_quantising_a_batch_gives_its_graphs_back():
    batch = dense_batch([PATH, (4, [(0, 1), (1, 2), (2, 3), (0, 3)])], features=3)
    for graph, matrix in zip(quantize(batch.adj, batch.mask), batch.adj, strict=True):
        n = len(graph)
        assert torch.equal(graph, matrix[:n, :n])
    assert degree_agreement(batch.x, batch.adj, batch.mask) == 1
    assert degree_agreement(batch.x.roll(1, -1), batch.adj, batch.mask) == 0


def test_shuffled_agreement_is_the_mean_of_the_agreement_over_all_orders_of_a_graphs_own_nodes():
    star, path = (4, [(0, 1), (0, 2), (0, 3)]), (5, [(0, 1), (1, 2), (2, 3), (3, 4)])
    batch = dense_batch([star, path], features=4, max_nodes=6)
    x = batch.x.roll(1, dims=1) * batch.mask.unsqueeze(-1)  # features that are not all their node's degree
    over_orders = []
    for graph, size in enumerate((4, 5)):
        alone = [part[graph : graph + 1] for part in (batch.adj, batch.mask)]
        orders = [[*order, *range(size, 6)] for order in itertools.permutations(range(size))]
        over_orders.append(sum(degree_agreement(x[graph : graph + 1, order], *alone) for order in orders) / len(orders))
    expected = (4 * over_orders[0] + 5 * over_orders[1]) / 9  # every node counts alike
    assert shuffled_agreement(x, batch.adj, batch.mask) == pytest.approx(expected, abs=1e-12)


def test_features_that_are_the_degrees_agree_beyond_shuffling_and_those_of_another_order_do_not():
    batch = dense_batch([(4, [(0, 1), (0, 2), (0, 3)])], features=4)
    assert degree_agreement(*batch) - shuffled_agreement(*batch) == pytest.approx(1 - 10 / 16)
    shuffled = batch.x[:, [1, 0, 2, 3]]
    assert shuffled_agreement(shuffled, batch.adj, batch.mask) == shuffled_agreement(*batch)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dense_batch([], 3), "at least one graph, got none"),
        (lambda: dense_batch([PATH], 2), "features must be more than 2, the largest degree, got 2"),
        (lambda: dense_batch([PATH], 3, 2), "max_nodes must be at least 3, the nodes of the largest graph, got 2"),
        (lambda: dense_batch([torch.eye(2)], 3), "zero on the diagonal, got 1 in row 0, column 0 of graph 0"),
        (lambda: dense_batch([PATH, torch.ones(2, 2).triu(1)], 3), "symmetric, got 1 in row 0, column 1 of graph 1"),
        (lambda: dense_batch([torch.full((2, 2), torch.nan)], 3), "finite, got nan in row 0, column 0 of graph 0"),
        (lambda: dense_batch([torch.ones(2, 3)], 3), r"graphs\[0\] must be a square matrix, got shape \[2, 3\]"),
        (lambda: dense_batch([2 * torch.ones(2, 2) - 2 * torch.eye(2)], 3), "adj must be of zeros and ones .*, got 2"),
        (lambda: dense_batch([nx.DiGraph([(0, 1), (1, 2)])], 3), "symmetric, got 1 in row 0, column 1 of graph 0"),
        (lambda: dense_batch([nx.Graph([(0, 1, {"weight": 0.5})])], 3), "adj must be of zeros and ones .*, got 0.5"),
        (lambda: dense_batch([nx.MultiGraph([(0, 1), (0, 1)])], 3), "adj must be of zeros and ones .*, got 2"),
        (lambda: dense_batch([nx.Graph([(0, 1, {"weight": "a"})])], 3), r"other than 0, got 'a' at \(0, 1\)"),
        (lambda: dense_batch([nx.Graph([("a", "a")])], 3), "two different nodes, got a loop at 'a'"),
        (lambda: dense_batch([(2, [(0, 2)])], 3), r"nodes of 0 to 1, got \(0, 2\)"),
        (lambda: dense_batch([(2, [(1, 1)])], 3), r"two different nodes of 0 to 1, got \(1, 1\)"),
        (
            lambda: degree_features(torch.ones(1, 3, 3) - torch.eye(3), torch.ones(1, 3, dtype=torch.bool), 2),
            "features must be more than 2, the largest degree, got 2",
        ),
    ],
    ids=[
        *("empty", "degree", "size", "loop", "asymmetric", "nan", "square", "weights"),
        *("directed", "weighted", "multi", "weight", "networkx loop", "end", "self-edge", "features"),
    ],
)
def test_what_is_malformed_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()

"""Graph sets: the same graphs from a mirror's edge lists, networkx pickles and TU text; no code of a pickle runs."""

import gzip
import json
import os
import pickle

import networkx as nx
import numpy as np
import pytest

from aleator.data.sets.catalog import lookup
from aleator.data.sets.graphs import Graph, graph_set
from aleator.data.sets.load import load

TRIANGLE_AND_TAIL = [[0, 1], [0, 2], [1, 2], [2, 3]]


@pytest.mark.parametrize(
    ("name", "train", "test", "nodes", "max_degree"),
    [
        ("community-small", 80, 20, (12, 20), 10),
        ("ego-small", 160, 40, (4, 17), 16),
        ("enzymes", 470, 117, (10, 125), 9),
        ("grid", 80, 20, (110, 361), 4),
    ],
)
def test_published_sets_have_their_published_sizes_and_split(data_root, name, train, test, nodes, max_degree):
    data = load(name, data_root)
    graphs = [*data.test, *data.train]
    assert (data.name, len(data.train), len(data.test)) == (name, train, test)
    sizes = [graph.num_nodes for graph in graphs]
    assert (min(sizes), max(sizes)) == nodes
    assert data.max_nodes == nodes[1]
    assert max(int(np.bincount(graph.edges.ravel()).max()) for graph in graphs) <= max_degree
    for graph in graphs:
        assert (graph.edges[:, 0] < graph.edges[:, 1]).all()
        assert graph.edges.max() < graph.num_nodes


def test_the_first_fifth_of_the_file_is_the_test_part_in_its_order(data_root):
    records = json.loads(gzip.decompress((data_root / "graphs" / "ego_small.json.gz").read_bytes()))["graphs"]
    data = load("ego-small", data_root)
    assert [graph.edges.tolist() for graph in (*data.test, *data.train)] == [record["edges"] for record in records]


def test_enzymes_lose_their_isolated_nodes_and_keep_their_labels(data_root):
    data = load("enzymes", data_root)
    for graph in (*data.train, *data.test):
        assert np.bincount(graph.edges.ravel(), minlength=graph.num_nodes).min() > 0
        assert graph.num_nodes >= 10
        assert graph.label in range(1, 7)
        assert graph.node_labels.shape == (graph.num_nodes,)
        assert set(graph.node_labels.tolist()) <= {1, 2, 3}


def test_adjacency_is_symmetric_with_one_entry_for_each_end():
    graph = Graph(5, np.array(TRIANGLE_AND_TAIL))
    matrix = graph.adjacency()
    assert matrix.shape == (5, 5)
    assert (matrix == matrix.T).all()
    assert matrix.sum(0).tolist() == [2, 2, 3, 1, 0]


def read(name, path):
    return graph_set(lookup(name), {path.name: path}, ())


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_networkx_pickle_and_edge_list_give_the_same_graphs(tmp_path, protocol):
    drawn = [nx.gnp_random_graph(8, 0.4, seed=seed) for seed in range(5)]
    drawn.append(nx.relabel_nodes(nx.path_graph(3), {0: "a", 1: "c", 2: "b"}))
    drawn[0].add_edge(3, 3)  # a loop is left out
    path = tmp_path / "ego_small.pkl"
    path.write_bytes(pickle.dumps(drawn, protocol))
    data = read("ego-small", path)
    for ours, theirs in zip((*data.test, *data.train), drawn, strict=True):
        theirs.remove_edges_from(list(nx.selfloop_edges(theirs)))
        np.testing.assert_array_equal(ours.adjacency().numpy(), nx.to_numpy_array(theirs))


@pytest.mark.parametrize("function", [os.getcwd, nx.path_graph, eval])
def test_pickle_that_calls_a_function_is_refused_and_the_function_is_not_called(tmp_path, function):
    class Payload:
        def __reduce__(self):
            return function, ("1",) if function is not os.getcwd else ()

    path = tmp_path / "grid.pkl"
    path.write_bytes(pickle.dumps([Payload()]))
    with pytest.raises(ValueError, match=r"grid\.pkl is not a list of networkx graphs: it asks for .*, which is ref"):
        read("grid", path)


@pytest.mark.parametrize("content", [b"", b"\x80\x04", pickle.dumps(5), pickle.dumps([{}])])
def test_pickle_of_something_else_is_refused(tmp_path, content):
    path = tmp_path / "grid.pkl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"grid\.pkl is not a list of networkx graphs"):
        read("grid", path)


@pytest.mark.parametrize("edges", [[[0, 4]], [[1, 1]], [[-1, 2]]])
def test_edge_that_joins_no_two_nodes_of_the_graph_is_refused(tmp_path, edges):
    path = tmp_path / "grid.json.gz"
    path.write_bytes(gzip.compress(json.dumps({"graphs": [{"n": 4, "edges": edges}]}).encode()))
    with pytest.raises(
        ValueError, match=r"grid\.json\.gz is not a list of graphs: an edge must join two different nod"
    ):
        read("grid", path)


def test_tu_text_numbers_nodes_anew_in_each_graph(tmp_path):
    ring = [(i, (i + 1) % 10) for i in range(10)]
    # A ring of ten; an isolated node and a ring of ten; nine nodes, too few.
    graphs = [(10, ring), (11, [(u + 1, v + 1) for u, v in ring]), (9, [(i, i + 1) for i in range(8)])]
    first, pairs, owner = 1, [], []
    for number, (nodes, edges) in enumerate(graphs, 1):
        pairs += [f"{a + first}, {b + first}" for u, v in edges for a, b in ((u, v), (v, u))]
        owner += [str(number)] * nodes
        first += nodes
    content = {
        "A": pairs,
        "graph_indicator": owner,
        "graph_labels": ["6", "2", "1"],
        "node_labels": [str(1 + i % 3) for i in range(30)],
    }
    paths = {}
    for part, lines in content.items():
        name = f"ENZYMES_{part}.txt"
        paths[name] = tmp_path / name
        paths[name].write_text("\n".join(lines) + "\n")
    data = graph_set(lookup("enzymes"), paths, ())
    whole, trimmed = (*data.test, *data.train)
    np.testing.assert_array_equal(whole.edges, trimmed.edges)
    assert [whole.label, trimmed.label] == [6, 2]
    assert whole.node_labels.tolist() == [1 + i % 3 for i in range(10)]
    assert trimmed.node_labels.tolist() == [1 + i % 3 for i in range(11, 21)]
    paths["ENZYMES_A.txt"].write_text("1, two\n")
    with pytest.raises(ValueError, match=r"ENZYMES_A\.txt must hold whole numbers"):
        graph_set(lookup("enzymes"), paths, ())

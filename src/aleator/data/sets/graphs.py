"""Sets of undirected graphs: ``load("grid").train[0].edges``.

The published sets are pickles of networkx graphs. A pickle is a program, so it is never given to a general unpickler:
`_GraphUnpickler` resolves two names, ``dict`` and networkx's ``Graph``, the second to a stand-in that keeps the state,
and refuses every other name without importing it. The collection of TU Dortmund is text: a file of pairs of nodes, and
one line for each node or graph in the others. A local mirror holds edge lists in JSON.
"""

from __future__ import annotations

import io
import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from aleator.data.sets.entries import DatasetInfo
from aleator.data.sets.readers import read_text, refusing

_MIN_NODES = 10  # of an ENZYMES graph, after J. You et al., GraphRNN, 2018


class Graph(NamedTuple):
    """An undirected graph without loops or repeated edges.

    Attributes:
        num_nodes: how many nodes there are, numbered from 0.
        edges: the pairs (u, v) with u < v, sorted, int64 of shape [E, 2].
        label: the class of the graph; None where there are none.
        node_labels: the class of each node, int64 of shape [num_nodes]; None where there are none.
    """

    num_nodes: int
    edges: Int64[np.ndarray, "edges 2"]
    label: int | None = None
    node_labels: Int64[np.ndarray, " nodes"] | None = None

    def adjacency(self) -> Float[Tensor, "nodes nodes"]:
        """Return the adjacency matrix, float32, symmetric, of zeros and ones."""
        matrix = torch.zeros(self.num_nodes, self.num_nodes)
        u, v = torch.from_numpy(self.edges).T
        matrix[u, v] = matrix[v, u] = 1
        return matrix


@dataclass(frozen=True, eq=False)
class GraphSet:
    """A set of graphs, of which the first ``int(0.2 n)`` are the test part, in the order of the file, as published.

    Attributes:
        name: the data set's name.
        train: the training graphs.
        test: the test graphs.
        notes: what a user should know.
    """

    name: str
    train: tuple[Graph, ...]
    test: tuple[Graph, ...]
    notes: tuple[str, ...]

    @property
    def max_nodes(self) -> int:
        """The number of nodes of the largest graph of both parts."""
        return max(graph.num_nodes for graph in (*self.train, *self.test))


def graph_set(info: DatasetInfo, paths: dict[str, Path], notes: tuple[str, ...]) -> GraphSet:
    """Return the graphs of a catalogue entry; the files' checksums were compared before.

    Raises:
        ValueError: if a file is not of its format.
    """
    if set(paths) == {file.name for file in info.mirror_files}:
        graphs = _read_json(*paths.values())
    else:
        graphs = _read_tu(paths) if info.reader == "tu" else _read_pickle(*paths.values())
    if info.reader == "tu":
        graphs = [graph for graph in map(_without_isolated, graphs) if graph.num_nodes >= _MIN_NODES]
    test = int(0.2 * len(graphs))
    return GraphSet(info.name, train=tuple(graphs[test:]), test=tuple(graphs[:test]), notes=notes)


def _graph(n: int, pairs: Any, label: int | None = None, node_labels: Any = None) -> Graph:
    """Return a graph of n nodes; ``pairs`` may hold an edge twice, in both directions."""
    ends = np.sort(np.asarray(pairs, np.int64).reshape(-1, 2), axis=1)
    if ends.size and (ends.min() < 0 or ends.max() >= n or (ends[:, 0] == ends[:, 1]).any()):
        raise ValueError(f"an edge must join two different nodes of 0 to {n - 1}")
    return Graph(n, np.unique(ends, axis=0), label, None if node_labels is None else np.asarray(node_labels, np.int64))


def _without_isolated(graph: Graph) -> Graph:
    """Drop the nodes that have no edge, and number the others anew."""
    kept, ends = np.unique(graph.edges, return_inverse=True)
    node_labels = None if graph.node_labels is None else graph.node_labels[kept]
    return Graph(len(kept), ends.reshape(-1, 2).astype(np.int64), graph.label, node_labels)


def _read_json(path: Path) -> list[Graph]:
    with refusing(path, "a list of graphs", KeyError, TypeError, ValueError, AttributeError):
        records = json.loads(read_text(path))["graphs"]
        return [_graph(g["n"], g["edges"], g.get("label"), g.get("node_labels")) for g in records]


def _read_tu(paths: dict[str, Path]) -> list[Graph]:
    """Read a set of the TU collection, whose graphs and nodes are numbered from 1 over all files."""
    columns: dict[str, np.ndarray[Any, Any]] = {}
    for name, path in paths.items():
        try:
            numbers = np.array(read_text(path).replace(",", " ").split(), np.int64)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{path} must hold whole numbers: {error}") from None
        columns[name.partition("_")[2].removesuffix(".txt")] = numbers
    graphs = []
    with refusing(next(iter(paths.values())).parent, "a set of graphs", IndexError, KeyError, ValueError):
        owner, pairs = columns["graph_indicator"] - 1, columns["A"].reshape(-1, 2) - 1
        first = np.searchsorted(owner, np.arange(len(columns["graph_labels"]) + 1))
        for index, label in enumerate(columns["graph_labels"].tolist()):
            start, end = first[index], first[index + 1]
            own = pairs[owner[pairs[:, 0]] == index] - start
            graphs.append(_graph(int(end - start), own, label, columns["node_labels"][start:end]))
    return graphs


def _read_pickle(path: Path) -> list[Graph]:
    try:
        graphs = _GraphUnpickler(io.BytesIO(path.read_bytes())).load()
        return [_from_state(graph) for graph in graphs]
    except Exception as error:  # a damaged pickle can raise almost anything; no code of its own has run
        raise ValueError(f"{path} is not a list of networkx graphs: {error}") from None


class _NetworkxGraph:
    """Stands in for ``networkx.Graph`` while a pickle is read: it takes the state as its attributes."""

    _node: dict[Any, Any]
    _adj: dict[Any, dict[Any, Any]]


def _from_state(graph: _NetworkxGraph) -> Graph:
    """Number the nodes in their stored order; a loop is left out, as no model of these sets has any."""
    number = {node: index for index, node in enumerate(graph._node)}
    pairs = [(number[u], number[v]) for u, ends in graph._adj.items() for v in ends if u != v]
    return _graph(len(number), pairs)


class _GraphUnpickler(pickle.Unpickler):
    """Reads plain containers and the state of networkx graphs; every other class or function is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a name; networkx is never imported."""
        if (module, name) == ("networkx.classes.graph", "Graph"):
            return _NetworkxGraph
        if (module, name) == ("builtins", "dict"):
            return dict
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is refused")

"""The 15 orbit counts of each node, by matrix products: how often it takes each place in the small subgraphs around it.

A place that a symmetry of the subgraph cannot change is an orbit. With A the adjacency matrix, d the degrees, C = A²
the common neighbours, t = A ∘ C the triangles on each edge and k the complete subgraphs of four nodes on each edge,

    k_uv = ½ Σ_xy c_x A_xy c_y,   c = A_u ∘ A_v,

every number of *not necessarily induced* subgraphs at a node is a short sum over these. An induced count is that number
less the larger subgraphs that contain it, from the densest down. No graph is searched; a batch costs two products of
matrices, and one for the edges that have two common neighbours.

The numbering is from N. Pržulj, "Biological network comparison using graphlet degree distribution", Bioinformatics
23(2), 2007; T. Hočevar and J. Demšar, "A combinatorial approach to graphlet counting", Bioinformatics 30(4), 2014
(ORCA), subtract in the same order, edge by edge.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

NUM_ORBITS = 15


def orbit_counts(adjacency: Float[Tensor, "batch nodes nodes"]) -> Float[Tensor, "batch nodes 15"]:
    """Return the orbit counts of every node, in induced subgraphs of two to four nodes.

    The orbits are: 0 the end of an edge; 1 the end and 2 the middle of a path of three nodes; 3 a triangle; 4 the end
    and 5 the inside of a path of four; 6 a leaf and 7 the centre of a star; 8 a cycle of four; in a triangle with a
    tail, 9 the tail, 10 a node without and 11 the node with the tail; in a cycle of four with one chord, 12 a node of
    degree two and 13 one of degree three; 14 the complete graph of four nodes.

    Args:
        adjacency: symmetric, of zeros and ones, with a zero diagonal; a smaller graph is padded with isolated nodes.
            float64 counts exactly up to 2^53.

    Returns:
        The counts, of the adjacency's type; zero for isolated nodes. O(batch (nodes³ + edges nodes²)) time.
    """
    a = adjacency
    degree = a.sum(-1)
    common = a @ a
    on_edge = a * common  # triangles on each edge
    off_diagonal = common - torch.diag_embed(degree)
    triangles = on_edge.sum(-1) / 2

    def over_neighbours(of_edge: Tensor) -> Tensor:
        return (a * of_edge).sum(-1)

    k4 = _complete_fours(a, common)
    beyond = (degree - 1).unsqueeze(-2)  # other ends at a neighbour
    chord = over_neighbours(_pairs(common)) - 3 * k4
    rim = (a * (a @ (on_edge - a))).sum(-1)  # the edge opposite to the node in a triangle, and its other triangles
    no_chord = rim / 2 - 3 * k4
    cycle = _pairs(off_diagonal).sum(-1) - no_chord - chord - 3 * k4
    tail = over_neighbours(triangles.unsqueeze(-2) - common) - 2 * no_chord - 3 * k4
    no_tail = over_neighbours(common * (beyond - 1)) - 2 * no_chord - 2 * chord - 6 * k4
    with_tail = triangles * (degree - 2) - 2 * chord - 3 * k4
    centre = degree * (degree - 1) * (degree - 2) / 6 - with_tail - chord - k4
    leaf = over_neighbours(_pairs(beyond)) - tail - no_tail - 2 * no_chord - chord - 3 * k4
    ends = (off_diagonal * (beyond - a)).sum(-1)
    end = ends - 2 * cycle - 2 * tail - no_tail - 4 * no_chord - 2 * chord - 6 * k4
    insides = over_neighbours((degree - 1).unsqueeze(-1) * beyond - common)
    inside = insides - 2 * cycle - no_tail - 2 * with_tail - 2 * no_chord - 4 * chord - 6 * k4
    short_end = over_neighbours(beyond) - 2 * triangles
    middle = _pairs(degree) - triangles
    counts = (degree, short_end, middle, triangles, end, inside, leaf, centre, cycle)
    return torch.stack((*counts, tail, no_tail, with_tail, no_chord, chord, k4), dim=-1)


def _pairs(count: Tensor) -> Tensor:
    return count * (count - 1) / 2


def _complete_fours(a: Tensor, common: Tensor) -> Tensor:
    """Return the number of complete subgraphs of four nodes at each node."""
    graph, u, v = torch.nonzero(torch.triu(a * common >= 2), as_tuple=True)
    k4 = torch.zeros_like(a[..., 0])
    if not graph.numel():
        return k4
    # The edges of a graph in rows of their own, padded with zeros, so that one product serves the batch.
    per_graph = torch.bincount(graph, minlength=len(a))
    place = torch.arange(len(graph), device=a.device) - (per_graph.cumsum(0) - per_graph)[graph]
    shared = a.new_zeros(len(a), int(per_graph.max()), a.shape[-1])
    shared[graph, place] = a[graph, u] * a[graph, v]
    on_edge = ((shared @ a) * shared).sum(-1)[graph, place] / 2
    for ends in (u, v):
        k4.index_put_((graph, ends), on_edge, accumulate=True)
    return k4 / 3  # each is met on the three edges at a node

"""The distance of generated graphs from real ones: the maximum mean discrepancy of graph statistics.

With a kernel k on the statistics of graphs, in its biased form and without a square root,

    MMD² = mean k(a, a') + mean k(b, b') - 2 mean k(a, b),      k(p, q) = exp(-dist(p, q)² / (2 σ²))

over all pairs, each set's pairs of a graph with itself included. Two conventions are in use, and **a figure of one says
nothing about a figure of the other**:

- ``"emd"`` (GraphRNN, GDSS): dist is the earth mover's distance, which on a line is the L1 distance of the cumulated
  distributions; it is counted in bins, for the clustering coefficient in bins of 1/100; the L2 distance for the orbits.
- ``"tv"`` (SPECTRE, DiGress, DeFoG): dist is the total variation, half the L1 distance, for all; the same σ.

σ is 1 for degrees and spectrum, 0.1 for clustering, 30 for the orbits, whose counts are not normalised.

J. You et al., "GraphRNN", ICML 2018; J. Jo et al., "Score-based generative modeling of graphs via the system of
stochastic differential equations", ICML 2022; K. Martinkus et al., "SPECTRE", ICML 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float64
from torch import Tensor

from aleator.graphs.graph_statistics import CLUSTERING_BINS, GraphLike, Spectrum, Statistic, as_graphs, graph_statistics

Convention = Literal["emd", "tv"]

_SIGMA = {"degree": 1.0, "clustering": 0.1, "orbit": 30.0, "spectral": 1.0}
_BLOCK = 256  # graphs whose kernel with all others is held at a time


def graph_mmd(
    reference: Sequence[GraphLike],
    generated: Sequence[GraphLike],
    stats: Sequence[Statistic] = ("degree", "clustering", "orbit"),
    convention: Convention = "emd",
    spectrum: Spectrum = "whole",
) -> dict[str, float]:
    """Return MMD² of each statistic, and their mean as ``"average"``.

    Args:
        reference: real graphs, such as ``load("grid").test``, in any form that `dense_batch` takes.
        generated: the graphs to be judged, in any of these forms. Isolated nodes count; the published figures are of
            graphs that had them removed.
        stats: of ``"degree"``, ``"clustering"``, ``"orbit"`` and ``"spectral"``.
        convention: which kernels, see above.
        spectrum: which eigenvalues ``"spectral"`` counts: all, ``"whole"``; or ``"official"``, as in the code that
            published figures come from, all but those that rounding puts above 2. That concerns bipartite graphs, and
            is a graph's own property only up to rounding.

    Returns:
        The figure of each statistic under its name, and ``"average"``. About 0, which rounding may make slightly
        negative, for equal sets; at most 2. O((R + G)²) kernels for R and G graphs.

    Raises:
        ValueError: if a statistic, the convention or the spectrum is not known, or a graph is not one, see `as_graphs`.
    """
    known = get_args(Statistic)
    if not stats or any(stat not in known for stat in stats):
        raise ValueError(f"stats must be of {', '.join(known)}, got {', '.join(map(str, stats)) or 'none'}")
    if convention not in get_args(Convention):
        raise ValueError(f"convention must be 'emd' or 'tv', got {convention!r}")
    if spectrum not in get_args(Spectrum):
        raise ValueError(f"spectrum must be 'whole' or 'official', got {spectrum!r}")
    graphs = as_graphs(reference, "reference") + as_graphs(generated, "generated")
    figures: dict[str, float] = {}
    for stat, rows in graph_statistics(graphs, stats, spectrum).items():
        rows = _embedded(rows, stat, convention)
        norm = 2.0 if stat == "orbit" and convention == "emd" else 1.0
        figures[stat] = squared_mmd(rows[: len(reference)], rows[len(reference) :], _SIGMA[stat], norm)
    return figures | {"average": sum(figures.values()) / len(figures)}


def _embedded(rows: Tensor, stat: Statistic, convention: Convention) -> Tensor:
    """Return the rows between which the L1 (or L2) distance is the convention's."""
    if convention == "tv":
        return rows / 2
    if stat == "orbit":
        return rows
    return rows.cumsum(-1) / (CLUSTERING_BINS if stat == "clustering" else 1)


def squared_mmd(a: Float64[Tensor, "n width"], b: Float64[Tensor, "m width"], sigma: float, norm: float = 1.0) -> float:
    """Return MMD² of two samples under a Gaussian kernel of the L1 or L2 distance, the biased form of Gretton et al.

    Args:
        a: one sample, one row each.
        b: the other sample.
        sigma: standard deviation of the kernel, positive.
        norm: 1 or 2, of the distance.
    """
    within = _mean_kernel(a, a, sigma, norm) + _mean_kernel(b, b, sigma, norm)
    return within - 2 * _mean_kernel(a, b, sigma, norm)


def _mean_kernel(a: Tensor, b: Tensor, sigma: float, norm: float) -> float:
    total = 0.0
    for start in range(0, len(a), _BLOCK):
        rows, others = a[start : start + _BLOCK], b[start:] if b is a else b
        # Not by ‖a‖² + ‖b‖² - 2ab, which is inexact for near rows.
        distance = torch.cdist(rows, others, p=norm, compute_mode="donot_use_mm_for_euclid_dist")
        kernel = distance.square_().mul_(-0.5 / sigma**2).exp_()
        total += float(kernel.sum())
        if b is a:  # the pairs to the right of the diagonal's block stand for those to the left
            total += float(kernel[:, len(rows) :].sum())
    return total / (len(a) * len(b))

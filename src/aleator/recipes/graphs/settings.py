"""Settings of GDSS for each data set: the authors', and smaller ones that a laptop trains in minutes.

The published ones are those of the configuration files of J. Jo et al. (arXiv 2202.02514). The reduced networks are
those of the project's notes on the paper; with them everything else is as published but the number of sampling steps,
which is halved, the solver, which is S4, the batch, and the schedule of the learning rate, a half cosine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

Process = tuple[str, float, float]  # "vp" with beta_min and beta_max, "ve" with sigma_min and sigma_max

MOLECULES = ("qm9", "zinc250k")


@dataclass(frozen=True)
class GraphSettings:
    """Sizes of the networks, processes, training and sampler.

    Attributes:
        max_nodes: N, to which graphs are padded.
        features: F, one more than the largest degree or more; the number of elements of molecules.
        depth: layers of the network for node features.
        hidden: width of both networks' layers.
        layers: attention layers of the network for edges.
        linears: layers of the edge networks inside them.
        c_hidden: adjacency channels between attention layers.
        sde_x: the process of node features.
        sde_a: the process of edges.
        batch_size: graphs in a step.
        lr: learning rate.
        epochs: passes over the data.
        solver: how the system is solved backwards.
        sampling_steps: steps of the solver.
        snr: signal-to-noise ratio of the Langevin correction.
        scale_eps: scale of its noise.
        average_weights: whether graphs are generated with the running mean of the weights.
        schedule: of the learning rate.
    """

    max_nodes: int
    features: int
    depth: int
    hidden: int
    layers: int
    linears: int
    c_hidden: int
    sde_x: Process
    sde_a: Process
    batch_size: int
    lr: float
    epochs: int
    solver: str
    sampling_steps: int
    snr: float
    scale_eps: float
    average_weights: bool
    schedule: str = "exponential"

    def with_options(self, options: Mapping[str, Any]) -> GraphSettings:
        """Return the settings with those options that are not None in their place."""
        return replace(self, **{name: value for name, value in options.items() if value is not None})


def _published(
    shape: tuple[int, int, int, int, int, int],
    processes: tuple[Process, Process],
    training: tuple[int, float, int],
    sampler: tuple[str, float, float],
    average_weights: bool = False,
) -> GraphSettings:
    max_nodes, features, depth, hidden, layers, linears = shape
    sde_x, sde_a = processes
    batch_size, lr, epochs = training
    solver, snr, scale_eps = sampler
    return GraphSettings(
        max_nodes, features, depth, hidden, layers, linears, 8, sde_x, sde_a, batch_size, lr, epochs, solver, 1000, snr,
        scale_eps, average_weights,
    )  # fmt: skip


_VP: Process = ("vp", 0.1, 1.0)

# shape: N, F, depth, hidden, layers, linears; training: batch, learning rate, epochs; sampler: solver, snr, scale_eps
PUBLISHED = {
    "ego-small": _published((18, 17, 2, 32, 5, 2), (_VP, _VP), (128, 0.01, 5000), ("euler", 0.0, 0.0)),
    "community-small": _published((20, 10, 3, 32, 5, 2), (_VP, _VP), (128, 0.01, 5000), ("euler-langevin", 0.05, 0.7)),
    "enzymes": _published(
        (125, 10, 5, 32, 7, 2), (_VP, ("ve", 0.2, 1.0)), (64, 0.01, 5000), ("s4", 0.15, 0.7), average_weights=True
    ),
    "grid": _published(
        (361, 5, 5, 32, 7, 2), (_VP, ("vp", 0.2, 0.8)), (8, 0.01, 5000), ("ancestral-langevin", 0.1, 0.7),
        average_weights=True,
    ),
    "qm9": _published(
        (9, 4, 2, 16, 3, 3), (("ve", 0.1, 1.0), ("ve", 0.1, 1.0)), (1024, 0.005, 300), ("ancestral-langevin", 0.2, 0.7)
    ),
    "zinc250k": _published(
        (38, 9, 2, 16, 6, 3), (_VP, ("ve", 0.2, 1.0)), (1024, 0.005, 500), ("ancestral-langevin", 0.2, 0.9)
    ),
}  # fmt: skip


def _reduced(settings: GraphSettings, batch_size: int) -> GraphSettings:
    # Without a correction of its own, ego-small takes that of community-small.
    snr, scale_eps = (settings.snr, settings.scale_eps) if settings.snr else (0.05, 0.7)
    return replace(
        settings, depth=2, hidden=16, layers=3, c_hidden=4, batch_size=batch_size, solver="s4", sampling_steps=500,
        snr=snr, scale_eps=scale_eps, schedule="cosine",
    )  # fmt: skip


REDUCED = {
    name: _reduced(settings, {"grid": 4, "enzymes": 16}.get(name, min(settings.batch_size, 256)))
    for name, settings in PUBLISHED.items()
}

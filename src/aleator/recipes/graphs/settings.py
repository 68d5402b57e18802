"""Settings of GDSS for each data set: the authors', and smaller ones that a laptop trains in minutes.

The published ones are from the configuration files of J. Jo et al. (arXiv 2202.02514). The reduced networks are from
the project's notes on the paper; with them everything else is as published but the number of sampling steps, which is
halved, the solver, which is S4, the batch, and the schedule of the learning rate, a half cosine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

MOLECULES = ("qm9", "zinc250k")


@dataclass(frozen=True)
class Process:
    """A process of noise.

    Attributes:
        kind: variance-preserving, with β from low to high, or variance-exploding, with σ from low to high.
        low: at t = 0.
        high: at t = 1.
    """

    kind: Literal["vp", "ve"]
    low: float
    high: float = 1.0


_VP = Process("vp", 0.1)


@dataclass(frozen=True, kw_only=True)
class GraphSettings:
    """Sizes of the networks, processes, training and sampler; the defaults are what most published ones share.

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
    depth: int = 2
    hidden: int = 32
    layers: int = 5
    linears: int = 2
    c_hidden: int = 8
    sde_x: Process = _VP
    sde_a: Process = _VP
    batch_size: int = 128
    lr: float = 0.01
    epochs: int = 5000
    solver: str = "ancestral-langevin"
    sampling_steps: int = 1000
    snr: float = 0.0
    scale_eps: float = 0.7
    average_weights: bool = False
    schedule: str = "exponential"

    def with_options(self, options: Mapping[str, Any]) -> GraphSettings:
        """Return the settings with those options that are not None in their place."""
        return replace(self, **{name: value for name, value in options.items() if value is not None})


PUBLISHED = {
    "ego-small": GraphSettings(max_nodes=18, features=17, solver="euler", scale_eps=0.0),
    "community-small": GraphSettings(max_nodes=20, features=10, depth=3, solver="euler-langevin", snr=0.05),
    "enzymes": GraphSettings(
        max_nodes=125,
        features=10,
        depth=5,
        layers=7,
        sde_a=Process("ve", 0.2),
        batch_size=64,
        solver="s4",
        snr=0.15,
        average_weights=True,
    ),
    "grid": GraphSettings(
        max_nodes=361,
        features=5,
        depth=5,
        layers=7,
        sde_a=Process("vp", 0.2, 0.8),
        batch_size=8,
        snr=0.1,
        average_weights=True,
    ),
    "qm9": GraphSettings(
        max_nodes=9,
        features=4,
        hidden=16,
        layers=3,
        linears=3,
        sde_x=Process("ve", 0.1),
        sde_a=Process("ve", 0.1),
        batch_size=1024,
        lr=0.005,
        epochs=300,
        snr=0.2,
    ),
    "zinc250k": GraphSettings(
        max_nodes=38,
        features=9,
        hidden=16,
        layers=6,
        linears=3,
        sde_a=Process("ve", 0.2),
        batch_size=1024,
        lr=0.005,
        epochs=500,
        snr=0.2,
        scale_eps=0.9,
    ),
}


def _reduced(settings: GraphSettings, batch_size: int) -> GraphSettings:
    # Without a correction of its own, ego-small takes community-small's.
    snr, scale_eps = (settings.snr, settings.scale_eps) if settings.snr else (0.05, 0.7)
    return replace(
        settings,
        depth=2,
        hidden=16,
        layers=3,
        c_hidden=4,
        batch_size=batch_size,
        solver="s4",
        sampling_steps=500,
        snr=snr,
        scale_eps=scale_eps,
        schedule="cosine",
    )


REDUCED = {
    name: _reduced(settings, {"grid": 4, "enzymes": 16}.get(name, min(settings.batch_size, 256)))
    for name, settings in PUBLISHED.items()
}

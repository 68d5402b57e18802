"""GDSS: node features and adjacency diffuse by processes of their own and are generated together.

Noise takes a graph (X, A) to (X_t, A_t), each by its own SDE. Back go both at once, each along its partial score

    S_X ≈ ∇_X log p_t(X, A),    S_A ≈ ∇_A log p_t(X, A),

two networks that see the whole noisy graph and are what couples the two. Any pair of modules (x, adj, mask) or (x, adj,
mask, t) will do. The authors' networks f do not see the time; it enters through the scale

    S = −f/s(t) for VP and sub-VP,    S = +f for VE (−f/s(t) with ``ve_scale``)

where the sign and the missing scale of VE are as in their code.

J. Jo, S. Lee, S. J. Hwang, "Score-based Generative Modeling of Graphs via the System of Stochastic Differential
Equations", ICML 2022, arXiv 2202.02514.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from aleator.graphs import gdss_file
from aleator.graphs.dense_batch import DenseBatch, check_adjacency, mask_adj, mask_x, node_flags
from aleator.graphs.graph_noise import graph_noise
from aleator.losses import denoising_score_matching
from aleator.optim import weight_ema
from aleator.random import ItemGenerator
from aleator.sde import SDE, VESDE, Constrain, Generator, Solver, States, over_trailing, prior_sample, solve

Progress = Callable[[int, dict[str, float]], object]


class GraphLoss(dict[str, Tensor]):
    """The losses of the two networks, ``"x"`` and ``"adj"``, each differentiable in its own."""

    @property
    def total(self) -> Float[Tensor, ""]:
        """Their sum: one backward pass gives both networks the gradients of their own loss."""
        return self["x"] + self["adj"]


class GraphSamples(NamedTuple):
    """Generated graphs.

    Attributes:
        x: node features.
        adj: adjacency matrices before they are rounded, see `quantize`.
        mask: the nodes that were asked for.
        number: the number of each graph within the request.
        nfe: evaluations of each network, per batch.
    """

    x: Float[Tensor, "graphs nodes features"]
    adj: Float[Tensor, "graphs nodes nodes"]
    mask: Bool[Tensor, "graphs nodes"]
    number: Int64[Tensor, " graphs"]
    nfe: int

    def gathered(self) -> GraphSamples:
        """Return the whole request, in its order, on every process of the default group, on this process's device."""
        parts: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, tuple(tensor.cpu() for tensor in self[:4]))
        whole = [torch.cat(tensors) for tensors in zip(*parts, strict=True)]
        order = whole[3].argsort()
        x, adj, mask, number = (tensor[order].to(self.x.device) for tensor in whole)
        return GraphSamples(x, adj, mask, number, self.nfe)


class Fit(NamedTuple):
    """What training left.

    Attributes:
        losses: means over each epoch, by network.
        average: the model with the running means of the weights.
    """

    losses: list[dict[str, float]]
    average: GDSS


class GDSS(nn.Module):
    """A generative model of graphs.

    Args:
        net_x: (x, adj, mask[, t]) → something of the shape of x.
        net_a: (x, adj, mask[, t]) → something of the shape of adj, symmetric; the diagonal is not used. A module is
            given t, of shape [batch], if its ``forward`` has a fourth argument.
        sde_x: the process of node features.
        sde_a: the process of the adjacency matrix.
        ve_scale: whether the score of VE is −f/s(t), like the score of VP.

    Attributes:
        features: F; known from the authors' networks, else from `observe`.
        node_counts: how many training graphs had 0, 1, … N nodes; None before `observe`.
    """

    features: int | None
    node_counts: Int64[Tensor, " sizes"] | None

    def __init__(self, net_x: nn.Module, net_a: nn.Module, sde_x: SDE, sde_a: SDE, *, ve_scale: bool = False) -> None:
        super().__init__()
        self.net_x, self.net_a = net_x, net_a
        self.sdes = (sde_x, sde_a)
        self.ve_scale = ve_scale
        self.features = getattr(gdss_file.unwrapped(net_x), "config", {}).get("features")
        self.node_counts = None

    def scores(
        self,
        x: Float[Tensor, "batch nodes features"],
        adj: Float[Tensor, "batch nodes nodes"],
        mask: Bool[Tensor, "batch nodes"],
        t: Float[Tensor, " batch"],
    ) -> States:
        """Return the partial scores of node features and adjacency, zero where there is padding."""
        found = []
        for net, sde in zip((self.net_x, self.net_a), self.sdes, strict=True):
            out = net(x, adj, mask, t) if _takes_time(net) else net(x, adj, mask)
            if not isinstance(sde, VESDE) or self.ve_scale:
                out = -out / over_trailing(sde.marginal(t)[1], out)
            found.append(out)
        off_diagonal = ~torch.eye(adj.shape[-1], dtype=torch.bool, device=adj.device)
        return mask_x(found[0], mask), mask_adj(found[1] * off_diagonal, mask)

    def loss(
        self,
        x: Float[Tensor, "batch nodes features"],
        adj: Float[Tensor, "batch nodes nodes"],
        mask: Bool[Tensor, "batch nodes"] | None = None,
        t: Float[Tensor, " batch"] | None = None,
        noise: tuple[Tensor, Tensor] | None = None,
        *,
        generator: torch.Generator | None = None,
        reduce_mean: bool = False,
    ) -> GraphLoss:
        """Return the denoising losses, see `aleator.losses.denoising_score_matching`.

        Args:
            x: node features.
            adj: adjacency matrices.
            mask: which nodes exist, by default those with an edge.
            t: times in (0, 1], one for each graph; drawn from U(1e-5, 1) if None.
            noise: of node features and, symmetric, of the adjacency; drawn if None.
            generator: for what is drawn, on the device of the graphs.
            reduce_mean: means over all entries instead of half their sums.

        Raises:
            ValueError: on a CPU, if a time is not in (0, 1]; elsewhere the losses are NaN then.
        """
        mask = node_flags(adj) if mask is None else mask
        made = denoising_score_matching(
            lambda states, time: self.scores(states[0], states[1], mask, time),
            self.sdes,
            (x, adj),
            t,
            graph_noise if noise is None else noise,
            generator=generator,
            constrain=_masking(mask),
            reduce_mean=reduce_mean,
        )
        return GraphLoss(x=made[0], adj=made[1])

    def observe(self, graphs: DenseBatch) -> None:
        """Note how many nodes graphs have, and how many features: what `sample` draws from and needs to know.

        Raises:
            ValueError: if the networks are known to be for another number of features.
        """
        if self.features not in (None, graphs.x.shape[-1]):
            raise ValueError(f"x must have {self.features} features, as the networks, got {graphs.x.shape[-1]}")
        self.features = graphs.x.shape[-1]
        self.node_counts = graphs.mask.sum(-1).bincount(minlength=graphs.mask.shape[-1] + 1).cpu()

    def fit(
        self,
        graphs: DenseBatch,
        *,
        epochs: int,
        batch_size: int,
        generator: torch.Generator,
        lr: float = 0.01,
        weight_decay: float = 1e-4,
        schedule: Literal["exponential", "cosine"] = "exponential",
        clip: float = 1.0,
        ema: float = 0.999,
        reduce_mean: bool = False,
        progress: Progress | None = None,
    ) -> Fit:
        """Train both networks, each with an Adam of its own.

        Args:
            graphs: such as `dense_batch` makes, on the device of the model.
            epochs: passes over the graphs, each in a new order; the last batch of a pass may be smaller.
            batch_size: graphs of a step.
            generator: for order, times and noise; on the device of the graphs.
            lr: learning rate at the start.
            weight_decay: a multiple of the weights that is added to the gradients, not decoupled.
            schedule: lr times 0.999 after each epoch, as published, or a half cosine down to 0.
            clip: the largest norm of each network's gradient.
            ema: decay of the running means of the weights, see `aleator.optim.weight_ema`.
            reduce_mean: see `loss`.
            progress: called with the epoch, from 1 on, and its mean losses.

        Raises:
            ValueError: if a number is out of range, a feature is not finite or the adjacency matrices are malformed.
            RuntimeError: if a loss is not finite; the weights are no numbers then.
        """
        for name, value in (("epochs", epochs), ("batch_size", batch_size)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if schedule not in ("exponential", "cosine"):
            raise ValueError(f'schedule must be "exponential" or "cosine", got {schedule!r}')
        if not clip > 0:
            raise ValueError(f"clip must be positive, got {clip}")
        if not bool(graphs.x.isfinite().all()):
            raise ValueError(f"x must be finite, got {int((~graphs.x.isfinite()).sum())} other numbers")
        check_adjacency(graphs.adj)
        self.observe(graphs)
        networks = (self.net_x, self.net_a)
        optimizers = [torch.optim.Adam(net.parameters(), lr=lr, weight_decay=weight_decay) for net in networks]
        schedules: list[torch.optim.lr_scheduler.LRScheduler] = [
            torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.999)
            if schedule == "exponential"
            else torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
            for optimizer in optimizers
        ]
        average = weight_ema(self, ema)
        losses: list[dict[str, float]] = []
        self.train()
        for epoch in range(1, epochs + 1):
            sums = graphs.x.new_zeros(2)
            order = torch.randperm(len(graphs.x), generator=generator, device=graphs.x.device)
            for some in torch.split(order, batch_size):
                x, adj, mask = (tensor[some] for tensor in graphs)
                loss = self.loss(x, adj, mask, generator=generator, reduce_mean=reduce_mean)
                self.zero_grad()
                loss.total.backward()  # type: ignore[no-untyped-call]
                for net, optimizer in zip(networks, optimizers, strict=True):
                    clip_grad_norm_(net.parameters(), clip)
                    optimizer.step()
                average.update_parameters(self)
                sums += torch.stack([loss["x"], loss["adj"]]).detach() * (len(some) / len(order))
            for each in schedules:
                each.step()
            losses.append(dict(zip(("x", "adj"), sums.tolist(), strict=True)))
            if not all(map(math.isfinite, losses[-1].values())):
                raise RuntimeError(f"training must keep its losses finite, got {losses[-1]} in epoch {epoch}: lower lr")
            if progress is not None:
                progress(epoch, losses[-1])
        self.eval()
        return Fit(losses, cast(GDSS, average.module.eval()))

    @torch.no_grad()
    def sample(
        self,
        graphs: int | Bool[Tensor, "graphs nodes"],
        solver: Solver,
        *,
        generator: torch.Generator,
        batch_size: int | None = None,
        per_graph: bool = False,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> GraphSamples:
        """Generate graphs.

        Args:
            graphs: how many, each with the number of nodes of a random training graph; or the number of nodes of each.
            solver: such as `aleator.sde.S4` or `aleator.sde.PredictorCorrector`.
            generator: on the device of the model; any device with ``per_graph``.
            batch_size: graphs at a time, by default all.
            per_graph: give each graph its own noise and its own corrector steps, so that it does not depend on the
                batch it is generated in, up to rounding.
            num_replicas: processes that share the request; needs ``per_graph``. All have generators of the same state.
            rank: which of them this is: it generates every ``num_replicas``-th graph, see `GraphSamples.gathered`.

        Raises:
            ValueError: if a number is out of range, the model has not observed what it needs, or its weights are not
                finite.
            TypeError: if a mask is not of booleans.
        """
        for name in ("net_x", "net_a"):
            if not all(bool(weight.isfinite().all()) for weight in getattr(self, name).parameters()):
                raise ValueError(f"weights must be finite, got others in {name}")
        if not 0 <= rank < num_replicas:
            raise ValueError(f"rank must be in [0, {num_replicas}), got {rank}")
        if num_replicas > 1 and not per_graph:
            raise ValueError(f"num_replicas cannot be used without per_graph, or noise is shared, got {num_replicas}")
        if isinstance(graphs, Tensor) and graphs.dtype != torch.bool:
            raise TypeError(f"graphs must be a count or a mask of booleans, got a tensor of {graphs.dtype}")
        if self.features is None:
            raise ValueError("features of the graphs are not known: call observe with some, or fit")
        mask = self._drawn_nodes(graphs, generator) if isinstance(graphs, int) else graphs
        device = next(self.parameters(), mask).device
        mask = mask.to(device)
        numbers = torch.arange(len(mask), device=device)[rank::num_replicas]
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        key = int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device)) if per_graph else 0
        if per_graph and any(field.name == "per_graph" for field in fields(solver)):
            solver = replace(solver, per_graph=True)  # type: ignore[call-arg]
        was_training = self.training
        self.eval()
        made = []
        # Where there are more processes than graphs, one without a share makes the first graph and leaves it out:
        # networks need not take empty batches, and the evaluations are counted as everywhere.
        for some in torch.split(numbers if len(numbers) else numbers.new_zeros(1), batch_size or max(1, len(numbers))):
            own = ItemGenerator(key, some) if per_graph else generator
            made.append(self._solve(mask[some], solver, own))
        self.train(was_training)
        x, adj = (torch.cat(states)[: len(numbers)] for states in zip(*(states for states, _ in made), strict=True))
        return GraphSamples(x, adj, mask[numbers], numbers, made[0][1])

    def save(self, path: str | Path) -> None:
        """Write weights, and what it takes to make the model again, as one safetensors file.

        Of modules and processes that are not of this library only the weights are written, with a warning: `load` has
        to be given them.
        """
        parts = {"net_x": self.net_x, "net_a": self.net_a, "sde_x": self.sdes[0], "sde_a": self.sdes[1]}
        settings = {"ve_scale": self.ve_scale, "features": self.features}
        gdss_file.save(path, parts, settings, self.node_counts)

    @staticmethod
    def load(
        path: str | Path,
        *,
        net_x: nn.Module | None = None,
        net_a: nn.Module | None = None,
        sde_x: SDE | None = None,
        sde_a: SDE | None = None,
    ) -> GDSS:
        """Return the model that ``save`` wrote, in evaluation mode.

        Args:
            path: the file.
            net_x: instead of the network that the file describes; takes its weights.
            net_a: as for ``net_x``.
            sde_x: instead of the process that the file describes.
            sde_a: as for ``sde_x``.

        Raises:
            ValueError: if the file is not of a GDSS, or does not describe a part that is not given.
        """
        given = {"net_x": net_x, "net_a": net_a, "sde_x": sde_x, "sde_a": sde_a}
        parts, about, tensors = gdss_file.read(path, given)
        model = GDSS(**parts, ve_scale=about["ve_scale"])
        model.features, model.node_counts = about["features"], tensors.get(gdss_file.NODE_COUNTS)
        for name in ("net_x", "net_a"):
            gdss_file.load_weights(getattr(model, name), name, tensors)
        return model.eval()

    def _solve(self, mask: Tensor, solver: Solver, generator: Generator) -> tuple[States, int]:
        nodes = mask.shape[1]
        like = next(self.parameters(), torch.empty(0, device=mask.device))
        empty = (like.new_empty(len(mask), nodes, self.features or 0), like.new_empty(len(mask), nodes, nodes))
        found = solve(
            lambda states, t: self.scores(states[0], states[1], mask, t),
            self.sdes,
            prior_sample(self.sdes, empty, generator=generator, noise=graph_noise),
            solver,
            generator=generator,
            noise=graph_noise,
            constrain=_masking(mask),
        )
        return found.states, found.nfe

    def _drawn_nodes(self, count: int, generator: torch.Generator) -> Bool[Tensor, "graphs nodes"]:
        if count < 1:
            raise ValueError(f"graphs must be at least 1, got {count}")
        if self.node_counts is None:
            raise ValueError("node counts of training graphs are not known: call observe with some, or fit")
        weights = self.node_counts.to(generator.device, torch.float32)
        sizes = torch.multinomial(weights, count, replacement=True, generator=generator)
        return torch.arange(len(weights) - 1, device=generator.device) < sizes.unsqueeze(-1)


def _masking(mask: Tensor) -> Constrain:
    return lambda states: (mask_x(states[0], mask), mask_adj(states[1], mask))


def _takes_time(net: nn.Module) -> bool:
    kinds = inspect.Parameter
    parameters = inspect.signature(gdss_file.unwrapped(net).forward).parameters.values()
    positional = [p for p in parameters if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)]
    return len(positional) > 3

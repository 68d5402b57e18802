"""The score networks as published code lays them out: one module per adjacency channel, called in a Python loop.

Written from the formulas, not from anyone's code. It is the peer in the benchmark and the reference in the tests of
`aleator.graphs`; `copy_weights` gives it the weights of ours.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aleator.graphs import ScoreNetworkA, ScoreNetworkX, ScoreNetworkX_GMH
from aleator.graphs.graph_attention import AttentionLayer, ChannelGCN, ChannelLinear


class DenseGCN(nn.Module):
    """D^-1/2 A D^-1/2 X W + b, the diagonal of A set to 1."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, adj: Tensor) -> Tensor:
        """Return the node features of one channel."""
        adj = adj.clone()
        nodes = torch.arange(adj.shape[-1], device=adj.device)
        adj[:, nodes, nodes] = 1
        scale = adj.sum(-1).clamp(min=1).pow(-0.5)
        adj = scale.unsqueeze(-1) * adj * scale.unsqueeze(-2)
        return adj @ (x @ self.weight) + self.bias


class MLP(nn.Module):
    """Linear layers on the last dimension with an activation between them."""

    def __init__(self, linears: int, inputs: int, hidden: int, outputs: int, tanh: bool = False) -> None:
        super().__init__()
        widths = [inputs, *[hidden] * (linears - 1), outputs]
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.activation = torch.tanh if tanh else F.elu

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs."""
        for linear in self.linears[:-1]:
            x = self.activation(linear(x))
        return torch.as_tensor(self.linears[-1](x))


class Attention(nn.Module):
    """One channel's attention."""

    def __init__(self, inputs: int, adim: int, outputs: int, heads: int, conv: str) -> None:
        super().__init__()
        if conv == "GCN":
            self.query, self.key = DenseGCN(inputs, adim), DenseGCN(inputs, adim)
        else:
            self.query, self.key = (MLP(2, inputs, 2 * adim, adim, tanh=True) for _ in range(2))  # type: ignore[assignment]
        self.value = DenseGCN(inputs, outputs)
        self.width, self.outputs, self.conv = adim // heads, outputs, conv

    def forward(self, x: Tensor, adj: Tensor) -> tuple[Tensor, Tensor]:
        """Return values and the symmetrised map."""
        given = (x, adj) if self.conv == "GCN" else (x,)
        query, key = self.query(*given), self.key(*given)
        query = torch.cat(query.split(self.width, 2), 0)
        key = torch.cat(key.split(self.width, 2), 0)
        maps = torch.tanh(query @ key.transpose(1, 2) / math.sqrt(self.outputs))
        mean = maps.view(-1, *adj.shape).mean(0)
        return self.value(x, adj), (mean + mean.transpose(-1, -2)) / 2


class Layer(nn.Module):
    """Attention on each channel, then an MLP of the values and one of the edges."""

    def __init__(
        self, inputs: int, adim: int, outputs: int, c_in: int, c_out: int, linears: int, heads: int, conv: str
    ) -> None:
        super().__init__()
        self.channels = nn.ModuleList(Attention(inputs, adim, outputs, heads, conv) for _ in range(c_in))
        hidden = 2 * max(c_in, c_out)
        self.nodes = MLP(2, c_in * outputs, hidden, outputs)
        self.edges = MLP(linears, 2 * c_in, hidden, c_out)

    def forward(self, x: Tensor, adj: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return node features and adjacency channels."""
        values, maps = [], []
        for number, channel in enumerate(self.channels):
            value, attended = channel(x, adj[:, number])
            values.append(value)
            maps.append(attended.unsqueeze(-1))
        x = torch.tanh(self.nodes(torch.cat(values, -1)) * mask.unsqueeze(-1))
        edges = self.edges(torch.cat([torch.cat(maps, -1), adj.permute(0, 2, 3, 1)], -1)).permute(0, 3, 1, 2)
        return x, _masked(edges + edges.transpose(-1, -2), mask)


class LoopedA(nn.Module):
    """The peer of `ScoreNetworkA`."""

    def __init__(self, ours: ScoreNetworkA) -> None:
        super().__init__()
        self.layers = _layers(ours.config, len(ours.layers))
        self.c_init = ours.config["c_init"]
        config = ours.config
        width = config["c_init"] + (config["layers"] - 1) * config["c_hidden"] + config["c_final"]
        self.final = MLP(3, width, 2 * width, 1)
        copy_weights(self, ours)

    def forward(self, x: Tensor, adj: Tensor, mask: Tensor) -> Tensor:
        """Return the score of the adjacency."""
        channels = _powers(adj, self.c_init)
        kept = [channels]
        for layer in self.layers:
            x, channels = layer(x, channels, mask)
            kept.append(channels)
        score = self.final(torch.cat(kept, 1).permute(0, 2, 3, 1)).squeeze(-1)
        return _masked(score.unsqueeze(1) * (1 - torch.eye(adj.shape[-1], device=adj.device)), mask).squeeze(1)


class LoopedX(nn.Module):
    """The peer of `ScoreNetworkX` and of `ScoreNetworkX_GMH`."""

    def __init__(self, ours: ScoreNetworkX | ScoreNetworkX_GMH) -> None:
        super().__init__()
        self.attends = isinstance(ours, ScoreNetworkX_GMH)
        self.c_init = ours.config.get("c_init", 1)
        features: int = ours.config["features"]
        depth: int = ours.config["depth"]
        hidden: int = ours.config["hidden"]
        if self.attends:
            self.layers = _layers(ours.config, len(ours.layers))
        else:
            self.layers = nn.ModuleList(DenseGCN(a, hidden) for a in [features, *[hidden] * (depth - 1)])
        width = features + depth * hidden
        self.final = MLP(3, width, 2 * width, features)
        copy_weights(self, ours)

    def forward(self, x: Tensor, adj: Tensor, mask: Tensor) -> Tensor:
        """Return the score of the node features."""
        kept, channels = [x], _powers(adj, self.c_init)
        for layer in self.layers:
            if self.attends:
                x, channels = layer(x, channels, mask)
            else:
                x = layer(x, adj)
            x = torch.tanh(x)
            kept.append(x)
        return torch.as_tensor(self.final(torch.cat(kept, -1)) * mask.unsqueeze(-1))


@torch.no_grad()
def copy_weights(looped: Any, ours: Any) -> None:
    """Give the looped network the weights of ours."""
    for theirs, own in zip(looped.final.linears, [m for m in ours.final if isinstance(m, nn.Linear)], strict=True):
        theirs.load_state_dict(own.state_dict())
    for theirs, own in zip(looped.layers, ours.layers, strict=True):
        if isinstance(own, ChannelGCN):
            theirs.weight.copy_(own.weight[0])
            theirs.bias.copy_(own.bias[0])
        else:
            _copy_layer(theirs, own)


def _copy_layer(theirs: Any, own: AttentionLayer) -> None:
    for name in ("nodes", "edges"):
        linears = [m for m in getattr(own, name) if isinstance(m, nn.Linear)]
        for linear, source in zip(getattr(theirs, name).linears, linears, strict=True):
            linear.load_state_dict(source.state_dict())
    for number, channel in enumerate(theirs.channels):
        parts = [(channel.value, own.value.weight[number], own.value.bias[number])]
        if isinstance(own.query_key, ChannelGCN):
            weights, biases = own.query_key.weight[number].chunk(2, 1), own.query_key.bias[number].chunk(2)
            parts += list(zip((channel.query, channel.key), weights, biases, strict=True))
        else:
            for module, net in zip((channel.query, channel.key), own.query_key.children(), strict=True):
                mapped = [m for m in net.children() if isinstance(m, ChannelLinear)]
                parts += [
                    (linear, source.weight[number].T, source.bias[number])
                    for linear, source in zip(module.linears, mapped, strict=True)
                ]
        for module, weight, bias in parts:
            module.weight.copy_(weight)
            module.bias.copy_(bias)


def _layers(config: dict[str, Any], count: int) -> nn.ModuleList:
    layers = []
    for number in range(count):
        inputs, adim, c_in = config["hidden"], config["adim"], config["c_hidden"]
        if number == 0:
            inputs, adim, c_in = config["features"], config["hidden"], config["c_init"]
        c_out = config["c_hidden"] if number < count - 1 else config["c_final"]
        linears, heads, conv = config["linears"], config["heads"], config["conv"]
        layers.append(Layer(inputs, adim, config["hidden"], c_in, c_out, linears, heads, conv))
    return nn.ModuleList(layers)


def _powers(adj: Tensor, count: int) -> Tensor:
    powers = [adj]
    for _ in range(count - 1):
        powers.append(powers[-1] @ adj)
    return torch.stack(powers, 1)


def _masked(adj: Tensor, mask: Tensor) -> Tensor:
    return adj * mask[:, None, :, None] * mask[:, None, None, :]

"""Graph convolution and graph multi-head attention on many adjacency channels at once.

A layer sees node features X and C adjacency channels A_c, real and symmetric. With the diagonal of A_c set to 1,

    d_c = max(1, Σ_j A_ij),    GCN_c(X) = D_c^-1/2 A_c D_c^-1/2 X W_c + b_c

are its queries, keys and values, and the channel's attention map is a mean over heads

    M_c = mean_h tanh(Q_h K_hᵀ / √outputs),  made symmetric.

The values of all channels become the next X, and the maps together with the old channels, edge by edge, the next
channels. tanh and not softmax: an entry of a map is a signed quantity, not a share.

Channels come first here, (channels, batch, nodes, nodes). One channel's weights are then one matrix of a batched
product, and a linear layer on edges is one product of matrices, so that nothing runs in a Python loop.

J. Jo, S. Lee, S. J. Hwang, "Score-based Generative Modeling of Graphs via the System of Stochastic Differential
Equations", ICML 2022, arXiv 2202.02514; the layers are as in the authors' code.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from aleator.graphs.dense_batch import mask_x
from aleator.graphs.edge_pairs import EdgePairs

Conv = Literal["GCN", "MLP"]


class ChannelLinear(nn.Module):
    """A linear map for each channel; one batched product for all.

    Args:
        channels: how many.
        inputs: features of a row that is read.
        outputs: features of the row that is made.
    """

    def __init__(self, channels: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)  # as nn.Linear
        self.weight = nn.Parameter(torch.empty(channels, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(channels, outputs).uniform_(-bound, bound))

    def forward(self, x: Float[Tensor, "channels rows inputs"]) -> Float[Tensor, "channels rows outputs"]:
        """Return x W_c + b_c for every channel."""
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight)


class ChannelGCN(ChannelLinear):
    """The linear map of a graph convolution for each channel, Glorot-uniform and without bias at the start.

    Args:
        channels: how many.
        inputs: node features that are read.
        outputs: node features of each part.
        parts: maps of the same input that share one product, each initialised by itself.
    """

    def __init__(self, channels: int, inputs: int, outputs: int, parts: int = 1) -> None:
        super().__init__(channels, inputs, parts * outputs)
        bound = math.sqrt(6 / (inputs + outputs))
        with torch.no_grad():
            self.weight.uniform_(-bound, bound)
            self.bias.zero_()


def propagate(
    x: Float[Tensor, "batch nodes features"], adj: Float[Tensor, "channels batch nodes nodes"]
) -> Float[Tensor, "channels rows features"]:
    """Return D_c^-1/2 A_c D_c^-1/2 x, the rows of all graphs in a line, for channels whose diagonal is 1."""
    scale = adj.sum(-1, keepdim=True).clamp(min=1).rsqrt()
    return (scale * (adj @ (scale * x))).flatten(1, 2)  # scales N·F and not N² numbers


class AttentionLayer(nn.Module):
    """From X and C_in adjacency channels to the next X and C_out channels.

    Args:
        inputs: node features that are read.
        adim: features of queries and keys, over all heads.
        outputs: node features that are made.
        c_in: channels that are read.
        c_out: channels that are made.
        linears: linear layers on edges.
        heads: how many; they divide ``adim``.
        conv: what makes queries and keys: a graph convolution, or a network of two layers on X alone.

    Raises:
        ValueError: if the heads do not divide ``adim`` or ``conv`` is unknown.
    """

    def __init__(
        self, inputs: int, adim: int, outputs: int, c_in: int, c_out: int, linears: int, heads: int, conv: Conv
    ) -> None:
        super().__init__()
        if heads < 1 or adim % heads:
            raise ValueError(f"heads must divide the width of queries, {adim}, got {heads}")
        if conv not in ("GCN", "MLP"):
            raise ValueError(f'conv must be "GCN" or "MLP", got {conv!r}')
        self.heads, self.outputs, self.conv = heads, outputs, conv
        if conv == "GCN":
            self.query_key: nn.Module = ChannelGCN(c_in, inputs, adim, parts=2)
        else:
            self.query_key = nn.ModuleList(
                nn.Sequential(ChannelLinear(c_in, inputs, 2 * adim), nn.Tanh(), ChannelLinear(c_in, 2 * adim, adim))
                for _ in range(2)
            )
        self.value = ChannelGCN(c_in, inputs, outputs)
        hidden = 2 * max(c_in, c_out)
        self.nodes = mlp(2, c_in * outputs, hidden, outputs)
        self.edges = mlp(linears, 2 * c_in, hidden, c_out)

    def forward(
        self,
        x: Float[Tensor, "batch nodes inputs"],
        edges: Float[Tensor, "c_in batch pairs"],
        mask: Bool[Tensor, "batch nodes"],
        pairs: EdgePairs,
    ) -> tuple[Float[Tensor, "batch nodes outputs"], Float[Tensor, "c_out batch pairs"]]:
        """Return node features, after tanh, and channels by pairs of nodes; both are zero where there is padding."""
        mixed = propagate(x, pairs.unpack(pairs.with_diagonal(edges, 1)))
        maps = pairs.pack(self._maps(x, mixed))
        made = on_channels(self.edges, torch.cat([maps, edges]))
        both = mask[:, pairs.first] & mask[:, pairs.second]
        # An edge and its transpose, which are equal, are added.
        return torch.tanh(mask_x(self._nodes(mixed).view(*x.shape[:2], -1), mask)), made * (2 * both)

    def _maps(self, x: Tensor, mixed: Tensor) -> Float[Tensor, "c_in batch nodes nodes"]:
        """Return the channels' attention maps before they are made symmetric."""
        if isinstance(self.query_key, nn.ModuleList):
            rows = x.flatten(0, 1).expand(len(mixed), -1, -1)
            made = [net(rows) for net in self.query_key]
        else:
            made = self.query_key(mixed).chunk(2, -1)
        # Scores of noisy graphs are large, and half precision has few digits there.
        with torch.autocast(x.device.type, enabled=False):
            shape = (len(mixed), *x.shape[:2], self.heads, -1)
            query, key = (for_blas(in_full(each).reshape(shape).transpose(2, 3)) for each in made)
            # Not mean(2), whose derivative is written out for every head.
            return torch.tanh_((query * self.outputs**-0.5) @ key.mT).sum(2) / self.heads

    def _nodes(self, mixed: Tensor) -> Float[Tensor, "rows outputs"]:
        """Return the network of the concatenated values.

        Its first layer U follows the linear map to the values, so that the two are one: Σ_c (Â_c X) (W_c U_c).
        """
        first, *rest = self.nodes
        assert isinstance(first, nn.Linear)
        weight = self.value.weight @ first.weight.T.view(len(mixed), self.outputs, -1)
        made = torch.addbmm(self.value.bias.flatten() @ first.weight.T + first.bias, mixed, weight)
        for module in rest:
            made = module(made)
        return made


_LEAST_PRODUCTS = 400


def for_blas(x: Float[Tensor, "*batch nodes width"]) -> Float[Tensor, "*batch nodes padded"]:
    """Return queries or keys with zeros behind, where X Xᵀ would not go to BLAS and a few zeros help.

    On a CPU torch multiplies matrices that take fewer than 400 products in a loop of its own, of twice BLAS's time.
    """
    nodes, width = x.shape[-2:]
    wanted = -(-_LEAST_PRODUCTS // max(1, nodes) ** 2)
    return F.pad(x, (0, wanted - width)) if x.device.type == "cpu" and width < wanted <= 2 * width else x


def in_full(x: Tensor) -> Tensor:
    """Return half-precision numbers as float32 and others as they are."""
    return x.float() if x.dtype.itemsize < 4 else x


def mlp(linears: int, inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Return linear layers with ELU between them.

    Raises:
        ValueError: if there is no layer.
    """
    if linears < 1:
        raise ValueError(f"linears must be at least 1, got {linears}")
    widths = [inputs, *[hidden] * (linears - 1), outputs]
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), nn.ELU(inplace=True)]
    return nn.Sequential(*layers[:-1])


def on_channels(net: nn.Sequential, x: Float[Tensor, " inputs *edges"]) -> Float[Tensor, " outputs *edges"]:
    """Apply a network of `mlp` to the first dimension, which holds the channels."""
    made: Tensor = x.flatten(1)
    for module in net:
        made = torch.addmm(module.bias[:, None], module.weight, made) if isinstance(module, nn.Linear) else module(made)
    return made.view(len(made), *x.shape[1:])


def matrix_powers(adj: Float[Tensor, "batch nodes nodes"], count: int) -> Float[Tensor, "count batch nodes nodes"]:
    """Return A, A², …, Aᶜ, in full precision: entries of A² of a large noisy graph are far from entries of A."""
    with torch.autocast(adj.device.type, enabled=False):
        powers = [adj := in_full(adj)]
        for _ in range(count - 1):
            powers.append(powers[-1] @ adj)
        return torch.stack(powers)

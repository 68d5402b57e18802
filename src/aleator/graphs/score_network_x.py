"""Networks for the score of the node features.

    H_0 = X,  H_k = tanh(layer_k(H_{k−1}, A)),    score = mask(MLP[H_0, …, H_L])

`ScoreNetworkX` has graph convolutions for layers, `ScoreNetworkX_GMH` the attention layers of the adjacency's network.
Neither sees the time: in GDSS it enters through the scale of the score alone.

J. Jo, S. Lee, S. J. Hwang, ICML 2022, arXiv 2202.02514.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from aleator.graphs.dense_batch import mask_x
from aleator.graphs.edge_pairs import EdgePairs
from aleator.graphs.graph_attention import AttentionLayer, ChannelGCN, Conv, matrix_powers, mlp, propagate


class ScoreNetworkX(nn.Module):
    """Graph convolutions, and a network of three linear layers on what all of them gave.

    Args:
        features: node features F.
        depth: convolutions.
        hidden: features of each.

    Raises:
        ValueError: if a size is not positive.
    """

    def __init__(self, features: int, depth: int, hidden: int) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"features": features, "depth": depth, "hidden": hidden}
        check_sizes(self.config)
        widths = [features, *[hidden] * depth]
        self.layers = nn.ModuleList(ChannelGCN(1, a, b) for a, b in pairwise(widths))
        self.final = mlp(3, sum(widths), 2 * sum(widths), features)

    def forward(
        self,
        x: Float[Tensor, "batch nodes features"],
        adj: Float[Tensor, "batch nodes nodes"],
        mask: Bool[Tensor, "batch nodes"],
    ) -> Float[Tensor, "batch nodes features"]:
        """Return the score of the node features, zero where there is padding."""
        kept = [x]
        loops = torch.where(torch.eye(adj.shape[-1], dtype=torch.bool, device=adj.device), 1, adj).unsqueeze(0)
        for layer in self.layers:
            kept.append(torch.tanh(layer(propagate(kept[-1], loops)).view(*mask.shape, -1)))
        return mask_x(self.final(torch.cat(kept, -1)), mask)


class ScoreNetworkX_GMH(nn.Module):
    """Attention layers, and a network of three linear layers on the node features that all of them gave.

    After each layer, which ends with tanh, there is another tanh, as in the authors' code.

    Args:
        features: node features F.
        depth: attention layers.
        hidden: node features of each layer, and width of the first one's queries and keys.
        linears: linear layers on edges.
        heads: of attention.
        c_init: powers of A that are the first channels.
        c_hidden: channels between layers.
        c_final: channels of the last layer. They are part of the authors' network, but its result does not depend on
            them, so these weights get no gradient.
        adim: width of queries and keys of the other layers, by default ``hidden``.
        conv: ``"GCN"`` or ``"MLP"``, see `aleator.graphs.graph_attention.AttentionLayer`.

    Raises:
        ValueError: if a size is not positive or the heads do not divide the width of queries.
    """

    def __init__(
        self,
        features: int,
        depth: int,
        hidden: int,
        *,
        linears: int = 3,
        heads: int = 4,
        c_init: int = 2,
        c_hidden: int = 8,
        c_final: int = 4,
        adim: int | None = None,
        conv: Conv = "GCN",
    ) -> None:
        super().__init__()
        sizes = {"features": features, "depth": depth, "hidden": hidden, "linears": linears, "heads": heads}
        sizes |= {"c_init": c_init, "c_hidden": c_hidden, "c_final": c_final, "adim": hidden if adim is None else adim}
        check_sizes(sizes)
        self.config: dict[str, Any] = {**sizes, "conv": conv}
        self.layers = attention_stack(depth, self.config)
        width = features + depth * hidden
        self.final = mlp(3, width, 2 * width, features)

    def forward(
        self,
        x: Float[Tensor, "batch nodes features"],
        adj: Float[Tensor, "batch nodes nodes"],
        mask: Bool[Tensor, "batch nodes"],
    ) -> Float[Tensor, "batch nodes features"]:
        """Return the score of the node features, zero where there is padding."""
        pairs = EdgePairs(adj.shape[-1], adj.device)
        kept, edges = [x], pairs.pack(matrix_powers(adj, self.config["c_init"]))
        for layer in self.layers:
            made, edges = layer(kept[-1], edges, mask, pairs)
            kept.append(torch.tanh(made))
        return mask_x(self.final(torch.cat(kept, -1)), mask)


def attention_stack(count: int, config: dict[str, Any]) -> nn.ModuleList:
    """Return attention layers: the first reads the features and has queries as wide as its output."""
    hidden, c_hidden = config["hidden"], config["c_hidden"]
    layers = []
    for number in range(count):
        layers.append(
            AttentionLayer(
                inputs=hidden if number else config["features"],
                adim=config["adim"] if number else hidden,
                outputs=hidden,
                c_in=c_hidden if number else config["c_init"],
                c_out=c_hidden if number < count - 1 else config["c_final"],
                linears=config["linears"],
                heads=config["heads"],
                conv=config["conv"],
            )
        )
    return nn.ModuleList(layers)


def check_sizes(sizes: dict[str, Any]) -> None:
    """Raise ValueError unless all sizes are at least 1."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")

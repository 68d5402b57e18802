"""The network for the score of the adjacency matrix.

The first channels are powers of A; each attention layer makes new ones. An edge's score is a network's answer to all
channels that the edge ever had:

    C_0 = [A, A², …],  (H_k, C_k) = layer_k(H_{k−1}, C_{k−1}),    score = mask((1 − I) ∘ MLP[C_0, …, C_L])

It is symmetric, because every channel is, and its diagonal is zero. The time is not an input.

J. Jo, S. Lee, S. J. Hwang, ICML 2022, arXiv 2202.02514.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from aleator.graphs.dense_batch import mask_adj
from aleator.graphs.edge_pairs import EdgePairs
from aleator.graphs.graph_attention import Conv, matrix_powers, mlp, on_channels
from aleator.graphs.score_network_x import attention_stack, check_sizes


class ScoreNetworkA(nn.Module):
    """Attention layers, and a network of three linear layers on all channels of an edge.

    Args:
        features: node features F.
        hidden: node features of each layer, and width of the first one's queries and keys.
        layers: attention layers.
        linears: linear layers on edges in each of them.
        heads: of attention.
        c_init: powers of A that are the first channels.
        c_hidden: channels between layers.
        c_final: channels of the last layer.
        adim: width of queries and keys of the other layers, by default ``hidden``.
        conv: ``"GCN"`` or ``"MLP"``, see `aleator.graphs.graph_attention.AttentionLayer`.
        recompute: whether each attention layer is computed again in the backward pass instead of being kept; for large
            graphs.

    Raises:
        ValueError: if a size is not positive or the heads do not divide the width of queries.
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        layers: int,
        linears: int = 2,
        *,
        heads: int = 4,
        c_init: int = 2,
        c_hidden: int = 8,
        c_final: int = 4,
        adim: int | None = None,
        conv: Conv = "GCN",
        recompute: bool = False,
    ) -> None:
        super().__init__()
        sizes = {"features": features, "hidden": hidden, "layers": layers, "linears": linears, "heads": heads}
        sizes |= {"c_init": c_init, "c_hidden": c_hidden, "c_final": c_final, "adim": hidden if adim is None else adim}
        check_sizes(sizes)
        self.config: dict[str, Any] = {**sizes, "conv": conv}
        self.recompute = recompute
        self.layers = attention_stack(layers, self.config)
        width = c_init + (layers - 1) * c_hidden + c_final
        self.final = mlp(3, width, 2 * width, 1)

    def forward(
        self,
        x: Float[Tensor, "batch nodes features"],
        adj: Float[Tensor, "batch nodes nodes"],
        mask: Bool[Tensor, "batch nodes"],
    ) -> Float[Tensor, "batch nodes nodes"]:
        """Return the score of the adjacency: symmetric, zero on the diagonal and where there is padding."""
        pairs = EdgePairs(adj.shape[-1], adj.device)
        edges = pairs.pack(matrix_powers(adj, self.config["c_init"]))
        kept = [edges]
        for layer in self.layers:
            if self.recompute and torch.is_grad_enabled():
                x, edges = checkpoint(layer, x, edges, mask, pairs, use_reentrant=False, preserve_rng_state=False)
            else:
                x, edges = layer(x, edges, mask, pairs)
            kept.append(edges)
        score = on_channels(self.final, torch.cat([edges[..., : pairs.off_diagonal] for edges in kept]))
        return mask_adj(pairs.unpack(pairs.with_diagonal(score.squeeze(0), 0)), mask)

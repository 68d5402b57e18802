"""A linear map of which a gate per example and block of units decides what is computed.

    y[n, j] = g[n, j // block] · (x[n] · w_j + b_j)

A product with zero saves nothing. Here the pairs of an example and an open block are sorted by block, and one matrix
product per block takes the rows that need it. For a share s of open gates this costs s of the dense products, forwards
and twice backwards. The gradient of the gates is where methods differ: where a shut gate has one, it depends on what
the block would have computed, and that takes one dense product in the backward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# Below it the products are too thin, and above this share of open gates moving the rows costs more than it saves.
LEAST_BLOCK = 16
LARGEST_SHARE = 0.5


def gated_linear(
    x: Float[Tensor, "batch inputs"],
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, " outputs"] | None,
    gates: Float[Tensor, "batch blocks"],
    *,
    gradient_when_off: bool = True,
    skip: bool | None = None,
) -> Float[Tensor, "batch outputs"]:
    """Return x Wᵀ + b with every block of outputs times its gate; blocks whose gate is 0 are not computed.

    Skipped or not, the numbers are the same up to the order of sums. Skipping has to know how many gates of each
    block are open, for which it waits for a GPU in the forward pass, and cannot be derived twice.

    Args:
        x: inputs.
        weight: W, its rows in blocks of equal size.
        bias: b.
        gates: g; the number of blocks divides the number of outputs.
        gradient_when_off: whether gates that are 0 get a gradient, see `GateEstimator`.
        skip: True skips and False multiplies by zero. By default blocks of 16 or more units are skipped unless more
            than half of the gates are open.

    Raises:
        ValueError: if the number of blocks does not divide the number of outputs.
    """
    outputs, blocks = len(weight), gates.shape[-1]
    if blocks == 0 or outputs % blocks:
        raise ValueError(f"gates must be as many as a divisor of the {outputs} outputs, got {blocks}")
    kind = x.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
        x, weight = x.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    gates = gates.to(x.dtype)
    if skip or (skip is None and outputs // blocks >= LEAST_BLOCK):
        with torch.autocast(kind, enabled=False):
            y: Tensor = _skipping(x, weight, bias, gates, gradient_when_off, 1.0 if skip else LARGEST_SHARE)
            return y
    return _dense(x, weight, bias, gates)


def _dense(x: Tensor, weight: Tensor, bias: Tensor | None, gates: Tensor) -> Tensor:
    z = F.linear(x, weight, bias)
    return (z.view(len(x), gates.shape[1], -1) * gates.unsqueeze(-1)).flatten(1)


@torch.compiler.disable  # type: ignore[untyped-decorator]  # sizes depend on data
def _skipping(
    x: Tensor, weight: Tensor, bias: Tensor | None, gates: Tensor, gradient_when_off: bool, largest_share: float
) -> Tensor:
    of_block, rows = gates.detach().t().nonzero().unbind(1)
    if len(rows) > largest_share * gates.numel():
        return _dense(x, weight, bias, gates)
    return _GatedLinear.apply(x, weight, bias, gates, gradient_when_off, of_block, rows)  # type: ignore[no-any-return,no-untyped-call]


class _GatedLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        gates: Tensor,
        gradient_when_off: bool,
        of_block: Tensor,
        rows: Tensor,
    ) -> Tensor:
        blocks = weight.view(gates.shape[1], -1, weight.shape[1])
        sizes = torch.bincount(of_block, minlength=len(blocks)).tolist()
        z = x.new_empty(len(rows), blocks.shape[1])
        for b, span in _spans(sizes):
            torch.mm(x.index_select(0, rows[span]), blocks[b].t(), out=z[span])
        if bias is not None:
            z += bias.view(len(blocks), -1).index_select(0, of_block)
        opened = gates[rows, of_block].unsqueeze(1)
        y = x.new_zeros(len(x), *blocks.shape[:2])
        y[rows, of_block] = z * opened
        ctx.sizes, ctx.gradient_when_off = sizes, gradient_when_off
        needs_z = ctx.needs_input_grad[3] and not gradient_when_off
        ctx.save_for_backward(x, weight, bias, of_block, rows, opened, z if needs_z else None)
        return y.flatten(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, of_block, rows, opened, z = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, needs_gates = ctx.needs_input_grad[:4]
        sizes = ctx.sizes
        blocks = weight.view(len(sizes), -1, weight.shape[1])
        grad = grad.view(len(x), *blocks.shape[:2])
        of_pairs = grad[rows, of_block]
        grad_gates = None
        if needs_gates and ctx.gradient_when_off:
            grad_gates = (F.linear(x, weight, bias).view_as(grad) * grad).sum(-1)
        elif needs_gates:
            grad_gates = grad.new_zeros(len(x), len(sizes))
            grad_gates[rows, of_block] = (of_pairs * z).sum(-1)
        of_z = of_pairs * opened
        grad_x = torch.zeros_like(x) if needs_x else None
        grad_weight = torch.empty_like(blocks) if needs_weight else None
        if grad_weight is not None:
            for b, size in enumerate(sizes):
                if not size:
                    grad_weight[b].zero_()  # the others are written whole, which saves a pass over the weights
        for b, span in _spans(sizes):
            if grad_weight is not None:
                torch.mm(of_z[span].t(), x.index_select(0, rows[span]), out=grad_weight[b])
            if grad_x is not None:
                grad_x.index_add_(0, rows[span], of_z[span] @ blocks[b])
        grad_bias = None
        if needs_bias:
            grad_bias = of_z.new_zeros(blocks.shape[:2]).index_add_(0, of_block, of_z).flatten()
        return (
            grad_x,
            None if grad_weight is None else grad_weight.flatten(0, 1),
            grad_bias,
            grad_gates,
            None,
            None,
            None,
        )


def _spans(sizes: list[int]) -> Iterator[tuple[int, slice]]:
    """Yield the blocks that somebody needs, each with its part of the pairs."""
    start = 0
    for b, size in enumerate(sizes):
        if size:
            yield b, slice(start, start + size)
        start += size

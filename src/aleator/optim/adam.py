"""Adam's direction, m̂ / (√v̂ + ε), which LAMB and the SPECTRA optimizers go on with instead of stepping along it.

    m ← β₁ m + (1 − β₁) g        m̂ = m / (1 − β₁ᵗ)
    v ← β₂ v + (1 − β₂) g²       v̂ = v / (1 − β₂ᵗ)

D. P. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, arXiv 1412.6980, Algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# torch's fused Adam, which computes m, v and their quotient in one pass, has kernels for these.
FUSED_DEVICES = ("cpu", "cuda")


def adam_update(
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    step: Tensor,
    *,
    betas: tuple[float, float],
    eps: float,
    addend: Tensor | None = None,
    factor: float = 1.0,
    bias_correction: bool = True,
) -> Tensor:
    """Return addend + factor · m̂/(√v̂ + ε) for one tensor, and bring its m, v and t up to date in place.

    Args:
        grad: g.
        exp_avg: m, of the precision that is computed in.
        exp_avg_sq: v.
        step: t before this step, 0-d.
        betas: β₁ and β₂.
        eps: ε.
        addend: None is zero. Nobody else may hold it.
        factor: a number.
        bias_correction: False takes m̂ = m and v̂ = v.
    """
    step.add_(1)
    grad, *means = writable(grad.to(exp_avg.dtype), exp_avg, exp_avg_sq)
    means[0].lerp_(grad, 1 - betas[0])
    means[1].mul_(betas[1]).addcmul_(grad, grad, value=1 - betas[1])
    mean, square = exp_avg, exp_avg_sq
    if bias_correction:
        mean = mean / one_minus_power(betas[0], step, exp_avg.dtype)
        square = square / one_minus_power(betas[1], step, exp_avg.dtype)
    direction = mean / (square.sqrt() + eps)
    if factor != 1:
        direction = direction * factor
    return direction if addend is None else direction.add_(addend)


def adam_updates(
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    steps: Sequence[Tensor],
    *,
    betas: tuple[float, float],
    eps: float,
    addends: Sequence[Tensor] | None = None,
    factor: float = 1.0,
    bias_correction: bool = True,
    fused: bool | None = None,
) -> list[Tensor]:
    """Return what `adam_update` does for many tensors, by torch's fused Adam where there is one.

    torch's function steps a weight; here it steps the addend, with a learning rate of −factor.

    Args:
        grads: g, and so on as for `adam_update`, a list of each.
        exp_avgs: m.
        exp_avg_sqs: v.
        steps: t.
        betas: β₁ and β₂.
        eps: ε.
        addends: None are zeros.
        factor: a number.
        bias_correction: see `adam_update`.
        fused: whether to use torch's function, in a step that is not compiled. Default: where the device has it.
    """
    if fused is None:
        fused = all(mean.device.type in FUSED_DEVICES for mean in exp_avgs)
    if not fused or torch.compiler.is_compiling():
        nothing: Sequence[None] = [None] * len(grads)
        each = zip(grads, exp_avgs, exp_avg_sqs, steps, addends or nothing, strict=True)
        return [
            adam_update(g, m, v, t, betas=betas, eps=eps, addend=a, factor=factor, bias_correction=bias_correction)
            for g, m, v, t, a in each
        ]
    # The kernel walks through memory: what belongs to one tensor has to be laid out alike.
    started = [torch.zeros_like(m) for m in exp_avgs] if addends is None else addends
    updates = [_laid_out_as(like, tensor) for like, tensor in zip(exp_avgs, started, strict=True)]
    aligned = [_laid_out_as(like, grad) for like, grad in zip(exp_avgs, grads, strict=True)]
    torch._foreach_add_(list(steps), 1)
    # At t = ∞ there is nothing left to correct.
    counts = steps if bias_correction else [torch.full_like(step, math.inf) for step in steps]
    kinds: dict[tuple[torch.device, torch.dtype], list[int]] = {}
    for index, mean in enumerate(exp_avgs):
        kinds.setdefault((mean.device, mean.dtype), []).append(index)
    for indices in kinds.values():
        weights, gs, ms, vs, ts = (
            [column[i] for i in indices] for column in (updates, aligned, exp_avgs, exp_avg_sqs, counts)
        )
        torch._fused_adam_(
            weights,
            gs,
            ms,
            vs,
            [],
            ts,
            lr=-factor,
            beta1=betas[0],
            beta2=betas[1],
            weight_decay=0.0,
            eps=eps,
            amsgrad=False,
            maximize=False,
        )
    return updates


def writable(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the tensors, with views of shape (1,) for shape ().

    In a function that torch 2.13 compiles, what is written to a float64 tensor of shape () on a CPU is lost.
    """
    return tuple(tensor.view(1) if tensor.ndim == 0 else tensor for tensor in tensors)


def one_minus_power(beta: float, step: Tensor, dtype: torch.dtype) -> Tensor:
    """Return 1 − βᵗ, which loses digits in float32 when it is computed as it is written and β is near 1."""
    return -torch.expm1(step.to(dtype) * (math.log(beta) if beta else -math.inf))


def _laid_out_as(like: Tensor, tensor: Tensor) -> Tensor:
    # torch's kernel looks at no size: a gradient of another one is for copy_ to refuse.
    if tensor.dtype == like.dtype and tensor.shape == like.shape and tensor.stride() == like.stride():
        return tensor
    return torch.empty_like(like).copy_(tensor)

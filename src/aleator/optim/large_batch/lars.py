"""LARS: momentum SGD whose steps are scaled, layer by layer, to the weights they change. Two algorithms bear the name.

For every parameter tensor w with gradient g, momentum μ and weight decay λ:

    "original" (2017)       q = η ‖w‖ / (‖g‖ + λ‖w‖ + ε);   b ← μ b + q (g + λ w);   w ← w − lr · b
    "algorithm1" (2020)     m ← μ m + (1 − μ)(g + λ w);      w ← w − lr · φ(‖w‖)/‖m‖ · m

The first scales before momentum, by a trust coefficient η, the second after it. Their learning rates differ by about
1/η and mean different things: only in the second is ``lr`` the relative change of a layer in a step. Where ‖w‖, or the
norm below it, is zero, the factor is 1.

"original": Y. You, I. Gitman, B. Ginsburg, "Large Batch Training of Convolutional Networks", arXiv 1708.03888.
"algorithm1": Y. You et al., "Large Batch Optimization for Deep Learning", ICLR 2020, arXiv 1904.00962, Algorithm 1.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim.optimizer import ParamsT

from aleator.optim.arguments import Bounds, check_bounds, check_fraction, check_not_negative
from aleator.optim.large_batch.fused import lars_step
from aleator.optim.large_batch.trust_ratio import (
    Adapt,
    Layers,
    TrustRatioOptimizer,
    kept_ratios,
    norm_pairs,
    portions,
    step_tensors,
    trust_ratios,
)
from aleator.optim.sharded_norms import norms_of_any_size

Form = Literal["original", "algorithm1"]


def local_rate(
    weight_norm: Float[Tensor, "*layers"],
    grad_norm: Float[Tensor, "*layers"],
    *,
    weight_decay: float,
    trust_coefficient: float,
    eps: float,
    clip_at: float | Tensor | None = None,
) -> Float[Tensor, "*layers"]:
    """Return q = η‖w‖/(‖g‖ + λ‖w‖ + ε) per layer, and 1 where ‖w‖ or ‖g‖ is zero (You et al. 2017).

    Args:
        weight_norm: ‖w‖.
        grad_norm: ‖g‖, without weight decay.
        weight_decay: λ.
        trust_coefficient: η.
        eps: ε.
        clip_at: a learning rate, for min(q/lr, 1) instead of q.
    """
    adapted = (weight_norm != 0) & (grad_norm != 0)
    denominator = torch.where(adapted, grad_norm + weight_decay * weight_norm + eps, 1)
    rate = trust_coefficient * weight_norm / denominator
    if clip_at is not None:
        rate = (rate / clip_at).clamp(max=1)
    return torch.where(adapted, rate, 1)


class LARS(TrustRatioOptimizer):
    """LARS, in the form of 2017 or as Algorithm 1 of the LAMB paper.

    A layer is a parameter tensor; under FSDP2 the norms are taken of whole tensors, with one all-reduce in a step.
    Nothing in a step waits for the device. A tensor that is not adapted takes a plain momentum step of size ``lr``; in
    the original form that is about 1/η times the step of one that is.

    Args:
        params: parameters, named parameters, or groups of them; names show in `trust_ratios` and reach rules.
        lr: learning rate; a tensor keeps a compiled step from being compiled again.
        momentum: μ, in [0, 1).
        weight_decay: λ, added to the gradient before it is normalised.
        trust_coefficient: η, of the original form.
        eps: ε, of the original form.
        nesterov: step along q(g + λw) + μb instead of b; of the original form.
        form: which algorithm, for all groups.
        adapt: the tensors that are scaled: ``"all"``, ``"decayed"`` for those with weight decay, or a rule, a function
            of a parameter's name and the parameter.
        phi: bounds (low, high) between which φ keeps ‖w‖, of Algorithm 1; None is the identity.
        clip: use min(q/lr, 1) for q, which never lengthens a plain step ("LARC"); of the original form.

    Raises:
        ValueError: if an option is out of range, or belongs to the other form.
        TypeError: if a parameter is complex.
        RuntimeError: if a parameter is a flat slice made by FSDP1; in a step, if a gradient is sparse.

    Example:
        >>> model = torch.nn.Linear(3, 2)
        >>> optimizer = LARS(model.parameters(), lr=0.01, form="algorithm1", adapt=lambda name, p: p.ndim > 1)
        >>> model(torch.ones(1, 3)).sum().backward()
        >>> optimizer.step()
    """

    _averages = ("momentum_buffer",)
    _kept = ("form",)

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 1e-3,
        eps: float = 1e-8,
        nesterov: bool = False,
        *,
        form: Form = "original",
        adapt: Adapt = "all",
        phi: Bounds | None = None,
        clip: bool = False,
    ) -> None:
        if form not in ("original", "algorithm1"):
            raise ValueError(f"form must be 'original' or 'algorithm1', got {form!r}")
        self.form = form
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
            "eps": eps,
            "nesterov": nesterov,
            "adapt": adapt,
            "phi": phi,
            "clip": clip,
            "capturable": True,  # tells torch that step counts live on the parameters' devices
        }
        super().__init__(params, defaults)

    def _take_step(self) -> None:
        layers = lars_step(self._layers(), self.form)
        take = original_step if self.form == "original" else algorithm1_step
        for portion in portions(layers):
            take(portion)

    def _check(self, group: dict[str, Any]) -> None:
        check_not_negative(group, "lr", "weight_decay", "trust_coefficient", "eps")
        check_fraction(group, "momentum")
        check_bounds(group, "phi")
        foreign = ("nesterov", "clip") if self.form == "algorithm1" else ("phi",)
        for name in foreign:
            if group[name] not in (None, False):
                raise ValueError(f"{name} cannot be used with form={self.form!r}, got {group[name]}")


def original_step(layers: list[Layers]) -> None:
    """Step every tensor by the algorithm of 2017; buffers start at zero, so that the first step is q(g + λw)."""
    for part, rates in zip(layers, kept_ratios(layers, _local_rates(layers)), strict=True):
        group, (momenta,) = part.group, part.averages
        torch._foreach_add_(part.steps, 1)
        directions = _decayed(part)
        if rates is not None:
            torch._foreach_mul_(directions, rates)
        torch._foreach_mul_(momenta, group["momentum"])
        torch._foreach_add_(momenta, directions)
        if group["nesterov"]:
            torch._foreach_add_(directions, momenta, alpha=group["momentum"])
        else:
            torch._foreach_copy_(directions, momenta)
        step_tensors(part.weights, directions, group["lr"])


def algorithm1_step(layers: list[Layers]) -> None:
    """Step every tensor by Algorithm 1 of the LAMB paper."""
    for part in layers:
        torch._foreach_add_(part.steps, 1)
        torch._foreach_lerp_(part.averages[0], _decayed(part), 1 - part.group["momentum"])
    momenta = [part.averages[0] for part in layers]
    for part, of_part, ratios in zip(layers, momenta, trust_ratios(layers, momenta, norms_of_any_size), strict=True):
        step_tensors(part.weights, [momentum.clone() for momentum in of_part], part.group["lr"], ratios)


def _decayed(part: Layers) -> list[Tensor]:
    """Return g + λw, in the precision of the running means."""
    dtypes = [mean.dtype for mean in part.averages[0]]
    grads = [grad.to(dtype, copy=True) for grad, dtype in zip(part.grads, dtypes, strict=True)]
    if part.group["weight_decay"]:
        weights = [weight.to(dtype) for weight, dtype in zip(part.weights, dtypes, strict=True)]
        torch._foreach_add_(grads, weights, alpha=part.group["weight_decay"])
    return grads


def _local_rates(layers: list[Layers]) -> list[Tensor]:
    """Return q of every adapted tensor, 0-d. The norms of all of them are reduced together."""
    adapted = [part for part in layers if part.adapted]
    pairs = [pair for part in adapted for pair in zip(part.weights, part.grads, strict=True)]
    groups = [part.group for part in adapted for _ in part.params]
    rates: list[Tensor] = [None] * len(pairs)  # type: ignore[list-item]  # all are filled below
    for indices, *both in norm_pairs(adapted, pairs, norms_of_any_size):
        for i, *of_tensor in zip(indices, *(norms.unbind() for norms in both), strict=True):
            options = {name: groups[i][name] for name in ("weight_decay", "trust_coefficient", "eps")}
            clip_at = groups[i]["lr"] if groups[i]["clip"] else None
            rates[i] = local_rate(of_tensor[0], of_tensor[1], **options, clip_at=clip_at)
    return rates

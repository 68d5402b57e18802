"""LAMB: Adam whose steps are as long, layer by layer, as the weights they change.

For every parameter tensor w with gradient g, at its step t:

    m ← β₁ m + (1 − β₁) g        v ← β₂ v + (1 − β₂) g²
    u = m̂ / (√v̂ + ε) + λ w       with m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ)
    w ← w − lr · φ(‖w‖)/‖u‖ · u   (the factor is 1 where ‖w‖ or ‖u‖ is zero)

so ``lr`` is the relative change of a layer in a step, whatever the scale of its gradients, and need not be tuned anew
when the batch grows. It was published for large batches and is not claimed to beat a tuned AdamW.

Y. You, J. Li, S. Reddi, J. Hseu, S. Kumar, S. Bhojanapalli, X. Song, J. Demmel, K. Keutzer, C.-J. Hsieh, "Large Batch
Optimization for Deep Learning: Training BERT in 76 minutes", ICLR 2020, arXiv 1904.00962, Algorithm 2.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from aleator.optim.adam import adam_updates
from aleator.optim.arguments import Bounds, check_betas, check_bounds, check_not_negative
from aleator.optim.large_batch.fused import lamb_step
from aleator.optim.large_batch.trust_ratio import (
    Adapt,
    Layers,
    TrustRatioOptimizer,
    portions,
    step_tensors,
    trust_ratios,
)
from aleator.optim.sharded_norms import by_placement, norms


class LAMB(TrustRatioOptimizer):
    """LAMB as in the paper's Algorithm 2; the published variants are `nvlamb` and `v1_clamped`.

    A layer is a parameter tensor. One that joins late, or is unfrozen, counts its own steps. Under FSDP2 the norms are
    taken of whole tensors, with one all-reduce in a step; under DDP there is nothing to reduce. Nothing in a step waits
    for the device. With `torch.amp.GradScaler` no call but the usual ones is needed. Gradients are not clipped unless
    ``max_grad_norm`` is given: with it, do not clip them yourself as well.

    Args:
        params: parameters, named parameters, or groups of them; names show in `trust_ratios` and reach rules.
        lr: relative change of an adapted tensor in a step; a tensor keeps a compiled step from being compiled again.
        betas: β₁ and β₂, in [0, 1).
        eps: ε.
        weight_decay: λ, inside the normalised update; per group, for instance by `without_decay`.
        bias_correction: False leaves m and v as they are, as the paper's first versions do.
        grad_averaging: False takes m ← β₁ m + g, which weighs λw less.
        max_grad_norm: scale the gradient over all groups down to this 2-norm first. Not in the paper. Refused inside
            torch's ``ZeroRedundancyOptimizer``.
        adapt: the tensors with a trust ratio: ``"all"``, ``"decayed"`` for those with weight decay, or a rule, a
            function of a parameter's name and the parameter. Others take Adam's step of size ``lr``.
        phi: bounds (low, high) between which φ keeps ‖w‖; None is the identity.
        foreach: False updates one tensor after the other, True many at once by torch's functions. The numbers are the
            same to rounding. Default: on a CPU in two passes over memory, where numba is installed, see
            `aleator.optim.large_batch.fused`; else many at once, where torch has kernels for that and the step is not
            compiled.

    Raises:
        ValueError: if an option is out of range.
        TypeError: if a parameter is complex.
        RuntimeError: if a parameter is a flat slice made by FSDP1; in a step, if a gradient is sparse.

    Example:
        >>> model = torch.nn.Linear(3, 2)
        >>> optimizer = LAMB(model.named_parameters(), lr=0.01, adapt=lambda name, parameter: parameter.ndim > 1)
        >>> model(torch.ones(1, 3)).sum().backward()
        >>> optimizer.step()
        >>> sorted(optimizer.trust_ratios())
        ['bias', 'weight']
    """

    _averages = ("exp_avg", "exp_avg_sq")
    _kept = ("max_grad_norm", "foreach")

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        *,
        bias_correction: bool = True,
        grad_averaging: bool = True,
        max_grad_norm: float | None = None,
        adapt: Adapt = "all",
        phi: Bounds | None = None,
        foreach: bool | None = None,
    ) -> None:
        if max_grad_norm is not None and not max_grad_norm > 0:
            raise ValueError(f"max_grad_norm must be positive, got {max_grad_norm}")
        if max_grad_norm is not None and _made_by_zero():
            raise ValueError(
                f"max_grad_norm must be None inside ZeroRedundancyOptimizer, which gives each process some tensors and "
                f"no norm of all, got {max_grad_norm}: call torch.nn.utils.clip_grad_norm_ before its step"
            )
        self.max_grad_norm = max_grad_norm
        self.foreach = foreach
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "bias_correction": bias_correction,
            "grad_averaging": grad_averaging,
            "adapt": adapt,
            "phi": phi,
            "capturable": True,  # tells torch that step counts live on the parameters' devices
        }
        super().__init__(params, defaults)

    @classmethod
    def nvlamb(cls, params: ParamsT, lr: float | Tensor = 1e-3, **options: Any) -> LAMB:
        """NVIDIA's variant: the gradient clipped to norm 1, and layers adapted only where they decay.

        ``max_grad_norm=None`` leaves the clipping to you.
        """
        return cls(params, lr, **{"max_grad_norm": 1.0, "adapt": "decayed", **options})

    @classmethod
    def v1_clamped(cls, params: ParamsT, lr: float | Tensor = 1e-3, **options: Any) -> LAMB:
        """The variant of the paper's first version: no bias correction, and ‖w‖ kept within [0, 10]."""
        return cls(params, lr, **{"bias_correction": False, "phi": (0.0, 10.0), **options})

    def _take_step(self) -> None:
        layers = self._layers()
        if self.max_grad_norm is not None and layers:
            layers = _clipped(layers, self.max_grad_norm)
        if self.foreach is None:
            layers = lamb_step(layers)
        for portion in portions(layers):
            updates = [self._updates(part) for part in portion]
            for part, us, ratios in zip(portion, updates, trust_ratios(portion, updates), strict=True):
                step_tensors(part.weights, us, part.group["lr"], ratios)

    def _check(self, group: dict[str, Any]) -> None:
        check_not_negative(group, "lr", "eps", "weight_decay")
        check_betas(group, 2)
        check_bounds(group, "phi")

    def _updates(self, part: Layers) -> list[Tensor]:
        group, decay = part.group, part.group["weight_decay"]
        exp_avgs, exp_avg_sqs = part.averages
        addends = None
        if decay:
            weights = [weight.to(mean.dtype) for weight, mean in zip(part.weights, exp_avgs, strict=True)]
            addends = list(torch._foreach_mul(weights, decay))
        return adam_updates(
            part.grads,
            exp_avgs,
            exp_avg_sqs,
            part.steps,
            betas=group["betas"],
            eps=group["eps"],
            addends=addends,
            factor=1.0 if group["grad_averaging"] else 1 / (1 - group["betas"][0]),
            bias_correction=group["bias_correction"],
            fused=self.foreach,
        )


def _made_by_zero() -> bool:
    """Whether torch's ZeroRedundancyOptimizer is making this optimizer, for the tensors of one process.

    It makes optimizers of any class as a user does; who calls is all there is to know it by.
    """
    zero = sys.modules.get("torch.distributed.optim.zero_redundancy_optimizer")
    frame = sys._getframe() if zero is not None else None
    while frame is not None:
        if isinstance(frame.f_locals.get("self"), zero.ZeroRedundancyOptimizer):  # type: ignore[union-attr]
            return True
        frame = frame.f_back
    return False


def _clipped(layers: list[Layers], max_norm: float) -> list[Layers]:
    """Return the layers with gradients g / max(1, ‖g‖/max_norm), ‖g‖ over all of them."""
    parameters = [parameter for part in layers for parameter in part.params]
    grads = [grad for part in layers for grad in part.grads]
    device = grads[0].device
    norms_of_parts = [
        torch.linalg.vector_norm(norms([grads[i] for i in indices], placement)).to(device)
        for placement, indices in by_placement(parameters).items()
    ]
    factor = (torch.linalg.vector_norm(torch.stack(norms_of_parts)) / max_norm).clamp(min=1)
    return [part._replace(grads=[grad / factor.to(grad.device) for grad in part.grads]) for part in layers]

"""Stochastic gradient descent with a proximal step: weights that become exactly zero while they learn.

    buf ← β buf + g,    x ← prox_{γ f}(x − γ buf)    with the step γ·1/(1 − β) in the operator

With momentum a gradient that stays moves the weights by γ/(1 − β) in the long run, so the penalty must pull as far, or
the iterates settle where a penalty 1 − β times as strong has its minimum. ``prox_scale="effective"`` does that, from
the first step on; ``"lr"`` is what is written in many programs. Buffer and Nesterov's direction are torch's.

Soft thresholding of noisy iterates gives few zeros, because noise wakes coordinates up again: for more of them let the
rate fall, or take variance reduction (`ProxSVRG`) or dual averaging (`RDA`).

J. Duchi and Y. Singer, "Efficient Online and Batch Learning Using Forward Backward Splitting", JMLR 2009.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import SGD
from torch.optim.optimizer import ParamsT
from torch.optim.sgd import sgd

from aleator.optim.arguments import check_fraction, check_not_negative
from aleator.optim.proximal.operator import Prox, Step
from aleator.optim.proximal.penalised import ApplyTo, PenalisedOptimizer, evaluated, refuse_sparse, trained

ProxScale = Literal["effective", "lr"]


class ProximalSGD(PenalisedOptimizer, SGD):
    """torch's SGD, followed by a proximal step with the same rate. Without a penalty it is torch's SGD bit for bit.

    Nothing in a step waits for the device, except what an operator says of itself. Under autocast the weights are
    float32, as they must be, and with `torch.amp.GradScaler` a step that is skipped has no proximal step either.
    Gradients may be accumulated: a step is proximal once. Under FSDP2 operators on coordinates, and on slices along the
    sharded dimension, are applied to each shard; others gather the tensor.

    Args:
        params: parameters, named parameters, or groups of them, which may have a ``prox`` of their own.
        lr: γ.
        momentum: β, in [0, 1).
        dampening: torch's; the effective step is γ(1 − dampening)/(1 − β).
        weight_decay: of the gradient, as torch's; refused with an operator that is a ridge itself.
        nesterov: torch's.
        prox: an operator of `aleator.optim.proximal`, or None.
        prox_scale: ``"effective"``, or ``"lr"`` for γ alone.
        apply_to: ``"all"`` parameters, or ``"matrices"``, tensors of two or more dimensions. By default matrices, where
            there are any: biases and the gains of normalisation are then left alone. A group's own ``prox`` is for all
            of it.
        foreach: as torch's; None lets a CPU step tensors with a penalty by torch's fused kernel, which is faster and
            may differ in the last bit.

    Raises:
        ValueError: if an option is out of range, or weights with a penalty have half precision.
        TypeError: if ``prox`` is no operator or a parameter no real number.
        RuntimeError: in a step, if a gradient is sparse.

    Example:
        >>> from aleator.optim import proximal as prox
        >>> model = torch.nn.Linear(3, 2)
        >>> optimizer = ProximalSGD(model.parameters(), lr=0.1, momentum=0.9, prox=prox.L1(1e-3))
        >>> model(torch.ones(1, 3)).square().sum().backward()
        >>> optimizer.step()
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        prox: Prox | None = None,
        prox_scale: ProxScale = "effective",
        apply_to: ApplyTo = None,
        foreach: bool | None = None,
    ) -> None:
        defaults: dict[str, Any] = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": False,
            "foreach": foreach,
            "differentiable": False,
            "fused": None,
            "prox": prox,
            "prox_scale": prox_scale,
            "apply_to": apply_to,
        }
        torch.optim.Optimizer.__init__(self, params, defaults)

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        check_not_negative(group, "lr", "weight_decay")
        check_fraction(group, "momentum", "dampening")
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
            raise ValueError(
                f"nesterov must be False without momentum or with dampening, got momentum={group['momentum']} and "
                f"dampening={group['dampening']}"
            )
        if group["maximize"] or group["fused"] or group["differentiable"]:
            raise ValueError("maximize, fused and differentiable cannot be used with a proximal step")
        if group["prox_scale"] not in ("effective", "lr"):
            raise ValueError(f"prox_scale must be 'effective' or 'lr', got {group['prox_scale']!r}")

    def prox_step(self, group: dict[str, Any]) -> Step:
        """Return γ(1 − dampening)/(1 − β), or γ with ``prox_scale="lr"``."""
        rate: Step = group["lr"]
        return rate if group["prox_scale"] == "lr" else rate * effective_factor(group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step; return what the closure returned.

        Raises:
            RuntimeError: if a gradient is sparse.
        """
        # torch's own step is not called: its hooks would run a second time.
        loss = None if closure is None else evaluated(closure)
        for group in self.param_groups:
            params: list[Tensor] = []
            grads: list[Tensor] = []
            buffers: list[Tensor | None] = []
            self._init_group(group, params, grads, buffers)  # type: ignore[no-untyped-call]
            refuse_sparse(params)
            foreach, penalty = group["foreach"], group["prox"]
            at_once = foreach is None and penalty is not None and not penalty.is_identity
            sgd(
                params,
                grads,
                buffers,
                foreach=foreach,
                fused=(at_once and _in_one_pass(params, grads, buffers)) or None,
                weight_decay=group["weight_decay"],
                momentum=group["momentum"],
                lr=group["lr"],
                dampening=group["dampening"],
                nesterov=group["nesterov"],
                maximize=False,
            )
            if group["momentum"] != 0:
                for parameter, buffer in zip(params, buffers, strict=True):
                    self.state[parameter]["momentum_buffer"] = buffer
            self.apply_prox_(group, trained(group))
        return loss


def effective_factor(group: dict[str, Any]) -> float:
    """Return (1 − dampening)/(1 − β), by which momentum multiplies the step that a gradient makes in the end.

    Without momentum torch does not look at dampening.
    """
    return float((1 - group.get("dampening", 0.0)) / (1 - group["momentum"])) if group["momentum"] else 1.0


def _in_one_pass(params: list[Tensor], grads: list[Tensor], buffers: list[Tensor | None]) -> bool:
    """Whether torch's fused kernel for CPUs can take the step.

    It wants all tensors at the same place in their life, and what belongs to one parameter laid out alike: it walks
    through memory, whatever the strides say.
    """
    begun = [buffer is not None for buffer in buffers]
    return (
        not torch.compiler.is_compiling()
        and all(begun) == any(begun)
        and all(
            p.is_contiguous() and g.is_contiguous() and (b is None or b.is_contiguous())
            for p, g, b in zip(params, grads, buffers, strict=True)
        )
        and all(p.device.type == "cpu" and p.is_floating_point() and not isinstance(p, DTensor) for p in params)
    )

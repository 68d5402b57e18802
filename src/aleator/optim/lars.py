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

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim.optimizer import ParamsT

from aleator.optim.arguments import Bounds, check_bounds, check_fraction, check_not_negative
from aleator.optim.sharded_norms import by_placement, local, local_gradient, norms
from aleator.optim.tensorwise import Adapt, TensorwiseOptimizer, portions, step_tensors, trust_ratios

Form = Literal["original", "algorithm1"]


class LayerState(NamedTuple):
    """Parallel lists over parameter tensors: the whole tensors, and this process's parts of what belongs to them."""

    params: list[Tensor]
    weights: list[Tensor]
    grads: list[Tensor]
    momenta: list[Tensor]
    steps: list[Tensor]
    ratios: list[Tensor]


# The options of a group, whether its tensors here are adapted, and the tensors.
Layers = tuple[dict[str, Any], bool, LayerState]


def local_rate(
    weight_norm: Float[Tensor, "*layers"],
    grad_norm: Float[Tensor, "*layers"],
    *,
    weight_decay: float,
    trust_coefficient: float,
    eps: float,
) -> Float[Tensor, "*layers"]:
    """Return q = η‖w‖/(‖g‖ + λ‖w‖ + ε) per layer, and 1 where ‖w‖ or ‖g‖ is zero (You et al. 2017).

    Args:
        weight_norm: ‖w‖.
        grad_norm: ‖g‖, without weight decay.
        weight_decay: λ.
        trust_coefficient: η.
        eps: ε.
    """
    adapted = (weight_norm > 0) & (grad_norm > 0)
    denominator = torch.where(adapted, grad_norm + weight_decay * weight_norm + eps, 1)
    return torch.where(adapted, trust_coefficient * weight_norm / denominator, 1)


class LARS(TensorwiseOptimizer):
    """LARS, in the form of 2017 or as Algorithm 1 of the LAMB paper.

    A layer is a parameter tensor; under FSDP2 the norms are those of the whole tensors, from one all-reduce in a step.
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

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # closures return numbers or tensors
        """Take a step.

        Args:
            closure: computes the loss anew and returns it.

        Raises:
            RuntimeError: if a gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        layers = []
        for group in self.param_groups:
            for adapted in (True, False):
                state = LayerState([], [], [], [], [], [])
                self._init_group(group, adapted, *state)
                if state.params:
                    torch._foreach_add_(state.steps, 1)
                    layers.append((group, adapted, state))
        take = original_step if self.form == "original" else algorithm1_step
        for portion in portions(layers):
            take(portion)
        return loss

    def _check(self, group: dict[str, Any]) -> None:
        check_not_negative(group, "lr", "weight_decay", "trust_coefficient", "eps")
        check_fraction(group, "momentum")
        check_bounds(group, "phi")
        foreign = ("nesterov", "clip") if self.form == "algorithm1" else ("phi",)
        for name in foreign:
            if group[name] not in (None, False):
                raise ValueError(f"{name} must be left alone with form={self.form!r}, got {group[name]}")

    def _init_group(
        self,
        group: dict[str, Any],
        adapted: bool,
        params: list[Tensor],
        weights: list[Tensor],
        grads: list[Tensor],
        momenta: list[Tensor],
        steps: list[Tensor],
        ratios: list[Tensor],
    ) -> None:
        # torch.compile knows this method by its name: it runs it as it is and takes the lists for inputs.
        for parameter in self._trained(group, adapted):
            state = self._initial_state(parameter, "momentum_buffer")
            params.append(parameter)
            weights.append(local(parameter))
            grads.append(local_gradient(parameter))
            momenta.append(local(state["momentum_buffer"]))
            steps.append(state["step"])
            ratios.append(state["trust_ratio"])


def original_step(layers: list[Layers]) -> None:
    """Step every tensor by the algorithm of 2017; buffers start at zero, so that the first step is q(g + λw).

    Args:
        layers: the options of a group, whether they are adapted, and their tensors.
    """
    rates = _local_rates([(group, state) for group, adapted, state in layers if adapted])
    for group, adapted, state in layers:
        directions = _decayed(state, group["weight_decay"])
        if adapted:
            own, rates = rates[: len(directions)], rates[len(directions) :]
            if group["clip"]:
                own = [(rate / group["lr"]).clamp(max=1) for rate in own]
            torch._foreach_copy_(state.ratios, own)
            torch._foreach_mul_(directions, own)
        torch._foreach_mul_(state.momenta, group["momentum"])
        torch._foreach_add_(state.momenta, directions)
        if group["nesterov"]:
            torch._foreach_add_(directions, state.momenta, alpha=group["momentum"])
        else:
            torch._foreach_copy_(directions, state.momenta)
        step_tensors(state.weights, directions, group["lr"])


def algorithm1_step(layers: list[Layers]) -> None:
    """Step every tensor by Algorithm 1 of the LAMB paper.

    Args:
        layers: the options of a group, whether they are adapted, and their tensors.
    """
    for group, _, state in layers:
        torch._foreach_lerp_(state.momenta, _decayed(state, group["weight_decay"]), 1 - group["momentum"])
    adapted = [(group, state) for group, adapt, state in layers if adapt]
    ratios = trust_ratios(
        [parameter for _, state in adapted for parameter in state.params],
        [weight for _, state in adapted for weight in state.weights],
        [momentum for _, state in adapted for momentum in state.momenta],
        [group["phi"] for group, state in adapted for _ in state.params],
    )
    for group, adapt, state in layers:
        own = None
        if adapt:
            own, ratios = ratios[: len(state.params)], ratios[len(state.params) :]
            torch._foreach_copy_(state.ratios, own)
        step_tensors(state.weights, [momentum.clone() for momentum in state.momenta], group["lr"], own)


def _decayed(state: LayerState, weight_decay: float) -> list[Tensor]:
    """Return g + λw, in the precision of the running means."""
    grads = [grad.to(mean.dtype, copy=True) for grad, mean in zip(state.grads, state.momenta, strict=True)]
    if weight_decay:
        weights = [weight.to(mean.dtype) for weight, mean in zip(state.weights, state.momenta, strict=True)]
        torch._foreach_add_(grads, weights, alpha=weight_decay)
    return grads


def _local_rates(layers: list[tuple[dict[str, Any], LayerState]]) -> list[Tensor]:
    """Return q of every tensor, 0-d. The norms of all of them are reduced together."""
    parameters = [parameter for _, state in layers for parameter in state.params]
    weights = [weight for _, state in layers for weight in state.weights]
    grads = [grad for _, state in layers for grad in state.grads]
    found: list[tuple[Tensor, Tensor]] = [None] * len(parameters)  # type: ignore[list-item]  # all are filled below
    for placement, indices in by_placement(parameters).items():
        both = norms([weights[i] for i in indices] + [grads[i] for i in indices], placement)
        for i, *pair in zip(indices, *(half.unbind() for half in both.chunk(2)), strict=True):
            found[i] = (pair[0], pair[1])
    rates: list[Tensor] = []
    for group, state in layers:
        options = {name: group[name] for name in ("weight_decay", "trust_coefficient", "eps")}
        own, found = found[: len(state.params)], found[len(state.params) :]
        rates += [local_rate(weight_norm, grad_norm, **options) for weight_norm, grad_norm in own]
    return rates

"""Updates of the recipe ``surrogate`` from a target gradient: many steps on a surrogate, or one step of a baseline.

A target gradient is ∂ℓ/∂z at the outputs z = f(θ) of a batch. Gradient descent, Adam and gradient descent with Armijo's
line search (SLS) need one for every step; evaluations of ℓ alone, which a line search asks for, are counted apart.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, Adam, Optimizer

from aleator.experiment import StepResult
from aleator.optim import (
    AdaGradNormStep,
    ArmijoGD,
    Constant,
    Exponential,
    InverseSqrt,
    NotFiniteTargetGradient,
    TargetArmijo,
    TargetSurrogate,
)

if TYPE_CHECKING:
    from aleator.recipes.surrogate.options import Surrogate

Losses = Callable[[Tensor], Tensor]
"""The loss of each example, as a function of the model's outputs."""

_log = logging.getLogger("aleator.recipes")


class TargetUpdates:
    """Updates a model, asking for one target gradient each time.

    Args:
        model: gives the targets.
        options: of the recipe.
        smooth_step: 1/L of the loss, γ where the options have none.
    """

    def __init__(self, model: nn.Module, options: Surrogate, smooth_step: float) -> None:
        self.model, self.options = model, options
        self.surrogate: TargetSurrogate | None = None
        if options.method == "sso":
            steps = 1 if options.inner == "lbfgs" else options.option("inner_steps")
            gamma = _step_size(options, smooth_step)
            self.surrogate = TargetSurrogate(model, gamma, inner=_inner(options), inner_steps=steps)
        else:
            self.optimizer = _baseline(model, options)
        self.counts = dict.fromkeys(
            ("target_gradient_calls", "loss_evaluations", "total_inner_steps", "failed_searches"), 0
        )

    def __call__(self, inputs: Tensor, losses: Losses) -> StepResult:
        """Update the model once; a batch whose loss or gradient is not finite is reported as skipped."""
        self.counts["target_gradient_calls"] += 1
        losses = functools.partial(self._counted, losses)
        metrics: dict[str, Any]
        try:
            metrics = (self._descend if self.surrogate is None else self._on_a_surrogate)(inputs, losses)
        except (_NotFiniteError, NotFiniteTargetGradient):
            return StepResult(examples=len(inputs), skipped=True)
        return StepResult({name: torch.as_tensor(v).double() for name, v in metrics.items()}, examples=len(inputs))

    def totals(self) -> dict[str, float]:
        """Return what was counted since the beginning."""
        return {name: float(count) for name, count in self.counts.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the weights, the state of the method and the counts."""
        method = self.optimizer if self.surrogate is None else self.surrogate
        return {"model": self.model.state_dict(), "method": method.state_dict(), "counts": dict(self.counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        self.model.load_state_dict(state["model"])
        (self.optimizer if self.surrogate is None else self.surrogate).load_state_dict(state["method"])
        self.counts = dict(state["counts"])

    def _on_a_surrogate(self, inputs: Tensor, losses: Losses) -> dict[str, Any]:
        assert self.surrogate is not None
        done = self.surrogate.step(inputs, losses)
        taken, optimizer = done.inner_steps, self.surrogate.optimizer
        if isinstance(optimizer, LBFGS):  # its iterations are the inner steps, all within one step of the optimizer
            taken = optimizer.state_dict()["state"][0]["n_iter"] if taken else 0
        self.counts["total_inner_steps"] += taken
        self._failed(done.failed_searches, done.stopped)
        if not done.finite:
            raise _NotFiniteError
        return {"loss": done.loss, "inner_steps": taken, "step_size": done.step_size}

    def _descend(self, inputs: Tensor, losses: Losses) -> dict[str, Any]:
        def closure() -> Any:
            loss = losses(self.model(inputs)).mean()
            if torch.is_grad_enabled():
                self.optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()

        metrics = {"loss": self.optimizer.step(closure)}
        if isinstance(self.optimizer, ArmijoGD) and self.optimizer.search is not None:
            search = self.optimizer.search
            self._failed(int(not search.accepted), f"the line search found no lower loss in {search.trials} trials")
            metrics["step"] = search.step
        return metrics

    def _counted(self, losses: Losses, targets: Tensor) -> Tensor:
        found = losses(targets)
        if not torch.is_grad_enabled():
            self.counts["loss_evaluations"] += 1
        elif not found.isfinite().all():
            raise _NotFiniteError
        return found

    def _failed(self, searches: int, reason: str | None) -> None:
        if searches and not self.counts["failed_searches"]:
            _log.warning("%s; this is logged once, see failed_searches", reason)
        self.counts["failed_searches"] += searches


class _NotFiniteError(Exception):
    """The loss, or the gradient of its surrogate, is not finite."""


def _step_size(options: Surrogate, smooth_step: float) -> Constant | AdaGradNormStep | TargetArmijo:
    gamma = options.step_size or smooth_step
    rules: dict[str, Callable[[], Constant | AdaGradNormStep | TargetArmijo]] = {
        "constant": lambda: Constant(gamma),
        "inverse-sqrt": lambda: InverseSqrt(gamma),
        "exponential": lambda: Exponential(gamma, options.calls),
        "adagrad-norm": lambda: AdaGradNormStep(gamma),
        "armijo": lambda: TargetArmijo(gamma),
    }
    return rules[options.option("step_schedule")]()


def _inner(options: Surrogate) -> Callable[[list[nn.Parameter]], Optimizer] | Literal["exact"]:
    makers: dict[str, Any] = {
        "armijo": functools.partial(_armijo, options=options),
        "exact": "exact",
        "lbfgs": functools.partial(LBFGS, max_iter=options.option("inner_steps"), line_search_fn="strong_wolfe"),
        "adam": functools.partial(Adam, lr=options.option("lr")),
    }
    return makers[options.option("inner")]  # type: ignore[no-any-return]


def _baseline(model: nn.Module, options: Surrogate) -> Optimizer:
    parameters = list(model.parameters())
    if options.method == "sls":
        return _armijo(parameters, options)
    return (Adam if options.method == "adam" else SGD)(parameters, lr=options.option("lr"))


def _armijo(parameters: list[nn.Parameter], options: Surrogate) -> ArmijoGD:
    # Enough trials for features of any scale.
    return ArmijoGD(parameters, c=options.option("armijo_c"), max_tries=400, min_step=1e-16)


def model_of(options: Surrogate, inputs: int, outputs: int) -> nn.Module:
    """Return a linear model that is zero, or one layer of hidden units as torch initialises it."""
    dtype = torch.float64 if options.precision == "float64" else torch.float32
    if options.option("model") == "mlp":
        width = options.option("width")
        layers = nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, outputs)
        return nn.Sequential(*layers).to(dtype)
    linear = nn.Linear(inputs, outputs).to(dtype)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear

"""Target-based surrogates: many parameter updates for one gradient that is expensive.

Where a loss is a function of a model's outputs, h(θ) = ℓ(f(θ)), and ∇ℓ at the outputs z = f(θ) is what costs — a
simulator, a labeller, an attack — ask for it once and descend on a model of ℓ around the outputs of the batch,

    S_t(θ) = ℓ(z_t) + (1/N) Σ_i [ ⟨g_i, f_i(θ) − z_i⟩ + ‖f_i(θ) − z_i‖² / (2γ_t) ],

which costs forward and backward passes of f alone. With γ ≤ 1/L for a loss that is L-smooth in z, S_t lies above h and
touches it at θ_t: every decrease of S_t is at least as large a decrease of h. One inner step with a step s is gradient
descent with s; inner steps without end are projected gradient descent in target space. On mini-batches, solving S_t
to its end fits the batch and not the data: use few inner steps, a larger batch or a falling γ.

W. Lavington, S. Vaswani, R. Babanezhad, M. Schmidt and N. Le Roux, "Target-based Surrogates for Stochastic
Optimization", ICML 2023, arXiv 2302.02607. The authors' program divides g by an inverse step η and leaves out the ½:
γ = 1/(2η).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.optim import Optimizer

from aleator.optim.targets.armijo import ArmijoGD
from aleator.optim.targets.least_squares import LeastSquares, check_linear, linear_rows
from aleator.optim.targets.repeated_passes import refuse_stochastic, repeating
from aleator.optim.targets.step_size import Constant, StepSize

Oracle = Callable[[Tensor], Tensor | tuple[Tensor, Tensor]]
"""From targets, examples × outputs, to the loss of each example; or to losses (or their mean) and the gradient of each
example's own loss in its targets, which is not divided by the number of examples."""

_CONVERGED = "the surrogate's gradient is below tolerance"
_NOT_FINITE = "the surrogate's gradient is not finite"

InnerSolver = Callable[[list[nn.Parameter]], Optimizer] | Literal["exact"]


class NotFiniteTargetGradient(ValueError):
    """The gradient in the targets of some process is not finite: the batch cannot be used."""


@runtime_checkable
class Metric(Protocol):
    """Weights of squared distances in target space, ``anchor.shape`` or one more dimension for a matrix per example."""

    def __call__(self, anchor: Tensor, grad: Tensor, ids: Tensor | None) -> Tensor:
        """Return the weights around ``anchor``."""
        ...


@dataclass(frozen=True)
class SurrogateStep:
    """What one outer step did.

    Attributes:
        loss: the mean loss of the batch at the anchor, before the step, 0-d.
        decrease: how far the surrogate fell, 0-d.
        step_size: γ.
        inner_steps: steps of the inner optimizer that were taken; one of torch's L-BFGS has ``max_iter`` iterations.
        failed_searches: line searches that found no step; there is at most one, because the inner loop then ends.
        stopped: why the inner loop ended before its number of steps, or None.
        finite: False where it ended because the surrogate's gradient was not.
        target_gradient_calls: gradients that the oracle has given since the beginning.
        total_inner_steps: inner steps since the beginning.
    """

    loss: Tensor
    decrease: Tensor
    step_size: float
    inner_steps: int
    failed_searches: int
    stopped: str | None
    target_gradient_calls: int
    total_inner_steps: int
    finite: bool = True


def surrogate_loss(
    targets: Shaped[Tensor, "batch ..."],
    anchor: Shaped[Tensor, "batch ..."],
    grad: Shaped[Tensor, "batch ..."],
    step_size: float,
    weights: Shaped[Tensor, "batch ..."] | None = None,
) -> Float[Tensor, ""]:
    """Return S(θ) − ℓ(z): the mean over examples of ⟨g, Δ⟩ + ‖Δ‖²/(2γ), Δ = targets − anchor; 0 at the anchor.

    Args:
        targets: f(θ), with its graph.
        anchor: z, detached.
        grad: of each example's own loss at the anchor, detached.
        step_size: γ.
        weights: of the squares, as large as the targets; or a matrix M per example, for ΔᵀMΔ, with one output
            dimension. None is 1.
    """
    dtype = torch.promote_types(targets.dtype, torch.float32)
    difference = (targets.to(dtype) - anchor.to(dtype)).reshape(len(anchor), -1)
    slope = grad.reshape(difference.shape).to(dtype)
    stretched = difference
    if weights is not None and weights.ndim == anchor.ndim + 1:
        stretched = torch.einsum("nij,nj->ni", weights.to(dtype), difference)
    elif weights is not None:
        stretched = difference * weights.reshape(difference.shape).to(dtype)
    return (difference * (slope + stretched / (2 * step_size))).sum(1).mean()


class TargetSurrogate:
    """Trains a model by surrogates in the space of its outputs; the name of the method is SSO.

    A step asks the oracle for one gradient and takes ``inner_steps`` steps on the surrogate that it gives. Under
    DistributedDataParallel every process passes its part of the batch, parts of one size, and its ``process_group``;
    every inner step then averages gradients as any other does.

    Args:
        model: gives the targets, examples × outputs, in a call with the step's inputs.
        step_size: γ, or a rule for it, see `aleator.optim.targets.step_size`. 1/L for the loss's smoothness L in the
            outputs of one example is in `SMOOTH_STEP`.
        inner: makes the optimizer of the inner steps from the model's parameters, such as
            ``lambda params: torch.optim.Adam(params, lr=1e-3)``; by default gradient descent with Armijo's line search,
            which tries steps down to 1e-16, for inputs of any scale. ``"exact"`` minimises the surrogate of a
            ``torch.nn.Linear`` in one inner step; while steps are given the same tensor of inputs, it is factored once.
        inner_steps: m, the most inner steps per outer step.
        tolerance: the inner loop ends where the gradient's norm is at most this, or not a number. Comparing waits for
            the device; 0 does not compare.
        metric: weights of the squared distance, such as `logistic_metric`; None is Euclidean.
        regularizer: a function of the model that is part of the objective and not of ℓ, added to every surrogate.
        reset_inner: whether each outer step has a new inner optimizer. By default L-BFGS is new each time, since its
            history belongs to one surrogate, a line search begins anew, and others go on.
        freeze_stochastic: let a model with dropout or batch normalisation train: every pass of an outer step then
            draws the same random numbers, and running statistics move once.
        process_group: the processes that share every batch.

    Raises:
        ValueError: if an option is out of range.
        TypeError: if ``inner`` or ``step_size`` is of another kind, or ``inner="exact"`` and the model is not a plain
            linear one that learns all its parameters.

    Example:
        >>> x, y = torch.randn(100, 5), torch.randn(100, 1)
        >>> model = torch.nn.Linear(5, 1)
        >>> surrogate = TargetSurrogate(model, SMOOTH_STEP["squared"], inner_steps=10)
        >>> info = surrogate.step(x, lambda z: (z - y).square().sum(1))
        >>> info.target_gradient_calls
        1
    """

    def __init__(
        self,
        model: nn.Module,
        step_size: float | StepSize,
        *,
        inner: InnerSolver | None = None,
        inner_steps: int = 10,
        tolerance: float = 1e-6,
        metric: Metric | None = None,
        regularizer: Callable[[nn.Module], Tensor] | None = None,
        reset_inner: bool | None = None,
        freeze_stochastic: bool = False,
        process_group: ProcessGroup | None = None,
    ) -> None:
        if inner_steps < 1 or inner_steps % 1:
            raise ValueError(f"inner_steps must be an integer of at least 1, got {inner_steps}")
        if not 0 <= tolerance < math.inf:
            raise ValueError(f"tolerance must be finite and not negative, got {tolerance}")
        given: Any = inner  # what types promise is not what users always pass
        if not (given in (None, "exact") or callable(given)):
            raise TypeError(f"inner must be 'exact' or a function that makes an optimizer, got {given!r}")
        given = step_size
        if not isinstance(given, (int, float, StepSize)):
            raise TypeError(f"step_size must be a number or a rule, got {given!r}")
        if inner == "exact":
            check_linear(model)
        for name, value in (("regularizer", regularizer), ("process_group", process_group)):
            if inner == "exact" and value is not None:
                raise ValueError(f"{name} must be None with inner 'exact', got {value}")
        self.model = model
        self.step_size: StepSize = Constant(step_size) if isinstance(step_size, (int, float)) else step_size
        self.inner_steps, self.tolerance = inner_steps, tolerance
        self.metric, self.regularizer = metric, regularizer
        self.freeze_stochastic, self.process_group = freeze_stochastic, process_group
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        if not self.parameters:
            raise ValueError("model must have parameters that require gradients, got none")
        self._make = inner or functools.partial(ArmijoGD, max_tries=400, min_step=1e-16)
        self.optimizer = None if self._make == "exact" else self._new_optimizer()
        self._reset = isinstance(self.optimizer, torch.optim.LBFGS) if reset_inner is None else reset_inner
        self._restart = reset_inner is None
        self._factored: tuple[Tensor, int, LeastSquares] | None = None
        self.target_gradient_calls = 0
        self.total_inner_steps = 0

    def step(self, inputs: Any, oracle: Oracle, *, ids: Shaped[Tensor, " batch"] | None = None) -> SurrogateStep:
        """Ask for one gradient in target space and take the inner steps on its surrogate.

        Args:
            inputs: the batch; a tuple holds several arguments of the model.
            oracle: the loss of the outputs, called once for its gradient. It must not know the model's graph: what it
                is given is a new leaf, in float32 at least, that requires a gradient.
            ids: the examples' indices in the data set, for a metric that belongs to examples.

        Raises:
            RuntimeError: if the model has dropout or batch normalisation in training mode and ``freeze_stochastic`` is
                False.
            ValueError: if the model's output is no tensor or has no examples; if the oracle returns something else than
                tensors, its loss does not depend on the targets, its shapes do not fit the targets, or its gradient is
                not finite on some process, then a `NotFiniteTargetGradient`. Parameters and buffers are then as before.
        """
        forward = functools.partial(self.model, *(inputs if isinstance(inputs, tuple) else (inputs,)))
        if not self.freeze_stochastic:
            refuse_stochastic(self.model)
        alike = repeating(self.model.parameters(), self.model, freeze_stochastic=self.freeze_stochastic)
        with alike as again, torch.enable_grad():
            first: Any = forward()
            if not isinstance(first, Tensor) or not len(first):
                got = f"shape {tuple(first.shape)}" if isinstance(first, Tensor) else type(first).__name__
                raise ValueError(f"model must return a tensor, examples × outputs, of at least one example, got {got}")
            anchor = first.detach().to(torch.promote_types(first.dtype, torch.float32))
            loss, grad, loss_of = self._ask(oracle, anchor)
            step_size = self.step_size(anchor, grad, self._mean, loss_of)
            weights = None if self.metric is None else self.metric(anchor, grad, ids)
            model_of = functools.partial(surrogate_loss, anchor=anchor, grad=grad, step_size=step_size, weights=weights)
            if not getattr(self.step_size, "accepted", True):
                taken, failed, fallen = 0, 1, first.detach().new_zeros(())
                stopped: str | None = "the search for γ found no step that lowers the loss"
            elif self.optimizer is None:
                taken, failed, stopped, fallen = self._solve(inputs, model_of, grad, step_size, weights)
            else:
                taken, failed, stopped, fallen = self._descend(first, lambda: again(forward), model_of)
        self.total_inner_steps += taken
        calls, finite = self.target_gradient_calls, stopped != _NOT_FINITE
        return SurrogateStep(loss, fallen, step_size, taken, failed, stopped, calls, self.total_inner_steps, finite)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the inner optimizer, the step-size rule and the metric, and the counts."""
        metric = getattr(self.metric, "state_dict", None)
        return {
            "optimizer": self.optimizer.state_dict() if self.optimizer is not None else None,
            "step_size": self.step_size.state_dict(),
            "metric": metric() if metric is not None else None,
            "target_gradient_calls": self.target_gradient_calls,
            "total_inner_steps": self.total_inner_steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        if self.optimizer is not None:
            self.optimizer.load_state_dict(state["optimizer"])
        self.step_size.load_state_dict(state["step_size"])
        if state["metric"] is not None:
            cast("Any", self.metric).load_state_dict(state["metric"])
        self.target_gradient_calls = int(state["target_gradient_calls"])
        self.total_inner_steps = int(state["total_inner_steps"])

    def _ask(self, oracle: Oracle, anchor: Tensor) -> tuple[Tensor, Tensor, Callable[[Tensor], float] | None]:
        """Return the mean loss, the gradient of each example's own loss, and the mean loss as a function if it is one.

        Autograd sees the targets and nothing before them.
        """
        targets = anchor.clone().requires_grad_()
        answer: Any = oracle(targets)
        self.target_gradient_calls += 1
        loss_of = None
        parts = answer if isinstance(answer, tuple) and len(answer) == 2 else (answer,)
        if not all(isinstance(part, Tensor) for part in parts):
            kinds = ", ".join(type(part).__name__ for part in parts)
            raise ValueError(
                f"oracle must return a tensor of losses, or one of losses and one of gradients, got {kinds}"
            )
        if isinstance(answer, tuple):
            losses, grad = answer[0].detach(), answer[1].detach()
        else:
            if answer.shape != anchor.shape[:1]:
                raise ValueError(
                    f"oracle must return a loss per example, {len(anchor)}, got shape {tuple(answer.shape)}"
                )
            if not answer.requires_grad:
                raise ValueError("oracle must return a loss that depends on the targets, got one that does not")
            (found,) = torch.autograd.grad(answer.sum(), targets, allow_unused=True)
            if found is None:
                raise ValueError("oracle must return a loss that depends on the targets, got one that does not")
            losses, grad = answer.detach(), found

            def loss_of(z: Tensor) -> float:
                with torch.no_grad():
                    return self._mean(cast("Tensor", oracle(z)))

        if grad.shape != anchor.shape:
            raise ValueError(f"oracle must return a gradient of shape {tuple(anchor.shape)}, got {tuple(grad.shape)}")
        if self._mean((~grad.isfinite().all()).double()) > 0:  # on any process: the others would wait for it
            raise NotFiniteTargetGradient("oracle must return a finite gradient, got NaN or infinity")
        return losses.mean(), grad, loss_of

    def _descend(
        self, first: Tensor, forward: Callable[[], Tensor], model_of: Callable[[Tensor], Tensor]
    ) -> tuple[int, int, str | None, Tensor]:
        """Take inner steps; return their number, failed searches, why they ended early, and the decrease."""
        if self._reset:
            self.optimizer = self._new_optimizer()
        elif self._restart and isinstance(self.optimizer, ArmijoGD):
            self.optimizer.restart()
        optimizer = cast("Optimizer", self.optimizer)
        if not first.requires_grad:
            return 0, 0, "the targets do not depend on the parameters", first.new_zeros(())
        start = self._objective(first, model_of)  # at the anchor, whose graph is there already
        at_anchor = start.detach()
        for taken in range(self.inner_steps):
            value = start if taken == 0 else self._objective(forward(), model_of)
            self._backward(value)
            if self.tolerance and not self.tolerance < (norm := self._gradient_norm()) < math.inf:
                reason = _CONVERGED if norm <= self.tolerance else _NOT_FINITE
                return taken, 0, reason, at_anchor - value.detach()
            optimizer.step(self._closure(value, forward, model_of))
            search = getattr(optimizer, "search", None)
            if search is not None and not search.accepted:
                reason = f"the line search found no step that lowers the surrogate in {search.trials} trials"
                return taken, 1, reason, at_anchor - value.detach()
        with torch.no_grad():
            return self.inner_steps, 0, None, at_anchor - self._objective(forward(), model_of)

    def _closure(
        self, ready: Tensor, forward: Callable[[], Tensor], model_of: Callable[[Tensor], Tensor]
    ) -> Callable[[], Any]:
        """Return the closure of an inner step: its first call finds loss and gradient that are there already.

        It gives all processes one loss, so that line searches that know nothing of them decide alike.
        """
        called = False

        def closure() -> Any:
            nonlocal called
            if not called:
                called = True
                return self._shared(ready.detach())
            value = self._objective(forward(), model_of)
            if torch.is_grad_enabled():
                self._backward(value)
            return self._shared(value.detach())

        return closure

    def _backward(self, value: Tensor) -> None:
        for p in self.parameters:  # also those that the inner optimizer leaves out: the norm is over all
            p.grad = None
        value.backward()  # type: ignore[no-untyped-call]

    def _objective(self, targets: Tensor, model_of: Callable[[Tensor], Tensor]) -> Tensor:
        value = model_of(targets)
        return value if self.regularizer is None else value + self.regularizer(self.model)

    @torch.no_grad()
    def _solve(
        self,
        inputs: Any,
        model_of: Callable[[Tensor], Tensor],
        grad: Tensor,
        step_size: float,
        weights: Tensor | None,
    ) -> tuple[int, int, str | None, Tensor]:
        """Minimise the surrogate of a linear model: least squares for the move −γ g/w, rows weighted by √w."""
        layer = cast("nn.Linear", self.model)
        (given,) = inputs if isinstance(inputs, tuple) else (inputs,)
        if weights is not None and weights.ndim == grad.ndim + 1:
            raise ValueError("metric must give a weight per output with inner 'exact', got a matrix per example")
        wanted = (-step_size * grad).reshape(-1, layer.out_features)
        if weights is None:
            found = self._factors_of(given, layer)(wanted)
        else:
            rows = linear_rows(given, layer)
            roots = weights.reshape(wanted.shape).sqrt().to(rows.dtype)
            columns = [
                LeastSquares(r[:, None] * rows)((w / r)[:, None]) for r, w in zip(roots.T, wanted.T, strict=True)
            ]
            found = torch.cat(columns, dim=1)
        layer.weight.add_(found[: layer.in_features].T)
        if layer.bias is not None:
            layer.bias.add_(found[-1])
        return 1, 0, None, -model_of(layer(given))

    def _factors_of(self, inputs: Tensor, layer: nn.Linear) -> LeastSquares:
        """Return the factored inputs; the last step's where they are the same tensor, unchanged."""
        if self._factored is None or self._factored[0] is not inputs or self._factored[1] != inputs._version:
            self._factored = None  # let go of the old factors before there are new ones
            self._factored = inputs, inputs._version, LeastSquares(linear_rows(inputs, layer))
        return self._factored[2]

    def _gradient_norm(self) -> float:
        return float(torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None]))

    def _mean(self, values: Tensor) -> float:
        return float(self._shared(values.double().mean()))

    def _shared(self, value: Tensor) -> Tensor:
        """Return the mean of a 0-d tensor over the processes."""
        if self.process_group is None:
            return value
        mean = value.clone()
        torch.distributed.all_reduce(mean, group=self.process_group)
        return mean / self.process_group.size()

    def _new_optimizer(self) -> Optimizer:
        return cast("Callable[[list[nn.Parameter]], Optimizer]", self._make)(self.parameters)

"""The common base of optimizers with proximal steps: the operators of parameters, and figures of a solution.

The whole objective is F(x) + f(x), F being the loss whose gradient is there. At a solution a step goes nowhere:

    ‖x − prox_{γf}(x − γ∇F(x))‖ / γ = 0,

which is the certificate of `proximal_gradient_norm`. It is ‖∇F‖ where there is no penalty.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from aleator.optim.loading import by_name
from aleator.optim.proximal.operator import Prox, Step, check_positive
from aleator.optim.proximal.shards import apply_to_parts_, check_whole, whole_of
from aleator.optim.sharded_norms import by_placement, local, local_gradient, norms, state_dtype

ApplyTo = Literal["all", "matrices"] | None


class Penalised(NamedTuple):
    """Parameters of one group with the same operator.

    Attributes:
        prox: the operator; None where there is no penalty.
        parameters: whole tensors.
    """

    prox: Prox | None
    parameters: list[Tensor]


class PenalisedOptimizer(Optimizer):
    """Base of the optimizers with a proximal step; not one by itself.

    A group's ``prox`` and ``apply_to`` are part of the program and no state: they are not saved, and stay as they are
    when a state is loaded. A state is matched to parameters by their names, where it and the optimizer have them.
    """

    _own_options: ClassVar[tuple[str, ...]] = ("prox", "apply_to")

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own. A ``prox`` of their own is for all of them, vectors included.

        Raises:
            ValueError: if an option is out of range.
            TypeError: if a parameter is no real number, or ``prox`` no operator.
            RuntimeError: if an operator on blocks meets a flat slice of several tensors, as FSDP1 makes them.
        """
        if param_group.get("prox") is not None:
            param_group.setdefault("apply_to", "all")
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            self._check(group)
            for name, parameter in self.named(len(self.param_groups) - 1):
                if not parameter.is_floating_point():
                    raise TypeError(f"parameters must be real, got {parameter.dtype} for parameter {name}")
                operator = group.get("prox")
                if operator is not None and (parameter.ndim >= 2 or group["apply_to"] != "matrices"):
                    check_fit(operator, name, parameter)
            self._begin(group)
        except Exception:
            self.param_groups.pop()
            raise

    def _check(self, group: dict[str, Any]) -> None:
        """Check a group's options."""
        operator = group["prox"]
        if operator is not None and not isinstance(operator, Prox):
            raise TypeError(f"prox must be an operator of aleator.optim.proximal or None, got {operator!r}")
        if group["apply_to"] not in (*get_args(get_args(ApplyTo)[0]), None):
            raise ValueError(f"apply_to must be 'all', 'matrices' or None, got {group['apply_to']!r}")
        check_no_double_decay(operator, group.get("weight_decay", 0.0))

    def _begin(self, group: dict[str, Any]) -> None:
        """Do what a group that was accepted needs once."""

    # --- which parameter has which operator

    def operator_of(self, group: dict[str, Any], parameter: Tensor) -> Prox | None:
        """Return the operator of a parameter, None where it is not penalised."""
        operator: Prox | None = group["prox"]
        if operator is None or group["apply_to"] == "all" or parameter.ndim >= 2:
            return operator
        # Biases and the gains of normalisation are left alone where there are matrices, unless somebody asks for them.
        if group["apply_to"] == "matrices" or any(p.ndim >= 2 for g in self.param_groups for p in g["params"]):
            return None
        return operator

    def penalised(self, group: dict[str, Any], parameters: list[Tensor]) -> list[Penalised]:
        """Return parameters of a group by their operators."""
        found: dict[int, Penalised] = {}
        for parameter in parameters:
            operator = self.operator_of(group, parameter)
            found.setdefault(id(operator), Penalised(operator, [])).parameters.append(parameter)
        return list(found.values())

    def prox_step(self, group: dict[str, Any]) -> Step:
        """Return t, the step with which this optimizer applies a group's operators."""
        rate: Step = group["lr"]
        return rate

    def metrics_of(self, group: dict[str, Any], parameters: list[Tensor]) -> list[Tensor] | None:
        """Return D of each parameter, or None for the Euclidean metric."""
        return None

    @torch.no_grad()
    def apply_prox_(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        """Replace parameters of a group by their proximal points, in place.

        At a rate of 0 nothing moves, projections included: ``set_optimizer_state_dict`` of torch takes such a step.
        """
        step = self.prox_step(group)
        if not isinstance(step, Tensor) and step == 0:
            return
        for operator, chosen in self.penalised(group, parameters):
            if operator is None:
                continue
            before = None
            if isinstance(step, Tensor) and operator.projection:
                before = [local(parameter).clone() for parameter in chosen]
            apply_to_parts_(operator, chosen, step, self.metrics_of(group, chosen))
            for parameter, old in zip(chosen, before or (), strict=bool(before)):
                part = local(parameter)
                part.copy_(torch.where(step.to(part.device) > 0, part, old))  # type: ignore[union-attr]

    # --- figures of a solution

    @torch.no_grad()
    def penalty(self) -> Float[Tensor, ""]:
        """Return f(x), the sum of all penalties, 0-d on the first parameter's device."""
        total = None
        for group in self.param_groups:
            for operator, parameters in self.penalised(group, group["params"]):
                for parameter in parameters if operator is not None else ():
                    assert operator is not None
                    value = operator.penalty(whole_of(parameter)).double()
                    total = value if total is None else total + value.to(total.device)
        if total is None:
            return torch.zeros((), dtype=torch.float64, device=self.param_groups[0]["params"][0].device)
        return total

    @torch.no_grad()
    def proximal_gradient_norm(self, step: float = 1.0) -> Float[Tensor, ""]:
        """Return ‖x − prox_{γf}(x − γg)‖/γ with the gradients that are there, 0-d; 0 at a solution.

        With the gradients of a mini-batch it does not become small. Weight decay counts as part of g. The metric is
        Euclidean, so that numbers of different optimizers can be compared.

        Args:
            step: γ, positive. A small one costs digits.

        Raises:
            ValueError: if ``step`` is not positive, or no parameter has a gradient.
        """
        check_positive("step", step)
        owners: list[Tensor] = []
        residuals: list[Tensor] = []
        for group in self.param_groups:
            trained = [parameter for parameter in group["params"] if parameter.grad is not None]
            decay = group.get("weight_decay", 0.0)
            for operator, parameters in self.penalised(group, trained):
                for parameter in parameters:
                    x = parameter.detach()
                    gradient = local_gradient(parameter) + decay * local(x) if decay else local_gradient(parameter)
                    moved = x.clone()
                    local(moved).sub_(gradient, alpha=step)
                    if operator is not None:
                        apply_to_parts_(operator, [moved], step)
                    owners.append(parameter)
                    residuals.append((local(x) - local(moved)).to(state_dtype(parameter)))
        if not owners:
            raise ValueError("parameters must have gradients, got none: call backward first")
        squares = [
            norms([residuals[i] for i in indices], placement).double().square().sum()
            for placement, indices in by_placement(owners).items()
        ]
        return torch.stack([square.to(squares[0].device) for square in squares]).sum().sqrt() / step

    # --- saving

    def named(self, index: int) -> list[tuple[str, Tensor]]:
        """Return a group's parameters with their names, or ``"GROUP.INDEX"`` where they have none."""
        group = self.param_groups[index]
        names = group.get("param_names") or [f"{index}.{i}" for i in range(len(group["params"]))]
        return list(zip(names, group["params"], strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Return what a run has to save, without operators."""
        state = super().state_dict()
        groups = [
            {key: value for key, value in group.items() if key not in self._own_options}
            for group in state["param_groups"]
        ]
        return {**state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where ``state_dict`` was called, by the names of parameters where both sides have them.

        Raises:
            ValueError: if the names differ, or what was saved has another shape than its parameter.
        """
        # The user's own hooks come first, and see the state as it was saved.
        handle = self.register_load_state_dict_pre_hook(lambda _, saved: self._matched(saved))
        try:
            super().load_state_dict(state_dict)
        finally:
            handle.remove()
        for state in self.state.values():
            for key, value in state.items():
                if isinstance(value, Tensor):
                    state[key] = value.clone()  # torch shares what need not be cast with the saved state

    def _matched(self, saved: dict[str, Any]) -> dict[str, Any]:
        groups = saved["param_groups"]
        if len(groups) == len(self.param_groups):  # otherwise torch refuses it
            ordered = by_name(self.param_groups, groups)
            groups = [
                {**own, **{key: value for key, value in group.items() if key not in self._own_options}}
                for own, group in zip(self.param_groups, ordered, strict=True)
            ]
            for index, group in enumerate(groups):
                for number, (name, parameter) in zip(group["params"], self.named(index), strict=False):
                    _check_loaded(name, parameter, saved["state"].get(number, {}))
        return {**saved, "param_groups": groups}


def _check_loaded(name: str, parameter: Tensor, state: dict[str, Any]) -> None:
    for part, value in state.items():
        if isinstance(value, Tensor) and value.ndim and value.shape != parameter.shape:
            raise ValueError(
                f"{part} of parameter {name} must have its shape {tuple(parameter.shape)}, got {tuple(value.shape)} in "
                "the saved state"
            )


def refuse_sparse(parameters: list[Tensor]) -> None:
    """Refuse gradients that are sparse: a penalty moves every coordinate.

    Raises:
        RuntimeError: if there is one.
    """
    for parameter in parameters:
        gradient = parameter.grad
        if gradient is not None and gradient.layout != torch.strided:
            raise RuntimeError(
                f"gradients must be dense, got one of layout {gradient.layout} for a parameter of shape "
                f"{tuple(parameter.shape)}"
            )


def check_fit(operator: Prox, name: str, parameter: Tensor) -> None:
    """Check that an operator can be a parameter's.

    Raises:
        ValueError: if the parameter has half precision and the operator a threshold, which would be rounded away.
        RuntimeError: if FSDP1 cut the parameter through the operator's blocks.
    """
    if state_dtype(parameter) != parameter.dtype and not operator.projection:
        raise ValueError(
            f"parameters with a penalty must be float32 or float64, got {parameter.dtype} for {name}: a threshold of "
            "lr·λ is lost in its rounding. Keep float32 weights and use autocast"
        )
    check_whole(operator, name, parameter)


def check_no_double_decay(operator: Prox | None, weight_decay: float | Tensor) -> None:
    """Refuse weight decay next to a ridge penalty, which is the same again.

    Raises:
        ValueError: if there are both.
    """
    if operator is not None and operator.ridge and (isinstance(weight_decay, Tensor) or weight_decay):
        raise ValueError(
            f"weight_decay must be 0 with {type(operator).__name__}, whose ridge part is weight decay, got "
            f"{weight_decay}"
        )


def trained(group: dict[str, Any]) -> list[Tensor]:
    """Return a group's parameters that have a gradient."""
    return [parameter for parameter in group["params"] if parameter.grad is not None]


def evaluated(closure: Callable[[], Any]) -> Any:
    """Return what a closure returns, called with gradients on."""
    with torch.enable_grad():
        return closure()


def parts(parameters: list[Tensor]) -> list[Tensor]:
    """Return this process's part of each parameter."""
    return [local(parameter) for parameter in parameters]

"""A proximal step after any optimizer's, for parameters chosen by their names, in the metric of that optimizer.

    Proximal(torch.optim.AdamW(model.named_parameters()), {r"conv.*weight": prox.GroupLasso(1e-4)})

After a step with Adam's denominators the Euclidean proximal point solves another problem, in which coordinates with
large gradients are penalised √v times as hard. The proximal point in the metric of the step has the fixed points of the
objective that was meant. It is taken after decoupled weight decay.

J. Melchior, R. Joseph and F. Moolekamp, "Proximal Adam: Robust Adaptive Update Scheme for Constrained Optimization",
arXiv 1910.10094, make the point for Adam.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from aleator.optim.proximal.metrics import diagonals, has_known_metric, is_diagonal, step_of
from aleator.optim.proximal.operator import Prox, Step
from aleator.optim.proximal.penalised import (
    PenalisedOptimizer,
    check_fit,
    check_no_double_decay,
    refuse_sparse,
    trained,
)


class Proximal(PenalisedOptimizer):
    """Any optimizer, with a proximal step after each of its own.

    The groups are the base optimizer's, and so is the state: learning-rate schedulers, ``add_param_group`` and the
    gradient scaler get this optimizer, and nobody else calls the base's ``step``. The step of an operator is the
    group's present ``lr``; momentum that is a sum (SGD's, RMSprop's) multiplies it by 1/(1 − β), see `ProximalSGD`.

    Args:
        base: SGD has the Euclidean metric; Adam, AdamW, RMSprop and Adagrad have the diagonal of their state. Others
            need ``metric="euclidean"``.
        prox: operators by regular expressions, which are searched for in the names of parameters. Each must be found in
            one name at least, and no name match two. What matches none has no penalty, so biases and normalisation
            have one only if they are asked for.
        named_parameters: the names, where the base was not made from ``named_parameters()``.
        metric: ``"auto"``, or ``"euclidean"`` for the Euclidean one whatever the base is.

    Raises:
        ValueError: if a pattern is found in no name or two in one, a name is not known, the metric of the base is not
            known, an operator has no form for it, or weights with a penalty have half precision.
        TypeError: if what a pattern stands for is no operator.
        RuntimeError: in a step, if a gradient is sparse.

    Example:
        >>> from aleator.optim import proximal as prox
        >>> model = torch.nn.Linear(3, 2)
        >>> base = torch.optim.AdamW(model.named_parameters(), lr=1e-3)
        >>> optimizer = Proximal(base, {"weight$": prox.GroupLasso(1e-2, dim=1)})  # removes inputs
    """

    _own_options = ()

    def __init__(
        self,
        base: Optimizer,
        prox: Mapping[str, Prox],
        named_parameters: Iterable[tuple[str, Tensor]] | None = None,
        *,
        metric: Literal["auto", "euclidean"] = "auto",
    ) -> None:
        if metric not in ("auto", "euclidean"):
            raise ValueError(f"metric must be 'auto' or 'euclidean', got {metric!r}")
        if isinstance(base, PenalisedOptimizer):
            raise ValueError(f"base must have no proximal step itself, got {type(base).__name__}")
        if metric == "auto" and not has_known_metric(base):
            raise ValueError(
                f"metric must be 'euclidean' for {type(base).__name__}, whose step has a metric that is not known "
                "here, got 'auto'"
            )
        for pattern, operator in prox.items():
            if not isinstance(operator, Prox):
                raise TypeError(f"prox must map patterns to operators, got {operator!r} for {pattern!r}")
            if metric == "auto" and is_diagonal(base) and not _has_form(operator):
                raise ValueError(
                    f"metric must be 'euclidean' for {type(operator).__name__}, which has no form for the metric of "
                    f"{type(base).__name__}, got 'auto'"
                )
        self.base = base
        self.patterns = {re.compile(pattern): operator for pattern, operator in prox.items()}
        self.metric = metric
        self.names = {} if named_parameters is None else {parameter: name for name, parameter in named_parameters}
        self.operators: dict[Tensor, Prox] = {}
        super().__init__(base.param_groups, {})
        self.state = base.state
        names = [name for i in range(len(self.param_groups)) for name, _ in self.named(i)]
        for searched in self.patterns:
            if not any(searched.search(name) for name in names):
                raise ValueError(
                    f"prox must have patterns found in a name, got {searched.pattern!r} for: {', '.join(names)}"
                )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own, to the base optimizer as well, with the operators of their names.

        Raises:
            ValueError: as at construction.
        """
        joins = not any(group is param_group for group in self.base.param_groups)
        if joins:
            self.base.add_param_group(param_group)
        try:
            super().add_param_group(self.base.param_groups[-1] if joins else param_group)
        except Exception:
            if joins:
                self.base.param_groups.pop()
            raise

    def _check(self, group: dict[str, Any]) -> None:
        if group.get("maximize"):
            raise ValueError("maximize must be False with a proximal step, got True")
        if not self.names and "param_names" not in group:
            raise ValueError(
                "named_parameters must be given, or the base optimizer made from named_parameters(), got neither: "
                "patterns are found in names"
            )

    def _begin(self, group: dict[str, Any]) -> None:
        chosen: dict[Tensor, Prox] = {}
        for name, parameter in self.named(len(self.param_groups) - 1):
            matching = [pattern for pattern in self.patterns if pattern.search(name)]
            if len(matching) > 1:
                both = ", ".join(repr(pattern.pattern) for pattern in matching)
                raise ValueError(f"prox must have one pattern for each parameter, got {both} for {name}")
            if matching:
                operator = self.patterns[matching[0]]
                check_fit(operator, name, parameter)
                check_no_double_decay(operator, group.get("weight_decay", 0.0))
                chosen[parameter] = operator
        self.operators |= chosen

    def named(self, index: int) -> list[tuple[str, Tensor]]:
        """Return a group's parameters with their names.

        Raises:
            ValueError: if a parameter has no name.
        """
        group = self.param_groups[index]
        if not self.names:
            return super().named(index)
        for parameter in group["params"]:
            if parameter not in self.names:
                raise ValueError(
                    f"named_parameters must have every parameter of the base optimizer, got none of shape "
                    f"{tuple(parameter.shape)} in group {index}"
                )
        return [(self.names[parameter], parameter) for parameter in group["params"]]

    def operator_of(self, group: dict[str, Any], parameter: Tensor) -> Prox | None:
        """Return the operator of a parameter, None where it is not penalised."""
        return self.operators.get(parameter)

    def prox_step(self, group: dict[str, Any]) -> Step:
        """Return lr, times 1/(1 − β) where the base's momentum is a sum."""
        return step_of(self.base, group)

    def metrics_of(self, group: dict[str, Any], parameters: list[Tensor]) -> list[Tensor] | None:
        """Return lr·D of each parameter, or None for the Euclidean metric."""
        if self.metric == "euclidean" or not is_diagonal(self.base):
            return None
        return diagonals(self.base, group, parameters)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step of the base optimizer and one proximal step; return what the closure returned.

        Raises:
            RuntimeError: if a gradient is sparse.
        """
        for group in self.param_groups if closure is None else ():
            refuse_sparse(group["params"])
        loss = self.base.step(closure)
        for group in self.param_groups:
            self.apply_prox_(group, trained(group))
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where ``state_dict`` was called; the base optimizer's state is part of it."""
        super().load_state_dict(state_dict)
        self.base.__setstate__({"state": self.state, "param_groups": self.param_groups})
        # The same groups in two lists: one that joins is appended to each.
        self.state, self.param_groups = self.base.state, list(self.base.param_groups)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        kept = ("base", "patterns", "metric", "names", "operators")
        return state | {name: getattr(self, name) for name in kept}  # torch copies and pickles only its own


def _has_form(operator: Prox) -> bool:
    return operator.metric_aware or (operator.projection and operator.elementwise)

"""A penalty on the weights that sets some to exactly zero: a proximal step after each step of the optimizer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from aleator.recipes.parts.checks import positive, refuse_unless
from aleator.recipes.parts.part import Act, Part

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from aleator.experiment import Split
    from aleator.optim.proximal import Prox
    from aleator.recipes.parts.run import Run

# The optimizers in whose metric the step of an operator is known.
_KNOWN = ("sgd", "adamw", "proximal-sgd")


@dataclass(frozen=True)
class Proximal(Part):
    """A penalty with a proximal step."""

    card: ClassVar[str] = "intro-ml"

    prox: Literal["l1", "group-lasso"] | None = None
    """Penalise matrices and kernels: the absolute values of their entries, which sets entries to zero; or the lengths
    of the weights into each unit, which sets whole units to zero. With SGD, AdamW and proximal-sgd."""
    prox_lam: float | None = None
    """λ of the penalty, which is added to the loss."""

    def check(self) -> None:
        """Check what can be checked without data."""
        positive(self, "prox_lam")
        refuse_unless(self.prox is not None, "prox None", self, "prox_lam")
        optimizer = getattr(self, "optimizer", "sgd")
        if self.prox is not None and self.prox_lam is None:
            raise ValueError(f"prox_lam must be given with prox {self.prox}, got None")
        if self.prox is not None and optimizer not in _KNOWN:
            raise ValueError(f"prox cannot be used with optimizer {optimizer}, got {self.prox}")
        if self.prox is None and optimizer == "proximal-sgd":
            raise ValueError("prox must be given with optimizer proximal-sgd, got None")
        if self.prox is not None and getattr(self, "schedule", None) == "sasa":
            raise ValueError(f"prox cannot be used with schedule sasa, got {self.prox}")

    def arms(self) -> Sequence[Mapping[str, Any]]:
        """Return small and large penalties."""
        return [{"prox": "l1", "prox_lam": lam} for lam in (1e-4, 1e-3)]

    def prox_operator(self) -> Prox:
        """Return the operator that the options name."""
        from aleator.optim import proximal

        assert self.prox_lam is not None
        return proximal.L1(self.prox_lam) if self.prox == "l1" else proximal.GroupLasso(self.prox_lam)

    def act(self, run: Run) -> Act | None:
        """Return the penalty's act."""
        return None if self.prox is None else _Penalty(self)


class _Penalty(Act):
    def __init__(self, options: Proximal) -> None:
        self._options = options
        self._network: nn.Module | None = None

    def wrapped(self, network: nn.Module) -> nn.Module:
        self._network = network
        return network

    def optimized(self, optimizer: Optimizer) -> Optimizer:
        from aleator.optim import Proximal as ProximalStep
        from aleator.optim import ProximalSGD

        if isinstance(optimizer, ProximalSGD):
            return optimizer
        assert self._network is not None
        named = list(self._network.named_parameters())
        matrices = [name for name, parameter in named if parameter.ndim > 1]
        if not matrices:
            raise ValueError(f"prox cannot be used with a network without matrices, got {self._options.prox}")
        operator = self._options.prox_operator()
        return ProximalStep(optimizer, {f"^{re.escape(name)}$": operator for name in matrices}, named)

    def measured(self, split: Split, found: Mapping[str, float]) -> Mapping[str, float]:
        """Return which share of the penalised weights is exactly zero."""
        assert self._network is not None
        matrices = [parameter for parameter in self._network.parameters() if parameter.ndim > 1]
        zeros = sum(int((parameter == 0).sum()) for parameter in matrices)
        return {"zeros": zeros / sum(parameter.numel() for parameter in matrices)}

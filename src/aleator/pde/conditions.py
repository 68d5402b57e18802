"""What holds beside the equation: initial or terminal values, Dirichlet, Neumann and periodic conditions.

A soft condition is a further term of the loss, its weight times the mean square by which it is missed at points that
are drawn anew for every step. A hard one is built into the network and holds always, see `aleator.pde.ansatz`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from aleator.pde.ansatz import Ansatz, BoxFactor, PeriodicFeatures, Product, SphereFactor, TimeFactor, Values, columns
from aleator.pde.domains import Ball, Box, Domain, Gaussian

_BOX_DIMENSIONS = 20


@dataclass(frozen=True)
class Constant:
    """One value everywhere."""

    value: float

    def __call__(self, x: Any) -> Any:
        """Return it for every point, (n,)."""
        return x[:, 0] * 0 + self.value


@dataclass(frozen=True)
class Condition:
    """A condition.

    Args:
        weight: of its term in the loss.
        hard: whether it is built into the network instead, where the weight has no meaning.

    Raises:
        ValueError: if the weight is not positive and finite.
    """

    weight: float = field(default=1.0, kw_only=True)
    hard: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        """Check the weight."""
        if not 0 < self.weight < math.inf:
            raise ValueError(f"weight must be positive and finite, got {self.weight}")
        if self.hard and self.weight != 1:
            raise ValueError(f"weight cannot be used with hard, got {self.weight}")

    def check(self, domain: Domain) -> None:
        """Check that the domain has a place for it.

        Raises:
            ValueError: naming the condition and the domain.
        """

    def draw(self, domain: Domain, n: int, generator: torch.Generator, dtype: torch.dtype) -> dict[str, Tensor]:
        """Draw the points of a step."""
        raise NotImplementedError

    def loss(self, net: nn.Module, drawn: dict[str, Tensor]) -> Tensor:
        """Return the weighted mean square by which a `WithDerivatives` misses the condition at some points."""
        raise NotImplementedError


@dataclass(frozen=True)
class Initial(Condition):
    """Values at one end of time.

    Args:
        value: a function of x (n, coordinates), or a number.
        at: which end; equations that run backward in time have terminal values.
        gradient_weight: of the mean square by which the gradient in space is missed, on top of ``weight``.
    """

    value: Values | float
    at: Literal["first", "last"] = "first"
    gradient_weight: float = field(default=0.0, kw_only=True)

    def check(self, domain: Domain) -> None:
        """Check that the domain has time."""
        if domain.time is None:
            raise ValueError("Initial needs a domain with time, got time None")
        if self.at not in ("first", "last"):
            raise ValueError(f"at must be first or last, got {self.at!r}")
        if not 0 <= self.gradient_weight < math.inf:
            raise ValueError(f"gradient_weight must be finite and not negative, got {self.gradient_weight}")
        if self.hard and self.gradient_weight:
            raise ValueError(f"gradient_weight cannot be used with hard, got {self.gradient_weight}")

    def instant(self, domain: Domain) -> float:
        """Return when it holds."""
        assert domain.time is not None
        return domain.time[0 if self.at == "first" else 1]

    def draw(self, domain: Domain, n: int, generator: torch.Generator, dtype: torch.dtype) -> dict[str, Tensor]:
        """Draw points of space, as they are at that instant."""
        t = self.instant(domain)
        if isinstance(domain, Gaussian):
            x = domain.at(t, n, generator, dtype)
        else:
            x = domain.sample(n, generator, dtype)[:, : domain.d]
        return {"x": torch.cat([x, torch.full_like(x[:, :1], t)], 1)}

    def loss(self, net: nn.Module, drawn: dict[str, Tensor]) -> Tensor:
        """Return the mean square of the difference, and of its gradient's where that has a weight."""
        x = drawn["x"]
        if not self.gradient_weight:
            u, _ = _seen(net, x)
            return self.weight * (u - valued(self.value, x)).square().mean()
        u, gradient = _seen(net, x, gradient=True)
        with torch.enable_grad():
            seen = x.detach().requires_grad_()
            value = valued(self.value, seen)
            wanted = torch.zeros_like(x).unsqueeze(1)
            if value.requires_grad:
                outputs = [torch.autograd.grad(v.sum(), seen, retain_graph=True)[0] for v in value.unbind(1)]
                wanted = torch.stack(outputs, 1)
        missed = gradient - wanted[..., : x.shape[1] - 1]
        return self.weight * (u - value.detach()).square().mean() + self.gradient_weight * missed.square().mean()


@dataclass(frozen=True)
class Dirichlet(Condition):
    """Values on the boundary of space.

    Args:
        value: a function of x (n, coordinates), or a number. Of a hard condition it is asked inside too.
    """

    value: Values | float = 0.0

    def check(self, domain: Domain) -> None:
        """Check that the domain has a boundary."""
        _bounded(self, domain)
        if self.hard and isinstance(domain, Box) and domain.d > _BOX_DIMENSIONS:
            raise ValueError(
                f"hard must be False for Dirichlet on a box of more than {_BOX_DIMENSIONS} dimensions, where the "
                f"factor that is 0 on every face is nearly 0 everywhere, got d = {domain.d}"
            )

    def draw(self, domain: Domain, n: int, generator: torch.Generator, dtype: torch.dtype) -> dict[str, Tensor]:
        """Draw points of the boundary."""
        return {"x": domain.boundary(n, generator, dtype)[0]}

    def loss(self, net: nn.Module, drawn: dict[str, Tensor]) -> Tensor:
        """Return the mean square of the difference."""
        u, _ = _seen(net, drawn["x"])
        return self.weight * (u - valued(self.value, drawn["x"])).square().mean()


@dataclass(frozen=True)
class Neumann(Condition):
    """Derivatives along the outward normal on the boundary of space. It can only be soft.

    Args:
        value: a function of x (n, coordinates), or a number.
    """

    value: Values | float = 0.0

    def check(self, domain: Domain) -> None:
        """Check that the domain has a boundary, and that it is soft."""
        _bounded(self, domain)
        if self.hard:
            raise ValueError("hard must be False for Neumann, got True")

    def draw(self, domain: Domain, n: int, generator: torch.Generator, dtype: torch.dtype) -> dict[str, Tensor]:
        """Draw points of the boundary and their normals."""
        x, normals = domain.boundary(n, generator, dtype)
        return {"x": x, "normals": normals}

    def loss(self, net: nn.Module, drawn: dict[str, Tensor]) -> Tensor:
        """Return the mean square of the difference."""
        _, gradient = _seen(net, drawn["x"], gradient=True)
        slope = _along(gradient, drawn["normals"])
        return self.weight * (slope - valued(self.value, drawn["x"])).square().mean()


@dataclass(frozen=True)
class Periodic(Condition):
    """Equal values and normal derivatives on opposite faces of a box. Hard, the network sees only cos and sin of x."""

    def check(self, domain: Domain) -> None:
        """Check that the domain is a box."""
        if not isinstance(domain, Box):
            raise ValueError(f"Periodic needs a Box, got {type(domain).__name__}")

    def draw(self, domain: Domain, n: int, generator: torch.Generator, dtype: torch.dtype) -> dict[str, Tensor]:
        """Draw points of faces and the points across."""
        assert isinstance(domain, Box)
        x, normals = domain.boundary(n, generator, dtype)
        return {"x": x, "across": x - (domain.high - domain.low) * normals, "normals": normals}

    def loss(self, net: nn.Module, drawn: dict[str, Tensor]) -> Tensor:
        """Return the mean square of both differences together."""
        here, slope_here = _seen(net, drawn["x"], gradient=True)
        there, slope_there = _seen(net, drawn["across"], gradient=True)
        slope = _along(slope_here - slope_there, drawn["normals"])
        return self.weight * ((here - there).square().mean() + slope.square().mean())


def with_hard(net: nn.Module, domain: Domain, conditions: tuple[Condition, ...]) -> nn.Module:
    """Return a network that fulfils the hard ones of some conditions.

    Args:
        net: for `Periodic` it must take 2 d features for d coordinates of space, as `input_features` says.
        domain: of the conditions.
        conditions: all.

    Raises:
        ValueError: if hard conditions cannot be joined.
    """
    hard = [condition for condition in conditions if condition.hard]
    factors: list[Any] = []
    values: list[Any] = []
    for condition in hard:
        if isinstance(condition, Periodic):
            assert isinstance(domain, Box)
            net = nn.Sequential(PeriodicFeatures(domain.d, domain.high - domain.low), net)
        elif isinstance(condition, Initial):
            assert domain.time is not None
            at, (first, last) = condition.instant(domain), domain.time
            factors.append(TimeFactor(domain.d, at, last - first if condition.at == "first" else first - last))
            values.append(condition.value)
        elif isinstance(condition, Dirichlet):
            factors.append(_vanishing(domain))
            values.append(condition.value)
    if not factors:
        return net
    if any(value is not values[0] and value != values[0] for value in values):
        raise ValueError("hard conditions must have one function for all their values, got several")
    offset = values[0] if callable(values[0]) else Constant(float(values[0])) if values[0] else None
    return Ansatz(net, factors[0] if len(factors) == 1 else Product(tuple(factors)), offset)


def input_features(domain: Domain, conditions: tuple[Condition, ...]) -> int:
    """Return how many numbers a network sees of a point."""
    periodic = any(isinstance(condition, Periodic) and condition.hard for condition in conditions)
    return domain.coordinates + (domain.d if periodic else 0)


def valued(value: Values | float, x: Tensor) -> Tensor:
    """Return the values of a condition at points, (n, outputs) or something that spreads to it."""
    return columns(value(x)) if callable(value) else torch.as_tensor(value, dtype=x.dtype, device=x.device)


def _seen(net: nn.Module, x: Tensor, *, gradient: bool = False) -> tuple[Tensor, Tensor]:
    """Return u (n, outputs) of a `WithDerivatives`, and its gradient in space (n, outputs, d) or u again."""
    found = net(x, laplacian=False, gradient=gradient)
    u = columns(found.u)
    if not gradient:
        return u, u
    return u, found.grad.unsqueeze(1) if found.grad.ndim == 2 else found.grad


def _along(gradient: Tensor, normals: Tensor) -> Tensor:
    """Return derivatives along normals, (n, outputs)."""
    return (gradient * normals[:, : gradient.shape[2]].unsqueeze(1)).sum(2)


def _vanishing(domain: Domain) -> Any:
    if isinstance(domain, Ball):
        return SphereFactor(domain.d, domain.radius)
    assert isinstance(domain, Box)
    return BoxFactor(domain.d, domain.low, domain.high)


def _bounded(condition: Condition, domain: Domain) -> None:
    if isinstance(domain, Gaussian):
        raise ValueError(f"{type(condition).__name__} needs a domain with a boundary, got Gaussian")

"""Networks that fulfil a condition whatever their weights are: u(x) = m(x) · net(x) + g(x).

The factor m is 0 where the condition holds, so that u = g there; g continues its values to everywhere. Both are plain
functions of points in torch's own operations, and so Taylor propagation goes through them as through the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

Values = Callable[[Any], Any]
"""A function of points (n, coordinates) in torch's operations; it is also given what carries a Taylor propagation."""


@dataclass(frozen=True)
class SphereFactor:
    """1 − |x|²/R², which is 0 on a sphere."""

    d: int
    radius: float = 1.0

    def __call__(self, x: Any) -> Any:
        """Return the values, (n,)."""
        return 1 - x[:, : self.d].square().sum(1) * (1 / self.radius**2)


@dataclass(frozen=True)
class TimeFactor:
    """(t − at)/length, which is 0 at an instant; the length is negative for instants before it."""

    d: int
    at: float
    length: float

    def __call__(self, x: Any) -> Any:
        """Return the values, (n,)."""
        return (x[:, self.d] - self.at) * (1 / self.length)


@dataclass(frozen=True)
class BoxFactor:
    """Π 4 (x_i − low)(high − x_i)/(high − low)², which is 0 on the faces of a box and at most 1 inside."""

    d: int
    low: float
    high: float

    def __call__(self, x: Any) -> Any:
        """Return the values, (n,)."""
        space = x[:, : self.d]
        factors = (space - self.low) * (self.high - space) * (4 / (self.high - self.low) ** 2)
        values = factors[:, 0]
        for i in range(1, self.d):
            values = values * factors[:, i]
        return values


@dataclass(frozen=True)
class Product:
    """The product of factors."""

    factors: tuple[Any, ...]

    def __call__(self, x: Any) -> Any:
        """Return the values, (n,)."""
        values = self.factors[0](x)
        for factor in self.factors[1:]:
            values = values * factor(x)
        return values


class Ansatz(nn.Module):
    """A network inside m · net + g.

    Args:
        net: x → (n,), (n, 1) or (n, outputs).
        factor: m, or None for 1.
        offset: g, or None for 0. It may return (n,), or (n, outputs).
    """

    def __init__(self, net: nn.Module, factor: Values | None = None, offset: Values | None = None) -> None:
        super().__init__()
        self.net, self.factor, self.offset = net, factor, offset

    def forward(self, x: Any) -> Any:
        """Return u, (n, outputs), of points (n, coordinates), or the Taylor propagation of it."""
        u = columns(self.net(x))
        if self.factor is not None:
            u = self.factor(x).unsqueeze(1) * u
        return u if self.offset is None else u + columns(self.offset(x))


class PeriodicFeatures(nn.Module):
    """cos and sin of every coordinate of space with a period, and time as it is: what follows them is periodic.

    Args:
        d: dimensions of space.
        period: L.
    """

    def __init__(self, d: int, period: float) -> None:
        super().__init__()
        if not 0 < period < math.inf:
            raise ValueError(f"period must be positive and finite, got {period}")
        self.d, self.period = d, period

    def forward(self, x: Any) -> Any:
        """Return (n, 2 d) features of points (n, d), and one more of time."""
        angle = x[:, : self.d] * (2 * math.pi / self.period)
        features = [angle.cos(), angle.sin()]
        return torch.cat([*features, x[:, self.d :]] if x.shape[1] > self.d else features, 1)


def columns(values: Any) -> Any:
    """Return values of shape (n, outputs), of those of shape (n,) one column."""
    return values.unsqueeze(1) if values.ndim == 1 else values

"""Where a partial differential equation holds, and from which law its points are drawn.

A point has d coordinates of space and, where the equation has time, t as one more behind them: x is of shape (n, d) or
(n, d + 1). The law matters as much as the equation: a loss is a mean over it, and so is an error. A ball is by default
drawn with its radius uniform in [0, R], as the authors of SDGD do it, which concentrates points at the centre; uniform
in the volume nearly all points of a ball in many dimensions lie on its surface.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_SLACK = 1e-5  # of the domain's size: points on the boundary are rounded


@dataclass(frozen=True)
class Domain:
    """Some region of space, times an interval of time.

    Args:
        d: dimensions of space.
        time: first and last instant; None without time.

    Raises:
        ValueError: if d is no positive integer, or the interval is empty or not finite.
    """

    d: int
    time: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Check the dimensions and the interval."""
        if type(self.d) is not int or self.d < 1:
            raise ValueError(f"d must be a positive integer, got {self.d!r}")
        if self.time is not None:
            instants = tuple(map(float, self.time))
            if len(instants) != 2 or not -math.inf < instants[0] < instants[1] < math.inf:
                raise ValueError(f"time must be two instants, the first before the last, got {instants}")
            object.__setattr__(self, "time", instants)

    @property
    def coordinates(self) -> int:
        """Columns of a batch of points."""
        return self.d + (self.time is not None)

    def sample(
        self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "n coordinates"]:
        """Draw points, on the generator's device."""
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        t = None if self.time is None else self._between(*self.time, n, generator, dtype)
        x = self._space(n, t, generator, dtype)
        return x if t is None else torch.cat([x, t.unsqueeze(1)], 1)

    def boundary(
        self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> tuple[Float[Tensor, "n coordinates"], Float[Tensor, "n coordinates"]]:
        """Draw points of the boundary of space, and its outward normals, which have no part in time.

        Raises:
            ValueError: if the domain has no boundary.
        """
        x, normals = self._surface(n, generator, dtype)
        if self.time is None:
            return x, normals
        t = self._between(*self.time, n, generator, dtype).unsqueeze(1)
        return torch.cat([x, t], 1), torch.cat([normals, torch.zeros_like(t)], 1)

    def check(self, x: Tensor) -> None:
        """Check points that somebody gives.

        Raises:
            ValueError: if they have another shape, are not finite, or one lies outside.
        """
        if x.ndim != 2 or x.shape[1] != self.coordinates or not x.is_floating_point():
            what = f"d = {self.d}" if self.time is None else f"d = {self.d} and one of time"
            raise ValueError(
                f"x must be floating point of shape (n, {self.coordinates}), {what}, got {x.dtype} of {tuple(x.shape)}"
            )
        inside = torch.isfinite(x).all(1) & self.contains(x)
        if not bool(inside.all()):
            first = int((~inside).nonzero()[0])
            raise ValueError(
                f"x must lie in {self}, got {int((~inside).sum())} points outside, the first at row {first}"
            )

    def contains(self, x: Float[Tensor, "n coordinates"]) -> Bool[Tensor, " n"]:
        """Say of each point whether it lies in the domain or on its boundary, up to rounding."""
        inside = self._inside(x[:, : self.d])
        if self.time is None:
            return inside
        first, last = self.time
        slack = _SLACK * (last - first)
        return inside & (x[:, self.d] >= first - slack) & (x[:, self.d] <= last + slack)

    @staticmethod
    def _between(low: float, high: float, n: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator, device=generator.device, dtype=dtype)

    def _space(self, n: int, t: Tensor | None, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        raise NotImplementedError

    def _surface(self, n: int, generator: torch.Generator, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        raise ValueError(f"{type(self).__name__} has no boundary")

    def _inside(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def __str__(self) -> str:
        when = "" if self.time is None else f" at times in [{self.time[0]:g}, {self.time[1]:g}]"
        return f"{self._place()}{when}"

    def _place(self) -> str:
        raise NotImplementedError


@dataclass(frozen=True)
class Box(Domain):
    """The box [low, high]^d, drawn uniformly."""

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        """Check the sides too."""
        super().__post_init__()
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"high must be finite and above low, {self.low:g}, got {self.high:g}")

    def _space(self, n: int, t: Tensor | None, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        return self._between(self.low, self.high, n * self.d, generator, dtype).view(n, self.d)

    def _surface(self, n: int, generator: torch.Generator, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        x = self._space(n, None, generator, dtype)
        axis = torch.randint(self.d, (n, 1), generator=generator, device=generator.device)
        upper = torch.randint(2, (n, 1), generator=generator, device=generator.device).to(dtype)
        x.scatter_(1, axis, self.low + (self.high - self.low) * upper)
        return x, torch.zeros_like(x).scatter_(1, axis, 2 * upper - 1)

    def _inside(self, x: Tensor) -> Tensor:
        slack = _SLACK * (self.high - self.low)
        return ((x >= self.low - slack) & (x <= self.high + slack)).all(1)

    def _place(self) -> str:
        return f"[{self.low:g}, {self.high:g}]^{self.d}"


@dataclass(frozen=True)
class Ball(Domain):
    """The ball around 0.

    Args:
        d: dimensions of space.
        time: first and last instant; None without time.
        radius: R.
        law: of the points, uniform in the ``"radius"`` or in the ``"volume"``.
    """

    radius: float = 1.0
    law: Literal["radius", "volume"] = "radius"

    def __post_init__(self) -> None:
        """Check radius and law too."""
        super().__post_init__()
        if not 0 < self.radius < math.inf:
            raise ValueError(f"radius must be positive and finite, got {self.radius}")
        if self.law not in ("radius", "volume"):
            raise ValueError(f"law must be radius or volume, got {self.law!r}")

    def _space(self, n: int, t: Tensor | None, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        x, _ = self._surface(n, generator, dtype)
        share = torch.rand(n, 1, generator=generator, device=generator.device, dtype=dtype)
        scaled: Tensor = x * (share if self.law == "radius" else share ** (1 / self.d))
        return scaled

    def _surface(self, n: int, generator: torch.Generator, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        x = torch.randn(n, self.d, generator=generator, device=generator.device, dtype=dtype)
        normals = x / torch.linalg.vector_norm(x, dim=1, keepdim=True)
        return self.radius * normals, normals

    def _inside(self, x: Tensor) -> Tensor:
        inside: Tensor = torch.linalg.vector_norm(x, dim=1) <= self.radius * (1 + _SLACK)
        return inside

    def _place(self) -> str:
        return f"the ball of radius {self.radius:g} in {self.d} dimensions"


@dataclass(frozen=True)
class Gaussian(Domain):
    """All of space, with normal points around 0; it has no boundary.

    Args:
        d: dimensions of space.
        time: first and last instant; None without time.
        std: standard deviation of every coordinate.
        law: ``"fixed"``, the same at all times, or ``"brownian"``, where it is std √(2 (t − t₀)): the points of paths
            that begin at 0 at the first instant t₀.
    """

    std: float = 1.0
    law: Literal["fixed", "brownian"] = "fixed"

    def __post_init__(self) -> None:
        """Check deviation and law too."""
        super().__post_init__()
        if not 0 < self.std < math.inf:
            raise ValueError(f"std must be positive and finite, got {self.std}")
        if self.law not in ("fixed", "brownian"):
            raise ValueError(f"law must be fixed or brownian, got {self.law!r}")
        if self.law == "brownian" and self.time is None:
            raise ValueError("law brownian needs time, got None")

    def at(self, t: float, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw points of space at one instant."""
        return self._space(n, torch.full((n,), t, dtype=dtype, device=generator.device), generator, dtype)

    def _space(self, n: int, t: Tensor | None, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        x = self.std * torch.randn(n, self.d, generator=generator, device=generator.device, dtype=dtype)
        if self.law == "fixed" or t is None or self.time is None:
            return x
        return x * (2 * (t - self.time[0])).clamp(min=0).sqrt().unsqueeze(1)

    def _inside(self, x: Tensor) -> Tensor:
        return torch.ones(len(x), dtype=torch.bool, device=x.device)

    def _place(self) -> str:
        return f"space of {self.d} dimensions"

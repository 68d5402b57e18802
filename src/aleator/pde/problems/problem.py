"""What a problem with a known solution consists of, and what the solution says about an approximation.

Every problem names a *trivial predictor*: a formula with at most one fitted number, which knows what many dimensions do
to such a problem and nothing of the rest. In many dimensions sums over coordinates concentrate, so that published
errors of 10⁻³ can be met by a constant; an error is worth looking at only beside the trivial one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aleator.pde.ansatz import Ansatz, Values
from aleator.pde.conditions import Condition
from aleator.pde.derivatives import nested_fields
from aleator.pde.domains import Domain
from aleator.pde.equation import Equation
from aleator.random import Streams

_NUMBERS_AT_A_TIME = 10_000_000


class Problem:
    """An equation on a domain with its conditions and its solution.

    Attributes:
        d: dimensions of space.
        arguments: from which it can be made again, as JSON can hold them.
        domain: where it holds, with the law of its points.
        equation: what holds inside.
        factor: m of the hard conditions, see `Ansatz`; None for 1.
        offset: g of the hard conditions; None for 0.
        conditions: the soft ones.
        trivial_name: what the trivial predictor is, in words.
        known_points: at how many points the solution is known; None for everywhere.
    """

    d: int
    domain: Domain
    equation: Equation
    arguments: dict[str, Any]
    factor: Values | None = None
    offset: Values | None = None
    conditions: tuple[Condition, ...] = ()
    trivial_name: ClassVar[str]
    known_points: ClassVar[int | None] = None

    def ansatz(self, net: nn.Module) -> nn.Module:
        """Return the network inside the problem's hard conditions."""
        return net if self.factor is None and self.offset is None else Ansatz(net, self.factor, self.offset)

    def exact(self, *points: Tensor) -> Float[Tensor, " n"]:
        """Return the solution at x (n, d); where there is time, at x and t (n,)."""
        raise NotImplementedError

    def sample(
        self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "n coordinates"]:
        """Draw points from the law of the problem."""
        return self.domain.sample(n, generator, dtype)

    def held_out(
        self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "n coordinates"]:
        """Draw points to measure the error at."""
        return self.sample(n, generator, dtype)

    def held_out_pieces(self, n: int, generator: torch.Generator) -> Iterator[Float[Tensor, "m coordinates"]]:
        """Yield n such points, or as many as the solution is known at, some at a time."""
        left = n if self.known_points is None else min(n, self.known_points)
        while left > 0:
            count = max(1, min(left, _NUMBERS_AT_A_TIME // self.domain.coordinates))
            yield self.held_out(count, generator)
            left -= count

    def solution(self, points: Float[Tensor, "n coordinates"]) -> Float[Tensor, " n"]:
        """Return the solution at points as the network sees them."""
        return self.exact(*self.split(points))

    def split(self, points: Tensor) -> tuple[Tensor, ...]:
        """Return x, or x and t, of points as the network sees them."""
        if self.domain.time is None:
            return (points,)
        return points[:, : self.d], points[:, self.d]

    def trivial_parts(self, points: Float[Tensor, "n coordinates"]) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Return g and m of the trivial predictor g + k m, whose k is fitted; m is 0 where there is nothing to fit.

        These are those of the hard conditions, unless a problem knows better.
        """
        offset = torch.zeros_like(points[:, 0]) if self.offset is None else self.offset(points)
        return offset, torch.ones_like(offset) if self.factor is None else self.factor(points)

    def fitted(
        self, offset: Float[Tensor, " n"], shape: Float[Tensor, " n"], exact: Float[Tensor, " n"]
    ) -> Float[Tensor, " n"]:
        """Return g + k m with the k of least squares."""
        square = shape.square().sum()
        return offset if not bool(square > 0) else offset + (shape * (exact - offset)).sum() / square * shape

    def trivial(self, points: Float[Tensor, "n coordinates"]) -> Float[Tensor, " n"]:
        """Return the trivial predictor at points, its number fitted to the solution there, which flatters it."""
        return self.fitted(*self.trivial_parts(points), self.solution(points))

    @torch.no_grad()
    def trivial_baseline(self, points: int = 10_000, seed: int = 0) -> float:
        """Return the relative L2 error of the trivial predictor, as `aleator.pde.PINN.figures` has it.

        Args:
            points: how many are held out; a problem may have fewer.
            seed: of the points.

        Raises:
            ValueError: if points is below 1.
        """
        if points < 1:
            raise ValueError(f"points must be at least 1, got {points}")
        pieces = (piece.double() for piece in self.held_out_pieces(points, Streams(seed).generator("held out")))
        found = [(*self.trivial_parts(piece), self.solution(piece)) for piece in pieces]
        offset, shape, exact = (torch.cat(parts) for parts in zip(*found, strict=True))
        missed = self.fitted(offset, shape, exact) - exact
        return float(torch.linalg.vector_norm(missed) / torch.linalg.vector_norm(exact))

    def residual(self, u: Any, *points: Tensor) -> Float[Tensor, " n"]:
        """Return the residual of any function u(x), or u(x, t), by nested reverse mode: slow, and sure.

        Args:
            u: takes x (n, d), and t (n,) where there is time.
            points: the same.
        """
        x = points[0] if len(points) == 1 else torch.cat([points[0], points[1].unsqueeze(1)], 1)
        fields = nested_fields(lambda seen: u(*self.split(seen)), x, self.equation, self.d)
        return self.equation(x=x, **fields)

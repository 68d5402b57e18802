"""How far an approximation is from a solution, beside how far the trivial predictor is.

relative L2   ‖u − u*‖/‖u*‖ over held-out points; L1 likewise
factor        the trivial predictor's relative L2 divided by the approximation's: how much was learned beyond it
beyond        ‖u − u*‖/‖u* − trivial‖, its inverse: the relative error in what the trivial predictor leaves
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from aleator.pde.problems.problem import Problem


@dataclass(frozen=True)
class Figures:
    """What is reported of an approximation.

    Attributes:
        relative_l2: its error.
        relative_l1: the same in the L1 norm.
        trivial_l2: the relative L2 error of the problem's trivial predictor at the same points.
        factor: trivial_l2 / relative_l2; above 1 something was learned.
        beyond: relative_l2 / trivial_l2.
        points: held out.
    """

    relative_l2: float
    relative_l1: float
    trivial_l2: float
    factor: float
    beyond: float
    points: int

    def asdict(self) -> dict[str, float]:
        """Return the figures by name."""
        return asdict(self)


def relative_l2(found: Float[Tensor, " n"], exact: Float[Tensor, " n"]) -> float:
    """Return ‖found − exact‖₂/‖exact‖₂, computed in float64.

    Raises:
        ValueError: if the shapes differ, or the exact values are all 0.
    """
    return _relative(found, exact, 2)


def relative_l1(found: Float[Tensor, " n"], exact: Float[Tensor, " n"]) -> float:
    """Return ‖found − exact‖₁/‖exact‖₁, computed in float64.

    Raises:
        ValueError: if the shapes differ, or the exact values are all 0.
    """
    return _relative(found, exact, 1)


@torch.no_grad()
def figures(
    problem: Problem, predict: Callable[[Tensor], Tensor], n: int, generator: torch.Generator, device: Any = "cpu"
) -> Figures:
    """Return the figures of an approximation at held-out points of a problem.

    Points are drawn in pieces, in float32 as a network sees them; the solution is computed in float64 at the same ones.

    Args:
        problem: with the solution.
        predict: points (m, coordinates) → (m,) or (m, 1).
        n: how many points; a problem may have fewer.
        generator: of the points.
        device: of the points.

    Raises:
        ValueError: if n is below 1.
    """
    found, exact, trivial = values_at(problem, predict, n, generator, device)
    own, other = relative_l2(found, exact), relative_l2(trivial, exact)
    return Figures(own, relative_l1(found, exact), other, _ratio(other, own), _ratio(own, other), len(exact))


@torch.no_grad()
def values_at(
    problem: Problem, predict: Callable[[Tensor], Tensor], n: int, generator: torch.Generator, device: Any = "cpu"
) -> tuple[Tensor, Tensor, Tensor]:
    """Return an approximation's values at held-out points, the solution's, and the trivial predictor's, in float64."""
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    found: list[Tensor] = []
    exact: list[Tensor] = []
    shapes: list[tuple[Tensor, Tensor]] = []
    for points in problem.held_out_pieces(n, generator):
        wide = points.to(device).double()
        found.append(predict(points.to(device)).double().flatten())
        exact.append(problem.solution(wide))
        shapes.append(problem.trivial_parts(wide))
    solution = torch.cat(exact)
    offset, shape = (torch.cat(parts) for parts in zip(*shapes, strict=True))
    return torch.cat(found), solution, problem.fitted(offset, shape, solution)


def _relative(found: Tensor, exact: Tensor, order: int) -> float:
    if found.shape != exact.shape:
        raise ValueError(f"found must have the shape of exact, {tuple(exact.shape)}, got {tuple(found.shape)}")
    found, exact = found.double(), exact.double()
    size = torch.linalg.vector_norm(exact, order)
    if not bool(size > 0):
        raise ValueError(f"exact must not be 0 everywhere, got a norm of {float(size)}")
    return float(torch.linalg.vector_norm(found - exact, order) / size)


def _ratio(a: float, b: float) -> float:
    """Return a/b, infinite where only b is 0."""
    if b == 0:
        return 1.0 if a == 0 else float("inf")
    return a / b

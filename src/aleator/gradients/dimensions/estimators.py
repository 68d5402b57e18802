"""Which directions stand for all dimensions in a step: `Exact`, `SDGD`, `Hutchinson`.

    Exact         all coordinates
    SDGD          B coordinates without replacement, times d/B                   exact if all terms are equal
    Hutchinson    V random vectors with mean vvᵀ = I, times 1/V                  exact if H is diagonal (Rademacher)

Two independent draws make the gradient of a squared residual unbiased: the residual of one is the weight of the other's
gradient (Algorithm 2 of the paper); ``weight_batch="all"`` weighs by the exact residual (Algorithm 1); one draw for
both is the cheapest, and biased (Algorithm 3, ``unbiased=False``).

Z. Hu, K. Shukla, G. E. Karniadakis and K. Kawaguchi, arXiv 2307.12306; Z. Hu et al., arXiv 2312.14499.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from aleator.gradients.dimensions.variance import Kind, check_batch, check_kind


@dataclass(frozen=True)
class Exact:
    """All dimensions.

    Attributes:
        chunk: without a graph, so many directions at a time, so that memory does not grow with their number.
    """

    chunk: int = 128

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise ValueError(f"chunk must be at least 1, got {self.chunk}")


@dataclass(frozen=True)
class SDGD:
    """Some dimensions, drawn uniformly without replacement.

    Attributes:
        batch: how many carry the gradient (J).
        unbiased: whether an independent draw (K) weighs the residual.
        weight_batch: how many are in K, as many as in J by default; ``"all"`` for the exact residual, which takes time
            in proportion to the number of dimensions, and no memory for it.
        per_point: whether each point draws its own; by default all points of a batch share one draw, which makes the
            first layer cheaper.
    """

    batch: int
    unbiased: bool = True
    weight_batch: int | Literal["all"] | None = None
    per_point: bool = False

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, got {self.batch}")
        size = 1 if self.weight_batch in (None, "all") else self.weight_batch
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"weight_batch must be at least 1 or 'all', got {self.weight_batch!r}")
        if self.weight_batch is not None and not self.unbiased:
            raise ValueError(f"weight_batch cannot be used with unbiased=False, got {self.weight_batch!r}")

    def draw(self, x: Tensor, generator: torch.Generator, dim: int | None = None) -> Tensor:
        """Draw J: ``(batch,)``, or ``(points, batch)`` per point.

        Args:
            x: the points ``(points, dim)``.
            generator: where the numbers come from; the draw is moved to x's device.
            dim: the first so many columns of x are drawn from; all by default.

        Raises:
            ValueError: if there are fewer dimensions than `batch`.
        """
        return self._draw(x, generator, dim, self.batch)

    def draw_weight(self, x: Tensor, generator: torch.Generator, dim: int | None = None) -> Tensor | None:
        """Draw K, independent of J where it comes from the same generator; None for all dimensions.

        Args:
            x: as in `draw`.
            generator: as in `draw`.
            dim: as in `draw`.

        Raises:
            ValueError: if there are fewer dimensions than `weight_batch`.
        """
        if self.weight_batch == "all":
            return None
        return self._draw(x, generator, dim, self.weight_batch or self.batch)

    def _draw(self, x: Tensor, generator: torch.Generator, dim: int | None, batch: int) -> Tensor:
        points, dim = len(x), x.shape[1] if dim is None else dim
        check_batch(batch, dim)
        if self.per_point:
            noise = torch.rand(points, dim, generator=generator, device=generator.device, dtype=torch.float64)
            drawn = noise.topk(batch, dim=1).indices
        else:
            drawn = torch.randperm(dim, generator=generator, device=generator.device)[:batch].clone()  # not all dim
        return drawn.to(x.device, non_blocking=True)


@dataclass(frozen=True)
class Hutchinson:
    """Random vectors with independent coordinates of mean 0 and variance 1.

    Attributes:
        samples: how many (V).
        kind: Rademacher, ±1 with equal chance, or Gaussian.
        unbiased: whether as many independent ones weigh the residual.
        per_point: whether each point draws its own; by default all points of a batch share them.
    """

    samples: int = 16
    kind: Kind = "rademacher"
    unbiased: bool = True
    per_point: bool = False

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, got {self.samples}")
        check_kind(self.kind)

    def draw(self, x: Tensor, generator: torch.Generator, dim: int | None = None) -> Tensor:
        """Draw vectors ``(samples, columns of x)``, or ``(points, samples, columns)`` per point.

        Args:
            x: the points ``(points, columns)``.
            generator: where the numbers come from; the draw is moved to x's device.
            dim: the first so many columns are random, the others 0; all by default.
        """
        points, width = x.shape
        dim = width if dim is None else dim
        shape = (points, self.samples, dim) if self.per_point else (self.samples, dim)
        device = generator.device
        if self.kind == "gaussian":
            drawn = torch.randn(shape, generator=generator, device=device, dtype=x.dtype)
        else:
            drawn = torch.randint(2, shape, generator=generator, device=device).to(x.dtype).mul_(2).sub_(1)
        return torch.nn.functional.pad(drawn, (0, width - dim)).to(x.device, non_blocking=True)

    def draw_weight(self, x: Tensor, generator: torch.Generator, dim: int | None = None) -> Tensor | None:
        """Draw the vectors that weigh; see `draw`.

        Args:
            x: as in `draw`.
            generator: as in `draw`.
            dim: as in `draw`.
        """
        return self.draw(x, generator, dim)


Estimator = Exact | SDGD | Hutchinson


def need(generator: torch.Generator | None) -> torch.Generator:
    """Return the generator that a draw needs.

    Raises:
        ValueError: if there is none: nothing draws from torch's global generator.
    """
    if generator is None:
        raise ValueError("generator must be a torch.Generator where dimensions are drawn, got None")
    return generator

"""An equation as a function of what a network gives at a point: its value and derivatives.

    residual(*, x, u, lap, grad, u_t, u_tt) → (n,), or (n, k) for k equations

A function names what it needs of that and no more is computed; all but x come from the network. With time, which an
equation has that asks for u_t or u_tt without a default, x is [x, t]. lap is the sum Σ_i w_i(x) ∂²u/∂x_i² over space,
the Laplacian unless there are weights. It must enter affinely: what is sampled is that sum, and the expectation of an
estimate survives no other function. A probe with made-up values sees to that, once.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from aleator.random import Streams

NAMES = ("x", "u", "lap", "grad", "u_t", "u_tt")
_IN_TIME = frozenset({"u_t", "u_tt"})
_POINTS = 5


class Equation:
    """A residual and the weights of its second derivatives.

    Args:
        residual: called by keyword with those of `NAMES` that it asks for: x (n, d), with time (n, d + 1); u, lap, u_t,
            u_tt (n,) and grad (n, d), of space. With k outputs these are (n, k), and grad is (n, k, d).
        weights: w_i; a tensor (d,) or a function of x that returns (n, d). None is 1.
        outputs: k.

    Raises:
        ValueError: if the function asks for something else, or cannot be called by keyword.

    Example:
        >>> heat = Equation(lambda *, lap, u_t: u_t - lap)
        >>> heat.has_time
        True
    """

    def __init__(
        self,
        residual: Callable[..., Tensor],
        weights: Tensor | Callable[[Tensor], Tensor] | None = None,
        outputs: int = 1,
    ) -> None:
        if outputs < 1:
            raise ValueError(f"outputs must be at least 1, got {outputs}")
        self.residual, self.weights, self.outputs = residual, weights, outputs
        self.asks = _asked(residual)
        if weights is not None and "lap" not in self.asks:
            raise ValueError("weights cannot be used with a residual that has no lap")

    @property
    def has_time(self) -> bool:
        """Whether the last coordinate is time."""
        return bool(self.asks & _IN_TIME)

    def __call__(self, **values: Any) -> Tensor:
        """Return the residual of those of the values that the equation asks for."""
        return self.residual(**{name: value for name, value in values.items() if name in self.asks})

    def weights_at(self, x: Float[Tensor, "n coordinates"], d: int) -> Tensor | None:
        """Return the weights at points, of shape (d,) or (n, d), or None where all are 1.

        Raises:
            ValueError: if they have another shape.
        """
        if self.weights is None:
            return None
        found = self.weights(x) if callable(self.weights) else self.weights.to(x)
        if found.shape not in ((d,), (len(x), d)):
            raise ValueError(f"weights must be of shape ({d},) or ({len(x)}, {d}), got {tuple(found.shape)}")
        return found

    def probe(self, d: int, like: Tensor) -> None:
        """Check on made-up values in float64 that the residual is affine in lap, and of each point alone.

        Args:
            d: dimensions of space.
            like: points, of which some are taken for x.

        Raises:
            ValueError: if it is not, or its shape is not (n,) or (n, k), or it is not finite.
        """
        generator = Streams(0).generator("probe")
        n, k = min(_POINTS, len(like)), self.outputs

        def drawn(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(like.device)

        outer = (n,) if k == 1 else (n, k)
        u = 0.1 + 0.8 * torch.rand(*outer, generator=generator, dtype=torch.float64).to(like.device)
        values = {"u": u, "grad": drawn(*outer, d), "u_t": drawn(*outer), "u_tt": drawn(*outer)}
        values["x"] = like[:n].detach().double()
        first, second = drawn(*outer), drawn(*outer)
        with torch.no_grad():
            found = [self(lap=first + s * (second - first), **values) for s in (0.0, 1.0, 0.3, 2.0, -3.0)]
            check_residual(found[0], n)
            if not all(bool(torch.isfinite(value).all()) for value in found):
                raise ValueError("residual must be finite, got one that is not on made-up values")
            if "lap" not in self.asks:
                return
            if torch.equal(found[0], found[1]):
                raise ValueError("residual must depend on lap, which it asks for, got one that does not")
            scale = torch.stack(found).abs().max() + (second - first).abs().max()
            for s, value in zip((0.3, 2.0, -3.0), found[2:], strict=True):
                if bool(((value - found[0] - s * (found[1] - found[0])).abs() > 1e-9 * scale).any()):
                    raise ValueError(
                        "residual must be affine in lap, got one that is not: a function of an estimate is no estimate "
                        "of the function"
                    )
            if n > 1:
                moved = first.clone()
                moved[0] = second[0]
                if bool(((self(lap=moved, **values) - found[0])[1:].abs() > 1e-9 * scale).any()):
                    raise ValueError("residual must be of each point alone, got one whose rows depend on other rows")


def check_residual(found: Any, n: int) -> None:
    """Check the shape of what a residual returned.

    Raises:
        ValueError: if it is not a tensor of (n,) or (n, k).
    """
    if not isinstance(found, Tensor) or found.ndim not in (1, 2) or len(found) != n:
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"residual must return ({n},) or ({n}, equations) for {n} points, got {shape}")


def as_equation(residual: Equation | Callable[..., Tensor]) -> Equation:
    """Return an equation, made of a function where that was given."""
    return residual if isinstance(residual, Equation) else Equation(residual)


_probed: weakref.WeakKeyDictionary[Any, set[int]] = weakref.WeakKeyDictionary()


def probe_once(equation: Equation, d: int, x: Tensor) -> None:
    """Probe an equation the first time that it is met with so many dimensions."""
    try:
        seen = _probed.setdefault(equation.residual, set())
    except TypeError:  # no weak reference to it: probed again
        seen = set()
    if d not in seen:
        equation.probe(d, x)
        seen.add(d)


def _asked(residual: Callable[..., Tensor]) -> frozenset[str]:
    parameters = inspect.signature(residual).parameters.values()
    open_ended = [p.name for p in parameters if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL, p.POSITIONAL_ONLY)]
    names = {p.name for p in parameters} - set(open_ended)
    if open_ended or not names <= set(NAMES):
        odd = ", ".join(sorted((names - set(NAMES)) | set(open_ended)))
        raise ValueError(f"residual must take keywords among {', '.join(NAMES)}, got {odd}")
    in_time = {p.name for p in parameters} & _IN_TIME
    needed = {p.name for p in parameters if p.default is p.empty}
    return frozenset(names if in_time & needed else names - in_time)

"""A network's value and its first two derivatives along many directions, carried through its own `forward`.

With y(s) = f(x + s·v_b), a `Jet` holds at s = 0

    y        the value
    y'_b     its first derivative along each direction v_b
    y''      either y''_b of each direction, or only Σ_b c_b y''_b: *collapsed* Taylor mode, the forward Laplacian

A linear map maps all three alike; a function σ of single elements sends y'' to σ''(y)·Σ_b c_b y'_b² + σ'(y)·y'' and
y'_b to σ'(y)·y'_b. One collapsed pass therefore costs a forward pass and one for each direction, not two.

A `Jet` stands where a tensor would: torch's functions find their rule by ``__torch_function__``, so that a network of
one's own needs no second definition. A function without a rule raises `NoTaylorRule`, and the caller falls back on
nested ``torch.func.jvp``. Everything is made of plain torch operations: it can be differentiated, and compiled.

F. Dangel et al., "Collapsing Taylor Mode Automatic Differentiation", NeurIPS 2025; R. Li et al., "A computational
framework for neural network-based variational Monte Carlo with Forward Laplacian", Nature Machine Intelligence 2024.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

RULES: dict[Any, Callable[..., Any]] = {}
"""What a torch function does with jets among its arguments; filled by the files that hold the rules."""


class NoTaylorRule(Exception):
    """A function of a network has no rule for jets; the message names it."""


def rule(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register what these functions do with jets."""

    def register(carried_out: Callable[..., Any]) -> Callable[..., Any]:
        for function in functions:
            RULES[function] = carried_out
        return carried_out

    return register


def applied(carried_out: Callable[..., Any], func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Apply what was registered for a torch function.

    Raises:
        NoTaylorRule: if it knows nothing of one of the arguments, such as ``alpha`` of ``torch.add``.
    """
    try:
        return carried_out(*args, **kwargs)
    except TypeError:
        try:
            inspect.signature(carried_out).bind(*args, **kwargs)
        except TypeError:
            raise NoTaylorRule(f"{getattr(func, '__name__', func)} with arguments of its own") from None
        raise


@dataclass(frozen=True)
class Along:
    """How second derivatives of the directions are put together.

    Attributes:
        count: the first so many directions are summed over; those after them have first derivatives only. With None
            every direction keeps a second derivative of its own.
        weights: c of the sum, ``(count,)``, or ``(points, count)`` where each point has its own; None is 1 everywhere.
    """

    count: int | None
    weights: Tensor | None = None

    def gather(self, terms: Tensor) -> Tensor:
        """Return Σ_b c_b of terms ``(directions, points or 1, …)``, or the terms themselves."""
        if self.count is None:
            return terms
        if self.count < len(terms):
            terms = terms[: self.count]
        if self.weights is None:
            return terms.sum(0)
        weights = self.weights.T if self.weights.ndim == 2 else self.weights[:, None]
        return (weights.reshape(*weights.shape, *(1,) * (terms.ndim - 2)) * terms).sum(0)


class Jet:
    """A value with derivatives along directions.

    Args:
        value: ``(points, …)``.
        first: ``(directions, points, …)``; dimensions that it does not vary in may be 1.
        second: ``(points, …)`` collapsed, ``(directions, points, …)`` otherwise; None is 0.
        along: what ``second`` means.
    """

    __slots__ = ("along", "first", "second", "value")

    def __init__(self, value: Tensor, first: Tensor, second: Tensor | None, along: Along) -> None:
        self.value = value
        self.first = first
        self.second = second
        self.along = along

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = RULES.get(func)
        if found is None:
            raise NoTaylorRule(getattr(func, "__name__", str(func)))
        return applied(found, func, args, kwargs or {})

    def map(self, linear: Callable[[Tensor], Tensor], affine: Callable[[Tensor], Tensor] | None = None) -> Jet:
        """Return the jet behind a linear map, or behind an affine one whose linear part is given."""
        second = None if self.second is None else linear(self.second)
        return Jet((affine or linear)(self.value), linear(self.first), second, self.along)

    def through(self, f0: Tensor, f1: Tensor, f2: Tensor) -> Jet:
        """Return the jet behind a function of single elements with this value and these derivatives."""
        second = f2 * self.along.gather(self.first.square())
        if self.second is not None:
            second = second + f1 * self.second
        return Jet(f0, f1 * self.first, second, self.along)

    def plus(self, other: Any) -> Jet:
        """Return the sum with another jet, a tensor or a number."""
        if not isinstance(other, Jet):
            return Jet(self.value + other, self.first, self.second, self.along)
        second = self.second if other.second is None else other.second
        if self.second is not None and other.second is not None:
            second = self.second + other.second
        return Jet(self.value + other.value, self.first + other.first, second, self.along)

    def times(self, other: Any) -> Jet:
        """Return the product with another jet, a tensor or a number."""
        if not isinstance(other, Jet):
            return self.map(lambda t: t * other)
        second = 2 * self.along.gather(self.first * other.first)
        if other.second is not None:
            second = second + self.value * other.second
        if self.second is not None:
            second = second + other.value * self.second
        first = self.value * other.first + other.value * self.first
        return Jet(self.value * other.value, first, second, self.along)

    def __add__(self, other: Any) -> Any:
        return torch.add(self, other)  # type: ignore[call-overload]

    __radd__ = __add__

    def __mul__(self, other: Any) -> Any:
        return torch.mul(self, other)  # type: ignore[arg-type]

    __rmul__ = __mul__

    def __neg__(self) -> Any:
        return self * -1

    def __sub__(self, other: Any) -> Any:
        return self + (-other)

    def __rsub__(self, other: Any) -> Any:
        return (-self) + other

    def __truediv__(self, other: Any) -> Any:
        return torch.div(self, other)  # type: ignore[arg-type]

    def __rtruediv__(self, other: Any) -> Any:
        return torch.reciprocal(self) * other  # type: ignore[arg-type]

    def __pow__(self, exponent: Any) -> Any:
        return torch.pow(self, exponent)  # type: ignore[call-overload]

    def __rpow__(self, base: Any) -> Any:
        raise NoTaylorRule("a power whose exponent depends on x")

    def __lt__(self, other: Any) -> Any:
        raise NoTaylorRule("a comparison")

    __le__ = __gt__ = __ge__ = __lt__

    def __matmul__(self, other: Any) -> Any:
        return torch.matmul(self, other)  # type: ignore[arg-type]

    def __getitem__(self, key: Any) -> Any:
        return self.__torch_function__(torch.Tensor.__getitem__, (), (self, key))

    def __len__(self) -> int:
        return len(self.value)

    def __getattr__(self, name: str) -> Any:
        """Find a tensor's method by its name: ``x.sin()`` is ``torch.sin(x)``."""
        method = getattr(torch.Tensor, name, None)
        if method is None or name.startswith("__"):
            raise AttributeError(f"'{type(self).__name__}' has no attribute {name!r}")
        if not callable(method):
            raise NoTaylorRule(name)
        return lambda *args, **kwargs: self.__torch_function__(method, (), (self, *args), kwargs)

    @property
    def shape(self) -> torch.Size:
        """The value's shape."""
        return self.value.shape

    @property
    def ndim(self) -> int:
        """How many dimensions the value has."""
        return self.value.ndim

    @property
    def dtype(self) -> torch.dtype:
        """The value's type."""
        return self.value.dtype

    @property
    def device(self) -> torch.device:
        """The value's device."""
        return self.value.device

    def dim(self) -> int:
        """Return how many dimensions the value has."""
        return self.value.ndim

    def size(self, dim: int | None = None) -> Any:
        """Return the value's shape, or one number of it."""
        return self.value.shape if dim is None else self.value.shape[dim]

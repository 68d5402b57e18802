"""A network's input along chosen coordinates, whose directions e_i are never written out.

The first layer of a network on d inputs is where d matters. Along e_i the derivative of Wx + b is column i of W, so
that B directions cost one gather of B columns, for all points together, in place of B·N vectors of d numbers. Functions
of single coordinates keep one number for each chosen coordinate, and sums over coordinates pick these up: factors such
as 1 − |x|² cost nothing that grows with the number of dimensions but the sum itself.

Whatever has no rule here is written out and goes the way of every jet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from aleator.gradients.dimensions.jets import RULES, Along, Jet, NoTaylorRule, applied
from aleator.gradients.dimensions.rules import SMOOTH, power

HERE: dict[Any, Callable[..., Any]] = {}


class Coordinates(Jet):
    """Values g_i(x_i) ``(points, d)``, whose derivative along e_j is that of one coordinate alone.

    Args:
        value: ``(points, d)``.
        index: the chosen coordinates, ``(directions,)`` for all points or ``(points, directions)``.
        slope: g_j' at the chosen coordinates, ``(directions, points or 1)``.
        bend: g_j'' there, or None for 0.
        along: how second derivatives are put together.
    """

    __slots__ = ("bend", "index", "slope")

    def __init__(self, value: Tensor, index: Tensor, slope: Tensor | None, bend: Tensor | None, along: Along) -> None:
        self.value = value
        self.index = index
        self.slope = slope
        self.bend = bend
        self.along = along

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return _carry_out(func, args, kwargs or {})

    def __getattr__(self, name: str) -> Any:
        if name in ("first", "second"):
            raise NoTaylorRule("an operation on coordinates that were not written out")
        return super().__getattr__(name)

    def chosen(self, values: Tensor) -> Tensor:
        """Return ``(directions, points or 1)`` of ``(points, d)``, ``(d,)`` or a single number."""
        if values.ndim == 0 or values.shape[-1] == 1:
            return values.reshape(1, -1)
        if self.index.ndim == 1:
            return values[..., self.index].reshape(-1, len(self.index)).T
        return values.expand(self.value.shape).gather(-1, self.index).T

    def columns(self, weight: Tensor) -> Tensor:
        """Return ``(directions, points or 1, out)``: the columns of a weight ``(out, d)`` at the chosen coordinates."""
        if self.index.ndim == 1:
            return weight.T[self.index].unsqueeze(1)
        return F.embedding(self.index.T, weight.T)

    def written_out(self) -> Jet:
        """Return the same as a plain jet, with directions × points × d numbers."""
        width = self.value.shape[-1]
        index = self.index[:, None] if self.index.ndim == 1 else self.index.T
        hot = (index.unsqueeze(-1) == torch.arange(width, device=index.device)).to(self.value.dtype)
        first = hot if self.slope is None else self.slope.unsqueeze(-1) * hot
        second = None if self.bend is None else self.along.gather(self.bend.unsqueeze(-1) * hot)
        return Jet(self.value, first, second, self.along)


def _carry_out(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    found = HERE.get(func)
    out = NotImplemented if found is None else applied(found, func, args, kwargs)
    if out is not NotImplemented:
        return out
    found = RULES.get(func)
    if found is None:
        raise NoTaylorRule(getattr(func, "__name__", str(func)))
    return applied(found, func, _written_out(args), {name: _written_out(a) for name, a in kwargs.items()})


def _written_out(a: Any) -> Any:
    if isinstance(a, list | tuple):
        return type(a)([_written_out(part) for part in a])
    return a.written_out() if isinstance(a, Coordinates) else a


def here(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register what these functions do with coordinates; they may return NotImplemented."""

    def register(carried_out: Callable[..., Any]) -> Callable[..., Any]:
        HERE.update(dict.fromkeys(functions, carried_out))
        return carried_out

    return register


def _through(x: Coordinates, value: Tensor, f1: Tensor, f2: Tensor) -> Coordinates:
    slope = f1 if x.slope is None else f1 * x.slope
    bend = f2 if x.slope is None else f2 * x.slope.square()
    return Coordinates(value, x.index, slope, bend if x.bend is None else bend + f1 * x.bend, x.along)


def _elementwise(function: Callable[..., Tensor], f: Callable[..., tuple[Tensor, Tensor, Tensor]]) -> Any:
    def carried_out(x: Coordinates, *args: Any, **kwargs: Any) -> Coordinates:
        _, f1, f2 = f(x.chosen(x.value), *args, **kwargs)
        return _through(x, function(x.value, *args, **kwargs), f1, f2)

    return carried_out


for _function, _f in SMOOTH.items():
    here(_function)(_elementwise(_function, _f))


@here(torch.pow, torch.Tensor.pow, torch.Tensor.__pow__)
def _(x: Any, exponent: Any) -> Any:
    if not isinstance(x, Coordinates) or not isinstance(exponent, int | float):
        return NotImplemented
    _, f1, f2 = power(x.chosen(x.value), exponent)
    return _through(x, x.value**exponent, f1, f2)


@here(torch.add, torch.Tensor.add, torch.Tensor.__add__, torch.Tensor.__radd__)
def _(a: Any, b: Any) -> Any:
    x, other = (a, b) if isinstance(a, Coordinates) else (b, a)
    if isinstance(other, Jet):
        return NotImplemented
    value = x.value + other
    return Coordinates(value, x.index, x.slope, x.bend, x.along) if value.shape == x.value.shape else NotImplemented


@here(torch.mul, torch.Tensor.mul, torch.Tensor.__mul__, torch.Tensor.__rmul__)
def _(a: Any, b: Any) -> Any:
    x, other = (a, b) if isinstance(a, Coordinates) else (b, a)
    if isinstance(other, Coordinates):
        return _product(x, other)
    if isinstance(other, Jet):
        return NotImplemented
    value = x.value * other
    if value.shape != x.value.shape:
        return NotImplemented
    factor = x.chosen(other if isinstance(other, Tensor) else value.new_tensor(other))
    slope = factor * _slope(x)  # of as many directions as there are, also where the factor is one number
    return Coordinates(value, x.index, slope, None if x.bend is None else factor * x.bend, x.along)


def _product(a: Coordinates, b: Coordinates) -> Any:
    if a.index is not b.index or a.value.shape != b.value.shape:
        return NotImplemented
    at_a, at_b = a.chosen(a.value), b.chosen(b.value)
    slope_a = at_a.new_ones(()) if a.slope is None else a.slope
    slope_b = at_b.new_ones(()) if b.slope is None else b.slope
    bend = 2 * slope_a * slope_b
    if a.bend is not None:
        bend = bend + at_b * a.bend
    if b.bend is not None:
        bend = bend + at_a * b.bend
    slope = at_a * slope_b + at_b * slope_a
    return Coordinates(a.value * b.value, a.index, slope, bend.expand_as(slope), a.along)


@here(torch.sum, torch.Tensor.sum)
def _(x: Coordinates, dim: Any = None, keepdim: bool = False) -> Any:
    if dim not in (-1, 1, (-1,), (1,), [-1], [1]):
        return NotImplemented
    first = _slope(x)
    second = None if x.bend is None else x.along.gather(x.bend)
    if keepdim:
        first, second = first.unsqueeze(-1), None if second is None else second.unsqueeze(-1)
    return Jet(x.value.sum(-1, keepdim), first, second, x.along)


def _slope(x: Coordinates) -> Tensor:
    return x.value.new_ones(x.index.shape[-1], 1) if x.slope is None else x.slope


@here(F.linear)
def _(x: Any, weight: Any, bias: Tensor | None = None) -> Any:
    if not isinstance(x, Coordinates) or not isinstance(weight, Tensor):
        return NotImplemented
    columns = x.columns(weight)
    first = columns if x.slope is None else x.slope.unsqueeze(-1) * columns
    second = None if x.bend is None else x.along.gather(x.bend.unsqueeze(-1) * columns)
    return Jet(F.linear(x.value, weight, bias), first, second, x.along)


@here(torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.mm, torch.Tensor.mm)
def _(a: Any, b: Any) -> Any:
    if not isinstance(b, Tensor) or b.ndim != 2:
        return NotImplemented
    return HERE[F.linear](a, b.T)


@here(torch.Tensor.__getitem__)
def _(x: Coordinates, key: Any) -> Any:
    if not isinstance(key, tuple) or len(key) != 2 or not (key[0] is Ellipsis or key[0] == slice(None)):
        return NotImplemented
    value, part, width = x.value[key], key[1], x.value.shape[-1]
    index = x.index[:, None] if x.index.ndim == 1 else x.index.T
    if isinstance(part, int):
        inside = (index == part % width).to(x.value.dtype)
        second = None if x.bend is None else x.along.gather(x.bend * inside)
        return Jet(value, _slope(x) * inside, second, x.along)
    if not isinstance(part, slice) or part.step not in (None, 1) or value.shape[-1] == 0:
        return NotImplemented
    start, stop, _ = part.indices(width)
    inside = ((index >= start) & (index < stop)).to(x.value.dtype)
    moved = (x.index - start).clamp(0, stop - start - 1)
    bend = None if x.bend is None else x.bend * inside
    return Coordinates(value, moved, _slope(x) * inside, bend, x.along)

"""Derivatives of a function of points along directions: `taylor2` to order 2, `jet` to order 4, sums of the second.

    taylor2(f, x, v)    u(x), v_b·∇u, v_bᵀ ∇²u v_b     for every direction v_b
    second_sum          Σ_b c_b v_bᵀ ∇²u v_b alone, at half the work (collapsed; see `jets`)
    jet(f, x, v)        d^k/ds^k u(x + s·v) at s = 0, k = 0 … order, not divided by k!

Directions are coordinates, by their numbers, or vectors. Where a network has a function without a Taylor rule, there is
a warning, and ``torch.func.jvp`` is nested, which takes five times as long or more.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import jvp, vmap
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from aleator.gradients.dimensions.coordinates import Coordinates
from aleator.gradients.dimensions.jets import RULES, Along, Jet, NoTaylorRule
from aleator.gradients.dimensions.rules import PIECEWISE_LINEAR, layer_norm

Net = Callable[[Any], Any]
Directions = Int[Tensor, " directions"] | Int[Tensor, "points directions"] | Float[Tensor, "directions dim"]

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_KINKED = (
    *(nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ReLU6, nn.Hardtanh, nn.Threshold, nn.RReLU, nn.Hardsigmoid),
    *(nn.Hardshrink, nn.Softshrink),
)


def taylor2(module: Net, x: Float[Tensor, "points dim"], directions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return u and its first and second derivatives along directions, in one pass.

    Args:
        module: from points ``(points, dim)`` to ``(points,)``, ``(points, 1)`` or, with m outputs, ``(points, m)``;
            each point's value must depend on that point alone.
        x: the points, float32 or float64.
        directions: numbers of coordinates, ``(B,)``, or ``(points, B)`` where each point has its own; or vectors
            ``(B, dim)`` or ``(points, B, dim)``.

    Returns:
        u ``(points,)``; ∂u and ∂²u ``(points, B)``. With m outputs ``(points, m)`` and ``(points, m, B)``.

    Raises:
        ValueError: if a shape, a type or an index is not as above, or the module has an activation without second
            derivative, dropout that draws, or batch normalisation in training mode.
    """
    check_points(x)
    check_directions(directions, x)
    value, first, second = propagate(module, x, directions, Along(None))
    return value, first.movedim(0, -1), second.movedim(0, -1)


def second_sum(
    module: Net,
    x: Float[Tensor, "points dim"],
    directions: Tensor,
    weights: Tensor | None = None,
    count: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return u, its derivatives along directions, and the weighted sum of its second derivatives along them.

    Nothing is checked but by torch: this is what compiled steps call.

    Args:
        module: as in `taylor2`.
        x: the points.
        directions: as in `taylor2`.
        weights: c_b ``(count,)`` or ``(points, count)``; 1 by default.
        count: the sum is over the first so many directions; all by default.

    Returns:
        u ``(points,)``, ``(B, points)`` first derivatives, ``(points,)`` the sum.
    """
    directions_given = directions.shape[-1 if not directions.is_floating_point() else -2]
    return propagate(module, x, directions, Along(directions_given if count is None else count, weights))


def jet(f: Net, x: Float[Tensor, "points dim"], v: Float[Tensor, "*points dim"], order: int = 4) -> tuple[Tensor, ...]:
    """Return d^k/ds^k f(x + s·v) at s = 0 for k = 0 … order, not divided by k!.

    Args:
        f: as in `taylor2`; a function of any smooth operations that torch has forward derivatives of.
        x: the points.
        v: one direction ``(dim,)`` for all points, or ``(points, dim)``.
        order: 0 to 4.

    Raises:
        ValueError: if order is not from 0 to 4, or a shape does not fit.
    """
    if order not in range(5):
        raise ValueError(f"order must be from 0 to 4, got {order}")
    check_points(x)
    if v.shape not in (x.shape, x.shape[1:]):
        raise ValueError(f"v must have shape {tuple(x.shape[1:])} or {tuple(x.shape)}, got {tuple(v.shape)}")
    vectors = v.expand_as(x)[:, None]
    value, *higher = jets_along(f, x, vectors, order)
    return (value, *(derivative[0] for derivative in higher))


def propagate(module: Net, x: Tensor, directions: Tensor, along: Along) -> tuple[Tensor, Tensor, Tensor]:
    """Return u, ``(directions, points)`` first derivatives and second ones as `along` has them, all written out."""
    refuse_modules(module)
    directions = directions.to(x.dtype) if directions.is_floating_point() else directions
    with full_precision(x):
        try:
            return _native(module, _start(x, directions, along))
        except NoTaylorRule as missing:
            _warn(missing)
        vectors = directions
        if not directions.is_floating_point():
            vectors = nn.functional.one_hot(directions.long(), x.shape[1]).to(x.dtype)
        value, first, second = _each(lambda at, v: _nested(module, at, v, 2), x, vectors, 2)
        return value, first, along.gather(second)


def jets_along(module: Net, x: Tensor, vectors: Tensor, order: int) -> tuple[Tensor, ...]:
    """Return u, and derivatives 1 … order ``(B, points)`` along vectors ``(B, dim)`` or ``(points, B, dim)``.

    Args:
        module: as in `taylor2`.
        x: the points.
        vectors: the directions.
        order: 0 to 4.
    """
    refuse_modules(module)
    vectors = vectors.to(x.dtype)
    with full_precision(x):
        try:
            return _each(lambda at, v: _higher(module, at, v, order), x, vectors, order)
        except NoTaylorRule as missing:
            _warn(missing)
        return _each(lambda at, v: _nested(module, at, v, order), x, vectors, order)


def _warn(missing: NoTaylorRule) -> None:
    said = f"net uses {missing}, which has no Taylor rule: nested torch.func.jvp instead, which is slower"
    warnings.warn(said, stacklevel=5)


def _each(
    f: Callable[[Tensor, Tensor], tuple[Tensor, ...]], x: Tensor, vectors: Tensor, order: int
) -> tuple[Tensor, ...]:
    vectors = vectors if vectors.ndim == 2 else vectors.transpose(0, 1)
    places: Any = (None, *(0,) * order)
    found: tuple[Tensor, ...] = vmap(lambda v: f(x, v.expand_as(x)), out_dims=places)(vectors)
    return found


def _native(module: Net, start: Jet) -> tuple[Tensor, Tensor, Tensor]:
    out, x, along = module(start), start.value, start.along
    if not isinstance(out, Jet):  # constant in x
        value = _output(out, x)
        zero = value.new_zeros(_directions(start), *value.shape)
        return value, zero, along.gather(zero)
    out = out.written_out() if isinstance(out, Coordinates) else out
    squeeze = out.value.ndim == 2 and out.value.shape[1] == 1
    value = _output(out.value, x)
    first = (out.first.squeeze(-1) if squeeze else out.first).expand(-1, *value.shape)
    second = first.new_zeros(()) if out.second is None else out.second.squeeze(-1) if squeeze else out.second
    return value, first, second.expand_as(first if along.count is None else value)


def _higher(module: Net, x: Tensor, v: Tensor, order: int) -> tuple[Tensor, ...]:
    """Return derivatives along one direction: two in Taylor mode, and forward derivatives of these."""
    if order <= 2:
        value, *lower = _native(module, Jet(x, v[None], None, Along(None)))
        return (value, *(derivative[0] for derivative in lower[:order]))
    values, tangents, *_ = jvp(lambda at: _higher(module, at, v, order - 1), (x,), (v,))
    return (*values, tangents[-1])


def _nested(module: Net, x: Tensor, v: Tensor, order: int) -> tuple[Tensor, ...]:
    """Return derivatives along one direction, forward derivatives of forward derivatives."""
    if order == 0:
        with _WrittenOut():
            return (_output(module(x), x),)
    values, tangents, *_ = jvp(lambda at: _nested(module, at, v, order - 1), (x,), (v,))
    return (*values, tangents[-1])


class _WrittenOut(TorchFunctionMode):
    """Computes layer normalisation by its formula: forward derivatives of torch's own are wrong from the second on.

    What is piecewise linear is refused as in Taylor mode, where a function without a rule may come before it.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in PIECEWISE_LINEAR:
            RULES[func]()
        return (layer_norm if func is F.layer_norm else func)(*args, **(kwargs or {}))


def _start(x: Tensor, directions: Tensor, along: Along) -> Jet:
    if not directions.is_floating_point():
        return Coordinates(x, directions, None, None, along)
    tangents = directions.unsqueeze(1) if directions.ndim == 2 else directions.transpose(0, 1)
    return Jet(x, tangents, None, along)


def _directions(start: Jet) -> int:
    return start.index.shape[-1] if isinstance(start, Coordinates) else len(start.first)


def _output(u: Any, x: Tensor) -> Tensor:
    """Return a network's output as ``(points,)``, or ``(points, m)``."""
    if not isinstance(u, Tensor) or u.ndim not in (1, 2) or u.shape[0] != x.shape[0]:
        shape = tuple(u.shape) if isinstance(u, Tensor) else type(u).__name__
        raise ValueError(f"net must return shape ({len(x)},), ({len(x)}, 1) or ({len(x)}, outputs), got {shape}")
    return u.squeeze(1) if u.ndim == 2 and u.shape[1] == 1 else u


def value_of(net: Net, x: Tensor) -> Tensor:
    """Return a network's output as ``(points,)`` or ``(points, m)``, in full precision.

    Raises:
        ValueError: if it has another shape.
    """
    with full_precision(x):
        return _output(net(x), x)


def refuse_modules(module: Any) -> None:
    """Refuse modules whose points are not independent, or that have no second derivative, also by the slow way.

    Raises:
        ValueError: naming the module.
    """
    if not isinstance(module, nn.Module):
        return
    for name, part in module.named_modules():
        if isinstance(part, _NORMS) and part.training:
            raise ValueError(f"net must treat points one by one, got batch normalisation in training mode: {name!r}")
        if isinstance(part, _KINKED):
            raise ValueError(
                "activations must be smooth for second derivatives (tanh, sin, gelu, softplus, …), "
                f"got {type(part).__name__}"
            )


@contextlib.contextmanager
def full_precision(x: Tensor) -> Any:
    """Switch autocast off: second derivatives in half precision are noise."""
    if torch.is_autocast_enabled(x.device.type):
        with torch.autocast(x.device.type, enabled=False):
            yield
    else:
        yield


def check_points(x: Tensor) -> None:
    """Refuse what is no batch of points in full precision.

    Raises:
        ValueError: saying the shape or type got.
    """
    if x.ndim != 2:
        raise ValueError(f"x must have shape (points, dimensions), got {tuple(x.shape)}")
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"x must be float32 or float64 for second derivatives, got {x.dtype}")


def check_directions(directions: Tensor, x: Tensor, dim: int | None = None) -> None:
    """Refuse directions that do not fit points, or are coordinates that are not there, or twice.

    Args:
        directions: as in `taylor2`.
        x: the points.
        dim: how many coordinates may be chosen from; all by default.

    Raises:
        ValueError: saying what was got.
    """
    points, width = x.shape
    dim = width if dim is None else dim
    shape = tuple(directions.shape)
    if directions.is_floating_point():
        if directions.ndim not in (2, 3) or shape[-1] != width or (directions.ndim == 3 and shape[0] != points):
            raise ValueError(f"directions must have shape (B, {width}) or ({points}, B, {width}), got {shape}")
        return
    if directions.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"directions must be integers or floats, got {directions.dtype}")
    if directions.ndim not in (1, 2) or (directions.ndim == 2 and shape[0] != points) or 0 in shape:
        raise ValueError(f"indices must have shape (B,) or ({points}, B), got {shape}")
    if shape[-1] > dim:
        raise ValueError(f"indices must be at most {dim}, the number of dimensions, got {shape[-1]}")
    if torch.compiler.is_compiling():
        return
    ordered = directions.sort(-1).values
    if bool((ordered[..., 0] < 0).any()) or bool((ordered[..., -1] >= dim).any()):
        low, high = int(ordered.min()), int(ordered.max())
        raise ValueError(f"indices must be in [0, {dim - 1}], got {low if low < 0 else high}")
    if bool((ordered[..., 1:] == ordered[..., :-1]).any()):
        raise ValueError("indices must be distinct, got one of them twice")

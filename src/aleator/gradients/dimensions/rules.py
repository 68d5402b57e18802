"""What torch's functions do with jets: linear maps, smooth functions of single elements, products, normalisation.

A function that is piecewise linear is refused by name: its second derivative is 0 almost everywhere, and an operator of
second order would see nothing of it. So is what makes one point depend on the others, or draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from aleator.gradients.dimensions.jets import Jet, NoTaylorRule, rule

Derivatives = tuple[Tensor, Tensor, Tensor]


def _tanh(y: Tensor) -> Derivatives:
    t = torch.tanh(y)
    f1 = 1 - t.square()
    return t, f1, -2 * t * f1


def _sigmoid(y: Tensor) -> Derivatives:
    s = torch.sigmoid(y)
    f1 = s * (1 - s)
    return s, f1, f1 * (1 - 2 * s)


def _sin(y: Tensor) -> Derivatives:
    s = torch.sin(y)
    return s, torch.cos(y), -s


def _cos(y: Tensor) -> Derivatives:
    c = torch.cos(y)
    return c, -torch.sin(y), -c


def _exp(y: Tensor) -> Derivatives:
    e = torch.exp(y)
    return e, e, e


def _log(y: Tensor) -> Derivatives:
    f1 = y.reciprocal()
    return torch.log(y), f1, -f1.square()


def _reciprocal(y: Tensor) -> Derivatives:
    r = y.reciprocal()
    square = r.square()
    return r, -square, 2 * square * r


def _sqrt(y: Tensor) -> Derivatives:
    root = torch.sqrt(y)
    f1 = 0.5 / root
    return root, f1, -0.5 * f1 / y


def _rsqrt(y: Tensor) -> Derivatives:
    r = torch.rsqrt(y)
    f1 = -0.5 * r / y
    return r, f1, -1.5 * f1 / y


def _square(y: Tensor) -> Derivatives:
    return y.square(), 2 * y, torch.full_like(y, 2.0)


def _erf(y: Tensor) -> Derivatives:
    f1 = (2 / math.sqrt(math.pi)) * torch.exp(-y.square())
    return torch.erf(y), f1, -2 * y * f1


def _atan(y: Tensor) -> Derivatives:
    f1 = (1 + y.square()).reciprocal()
    return torch.atan(y), f1, -2 * y * f1.square()


def _sinh(y: Tensor) -> Derivatives:
    s = torch.sinh(y)
    return s, torch.cosh(y), s


def _cosh(y: Tensor) -> Derivatives:
    c = torch.cosh(y)
    return c, torch.sinh(y), c


def _silu(y: Tensor) -> Derivatives:
    s, s1, s2 = _sigmoid(y)
    return y * s, s + y * s1, 2 * s1 + y * s2


def _softplus(y: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Derivatives:
    """Linear above the threshold, as torch has it: there the second derivative is 0."""
    s, s1, _ = _sigmoid(beta * y)
    linear = beta * y > threshold
    return F.softplus(y, beta, threshold), s.masked_fill(linear, 1.0), (beta * s1).masked_fill(linear, 0.0)


def _logsigmoid(y: Tensor) -> Derivatives:
    f1 = torch.sigmoid(-y)
    return F.logsigmoid(y), f1, -f1 * torch.sigmoid(y)


def _gelu(y: Tensor, approximate: str = "none") -> Derivatives:
    if approximate == "none":
        density = torch.exp(-0.5 * y.square()) / math.sqrt(2 * math.pi)
        below = 0.5 * torch.erfc(-y / math.sqrt(2))
        return y * below, below + y * density, density * (2 - y.square())
    a, b = math.sqrt(2 / math.pi), 0.044715
    inner1 = a * (1 + 3 * b * y.square())
    t, t1, t2 = _tanh(a * (y + b * y.square() * y))
    slope = t1 * inner1
    return 0.5 * y * (1 + t), 0.5 * (1 + t) + 0.5 * y * slope, slope + 0.5 * y * (t2 * inner1**2 + t1 * 6 * a * b * y)


def power(y: Tensor, exponent: float) -> Derivatives:
    """Return y^p and its derivatives; whole exponents from 0 on also at y ≤ 0."""
    p = exponent
    f1 = p * y ** (p - 1) if p != 0 else torch.zeros_like(y)
    f2 = p * (p - 1) * y ** (p - 2) if p not in (0, 1) else torch.zeros_like(y)
    return y**p, f1, f2


SMOOTH: dict[Any, Callable[..., Derivatives]] = {}
"""Functions of single elements: value, first and second derivative."""

for _f, _functions in (
    (_tanh, (torch.tanh, torch.Tensor.tanh, F.tanh)),
    (_sigmoid, (torch.sigmoid, torch.Tensor.sigmoid, F.sigmoid)),
    (_sin, (torch.sin, torch.Tensor.sin)),
    (_cos, (torch.cos, torch.Tensor.cos)),
    (_exp, (torch.exp, torch.Tensor.exp)),
    (_log, (torch.log, torch.Tensor.log)),
    (_reciprocal, (torch.reciprocal, torch.Tensor.reciprocal)),
    (_sqrt, (torch.sqrt, torch.Tensor.sqrt)),
    (_rsqrt, (torch.rsqrt, torch.Tensor.rsqrt)),
    (_square, (torch.square, torch.Tensor.square)),
    (_erf, (torch.erf, torch.Tensor.erf, torch.special.erf)),
    (_atan, (torch.atan, torch.Tensor.atan, torch.arctan)),
    (_sinh, (torch.sinh, torch.Tensor.sinh)),
    (_cosh, (torch.cosh, torch.Tensor.cosh)),
    (_gelu, (F.gelu,)),
    (_softplus, (F.softplus,)),
    (_logsigmoid, (F.logsigmoid,)),
):
    SMOOTH |= dict.fromkeys(_functions, _f)


def _elementwise(f: Callable[..., Derivatives]) -> Callable[..., Jet]:
    def carried_out(x: Jet, *args: Any, **kwargs: Any) -> Jet:
        return x.through(*f(x.value, *args, **kwargs))

    return carried_out


for _function, _f in SMOOTH.items():
    rule(_function)(_elementwise(_f))


@rule(F.silu)
def _(x: Jet, inplace: bool = False) -> Jet:
    return x.through(*_silu(x.value))


@rule(F.mish)
def _(x: Jet, inplace: bool = False) -> Any:
    return x * torch.tanh(F.softplus(x))  # type: ignore[arg-type]


@rule(torch.pow, torch.Tensor.pow, torch.Tensor.__pow__)
def _(x: Any, exponent: Any) -> Any:
    if not isinstance(x, Jet) or not isinstance(exponent, int | float):
        raise NoTaylorRule("pow with an exponent that is no number")
    return x.through(*power(x.value, exponent))


@rule(torch.add, torch.Tensor.add, torch.Tensor.__add__, torch.Tensor.__radd__)
def _(a: Any, b: Any) -> Jet:
    return a.plus(b) if isinstance(a, Jet) else b.plus(a)


@rule(torch.mul, torch.Tensor.mul, torch.Tensor.__mul__, torch.Tensor.__rmul__)
def _(a: Any, b: Any) -> Jet:
    return a.times(b) if isinstance(a, Jet) else b.times(a)


@rule(torch.sub, torch.Tensor.sub, torch.Tensor.__sub__)
def _(a: Any, b: Any) -> Any:
    return a + (-b)


@rule(torch.rsub, torch.Tensor.__rsub__)
def _(a: Any, b: Any) -> Any:
    return b + (-a)


@rule(torch.neg, torch.Tensor.neg, torch.Tensor.__neg__)
def _(a: Any) -> Any:
    return a * -1


@rule(torch.div, torch.Tensor.div, torch.Tensor.__truediv__, torch.true_divide)
def _(a: Any, b: Any) -> Any:
    if isinstance(b, int | float):
        return a * (1 / b)
    return a * torch.reciprocal(b)


@rule(torch.Tensor.__rtruediv__, torch.Tensor.__rdiv__)
def _(b: Any, a: Any) -> Any:
    return a * torch.reciprocal(b)


@rule(F.linear)
def _(x: Any, weight: Tensor, bias: Tensor | None = None) -> Jet:
    if not isinstance(x, Jet):
        raise NoTaylorRule("linear with a weight that depends on x")
    return _written_out(x).map(lambda t: F.linear(t, weight), lambda t: F.linear(t, weight, bias))


@rule(torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.mm, torch.Tensor.mm)
def _(a: Any, b: Any) -> Jet:
    if not isinstance(a, Jet) or isinstance(b, Jet) or a.ndim != 2:
        raise NoTaylorRule("matmul other than of points with a matrix")
    return _written_out(a).map(lambda t: t @ b)


@rule(torch.addmm, torch.Tensor.addmm)
def _(bias: Any, a: Any, b: Any) -> Any:
    return (a @ b) + bias


def _inner(x: Jet, dims: Any) -> list[int]:
    """Return dimensions counted from the end; that of the points may not be among them."""
    listed = range(1, x.ndim) if dims is None else (dims,) if isinstance(dims, int) else dims
    counted = [d if d < 0 else d - x.ndim for d in listed]
    if dims is None or -x.ndim in counted:
        raise NoTaylorRule("a sum over the points")
    return counted


@rule(torch.sum, torch.Tensor.sum)
def _(x: Jet, dim: Any = None, keepdim: bool = False) -> Jet:
    dims = _inner(x, dim)
    if any([x.first.shape[d] != x.shape[d] for d in dims]):  # a list: torch.compile follows no generators
        x = _written_out(x)
    return x.map(lambda t: t.sum(dims, keepdim))


@rule(torch.mean, torch.Tensor.mean)
def _(x: Jet, dim: Any = None, keepdim: bool = False) -> Any:
    dims = _inner(x, dim)
    return torch.sum(x, dim=dims, keepdim=keepdim) / math.prod([x.shape[d] for d in dims])  # type: ignore[call-overload]


def _written_out(x: Jet) -> Jet:
    """Give derivatives every size of the value but that of the points."""
    first = x.first.expand(*x.first.shape[:2], *x.shape[1:])
    second = x.second
    if second is not None:
        second = second.expand(*second.shape[: second.ndim - x.ndim + 1], *x.shape[1:])
    return Jet(x.value, first, second, x.along)


@rule(F.layer_norm)
def layer_norm(
    x: Any, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Any:
    """Return layer normalisation by its formula, of a jet or a tensor."""
    dims = tuple(range(-len(normalized_shape), 0))
    centred = x - torch.mean(x, dim=dims, keepdim=True)
    out = centred * torch.rsqrt(torch.mean(centred * centred, dim=dims, keepdim=True) + eps)
    out = out if weight is None else out * weight
    return out if bias is None else out + bias


@rule(F.rms_norm)
def _(x: Jet, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Any:
    dims = tuple(range(-len(normalized_shape), 0))
    small = torch.finfo(x.dtype).eps if eps is None else eps
    out = x * torch.rsqrt(torch.mean(x * x, dim=dims, keepdim=True) + small)
    return out if weight is None else out * weight


@rule(torch.squeeze, torch.Tensor.squeeze)
def _(x: Jet, dim: Any = None) -> Jet:
    dims = _inner(x, dim)
    return x.map(lambda t: t.squeeze(tuple(dims))) if all(x.shape[d] == 1 for d in dims) else x


@rule(torch.unsqueeze, torch.Tensor.unsqueeze)
def _(x: Jet, dim: int) -> Jet:
    if dim in (0, -x.ndim - 1):
        raise NoTaylorRule("unsqueeze before the points")
    place = dim if dim < 0 else dim - x.ndim - 1
    return x.map(lambda t: t.unsqueeze(place))


@rule(torch.flatten, torch.Tensor.flatten)
def _(x: Jet, start_dim: int = 0, end_dim: int = -1) -> Jet:
    if x.ndim == 2 and start_dim in (1, -1):
        return x
    raise NoTaylorRule("flatten")


@rule(torch.Tensor.__getitem__)
def _(x: Jet, key: Any) -> Jet:
    keys = key if isinstance(key, tuple) else (key,)
    plain = all(isinstance(k, slice | int) or k is Ellipsis or k is None for k in keys)
    if not plain or not (keys[0] is Ellipsis or keys[0] == slice(None)):
        raise NoTaylorRule("indexing other than x[:, …] or x[..., …]")
    x = _written_out(x)
    inner = keys if keys[0] is Ellipsis else (slice(None), *keys)
    second = None
    if x.second is not None:
        second = x.second[inner if x.second.ndim == x.first.ndim else keys]
    return Jet(x.value[keys], x.first[inner], second, x.along)


@rule(torch.cat, torch.concat)
def _(tensors: Any, dim: int = 0) -> Jet:
    jets = [_written_out(t) for t in tensors if isinstance(t, Jet)]
    along, directions, points, ndim = jets[0].along, len(jets[0].first), len(jets[0].value), jets[0].ndim
    place = dim if dim < 0 else dim - ndim
    if place == -ndim:
        raise NoTaylorRule("cat of points")
    firsts, seconds = [], []
    for t in tensors:
        written = _written_out(t) if isinstance(t, Jet) else t
        value = written.value if isinstance(written, Jet) else written
        nothing = value.new_zeros(directions, points, *value.shape[1:])
        first = written.first if isinstance(written, Jet) else nothing
        firsts.append(first.expand(-1, points, *first.shape[2:]))
        second = written.second if isinstance(written, Jet) else None
        if second is None:
            second = nothing if along.count is None else nothing[0]
        seconds.append(second.expand_as(nothing if along.count is None else nothing[0]))
    values = [t.value if isinstance(t, Jet) else t for t in tensors]
    return Jet(torch.cat(values, dim), torch.cat(firsts, place), torch.cat(seconds, place), along)


@rule(F.dropout, F.alpha_dropout)
def _(x: Jet, p: float = 0.5, training: bool = True, inplace: bool = False) -> Jet:
    if training and p > 0:
        raise ValueError(f"net must not draw inside derivatives: dropout must be off (net.eval()), got p = {p}")
    return x


@rule(F.batch_norm)
def _(
    x: Jet,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    if training or running_mean is None or running_var is None:
        raise ValueError("net must treat points one by one, got batch normalisation in training mode")
    out = (x - running_mean) * torch.rsqrt(running_var + eps)
    out = out if weight is None else out * weight
    return out if bias is None else out + bias


PIECEWISE_LINEAR = (
    *(F.relu, torch.relu, torch.Tensor.relu, F.leaky_relu, F.prelu, torch.prelu, F.relu6, F.hardtanh, F.threshold),
    *(F.rrelu, F.hardsigmoid, F.hardshrink, F.softshrink, torch.abs, torch.Tensor.abs, torch.Tensor.__abs__),
)


def _refuse(name: str) -> Callable[..., Any]:
    def refused(*args: Any, **kwargs: Any) -> Any:
        raise ValueError(
            f"activations must be smooth for second derivatives (tanh, sin, gelu, softplus, …), got {name}"
        )

    return refused


for _function in PIECEWISE_LINEAR:
    rule(_function)(_refuse(_function.__name__))

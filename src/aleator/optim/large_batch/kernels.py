"""The steps of LAMB and LARS, compiled: every tensor is read as seldom as its trust ratio allows.

A ratio needs the norms of a whole tensor before the first of its weights can move. So there are two passes over each
tensor, one after the other while what fits is still in the cache:

    LAMB           read w, g, m, v; write m, v, u; sum w², u²     then    w ← w − (lr · ratio) u, from the end on
    Algorithm 1    read w, g, m; write m; sum w², m²              then    w ← w − (lr · ratio) m, from the end on
    original       sum w², g²                                     then    read w, g, b; write b, w

Square root and quotient take longer than memory does, so LAMB's u is kept and not computed again. Sums of squares run
in blocks, within a block in as many lanes as the processor has, and over blocks in float64: a tensor's numbers depend
neither on the other tensors nor on the number of threads.

Tensors come as a table of addresses. Callers check sizes, types and layouts: `aleator.optim.large_batch.fused` is the
door.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from numba import carray, types  # type: ignore[attr-defined,unused-ignore]
from numba.extending import intrinsic

if numba.config.DISABLE_JIT:  # type: ignore[attr-defined,unused-ignore]
    raise ImportError("the compiled loops of LAMB and LARS need numba's compiler, which NUMBA_DISABLE_JIT turns off")

Table = npt.NDArray[np.int64]

WEIGHT, GRAD, STEP, RATIO, LENGTH, FIRST, SECOND = range(7)
"""Columns of a table: addresses, the number of elements, and the addresses of the running means."""

_BLOCK = 1024  # elements of a sum that is not in float64
_PART = 16384  # elements that are read forwards

# Below this sum of squares in float64, and at zero, the entries are scaled by a power of two, which rounds nothing.
_SMALL, _GROWTH = 1e-280, 2.0**600

_F = TypeVar("_F", bound=Callable[..., object])


def _compiled(function: _F) -> _F:
    # unwrap: the test run's import hook puts a wrapper around every function that numba could not compile.
    return cast(_F, numba.njit(cache=True, nogil=True, error_model="numpy")(inspect.unwrap(function)))


def _vectorised(function: _F) -> _F:
    # Sums may be taken in lanes, products and sums may be one instruction. Not a number stays not a number.
    allowed = {"reassoc", "contract", "nsz"}
    compiled: Any = numba.njit
    return cast(_F, compiled(nogil=True, error_model="numpy", fastmath=allowed)(inspect.unwrap(function)))


def _from_address(context: Any, address: Any) -> Any:
    """Type and code of the pointer to an address, as `numba.carray` takes it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), generate


_array: Any = carray
_pointer: Any = intrinsic(inspect.unwrap(_from_address))


@_vectorised
def _adam(w: Any, g: Any, m: Any, v: Any, u: Any, numbers: Any) -> Any:
    """Bring m and v up to date, write u = λ w + a m / (b √v + ε), and return Σ w² and Σ u² of a block."""
    rate1, beta2, rate2, a, b, eps, decay = numbers
    of_w, of_u = w.dtype.type(0), w.dtype.type(0)
    for i in range(w.size):
        mean = m[i] + rate1 * (g[i] - m[i])
        square = beta2 * v[i] + rate2 * g[i] * g[i]
        m[i], v[i] = mean, square
        update = a * mean / (b * np.sqrt(square) + eps)
        if decay != 0:
            update += decay * w[i]
        u[i] = update
        of_w += w[i] * w[i]
        of_u += update * update
    return of_w, of_u


@_vectorised
def _momentum(w: Any, g: Any, m: Any, rate: Any, decay: Any) -> Any:
    """Bring m up to date with g + λ w, and return Σ w² and Σ m²."""
    of_w, of_m = 0.0, 0.0
    for i in range(w.size):
        d = g[i] + decay * w[i] if decay != 0 else g[i]
        mean = m[i] + rate * (d - m[i])
        m[i] = mean
        of_w += np.float64(w[i]) * np.float64(w[i])
        of_m += np.float64(mean) * np.float64(mean)
    return of_w, of_m


@_vectorised
def _moved(w: Any, g: Any, b: Any, rate: Any, lr: Any, momentum: Any, decay: Any, nesterov: bool) -> None:
    """Bring b up to date with q (g + λ w), and step along it."""
    for i in range(w.size):
        d = rate * (g[i] + decay * w[i]) if decay != 0 else rate * g[i]
        moved = momentum * b[i] + d
        b[i] = moved
        w[i] -= lr * (d + momentum * moved) if nesterov else lr * moved


@_vectorised
def _subtract_part(w: Any, u: Any, factor: Any) -> None:
    for i in range(w.size):
        w[i] -= factor * u[i]


@_compiled
def _subtract(w: Any, u: Any, factor: Any) -> None:
    """Take u times a factor from w, from the end on: what the pass before read last is still in the cache."""
    for end in range(w.size, 0, -_PART):
        begin = max(0, end - _PART)
        _subtract_part(w[begin:end], u[begin:end], factor)


@_vectorised
def _squares(x: Any, growth: float) -> float:
    total = 0.0
    for i in range(x.size):
        grown = growth * np.float64(x[i])
        total += grown * grown
    return total


@_compiled
def _root(squares: float, x: Any) -> float:
    """Return ‖x‖ from Σ x², right also where squares vanish."""
    if squares < _SMALL:
        return math.sqrt(_squares(x, _GROWTH)) / _GROWTH
    return math.sqrt(squares)


@_compiled
def _trust(weight_norm: float, update_norm: float, low: float, high: float) -> float:
    """Return φ(‖w‖)/‖u‖, and 1 where a norm is zero; a norm that is no number makes the ratio none."""
    if weight_norm == 0 or update_norm == 0:
        return 1.0
    bounded = weight_norm
    if bounded < low:
        bounded = low
    if bounded > high:
        bounded = high
    return bounded / update_norm


@_compiled
def step_lamb(
    table: Table,
    scratch: Any,
    adapted: bool,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    decay: float,
    factor: float,
    corrected: bool,
    low: float,
    high: float,
) -> None:
    """Step every tensor of a table by LAMB; see `aleator.optim.large_batch.lamb` for the names.

    Args:
        table: of tensors of the scratch's type.
        scratch: as long as the longest.
        adapted: whether by a trust ratio.
        lr: learning rate.
        beta1: β₁.
        beta2: β₂.
        eps: ε.
        decay: λ.
        factor: of m̂/(√v̂ + ε).
        corrected: whether for bias.
        low: bound of φ.
        high: bound of φ.
    """
    number = scratch.dtype.type
    for k in range(table.shape[0]):
        length = table[k, LENGTH]
        w = _array(_pointer(table[k, WEIGHT]), length, scratch.dtype)
        g = _array(_pointer(table[k, GRAD]), length, scratch.dtype)
        m = _array(_pointer(table[k, FIRST]), length, scratch.dtype)
        v = _array(_pointer(table[k, SECOND]), length, scratch.dtype)
        step = _array(_pointer(table[k, STEP]), 1, np.float32)
        step[0] += np.float32(1)
        t = np.float64(step[0])
        a, b = factor, 1.0
        if corrected:
            a = factor / (1 - beta1**t)
            b = 1 / math.sqrt(1 - beta2**t)
        numbers = (
            number(1 - beta1),
            number(beta2),
            number(1 - beta2),
            number(a),
            number(b),
            number(eps),
            number(decay),
        )
        of_w, of_u = 0.0, 0.0
        for begin in range(0, length, _BLOCK):
            end = min(begin + _BLOCK, length)
            sums = _adam(w[begin:end], g[begin:end], m[begin:end], v[begin:end], scratch[begin:end], numbers)
            of_w += sums[0]
            of_u += sums[1]
        ratio = 1.0
        if adapted:
            ratio = _trust(math.sqrt(of_w), math.sqrt(of_u), low, high)
            _array(_pointer(table[k, RATIO]), 1, scratch.dtype)[0] = number(ratio)
        _subtract(w, scratch[:length], number(lr * ratio))


@_compiled
def step_algorithm1(
    table: Table, like: Any, adapted: bool, lr: float, momentum: float, decay: float, low: float, high: float
) -> None:
    """Step every tensor of a table by LARS, Algorithm 1; see `aleator.optim.large_batch.lars` for the names.

    Args:
        table: of tensors of the type of ``like``.
        like: an array of their type.
        adapted: whether by a trust ratio.
        lr: learning rate.
        momentum: μ.
        decay: λ.
        low: bound of φ.
        high: bound of φ.
    """
    number = like.dtype.type
    for k in range(table.shape[0]):
        length = table[k, LENGTH]
        w = _array(_pointer(table[k, WEIGHT]), length, like.dtype)
        g = _array(_pointer(table[k, GRAD]), length, like.dtype)
        m = _array(_pointer(table[k, FIRST]), length, like.dtype)
        _array(_pointer(table[k, STEP]), 1, np.float32)[0] += np.float32(1)
        of_w, of_m = _momentum(w, g, m, number(1 - momentum), number(decay))
        ratio = 1.0
        if adapted:
            ratio = _trust(_root(of_w, w), _root(of_m, m), low, high)
            _array(_pointer(table[k, RATIO]), 1, like.dtype)[0] = number(ratio)
        _subtract(w, m, number(lr * ratio))


@_compiled
def step_original(
    table: Table,
    like: Any,
    adapted: bool,
    lr: float,
    momentum: float,
    decay: float,
    coefficient: float,
    eps: float,
    nesterov: bool,
    clip: bool,
) -> None:
    """Step every tensor of a table by LARS of 2017; see `aleator.optim.large_batch.lars` for the names.

    Args:
        table: of tensors of the type of ``like``.
        like: an array of their type.
        adapted: whether by a local rate.
        lr: learning rate.
        momentum: μ.
        decay: λ.
        coefficient: η.
        eps: ε.
        nesterov: whether to step along q (g + λ w) + μ b.
        clip: whether q is min(q/lr, 1).
    """
    number = like.dtype.type
    for k in range(table.shape[0]):
        length = table[k, LENGTH]
        w = _array(_pointer(table[k, WEIGHT]), length, like.dtype)
        g = _array(_pointer(table[k, GRAD]), length, like.dtype)
        b = _array(_pointer(table[k, FIRST]), length, like.dtype)
        _array(_pointer(table[k, STEP]), 1, np.float32)[0] += np.float32(1)
        rate = 1.0
        if adapted:
            of_w, of_g = _root(_squares(w, 1.0), w), _root(_squares(g, 1.0), g)
            if of_w != 0 and of_g != 0:
                rate = coefficient * of_w / (of_g + decay * of_w + eps)
                if clip:
                    rate = rate / lr
                    if rate > 1:
                        rate = 1.0
            _array(_pointer(table[k, RATIO]), 1, like.dtype)[0] = number(rate)
        _moved(w, g, b, number(rate), number(lr), number(momentum), number(decay), nesterov)

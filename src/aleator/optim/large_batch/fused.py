"""LAMB's and LARS's steps on a CPU in the fewest passes over memory, by compiled loops where numba is installed.

torch's own functions do one thing in a pass: the weights are read for the decay, for their norm and for the step. The
loops of `aleator.optim.large_batch.kernels` do the same arithmetic in two passes and without a call per tensor. They
take what lies in memory as they walk through it: whole tensors on the CPU, in float32 or float64, that are laid out
without gaps, with running means of the same precision and layout. Everything else is left to the loop over tensors
that every device has. Numbers agree to rounding.

Threads share out whole tensors, as many threads as torch has.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aleator.optim.large_batch.trust_ratio import Layers

# Elements of a step from which the loops are loaded: that takes half a second, thousands of steps of what is smaller.
LEAST_ELEMENTS = 1 << 16

# Elements of a step from which more than one thread pays for its start.
_LEAST_TO_SHARE = 1 << 20

_DTYPES = {torch.float32: np.float32, torch.float64: np.float64}

_PLAIN = (torch.nn.Parameter, Tensor)

# Addresses and length, the tensors that are written to, and the gradient, which must be held as long as its address.
_Row = tuple[list[int], tuple[Tensor, ...], Tensor]

# A step of one kind: the name of a loop, and its numbers from a group's options and the learning rate.
_Numbers = Callable[[dict[str, Any], float], tuple[object, ...]]


def lamb_step(layers: list[Layers]) -> list[Layers]:
    """Step what the compiled loops can by LAMB, and return what is left."""
    return _stepped(layers, "step_lamb", _of_lamb)


def lars_step(layers: list[Layers], form: str) -> list[Layers]:
    """Step what the compiled loops can by LARS of a form, ``"original"`` or ``"algorithm1"``; return what is left."""
    if form == "original":
        return _stepped(layers, "step_original", _of_original)
    return _stepped(layers, "step_algorithm1", _of_algorithm1)


@functools.cache
def compiled_loops() -> Any:
    """Return the module of compiled loops, or None where numba is missing or does not work.

    numba does not load beside a NumPy that is too new for it, and where it may write no cache it raises a RuntimeError.
    A step that chose the loops by itself goes on without them.
    """
    try:
        from aleator.optim.large_batch import kernels
    except (ImportError, RuntimeError):
        return None
    return kernels


def _of_lamb(group: dict[str, Any], lr: float) -> tuple[object, ...]:
    beta1, beta2 = map(float, group["betas"])
    factor = 1.0 if group["grad_averaging"] else 1 / (1 - beta1)
    options = (float(group["eps"]), float(group["weight_decay"]), factor, bool(group["bias_correction"]))
    return lr, beta1, beta2, *options, *_bounds(group)


def _of_algorithm1(group: dict[str, Any], lr: float) -> tuple[object, ...]:
    return lr, float(group["momentum"]), float(group["weight_decay"]), *_bounds(group)


def _of_original(group: dict[str, Any], lr: float) -> tuple[object, ...]:
    numbers = (group[name] for name in ("momentum", "weight_decay", "trust_coefficient", "eps"))
    return lr, *map(float, numbers), bool(group["nesterov"]), bool(group["clip"])


def _bounds(group: dict[str, Any]) -> tuple[float, float]:
    low, high = (0.0, math.inf) if group["phi"] is None else group["phi"]
    return float(low), float(high)


def _stepped(layers: list[Layers], name: str, numbers: _Numbers) -> list[Layers]:
    if torch.compiler.is_compiling():
        return layers
    weights = (weight for part in layers for weight in part.weights)
    if sum(weight.numel() for weight in weights if weight.is_cpu and weight.dtype in _DTYPES) < LEAST_ELEMENTS:
        return layers
    loops = compiled_loops()
    if loops is None:
        return layers
    left = []
    for part in layers:
        lr = _number(part.group["lr"])
        others = list(range(len(part.params)))
        if lr is not None:
            rows: dict[torch.dtype, list[_Row]] = {}
            others = []
            for i, parts in enumerate(
                zip(part.params, part.weights, part.grads, part.steps, part.ratios, *part.averages, strict=True)
            ):
                row = _row(*parts)
                if row is None:
                    others.append(i)
                else:
                    rows.setdefault(parts[1].dtype, []).append(row)
            for dtype, of_dtype in rows.items():
                _run(getattr(loops, name), of_dtype, part.adapted, numbers(part.group, lr), _DTYPES[dtype])
        if others:
            left.append(_chosen(part, others))
    return left


def _number(lr: float | Tensor) -> float | None:
    """Return a learning rate as a number, unless that would wait for a device."""
    if not isinstance(lr, Tensor):
        return float(lr)
    return float(lr.detach().double().numpy()) if type(lr) in _PLAIN and lr.device.type == "cpu" else None


def _row(parameter: Tensor, weight: Tensor, grad: Tensor, step: Tensor, ratio: Tensor, *means: Tensor) -> _Row | None:
    """Return a row of a table of `kernels` and what it speaks of; None for a tensor that the loops cannot walk through.

    Every tensor's step comes by here, 120 of them in two milliseconds: what is quick to ask is asked first.
    """
    dtype, length = weight.dtype, weight.numel()
    if type(parameter) not in _PLAIN or type(grad) is not Tensor or dtype not in _DTYPES or not weight.is_cpu:
        return None
    # Sizes too: a weight whose data was replaced may have a gradient of another one.
    if grad.shape != weight.shape or not grad.is_cpu or weight.is_neg():
        return None
    if ratio.dtype != dtype or step.dtype != torch.float32 or not (step.is_cpu and ratio.is_cpu):
        return None
    dense = weight.is_contiguous()
    if not dense and not (weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last)):
        return None
    if (
        grad.dtype != dtype
        or grad.is_neg()
        or not (grad.is_contiguous() if dense else grad.stride() == weight.stride())
    ):
        grad = torch.empty_like(weight).copy_(grad)
    addresses = [weight.data_ptr(), grad.data_ptr(), step.data_ptr(), ratio.data_ptr(), length]
    for mean in means:
        if type(mean) is not Tensor or mean.dtype != dtype or mean.numel() != length or not mean.is_cpu:
            return None
        if not (mean.is_contiguous() if dense else mean.stride() == weight.stride()):
            return None
        addresses.append(mean.data_ptr())
    # What some kinds of sharding have taken from memory for now has elements and no address.
    if length and not all(addresses):
        return None
    return addresses, (weight, step, ratio, *means), grad


def _run(loop: Any, rows: list[_Row], adapted: bool, numbers: tuple[object, ...], dtype: Any) -> None:
    table = np.array([addresses for addresses, _, _ in rows], np.int64)
    lengths = table[:, 4].tolist()

    def run(chosen: list[int] | slice) -> None:
        part = table[chosen]
        loop(part, np.empty(part[:, 4].max(), dtype), adapted, *numbers)

    if sum(lengths) < _LEAST_TO_SHARE or torch.get_num_threads() == 1 or _overlap(table, np.dtype(dtype).itemsize):
        run(slice(None))
    else:
        bins = _shared_out(lengths, torch.get_num_threads())
        with ThreadPoolExecutor(len(bins)) as pool:
            list(pool.map(run, bins))
    # The loops write behind torch's back; a graph recorded before the step must still be seen to be stale.
    torch.autograd.graph.increment_version([tensor for _, written, _ in rows for tensor in written])


def _overlap(table: npt.NDArray[np.int64], size: int) -> bool:
    """Whether weights have memory in common, which threads must not step at the same time."""
    begins, lengths = table[np.argsort(table[:, 0])][:, [0, 4]].T
    return bool((begins[:-1] + size * lengths[:-1] > begins[1:]).any())


def _shared_out(lengths: Sequence[int], threads: int) -> list[list[int]]:
    """Return tensors in as many parts as there are threads, the longest first to whoever has least to do."""
    load = [0] * threads
    bins: list[list[int]] = [[] for _ in load]
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        least = load.index(min(load))
        load[least] += lengths[i]
        bins[least].append(i)
    return [rows for rows in bins if rows]


def _chosen(part: Layers, indices: list[int]) -> Layers:
    if len(indices) == len(part.params):
        return part
    group, adapted, *columns, averages = part
    make: Callable[..., Layers] = Layers
    picked = ([column[i] for i in indices] for column in columns)
    return make(group, adapted, *picked, tuple([column[i] for i in indices] for column in averages))

"""LAMB's and LARS's steps on a CPU in the fewest passes over memory, by compiled loops where numba is installed.

torch's own functions do one thing in a pass: the weights are read for the decay, for their norm and for the step. The
loops of `aleator.optim.large_batch.kernels` do the same arithmetic in two passes and without a call per tensor. They
take what lies in memory as they walk through it: whole tensors on the CPU, in float32 or float64, that are laid out
without gaps, with running means of the same precision and layout. Everything else is left to the loop over tensors
that every device has. Numbers agree to rounding.

Threads share out whole tensors, as many threads as torch has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aleator.optim.large_batch.trust_ratio import Layers

# Elements of a step from which the loops are loaded: that takes half a second, thousands of steps of what is smaller.
LEAST_ELEMENTS = 1 << 16

# Elements of a step from which more than one thread pays for its start.
_LEAST_TO_SHARE = 1 << 20

_DTYPES = {torch.float32: np.float32, torch.float64: np.float64}

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


def compiled_loops() -> Any:
    """Return the module of compiled loops, or None without numba."""
    try:
        from aleator.optim.large_batch import kernels
    except ImportError as error:
        if error.name != "numba":
            raise
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
    if sum(weight.numel() for part in layers for weight in part.weights) < LEAST_ELEMENTS:
        return layers
    loops = compiled_loops()
    if loops is None:
        return layers
    left = []
    for part in layers:
        lr = _number(part.group["lr"])
        taken, others = ([], list(range(len(part.params)))) if lr is None else _divided(part)
        if others:
            left.append(_chosen(part, others))
        for dtype in _DTYPES:
            members = [i for i in taken if part.weights[i].dtype == dtype]
            if members:
                _run(getattr(loops, name), _chosen(part, members), numbers(part.group, lr or 0.0), _DTYPES[dtype])
    return left


def _number(lr: float | Tensor) -> float | None:
    """Return a learning rate as a number, unless that would wait for a device."""
    if not isinstance(lr, Tensor):
        return float(lr)
    return float(lr.detach().numpy()) if type(lr) in (Tensor, torch.nn.Parameter) and lr.device.type == "cpu" else None


def _divided(part: Layers) -> tuple[list[int], list[int]]:
    """Return the indices of the tensors that the loops can walk through, and of the others."""
    taken: list[int] = []
    others: list[int] = []
    for i, (parameter, weight, step, ratio) in enumerate(
        zip(part.params, part.weights, part.steps, part.ratios, strict=True)
    ):
        means = [column[i] for column in part.averages]
        (taken if _can_be_walked(parameter, weight, step, ratio, means) else others).append(i)
    return taken, others


def _can_be_walked(parameter: Tensor, weight: Tensor, step: Tensor, ratio: Tensor, means: Sequence[Tensor]) -> bool:
    if type(parameter) not in (Tensor, torch.nn.Parameter) or weight.device.type != "cpu":
        return False
    dtype, layout = weight.dtype, weight.stride()
    if dtype not in _DTYPES or ratio.dtype != dtype or step.dtype != torch.float32:
        return False
    if any(type(t) is not Tensor or t.device.type != "cpu" for t in (step, ratio, *means)):
        return False
    if any(mean.dtype != dtype or mean.shape != weight.shape or mean.stride() != layout for mean in means):
        return False
    if not (weight.is_contiguous() or (weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last))):
        return False
    # What has been taken from memory for now, as some kinds of sharding do, has elements and no address.
    return weight.numel() == 0 or all(t.data_ptr() for t in (weight, *means))


def _run(loop: Any, part: Layers, numbers: tuple[object, ...], dtype: Any) -> None:
    grads = [_laid_out_as(weight, grad) for weight, grad in zip(part.weights, part.grads, strict=True)]
    lengths = [weight.numel() for weight in part.weights]
    columns = [*([t.data_ptr() for t in ts] for ts in (part.weights, grads, part.steps, part.ratios)), lengths]
    columns += [[t.data_ptr() for t in ts] for ts in part.averages]
    table = np.array(columns, np.int64).T.copy()

    def run(rows: list[int]) -> None:
        longest = max(lengths[i] for i in rows)
        loop(table[rows], np.empty(longest, dtype), part.adapted, *numbers)

    bins = _shared_out(lengths, torch.get_num_threads() if sum(lengths) >= _LEAST_TO_SHARE else 1)
    if len(bins) == 1:
        run(bins[0])
    else:
        with ThreadPoolExecutor(len(bins)) as pool:
            list(pool.map(run, bins))
    # The loops write behind torch's back; a graph that was recorded before the step must still be seen to be stale.
    torch.autograd.graph.increment_version((*part.weights, *part.steps, *part.ratios, *(t for c in part.averages for t in c)))


def _shared_out(lengths: Sequence[int], threads: int) -> list[list[int]]:
    """Return tensors in as many parts as there are threads, the longest first to whoever has least to do."""
    if threads == 1:
        return [list(range(len(lengths)))]
    load, bins = [0] * threads, [[] for _ in range(threads)]  # type: list[int], list[list[int]]
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        least = load.index(min(load))
        load[least] += lengths[i]
        bins[least].append(i)
    return [rows for rows in bins if rows]


def _laid_out_as(weight: Tensor, grad: Tensor) -> Tensor:
    if type(grad) is Tensor and grad.dtype == weight.dtype and grad.stride() == weight.stride() and not grad.is_neg():
        return grad
    return torch.empty_like(weight).copy_(grad)


def _chosen(part: Layers, indices: list[int]) -> Layers:
    if len(indices) == len(part.params):
        return part
    group, adapted, *columns, averages = part
    make: Callable[..., Layers] = Layers
    picked = ([column[i] for i in indices] for column in columns)
    return make(group, adapted, *picked, tuple([column[i] for i in indices] for column in averages))

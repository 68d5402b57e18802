"""The slope of a loss along a random direction, and steps along many such directions.

Two passes forward, and none backward, give an estimate of the gradient in one number:

    g = (ℓ(θ + ε z) − ℓ(θ − ε z)) / 2ε,      E[g z] = ∇ℓ + O(ε²)   for E[z zᵀ] = I
    E‖g z‖² = (d + E z⁴ − 1) ‖∇ℓ‖²           d elements: d for signs, d + 1.94 for popcounts, d + 2 for normal numbers

Who knows the key of z, see `aleator.random.directions`, needs nothing but g to take the same step:

    θ ← θ − λ wd θ − Σⱼ λ gⱼ / √n  z(keyⱼ),  in the order of j        (norm="mean": 1/n in place of 1/√n)

Weight decay is of the value before the round, and leaves alone what has fewer than two dimensions: biases and norms.
Coefficients are computed in float64 and rounded once. All is a function of its arguments: θ + ε z is a new tensor, so
that nothing has to be undone and no residue stays; in half precision it would be 12 % of the weights after 1000
probes, so θ is in float32 or float64 and a loss casts what it is given. Both passes see the same dropout masks.

A tensor's number, which is part of its bits' address, is its place among the sorted names. Elements are numbered
within the whole tensor, so that a shard (`torch.distributed.tensor.DTensor`, as FSDP2 makes them) has its part of the
direction.

J. C. Spall, "Multivariate Stochastic Approximation Using a Simultaneous Perturbation Gradient Approximation", 1992;
S. Malladi et al., "Fine-Tuning Language Models with Just Forward Passes" (MeZO), arXiv 2305.17333; E. Zelikman, Q.
Huang, P. Liang, N. Haber, N. D. Goodman, "Just One Byte (per gradient)", arXiv 2306.10015.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from aleator.gradients.modes import same_draws
from aleator.gradients.shards import local_part
from aleator.random import Key, Kind, checked_keys, subtract_directions

Norm = Literal["sqrt", "mean"]
Parameters = TypeVar("Parameters", bound=Tensor | dict[str, Tensor])
Loss = Callable[[Any], Tensor]


class NonFiniteLoss(ValueError):
    """A loss beside θ that is not finite, from which no gradient can be told."""


def direction(
    key: Key, shape: Sequence[int], kind: Kind = "rademacher", *, tensor: int = 0, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "*shape"]:
    """Return a random direction: independent elements of mean 0 and variance 1.

    Args:
        key: run, round, machine and sample.
        shape: of the tensor.
        kind: ``"rademacher"``, ``"popcount"`` or ``"gaussian"``; their moments stand in `aleator.random.directions`.
        tensor: number of the tensor among those that share the key.
        dtype: float32 or float64.

    Raises:
        ValueError: if a number is out of its range, or the kind is unknown.
    """
    z = torch.zeros(tuple(shape), dtype=dtype)
    subtract_directions(z, [-1.0], [key], kind, tensor=tensor)
    return z


def spsa(
    loss: Loss | Sequence[tuple[float, Loss]],
    theta: Parameters,
    z: Parameters | None,
    eps: float,
    *,
    key: Key | None = None,
    kind: Kind = "rademacher",
) -> Float[Tensor, ""]:
    """Return the slope of a loss along a direction, from two evaluations at θ ± ε z.

    Args:
        loss: called with parameters like ``theta``; or micro-batches as pieces (count, loss), whose mean by counts is
            the loss. All pieces see one z.
        theta: a tensor, or tensors by name, in float32 or float64. They stay as they are.
        z: the direction, like ``theta``; None: it is drawn by ``key`` and never stored beside θ ± ε z.
        eps: half the distance of the two points, above 0.
        key: of the direction.
        kind: of the direction.

    Returns:
        g in float64, on the device of the loss.

    Raises:
        ValueError: if ``eps`` is not positive; a loss is no scalar; θ is not in float32 or float64, or holds one tensor
            twice; z does not fit θ; not exactly one of ``z`` and ``key`` is given.
        NonFiniteLoss: if the loss is not finite on one of the sides.
    """
    if not 0 < eps < math.inf:
        raise ValueError(f"eps must be positive and finite, got {eps}")
    if (z is None) == (key is None):
        raise ValueError("either z or key must be given, got " + ("neither" if key is None else "both"))
    pieces = [(1.0, loss)] if callable(loss) else [*loss]
    if not pieces or not all(count > 0 for count, _ in pieces):
        raise ValueError(f"loss must have pieces with positive counts, got {[count for count, _ in pieces]}")
    tensors = named(theta)
    with torch.no_grad():
        sides = []
        with same_draws(tensor.device for tensor in tensors.values()) as again:
            for sign in (1.0, -1.0):
                again()
                sides.append(_mean_loss(pieces, _displaced(theta, z, sign * eps, key, kind)))
    return slope(sides[0], sides[1], eps)


def slope(plus: Float[Tensor, ""], minus: Float[Tensor, ""], eps: float) -> Float[Tensor, ""]:
    """Return g from the loss at θ + ε z and at θ − ε z.

    Raises:
        NonFiniteLoss: if it is not finite.
    """
    g = (plus - minus) / (2 * eps)
    if not bool(torch.isfinite(g)):
        raise NonFiniteLoss(
            f"loss must be finite on both sides, got {float(plus):g} at theta + eps z "
            f"and {float(minus):g} at theta - eps z"
        )
    return g


def scalar_coefficients(gradients: Sequence[float | Tensor], lr: float, norm: Norm = "sqrt") -> npt.NDArray[np.float64]:
    """Return λ gⱼ/√n, or λ gⱼ/n, of the n gradients of a round, in float64.

    Raises:
        ValueError: if ``lr`` or a gradient is not finite, or ``norm`` is unknown.
    """
    if norm not in ("sqrt", "mean"):
        raise ValueError(f"norm must be sqrt or mean, got {norm!r}")
    if not math.isfinite(lr):
        raise ValueError(f"lr must be finite, got {lr}")
    g = np.array([float(gradient) for gradient in gradients], np.float64)
    if not np.isfinite(g).all():
        raise ValueError(f"gradients must be finite, got {g[~np.isfinite(g)][0]} at {int(np.argmin(np.isfinite(g)))}")
    return lr * g / (math.sqrt(len(g)) if norm == "sqrt" else max(len(g), 1))


def apply_scalars(
    theta: Parameters,
    gradients: Sequence[float | Tensor],
    z: Sequence[Parameters] | None,
    lr: float,
    norm: Norm = "sqrt",
    *,
    keys: Sequence[Key] | None = None,
    kind: Kind = "rademacher",
    weight_decay: float = 0.0,
) -> Parameters:
    """Return the parameters after a round's step along all its directions. What is given stays as it is.

    Args:
        theta: a tensor, or tensors by name, in float32 or float64.
        gradients: one number for each direction, as everybody received them: decoded also where they were made.
        z: the directions, each like ``theta``; None: they are drawn by ``keys``, without storing one.
        lr: the learning rate λ.
        norm: divide by √n (the paper's program) or by n.
        keys: of the directions, in the order in which everybody adds.
        kind: of the directions.
        weight_decay: wd.

    Raises:
        ValueError: if lengths differ, a number is not finite, or θ is not as in `spsa`.
    """
    new = cast(
        Parameters,
        {k: t.detach().clone() for k, t in theta.items()} if isinstance(theta, dict) else theta.detach().clone(),
    )
    apply_scalars_(new, gradients, z, lr, norm, keys=keys, kind=kind, weight_decay=weight_decay)
    return new


def apply_scalars_(
    theta: Tensor | dict[str, Tensor],
    gradients: Sequence[float | Tensor],
    z: Sequence[Any] | None,
    lr: float,
    norm: Norm = "sqrt",
    *,
    keys: Sequence[Key] | None = None,
    kind: Kind = "rademacher",
    weight_decay: float = 0.0,
) -> None:
    """Take the step of `apply_scalars` in place.

    Raises:
        ValueError: as `apply_scalars`; before anything is changed.
    """
    if not 0 <= weight_decay < math.inf:
        raise ValueError(f"weight_decay must not be negative, got {weight_decay}")
    if (z is None) == (keys is None):
        raise ValueError("either z or keys must be given, got " + ("neither" if keys is None else "both"))
    c = scalar_coefficients(gradients, lr, norm)
    decays = np.zeros_like(c)
    decays[:1] = lr * weight_decay
    if keys is not None:
        subtract_directions_(theta, c, keys, kind, decays=decays)
        return
    assert z is not None
    if len(z) != len(c):
        raise ValueError(f"gradients and z must have one length, got {len(c)} and {len(z)}")
    tensors, given = named(theta), [named(each, "z") for each in z]
    for each in given:
        _check_like(each, tensors)
    with torch.no_grad():
        for name, tensor in tensors.items():
            for j, each in enumerate(given):
                if decays[j] and tensor.ndim >= 2:
                    tensor.sub_(tensor * _scalar(decays[j], tensor))
                tensor.sub_(each[name] * _scalar(c[j], tensor))


def subtract_directions_(
    theta: Tensor | dict[str, Tensor],
    coefficients: Sequence[float] | npt.NDArray[np.float64],
    keys: Sequence[Key] | npt.NDArray[np.uint64],
    kind: Kind = "rademacher",
    *,
    decays: Sequence[float] | npt.NDArray[np.float64] | None = None,
) -> None:
    """Subtract Σⱼ cⱼ z(keyⱼ) in place, in one pass over the parameters: what `apply_scalars` does for one round.

    A log of many rounds is replayed many rounds at a time: coefficients of all of them, one after the other.

    Args:
        theta: a tensor, or tensors by name, in float32 or float64; a DTensor's local part is changed.
        coefficients: of `scalar_coefficients`.
        keys: one for each; also as an array of uint64, [directions, 4].
        kind: of the directions.
        decays: λ wd at the first direction of each round, 0 at the others; by default none.

    Raises:
        ValueError: if lengths differ, or θ is not as in `spsa`.
    """
    addresses = checked_keys(keys)  # once for all tensors
    for number, tensor in enumerate(named(theta).values()):
        local, region = local_part(tensor)
        subtract_directions(
            local,
            coefficients,
            addresses,
            kind,
            tensor=number,
            region=region,
            decays=decays if tensor.ndim >= 2 else None,
        )


def named(theta: Tensor | Mapping[str, Tensor], what: str = "theta") -> dict[str, Tensor]:
    """Return the tensors by their sorted names; a tensor alone is called "". Messages call them ``what``.

    Raises:
        ValueError: if there is none, one is there twice, or has another type than float32 and float64.
    """
    tensors = {"": theta} if isinstance(theta, Tensor) else {name: theta[name] for name in sorted(theta)}
    if not tensors:
        raise ValueError(f"{what} must have a tensor, got none")
    seen: dict[int, str] = {}
    for name, tensor in tensors.items():
        if tensor.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"{what} must be float32 or float64"
                + (" (a master copy, which the loss casts)" if what == "theta" else "")
                + f", got {tensor.dtype}"
                + (f" for {name}" if name else "")
            )
        if id(tensor) in seen:
            raise ValueError(f"{what} must hold a tensor once, got {seen[id(tensor)]} and {name}, which are the same")
        seen[id(tensor)] = name
    return tensors


def _displaced(theta: Parameters, z: Parameters | None, step: float, key: Key | None, kind: Kind) -> Parameters:
    """θ + step z, as new tensors."""
    if z is not None:
        tensors, given = named(theta), named(z, "z")
        _check_like(given, tensors)
        new = {name: tensor + given[name] * _scalar(step, tensor) for name, tensor in tensors.items()}
    else:
        assert key is not None
        new = {name: tensor.detach().clone() for name, tensor in named(theta).items()}
        subtract_directions_(new, [-step], [key], kind)
    return cast(Parameters, new if isinstance(theta, dict) else new[""])


def _check_like(z: Mapping[str, Tensor], theta: Mapping[str, Tensor]) -> None:
    if z.keys() != theta.keys():
        raise ValueError(f"z must have the names of theta, got {sorted(z.keys() ^ theta.keys())} in one of them only")
    for name, tensor in theta.items():
        if z[name].shape != tensor.shape:
            raise ValueError(f"z must have the shape of theta, got {tuple(z[name].shape)} and {tuple(tensor.shape)}")


def _scalar(number: float, like: Tensor) -> float:
    # Rounded once to the type of the tensor: torch would keep a Python number in float64 on some devices.
    return float(np.float32(number)) if like.dtype == torch.float32 else float(number)


def _mean_loss(pieces: Sequence[tuple[float, Loss]], theta: Any) -> Tensor:
    total: Tensor | float = 0.0
    for count, loss in pieces:
        value: Any = loss(theta)
        if not isinstance(value, Tensor) or value.numel() != 1 or value.is_complex():
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"loss must be a scalar tensor, got {shape}")
        total = total + count * value.detach().reshape(()).double()
    return cast(Tensor, total) / sum(count for count, _ in pieces)

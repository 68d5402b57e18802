"""The step of SPECTRA: a base optimizer's update, clipped softly in its spectrum, then applied.

    X ← (1 − λη) X − α η H_c(U),    α = √max(1, rows/cols)

U is what the base optimizer would subtract, λ the decoupled weight decay. Weights then live in a spectral ball: with a
constant c, ‖X_k‖₂ ≤ Π(1 − λη)·‖X_0‖₂ + (αc/λ)(1 − Π(1 − λη)). The update moves a matrix by at most α·η·c in the
spectral norm: the product c·η is what is tuned.

X. Jiang, A. Semenov and S. Stich, "Enhancing LLM Training via Spectral Clipping", ICML 2026, arXiv 2603.14315.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.distributed.tensor import DTensor, Replicate
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from aleator.optim.arguments import check_not_negative
from aleator.optim.clip_schedule import ClipSchedule
from aleator.optim.sharded_norms import local, state_dtype
from aleator.optim.soft_spectral_clip import (
    check_clipping,
    check_threshold,
    clip_matrices,
    soft_norm_clip,
    soft_spectral_clip,
)

ApplyTo = Literal["all", "matrices", "none"]
Scale = Literal["muon"] | None
Vectors = Literal["smooth", "official"]
HigherDims = Literal["stack", "flatten"]

# What every group has besides the base optimizer's own options, with the values of the authors' launch scripts.
SPECTRAL_DEFAULTS: dict[str, Any] = {
    "clip": 10.0,
    "apply_to": "all",
    "scale": "muon",
    "vectors": "smooth",
    "higher_dims": "stack",
    "ns_steps": 10,
    "compute_dtype": None,
}


def as_stack(tensor: Float[Tensor, "*shape"], higher_dims: HigherDims) -> Float[Tensor, "number rows cols"]:
    """Return a tensor of at least two dimensions as a stack of matrices.

    Args:
        tensor: more than two dimensions are experts × rows × columns or a convolution's out × in × kernel.
        higher_dims: ``"stack"``: the last two dimensions are a matrix, as in the authors' code. ``"flatten"``: the
            first dimension against all others, the matrix by which a convolution multiplies its patches.
    """
    if higher_dims == "flatten":
        return tensor.flatten(1).unsqueeze(0)
    return tensor.reshape(-1, *tensor.shape[-2:])


def scale_of(shape: torch.Size, scale: Scale) -> float:
    """Return α = √max(1, rows/cols) for a stack of matrices of this shape, or 1."""
    return math.sqrt(max(1.0, shape[-2] / max(shape[-1], 1))) if scale == "muon" else 1.0


@torch.no_grad()
def spectral_step_(
    parameters: Sequence[Tensor],
    updates: Sequence[Tensor],
    *,
    lr: float | Tensor,
    weight_decay: float,
    threshold: float | Tensor,
    apply_to: ApplyTo = "all",
    scale: Scale = "muon",
    vectors: Vectors = "smooth",
    higher_dims: HigherDims = "stack",
    ns_steps: int = 10,
    compute_dtype: torch.dtype | None = None,
    process_group: ProcessGroup | None = None,
) -> None:
    """Do X ← (1 − λη) X − α η H_c(U) for every parameter X, in place.

    Args:
        parameters: X; DTensors are gathered for clipping and stay sharded.
        updates: U, of DTensors this process's part. They are scratch: their values are lost.
        lr: η.
        weight_decay: λ.
        threshold: c.
        apply_to: ``"all"`` parameters, ``"matrices"``, those with two or more dimensions, or ``"none"``. What is left
            out takes the base optimizer's own step, without α.
        scale: whether to multiply by α; for vectors it is 1.
        vectors: the form for fewer than two dimensions, see `soft_norm_clip`.
        higher_dims: what more than two dimensions are, see `as_stack`.
        ns_steps: see `soft_spectral_clip`.
        compute_dtype: see `soft_spectral_clip`.
        process_group: processes that hold the same updates and share the clipping of matrices out among themselves.
    """
    applied = list(updates)
    factors: list[Any] = [lr] * len(applied)
    matrices = [i for i, p in enumerate(parameters) if p.ndim >= 2 and apply_to != "none"]
    if matrices:
        stacks = [as_stack(_whole(updates[i], parameters[i]), higher_dims) for i in matrices]
        group = process_group or _group_of([parameters[i] for i in matrices])
        clip: Callable[..., Tensor] = functools.partial(_clip_shared, group) if group else soft_spectral_clip
        results = clip_matrices(stacks, threshold, ns_steps=ns_steps, compute_dtype=compute_dtype, clip=clip)
        for i, result in zip(matrices, results, strict=True):
            applied[i] = _part(result.reshape(parameters[i].shape), parameters[i])
            factors[i] = scale_of(result.shape, scale) * lr
    if apply_to == "all":
        for i, p in enumerate(parameters):
            if p.ndim < 2:
                whole = _whole(updates[i], p)
                applied[i] = _part(soft_norm_clip(whole.reshape(-1), threshold, form=vectors).reshape(p.shape), p)
    parts = [local(p) for p in parameters]
    weights = [part.to(u.dtype) for part, u in zip(parts, applied, strict=True)]  # the same tensors where dtypes agree
    torch._foreach_mul_(weights, 1 - lr * weight_decay)
    torch._foreach_mul_(applied, factors)
    torch._foreach_sub_(weights, applied)
    for part, weight in zip(parts, weights, strict=True):
        if part.dtype != weight.dtype:
            part.copy_(weight)


class SpectralOptimizer(Optimizer):
    """Base of the SPECTRA optimizers: clips the updates of a subclass; not an optimizer by itself.

    A subclass says in `_updates` what its base optimizer would subtract.
    """

    clip_schedule: ClipSchedule | None = None
    process_group: ProcessGroup | None = None

    def __init__(
        self,
        params: ParamsT,
        defaults: dict[str, Any],
        clip_schedule: ClipSchedule | None,
        process_group: ProcessGroup | None,
    ) -> None:
        self.clip_schedule = clip_schedule
        self.process_group = process_group
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own; what was not given is as for the other groups.

        The group's learning rate of this moment is η_base of the threshold's warm-up.

        Raises:
            ValueError: if an option is out of range.
            TypeError: if a parameter is no real number.
            RuntimeError: if a parameter is a flat slice of several tensors, as FSDP1 makes them.
        """
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            check_spectral_options(group)
            self._check(group)
            for index, parameter in enumerate(group["params"]):
                check_parameter(parameter, f"{len(self.param_groups) - 1}.{index}")
        except Exception:
            self.param_groups.pop()
            raise
        begin_schedule(group, self.param_groups)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step; return what the closure returned.

        Nothing here waits for the device. A NaN or infinity in a gradient therefore spreads over its tensor: look for
        them before the step, as ``GradScaler`` and `aleator.experiment` do.

        Raises:
            RuntimeError: if a gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            for p in parameters:
                check_gradient(p)
            if parameters:
                updates = self._updates(group, parameters)
                spectral_step_(parameters, updates, **step_options(group, self.clip_schedule, self.process_group))
            group["clip_step"] += 1
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where ``state_dict`` was called. Running means of half-precision weights stay in float32."""
        super().load_state_dict(state_dict)
        # torch casts to the weights' own precision on the way, and leaves step counts where they were saved.
        numbers = itertools.chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        own = itertools.chain.from_iterable(group["params"] for group in self.param_groups)
        for number, parameter in zip(numbers, own, strict=True):
            for name, value in state_dict["state"].get(number, {}).items():
                dtype = value.dtype if name == "step" else state_dtype(parameter)
                if name == "step" or dtype != parameter.dtype:
                    self.state[parameter][name] = value.to(parameter.device, dtype, copy=True)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:  # a state that an older version saved
            for name, value in self.defaults.items():
                group.setdefault(name, value)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__(), clip_schedule=self.clip_schedule)
        return state

    def _check(self, group: dict[str, Any]) -> None:
        """Check the base optimizer's options of a group."""
        raise NotImplementedError

    def _updates(self, group: dict[str, Any], parameters: list[Tensor]) -> list[Tensor]:
        """Return U of each parameter, of DTensors this process's part, as tensors that nobody else holds."""
        raise NotImplementedError

    def _state(self, parameter: Tensor, *averages: str) -> dict[str, Any]:
        """Return a parameter's state, made of zeros on first use: running means and, by the name ``step``, a count."""
        state: dict[str, Any] = self.state[parameter]
        if not state:
            dtype = state_dtype(parameter)
            for name in averages:
                if name == "step":  # counted per tensor, because one may join late, and on its device, where it is used
                    state[name] = torch.zeros((), dtype=dtype, device=local(parameter).device)
                else:
                    state[name] = torch.zeros_like(parameter, dtype=dtype, memory_format=torch.preserve_format)
        return state


def check_spectral_options(group: dict[str, Any]) -> None:
    """Raise ValueError, naming the option and the value, if an option of SPECTRA is out of range."""
    check_not_negative(group, "lr", "weight_decay")
    check_threshold("clip", group["clip"])
    check_clipping("newton_schulz", group["ns_steps"], group["compute_dtype"])
    for name, accepted in (
        ("apply_to", ("all", "matrices", "none")),
        ("scale", ("muon", None)),
        ("vectors", ("smooth", "official")),
        ("higher_dims", ("stack", "flatten")),
    ):
        if group[name] not in accepted:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, accepted))}, got {group[name]!r}")


def check_parameter(parameter: Tensor, name: str) -> None:
    """Raise TypeError or RuntimeError for a parameter without a spectrum of its own."""
    if not parameter.is_floating_point():
        raise TypeError(f"parameters must be real, got {parameter.dtype} for parameter {name}")
    if getattr(parameter, "_is_flat_param", False) or getattr(parameter, "_fsdp_flattened", False):
        raise RuntimeError(
            f"parameters must be whole tensors, got a flat slice made by FullyShardedDataParallel for parameter "
            f"{name}: its spectrum is that of no layer. Shard with torch.distributed.fsdp.fully_shard instead"
        )


def check_gradient(parameter: Tensor) -> None:
    """Raise RuntimeError for a sparse gradient."""
    if parameter.grad is not None and parameter.grad.layout != torch.strided:
        raise RuntimeError(
            f"gradients must be dense, got one of layout {parameter.grad.layout} for a parameter of shape "
            f"{tuple(parameter.shape)}"
        )


def begin_schedule(group: dict[str, Any], groups: Sequence[dict[str, Any]]) -> None:
    """Give a new group the step count of the others, and its learning rate as the one that the warm-up leads to."""
    group.setdefault("clip_step", groups[0].get("clip_step", 0))
    group.setdefault("base_lr", group["lr"].clone() if isinstance(group["lr"], Tensor) else group["lr"])


def step_options(
    group: dict[str, Any], schedule: ClipSchedule | None, process_group: ProcessGroup | None
) -> dict[str, Any]:
    """Return the arguments of `spectral_step_` that a group stands for at its present step."""
    clip = group["clip"]
    return {
        "lr": group["lr"],
        "weight_decay": group["weight_decay"],
        "threshold": clip if schedule is None else schedule(clip, group["clip_step"], group["lr"], group["base_lr"]),
        "process_group": process_group,
    } | {name: group[name] for name in SPECTRAL_DEFAULTS if name != "clip"}


def _whole(part: Tensor, like: Tensor) -> Tensor:
    if not isinstance(like, DTensor):
        return part
    sharded = DTensor.from_local(
        part, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )
    return sharded.full_tensor()


def _part(whole: Tensor, like: Tensor) -> Tensor:
    if not isinstance(like, DTensor):
        return whole
    mesh = like.device_mesh
    everywhere = DTensor.from_local(whole, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return everywhere.redistribute(placements=like.placements).to_local()


def _group_of(parameters: Sequence[Tensor]) -> ProcessGroup | None:
    """Return the processes over which all parameters are sharded, where that is one and the same set."""
    meshes = {p.device_mesh if isinstance(p, DTensor) else None for p in parameters}
    mesh = meshes.pop()
    return mesh.get_group() if not meshes and mesh is not None and mesh.ndim == 1 else None


def _clip_shared(group: ProcessGroup, stack: Tensor, threshold: float | Tensor, **options: Any) -> Tensor:
    """Clip an equal share of a stack of matrices that all processes hold, and exchange the results."""
    share = math.ceil(len(stack) / group.size())
    mine = stack[group.rank() * share :][:share]
    result = stack.new_zeros(share, *stack.shape[1:])
    if len(mine):
        result[: len(mine)] = soft_spectral_clip(mine, threshold, **options)
    everything = stack.new_empty(share * group.size(), *stack.shape[1:])
    torch.distributed.all_gather_into_tensor(everything, result, group=group)
    return everything[: len(stack)]

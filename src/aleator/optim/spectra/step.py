"""The step of SPECTRA: a base optimizer's update, clipped softly in its spectrum, then applied.

    X ← (1 − λη) X − α η H_c(U),    α = √max(1, rows/cols)

U is what the base optimizer would subtract, λ the decoupled weight decay. Weights then live in a spectral ball: with a
constant c, ‖X_k‖₂ ≤ Π(1 − λη)·‖X_0‖₂ + (αc/λ)(1 − Π(1 − λη)). The update moves a matrix by at most α·η·c in the
spectral norm: the product c·η is what is tuned.

X. Jiang, A. Semenov and S. Stich, "Enhancing LLM Training via Spectral Clipping", ICML 2026, arXiv 2603.14315.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, Literal, TypedDict, Unpack

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.nn.functional import pad

from aleator.optim.sharded_norms import local
from aleator.optim.spectra.shared_clipping import clip_matrices_shared, processes_that_share
from aleator.optim.spectra.soft_clip import NamedMethod, clip_matrices, soft_norm_clip

ApplyTo = Literal["all", "matrices", "none"]
Scale = Literal["muon"] | None
Vectors = Literal["smooth", "official"]
HigherDims = Literal["stack", "flatten"]


class SpectralOptions(TypedDict, total=False):
    """How updates are clipped: arguments of the SPECTRA optimizers, and keys of a parameter group that differs.

    Attributes:
        apply_to: ``"all"`` parameters, the default; ``"matrices"``, tensors of two or more dimensions; or ``"none"``.
            Other tensors take the base optimizer's own step, without α.
        scale: ``"muon"``, the default, multiplies by α = √max(1, rows/cols), which is 1 for vectors; None does not.
        vectors: ``"smooth"``, or ``"official"`` for the authors' discontinuous form, see `soft_norm_clip`.
        higher_dims: ``"stack"``, the default, takes the last two of more dimensions as a matrix, as for stacks of
            experts; ``"flatten"`` takes the first against the rest, as for convolutions.
        method: ``"scaled_newton_schulz"``, the default, ``"newton_schulz"`` or ``"svd"``, see `soft_spectral_clip`.
        ns_steps: Newton–Schulz steps; by default None, for 7 scaled or 10 plain ones. 7 scaled ones are enough while
            σ_max/c is below 40; take one more for every factor 2.5.
        compute_dtype: of the clipping; by default float32 or the weights' own, if that is finer. ``torch.bfloat16`` is
            the authors' first choice and has an error of some percent.
    """

    apply_to: ApplyTo
    scale: Scale
    vectors: Vectors
    higher_dims: HigherDims
    method: NamedMethod
    ns_steps: int | None
    compute_dtype: torch.dtype | None


# The values of the authors' launch scripts, but for precision and iteration.
DEFAULT_OPTIONS: SpectralOptions = {
    "apply_to": "all",
    "scale": "muon",
    "vectors": "smooth",
    "higher_dims": "stack",
    "method": "scaled_newton_schulz",
    "ns_steps": None,
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
    return tensor.reshape(math.prod(tensor.shape[:-2]), *tensor.shape[-2:])


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
    process_group: ProcessGroup | None = None,
    **options: Unpack[SpectralOptions],
) -> None:
    """Do X ← (1 − λη) X − α η H_c(U) for every parameter X, in place.

    For parameters that are sharded by their first dimension, as FSDP2 does it, there are two all-gathers for each dtype
    and device, of the updates and of what the processes made of them; for those sharded otherwise one for each and one.

    Args:
        parameters: X; DTensors are gathered for clipping and stay sharded.
        updates: U, of DTensors this process's part. They are scratch: their values are lost.
        lr: η.
        weight_decay: λ.
        threshold: c.
        process_group: processes that hold the same updates and share the clipping of matrices out among themselves.
        options: see `SpectralOptions`.
    """
    chosen: SpectralOptions = {**DEFAULT_OPTIONS, **options}
    applied = list(updates)
    factors: list[Any] = [lr] * len(applied)
    matrices = [i for i, p in enumerate(parameters) if p.ndim >= 2 and chosen["apply_to"] != "none"]
    vectors = [i for i, p in enumerate(parameters) if p.ndim < 2 and chosen["apply_to"] == "all"]
    both = [*matrices, *vectors]
    wholes = dict(zip(both, _wholes([updates[i] for i in both], [parameters[i] for i in both]), strict=True))
    if matrices:
        stacks = [as_stack(wholes[i], chosen["higher_dims"]) for i in matrices]
        group = process_group or processes_that_share([parameters[i] for i in matrices])
        clip = functools.partial(clip_matrices_shared, group) if group else clip_matrices
        method, ns_steps, compute_dtype = chosen["method"], chosen["ns_steps"], chosen["compute_dtype"]
        results = clip(stacks, threshold, method=method, ns_steps=ns_steps, compute_dtype=compute_dtype)
        for i, result in zip(matrices, results, strict=True):
            applied[i] = _part(result.reshape(parameters[i].shape), parameters[i])
            factors[i] = scale_of(result.shape, chosen["scale"]) * lr
    for i in vectors:
        clipped = soft_norm_clip(wholes[i].reshape(-1), threshold, form=chosen["vectors"])
        applied[i] = _part(clipped.reshape(parameters[i].shape), parameters[i])
    parts = [local(p) for p in parameters]
    weights = [part.to(u.dtype) for part, u in zip(parts, applied, strict=True)]  # the same tensors where dtypes agree
    torch._foreach_mul_(weights, 1 - lr * weight_decay)
    if isinstance(lr, Tensor):
        torch._foreach_mul_(applied, factors)
        torch._foreach_sub_(weights, applied)
    else:
        for factor in set(factors):
            members = [i for i, other in enumerate(factors) if other == factor]
            torch._foreach_sub_([weights[i] for i in members], [applied[i] for i in members], alpha=factor)
    for part, weight in zip(parts, weights, strict=True):
        if part.dtype != weight.dtype:
            part.copy_(weight)


def _wholes(parts: Sequence[Tensor], like: Sequence[Tensor]) -> list[Tensor]:
    """Return whole tensors from this process's parts, those sharded by rows with one all-gather together."""
    wholes = list(parts)
    by_rows: dict[tuple[DeviceMesh, torch.dtype, torch.device], list[int]] = {}
    for i, (part, p) in enumerate(zip(parts, like, strict=True)):
        if isinstance(p, DTensor):
            if p.device_mesh.ndim == 1 and p.placements == (Shard(0),):
                by_rows.setdefault((p.device_mesh, part.dtype, part.device), []).append(i)
            else:
                mesh, placements = p.device_mesh, p.placements
                whole = DTensor.from_local(part, mesh, placements, run_check=False, shape=p.shape, stride=p.stride())
                wholes[i] = whole.full_tensor()
    for (mesh, _, _), indices in by_rows.items():
        # Parts have equally many rows until none are left: once they are joined, only the end is padding.
        lengths = [math.ceil(like[i].shape[0] / mesh.size()) * math.prod(like[i].shape[1:]) for i in indices]
        padded = [pad(parts[i].reshape(-1), (0, n - parts[i].numel())) for i, n in zip(indices, lengths, strict=True)]
        sent = torch.cat(padded)
        received = sent.new_empty(mesh.size() * len(sent))
        if len(sent):
            torch.distributed.all_gather_into_tensor(received, sent, group=mesh.get_group())
        for i, rows in zip(indices, torch.split(received.view(mesh.size(), len(sent)), lengths, dim=1), strict=True):
            wholes[i] = rows.reshape(-1)[: like[i].numel()].view(like[i].shape)
    return wholes


def _part(whole: Tensor, like: Tensor) -> Tensor:
    if not isinstance(like, DTensor):
        return whole
    mesh = like.device_mesh
    everywhere = DTensor.from_local(whole, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return everywhere.redistribute(placements=like.placements).to_local()

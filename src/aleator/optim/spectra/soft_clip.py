"""Soft spectral clipping: every singular value σ of a matrix becomes σ / √(1 + σ²/c²), which is below c.

    H_c(U) = (I + U Uᵀ/c²)^(−1/2) U = P diag(σ_i / √(1 + σ_i²/c²)) Qᵀ    for the decomposition U = P diag(σ) Qᵀ

Directions and their order stay. What is far below the threshold c passes almost unchanged, by a relative σ²/(2c²), and
H_c(U)/c tends to the orthogonal polar factor, the direction of Muon, as c → 0. No decomposition is needed: with
Â = (I + U Uᵀ/c²)/a and a bound a on the largest eigenvalue, the coupled Newton–Schulz iteration

    Y = Â, Z = I;    T = (3 I − Z Y)/2,    Y ← Y T,    Z ← T Z

takes Z to Â^(−1/2) from below, so that stopping early clips too much and never too little. A step maps the square root
x of an eigenvalue of Z Y to f(x) = x (3 − x²)/2, which multiplies small ones by 1.5. The eigenvalues of Â lie in
[1/a, 1], so the range [l, 1] of x is known at every step and scaling makes the step faster: with Y and Z times

    μ = √(3/(1 + l + l²)),    for which f(μl) = f(μ),    T = μ (3 I − μ² Z Y)/2,    l ← f(μl) and l = 1/√a at first,

small ones grow by up to 2.6. The last step has μ = 1. As f(x) ≤ 1 for every x, results come from below all the same.

J. Chen and E. Chow, "A Stable Scaling of Newton–Schulz for Improving the Sign Function Computation of a Hermitian
Matrix", 2014, have this scaling for the sign function.
X. Jiang, A. Semenov and S. Stich, "Enhancing LLM Training via Spectral Clipping", ICML 2026, arXiv 2603.14315.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from aleator.optim.spectra.exact_clip import exact_clip

NamedMethod = Literal["scaled_newton_schulz", "newton_schulz", "svd"]
Method = NamedMethod | Callable[[Tensor], Tensor]

# The authors' ten, and the scaled ones that are as accurate while σ_max/c is below 40.
_DEFAULT_STEPS = {"scaled_newton_schulz": 7, "newton_schulz": 10}

# Of a symmetric product only the panels on and above the diagonal are computed: 5/8 of the work with four panels. On
# a CPU that pays from about this many rows on, in half precision with panels of 256 rows or more. Accelerators get one
# batched product instead.
_PANELS = 4
_LEAST_ROWS_OF_PANELS = {torch.float64: 256, torch.float32: 256, torch.bfloat16: 512, torch.float16: 512}
_LEAST_PANEL = 256

# Elements of a batch of equally shaped matrices that are clipped in one call: bounds the scratch memory, and on a CPU
# spares large matrices the copy that brings them together.
_CHUNK = 2**26
_CHUNK_ON_CPU = 2**16

# A threshold of this many times the largest entry leaves a matrix alone in float64 too, and its square is a float32.
_LARGEST_RATIO = 1e12

# Whether torch has a library that multiplies matrices of bfloat16 on this CPU.
_CPU_MULTIPLIES_BFLOAT16: bool = torch._C._has_mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported()

_COMPUTE_DTYPES = (torch.bfloat16, torch.float32, torch.float64)


def soft_spectral_clip(
    update: Float[Tensor, "*batch rows cols"],
    threshold: float | Tensor,
    *,
    method: Method = "scaled_newton_schulz",
    ns_steps: int | None = None,
    compute_dtype: torch.dtype | None = None,
) -> Float[Tensor, "*batch rows cols"]:
    """Return H_c of a matrix, or of each matrix of a batch; differentiable.

    Newton–Schulz takes 2·m²·n·2 + 2·m³·(3K − 3) multiplications and additions for K steps and m ≤ n, less what symmetry
    saves. In float32, 7 scaled steps leave a relative error of about 1e-6 while σ_max/c is below 40, and take one more
    for every factor 2.5; 10 plain ones do so below 16, and take one more for every factor 1.5. In bfloat16 the error is
    0.2 to 7 % on ordinary matrices, more steps do not lower it, and the bound by c can fail on spikes: with σ_max/c
    above 30 the result can be far too large. TF32, where `torch.set_float32_matmul_precision` allows a GPU to use it
    for float32, lies between the two: an error of 0.1 to 0.6 %, and a bound that can fail with σ_max/c above 10.
    Autocast is off inside.

    Args:
        update: U, one matrix or a batch of them. Every matrix has its own bound a.
        threshold: c, positive; one number for all or a tensor with one for each. A tensor's values are not checked,
            because that would wait for the device.
        method: ``"scaled_newton_schulz"``; ``"newton_schulz"``, the plain steps of the paper; ``"svd"``, exact; or a
            function that returns the polar factor P Qᵀ of each matrix of a batch with at most as many rows as columns,
            for example an orthogonalisation kernel that is at hand for Muon. It is called with [U/c | I], whose polar
            factor is [H_c(U)/c | …].
        ns_steps: K, the number of Newton–Schulz steps; None takes 7 scaled or 10 plain ones.
        compute_dtype: of the arithmetic; by default the dtype of ``update`` and at least float32. The paper's code has
            bfloat16; float16 has too few exponents for the bound.

    Returns:
        A tensor of the shape and dtype of ``update``.

    Raises:
        ValueError: if ``update`` is no real matrix, c is not positive, ``ns_steps`` is below 1 or the method unknown.

    Example:
        >>> soft_spectral_clip(torch.diag(torch.tensor([0.0, 3.0])), 4.0)[1, 1]
        tensor(2.4000)
    """
    check_threshold("threshold", threshold)
    check_clipping(method, ns_steps, compute_dtype)
    if update.ndim < 2 or not update.is_floating_point():
        raise ValueError(f"update must be a real matrix or a batch, got {update.dtype} of shape {tuple(update.shape)}")
    if update.numel() == 0:
        return update.clone()
    dtype = compute_dtype or torch.promote_types(update.dtype, torch.float32)
    matrices = update.to(dtype)
    tall = matrices.shape[-2] > matrices.shape[-1]
    wide: Tensor = matrices.mT if tall else matrices
    clipped: Tensor
    c = threshold
    if isinstance(c, Tensor):
        c = c.to(torch.promote_types(dtype, torch.float32))
        c = c[..., None, None] if c.ndim else c  # one number may lie on the CPU, whatever the device
    with _autocast_off(update.device):
        if method == "svd":
            clipped = exact_clip(wide, torch.as_tensor(c, dtype=dtype, device=wide.device))
        elif callable(method):
            identity = torch.eye(wide.shape[-2], dtype=dtype, device=wide.device).expand(*wide.shape[:-1], -1)
            clipped = (c * method(torch.cat([(wide / c).to(dtype), identity], dim=-1)))[..., : wide.shape[-1]]
        else:
            steps = _DEFAULT_STEPS[method] if ns_steps is None else ns_steps
            size = _power_of_two(matrices, (-2, -1))
            scaled = matrices / size.to(dtype)
            scaled = scaled.mT if tall else scaled
            ratio = (c / size).clamp(max=_LARGEST_RATIO)
            gram = _symmetric_product(scaled, scaled.mT)
            root = _inverse_root(gram, ratio, steps, method == "scaled_newton_schulz")
            # The root is symmetric: what comes out lies in memory as what went in.
            clipped = _product(matrices, root) if tall else _product(root, matrices)
            return clipped.to(update.dtype)
    return (clipped.mT if tall else clipped).to(update.dtype)


def soft_norm_clip(
    vector: Float[Tensor, "*batch n"], threshold: float | Tensor, *, form: Literal["smooth", "official"] = "smooth"
) -> Float[Tensor, "*batch n"]:
    """Return x / √(1 + ‖x‖²/c²), which is H_c of the vector as a matrix of one column.

    Args:
        vector: x, or a batch.
        threshold: c, positive; a number or a 0-d tensor, whose value is not checked.
        form: ``"official"`` leaves x as it is where ‖x‖ ≤ c, as the authors' code does; the length then falls by a
            factor √2 where ‖x‖ passes c.

    Raises:
        ValueError: if c is not positive or the form unknown.
    """
    check_threshold("threshold", threshold)
    if form not in ("smooth", "official"):
        raise ValueError(f'form must be "smooth" or "official", got {form!r}')
    if vector.numel() == 0:
        return vector.clone()
    size = _power_of_two(vector, (-1,)).to(vector.dtype)
    ratio = torch.linalg.vector_norm(vector / size, dim=-1, keepdim=True) * (size / threshold)
    factor = 1 / torch.hypot(ratio, torch.ones_like(ratio))
    return vector * (factor if form == "smooth" else torch.where(ratio <= 1, 1.0, factor))


def clip_matrices(
    matrices: Sequence[Float[Tensor, "_ _ _"]],
    threshold: float | Tensor,
    *,
    method: Method = "scaled_newton_schulz",
    ns_steps: int | None = None,
    compute_dtype: torch.dtype | None = None,
) -> list[Tensor]:
    """Return H_c of every matrix of several stacks; equal shapes share one batched call.

    Args:
        matrices: stacks of matrices, each of shape (number, rows, columns).
        threshold: c, the same for all.
        method: see `soft_spectral_clip`.
        ns_steps: see `soft_spectral_clip`.
        compute_dtype: see `soft_spectral_clip`.
    """
    batches: dict[tuple[object, ...], list[int]] = {}
    filled: dict[tuple[object, ...], int] = {}
    for index, stack in enumerate(matrices):
        kind = (stack.shape[1:], stack.dtype, stack.device)
        part = filled.get(kind, 0)
        filled[kind] = part + stack.numel()
        chunk = _CHUNK_ON_CPU if stack.device.type == "cpu" else _CHUNK
        batches.setdefault((*kind, part // chunk), []).append(index)
    results: list[Tensor] = list(matrices)
    for members in batches.values():
        together = torch.cat([matrices[i] for i in members]) if len(members) > 1 else matrices[members[0]]
        if together.numel() == 0:
            continue
        clipped = soft_spectral_clip(together, threshold, method=method, ns_steps=ns_steps, compute_dtype=compute_dtype)
        for i, result in zip(members, torch.split(clipped, [len(matrices[i]) for i in members]), strict=True):
            results[i] = result
    return results


@torch.no_grad()
def spectral_clip_grads_(
    parameters: Tensor | Iterable[Tensor],
    threshold: float | Tensor = 0.1,
    *,
    method: Method = "scaled_newton_schulz",
    ns_steps: int | None = None,
    compute_dtype: torch.dtype | None = None,
    error_if_nonfinite: bool = False,
) -> None:
    """Replace the gradient g of every two-dimensional parameter by H_c(g), in place: the paper's pre-clipping.

    Call it once per optimizer step, after accumulation, averaging over processes and ``GradScaler.unscale_``, and
    before ``clip_grad_norm_``; the two do not commute. The authors recommend to leave it out where the updates are
    clipped. Other parameters keep their gradients.

    Args:
        parameters: one tensor or several.
        threshold: c, positive; a number or a 0-d tensor, whose value is not checked.
        method: see `soft_spectral_clip`.
        ns_steps: see `soft_spectral_clip`.
        compute_dtype: see `soft_spectral_clip`.
        error_if_nonfinite: whether to look for infinities and NaN first, which waits for the device. Otherwise one in
            a gradient spreads over its matrix.

    Raises:
        ValueError: if a value is out of range, or a gradient is sparse, complex or sharded.
        RuntimeError: if a gradient is not finite and ``error_if_nonfinite`` is set.
    """
    check_threshold("threshold", threshold)
    check_clipping(method, ns_steps, compute_dtype)
    chosen = [parameters] if isinstance(parameters, Tensor) else parameters
    grads = [p.grad for p in chosen if p.grad is not None and p.ndim == 2]
    for grad in grads:
        if grad.is_sparse or grad.is_complex() or hasattr(grad, "placements"):
            kind = "sparse" if grad.is_sparse else "complex" if grad.is_complex() else "a DTensor"
            raise ValueError(f"gradients must be dense, real and whole, got one of shape {tuple(grad.shape)}: {kind}")
    if error_if_nonfinite and not all(bool(grad.isfinite().all()) for grad in grads):
        raise RuntimeError("a gradient has an infinity or NaN; nothing was clipped")
    clipped = clip_matrices(
        [grad.unsqueeze(0) for grad in grads],
        threshold,
        method=method,
        ns_steps=ns_steps,
        compute_dtype=compute_dtype,
    )
    for grad, result in zip(grads, clipped, strict=True):
        grad.copy_(result[0])


def check_threshold(name: str, threshold: float | Tensor) -> None:
    """Raise ValueError unless the threshold is positive; a tensor is not looked at."""
    if not isinstance(threshold, Tensor) and not threshold > 0:
        raise ValueError(f"{name} must be positive, got {threshold}")


def check_clipping(method: Method, ns_steps: int | None, compute_dtype: torch.dtype | None) -> None:
    """Raise ValueError for an unknown method, too few steps or a dtype in which the bound cannot be kept."""
    if not callable(method) and method not in get_args(NamedMethod):
        accepted = ", ".join(f'"{name}"' for name in get_args(NamedMethod))
        raise ValueError(f"method must be {accepted} or a function, got {method!r}")
    if ns_steps is not None and ns_steps < 1:
        raise ValueError(f"ns_steps must be at least 1, got {ns_steps}")
    if compute_dtype not in (None, *_COMPUTE_DTYPES):
        raise ValueError(f"compute_dtype must be one of {', '.join(map(str, _COMPUTE_DTYPES))}, got {compute_dtype}")


def _autocast_off(device: torch.device) -> contextlib.AbstractContextManager[object]:
    available = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if available else contextlib.nullcontext()


def _power_of_two(tensor: Tensor, dim: tuple[int, ...]) -> Tensor:
    """Return a power of two near the largest entry: division by it rounds nothing, and squares stay in range."""
    largest = tensor.detach().abs().amax(dim, keepdim=True).clamp(min=torch.finfo(tensor.dtype).tiny)
    return largest.to(torch.promote_types(tensor.dtype, torch.float32)).log2().floor().exp2()


def _inverse_root(
    gram: Float[Tensor, "*batch m m"], ratio: Float[Tensor, "*batch 1 1"], steps: int, scaled: bool
) -> Float[Tensor, "*batch m m"]:
    """Return (I + G/r²)^(−1/2) of positive semidefinite G after ``steps`` steps of the coupled iteration.

    That is r (r² I + G)^(−1/2), in which no number is far from the numbers in G however small r is.

    Args:
        gram: G.
        ratio: r, in at least float32.
        steps: K.
        scaled: whether with scaling.
    """
    # Gershgorin and Frobenius: whichever bounds the largest eigenvalue better, for each matrix by itself. This and the
    # scaling are numbers of at least float32, where a step is exact to the precision of its products.
    row_sums = gram.abs().sum(-1).amax(-1)
    largest = torch.minimum(row_sums, torch.linalg.vector_norm(gram, dim=(-2, -1)))
    bound = ratio.square() + largest[..., None, None].to(ratio.dtype)
    least = ratio * bound.rsqrt()  # the root of the least eigenvalue that Â can have
    # Eigenvalues below the precision of Â are noise, of either sign: scaling for them would blow it up.
    lowest = least.clamp(min=math.sqrt(torch.finfo(gram.dtype).eps))
    y = _add_to_diagonal(_over(gram, bound), least.square())
    z = torch.empty(0)
    for step in range(steps):
        last = step == steps - 1
        mu = (3 / (1 + lowest + lowest.square())).sqrt() if scaled and not last else torch.ones_like(lowest)
        lowest = mu * lowest * (3 - (mu * lowest).square()) / 2
        # In the first step Z = I, and the last one needs no new Y: 3K − 3 products in all.
        t = y.clone() if step == 0 else _symmetric_product(z, y)
        t = _add_to_diagonal(_scale(t, mu**3 / -2), 1.5 * mu)
        z = t if step == 0 else _symmetric_product(t, z)
        if not last:
            y = _symmetric_product(y, t)
    return z * least.to(gram.dtype)


def _scale(matrix: Float[Tensor, "*batch m m"], number: Float[Tensor, "*batch 1 1"]) -> Tensor:
    """Multiply a tensor that nobody else holds, by a number for each matrix."""
    if not _writes_out(matrix, number):
        return matrix.mul_(number)
    each, numbers = matrix.view(-1, *matrix.shape[-2:]), number.flatten()
    for index in range(len(each)):
        each[index].mul_(numbers[index])
    return matrix


def _over(matrix: Float[Tensor, "*batch m m"], number: Float[Tensor, "*batch 1 1"]) -> Float[Tensor, "*batch m m"]:
    """Divide by a number for each matrix, rounded once."""
    if not _writes_out(matrix, number):
        return (matrix / number).to(matrix.dtype)
    pairs = zip(matrix.view(-1, *matrix.shape[-2:]), number.flatten(), strict=True)
    return torch.stack([each / divisor for each, divisor in pairs]).view(matrix.shape)


def _writes_out(matrix: Tensor, number: Tensor) -> bool:
    """Whether torch would write a matrix in half precision out in float32 first, half as long as a product takes.

    It does so on a CPU. A number without dimensions is taken in its own precision instead.
    """
    return matrix.device.type == "cpu" and matrix.dtype != number.dtype


def _add_to_diagonal(matrix: Float[Tensor, "*batch m m"], number: Float[Tensor, "*batch 1 1"]) -> Tensor:
    """Add to the diagonal of a tensor that nobody else holds."""
    matrix.diagonal(dim1=-2, dim2=-1).add_(number[..., 0])
    return matrix


def _symmetric_product(a: Float[Tensor, "*batch m k"], b: Float[Tensor, "*batch k m"]) -> Float[Tensor, "*batch m m"]:
    """Return A B, known to be symmetric: polynomials of one symmetric matrix commute."""
    if _widens(a):
        return _symmetric_product(a.float(), b.float()).to(a.dtype)
    m = a.shape[-2]
    if a.device.type != "cpu" or m < _LEAST_ROWS_OF_PANELS.get(a.dtype, math.inf):
        return a @ b
    product = a.new_empty(*a.shape[:-1], m)
    panel = math.ceil(m / (_PANELS if a.dtype.itemsize > 2 else min(_PANELS, m // _LEAST_PANEL)))
    for begin in range(0, m, panel):
        end = min(begin + panel, m)
        product[..., begin:end, begin:] = a[..., begin:end, :] @ b[..., begin:]
        product[..., end:, begin:end] = product[..., begin:end, end:].mT
    return product


def _product(a: Float[Tensor, "*batch m k"], b: Float[Tensor, "*batch k n"]) -> Float[Tensor, "*batch m n"]:
    return (a.float() @ b.float()).to(a.dtype) if _widens(a) else a @ b


def _widens(a: Tensor) -> bool:
    """Whether a product is taken in float32 and rounded: in bfloat16 on a CPU that has no instructions for it.

    Such products add up in float32 anyway, so that the result differs by rounding alone. torch's own code for them
    takes up to sixty times as long as float32's.
    """
    return a.dtype == torch.bfloat16 and a.device.type == "cpu" and not _CPU_MULTIPLIES_BFLOAT16

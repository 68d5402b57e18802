"""SPECTRA around AdamW, Signum, AdEMAMix and MARS, each with its update computed in the optimizer itself.

    X ← (1 − λη) X − α η H_c(U)

Coordinate-wise optimizers bound every entry of the matrix U that they subtract and not its spectral norm, which for
entries ±1 lies anywhere between √max(m, n) and √(mn). Clipping the spectrum of U keeps their adaptivity and bounds how
far a layer can move. `Spectra` does the same around any optimizer, at the price of recovering U from the weights.

X. Jiang, A. Semenov and S. Stich, "Enhancing LLM Training via Spectral Clipping", ICML 2026, arXiv 2603.14315.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.optim.optimizer import ParamsT

from aleator.optim.arguments import check_fraction, check_not_negative
from aleator.optim.clip_schedule import ClipSchedule
from aleator.optim.sharded_norms import by_placement, local, local_gradient, norms, state_dtype
from aleator.optim.spectral_step import ApplyTo, HigherDims, Scale, SpectralOptimizer, Vectors


def adamw_updates(
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    betas: tuple[float, float],
    eps: float,
    addends: list[Tensor] | None = None,
) -> list[Tensor]:
    """Advance the running means in place and return U = (m̂ + addend) / (√v̂ + ε), in new tensors.

    Args:
        grads: g, in the precision of the running means.
        exp_avgs: m.
        exp_avg_sqs: v.
        steps: 0-d step counts, this one included.
        betas: the decay rates of m and v.
        eps: ε.
        addends: None, or what is added to each m̂.
    """
    beta1, beta2 = betas
    torch._foreach_lerp_(exp_avgs, grads, 1 - beta1)
    torch._foreach_mul_(exp_avg_sqs, beta2)
    torch._foreach_addcmul_(exp_avg_sqs, grads, grads, 1 - beta2)
    updates = list(torch._foreach_div(exp_avgs, _bias_corrections(steps, beta1)))
    if addends is not None:
        torch._foreach_add_(updates, addends)
    denominators = list(torch._foreach_sqrt(exp_avg_sqs))
    corrections = _bias_corrections(steps, beta2)
    torch._foreach_sqrt_(corrections)
    torch._foreach_div_(denominators, corrections)
    torch._foreach_add_(denominators, eps)
    torch._foreach_div_(updates, denominators)
    return updates


def signum_updates(
    grads: list[Tensor], momentum_buffers: list[Tensor], *, momentum: float, nesterov: bool
) -> list[Tensor]:
    """Do buf ← m·buf + g in place and return sign(g + m·buf) with Nesterov, else sign(buf)."""
    torch._foreach_mul_(momentum_buffers, momentum)
    torch._foreach_add_(momentum_buffers, grads)
    if not nesterov:
        return list(torch._foreach_sign(momentum_buffers))
    ahead = list(torch._foreach_mul(momentum_buffers, momentum))
    torch._foreach_add_(ahead, grads)
    torch._foreach_sign_(ahead)
    return ahead


def ademamix_updates(
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    slow_exp_avgs: list[Tensor],
    steps: list[Tensor],
    *,
    betas: tuple[float, float, float],
    eps: float,
    alpha: float,
    warmup: int | None,
) -> list[Tensor]:
    """Advance the running means in place and return U = (m̂ + α_t n) / (√v̂ + ε).

    n is a slow mean, n ← β₃_t n + (1 − β₃_t) g, without bias correction. Over ``warmup`` steps T, α_t = α·min(1, t/T)
    and β₃_t goes from β₁ to β₃ linearly in its half-life: with f(β) = ln 0.5/ln(β + 1e-8) − 1 and r = t/T,
    β₃_t = 0.5^(1/(1 + (1 − r) f(β₁) + r f(β₃))).
    """
    beta1, beta2, beta3 = betas
    progress = list(torch._foreach_div(steps, float(warmup or 1)))
    torch._foreach_clamp_max_(progress, 1.0)
    alphas = list(torch._foreach_mul(progress, alpha))
    if warmup is None:
        torch._foreach_lerp_(slow_exp_avgs, grads, 1 - beta3)
    else:
        first, last = (math.log(0.5) / math.log(beta + 1e-8) for beta in (beta1, beta3))
        torch._foreach_mul_(progress, last - first)
        torch._foreach_add_(progress, first)
        weights = list(torch._foreach_reciprocal(progress))
        torch._foreach_mul_(weights, math.log(0.5))
        torch._foreach_expm1_(weights)
        torch._foreach_neg_(weights)  # 1 − β₃_t, without the cancellation
        torch._foreach_clamp_min_(weights, 1 - beta3)  # the 1e-8 above would overshoot
        torch._foreach_lerp_(slow_exp_avgs, grads, weights)
    slow = list(torch._foreach_mul(slow_exp_avgs, alphas))
    return adamw_updates(grads, exp_avgs, exp_avg_sqs, steps, betas=(beta1, beta2), eps=eps, addends=slow)


class SpectraAdamW(SpectralOptimizer):
    """AdamW with the spectrum of every update clipped softly.

    A matrix moves by at most α·lr·clip in the spectral norm: **tune the product clip·lr**, not ``clip`` alone. At a
    small learning rate a small ``clip`` slows training down. The authors' runs have clip·lr = 0.01 at the peak for 160M
    parameters; small models take more. Larger learning rates than AdamW's become usable.

    Everything but the class arguments ``clip_schedule`` and ``process_group`` can be set per parameter group, for
    example ``apply_to="none"`` for embeddings or ``higher_dims="flatten"`` for convolutions.

    Args:
        params: parameters or groups of them.
        lr: η. As a 0-d tensor, a compiled step is not compiled again when it changes.
        betas: decay rates of the two running means; the authors use 0.8 or 0.9 for the first.
        eps: ε, added to √v̂.
        weight_decay: λ, decoupled.
        clip: c, the bound on the spectral norm of the update.
        apply_to: ``"all"`` parameters; ``"matrices"``, those of two or more dimensions; or ``"none"``. What is left
            out takes AdamW's own step.
        scale: ``"muon"`` multiplies by α = √max(1, rows/cols); None does not.
        vectors: ``"smooth"``, or ``"official"`` for the authors' discontinuous form, see `soft_norm_clip`.
        higher_dims: ``"stack"`` takes the last two of more dimensions as a matrix, as for stacks of experts;
            ``"flatten"`` takes the first against the rest, as for convolutions.
        ns_steps: Newton–Schulz steps; one more for every factor 1.5 of σ_max/c above 16.
        compute_dtype: of the clipping; by default float32 or the weights' own, if that is finer. ``torch.bfloat16`` is
            the authors' first choice and has an error of some percent.
        clip_schedule: how ``clip`` moves; constant by default.
        process_group: processes with equal gradients (DDP) that share the clipping out among themselves. Sharded
            parameters (FSDP2) do so by themselves.

    Raises:
        ValueError: if an option is out of range.

    Example:
        >>> model = torch.nn.Linear(3, 2)
        >>> optimizer = SpectraAdamW(model.parameters(), lr=1e-2, clip=3.0)
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.1,
        *,
        clip: float = 10.0,
        apply_to: ApplyTo = "all",
        scale: Scale = "muon",
        vectors: Vectors = "smooth",
        higher_dims: HigherDims = "stack",
        ns_steps: int = 10,
        compute_dtype: torch.dtype | None = None,
        clip_schedule: ClipSchedule | None = None,
        process_group: ProcessGroup | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "clip": clip,
            "apply_to": apply_to,
            "scale": scale,
            "vectors": vectors,
            "higher_dims": higher_dims,
            "ns_steps": ns_steps,
            "compute_dtype": compute_dtype,
        }
        super().__init__(params, defaults, clip_schedule, process_group)

    def _check(self, group: dict[str, Any]) -> None:
        check_not_negative(group, "eps")
        check_fraction(group, "betas")

    def _updates(self, group: dict[str, Any], parameters: list[Tensor]) -> list[Tensor]:
        states = [self._state(p, "step", "exp_avg", "exp_avg_sq") for p in parameters]
        return adamw_updates(
            _gradients(parameters),
            [local(state["exp_avg"]) for state in states],
            [local(state["exp_avg_sq"]) for state in states],
            _counted(states),
            betas=group["betas"],
            eps=group["eps"],
        )


class SpectraSignum(SpectralOptimizer):
    """Signum, the sign of a momentum, with the spectrum of every update clipped softly.

    Momentum starts at zero. (The authors' code starts it as a copy of the weights.)

    Args:
        params: parameters or groups of them.
        lr: η; tune the product clip·lr.
        momentum: decay rate of the momentum buffer, which is not damped.
        nesterov: whether the sign is taken of g + momentum·buffer.
        weight_decay: λ, decoupled.
        clip: as all that follows, see `SpectraAdamW`.
        apply_to: see `SpectraAdamW`.
        scale: see `SpectraAdamW`.
        vectors: see `SpectraAdamW`.
        higher_dims: see `SpectraAdamW`.
        ns_steps: see `SpectraAdamW`.
        compute_dtype: see `SpectraAdamW`.
        clip_schedule: see `SpectraAdamW`.
        process_group: see `SpectraAdamW`.

    Raises:
        ValueError: if an option is out of range.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.1,
        *,
        clip: float = 10.0,
        apply_to: ApplyTo = "all",
        scale: Scale = "muon",
        vectors: Vectors = "smooth",
        higher_dims: HigherDims = "stack",
        ns_steps: int = 10,
        compute_dtype: torch.dtype | None = None,
        clip_schedule: ClipSchedule | None = None,
        process_group: ProcessGroup | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
            "clip": clip,
            "apply_to": apply_to,
            "scale": scale,
            "vectors": vectors,
            "higher_dims": higher_dims,
            "ns_steps": ns_steps,
            "compute_dtype": compute_dtype,
        }
        super().__init__(params, defaults, clip_schedule, process_group)

    def _check(self, group: dict[str, Any]) -> None:
        check_fraction(group, "momentum")

    def _updates(self, group: dict[str, Any], parameters: list[Tensor]) -> list[Tensor]:
        states = [self._state(p, "momentum_buffer") for p in parameters]
        buffers = [local(state["momentum_buffer"]) for state in states]
        return signum_updates(_gradients(parameters), buffers, momentum=group["momentum"], nesterov=group["nesterov"])


class SpectraAdEMAMix(SpectralOptimizer):
    """AdEMAMix, AdamW with a second, slow mean of gradients, with the spectrum of every update clipped softly.

    Args:
        params: parameters or groups of them.
        lr: η; tune the product clip·lr.
        betas: decay rates of the fast mean, of the squares and of the slow mean.
        eps: ε, added to √v̂.
        weight_decay: λ, decoupled.
        alpha: weight of the slow mean.
        warmup: steps in which ``alpha`` and the slow mean's decay rate grow to their values; the authors take the
            length of the run. None has them there from the first step.
        clip: as all that follows, see `SpectraAdamW`.
        apply_to: see `SpectraAdamW`.
        scale: see `SpectraAdamW`.
        vectors: see `SpectraAdamW`.
        higher_dims: see `SpectraAdamW`.
        ns_steps: see `SpectraAdamW`.
        compute_dtype: see `SpectraAdamW`.
        clip_schedule: see `SpectraAdamW`.
        process_group: see `SpectraAdamW`.

    Raises:
        ValueError: if an option is out of range.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float, float] = (0.9, 0.999, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.1,
        *,
        alpha: float = 8.0,
        warmup: int | None = None,
        clip: float = 10.0,
        apply_to: ApplyTo = "all",
        scale: Scale = "muon",
        vectors: Vectors = "smooth",
        higher_dims: HigherDims = "stack",
        ns_steps: int = 10,
        compute_dtype: torch.dtype | None = None,
        clip_schedule: ClipSchedule | None = None,
        process_group: ProcessGroup | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "alpha": alpha,
            "warmup": warmup,
            "clip": clip,
            "apply_to": apply_to,
            "scale": scale,
            "vectors": vectors,
            "higher_dims": higher_dims,
            "ns_steps": ns_steps,
            "compute_dtype": compute_dtype,
        }
        super().__init__(params, defaults, clip_schedule, process_group)

    def _check(self, group: dict[str, Any]) -> None:
        check_not_negative(group, "eps", "alpha")
        check_fraction(group, "betas")
        if group["warmup"] is not None and group["warmup"] < 1:
            raise ValueError(f"warmup must be at least 1 or None, got {group['warmup']}")

    def _updates(self, group: dict[str, Any], parameters: list[Tensor]) -> list[Tensor]:
        states = [self._state(p, "step", "exp_avg", "exp_avg_sq", "slow_exp_avg") for p in parameters]
        return ademamix_updates(
            _gradients(parameters),
            [local(state["exp_avg"]) for state in states],
            [local(state["exp_avg_sq"]) for state in states],
            [local(state["slow_exp_avg"]) for state in states],
            _counted(states),
            betas=group["betas"],
            eps=group["eps"],
            alpha=group["alpha"],
            warmup=group["warmup"],
        )


class SpectraMARS(SpectralOptimizer):
    """MARS-AdamW, AdamW on a variance-reduced gradient, with the spectrum of every update clipped softly.

        c_t = g + γ β₁/(1 − β₁) (g − g_prev),    divided by its norm where that is above 1

    The first step has no previous gradient and no correction. Tensors of fewer than two dimensions take AdamW on the
    plain gradient; give them a group of their own to have a learning rate or betas of their own.

    Args:
        params: parameters or groups of them.
        lr: η; tune the product clip·lr.
        betas: decay rates of the two running means.
        eps: ε, added to √v̂.
        weight_decay: λ, decoupled.
        gamma: γ, the strength of the correction.
        clip: as all that follows, see `SpectraAdamW`.
        apply_to: see `SpectraAdamW`.
        scale: see `SpectraAdamW`.
        vectors: see `SpectraAdamW`.
        higher_dims: see `SpectraAdamW`.
        ns_steps: see `SpectraAdamW`.
        compute_dtype: see `SpectraAdamW`.
        clip_schedule: see `SpectraAdamW`.
        process_group: see `SpectraAdamW`.

    Raises:
        ValueError: if an option is out of range.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 3e-3,
        betas: tuple[float, float] = (0.95, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.1,
        *,
        gamma: float = 0.025,
        clip: float = 10.0,
        apply_to: ApplyTo = "all",
        scale: Scale = "muon",
        vectors: Vectors = "smooth",
        higher_dims: HigherDims = "stack",
        ns_steps: int = 10,
        compute_dtype: torch.dtype | None = None,
        clip_schedule: ClipSchedule | None = None,
        process_group: ProcessGroup | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "gamma": gamma,
            "clip": clip,
            "apply_to": apply_to,
            "scale": scale,
            "vectors": vectors,
            "higher_dims": higher_dims,
            "ns_steps": ns_steps,
            "compute_dtype": compute_dtype,
        }
        super().__init__(params, defaults, clip_schedule, process_group)

    def _check(self, group: dict[str, Any]) -> None:
        check_not_negative(group, "eps", "gamma")
        check_fraction(group, "betas")

    def _updates(self, group: dict[str, Any], parameters: list[Tensor]) -> list[Tensor]:
        begun = [bool(self.state.get(p)) for p in parameters]
        states = [self._state(p, "step", "exp_avg", "exp_avg_sq", "previous_grad") for p in parameters]
        grads = _gradients(parameters)
        corrected = list(grads)
        beta1, gamma = group["betas"][0], group["gamma"]
        reduced = [i for i, p in enumerate(parameters) if p.ndim >= 2]
        for i in reduced:
            previous = local(states[i]["previous_grad"])
            if begun[i]:
                corrected[i] = grads[i] + gamma * beta1 / (1 - beta1) * (grads[i] - previous)
            previous.copy_(grads[i])
        for placement, members in by_placement([parameters[i] for i in reduced]).items():
            chosen = [reduced[member] for member in members]
            lengths = norms([corrected[i] for i in chosen], placement).clamp(min=1)
            for i, length in zip(chosen, lengths.unbind(), strict=True):
                corrected[i] = corrected[i] / length
        return adamw_updates(
            corrected,
            [local(state["exp_avg"]) for state in states],
            [local(state["exp_avg_sq"]) for state in states],
            _counted(states),
            betas=group["betas"],
            eps=group["eps"],
        )


def _gradients(parameters: list[Tensor]) -> list[Tensor]:
    """Return this process's parts of the gradients in the precision of the state."""
    return [local_gradient(p).to(state_dtype(p)) for p in parameters]


def _counted(states: Sequence[dict[str, Any]]) -> list[Tensor]:
    """Add one to every step count and return them."""
    steps: list[Tensor] = [state["step"] for state in states]
    torch._foreach_add_(steps, 1)
    return steps


def _bias_corrections(steps: list[Tensor], beta: float) -> list[Tensor]:
    """Return 1 − β^t, in a form that does not cancel in float32."""
    corrections = list(torch._foreach_mul(steps, math.log(beta) if beta > 0 else -math.inf))
    torch._foreach_expm1_(corrections)
    torch._foreach_neg_(corrections)
    return corrections

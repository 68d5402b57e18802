"""SPECTRA around AdEMAMix, AdamW with a second, slow mean n of gradients.

    U = (m̂ + α_t n) / (√v̂ + ε),    n ← β₃_t n + (1 − β₃_t) g,    X ← (1 − λη) X − α η H_c(U)

n has no bias correction. Over ``warmup`` steps T, α_t = α·min(1, t/T), and β₃_t goes from β₁ to β₃ linearly in its
half-life: with f(β) = ln 0.5/ln(β + 1e-8) − 1 and r = t/T, β₃_t = 0.5^(1/(1 + (1 − r) f(β₁) + r f(β₃))).

X. Jiang, A. Semenov and S. Stich, "Enhancing LLM Training via Spectral Clipping", ICML 2026, arXiv 2603.14315.
M. Pagliardini, P. Ablin and D. Grangier, "The AdEMAMix Optimizer: Better, Faster, Older", arXiv 2409.03137.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.optim.optimizer import ParamsT

from aleator.optim.adam import adam_updates, one_minus_power, writable
from aleator.optim.arguments import check_betas, check_not_negative
from aleator.optim.spectra.clip_schedule import ClipSchedule
from aleator.optim.spectra.optimizer import SpectralOptimizer
from aleator.optim.spectra.step import SpectralOptions


def ademamix_updates(
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    slow_exp_avgs: Sequence[Tensor],
    steps: Sequence[Tensor],
    *,
    betas: tuple[float, float, float],
    eps: float,
    alpha: float,
    warmup: int | None,
) -> list[Tensor]:
    """Bring the running means and counts up to date in place and return U, in new tensors.

    Args:
        grads: g, in the precision of the running means.
        exp_avgs: m.
        exp_avg_sqs: v.
        slow_exp_avgs: n.
        steps: t before this step, 0-d.
        betas: β₁, β₂ and β₃.
        eps: ε.
        alpha: α.
        warmup: T; None is as after the warm-up.
    """
    beta1, beta2, beta3 = betas
    updates = adam_updates(grads, exp_avgs, exp_avg_sqs, steps, betas=(beta1, beta2), eps=eps)
    # The 1e-8, which is for β = 0, must not take a rate to 1 or above.
    first, last = (math.log(0.5) / math.log(min(beta + 1e-8, max(beta, 1 - 1e-8))) for beta in (beta1, beta3))
    for update, grad, square, slow, step in zip(updates, grads, exp_avg_sqs, slow_exp_avgs, steps, strict=True):
        mean, gradient = writable(slow, grad)
        if warmup is None:
            alpha_now: float | Tensor = alpha
            mean.lerp_(gradient, 1 - beta3)
        else:
            progress = (step.to(slow.dtype) / warmup).clamp(max=1)
            alpha_now = alpha * progress
            weight = -torch.expm1(math.log(0.5) / (first + (last - first) * progress))  # 1 − β₃_t, without cancellation
            mean.lerp_(gradient, weight.clamp(min=1 - beta3))  # the 1e-8 in f would overshoot
        denominator = square.sqrt().div_(one_minus_power(beta2, step, square.dtype).sqrt()).add_(eps)
        update.addcdiv_(slow * alpha_now, denominator)
    return updates


class SpectraAdEMAMix(SpectralOptimizer):
    """AdEMAMix with the spectrum of every update clipped softly.

    Args:
        params: parameters or groups of them.
        lr: η.
        betas: decay rates of the fast mean, of the squares and of the slow mean.
        eps: ε, added to √v̂.
        weight_decay: λ, decoupled.
        alpha: weight of the slow mean.
        warmup: steps in which ``alpha`` and the slow mean's decay rate grow to their values; the authors take the
            length of the run. None has them there from the first step.
        clip: c, the bound on the spectral norm of the update; tune the product clip·lr.
        clip_schedule: how ``clip`` moves; constant by default.
        process_group: see `SpectraAdamW`.
        options: see `SpectralOptions`.

    Raises:
        ValueError: if an option is out of range.
        TypeError: if there is no such option, or a parameter is no real number.
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
        clip_schedule: ClipSchedule | None = None,
        process_group: ProcessGroup | None = None,
        **options: Unpack[SpectralOptions],
    ) -> None:
        base = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "alpha": alpha, "warmup": warmup}
        super().__init__(params, base | {"capturable": True}, clip, clip_schedule, process_group, options)

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        check_not_negative(group, "eps", "alpha")
        check_betas(group, 3)
        if group["warmup"] is not None and group["warmup"] < 1:
            raise ValueError(f"warmup must be at least 1 or None, got {group['warmup']}")

    def _updates(self, group: dict[str, Any], parameters: list[Tensor]) -> list[Tensor]:
        names = ("step", "exp_avg", "exp_avg_sq", "slow_exp_avg")
        grads, steps, exp_avgs, exp_avg_sqs, slow_exp_avgs = self._gathered(parameters, *names)
        options = {name: group[name] for name in ("betas", "eps", "alpha", "warmup")}
        return ademamix_updates(grads, exp_avgs, exp_avg_sqs, slow_exp_avgs, steps, **options)

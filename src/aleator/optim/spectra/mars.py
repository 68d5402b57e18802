"""SPECTRA around MARS-AdamW, AdamW on a gradient of reduced variance.

    c_t = g + γ β₁/(1 − β₁) (g − g_prev),    divided by its norm where that is above 1
    U = m̂ / (√v̂ + ε) with the running means of c_t,    X ← (1 − λη) X − α η H_c(U)

X. Jiang, A. Semenov and S. Stich, "Enhancing LLM Training via Spectral Clipping", ICML 2026, arXiv 2603.14315.
H. Yuan et al., "MARS: Unleashing the Power of Variance Reduction for Training Large Models", arXiv 2411.10438.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

from torch import Tensor
from torch.distributed import ProcessGroup
from torch.optim.optimizer import ParamsT

from aleator.optim.adam import adam_updates
from aleator.optim.arguments import check_betas, check_not_negative
from aleator.optim.sharded_norms import by_placement, norms
from aleator.optim.spectra.clip_schedule import ClipSchedule
from aleator.optim.spectra.optimizer import SpectralOptimizer
from aleator.optim.spectra.step import SpectralOptions


def mars_gradients(
    parameters: Sequence[Tensor],
    grads: Sequence[Tensor],
    previous: Sequence[Tensor | None],
    *,
    beta1: float,
    gamma: float,
) -> list[Tensor]:
    """Return c_t of each parameter.

    Args:
        parameters: the whole tensors, over which norms are taken.
        grads: g, of DTensors this process's part.
        previous: g_prev in the same way; None makes no correction.
        beta1: β₁.
        gamma: γ.
    """
    corrected = [
        grad if old is None else grad + gamma * beta1 / (1 - beta1) * (grad - old)
        for grad, old in zip(grads, previous, strict=True)
    ]
    for placement, indices in by_placement(parameters).items():
        lengths = norms([corrected[i] for i in indices], placement).clamp(min=1)
        for i, length in zip(indices, lengths.unbind(), strict=True):
            corrected[i] = corrected[i] / length
    return corrected


class SpectraMARS(SpectralOptimizer):
    """MARS-AdamW with the spectrum of every update clipped softly.

    The first step has no previous gradient and no correction. Tensors of fewer than two dimensions take AdamW on the
    plain gradient; give them a group of their own to have a learning rate or betas of their own.

    Args:
        params: parameters or groups of them.
        lr: η.
        betas: decay rates of the two running means.
        eps: ε, added to √v̂.
        weight_decay: λ, decoupled.
        gamma: γ, the strength of the correction.
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
        lr: float | Tensor = 3e-3,
        betas: tuple[float, float] = (0.95, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.1,
        *,
        gamma: float = 0.025,
        clip: float = 10.0,
        clip_schedule: ClipSchedule | None = None,
        process_group: ProcessGroup | None = None,
        **options: Unpack[SpectralOptions],
    ) -> None:
        base = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "gamma": gamma, "capturable": True}
        super().__init__(params, base, clip, clip_schedule, process_group, options)

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        check_not_negative(group, "eps", "gamma")
        check_betas(group, 2)

    def _updates(self, group: dict[str, Any], parameters: list[Tensor]) -> list[Tensor]:
        begun = [bool(self.state.get(parameter)) for parameter in parameters]
        names = ("step", "exp_avg", "exp_avg_sq", "previous_grad")
        grads, steps, exp_avgs, exp_avg_sqs, previous = self._gathered(parameters, *names)
        matrices = [i for i, parameter in enumerate(parameters) if parameter.ndim >= 2]
        corrected = mars_gradients(
            [parameters[i] for i in matrices],
            [grads[i] for i in matrices],
            [previous[i] if begun[i] else None for i in matrices],
            beta1=group["betas"][0],
            gamma=group["gamma"],
        )
        used = list(grads)
        for i, gradient in zip(matrices, corrected, strict=True):
            previous[i].copy_(grads[i])
            used[i] = gradient
        return adam_updates(used, exp_avgs, exp_avg_sqs, steps, betas=group["betas"], eps=group["eps"])

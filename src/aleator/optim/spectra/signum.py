"""SPECTRA around Signum, the sign of a momentum.

    buf ← m·buf + g,    U = sign(g + m·buf) with Nesterov, else sign(buf),    X ← (1 − λη) X − α η H_c(U)

X. Jiang, A. Semenov and S. Stich, "Enhancing LLM Training via Spectral Clipping", ICML 2026, arXiv 2603.14315.
J. Bernstein et al., "signSGD: Compressed Optimisation for Non-Convex Problems", ICML 2018, arXiv 1802.04434.
"""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.optim.optimizer import ParamsT

from aleator.optim.arguments import check_fraction
from aleator.optim.spectra.clip_schedule import ClipSchedule
from aleator.optim.spectra.optimizer import SpectralOptimizer
from aleator.optim.spectra.step import SpectralOptions


def signum_updates(
    grads: list[Tensor], momentum_buffers: list[Tensor], *, momentum: float, nesterov: bool
) -> list[Tensor]:
    """Do buf ← m·buf + g in place and return sign(g + m·buf) with Nesterov, else sign(buf).

    Where that is not finite the sign is NaN.
    """
    torch._foreach_mul_(momentum_buffers, momentum)
    torch._foreach_add_(momentum_buffers, grads)
    ahead = momentum_buffers
    if nesterov:
        ahead = list(torch._foreach_mul(momentum_buffers, momentum))
        torch._foreach_add_(ahead, grads)
    signs = list(torch._foreach_sign(ahead))
    torch._foreach_add_(signs, ahead, alpha=0)  # torch's signs of NaN and infinity are 0 and 1; 0 times them is NaN
    return signs


class SpectraSignum(SpectralOptimizer):
    """Signum with the spectrum of every update clipped softly.

    Momentum starts at zero. (The authors' code starts it as a copy of the weights.)

    Args:
        params: parameters or groups of them.
        lr: η.
        momentum: m, the decay rate of the momentum buffer, which is not damped.
        nesterov: whether the sign is taken of g + momentum·buffer.
        weight_decay: λ, decoupled.
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
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.1,
        *,
        clip: float = 10.0,
        clip_schedule: ClipSchedule | None = None,
        process_group: ProcessGroup | None = None,
        **options: Unpack[SpectralOptions],
    ) -> None:
        base = {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
        super().__init__(params, base, clip, clip_schedule, process_group, options)

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        check_fraction(group, "momentum")

    def _updates(self, group: dict[str, Any], parameters: list[Tensor]) -> list[Tensor]:
        grads, buffers = self._gathered(parameters, "momentum_buffer")
        return signum_updates(grads, buffers, momentum=group["momentum"], nesterov=group["nesterov"])

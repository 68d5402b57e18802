"""SPECTRA around AdamW: the spectrum of every update is clipped softly.

    U = m̂ / (√v̂ + ε),    X ← (1 − λη) X − α η H_c(U),    α = √max(1, rows/cols)

with the running means m and v of `aleator.optim.adam`, and H_c of `aleator.optim.spectra.soft_clip`.

X. Jiang, A. Semenov and S. Stich, "Enhancing LLM Training via Spectral Clipping", ICML 2026, arXiv 2603.14315.
"""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor
from torch.distributed import ProcessGroup
from torch.optim.optimizer import ParamsT

from aleator.optim.adam import adam_updates
from aleator.optim.arguments import check_betas, check_not_negative
from aleator.optim.spectra.clip_schedule import ClipSchedule
from aleator.optim.spectra.optimizer import SpectralOptimizer
from aleator.optim.spectra.step import SpectralOptions


class SpectraAdamW(SpectralOptimizer):
    """AdamW with the spectrum of every update clipped softly.

    A matrix moves by at most α·lr·clip in the spectral norm: **tune the product clip·lr**, not ``clip`` alone. At a
    small learning rate a small ``clip`` slows training down. The authors' runs have clip·lr = 0.01 at the peak for 160M
    parameters; small models take more. Larger learning rates than AdamW's become usable.

    Everything but ``clip_schedule`` and ``process_group`` can be set per parameter group, for example
    ``apply_to="none"`` for embeddings or ``higher_dims="flatten"`` for convolutions.

    Args:
        params: parameters or groups of them.
        lr: η. As a 0-d tensor, a compiled step is not compiled again when it changes.
        betas: decay rates of the two running means; the authors use 0.8 or 0.9 for the first.
        eps: ε, added to √v̂.
        weight_decay: λ, decoupled.
        clip: c, the bound on the spectral norm of the update.
        clip_schedule: how ``clip`` moves; constant by default.
        process_group: processes with equal gradients (DDP) that share the clipping out among themselves. Sharded
            parameters (FSDP2) do so by themselves.
        options: ``apply_to``, ``scale``, ``vectors``, ``higher_dims``, ``method``, ``ns_steps`` and ``compute_dtype``,
            see `SpectralOptions`.

    Raises:
        ValueError: if an option is out of range.
        TypeError: if there is no such option, or a parameter is no real number.

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
        clip_schedule: ClipSchedule | None = None,
        process_group: ProcessGroup | None = None,
        **options: Unpack[SpectralOptions],
    ) -> None:
        base = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "capturable": True}
        super().__init__(params, base, clip, clip_schedule, process_group, options)

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        check_not_negative(group, "eps")
        check_betas(group, 2)

    def _updates(self, group: dict[str, Any], parameters: list[Tensor]) -> list[Tensor]:
        grads, steps, exp_avgs, exp_avg_sqs = self._gathered(parameters, "step", "exp_avg", "exp_avg_sq")
        return adam_updates(grads, exp_avgs, exp_avg_sqs, steps, betas=group["betas"], eps=group["eps"])

"""SPECTRA around any optimizer with decoupled weight decay, by recovering the update from the change of the weights.

    U = (X_k − X_{k+1})/η − λ X_k,    then    X ← (1 − λη) X_k − α η H_c(U)

The difference of weights loses about ε·|X|/η of U's accuracy, ε being the precision of the weights: with |X| = 1 in
float32 and η = 1e-5 that is 6e-3 for every entry, and in bfloat16 nothing is left. `SpectraAdamW` and its siblings
compute U where it arises and need no copy of the weights; this one is for the other optimizers.

X. Jiang, A. Semenov and S. Stich, "Enhancing LLM Training via Spectral Clipping", ICML 2026, arXiv 2603.14315.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.optim import Optimizer

from aleator.optim.clip_schedule import ClipSchedule
from aleator.optim.sharded_norms import local, state_dtype
from aleator.optim.spectral_step import (
    ApplyTo,
    HigherDims,
    Scale,
    SpectralOptimizer,
    Vectors,
    begin_schedule,
    check_gradient,
    check_parameter,
    check_spectral_options,
    spectral_step_,
    step_options,
)

# Of torch's optimizers, those whose weight decay multiplies the weights by 1 − λη and does nothing else. Adam, NAdam
# and RAdam say in their groups whether they do.
_DECOUPLED = (torch.optim.AdamW, torch.optim.Muon, torch.optim.Adafactor)


class Spectra(Optimizer):
    """Any optimizer with decoupled weight decay, with the spectrum of its updates clipped softly.

    The groups are those of the base optimizer, with the options of SPECTRA added: learning-rate schedulers and
    ``add_param_group`` belong to this optimizer, not to the base, whose ``step`` nobody else may call. A closure is
    evaluated once, before the base's step.

    Args:
        base: the optimizer whose updates are clipped. Its state and groups are shared.
        clip: c, the bound on the spectral norm of the update; tune the product clip·lr. As all that follows but the
            last, see `SpectraAdamW`.
        apply_to: see `SpectraAdamW`.
        scale: see `SpectraAdamW`.
        vectors: see `SpectraAdamW`.
        higher_dims: see `SpectraAdamW`.
        ns_steps: see `SpectraAdamW`.
        compute_dtype: see `SpectraAdamW`.
        clip_schedule: see `SpectraAdamW`.
        process_group: see `SpectraAdamW`.
        decay_is_decoupled: your word for an optimizer from elsewhere with weight decay. It must multiply the weights by
            1 − weight_decay·lr and leave the decay out of gradient and running means.

    Raises:
        ValueError: if an option is out of range, or the weight decay of the base is not known to be decoupled.

    Example:
        >>> model = torch.nn.Linear(3, 2)
        >>> optimizer = Spectra(torch.optim.NAdam(model.parameters(), lr=1e-2, weight_decay=0.0), clip=3.0)
    """

    def __init__(
        self,
        base: Optimizer,
        clip: float = 10.0,
        *,
        apply_to: ApplyTo = "all",
        scale: Scale = "muon",
        vectors: Vectors = "smooth",
        higher_dims: HigherDims = "stack",
        ns_steps: int = 10,
        compute_dtype: torch.dtype | None = None,
        clip_schedule: ClipSchedule | None = None,
        process_group: ProcessGroup | None = None,
        decay_is_decoupled: bool = False,
    ) -> None:
        self.base = base
        self.clip_schedule = clip_schedule
        self.process_group = process_group
        self.decay_is_decoupled = decay_is_decoupled
        defaults = {
            "clip": clip,
            "apply_to": apply_to,
            "scale": scale,
            "vectors": vectors,
            "higher_dims": higher_dims,
            "ns_steps": ns_steps,
            "compute_dtype": compute_dtype,
        }
        super().__init__(base.param_groups, defaults)
        self.state = base.state

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own, to the base optimizer as well.

        Raises:
            ValueError: if an option is out of range, or the group's weight decay is not known to be decoupled.
            TypeError: if a parameter is no real number.
            RuntimeError: if a parameter is a flat slice of several tensors, as FSDP1 makes them.
        """
        if not any(group is param_group for group in self.base.param_groups):
            self.base.add_param_group(param_group)
            param_group = self.base.param_groups[-1]
            joined = True
        else:
            joined = False
        try:
            super().add_param_group(param_group)
            try:
                self._check(param_group)
            except Exception:
                self.param_groups.pop()
                raise
        except Exception:
            if joined:
                self.base.param_groups.pop()
            raise
        begin_schedule(param_group, self.param_groups)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step; return what the closure returned.

        Raises:
            RuntimeError: if a gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        before = [
            [(p, p.detach().clone()) for p in group["params"] if p.grad is not None and _chosen(p, group)]
            for group in self.param_groups
        ]
        for pairs in before:
            for p, _ in pairs:
                check_gradient(p)
        self.base.step()
        for group, pairs in zip(self.param_groups, before, strict=True):
            if pairs and (isinstance(group["lr"], Tensor) or group["lr"] != 0):
                updates = [_recovered(p, old, group["lr"], group["weight_decay"]) for p, old in pairs]
                for p, old in pairs:
                    p.copy_(old)
                options = step_options(group, self.clip_schedule, self.process_group)
                spectral_step_([p for p, _ in pairs], updates, **options)
            group["clip_step"] += 1
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where ``state_dict`` was called; the base optimizer's state is part of it."""
        super().load_state_dict(state_dict)
        for group in self.param_groups:  # a state that an older version saved
            for name, value in self.defaults.items():
                group.setdefault(name, value)
        self.base.__setstate__({"state": self.state, "param_groups": self.param_groups})
        self.state, self.param_groups = self.base.state, self.base.param_groups

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(
            super().__getstate__(),
            base=self.base,
            clip_schedule=self.clip_schedule,
            process_group=None,
            decay_is_decoupled=self.decay_is_decoupled,
        )
        return state

    def _check(self, group: dict[str, Any]) -> None:
        group.setdefault("weight_decay", 0.0)
        check_spectral_options(group)
        if isinstance(self.base, (SpectralOptimizer, Spectra)):
            raise ValueError(f"base must not clip spectra itself, got {type(self.base).__name__}")
        known = isinstance(self.base, _DECOUPLED) or group.get("decoupled_weight_decay") is True
        if group["weight_decay"] != 0 and not known and not self.decay_is_decoupled:
            raise ValueError(
                f"base must have decoupled weight decay, got {type(self.base).__name__} with "
                f"weight_decay={group['weight_decay']}: set that to 0, or decay_is_decoupled=True if it is"
            )
        for index, parameter in enumerate(group["params"]):
            check_parameter(parameter, f"{len(self.param_groups) - 1}.{index}")
        half = sum(state_dtype(p) != p.dtype for p in group["params"])
        if half:
            warnings.warn(
                f"{half} parameters have half precision, in which the update cannot be recovered from the change of "
                "the weights: give the optimizer float32 weights, or use SpectraAdamW, SpectraSignum, SpectraAdEMAMix "
                "or SpectraMARS",
                stacklevel=5,
            )


def _chosen(parameter: Tensor, group: dict[str, Any]) -> bool:
    return group["apply_to"] == "all" or (group["apply_to"] == "matrices" and parameter.ndim >= 2)


def _recovered(parameter: Tensor, before: Tensor, lr: float | Tensor, weight_decay: float) -> Tensor:
    """Return this process's part of U = (X_k − X_{k+1})/η − λ X_k."""
    old = local(before).to(state_dtype(parameter))
    # At a rate of 0 that is a tensor, whose value is not looked at, nothing has moved and nothing will.
    rate = lr.clamp(min=1e-30) if isinstance(lr, Tensor) else lr
    return (old - local(parameter).to(old.dtype)) / rate - weight_decay * old

"""SPECTRA around any optimizer with decoupled weight decay, by recovering the update from the change of the weights.

    U = (X_k − X_{k+1})/η − λ X_k,    then    X ← (1 − λη) X_k − α η H_c(U)

The difference of weights loses about ε·|X|/η of U's accuracy, ε being the precision of the weights: with |X| = 1 in
float32 and η = 1e-5 that is 6e-3 for every entry, and in bfloat16 nothing is left. `SpectraAdamW` and its siblings
compute U where it arises and need no copy of the weights; this one is for the other optimizers.

X. Jiang, A. Semenov and S. Stich, "Enhancing LLM Training via Spectral Clipping", ICML 2026, arXiv 2603.14315.
"""

from __future__ import annotations

import inspect
import warnings
from typing import Any, Unpack, cast

import torch
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.optim import Optimizer

from aleator.optim.sharded_norms import local, state_dtype
from aleator.optim.spectra.clip_schedule import ClipSchedule
from aleator.optim.spectra.optimizer import SpectralOptimizer
from aleator.optim.spectra.step import SpectralOptions

# Of torch's optimizers, those whose weight decay multiplies the weights by 1 − λη and does nothing else. Adam, NAdam
# and RAdam say in their groups whether they do.
_DECOUPLED = (torch.optim.AdamW, torch.optim.Muon, torch.optim.Adafactor)


class Spectra(SpectralOptimizer):
    """Any optimizer with decoupled weight decay, with the spectrum of its updates clipped softly.

    The groups come from the base optimizer, with the options of SPECTRA added under the key ``"spectra"``, apart from
    the base's own: learning-rate schedulers and ``add_param_group`` belong to this optimizer, not to the base, whose
    ``step`` nobody else may call. A group that is added may have options of SPECTRA among its own, but for names that
    the base has too (``clip`` of LARS), which are the base's. A closure is evaluated once, before the base's step.
    Numbers that the base reads back in a step it reads here too: torch's AdamW, unless fused, its count of every
    parameter, SGD and Muon none.

    Args:
        base: the optimizer whose updates are clipped. Its state and groups are shared. It steps without a closure.
        clip: c, the bound on the spectral norm of the update; tune the product clip·lr.
        clip_schedule: how ``clip`` moves; constant by default.
        process_group: see `SpectraAdamW`.
        decay_is_decoupled: your word for an optimizer from elsewhere with weight decay. It must multiply the weights by
            1 − weight_decay·lr and leave the decay out of gradient and running means.
        options: see `SpectralOptions`.

    Raises:
        ValueError: if an option is out of range, the base has no learning rate or needs a closure, or its weight decay
            is not known to be decoupled.
        TypeError: if there is no such option, or a parameter is no real number.

    Example:
        >>> model = torch.nn.Linear(3, 2)
        >>> optimizer = Spectra(torch.optim.NAdam(model.parameters(), lr=1e-2, weight_decay=0.0), clip=3.0)
    """

    _kept = ("clip_schedule", "base", "decay_is_decoupled")

    def __init__(
        self,
        base: Optimizer,
        clip: float = 10.0,
        *,
        clip_schedule: ClipSchedule | None = None,
        process_group: ProcessGroup | None = None,
        decay_is_decoupled: bool = False,
        **options: Unpack[SpectralOptions],
    ) -> None:
        if isinstance(base, SpectralOptimizer):
            raise ValueError(f"base must not clip spectra itself, got {type(base).__name__}")
        if inspect.signature(base.step).parameters["closure"].default is inspect.Parameter.empty:
            raise ValueError(f"base must make its step without a closure, got {type(base).__name__}")
        self.base = base
        self.decay_is_decoupled = decay_is_decoupled
        super().__init__(base.param_groups, base.defaults, clip, clip_schedule, process_group, options)
        self.state = base.state

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own, to the base optimizer as well.

        Raises:
            ValueError: if an option is out of range, or the group's weight decay is not known to be decoupled.
            TypeError: if a parameter is no real number.
            RuntimeError: if a parameter is a flat slice of several tensors, as FSDP1 makes them.
        """
        joins = not any(group is param_group for group in self.base.param_groups)
        if joins:
            self.base.add_param_group(param_group)
        try:
            super().add_param_group(self.base.param_groups[-1] if joins else param_group)
        except Exception:
            if joins:
                self.base.param_groups.pop()
            raise

    def _defaults(self, base_options: dict[str, Any], clipping: dict[str, Any]) -> dict[str, Any]:
        return {**base_options, "spectra": clipping}

    def _clipping(self, group: dict[str, Any]) -> dict[str, Any]:
        options: dict[str, Any] = group["spectra"]
        return options

    def _with_own(self, own: dict[str, Any], saved: dict[str, Any]) -> dict[str, Any]:
        found = {name: saved[name] for name in own["spectra"] if name in saved and name not in self.base.defaults}
        # Earlier versions saved the options of SPECTRA among the base's options.
        spectra = {**own["spectra"], **found, **saved.get("spectra", {})}
        return super()._with_own(own, {name: saved[name] for name in saved if name not in found} | {"spectra": spectra})

    def _restore(self, loaded: dict[str, Any]) -> None:
        super()._restore(loaded)
        self.base.__setstate__({"state": self.state, "param_groups": self.param_groups})
        # The same groups in two lists: one that joins is appended to each.
        self.state, self.param_groups = self.base.state, list(self.base.param_groups)

    def _check_loaded(self, name: str, parameter: Tensor, state: dict[str, Any]) -> None:
        """Leave it to the base, which knows what it keeps."""

    def _loaded_dtype(self, parameter: Tensor, saved: Tensor) -> torch.dtype:
        return saved.dtype  # the base knows best

    def _check(self, group: dict[str, Any]) -> None:
        if "lr" not in group:
            raise ValueError(f"base must have a learning rate in every group, got {type(self.base).__name__} without")
        group.setdefault("weight_decay", 0.0)
        own = self._clipping(group)
        given = {name: group.pop(name) for name in own if name in group and name not in self.base.defaults}
        group["spectra"] = {**own, **given}
        super()._check(group)
        known = isinstance(self.base, _DECOUPLED) or group.get("decoupled_weight_decay") is True
        if group["weight_decay"] != 0 and not known and not self.decay_is_decoupled:
            raise ValueError(
                f"base must have decoupled weight decay, got {type(self.base).__name__} with "
                f"weight_decay={group['weight_decay']}: set that to 0, or decay_is_decoupled=True if it is"
            )

    def _begin(self, group: dict[str, Any]) -> None:
        super()._begin(group)
        half = sum(state_dtype(p) != p.dtype for p in group["params"])
        if half:
            warnings.warn(
                f"{half} parameters have half precision, in which the update cannot be recovered from the change of "
                "the weights: give the optimizer float32 weights, or use SpectraAdamW, SpectraSignum, SpectraAdEMAMix "
                "or SpectraMARS",
                stacklevel=7,
            )

    def _take_step(self) -> None:
        before = [
            [(p, p.detach().clone()) for _, p in self._trained(group) if _chosen(p, self._clipping(group))]
            for group in self.param_groups
        ]
        _step_within(self.base)
        for group, pairs in zip(self.param_groups, before, strict=True):
            if pairs and (isinstance(group["lr"], Tensor) or group["lr"] != 0):
                updates = [_recovered(p, old, group["lr"], group["weight_decay"]) for p, old in pairs]
                for p, old in pairs:
                    p.copy_(old)
                self._apply(group, [p for p, _ in pairs], updates)
            self._clipping(group)["clip_step"] += 1


def _step_within(base: Optimizer) -> None:
    """Let the base step with its own hooks: those for all optimizers are called around the step of the whole."""
    step = type(base).step
    if not getattr(step, "hooked", False):
        base.step()
        return
    for before in base._optimizer_step_pre_hooks.values():
        before(base, (), {})
    cast("Any", step).__wrapped__(base)
    base._opt_called = True  # type: ignore[attr-defined]  # a scheduler of the base asks for it
    for after in base._optimizer_step_post_hooks.values():
        after(base, (), {})


def _chosen(parameter: Tensor, options: dict[str, Any]) -> bool:
    return options["apply_to"] == "all" or (options["apply_to"] == "matrices" and parameter.ndim >= 2)


def _recovered(parameter: Tensor, before: Tensor, lr: float | Tensor, weight_decay: float) -> Tensor:
    """Return this process's part of U = (X_k − X_{k+1})/η − λ X_k."""
    old = local(before).to(state_dtype(parameter))
    # At a rate of 0 that is a tensor, whose value is not looked at, nothing has moved and nothing will.
    rate = lr.clamp(min=1e-30) if isinstance(lr, Tensor) else lr
    return (old - local(parameter).to(old.dtype)) / rate - weight_decay * old

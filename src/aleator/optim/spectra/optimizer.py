"""An optimizer whose updates are clipped in their spectrum: what all SPECTRA optimizers share.

    X ← (1 − λη) X − α η H_c(U)

Coordinate-wise optimizers bound every entry of the matrix U that they subtract and not its spectral norm, which for
entries ±1 lies anywhere between √max(m, n) and √(mn). Clipping the spectrum of U keeps their adaptivity and bounds how
far a layer can move. A base optimizer is here the function from gradients to U.

X. Jiang, A. Semenov and S. Stich, "Enhancing LLM Training via Spectral Clipping", ICML 2026, arXiv 2603.14315.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, get_args

from torch import Tensor
from torch.distributed import ProcessGroup
from torch.optim.optimizer import ParamsT

from aleator.optim.arguments import check_not_negative
from aleator.optim.layerwise import LayerwiseOptimizer
from aleator.optim.sharded_norms import local, local_gradient, state_dtype
from aleator.optim.spectra.clip_schedule import ClipSchedule
from aleator.optim.spectra.soft_clip import NamedMethod, check_clipping, check_threshold
from aleator.optim.spectra.step import (
    DEFAULT_OPTIONS,
    ApplyTo,
    HigherDims,
    SpectralOptions,
    Vectors,
    spectral_step_,
)


class SpectralOptimizer(LayerwiseOptimizer):
    """Base of the SPECTRA optimizers; not an optimizer by itself.

    A subclass says in `_updates` what its base optimizer would subtract.
    """

    _kept: ClassVar[tuple[str, ...]] = ("clip_schedule",)

    clip_schedule: ClipSchedule | None = None
    process_group: ProcessGroup | None = None  # cannot be copied: a copy clips everything itself, to the same numbers

    def __init__(
        self,
        params: ParamsT,
        base_options: dict[str, Any],
        clip: float,
        clip_schedule: ClipSchedule | None,
        process_group: ProcessGroup | None,
        options: SpectralOptions,
    ) -> None:
        for name in options:
            if name not in DEFAULT_OPTIONS:
                raise TypeError(f"options must be among {', '.join(DEFAULT_OPTIONS)}, got {name!r}")
        self.clip_schedule = clip_schedule
        self.process_group = process_group
        super().__init__(params, self._defaults(base_options, {"clip": clip, **DEFAULT_OPTIONS, **options}))

    def _defaults(self, base_options: dict[str, Any], clipping: dict[str, Any]) -> dict[str, Any]:
        return base_options | clipping

    def _clipping(self, group: dict[str, Any]) -> dict[str, Any]:
        """Return the part of a group that holds what SPECTRA adds to a base optimizer."""
        return group

    def _check(self, group: dict[str, Any]) -> None:
        check_not_negative(group, "lr", "weight_decay")
        options = self._clipping(group)
        check_threshold("clip", options["clip"])
        check_clipping("svd", options["ns_steps"], options["compute_dtype"])
        for name, accepted in (
            ("apply_to", get_args(ApplyTo)),
            ("scale", ("muon", None)),
            ("vectors", get_args(Vectors)),
            ("higher_dims", get_args(HigherDims)),
            ("method", get_args(NamedMethod)),  # a function could not be saved
        ):
            if options[name] not in accepted:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, accepted))}, got {options[name]!r}")

    def _begin(self, group: dict[str, Any]) -> None:
        """Give a new group the step count of the others, and its present rate, should no scheduler say more."""
        options = self._clipping(group)
        options.setdefault("clip_step", self._clipping(self.param_groups[0]).get("clip_step", 0))
        options.setdefault("base_lr", group["lr"].clone() if isinstance(group["lr"], Tensor) else group["lr"])

    def _take_step(self) -> None:
        for group in self.param_groups:
            parameters = [parameter for _, parameter in self._trained(group)]
            if parameters:
                self._apply(group, parameters, self._updates(group, parameters))
            self._clipping(group)["clip_step"] += 1

    def _updates(self, group: dict[str, Any], parameters: list[Tensor]) -> list[Tensor]:
        """Return U of each parameter, of DTensors this process's part, as tensors that nobody else holds."""
        raise NotImplementedError

    def _apply(self, group: dict[str, Any], parameters: Sequence[Tensor], updates: Sequence[Tensor]) -> None:
        """Take the step that U and a group's options stand for at its present count."""
        clipping = self._clipping(group)
        threshold = clipping["clip"]
        if self.clip_schedule is not None:
            # What a warm-up leads to: torch's OneCycleLR says so, other schedulers begin from it.
            base_lr = group.get("max_lr", group.get("initial_lr", clipping["base_lr"]))
            threshold = self.clip_schedule(threshold, clipping["clip_step"], group["lr"], base_lr)
        options: Any = {name: clipping[name] for name in DEFAULT_OPTIONS}
        spectral_step_(
            parameters,
            updates,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            threshold=threshold,
            process_group=self.process_group,
            **options,
        )

    def _gathered(self, parameters: Sequence[Tensor], *names: str) -> list[list[Tensor]]:
        """Return this process's parts of the gradients, in the state's precision, and of what of the state is named."""
        states = [self._state_of(parameter, *names) for parameter in parameters]
        grads = [local_gradient(parameter).to(state_dtype(parameter)) for parameter in parameters]
        return [grads, *([local(state[name]) for state in states] for name in names)]

"""The first layer: TrAct's gradient for its weight, and a learning rate of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from aleator.recipes.parts.checks import positive, refuse_unless
from aleator.recipes.parts.part import Act, Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from aleator.recipes.parts.run import Run

LAM = 0.1


@dataclass(frozen=True)
class Tract(Part):
    """How the first layer learns."""

    card: ClassVar[str] = "tract"

    first_layer: Literal["plain", "tract"] = "plain"
    """Whether the first layer's weight has its ordinary gradient or TrAct's."""
    tract_lam: float | None = None
    """λ of TrAct, by default 0.1; smaller is bolder."""
    first_layer_lr_ratio: float = 1.0
    """Learning rate of the first layer, of its bias too, as a multiple of lr. Not for LAMB and LARS, in which a layer's
    step follows the length of its weights."""

    def check(self) -> None:
        """Check what can be checked without data."""
        positive(self, "tract_lam", "first_layer_lr_ratio")
        refuse_unless(self.first_layer == "tract", f"first_layer {self.first_layer}", self, "tract_lam")
        optimizer = getattr(self, "optimizer", None)
        if self.first_layer_lr_ratio != 1 and optimizer in ("lamb", "lars"):
            raise ValueError(
                f"first_layer_lr_ratio must be 1 with optimizer {optimizer}, got {self.first_layer_lr_ratio}"
            )

    def applies(self, task: Any) -> tuple[bool, str]:
        """Whether the network begins with a layer that TrAct knows."""
        from aleator.experiment.model_state import unwrapped
        from aleator.nn import first_layer_group

        try:
            first_layer_group(unwrapped(task.model))
        except (ValueError, TypeError) as error:
            return False, str(error)
        return True, ""

    def arms(self) -> Sequence[Mapping[str, Any]]:
        """Return the paper's λ."""
        return [{"first_layer": "tract", "tract_lam": lam} for lam in (0.1, 0.05, 0.2)]

    def act(self, run: Run) -> Act | None:
        """Return the first layer's act."""
        return None if self.first_layer == "plain" and self.first_layer_lr_ratio == 1 else _FirstLayer(self, run)


class _FirstLayer(Act):
    """Puts TrAct around the first layer and solves for its gradient once a step."""

    def __init__(self, options: Tract, run: Run) -> None:
        from aleator.nn import TrActPreconditioner

        self._options, self._run = options, run
        self._names: set[str] = set()
        self._layers: list[Any] = []
        self._preconditioner: TrActPreconditioner | None = None

    def wrapped(self, network: nn.Module) -> nn.Module:
        from aleator.nn import TrAct, TrActPreconditioner, apply_tract, first_layer_group

        if self._options.first_layer == "tract":
            tested = getattr(self._run.options, "batch_test", "none") != "none"  # on the gradient before TrAct's
            whole = self._run.options.accumulate == 1 and self._run.processes == 1 and not tested
            lam = LAM if self._options.tract_lam is None else self._options.tract_lam
            apply_tract(network, lam=lam, reduce="local" if whole else "global")
            self._layers = [module for module in network.modules() if isinstance(module, TrAct)]
            self._preconditioner = TrActPreconditioner(network)
        if self._options.first_layer_lr_ratio != 1:
            chosen = {id(parameter) for parameter in first_layer_group(network)[0]["params"]}
            self._names = {name for name, parameter in network.named_parameters() if id(parameter) in chosen}
        return network

    def lr_ratio(self, name: str) -> float:
        return self._options.first_layer_lr_ratio if name in self._names else 1.0

    def transform(self) -> None:
        if self._preconditioner is not None:
            self._preconditioner.step()

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Leave ordinary layers in the block, whose passes are not those of a step."""
        for layer in self._layers:
            layer.plain = True
        try:
            yield
        finally:
            for layer in self._layers:
                layer.plain = False

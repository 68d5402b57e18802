"""A running mean of the weights beside the weights: evaluated in their place, and saved as a second file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aleator.recipes.parts.part import Act, Part

if TYPE_CHECKING:
    from torch import nn

    from aleator.experiment.gradient_step import GradientReport
    from aleator.recipes.parts.run import Run


@dataclass(frozen=True)
class WeightEMA(Part):
    """Evaluate a running mean of the weights."""

    ema: float | None = None
    """Decay of a running mean of the weights, such as 0.999: evaluations are of the mean, which is saved too."""

    def check(self) -> None:
        """Check what can be checked without data."""
        if self.ema is not None and not 0 <= self.ema < 1:
            raise ValueError(f"ema must be in [0, 1), got {self.ema}")
        if self.ema is not None and getattr(self, "shard", False):
            raise ValueError(f"ema cannot be used with shard, got {self.ema}")

    def arms(self) -> Sequence[Mapping[str, Any]]:
        """Return usual decays."""
        return [{"ema": 0.99}, {"ema": 0.999}]

    def act(self, run: Run) -> Act | None:
        """Return the mean's act."""
        return None if self.ema is None else _Mean(self.ema)


class _Mean(Act):
    def __init__(self, decay: float) -> None:
        self._decay = decay
        self._network: nn.Module | None = None
        self._average: Any = None

    def started(self, task: Any) -> None:
        """All parts have wrapped the network by now, and it is on its device: the mean begins with its weights."""
        from aleator.experiment.model_state import unwrapped
        from aleator.optim import weight_ema

        self._network = unwrapped(task.model)
        self._average = weight_ema(self._network, self._decay)

    def after_step(self, report: GradientReport) -> None:
        if report.stepped:
            self._average.update_parameters(self._network)

    def evaluated(self, model: nn.Module) -> nn.Module:
        mean: nn.Module = self._average.module
        for own, last in zip(mean.buffers(), self._network.buffers(), strict=True):  # type: ignore[union-attr]
            own.copy_(last)
        return mean.train(model.training)

    def saved(self) -> Mapping[str, nn.Module]:
        return {"model-ema": self._average.module}

    def state_dict(self) -> dict[str, Any]:
        return {"average": self._average.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._average.load_state_dict(state["average"])

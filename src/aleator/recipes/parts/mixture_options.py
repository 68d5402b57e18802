"""Options of recipes with several domains: in what proportion these are shown, and how that changes.

A recipe inherits them; what they mean is built by `aleator.recipes.parts.mixture`. Options that only some schedules
have are None by default, which is the default of the schedule, and are refused for the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Schedule = Literal["constant", "cooldown", "auto-cooldown", "steps", "linear", "cosine", "unimax", "order-matters"]

_FALLING = ("cooldown", "auto-cooldown", "linear", "cosine")
# The schedules that have an option which others lack.
_OWNERS = {
    "temperature": ("constant", *_FALLING, "order-matters"),
    "final_temperature": _FALLING,
    "switch_at": ("cooldown", "order-matters"),
    "temperature_steps": ("steps",),
    "patience": ("auto-cooldown",),
    "max_epochs": ("unimax",),
    "low_resource": ("order-matters",),
}
# Those that have no default where they are an option at all.
_NEEDED = ("temperature_steps", "max_epochs", "low_resource")


@dataclass(frozen=True)
class MixtureOptions:
    """What a recipe with several domains has."""

    # --- in what proportion domains are shown
    temperature: float | None = None
    """Domains of n bytes are shown in proportion to n^(1/temperature): 1 is in proportion to size, a large one
    uniform. Default: 1, or 5 where the schedule changes it."""
    mixture_schedule: Schedule = "constant"
    """How the temperature moves: not at all; down at a fixed step (Cooldown) or when a domain that is shown more than
    in proportion stops improving; in given steps; in a line or a cosine. Or Unimax: as uniform as a cap on repetitions
    allows; or Order Matters: some domains only towards the end."""
    final_temperature: float | None = None
    """Where a falling temperature ends, by default 1."""
    switch_at: float | None = None
    """The fraction of the steps after which Cooldown switches, or low-resource domains join, by default 0.5."""
    temperature_steps: tuple[str, ...] | None = None
    """Of the schedule steps: FRACTION=TEMPERATURE from which fraction of the steps on which one holds, as 0=5 0.5=1."""
    patience: int | None = None
    """Evaluations in a row without improvement after which auto-cooldown switches, by default 2."""
    max_epochs: float | None = None
    """Unimax's cap: how often a domain's bytes may be seen."""
    low_resource: tuple[str, ...] | None = None
    """The domains that Order Matters leaves out at first."""
    allocation: Literal["quota", "iid"] = "quota"
    """Every batch holds a domain's share of windows, rounded so that it is exact in the long run; or every window draws
    its domain by itself."""
    weighting: Literal["sampling", "scalarization"] = "sampling"
    """Show domains in these proportions; or show them in proportion to size and weigh their losses instead."""
    normalize: Literal["batch", "weights"] | None = None
    """Divide a weighted loss by the batch, which is unbiased and the default, or by the sum of the batch's weights."""

    def check_mixture(self) -> None:
        """Check what can be checked without data.

        Raises:
            ValueError: naming the option, the value got and the values accepted.
        """
        chosen = self.mixture_schedule
        for name, owners in _OWNERS.items():
            value = getattr(self, name)
            if value is not None and chosen not in owners:
                raise ValueError(f"{name} must be left out with mixture_schedule {chosen}, got {_shown(value)}")
            if not value and chosen in owners and name in _NEEDED:
                raise ValueError(f"{name} must be given with mixture_schedule {chosen}, got {_shown(value)}")
        for name in ("temperature", "final_temperature", "max_epochs", "patience"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {value}")
        if self.switch_at is not None and not 0 <= self.switch_at <= 1:
            raise ValueError(f"switch_at must be in [0, 1], got {self.switch_at}")
        if self.normalize is not None and self.weighting == "sampling":
            raise ValueError(f"normalize must be left out with weighting sampling, got {self.normalize}")
        if self.temperature_steps is not None:
            self.steps_of_temperature()

    def steps_of_temperature(self) -> list[tuple[float, float]]:
        """Return the pairs (fraction, temperature) of ``temperature_steps``.

        Raises:
            ValueError: if a word is not such a pair.
        """
        pairs = []
        for word in self.temperature_steps or ():
            fraction, _, temperature = word.partition("=")
            try:
                pairs.append((float(fraction), float(temperature)))
            except ValueError:
                raise ValueError(f"temperature_steps must be written FRACTION=TEMPERATURE, got {word!r}") from None
        return pairs

    def of_several_domains(self) -> dict[str, object]:
        """Return the options that were given and mean nothing where there is one domain."""
        names = (*_OWNERS, "mixture_schedule", "weighting")
        usual = (None, "constant", "sampling")
        return {name: value for name in names if (value := getattr(self, name)) not in usual}


def _shown(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) and value else str(value or None)

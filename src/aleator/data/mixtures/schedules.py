"""Schedules for the proportions of a mixture during training.

Cooldown trains at a high temperature first, where small domains learn fast, and in proportion to size afterwards,
before they are overfitted:

    τ(t) = high for t < ⌊at·T⌋, low from there on            (steps t count from 0)

It switches once, abruptly; in the paper several smaller steps did worse. `AutoCooldown` is ours: it finds the switch
from validation losses. The others are the paper's baselines, and what people use otherwise.

T. Li et al., "Upsample or Upweight?", NAACL 2025, arXiv 2410.04579, section 4 (Cooldown). H. W. Chung et al., "UniMax:
Fairer and More Effective Language Sampling for Large-Scale Multilingual Pretraining", ICLR 2023, arXiv 2304.09151.
D. Choi et al., "Order Matters in the Presence of Dataset Imbalance for Multilingual Learning", NeurIPS 2023,
arXiv 2312.06134.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from aleator.data.mixtures.temperature import Array, Vector, checked_temperature, temperature_probabilities
from aleator.data.shares import floor_share

Sizes = Mapping[str, float]


class MixtureSchedule(ABC):
    """Probabilities of the domains as a function of the step."""

    @abstractmethod
    def probabilities(self, sizes: Sizes, step: int, total_steps: int) -> Array:
        """Return the probabilities of the domains, in the order of ``sizes``, at a step counted from 0."""

    def changes(self, total_steps: int) -> tuple[int, ...] | None:
        """Return the steps, in order, at which probabilities change, or None if that may be any step."""
        return ()


class TemperatureSchedule(MixtureSchedule):
    """A temperature as a function of the step."""

    @abstractmethod
    def temperature(self, step: int, total_steps: int) -> float:
        """Return τ at a step."""

    def probabilities(self, sizes: Sizes, step: int, total_steps: int) -> Array:
        """Return `temperature_probabilities` at the temperature of the step."""
        return temperature_probabilities(tuple(sizes.values()), self.temperature(step, total_steps))


class TemperatureSteps(TemperatureSchedule):
    """Temperatures that hold from given fractions of the training on: ``[(0, 5), (0.5, 1)]`` is Cooldown.

    Args:
        steps: pairs (fraction in [0, 1], τ), by rising fraction, the first at 0. A temperature holds from step
            ⌊fraction·T⌋ on.

    Raises:
        ValueError: if the pairs are not such.
    """

    def __init__(self, steps: Sequence[tuple[float, float]]) -> None:
        self.steps = [(checked_fraction("fraction", at), checked_temperature(tau)) for at, tau in steps]
        fractions = [at for at, _ in self.steps]
        if not fractions or fractions[0] != 0 or any(a >= b for a, b in itertools.pairwise(fractions)):
            raise ValueError(f"steps must begin with fraction 0 and rise, got fractions {fractions}")

    def temperature(self, step: int, total_steps: int) -> float:
        """Return τ at a step."""
        return [tau for at, tau in self.steps if step >= floor_share(at, total_steps)][-1]

    def changes(self, total_steps: int) -> tuple[int, ...]:
        """Return the steps at which the temperature changes."""
        return tuple(floor_share(at, total_steps) for at, _ in self.steps[1:])


class Cooldown(TemperatureSteps):
    """A high temperature up to a fraction of the training, a low one from there on (the paper's section 4).

    Args:
        high: τ before the switch.
        low: τ from step ⌊at·T⌋ on.
        at: the fraction, in [0, 1].

    Raises:
        ValueError: if a value is out of range.
    """

    def __init__(self, high: float = 5.0, low: float = 1.0, at: float = 0.5) -> None:
        super().__init__([(0.0, high), (at, low)] if checked_fraction("at", at) else [(0.0, low)])


@dataclass(frozen=True)
class AnnealedTemperature(TemperatureSchedule):
    """A temperature that moves from ``start``, at step 0, to ``end``, at the last step.

    Attributes:
        start: τ at the beginning.
        end: τ at step T − 1 and after.
        shape: ``"linear"``, or ``"cosine"``, which is flat at both ends.
        of: what moves so: ``"temperature"``, τ, or ``"inverse"``, the exponent 1/τ.

    Raises:
        ValueError: if a value is out of range.
    """

    start: float = 5.0
    end: float = 1.0
    shape: Literal["linear", "cosine"] = "linear"
    of: Literal["temperature", "inverse"] = "temperature"

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name):g}")
        if self.shape not in ("linear", "cosine"):
            raise ValueError(f'shape must be "linear" or "cosine", got {self.shape!r}')
        if self.of not in ("temperature", "inverse"):
            raise ValueError(f'of must be "temperature" or "inverse", got {self.of!r}')

    def temperature(self, step: int, total_steps: int) -> float:
        """Return τ at a step."""
        done = min(step / max(total_steps - 1, 1), 1.0)
        if self.shape == "cosine":
            done = (1 - math.cos(math.pi * done)) / 2
        if self.of == "inverse":
            return 1 / ((1 - done) / self.start + done / self.end)
        return (1 - done) * self.start + done * self.end

    def changes(self, total_steps: int) -> None:
        """Return None: it changes at every step."""
        return None


@dataclass(frozen=True)
class Unimax(MixtureSchedule):
    """As uniform as possible with no domain seen more than ``max_epochs`` times (Chung et al., Algorithm 1).

    The budget is shared out from the smallest domain up: each gets an equal part of what is left, at most its cap of
    ``max_epochs``·n_i. If the budget is above all caps together, no such mixture exists, and domains get their caps'
    proportions, that is their sizes'.

    Attributes:
        max_epochs: the cap, positive.
        budget: examples drawn in the whole training, ``total_steps * batch_size``, in the unit of the sizes.

    Raises:
        ValueError: if a value is not positive.
    """

    max_epochs: float
    budget: float

    def __post_init__(self) -> None:
        for name in ("max_epochs", "budget"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name):g}")

    def probabilities(self, sizes: Sizes, step: int, total_steps: int) -> Array:
        """Return the allocation's shares, the same at every step."""
        n = np.array(list(sizes.values()), np.float64)
        shares, left = np.zeros(len(n)), self.budget
        for visited, domain in enumerate(np.argsort(n, kind="stable")):
            shares[domain] = min(left / (len(n) - visited), self.max_epochs * n[domain])
            left -= shares[domain]
        return np.asarray(shares / shares.sum())


@dataclass(frozen=True)
class OrderMatters(MixtureSchedule):
    """High-resource domains alone first; low-resource ones join at a fraction of the training (Choi et al.).

    Attributes:
        low_resource: names of the domains that join.
        at: the fraction, in [0, 1]; they join at step ⌊at·T⌋.
        temperature: τ, of the high-resource domains before and of all domains after.

    Raises:
        ValueError: if a value is out of range; when asked, if a name is unknown or no other domain is left.
    """

    low_resource: Collection[str]
    at: float = 0.5
    temperature: float = 1.0

    def __post_init__(self) -> None:
        checked_fraction("at", self.at)
        checked_temperature(self.temperature)

    def probabilities(self, sizes: Sizes, step: int, total_steps: int) -> Array:
        """Return the probabilities at a step."""
        for name in self.low_resource:
            checked_domain(name, sizes)
        alone = step < floor_share(self.at, total_steps)
        shown = [0.0 if alone and name in self.low_resource else n for name, n in sizes.items()]
        if not any(shown):
            raise ValueError(f"low_resource must leave a domain that is not empty, got {', '.join(self.low_resource)}")
        return temperature_probabilities(shown, self.temperature)

    def changes(self, total_steps: int) -> tuple[int, ...]:
        """Return the step at which low-resource domains join."""
        return (floor_share(self.at, total_steps),)


@dataclass
class AutoCooldown(TemperatureSchedule):
    """Cooldown that switches when the first of the domains it watches stops improving.

    It is given validation losses (`DomainMixture.observe` and `MixtureSampler.observe` pass on the losses of the
    domains that are shown more than in proportion) and switches, once, when one of them has not fallen below its best
    for ``patience`` times in a row. From that step on it is Cooldown. With several processes, all must be given the
    same losses.

    Attributes:
        patience: how many losses in a row without improvement, at least 1.
        high: τ before the switch.
        low: τ from the switch on.
        min_improvement: by how much a loss must fall below the best to count, not negative.
        switch_step: the step from which ``low`` holds; None as long as it has not switched.

    Raises:
        ValueError: if a value is out of range.
    """

    patience: int
    high: float = 5.0
    low: float = 1.0
    min_improvement: float = 0.0
    switch_step: int | None = field(default=None, init=False)
    _best: dict[str, float] = field(default_factory=dict, init=False, repr=False)
    _waited: dict[str, int] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise ValueError(f"patience must be at least 1, got {self.patience}")
        if not self.min_improvement >= 0:
            raise ValueError(f"min_improvement must not be negative, got {self.min_improvement}")
        checked_temperature(self.high)
        checked_temperature(self.low)

    def temperature(self, step: int, total_steps: int) -> float:
        """Return τ at a step."""
        return self.high if self.switch_step is None or step < self.switch_step else self.low

    def changes(self, total_steps: int) -> tuple[int, ...]:
        """Return the step of the switch, once there is one."""
        return () if self.switch_step is None else (self.switch_step,)

    def observe(self, step: int, losses: Mapping[str, float]) -> bool:
        """Take note of validation losses, and say whether this was the switch.

        Args:
            step: the first step that a switch would change: the next one to be drawn.
            losses: of the domains to watch. One that is not finite is no improvement; before a domain's first finite
                one there is nothing to improve on, and nothing is counted.
        """
        if self.switch_step is not None:
            return False
        for name, loss in losses.items():
            best = self._best.get(name, math.inf)
            if math.isfinite(loss) and loss < best - self.min_improvement:
                self._best[name], self._waited[name] = float(loss), 0
            elif name in self._best:
                self._waited[name] += 1
        if max(self._waited.values(), default=0) >= self.patience:
            self.switch_step = step
        return self.switch_step is not None

    def state_dict(self) -> dict[str, Any]:
        """Return what was seen so far."""
        return {"switch_step": self.switch_step, "best": dict(self._best), "waited": dict(self._waited)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        self.switch_step = state["switch_step"]
        self._best, self._waited = dict(state["best"]), dict(state["waited"])


@dataclass(frozen=True)
class CustomSchedule(MixtureSchedule):
    """A function of the step that returns a temperature, or the probabilities themselves, such as DoReMi's.

    Raises:
        ValueError: when asked, if probabilities are not one for each domain, are negative, or do not sum to 1.
    """

    function: Callable[[int], float | Vector]

    def probabilities(self, sizes: Sizes, step: int, total_steps: int) -> Array:
        """Return the probabilities at a step."""
        value = np.asarray(self.function(step), np.float64)
        if value.ndim == 0:
            return temperature_probabilities(tuple(sizes.values()), float(value))
        if value.shape != (len(sizes),) or not (value >= 0).all() or not math.isclose(value.sum(), 1, rel_tol=1e-6):
            raise ValueError(
                f"probabilities must be {len(sizes)} numbers, not negative, that sum to 1, got {value.tolist()}"
            )
        if any(p > 0 and n == 0 for p, n in zip(value, sizes.values(), strict=True)):
            raise ValueError(f"probabilities of empty domains must be 0, got {value.tolist()}")
        return np.asarray(value / value.sum())

    def changes(self, total_steps: int) -> None:
        """Return None: it may change at every step."""
        return None


def checked_fraction(name: str, value: float) -> float:
    """Return a fraction of the training.

    Raises:
        ValueError: if it is not in [0, 1].
    """
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {value:g}")
    return float(value)


def checked_domain(name: str, known: Collection[str]) -> str:
    """Return the name of a domain.

    Raises:
        ValueError: if it is not known.
    """
    if name not in known:
        raise ValueError(f"domain must be one of {', '.join(known)}, got {name!r}")
    return name

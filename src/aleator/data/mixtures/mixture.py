"""A mixture of domains: from sizes and a schedule to the probabilities of every step, and what follows from them.

With p_i(t) = p_i(τ(t)) a training of T steps with batches of B examples sees domain i

    Σ_{t<T} B·p_i(t) / n_i        times (expected epochs).

T. Li et al., "Upsample or Upweight? Balanced Training on Heavily Imbalanced Datasets", NAACL 2025, arXiv 2410.04579.
Quotas, which remove the part of the gradient's variance that lies between domains, are ours.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from aleator.data.mixtures.allocation import Counts, iid_domains, quota_domains, quota_totals
from aleator.data.mixtures.schedules import (
    AutoCooldown,
    CustomSchedule,
    MixtureSchedule,
    TemperatureSteps,
    checked_domain,
)
from aleator.data.mixtures.temperature import Array, Vector, checked_sizes, scalarization_weights, variance_factor

Allocation = Literal["quota", "iid"]
Temperature = float | Sequence[tuple[float, float]] | MixtureSchedule | Callable[[int], float | Vector]


class DomainMixture:
    """In what proportion domains are shown, step by step.

    Arrays have one entry for each domain, in the order of ``names``. Steps count from 0 and are optimizer steps. The
    same mixture can be asked about any step at any time; only `AutoCooldown` has a state.

    Args:
        sizes: n_i by the domain's name, not negative, not all zero. An empty domain is never drawn.
        temperature: τ > 0; or pairs (fraction of the training, τ) such as ``[(0, 5), (0.5, 1)]``; or a schedule such as
            `Cooldown`; or a function of the step that returns τ or the probabilities.
        total_steps: T, at least 1.
        allocation: ``"quota"``: each batch holds B·p_i of a domain, rounded down or up so that the rest is made good in
            later batches. ``"iid"``: each slot of a batch draws its domain by itself.
        unit: what sizes are counted in, for reports: an example of a batch is taken for one of it.

    Raises:
        ValueError: if a value is out of range.

    Example:
        >>> mixture = DomainMixture({"en": 56e6, "ro": 6e5}, temperature=Cooldown(high=5.0), total_steps=60_000)
        >>> mixture.probabilities(0).round(3), mixture.probabilities(30_000).round(3)
        (array([0.712, 0.288]), array([0.989, 0.011]))
    """

    def __init__(
        self,
        sizes: Mapping[str, float],
        temperature: Temperature = 1.0,
        total_steps: int = 1,
        allocation: Allocation = "quota",
        unit: str = "examples",
    ) -> None:
        checked_sizes(tuple(sizes.values()))
        if total_steps < 1:
            raise ValueError(f"total_steps must be at least 1, got {total_steps}")
        if allocation not in ("quota", "iid"):
            raise ValueError(f'allocation must be "quota" or "iid", got {allocation!r}')
        self.sizes = dict(sizes)
        self.names = tuple(sizes)
        self.total_steps = total_steps
        self.allocation = allocation
        self.unit = unit
        self.schedule = _as_schedule(temperature)
        self.revision = 0  # grows when probabilities of steps to come have changed
        self._phases: dict[int, Array] = {}
        self.probabilities(0)

    def probabilities(self, step: int) -> Array:
        """Return p at a step.

        Raises:
            ValueError: if the step is negative, or a function gives a temperature or probabilities out of range.
        """
        if step < 0:
            raise ValueError(f"step must not be negative, got {step}")
        changes = self.schedule.changes(self.total_steps)
        if changes is None:
            return self.schedule.probabilities(self.sizes, step, self.total_steps)
        first = (0, *changes)[bisect_right(changes, step)]
        if first not in self._phases:
            self._phases[first] = self.schedule.probabilities(self.sizes, first, self.total_steps)
        return self._phases[first].copy()

    def scalarization_weights(self, step: int) -> Array:
        """Return the loss weights w that, under proportional sampling, stand for the probabilities of a step."""
        return scalarization_weights(self.probabilities(step), tuple(self.sizes.values()))

    def variance_factor(self, step: int) -> float:
        """Return F = Σ p_i·w_i at a step, see `aleator.data.mixtures.temperature`."""
        return variance_factor(self.probabilities(step), tuple(self.sizes.values()))

    def expected_epochs(self, batch_size: int, start: int = 0, stop: int | None = None) -> Array:
        """Return how often each domain is expected to be seen in steps ``start`` to ``stop − 1``, by default in all.

        Args:
            batch_size: B, in the unit of the sizes.
            start: the first step.
            stop: the step after the last; None is the end of the training.

        Returns:
            Σ_t B·p_i(t) / n_i, and 0 for empty domains.

        Raises:
            ValueError: if the batch size is below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        draws = np.zeros(len(self.names))
        for begin, end in self.phases(start, self.total_steps if stop is None else stop):
            draws += (end - begin) * batch_size * self.probabilities(begin)
        n = np.array(list(self.sizes.values()), np.float64)
        return np.divide(draws, n, out=np.zeros(len(n)), where=n > 0)

    def phases(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield ranges (first step, step after the last) of constant p that together are ``start`` to ``stop``."""
        changes = self.schedule.changes(self.total_steps)
        if changes is None:
            yield from ((step, step + 1) for step in range(start, stop))
            return
        edges = [start, *sorted({step for step in changes if start < step < stop}), stop]
        yield from ((a, b) for a, b in itertools.pairwise(edges) if a < b)

    def domains(self, start: int, stop: int, batch_size: int, key: int) -> Counts:
        """Return the domain of each slot in the batches of a range of steps, as numbers into ``names``.

        Args:
            start: the first step.
            stop: the step after the last.
            batch_size: B.
            key: where random numbers come from, see `aleator.random.derive_key`.

        Returns:
            (stop − start) × B.
        """
        draw = quota_domains if self.allocation == "quota" else iid_domains
        rows = [draw(self.probabilities(a), batch_size, a, b, key) for a, b in self.phases(start, stop)]
        return np.concatenate(rows) if len(rows) > 1 else rows[0]

    def counts(self, start: int, stop: int, batch_size: int, key: int) -> Counts:
        """Return how many examples of each domain the batches of a range of steps hold, by the arguments of `domains`.

        With quotas that takes O(K log stop) for each phase of constant p, without going through the steps.
        """
        totals = np.zeros(len(self.names), np.int64)
        for begin, end in self.phases(start, stop):
            p = self.probabilities(begin)
            if self.allocation == "quota":
                totals += quota_totals(p, batch_size, begin, end, key)
                continue
            stride = max(2**16 // batch_size, 1)
            for first in range(begin, end, stride):
                drawn = iid_domains(p, batch_size, first, min(first + stride, end), key)
                totals += np.bincount(drawn.ravel(), minlength=len(totals))
        return totals

    @property
    def upsampled(self) -> tuple[str, ...]:
        """The domains that step 0 shows more than in proportion to their size, w > 1."""
        return tuple(name for name, w in zip(self.names, self.scalarization_weights(0), strict=True) if w > 1)

    def observe(self, step: int, losses: Mapping[str, float]) -> bool:
        """Give `AutoCooldown` validation losses; losses of domains that are not `upsampled` are left out.

        Args:
            step: the first step that was not drawn yet. `MixtureSampler.observe` knows it.
            losses: validation loss by domain.

        Returns:
            Whether this was the switch. Always False with another schedule.

        Raises:
            ValueError: if a domain is unknown.
        """
        for name in losses:
            checked_domain(name, self.names)
        if not isinstance(self.schedule, AutoCooldown):
            return False
        switched = self.schedule.observe(step, {name: losses[name] for name in self.upsampled if name in losses})
        if switched:
            self._changed()
        return switched

    def state_dict(self) -> dict[str, Any]:
        """Return the state of `AutoCooldown`; empty for other schedules."""
        return self.schedule.state_dict() if isinstance(self.schedule, AutoCooldown) else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        if isinstance(self.schedule, AutoCooldown) and state:
            self.schedule.load_state_dict(state)
            self._changed()

    def _changed(self) -> None:
        self.revision += 1
        self._phases.clear()


def _as_schedule(temperature: Temperature) -> MixtureSchedule:
    if isinstance(temperature, MixtureSchedule):
        return temperature
    if callable(temperature):
        return CustomSchedule(temperature)
    if isinstance(temperature, Sequence):
        return TemperatureSteps(temperature)
    return TemperatureSteps([(0.0, float(temperature))])

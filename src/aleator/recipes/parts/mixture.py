"""Options of recipes with several domains: in what proportion these are shown, and how that changes.

A recipe with domains of its own inherits `MixtureOptions`; `Mixture` is the part of supervised recipes, whose domains
are the groups of their examples. Options that only some schedules have are None by default, which is the default of the
schedule, and are refused for the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from aleator.recipes.parts.checks import positive, refuse_unless
from aleator.recipes.parts.part import Act, Order, Part

if TYPE_CHECKING:
    from torch import Tensor

    from aleator.data import DomainMixture
    from aleator.data.mixtures.mixture import Temperature
    from aleator.recipes.parts.batch import Batch, Examples
    from aleator.recipes.parts.run import Run

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
class MixtureOptions(Part):
    """What a recipe with several domains has."""

    card: ClassVar[str] = "cooldown"

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
    allocation: Literal["quota", "iid"] | None = None
    """Every batch holds a domain's share, rounded so that it is exact in the long run, which is the default; or every
    window or example draws its domain by itself."""
    weighting: Literal["sampling", "scalarization"] = "sampling"
    """Show domains in these proportions; or show them in proportion to size and weigh their losses instead."""
    normalize: Literal["batch", "weights"] | None = None
    """Divide a weighted loss by the batch, which is unbiased and the default, or by the sum of the batch's weights."""

    def check(self) -> None:
        """Check what can be checked without data."""
        chosen = self.mixture_schedule
        for name, owners in _OWNERS.items():
            refuse_unless(chosen in owners, f"mixture_schedule {chosen}", self, name)
            if not getattr(self, name) and chosen in owners and name in _NEEDED:
                raise ValueError(f"{name} must be given with mixture_schedule {chosen}, got None")
        positive(self, "temperature", "final_temperature", "max_epochs", "patience")
        if self.switch_at is not None and not 0 <= self.switch_at <= 1:
            raise ValueError(f"switch_at must be in [0, 1], got {self.switch_at}")
        refuse_unless(self.weighting != "sampling", "weighting sampling", self, "normalize")
        if self.temperature_steps is not None:
            self.steps_of_temperature()

    def arms(self) -> Sequence[Mapping[str, Any]]:
        """Return Cooldown and what it is compared with."""
        return [{"mixture_schedule": "cooldown"}, {"temperature": 5.0}]

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
        names = (*_OWNERS, "mixture_schedule", "weighting", "allocation")
        usual = (None, "constant", "sampling")
        return {name: value for name in names if (value := getattr(self, name)) not in usual}


@dataclass(frozen=True)
class Mixture(MixtureOptions):
    """A mixture of the groups of a supervised recipe's training examples."""

    def act(self, run: Run) -> Act | None:
        """Return the mixture's act."""
        if not self.of_several_domains():
            return None
        return _MixtureAct(self, run) if self.weighting == "sampling" else _WeighingAct(self, run)


class _MixtureAct(Act):
    """Orders examples by group."""

    def __init__(self, options: Mixture, run: Run) -> None:
        if options.mixture_schedule == "auto-cooldown":
            raise ValueError("mixture_schedule auto-cooldown cannot be used without validation losses by group")
        self._options, self._run = options, run
        self._groups: Tensor | None = None

    def ordered(self, train: Examples) -> Order | None:
        import torch

        from aleator.data import MixtureSampler
        from aleator.recipes.parts.gradient_task import check_shares

        options, run = self._options, self._run
        if train.groups is None:
            raise ValueError(f"{', '.join(options.of_several_domains())} cannot be used with data that have no groups")
        check_shares(run.options.batch_size, run.accelerator)
        self._groups, names = train.groups, train.group_names
        counts = torch.bincount(train.groups, minlength=len(names)).tolist()
        batch = run.options.batch_size
        steps = run.options.total_steps(len(train))
        self._mixture = make_mixture(options, dict(zip(names, counts, strict=True)), steps, batch, "examples")
        sampler = MixtureSampler(
            dict(zip(names, counts, strict=True)),
            drawn_from(self._mixture, options),
            batch,
            generator=run.generator("data"),
            num_replicas=run.processes,
            rank=run.rank,
        )
        joined = train.groups.argsort(stable=True)  # the sampler counts through one group after the other

        def batches(_: int) -> Iterator[Tensor]:
            for indices in sampler.batches():
                yield joined[indices]

        return Order(sampler, batches, steps, steps)

    def state_dict(self) -> dict[str, Any]:
        return {"mixture": self._mixture.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._mixture.load_state_dict(state["mixture"])


class _WeighingAct(_MixtureAct):
    """Orders examples in proportion to the groups' sizes, and weighs their losses."""

    def weights(self, batch: Batch) -> Tensor:
        import torch

        assert self._groups is not None
        of_groups = torch.from_numpy(self._mixture.scalarization_weights(batch.step)).to(self._run.dtype)
        weights = of_groups[self._groups[batch.indices]].to(self._run.device)
        if self._options.normalize != "weights":
            return weights
        total: Tensor = self._run.accelerator.reduce(weights.sum(), reduction="sum")
        return weights * (batch.total / total)


def make_mixture(
    options: MixtureOptions, sizes: Mapping[str, int], total_steps: int, batch_units: int, unit: str = "bytes"
) -> DomainMixture:
    """Return the mixture that the options name.

    Args:
        options: of the recipe.
        sizes: n_i, training bytes or examples by the domain's name.
        total_steps: T.
        batch_units: bytes that are predicted in a step, or its examples.
        unit: what is counted.

    Raises:
        ValueError: if an option does not fit the domains.
    """
    if len(sizes) == 1:
        for name, value in options.of_several_domains().items():
            raise ValueError(f"{name} cannot be used with one domain, got {value}")
    for name in options.low_resource or ():
        if name not in sizes:
            raise ValueError(f"low_resource must be among the domains {', '.join(sizes)}, got {name!r}")
    from aleator.data import DomainMixture

    schedule = _schedule(options, total_steps * batch_units)
    return DomainMixture(sizes, schedule, total_steps, options.allocation or "quota", unit=unit)


def drawn_from(mixture: DomainMixture, options: MixtureOptions) -> DomainMixture:
    """Return the mixture that batches are drawn from: itself, or with weights on the loss the proportional one."""
    if options.weighting == "sampling":
        return mixture
    from aleator.data import DomainMixture

    return DomainMixture(mixture.sizes, 1.0, mixture.total_steps, mixture.allocation, mixture.unit)


def _schedule(options: MixtureOptions, budget: int) -> Temperature:
    from aleator.data import AnnealedTemperature, AutoCooldown, Cooldown, OrderMatters, Unimax

    name = options.mixture_schedule
    high = 5.0 if options.temperature is None else options.temperature
    low = 1.0 if options.final_temperature is None else options.final_temperature
    at = 0.5 if options.switch_at is None else options.switch_at
    if name == "cooldown":
        return Cooldown(high, low, at)
    if name == "auto-cooldown":
        return AutoCooldown(2 if options.patience is None else options.patience, high, low)
    if name == "steps":
        return options.steps_of_temperature()
    if name == "linear" or name == "cosine":
        return AnnealedTemperature(high, low, shape=name)
    if name == "unimax":
        assert options.max_epochs is not None  # checked with the options
        return Unimax(options.max_epochs, budget)
    constant = 1.0 if options.temperature is None else options.temperature
    return OrderMatters(options.low_resource or (), at, constant) if name == "order-matters" else constant

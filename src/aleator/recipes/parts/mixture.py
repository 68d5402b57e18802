"""What the options of a mixture mean: a `DomainMixture`; see `MixtureOptions`."""

from __future__ import annotations

from collections.abc import Mapping

from aleator.data import AnnealedTemperature, AutoCooldown, Cooldown, DomainMixture, OrderMatters, Unimax
from aleator.data.mixtures.mixture import Temperature
from aleator.recipes.parts.mixture_options import MixtureOptions


def make_mixture(
    options: MixtureOptions, sizes: Mapping[str, int], total_steps: int, batch_bytes: int
) -> DomainMixture:
    """Return the mixture that the options name.

    Args:
        options: of the recipe.
        sizes: n_i, training bytes by the domain's name.
        total_steps: T.
        batch_bytes: bytes that are predicted in a step.

    Raises:
        ValueError: if an option does not fit the domains.
    """
    if len(sizes) == 1:
        for name, value in options.of_several_domains().items():
            raise ValueError(f"{name} must be left out where there is one domain, got {value}")
    for name in options.low_resource or ():
        if name not in sizes:
            raise ValueError(f"low_resource must be among the domains {', '.join(sizes)}, got {name!r}")
    schedule = _schedule(options, total_steps * batch_bytes)
    return DomainMixture(sizes, schedule, total_steps, options.allocation, unit="bytes")


def drawn_from(mixture: DomainMixture, options: MixtureOptions) -> DomainMixture:
    """Return the mixture that batches are drawn from: itself, or with weights on the loss the proportional one."""
    if options.weighting == "sampling":
        return mixture
    return DomainMixture(mixture.sizes, 1.0, mixture.total_steps, mixture.allocation, mixture.unit)


def _schedule(options: MixtureOptions, budget: int) -> Temperature:
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

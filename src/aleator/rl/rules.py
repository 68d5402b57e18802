"""What the outputs of critics mean, for four algorithms: see `aleator.rl.learner.CriticRule`.

    STAC    one Gaussian             promise μ − βσ              likelihood
    ESTAC   two Gaussians            promise min(μ₁, μ₂)         likelihood of each
    SAC     two numbers              promise min(q₁, q₂)         ½ squared error of each
    DSAC    two of 25 quantiles      promise min by quantile     quantile Huber loss of each

The actor climbs the promise too, but for DSAC the smaller of the two means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aleator.losses import gaussian_head, gaussian_nll, quantile_huber_per_item


@dataclass(frozen=True)
class Pessimistic:
    """STAC: one critic, of the mean and the one-step spread of its target.

    Attributes:
        beta: β, one number or ``[members, 1]``.
    """

    beta: float | Tensor
    critics: int = 1
    outputs: int = 2
    zero_bias: tuple[int, ...] = (1,)

    def bootstrap(self, raws: Sequence[Tensor]) -> Tensor:
        """Return μ − βσ."""
        mean, std = self.value(raws)
        return mean - self.beta * std

    def loss(self, raws: Sequence[Tensor], target: Tensor) -> Tensor:
        """Return the negative log-likelihood of the target."""
        return gaussian_nll(raws[0], target.unsqueeze(-1)).squeeze(-1)

    def worth(self, raws: Sequence[Tensor]) -> Tensor:
        """Return μ − βσ."""
        return self.bootstrap(raws)

    def value(self, raws: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return μ and σ."""
        mean, std = gaussian_head(raws[0])
        return mean.squeeze(-1), std.squeeze(-1)


@dataclass(frozen=True)
class TwoGaussians:
    """ESTAC: the smaller of two Gaussians' means, without pessimism."""

    critics: int = 2
    outputs: int = 2
    zero_bias: tuple[int, ...] = (1,)

    def bootstrap(self, raws: Sequence[Tensor]) -> Tensor:
        """Return min(μ₁, μ₂)."""
        return torch.minimum(raws[0][..., 0], raws[1][..., 0])

    def loss(self, raws: Sequence[Tensor], target: Tensor) -> Tensor:
        """Return the sum of both negative log-likelihoods."""
        target = target.unsqueeze(-1)
        return (gaussian_nll(raws[0], target) + gaussian_nll(raws[1], target)).squeeze(-1)

    def worth(self, raws: Sequence[Tensor]) -> Tensor:
        """Return min(μ₁, μ₂)."""
        return self.bootstrap(raws)

    def value(self, raws: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the smaller mean and that Gaussian's deviation."""
        (first, first_std), (second, second_std) = (gaussian_head(raw) for raw in raws)
        mean, std = torch.minimum(first, second), torch.where(first <= second, first_std, second_std)
        return mean.squeeze(-1), std.squeeze(-1)


@dataclass(frozen=True)
class TwoNumbers:
    """SAC: the smaller of two numbers."""

    critics: int = 2
    outputs: int = 1
    zero_bias: tuple[int, ...] = ()

    def bootstrap(self, raws: Sequence[Tensor]) -> Tensor:
        """Return min(q₁, q₂)."""
        return torch.minimum(raws[0], raws[1]).squeeze(-1)

    def loss(self, raws: Sequence[Tensor], target: Tensor) -> Tensor:
        """Return the sum of both halves of the squared error."""
        target = target.unsqueeze(-1)
        return (0.5 * ((raws[0] - target).square() + (raws[1] - target).square())).squeeze(-1)

    def worth(self, raws: Sequence[Tensor]) -> Tensor:
        """Return min(q₁, q₂)."""
        return self.bootstrap(raws)

    def value(self, raws: Sequence[Tensor]) -> tuple[Tensor, None]:
        """Return min(q₁, q₂), which has no deviation."""
        return self.bootstrap(raws), None


@dataclass(frozen=True)
class TwoQuantileSets:
    """DSAC: two critics of the quantiles of the return.

    Attributes:
        outputs: N, how many quantiles.
    """

    outputs: int = 25
    critics: int = 2
    zero_bias: tuple[int, ...] = ()

    def bootstrap(self, raws: Sequence[Tensor]) -> Tensor:
        """Return the smaller of both at each quantile, ``[..., batch, N]``."""
        return torch.minimum(raws[0], raws[1])

    def loss(self, raws: Sequence[Tensor], target: Tensor) -> Tensor:
        """Return the sum of both quantile Huber losses."""
        return quantile_huber_per_item(raws[0], target) + quantile_huber_per_item(raws[1], target)

    def worth(self, raws: Sequence[Tensor]) -> Tensor:
        """Return the smaller of the two means."""
        return torch.minimum(raws[0].mean(-1), raws[1].mean(-1))

    def value(self, raws: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the smaller mean and the deviation of that critic's quantiles."""
        first, second = raws[0].mean(-1), raws[1].mean(-1)
        stds = [raw.std(-1, correction=0) for raw in raws]
        return torch.minimum(first, second), torch.where(first <= second, stds[0], stds[1])

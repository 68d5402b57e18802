"""Whether a learning rate is of use for steps along random directions: it moves the loss, does not, or diverges.

A few rounds are taken with each rate, on copies, with the same batches and directions, and the loss of held-out batches
before and after is compared in pairs. With d̄ the mean change over the batches and s its standard error,

    diverges          d̄ − 3s > 0, or a loss that is not finite
    moves             d̄ + 3s < 0
    does not move     neither: over these rounds the change is within what batches differ by
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from aleator.gradients.spsa import NonFiniteLoss, Norm, apply_scalars_, spsa
from aleator.random import Key, Kind

Verdict = Literal["moves", "does not move", "diverges"]


@dataclass(frozen=True)
class RateCheck:
    """What a learning rate did.

    Attributes:
        lr: the learning rate.
        verdict: see above.
        change: mean change of the held-out loss; not a number if a loss was not finite.
        error: its standard error.
        rounds: that were taken.
    """

    lr: float
    verdict: Verdict
    change: float
    error: float
    rounds: int

    def __str__(self) -> str:
        """Return one line."""
        return f"lr {self.lr:g} {self.verdict}: loss {self.change:+.3g} ± {self.error:.2g} after {self.rounds} rounds"


def check_rates(
    loss: Callable[[dict[str, Tensor], Any], Tensor],
    theta: dict[str, Tensor],
    batch: Callable[[int, int], Any],
    held: Sequence[Any],
    lrs: Sequence[float],
    *,
    eps: float = 1e-3,
    rounds: int = 20,
    gradients: int = 4,
    run: int = 0,
    norm: Norm = "sqrt",
    kind: Kind = "rademacher",
) -> list[RateCheck]:
    """Try learning rates, from θ, for a few rounds each. θ stays as it is.

    Costs 2 · rounds · gradients passes for each rate, and a pass for each held-out batch before and after.

    Args:
        loss: of parameters and a batch.
        theta: tensors by name.
        batch: returns the batch of a round and a gradient.
        held: batches that are only looked at, two or more.
        lrs: the rates.
        eps: of `spsa`.
        rounds: with each rate.
        gradients: in a round.
        run: of the directions' keys.
        norm: of `apply_scalars`.
        kind: of the directions.

    Raises:
        ValueError: if there are fewer than two held-out batches, the loss is not finite to begin with, or an argument
            of `spsa` is wrong.
    """
    if len(held) < 2:
        raise ValueError(f"held must have two batches or more, got {len(held)}")
    if rounds < 1 or gradients < 1:
        raise ValueError(f"rounds and gradients must be at least 1, got {rounds} and {gradients}")
    before = _losses(loss, theta, held)
    if not bool(torch.isfinite(before).all()):
        raise ValueError("the loss must be finite before the first round")
    found = []
    for lr in lrs:
        new = {name: tensor.detach().clone() for name, tensor in theta.items()}
        taken = _train(loss, new, batch, lr, eps, rounds, gradients, run, norm, kind)
        changes = _losses(loss, new, held) - before
        change, error = float(changes.mean()), float(changes.std() / math.sqrt(len(held)))
        if taken < rounds or not math.isfinite(change) or change > 3 * error:
            verdict: Verdict = "diverges"
        else:
            verdict = "moves" if change < -3 * error else "does not move"
        found.append(RateCheck(lr, verdict, change if taken == rounds else math.nan, error, taken))
    return found


@torch.no_grad()
def _losses(loss: Callable[[dict[str, Tensor], Any], Tensor], theta: dict[str, Tensor], held: Sequence[Any]) -> Tensor:
    return torch.tensor([float(loss(theta, batch)) for batch in held], dtype=torch.float64)


def _train(
    loss: Callable[[dict[str, Tensor], Any], Tensor],
    theta: dict[str, Tensor],
    batch: Callable[[int, int], Any],
    lr: float,
    eps: float,
    rounds: int,
    gradients: int,
    run: int,
    norm: Norm,
    kind: Kind,
) -> int:
    """Take the rounds in place, and return how many were taken until a loss was not finite."""
    for number in range(rounds):
        keys: list[Key] = [(run, number, 0, sample) for sample in range(gradients)]
        try:
            slopes = []
            for key in keys:
                data = batch(number, key[3])
                g = spsa(lambda t, data=data: loss(t, data), theta, None, eps, key=key, kind=kind)  # type: ignore[misc]
                slopes.append(float(g))
        except NonFiniteLoss:
            return number
        apply_scalars_(theta, slopes, None, lr, norm, keys=keys, kind=kind)
    return rounds

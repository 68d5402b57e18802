"""The loss of an hourglass, and what is worth knowing about a step.

    loss = mean of −log p(next byte) over the batch + w · mean over predictors of the mean boundary loss of their rows

The first is an average over bytes, whatever their script. With a predictor for each script the second is the mean over
the scripts in the batch; with one for all, the mean over rows, as in Dynamic Token Pooling. Everything about scripts is
known to the host and goes to the device as a few weights, so nothing is waited for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from aleator.language.language_model import check_batch, next_byte_nats
from aleator.language.routing import Scripts
from aleator.nn import binomial_boundary_loss, hinge_boundary_loss

BoundaryLoss = Literal["binomial", "hinge"]

HINGE_DEVIATIONS = 3  # FLEXITOKENS: β = α − 3σ; here σ is the binomial standard deviation √(α(1 − α)/n) of a rate


class MagnetOutput(NamedTuple):
    """What the model computed, in the order of the input.

    Attributes:
        logits: at position t for byte t + 1.
        boundaries: b, 0 or 1, with the estimator's gradient; 0 at padding.
        soft: the probability of each boundary.
    """

    logits: Float[Tensor, "rows length vocab"]
    boundaries: Float[Tensor, "rows length"]
    soft: Float[Tensor, "rows length"]


@dataclass(frozen=True)
class LossParts:
    """What the loss is made of, without gradients, as 0-d tensors that nobody has waited for.

    Attributes:
        lm: mean nats per predicted byte. Divided by ln 2 it is bits per byte.
        boundary: mean boundary loss of the rows of each script in the batch.
        rate: boundaries per position.
        probability: mean probability of a boundary.
        compression: positions per boundary; the number of positions where there is no boundary.
    """

    lm: Float[Tensor, ""]
    boundary: dict[str, Float[Tensor, ""]]
    rate: dict[str, Float[Tensor, ""]]
    probability: dict[str, Float[Tensor, ""]]
    compression: dict[str, Float[Tensor, ""]]


def hourglass_loss(
    output: MagnetOutput,
    ids: Int64[Tensor, "rows length"],
    scripts: Sequence[str],
    mask: Bool[Tensor, "rows length"] | None,
    routing: Scripts,
    boundary_loss: BoundaryLoss,
    boundary_weight: float,
) -> tuple[Float[Tensor, ""], LossParts]:
    """Return the loss and its parts; see `MagnetLM.loss_from`."""
    check_batch(ids, mask)
    if output.boundaries.shape != ids.shape:
        raise ValueError(f"ids must have the shape of output, {tuple(output.boundaries.shape)}, got {tuple(ids.shape)}")
    nats, predicted = next_byte_nats(output.logits, ids, mask)
    lm = nats.sum() / predicted.sum().clamp(min=1)
    boundaries = output.boundaries
    rate = on_device(ids.device, [routing.rates[name] for name in scripts], boundaries.dtype)
    positions = boundaries.new_full((len(ids),), ids.shape[1]) if mask is None else mask.sum(1).to(boundaries.dtype)
    if boundary_loss == "binomial":
        by_row = binomial_boundary_loss(boundaries, rate, mask)
    else:
        deviation = (rate * (1 - rate) / positions.clamp(min=1)).sqrt()
        by_row = hinge_boundary_loss(boundaries, rate, (rate - HINGE_DEVIATIONS * deviation).clamp(min=0), mask)
    routes = routing.rows_by_predictor(scripts, len(ids))
    weights = [0.0] * len(ids)
    for rows in routes.values():
        for row in rows:
            weights[row] = 1 / (len(rows) * len(routes))
    loss = lm + boundary_weight * (by_row * on_device(ids.device, weights, by_row.dtype)).sum()

    names = list(dict.fromkeys(scripts))
    member = on_device(ids.device, [[float(name == row) for row in scripts] for name in names], boundaries.dtype)
    per_row = torch.stack([by_row, boundaries.sum(1), output.soft.sum(1), positions, torch.ones_like(positions)], 1)
    losses, counts, expected, total, rows_ = (member @ per_row.detach()).unbind(1)
    columns = (losses / rows_, counts / total, expected / total, total / counts.clamp(min=1))
    named = [dict(zip(names, column.unbind(), strict=True)) for column in columns]
    return loss, LossParts(lm.detach(), *named)


def on_device(device: torch.device, values: Sequence[Any], dtype: torch.dtype | None = None) -> Tensor:
    """Return numbers of the host on the device, without waiting for it."""
    tensor = torch.tensor(values, dtype=dtype)
    if device.type == "cuda":  # a copy from ordinary memory would be waited for
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)

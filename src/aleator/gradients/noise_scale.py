"""The noise of a batch's gradient in one number.

With V the covariance of one example's gradient and ḡ the mean gradient,

    B_simple = tr V / ‖ḡ‖²

is the batch whose noise is as large as its gradient: much smaller batches are mostly noise, much larger ones waste
examples. It rises as training goes on. ‖ḡ‖² of b examples is too large by tr V/b in the mean, so that the scale comes
out below b at most.

S. McCandlish, J. Kaplan and D. Amodei, "An Empirical Model of Large-Batch Training", arXiv 1812.06162.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from aleator.gradients.example_gradients import Method, Need, example_gradients
from aleator.gradients.grad_stats import GradStats


def gradient_stats(
    model: nn.Module,
    loss_fn: Callable[[Any, Any], Tensor],
    batch: tuple[Any, Any],
    need: Sequence[Need] = ("norms", "inner"),
    method: Method = "auto",
    chunk: int | None = None,
) -> GradStats:
    """Return the numbers of the per-example gradients of a batch.

    The model is looked at in the mode that it is in; see `example_gradients`.

    Args:
        model: called with the inputs.
        loss_fn: from outputs and targets to the loss of each example.
        batch: inputs and targets, tensors or containers of them.
        need: ``"norms"``, which are always there, ``"inner"``, ``"second_moment"``.
        method: ``"ghost"``, ``"vmap"``, or ``"auto"``.
        chunk: examples whose gradients are written out at a time, where they are.

    Raises:
        ValueError: as `example_gradients`; if the batch has fewer than two examples.
    """
    found = example_gradients(
        model, lambda own, given: loss_fn(own(given[0]), given[1]), batch, need=need, method=method, chunk=chunk
    )
    square = sum(float(torch.linalg.vector_norm(g, dtype=torch.float64)) ** 2 for g in found.mean.values())
    moments = found.second_moment
    return GradStats(
        found.sq_norms,
        found.inner,
        square,
        len(found.sq_norms),
        None if moments is None else torch.cat([moments[name].double().reshape(-1) for name in moments]),
        None if moments is None else torch.cat([found.mean[name].double().reshape(-1) for name in moments]),
    )


def noise_scale(stats: GradStats) -> float:
    """Return tr V/‖ḡ‖²; infinite where the mean is zero and its examples are not, 0 where all are.

    Args:
        stats: of a batch, from `gradient_stats`.
    """
    if stats.mean_sq_norm == 0:
        return math.inf if stats.trace > 0 else 0.0
    return stats.trace / stats.mean_sq_norm

"""Scalarization: examples drawn in proportion to size, their losses multiplied by a weight of their domain.

For a batch of B examples with losses ℓ_b from domains f(b) there are two ways to normalise:

    "batch"     1/B · Σ_b w_{f(b)} ℓ_b                   unbiased for Σ_i p_i(1)·w_i·E_i[ℓ]
    "weights"   Σ_b w_{f(b)} ℓ_b / Σ_b w_{f(b)}          a weighted mean: biased in small batches, of lower variance

With w_i = p_i(τ)/p_i(1) the first has, in expectation, the gradient of temperature sampling at τ. Through clipping and
the second moments of Adam that equality does not pass.

T. Li et al., "Upsample or Upweight? Balanced Training on Heavily Imbalanced Datasets", NAACL 2025, arXiv 2410.04579,
section 2 (the first form).
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor


def scalarized_loss(
    per_example_loss: Float[Tensor, " batch"],
    domain_ids: Int[Tensor, " batch"],
    weights: Float[Tensor, " domains"],
    normalize: Literal["batch", "weights"] = "batch",
) -> Float[Tensor, ""]:
    """Return the weighted loss of a batch.

    Args:
        per_example_loss: ℓ_b, unreduced.
        domain_ids: f(b), the domain of each example, in [0, number of domains). On an accelerator the range is left
            to the device to check, because asking would make the host wait.
        weights: w_i, such as ``torch.tensor(mixture.scalarization_weights(step))``; brought to the precision of the
            sum, which is the precision of the losses and at least float32.
        normalize: ``"batch"`` divides by B, ``"weights"`` by the sum of the batch's weights. The latter is not a number
            in a batch whose weights are all zero.

    Raises:
        ValueError: if shapes do not fit, a domain is unknown, or ``normalize`` is none of the two.
    """
    if normalize not in ("batch", "weights"):
        raise ValueError(f'normalize must be "batch" or "weights", got {normalize!r}')
    if per_example_loss.ndim != 1 or per_example_loss.shape != domain_ids.shape:
        raise ValueError(
            "per_example_loss and domain_ids must have one entry for each example, "
            f"got shapes {tuple(per_example_loss.shape)} and {tuple(domain_ids.shape)}"
        )
    if weights.ndim != 1:
        raise ValueError(f"weights must have one entry for each domain, got shape {tuple(weights.shape)}")
    if domain_ids.device.type == "cpu" and not torch.compiler.is_compiling():
        for unknown in domain_ids[(domain_ids < 0) | (domain_ids >= len(weights))].tolist():
            raise ValueError(f"domain_ids must be in [0, {len(weights)}), got {unknown}")
    losses = per_example_loss.to(torch.promote_types(per_example_loss.dtype, torch.float32))
    chosen = weights.to(losses).index_select(0, domain_ids)
    total = (losses * chosen).sum()  # autocast would round the operands of a matrix product
    return total / len(losses) if normalize == "batch" else total / chosen.sum()

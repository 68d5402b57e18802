"""Synaptic scaling: the incoming weights of every cell are multiplied so that they sum to a constant.

    w_ij ← w_ij · target / Σ_k w_kj

It is the competition of the method, and its only depression: what one synapse gains, the others of its cell lose. A
cell without weights keeps none. Weights may exceed the rule's ``w_max`` until they are potentiated the next time.

Y. Hao et al., arXiv 1812.06574; the authors' program scales before every presentation.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


class SynapticScaling:
    """Scales the columns of weight matrices.

    Args:
        target: sum of every column, positive.

    Raises:
        ValueError: if the target is not positive.

    Example:
        >>> scaling = SynapticScaling(78.4)
        >>> weights = scaling(weights)
    """

    def __init__(self, target: float) -> None:
        if not target > 0:
            raise ValueError(f"target must be positive, got {target}")
        self.target = target

    @torch.no_grad()
    def __call__(self, weights: Float[Tensor, "pre post"]) -> Float[Tensor, "pre post"]:
        """Return the scaled weights; a column that sums to 0 as it was."""
        sums = weights.sum(0)
        return weights * torch.where(sums == 0, 1, self.target / sums)

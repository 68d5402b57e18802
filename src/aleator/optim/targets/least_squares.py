"""Least squares for one matrix and many right-hand sides: what an exact step of a linear model solves.

The smallest of the solutions, A⁺b = V Σ⁺ Uᵀ b, from a singular value decomposition that is made once. Rows may be
dependent, and normal equations would square the condition of badly scaled features. In float32 a decomposition moves
every singular value by about ε σ_max, which is all of the small ones: it is made in float64.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class LeastSquares:
    """The pseudo-inverse of a matrix, factored.

    Args:
        rows: A. Singular values below ε σ_max count as 0, ε being the precision of its type, to which its entries are
            known; or, if that is larger, the float64's times max(A.shape).
    """

    def __init__(self, rows: Float[Tensor, "n d"]) -> None:
        self.left, values, self.right = torch.linalg.svd(rows.double(), full_matrices=False)
        known, computed = (torch.finfo(dtype).eps for dtype in (rows.dtype, torch.float64))
        smallest = max(known, computed * max(rows.shape)) * values[:1]
        self.inverse = torch.where(values > smallest, values.reciprocal(), 0)[:, None]

    def __call__(self, wanted: Float[Tensor, "n k"]) -> Float[Tensor, "d k"]:
        """Return the smallest x with the smallest ‖Ax − b‖, for every column b, in float64."""
        solution: Tensor = self.right.mT @ (self.inverse * (self.left.mT @ wanted.to(self.left)))
        return solution


def linear_rows(inputs: Float[Tensor, ...], layer: nn.Linear) -> Float[Tensor, "n d"]:
    """Return the inputs of a layer as a matrix, in float32 at least, with a column of ones for the bias."""
    rows = inputs.reshape(-1, layer.in_features).to(torch.promote_types(layer.weight.dtype, torch.float32))
    if layer.bias is not None:
        rows = torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)
    return rows


def check_linear(model: nn.Module) -> None:
    """Check that a model is an affine function of its inputs whose parameters can all be set.

    Raises:
        TypeError: if it is not a ``torch.nn.Linear`` with its own weight, or a part of it is frozen.
    """
    if not isinstance(model, nn.Linear) or type(model).forward is not nn.Linear.forward:
        raise TypeError(f"inner 'exact' needs a torch.nn.Linear, got {type(model).__name__}")
    if not all(name in model._parameters for name in ("weight", "bias")):
        raise TypeError("inner 'exact' needs a weight and a bias that are not computed from others")
    if not all(parameter.requires_grad for parameter in model.parameters()):
        raise TypeError("inner 'exact' needs a torch.nn.Linear that learns all its parameters, got a frozen one")

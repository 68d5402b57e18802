"""Random Fourier features: a layer without trained weights whose inner products are the Gaussian kernel's on average.

    z(x) = √(2/D) cos(Wx/ℓ + b),   W ~ N(0, I) of shape (D, d),  b ~ U[0, 2π):      E z(x)·z(y) = exp(−‖x − y‖²/(2ℓ²))

The error of a pair falls as 1/√D. With ``orthogonal`` the rows of W are orthogonal in blocks of d, with the lengths
that independent ones would have: the mean is the same and the variance smaller.

A. Rahimi and B. Recht, "Random Features for Large-Scale Kernel Machines", NIPS 2007; F. Yu, A. T. Suresh, K.
Choromanski, D. Holtmann-Rice and S. Kumar, "Orthogonal Random Features", NeurIPS 2016, arXiv 1610.09072.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aleator.nn.gaussian_kernel import check_lengthscale


class RandomFourierFeatures(nn.Module):
    """Features whose inner products approximate the Gaussian kernel.

    Args:
        in_features: d, dimension of the inputs.
        num_features: D, number of features.
        lengthscale: ℓ, positive.
        orthogonal: take rows that are orthogonal in blocks.
        generator: for W and b, on the CPU; torch's global generator when None.

    Attributes:
        weight: W of shape (D, d), before the division by ℓ; a buffer.
        bias: b of shape (D,); a buffer.

    Raises:
        ValueError: if a number is out of range.
    """

    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        in_features: int,
        num_features: int,
        lengthscale: float = 1.0,
        orthogonal: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("in_features", in_features), ("num_features", num_features)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        check_lengthscale(lengthscale)
        self.in_features, self.num_features = in_features, num_features
        self.lengthscale, self.orthogonal = lengthscale, orthogonal
        rows = _orthogonal_rows if orthogonal else torch.randn
        self.register_buffer("weight", rows(num_features, in_features, generator=generator))
        self.register_buffer("bias", 2 * math.pi * torch.rand(num_features, generator=generator))

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"{self.in_features}, {self.num_features}, lengthscale={self.lengthscale}, orthogonal={self.orthogonal}"

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch features"]:
        """Return z(x)."""
        angles = nn.functional.linear(x / self.lengthscale, self.weight, self.bias)
        return math.sqrt(2 / self.num_features) * angles.cos()


def _orthogonal_rows(rows: int, columns: int, *, generator: torch.Generator | None) -> Tensor:
    """Return rows as long as normal vectors are, in blocks of uniformly distributed orthogonal directions."""
    blocks = -(-rows // columns)
    square = torch.randn(blocks, columns, columns, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(square)
    # The sign makes the factorisation unique and Q uniform (Mezzadri, Notices of the AMS 54, 2007).
    directions = (q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)).flatten(0, 1)[:rows]
    lengths = torch.randn(rows, columns, generator=generator, dtype=torch.float64).norm(dim=1, keepdim=True)
    frequencies: Tensor = lengths * directions
    return frequencies.to(torch.get_default_dtype())

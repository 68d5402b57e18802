"""A field of colours over the plane, or any space: a network of sines of random frequencies of the place.

    γ(x) = (cos 2π B x, sin 2π B x),    B ~ N(0, scale²),

and a multi-layer perceptron with rectifiers behind it, whose last layer is a sigmoid. Without γ the network learns slow
changes only; the scale decides how fine the detail is that it learns.

M. Tancik et al., Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional Domains, NeurIPS 2020,
arXiv 2006.10739.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class FourierField(nn.Module):
    """Colours in [0, 1] at places in [0, 1]ᵈ.

    Args:
        dimensions: d.
        channels: of the colour.
        features: rows of B; the network gets a sine and a cosine of each.
        scale: deviation of the frequencies, in waves over the unit interval.
        width: of the two hidden layers.
        generator: draws B. The layers are initialised by torch as usual.

    Raises:
        ValueError: naming the parameter, the value got and the values accepted.
    """

    frequencies: Tensor

    def __init__(
        self,
        dimensions: int = 2,
        channels: int = 3,
        features: int = 128,
        scale: float = 10.0,
        width: int = 128,
        *,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        sizes = {"dimensions": dimensions, "channels": channels, "features": features, "width": width}
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 < scale < math.inf:
            raise ValueError(f"scale must be positive and finite, got {scale}")
        self.register_buffer("frequencies", scale * torch.randn(features, dimensions, generator=generator))
        self.layers = nn.Sequential(
            nn.Linear(2 * features, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, channels),
            nn.Sigmoid(),
        )

    def forward(self, places: Float[Tensor, "places dimension"]) -> Float[Tensor, "places channel"]:
        """Return the colours at places."""
        with torch.autocast(places.device.type, enabled=False):  # in bfloat16 a phase would be off by a radian or two
            phase = 2 * math.pi * (places @ self.frequencies.T)
        return self.layers(torch.cat([phase.cos(), phase.sin()], 1))  # type: ignore[no-any-return]

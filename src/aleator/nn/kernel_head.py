"""A kernel machine as a layer: fixed features, and a linear map on them that any optimizer trains.

The loss is convex in the head. With squared loss and weight decay it is kernel ridge regression with the approximate
kernel; in front of it may stand a network, whose last layer it then is.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from aleator.nn.nystrom import NystromFeatures
from aleator.nn.random_fourier_features import RandomFourierFeatures


class KernelHead(nn.Module):
    """Features of a kernel and a linear map that starts at zero.

    Args:
        features: `RandomFourierFeatures` or `NystromFeatures`.
        out_features: number of outputs, at least 1.
        bias: whether the map has one.

    Raises:
        ValueError: if there is no output.
    """

    def __init__(self, features: RandomFourierFeatures | NystromFeatures, out_features: int, bias: bool = True) -> None:
        super().__init__()
        if out_features < 1:
            raise ValueError(f"out_features must be at least 1, got {out_features}")
        self.features = features
        like = features.weight if isinstance(features, RandomFourierFeatures) else features.landmarks
        # skip_init: the weights are zero, and the global generator is left alone.
        linear: nn.Linear = nn.utils.skip_init(  # type: ignore[no-untyped-call]
            nn.Linear, len(like), out_features, bias=bias, dtype=like.dtype, device=like.device
        )
        for parameter in linear.parameters():
            nn.init.zeros_(parameter)
        self.linear = linear

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch outputs"]:
        """Return the outputs."""
        return self.linear(self.features(x))  # type: ignore[no-any-return]

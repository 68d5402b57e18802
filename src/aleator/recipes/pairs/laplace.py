"""A Laplace approximation of a network's last layer: weights drawn from a normal distribution around the trained ones.

With features φ (a 1 for the bias among them), predictions p and n responses per item, the generalised Gauss-Newton
matrix of the log-likelihood in the last layer's weights W is

    H = n Σ φ φᵀ ⊗ (diag p − p pᵀ),          W ~ N(W_trained, (H + δ I)⁻¹)

The prior's precision δ is the one of a few whose mean prediction is best on validation data.

E. Daxberger et al., "Laplace Redux", NeurIPS 2021, arXiv 2106.14806.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

PRECISIONS = (0.1, 1.0, 10.0, 100.0, 1000.0)
_CHUNK = 500


class LastLayerLaplace:
    """Draws of the last layer.

    Args:
        layer: the trained last layer.
        features: of the training items, in float64.
        responses: to each of them.
        samples: number of draws.
        generator: of the draws; the same for every precision.
    """

    def __init__(
        self,
        layer: nn.Linear,
        features: Float[Tensor, "items F"],
        responses: int,
        samples: int,
        generator: torch.Generator,
    ) -> None:
        bias = layer.bias.detach().double().unsqueeze(1)
        self.trained = torch.cat([layer.weight.detach().double(), bias], 1)
        labels, size = self.trained.shape
        curvature = self.trained.new_zeros(size * size, labels * labels)
        for chunk in torch.split(with_one(features), _CHUNK):
            p = (chunk @ self.trained.T).softmax(-1)
            of_scores = torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2)
            curvature += (chunk.unsqueeze(-1) * chunk.unsqueeze(-2)).flatten(1).T @ of_scores.flatten(1)
        hessian = responses * curvature.view(size, size, labels, labels).permute(2, 0, 3, 1).reshape(
            labels * size, labels * size
        )
        self.values, self.vectors = torch.linalg.eigh(hessian)
        noise = torch.randn(len(self.values), samples, generator=generator, dtype=torch.float64)
        self.noise = noise.to(self.values.device)
        self.precision = PRECISIONS[0]

    def choose(self, features: Float[Tensor, "items F"], y1: Tensor, y2: Tensor) -> None:
        """Take the precision whose mean prediction has the lowest loss on these responses."""
        losses = {}
        for self.precision in PRECISIONS:
            mean = self.probabilities(features).mean(1).log()
            losses[self.precision] = -sum(float(mean.gather(1, y.unsqueeze(1)).mean()) for y in (y1, y2))
        self.precision = min(losses, key=losses.__getitem__)

    def probabilities(self, features: Float[Tensor, "items F"]) -> Float[Tensor, "items samples K"]:
        """Return the prediction of each draw."""
        scale = (self.values.clamp(min=0) + self.precision).rsqrt().unsqueeze(1)
        steps = (self.vectors @ (scale * self.noise)).T.view(-1, *self.trained.shape)
        return torch.einsum("nf,skf->nsk", with_one(features), self.trained + steps).softmax(-1)


def with_one(features: Tensor) -> Float[Tensor, "items F"]:
    """Return features in float64 with a 1 after them."""
    return torch.cat([features.double(), features.new_ones(len(features), 1).double()], 1)

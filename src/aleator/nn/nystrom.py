"""Nyström features: the Gaussian kernel seen from a few landmarks.

    z(x) = k(x, Z) K(Z, Z)^{−1/2}:      z(x)·z(y) = k(x, Z) K(Z, Z)^{−1} k(Z, y)

is the projection of the kernel on the span of k(·, Z); it is exact at the landmarks Z. They are centres of k-means, or
examples drawn by their ridge leverage scores lᵢ = (K(K + λnI)^{−1})ᵢᵢ, which say how much each adds to the others.

C. Williams and M. Seeger, NIPS 2000; K. Zhang, I. Tsang and J. Kwok, ICML 2008, for k-means; A. Alaoui and M. Mahoney,
NIPS 2015, arXiv 1411.0306, for leverage scores.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aleator.nn.gaussian_kernel import check_lengthscale, gaussian_kernel


class NystromFeatures(nn.Module):
    """Features whose inner products are the Gaussian kernel projected on landmarks.

    Directions of K(Z, Z) whose eigenvalue is rounding, as with landmarks that coincide, are left out.

    Args:
        landmarks: Z, at least one.
        lengthscale: ℓ, positive.

    Attributes:
        landmarks: Z; a buffer.
        root: K(Z, Z)^{−1/2}; a buffer.

    Raises:
        ValueError: if there is no landmark, one is not finite, or the lengthscale is not positive.
    """

    landmarks: Tensor
    root: Tensor

    def __init__(self, landmarks: Float[Tensor, "m d"], lengthscale: float = 1.0) -> None:
        super().__init__()
        check_lengthscale(lengthscale)
        if not landmarks.numel() or not bool(landmarks.isfinite().all()):
            raise ValueError(f"landmarks must be finite and at least one, got shape {tuple(landmarks.shape)}")
        self.lengthscale = lengthscale
        self.register_buffer("landmarks", landmarks.detach().clone())
        values, vectors = torch.linalg.eigh(gaussian_kernel(landmarks.double(), landmarks.double(), lengthscale))
        floor = values[-1] * len(landmarks) * torch.finfo(landmarks.dtype).eps
        scale = torch.where(values > floor, values.clamp(min=floor).rsqrt(), 0)
        self.register_buffer("root", ((vectors * scale) @ vectors.T).to(landmarks.dtype))

    @classmethod
    def kmeans(
        cls, x: Float[Tensor, "n d"], num_landmarks: int, lengthscale: float = 1.0, *, generator: torch.Generator
    ) -> NystromFeatures:
        """Take the centres of scikit-learn's k-means of the examples as landmarks.

        Raises:
            ValueError: if there are fewer examples than landmarks, or as the constructor.
        """
        _check_number(num_landmarks, x)
        from sklearn.cluster import KMeans

        seed = int(torch.randint(2**31 - 1, (), generator=generator, device=generator.device))
        centres = KMeans(num_landmarks, n_init=1, random_state=seed).fit(x.detach().cpu().numpy()).cluster_centers_
        return cls(torch.as_tensor(centres, dtype=x.dtype, device=x.device), lengthscale)

    @classmethod
    def leverage(
        cls,
        x: Float[Tensor, "n d"],
        num_landmarks: int,
        lengthscale: float = 1.0,
        *,
        lam: float = 1e-3,
        generator: torch.Generator,
    ) -> NystromFeatures:
        """Draw landmarks from the examples, without replacement, by their ridge leverage scores; O(n³).

        Args:
            x: examples.
            num_landmarks: at most as many.
            lengthscale: ℓ.
            lam: λ of the ridge regression that the features are for.
            generator: for the draw, on the device of the examples.

        Raises:
            ValueError: if there are fewer examples than landmarks, or an argument is out of range.
        """
        _check_number(num_landmarks, x)
        scores = leverage_scores(gaussian_kernel(x.double(), x.double(), lengthscale), lam)
        return cls(x[torch.multinomial(scores, num_landmarks, generator=generator)], lengthscale)

    def extra_repr(self) -> str:
        """Return the size and ℓ."""
        count, dimension = self.landmarks.shape
        return f"{count} landmarks of dimension {dimension}, lengthscale={self.lengthscale}"

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch features"]:
        """Return z(x)."""
        return (
            gaussian_kernel(x.reshape(-1, x.shape[-1]), self.landmarks, self.lengthscale)
            .matmul(self.root)
            .view(*x.shape[:-1], -1)
        )


def leverage_scores(kernel: Float[Tensor, "n n"], lam: float) -> Float[Tensor, " n"]:
    """Return the diagonal of K(K + λnI)^{−1}, between 0 and 1.

    Raises:
        ValueError: if λ is not positive.
    """
    if not 0 < lam < math.inf:
        raise ValueError(f"lam must be positive and finite, got {lam}")
    values, vectors = torch.linalg.eigh(kernel)
    values = values.clamp(min=0)
    scores: Tensor = (vectors.square() * (values / (values + lam * len(kernel)))).sum(1)
    return scores


def _check_number(num_landmarks: int, x: Tensor) -> None:
    if not 1 <= num_landmarks <= len(x):
        raise ValueError(f"num_landmarks must be in [1, {len(x)}], the number of examples, got {num_landmarks}")

"""What the per-example gradients of a batch have in sum: all that tests of the batch size look at.

With g_i the gradients of s examples that were looked at, out of a batch of b ≥ s with mean gradient ḡ:

    tr V = (Σ‖g_i‖² − s‖g̃‖²)/(s − 1),   g̃ the mean of the s;   unbiased for every s, and g̃ = ḡ for s = b
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float64
from torch import Tensor


@dataclass(frozen=True)
class GradStats:
    """Numbers of the per-example gradients of a batch, in double precision.

    Attributes:
        sq_norms: ‖g_i‖² of the examples that were looked at.
        inner: ⟨g_i, ḡ⟩ of the same, or None.
        mean_sq_norm: ‖ḡ‖², of the whole batch.
        n: b, the examples of the whole batch.
        second_moment: the mean of g_i² for each coordinate, or None.
        mean: ḡ, or None.
        sub_mean: g̃ where it is not ḡ.
        sub_mean_sq_norm: ‖g̃‖² where it is not ‖ḡ‖².

    Raises:
        ValueError: if there are fewer than 2 examples, or shapes do not fit.
    """

    sq_norms: Float64[Tensor, " examples"]
    inner: Float64[Tensor, " examples"] | None
    mean_sq_norm: float
    n: int
    second_moment: Float64[Tensor, " d"] | None = None
    mean: Float64[Tensor, " d"] | None = None
    sub_mean: Float64[Tensor, " d"] | None = None
    sub_mean_sq_norm: float | None = None

    def __post_init__(self) -> None:
        """Check the sizes."""
        if len(self.sq_norms) < 2:
            raise ValueError(f"sq_norms must be of 2 examples or more, got {len(self.sq_norms)}")
        if self.inner is not None and self.inner.shape != self.sq_norms.shape:
            raise ValueError(f"inner must be of {len(self.sq_norms)} examples, got {len(self.inner)}")
        if self.n < len(self.sq_norms):
            raise ValueError(f"n must be at least {len(self.sq_norms)}, the examples looked at, got {self.n}")

    @property
    def trace(self) -> float:
        """Tr V, the variance of one example's gradient over all coordinates; unbiased."""
        s = len(self.sq_norms)
        of_mean = self.mean_sq_norm if self.sub_mean_sq_norm is None else self.sub_mean_sq_norm
        total = float(self.sq_norms.double().sum()) - s * of_mean
        return 0.0 if total < 0 else total / (s - 1)  # rounding; a NaN stays one

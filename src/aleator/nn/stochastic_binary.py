"""Random bits with a gradient: straight-through, its relaxed and second-order forms, and stochastic times smooth.

A unit with pre-activation a and p = σ(a) is on where a uniform u is below its probability. Forwards and backwards:

    bernoulli_st           h = 1[u < p]                    dh/da := p(1 − p), or 1
    relaxed_bernoulli_st   h = 1[u < p]                    dh/da := s(1 − s)/τ with s = σ((a − logit u)/τ)
    reinmax_bernoulli      h = 1[u < p]                    dh/da := |h − p|/2
    sts                    h = 1[u < p^r] · p^(1−r)        dh/da of the smooth factor alone

All are biased, except where the loss is linear in h (straight-through with p(1 − p), and sts when rescaled) or
quadratic (reinmax). The derivatives are made of ordinary torch operations, so that they can be compiled and derived
again.

Y. Bengio, N. Léonard, A. Courville, arXiv 1308.3432, section 3; E. Jang, S. Gu, B. Poole, "Categorical
Reparameterization with Gumbel-Softmax", arXiv 1611.01144; L. Liu, C. Dong, X. Liu, B. Yu, J. Gao, "Bridging Discrete
and Backpropagation: Straight-Through and Beyond", arXiv 2304.08612.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from aleator.nn.gate_estimator import GateEstimator, in_full_precision, uniforms


def bernoulli_st(
    logits: Float[Tensor, "*units"],
    grad: Literal["sigmoid", "identity"] = "sigmoid",
    *,
    generator: torch.Generator | None = None,
    noise: Float[Tensor, "*units"] | None = None,
) -> Float[Tensor, "*units"]:
    """Return Bernoulli(σ(a)) bits whose gradient goes straight through.

    Args:
        logits: a.
        grad: ``"sigmoid"`` multiplies the gradient by p(1 − p); ``"identity"`` passes it on as it is, which does not
            vanish where p is near 0 or 1 and wants a smaller learning rate.
        generator: see `GateEstimator`.
        noise: uniforms; a bit is 1 where they are below p. The paper's equation 3 has the opposite sign, its proofs
            and code have this one.

    Raises:
        ValueError: if a logit is not finite, ``grad`` unknown or the noise of another shape.
        TypeError: if the logits are not of a floating-point type.
    """
    _check_choice("grad", grad, "sigmoid", "identity")
    a = in_full_precision(logits)
    p = a.sigmoid()
    bits = uniforms(a, generator, noise) < p
    return _straight_through(bits, p if grad == "sigmoid" else a).to(logits.dtype)


def relaxed_bernoulli_st(
    logits: Float[Tensor, "*units"],
    temperature: float = 0.5,
    *,
    generator: torch.Generator | None = None,
    noise: Float[Tensor, "*units"] | None = None,
) -> Float[Tensor, "*units"]:
    """Return Bernoulli(σ(a)) bits with the gradient of s = σ((a − logit u)/τ), of which they are the rounded values.

    Args:
        logits: a.
        temperature: τ. It changes the gradient and not the bits: s > ½ where u < p.
        generator: see `GateEstimator`.
        noise: uniforms u.

    Raises:
        ValueError: if a logit is not finite, the temperature not positive or the noise of another shape.
        TypeError: if the logits are not of a floating-point type.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    a = in_full_precision(logits)
    u = uniforms(a, generator, noise)
    soft = ((a - u.logit()) / temperature).sigmoid()
    return _straight_through(u < a.sigmoid(), soft).to(logits.dtype)


def reinmax_bernoulli(
    logits: Float[Tensor, "*units"],
    *,
    generator: torch.Generator | None = None,
    noise: Float[Tensor, "*units"] | None = None,
) -> Float[Tensor, "*units"]:
    """Return Bernoulli(σ(a)) bits with ReinMax's gradient, right in the mean for a loss quadratic in them.

    The published factor 2q(1 − q) − p(1 − p)/2, with q = (p + h)/2, is (1 − p)/2 for a bit that is 1 and p/2 for one
    that is 0: the derivatives of log σ(a)/2 and of −log σ(−a)/2.

    Args:
        logits: a.
        generator: see `GateEstimator`.
        noise: uniforms; a bit is 1 where they are below p.

    Raises:
        ValueError: if a logit is not finite or the noise of another shape.
        TypeError: if the logits are not of a floating-point type.
    """
    a = in_full_precision(logits)
    bits = uniforms(a, generator, noise) < a.sigmoid()
    path = torch.where(bits, F.logsigmoid(a), -F.logsigmoid(-a)) / 2
    return _straight_through(bits, path).to(logits.dtype)


def sts(
    logits: Float[Tensor, "*units"],
    ratio: float = 0.5,
    *,
    sample_from: Literal["sqrt", "p"] = "sqrt",
    rescale: bool = False,
    generator: torch.Generator | None = None,
    noise: Float[Tensor, "*units"] | None = None,
) -> Float[Tensor, "*units"]:
    """Return stochastic times smooth: 1[u < p^r] p^(1−r), whose mean is p.

    Its gradient, b·(1 − r)·p^(1−r)·(1 − p), has on the average a share 1 − r of the derivative of that mean: one half
    by default.

    Args:
        logits: a.
        ratio: r in [0, 1], how much of p is stochastic; 0 is a sigmoid, 1 a bit without a gradient.
        sample_from: ``"p"`` takes u < p, as the authors' program does by mistake; the mean is then p^(2−r).
        rescale: divide the gradient by 1 − r.
        generator: see `GateEstimator`.
        noise: uniforms u.

    Raises:
        ValueError: if a logit is not finite, the ratio outside [0, 1], or 1 where it is to be rescaled, ``sample_from``
            unknown or the noise of another shape.
        TypeError: if the logits are not of a floating-point type.
    """
    _check_ratio(ratio, rescale)
    _check_choice("sample_from", sample_from, "sqrt", "p")
    a = in_full_precision(logits)
    # √σ(a) has no slope where σ(a) is 0; as a function of a it has one everywhere.
    log_p = F.logsigmoid(a)
    on = uniforms(a, generator, noise) < (log_p * (ratio if sample_from == "sqrt" else 1.0)).exp()
    gates = torch.where(on, (log_p * (1 - ratio)).exp(), 0)
    if rescale:
        gates = gates.detach() + (gates - gates.detach()) / (1 - ratio)
    return gates.to(logits.dtype)


@dataclass(frozen=True)
class BernoulliST(GateEstimator):
    """`bernoulli_st` as an object."""

    grad: Literal["sigmoid", "identity"] = "sigmoid"

    def __post_init__(self) -> None:
        _check_choice("grad", self.grad, "sigmoid", "identity")

    def __call__(
        self,
        logits: Float[Tensor, "*units"],
        *,
        generator: torch.Generator | None = None,
        noise: Float[Tensor, "*units"] | None = None,
    ) -> Float[Tensor, "*units"]:
        """See `bernoulli_st`."""
        return bernoulli_st(logits, self.grad, generator=generator, noise=noise)


@dataclass(frozen=True)
class RelaxedBernoulliST(GateEstimator):
    """`relaxed_bernoulli_st` as an object."""

    temperature: float = 0.5

    discrete: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")

    def __call__(
        self,
        logits: Float[Tensor, "*units"],
        *,
        generator: torch.Generator | None = None,
        noise: Float[Tensor, "*units"] | None = None,
    ) -> Float[Tensor, "*units"]:
        """See `relaxed_bernoulli_st`."""
        return relaxed_bernoulli_st(logits, self.temperature, generator=generator, noise=noise)


@dataclass(frozen=True)
class ReinMaxBernoulli(GateEstimator):
    """`reinmax_bernoulli` as an object."""

    def __call__(
        self,
        logits: Float[Tensor, "*units"],
        *,
        generator: torch.Generator | None = None,
        noise: Float[Tensor, "*units"] | None = None,
    ) -> Float[Tensor, "*units"]:
        """See `reinmax_bernoulli`."""
        return reinmax_bernoulli(logits, generator=generator, noise=noise)


@dataclass(frozen=True)
class STS(GateEstimator):
    """`sts` as an object."""

    ratio: float = 0.5
    sample_from: Literal["sqrt", "p"] = "sqrt"
    rescale: bool = False

    binary: ClassVar[bool] = False
    gradient_when_off: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_ratio(self.ratio, self.rescale)
        _check_choice("sample_from", self.sample_from, "sqrt", "p")

    def __call__(
        self,
        logits: Float[Tensor, "*units"],
        *,
        generator: torch.Generator | None = None,
        noise: Float[Tensor, "*units"] | None = None,
    ) -> Float[Tensor, "*units"]:
        """See `sts`."""
        return sts(
            logits,
            self.ratio,
            sample_from=self.sample_from,
            rescale=self.rescale,
            generator=generator,
            noise=noise,
        )

    def probability(self, logits: Float[Tensor, "*units"]) -> Float[Tensor, "*units"]:
        """Return p^r, or p where that is sampled."""
        return (F.logsigmoid(logits) * (self.ratio if self.sample_from == "sqrt" else 1.0)).exp()

    def magnitude(self, logits: Float[Tensor, "*units"]) -> Float[Tensor, "*units"]:
        """Return p^(1−r)."""
        return (F.logsigmoid(logits) * (1 - self.ratio)).exp()


def _straight_through(bits: Tensor, path: Tensor) -> Tensor:
    # The difference is exactly 0: the values come from the bits, the derivatives from the path.
    return bits.to(path.dtype) + (path - path.detach())


def _check_ratio(ratio: float, rescale: bool) -> None:
    if not 0 <= ratio <= 1:
        raise ValueError(f"ratio must be in [0, 1], got {ratio}")
    if rescale and ratio == 1:
        raise ValueError("ratio must be below 1 where the gradient is rescaled, got 1")


def _check_choice(name: str, value: str, *accepted: str) -> None:
    if value not in accepted:
        raise ValueError(f"{name} must be {' or '.join(map(repr, accepted))}, got {value!r}")

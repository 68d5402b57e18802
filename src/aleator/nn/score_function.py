"""Unbiased gradients of bits: REINFORCE with the baseline of least variance, and its relatives of several evaluations.

A loss L depends on bits h ~ Bernoulli(p), p = σ(a). Without a derivative of L, for any constant b,

    ∂E[L]/∂a = E[(h − p)(L − b)],    and the variance is least for b = E[(h − p)² L] / E[(h − p)²],

one number per unit. The score h − p is the derivative of the log-probability of the outcome, log p or log(1 − p), and
(h − p)² is (1 − e^that)². Evaluating L more than once lowers the variance further:

    rloo      1/(K−1) Σ (h_k − p)(L_k − L̄)                        K independent samples
    arm       (L(h̃) − L(h))(u − ½)                                h = 1[u < p], h̃ = 1[u > 1 − p]
    disarm    ½ (L(h) − L(h̃)) (−1)^h̃ 1[h ≠ h̃] σ(|a|)              its mean over u given h and h̃

Y. Bengio, N. Léonard, A. Courville, arXiv 1308.3432, section 3.2; W. Kool, H. van Hoof, M. Welling, "Buy 4 REINFORCE
Samples, Get a Baseline for Free!", 2019; M. Yin, M. Zhou, "ARM", arXiv 1807.11143; Z. Dong, A. Mnih, G. Tucker,
"DisARM", arXiv 2006.10680.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from aleator.nn.full_precision import FullPrecisionBuffers, at_least_float32
from aleator.nn.gate_estimator import GateEstimator, in_full_precision, uniforms
from aleator.nn.global_mean import global_mean

# A loss as a function of bits: one number for every row of them.
Losses = Callable[[Tensor], Tensor]


class MinVarianceBaseline(FullPrecisionBuffers):
    """The baseline of least variance, unit by unit, as the quotient of two running means.

    What was seen up to the batch before is subtracted: a baseline that knows the sample makes the gradient biased.
    Where there is a process group, the means are over all processes.

    Args:
        n_units: number of units.
        momentum: of the running means, in [0, 1).
        dtype: of the running means, float32 at least.

    Raises:
        ValueError: if there is no unit or the momentum is out of range.
    """

    numerator: Tensor
    denominator: Tensor

    def __init__(self, n_units: int, momentum: float = 0.9, *, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        if n_units < 1:
            raise ValueError(f"n_units must be at least 1, got {n_units}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}")
        self.momentum = momentum
        # As in the authors' program: the first baseline is 1, and is forgotten with the first batch.
        for name in ("numerator", "denominator"):
            self.register_buffer(name, torch.full((n_units,), 1e-6, dtype=at_least_float32(dtype)))

    @property
    def value(self) -> Float[Tensor, " units"]:
        """The baseline of each unit."""
        # The means of a unit whose probability is 0 or 1 fade away; their quotient must not become 0/0.
        return self.numerator / self.denominator.clamp(min=torch.finfo(self.denominator.dtype).tiny)

    @torch.no_grad()
    def update(self, loss_per_example: Float[Tensor, "*batch"], score: Float[Tensor, "*batch units"]) -> None:
        """Take the losses of a batch and the scores of its samples into the running means."""
        square = torch.expm1(score).square()
        weighted = square * loss_per_example[..., None]
        batch = torch.stack([weighted, square], dim=-2).flatten(end_dim=-3)
        numerator, denominator = global_mean(batch).to(self.numerator.dtype).unbind()
        self.numerator.lerp_(numerator, 1 - self.momentum)
        self.denominator.lerp_(denominator, 1 - self.momentum)


@dataclass(frozen=True)
class BernoulliReinforce(GateEstimator):
    """Bits without a gradient of their own, and the score from which `surrogate` makes one: `bernoulli_reinforce`."""

    gradient_when_off: ClassVar[bool] = False

    def __call__(
        self,
        logits: Float[Tensor, "*units"],
        *,
        generator: torch.Generator | None = None,
        noise: Float[Tensor, "*units"] | None = None,
    ) -> Float[Tensor, "*units"]:
        """Return the bits alone."""
        a = in_full_precision(logits.detach())
        return (uniforms(a, generator, noise) < a.sigmoid()).to(logits.dtype)

    def score(self, logits: Float[Tensor, "*units"], gates: Float[Tensor, "*units"]) -> Float[Tensor, "*units"]:
        """Return log P(h) of every unit, in full precision."""
        a = in_full_precision(logits)
        return torch.where(gates > 0, F.logsigmoid(a), F.logsigmoid(-a))


def bernoulli_reinforce(
    logits: Float[Tensor, "*units"],
    *,
    generator: torch.Generator | None = None,
    noise: Float[Tensor, "*units"] | None = None,
) -> tuple[Float[Tensor, "*units"], Float[Tensor, "*units"]]:
    """Return Bernoulli(σ(a)) bits, which pass no gradient on, and their score, the log-probability of each.

    Args:
        logits: a.
        generator: see `GateEstimator`.
        noise: uniforms; a bit is 1 where they are below p.

    Raises:
        ValueError: if a logit is not finite or the noise of another shape.
        TypeError: if the logits are not of a floating-point type.
    """
    estimator = BernoulliReinforce()
    bits = estimator(logits, generator=generator, noise=noise)
    return bits, estimator.score(logits, bits)


def score_loss(
    loss_per_example: Float[Tensor, "*batch"],
    score: Float[Tensor, "*batch units"],
    baseline: MinVarianceBaseline | Tensor | float = 0.0,
) -> Float[Tensor, ""]:
    """Return a 0 whose gradient at the logits is REINFORCE's for the mean loss.

    For every layer of stochastic units one is added to the mean loss. See `surrogate`.
    """
    if loss_per_example.ndim == 0:
        raise ValueError("loss_per_example must have one entry per example, got a scalar")
    if loss_per_example.shape != score.shape[:-1]:
        raise ValueError(
            f"loss_per_example must have the shape {tuple(score.shape[:-1])} of the examples that were sampled, "
            f"got {tuple(loss_per_example.shape)}"
        )
    if loss_per_example.numel() == 0:
        raise ValueError("loss_per_example must not be empty, got no example")
    losses = loss_per_example.detach().to(score.dtype)
    subtracted = baseline.value if isinstance(baseline, MinVarianceBaseline) else baseline
    term = ((losses[..., None] - subtracted) * score).sum(-1).mean()
    if isinstance(baseline, MinVarianceBaseline) and baseline.training:
        baseline.update(losses, score)
    return term - term.detach()


def surrogate(
    loss_per_example: Float[Tensor, "*batch"],
    score: Float[Tensor, "*batch units"],
    baseline: MinVarianceBaseline | Tensor | float = 0.0,
) -> Float[Tensor, ""]:
    """Return the mean loss, with REINFORCE's gradient at the logits and the ordinary one everywhere else.

    Args:
        loss_per_example: losses of the examples whose units were sampled. Their mean alone would do, but much worse:
            the noise of every other example would be in the gradient of each.
        score: from `bernoulli_reinforce`.
        baseline: a number, a tensor with one for each unit, or running means, which are brought up to date afterwards,
            except in evaluation mode. It must not depend on the bits.

    Raises:
        ValueError: if the losses are a scalar, are empty, or do not belong to the score.
    """
    return loss_per_example.mean() + score_loss(loss_per_example, score, baseline)


def reinforce(
    f: Losses,
    logits: Float[Tensor, "*batch units"],
    *,
    baseline: Tensor | float = 0.0,
    generator: torch.Generator | None = None,
    noise: Float[Tensor, "*batch units"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Return the losses f(h) of one sample, with REINFORCE's gradient at the logits.

    Args:
        f: takes bits like the logits and returns one loss per row; what is trained within it gets its own gradient.
        logits: a.
        baseline: b, a number or one for each unit.
        generator: see `GateEstimator`.
        noise: uniforms; a bit is 1 where they are below p.

    Raises:
        ValueError: if a logit is not finite or f does not return one loss per row.
    """
    a = in_full_precision(logits)
    bits = (uniforms(a, generator, noise) < a.sigmoid()).to(logits.dtype)
    losses = _evaluated(f, bits)
    return _with_gradient(losses, (bits - a.sigmoid()) * (losses.detach()[..., None] - baseline), a)


def rloo(
    f: Losses,
    logits: Float[Tensor, "*batch units"],
    k: int = 2,
    *,
    generator: torch.Generator | None = None,
    noise: Float[Tensor, "k *batch units"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Return the mean loss of k samples, each with the others' mean for its baseline in the gradient at the logits.

    Args:
        f: see `reinforce`; called k times.
        logits: a.
        k: number of samples, at least 2.
        generator: see `GateEstimator`.
        noise: uniforms for every sample.

    Raises:
        ValueError: if k is below 2, a logit is not finite or f does not return one loss per row.
    """
    if k < 2:
        raise ValueError(f"k must be at least 2, got {k}")
    a = in_full_precision(logits)
    p = a.sigmoid()
    bits = (uniforms(a, generator, noise, k) < p).to(logits.dtype)
    losses = torch.stack([_evaluated(f, sample) for sample in bits])
    mean = losses.mean(0)
    advantages = (losses - mean).detach()
    return _with_gradient(mean, ((bits - p) * advantages[..., None]).sum(0) / (k - 1), a)


def arm(
    f: Losses,
    logits: Float[Tensor, "*batch units"],
    *,
    generator: torch.Generator | None = None,
    noise: Float[Tensor, "*batch units"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Return the mean loss of an antithetic pair, with ARM's gradient at the logits.

    Args:
        f: see `reinforce`; called twice.
        logits: a.
        generator: see `GateEstimator`.
        noise: uniforms u.

    Raises:
        ValueError: if a logit is not finite or f does not return one loss per row.
    """
    a, u, _, _, losses, opposite = _antithetic(f, logits, generator, noise)
    gradient = (opposite - losses).detach()[..., None] * (u - 0.5)
    return _with_gradient((losses + opposite) / 2, gradient, a)


def disarm(
    f: Losses,
    logits: Float[Tensor, "*batch units"],
    *,
    generator: torch.Generator | None = None,
    noise: Float[Tensor, "*batch units"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Return the mean loss of an antithetic pair, with DisARM's gradient at the logits: never more variance than ARM's.

    Args:
        f: see `reinforce`; called twice.
        logits: a.
        generator: see `GateEstimator`.
        noise: uniforms u.

    Raises:
        ValueError: if a logit is not finite or f does not return one loss per row.
    """
    a, _, bits, other, losses, opposite = _antithetic(f, logits, generator, noise)
    # (−1)^h̃ where the two differ, 0 where not, is h − h̃.
    gradient = (losses - opposite).detach()[..., None] * (bits - other) * a.abs().sigmoid() / 2
    return _with_gradient((losses + opposite) / 2, gradient, a)


def _antithetic(
    f: Losses, logits: Tensor, generator: torch.Generator | None, noise: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return a, u, the pair h and h̃, and the losses of both."""
    a = in_full_precision(logits)
    u = uniforms(a, generator, noise)
    bits, other = ((u < a.sigmoid()).to(logits.dtype), (u > (-a).sigmoid()).to(logits.dtype))
    return a, u, bits, other, _evaluated(f, bits), _evaluated(f, other)


def _evaluated(f: Losses, bits: Tensor) -> Tensor:
    losses = f(bits)
    if losses.shape != bits.shape[:-1]:
        raise ValueError(f"f must return losses of shape {tuple(bits.shape[:-1])}, got {tuple(losses.shape)}")
    return losses


def _with_gradient(losses: Tensor, gradient: Tensor, a: Tensor) -> Tensor:
    """Return the losses, with one more gradient: this one, at the logits."""
    return losses + (gradient.detach() * (a - a.detach())).sum(-1)

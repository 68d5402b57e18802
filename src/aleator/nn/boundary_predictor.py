"""A boundary predictor: a stochastic binary neuron at every position, which says where a segment ends.

    z_t = MLP(h_t),    p_t = σ(z_t),    b_t = 1[u_t < p_t],  u_t ~ U(0, 1)

A boundary is a stochastic binary unit, and a `GateEstimator` gives its gradient; by default the gradient of the relaxed
Bernoulli variable s_t = σ((z_t − logit u_t)/τ), straight through: ∂b_t/∂z_t := s_t(1 − s_t)/τ. Noise is drawn in
evaluation too, unless asked otherwise: where the probabilities sum to the wanted rate, there may be none above ½.

O. Ahia et al., "MAGNET: Improving the Multilingual Fairness of Language Models with Adaptive Gradient-Based
Tokenization", NeurIPS 2024, arXiv 2407.08818.
"""

from __future__ import annotations

import contextlib
import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from aleator.nn.boundary_losses import check_rate
from aleator.nn.full_precision import FullPrecisionBuffers, at_least_float32
from aleator.nn.gate_estimator import GateEstimator
from aleator.nn.stochastic_binary import RelaxedBernoulliST

EvalBoundaries = Literal["sample", "threshold", "rate"]


class Boundaries(NamedTuple):
    """What a predictor says about every position; all in float32 at least.

    Attributes:
        logits: z.
        soft: p = σ(z), the probability of a boundary; 0 where none is allowed.
        boundaries: b, exactly 0 or 1, with the estimator's gradient in training.
        score: with `BernoulliReinforce` in training log P(b), for `score_loss`, without which nothing is learned; 0
            where no boundary is allowed. Otherwise None.
    """

    logits: Float[Tensor, "batch length"]
    soft: Float[Tensor, "batch length"]
    boundaries: Float[Tensor, "batch length"]
    score: Float[Tensor, "batch length"] | None = None


class BoundaryPredictor(FullPrecisionBuffers):
    """A two-layer network on hidden states whose output is sampled.

    It computes in float32 under any autocast, so that boundaries do not depend on the precision of the rest.

    Args:
        d_model: channels of the hidden states.
        d_hidden: width of the hidden layer, with an exact GELU.
        temperature: τ of the default estimator, positive.
        init_rate: α in (0, 1): the last bias starts at logit α, so that training starts near the target. None leaves
            it at 0, as the authors do.
        estimator: in place of the relaxed Bernoulli variable, one whose gates are 0 or 1; it may be exchanged later.
        eval_boundaries: what happens in evaluation: ``"sample"``; ``"threshold"``, p > ½; or ``"rate"``, z above the
            threshold that `calibrate` found.

    Raises:
        ValueError: if an argument is out of its range.
    """

    threshold: Tensor
    calibrated: Tensor

    def __init__(
        self,
        d_model: int,
        d_hidden: int,
        *,
        temperature: float = 0.5,
        init_rate: float | None = None,
        estimator: GateEstimator | None = None,
        eval_boundaries: EvalBoundaries = "sample",
    ) -> None:
        super().__init__()
        if eval_boundaries not in ("sample", "threshold", "rate"):
            raise ValueError(f'eval_boundaries must be "sample", "threshold" or "rate", got {eval_boundaries!r}')
        if init_rate is not None:
            check_rate("init_rate", init_rate)
        if estimator is not None and not estimator.binary:
            raise ValueError(f"estimator must give gates that are 0 or 1, got {estimator!r}")
        self.init_rate = init_rate
        self.estimator = estimator if estimator is not None else RelaxedBernoulliST(temperature)
        self.eval_boundaries = eval_boundaries
        self.hidden = nn.Linear(d_model, d_hidden)
        self.output = nn.Linear(d_hidden, 1)
        self.register_buffer("threshold", torch.zeros(()))
        # Not a threshold that is no number: a check that a model's state is sound would fail.
        self.register_buffer("calibrated", torch.zeros((), dtype=torch.bool))
        self.reset_output_bias()

    def reset_output_bias(self) -> None:
        """Set the last bias to the logit of ``init_rate``, for use after an initialisation of your own."""
        rate = self.init_rate
        nn.init.constant_(self.output.bias, 0.0 if rate is None else math.log(rate / (1 - rate)))

    def logits(self, hidden: Float[Tensor, "batch length channels"]) -> Float[Tensor, "batch length"]:
        """Return z."""
        with _without_autocast(hidden.device.type):
            wide = torch.promote_types(hidden.dtype, self.output.weight.dtype)
            z: Tensor = self.output(nn.functional.gelu(self.hidden(hidden.to(wide)))).squeeze(-1)
            return z.to(torch.promote_types(z.dtype, torch.float32))

    def forward(
        self,
        hidden: Float[Tensor, "batch length channels"],
        noise: Float[Tensor, "batch length"] | None = None,
        generator: torch.Generator | None = None,
        allowed: Bool[Tensor, "batch length"] | None = None,
    ) -> Boundaries:
        """Return logits, probabilities and boundaries.

        Args:
            hidden: h, after the layers that see every position.
            noise: u in [0, 1), to use instead of drawing it.
            generator: what u is drawn from; torch's global generator by default, as for dropout.
            allowed: False where no boundary may be: padding, or the inside of a character.

        Raises:
            ValueError: if a shape does not fit.
            RuntimeError: in evaluation with ``eval_boundaries="rate"`` before `calibrate`.
        """
        for name, given in (("noise", noise), ("allowed", allowed)):
            if given is not None and given.shape != hidden.shape[:2]:
                raise ValueError(f"{name} must have shape {tuple(hidden.shape[:2])}, got {tuple(given.shape)}")
        logits = self.logits(hidden)
        with _without_autocast(hidden.device.type):
            soft, score = self.estimator.probability(logits), None
            if self.training or self.eval_boundaries == "sample":
                boundaries = self.estimator(logits, generator=generator, noise=noise)
            else:
                boundaries = (logits > self._threshold()).to(logits.dtype)
            if self.training:
                score = self.estimator.score(logits, boundaries)
            if allowed is not None:
                soft, boundaries = soft * allowed, boundaries * allowed
                score = None if score is None else score * allowed
        return Boundaries(logits, soft, boundaries, score)

    @torch.no_grad()
    def calibrate(self, logits: Float[Tensor, " positions"], rate: float) -> float:
        """Set the threshold of ``eval_boundaries="rate"`` so that this share of the logits is above it, and return it.

        Args:
            logits: z of positions that represent the data; −∞ where no boundary may be.
            rate: α in (0, 1).

        Raises:
            ValueError: if there are no logits, one is not a number or +∞, or α is not in (0, 1).
        """
        check_rate("rate", rate)
        if logits.numel() == 0:
            raise ValueError("calibration needs at least one position, got none")
        ordered = logits.flatten().to(at_least_float32(logits.dtype)).sort(descending=True).values
        if not bool(ordered[0] < math.inf):  # what is not a number comes first
            raise ValueError(f"logits must be numbers below infinity, got {float(ordered[0])}")
        count = min(round(rate * len(ordered)), len(ordered) - 1)
        last, next_ = ordered[max(count - 1, 0)], ordered[count]
        # Half-way between the last that is a boundary and the next; below the last where no other may be one.
        threshold = torch.where(next_.isinf(), last - 1, (last + next_) / 2)
        self.threshold.copy_(threshold)
        self.calibrated.fill_(True)
        return float(threshold)

    def _threshold(self) -> Tensor | float:
        if self.eval_boundaries == "threshold":
            return 0.0
        if not self.calibrated:
            raise RuntimeError('eval_boundaries="rate" needs a call of calibrate first')
        return self.threshold


def _without_autocast(device_type: str) -> contextlib.AbstractContextManager[object]:
    if torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()

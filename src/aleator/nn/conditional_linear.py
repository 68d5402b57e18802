"""A wide linear layer of which a small network, the gater, opens a few units, or blocks of units, for each input.

    z = x W0 + b0                                 experts, linear
    a = tanh(x W1 + b1) W2 + b2                   gater, narrow
    y = g ⊙ z,  g = gates sampled from a          one gate for each unit, or for each block of them

A hard gate on a linear expert is to this layer what the rectifier is to an ordinary one. While training the gates are
sampled, and the chosen estimator gives the gradient at a. In evaluation a gate is open where its logit exceeds one
threshold for all, set so that the wanted share of them is.

Y. Bengio, N. Léonard, A. Courville, arXiv 1308.3432, section 4 and appendix A; the initial weights are as in the
authors' program.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import skip_init

from aleator.nn.full_precision import FullPrecisionBuffers, at_least_float32
from aleator.nn.gate_estimator import GateEstimator, StochasticUnits, in_full_precision
from aleator.nn.gated_linear import gated_linear
from aleator.nn.global_mean import global_mean
from aleator.nn.noisy_relu import NoisyReLU
from aleator.nn.score_function import BernoulliReinforce, MinVarianceBaseline, score_loss
from aleator.nn.sparsity import SparsityController, check_sparsity, sparsity_penalty
from aleator.nn.stochastic_binary import STS, BernoulliST, ReinMaxBernoulli, RelaxedBernoulliST

GATES: dict[str, GateEstimator] = {
    "st": BernoulliST(),
    "st-identity": BernoulliST("identity"),
    "relaxed": RelaxedBernoulliST(),
    "reinmax": ReinMaxBernoulli(),
    "sts": STS(),
    "sbn": BernoulliReinforce(),
    "noisy-relu": NoisyReLU(),
    "relu": NoisyReLU(0.0),
}

# Non-zero weights of each rectifier at the start.
_SPARSE_WEIGHTS = 15


class _Batch(NamedTuple):
    """What the penalty needs of the last batch that was trained on."""

    logits: Tensor
    gates: Tensor
    weight: Tensor


class ConditionalLinear(FullPrecisionBuffers):
    """A linear layer whose blocks of units are open or shut, input by input, and are not computed when shut.

    The training loss has three parts, the last two of which belong to this layer; the middle one is 0 except with
    ``gate="sbn"``, where it takes the place of backpropagation:

        losses.mean() + layer.score_loss(losses) + layer.penalty()

    Blocks of 16 units or more are really skipped, see `gated_linear`. Everything counts per forward pass: with
    accumulated gradients, per micro-batch. Under `DistributedDataParallel` the mean of the penalty, the controller and
    the baseline are taken over the whole batch. Under `torch.utils.checkpoint` compute the penalty within the function
    that is computed again.

    Args:
        in_features: width of the input.
        out_features: N, number of experts.
        gater_hidden: M, hidden units of the gater. It pays where M is well below N; see the card for how far.
        gate: an estimator or the name of one: ``"st"`` (with the sigmoid's derivative), ``"st-identity"``,
            ``"relaxed"``, ``"reinmax"``, ``"sts"``, ``"sbn"`` (the unbiased one), ``"noisy-relu"`` or ``"relu"``.
        sparsity: s in (0, 1), the share of open gates that is wanted.
        penalty_weight: λ of a penalty that is a sum over the gates: tune it when their number changes. By default 0.01,
            or 1e-5 at the start for rectifiers, where a `SparsityController` moves it.
        block: units that share a gate; divides ``out_features``.
        bias: whether experts have biases.
        generator: of the initial weights; without one they come, as in `torch.nn.Linear`, from the default generator.
        device: of the parameters.
        dtype: of the parameters.

    Attributes:
        gate: the `StochasticUnits`, with the estimator and the threshold.
        baseline: the `MinVarianceBaseline` of ``"sbn"``, otherwise None.
        penalty_weight: λ, a buffer.
        active_fraction: share of the gates that were open in the last forward pass, a 0-d tensor.

    Raises:
        ValueError: if a width is below 1, the sparsity is not within (0, 1), λ is negative, the block does not divide
            the number of experts or the gate is unknown.
        TypeError: if the gate is no estimator.

    Example:
        >>> layer = ConditionalLinear(784, 2048, gater_hidden=64, gate="sts", block=64)
        >>> layer(torch.randn(32, 784)).shape
        torch.Size([32, 2048])
    """

    penalty_weight: Tensor
    active_fraction: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        gater_hidden: int,
        *,
        gate: str | GateEstimator = "st",
        sparsity: float = 0.1,
        penalty_weight: float | None = None,
        block: int = 1,
        bias: bool = True,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        widths = {"in_features": in_features, "out_features": out_features, "gater_hidden": gater_hidden}
        for name, width in widths.items():
            if width < 1:
                raise ValueError(f"{name} must be at least 1, got {width}")
        if block < 1 or out_features % block:
            raise ValueError(f"block must divide out_features, {out_features}, got {block}")
        if penalty_weight is not None and not 0 <= penalty_weight < math.inf:
            raise ValueError(f"penalty_weight must not be negative and must be finite, got {penalty_weight}")
        check_sparsity("sparsity", sparsity)
        estimator = _named(gate) if isinstance(gate, str) else gate
        made: dict[str, Any] = {"device": torch.get_default_device() if device is None else device, "dtype": dtype}
        blocks = out_features // block
        rectified = isinstance(estimator, NoisyReLU)
        self.in_features, self.out_features, self.block, self.sparsity = in_features, out_features, block, sparsity
        self.weight = nn.Parameter(torch.empty(out_features, in_features, **made))
        self.bias = nn.Parameter(torch.empty(out_features, **made)) if bias else None
        self.gater = nn.Sequential(
            _undrawn(in_features, gater_hidden, made),
            nn.Tanh(),
            _undrawn(gater_hidden, blocks, made),
        )
        self.gate = StochasticUnits(estimator, dtype=dtype)
        self.controller = SparsityController(sparsity) if rectified else None
        self.baseline = MinVarianceBaseline(blocks, dtype=dtype) if isinstance(estimator, BernoulliReinforce) else None
        if penalty_weight is None:
            penalty_weight = 1e-5 if rectified else 0.01
        statistics = at_least_float32(dtype)
        self.register_buffer("penalty_weight", torch.tensor(penalty_weight, dtype=statistics))
        self.register_buffer("active_fraction", torch.zeros((), dtype=statistics), persistent=False)
        self._batch: _Batch | None = None
        self.to(made["device"])
        self.reset_parameters(generator)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw initial weights: uniform ones by fan-in and fan-out; the biases are 0."""
        narrow, _, wide = self.gater
        assert isinstance(narrow, nn.Linear)
        assert isinstance(wide, nn.Linear)
        _uniform(self.weight, 1.0, generator)
        _uniform(narrow.weight, 1.0, generator)
        if isinstance(self.gate.estimator, NoisyReLU):
            _sparse_normal(wide.weight, generator)
        else:
            _uniform(wide.weight, 4.0, generator)
        for bias in (self.bias, narrow.bias, wide.bias):
            if bias is not None:
                bias.zero_()

    def forward(
        self,
        x: Float[Tensor, "*batch inputs"],
        *,
        generator: torch.Generator | None = None,
        noise: Float[Tensor, "*batch blocks"] | None = None,
    ) -> Float[Tensor, "*batch outputs"]:
        """Return the outputs of the open blocks, and 0 for the others.

        Args:
            x: inputs.
            generator: of the gates' noise, see `GateEstimator`; without effect in evaluation.
            noise: instead of it.

        Raises:
            ValueError: if x is no batch, an empty one in training, or of another width; if a logit is not finite.
        """
        if x.ndim < 2 or x.shape[-1] != self.in_features or (self.training and x.numel() == 0):
            raise ValueError(f"x must be a batch of rows of {self.in_features} features, got shape {tuple(x.shape)}")
        logits = self.gater(x)
        gates = self.gate(logits, generator=generator, noise=noise)
        share = (gates.detach() != 0).to(self.active_fraction.dtype)
        if self.training:
            share = global_mean(share.flatten()[:, None])[0]
            self._batch = _Batch(logits, gates, self.penalty_weight.clone())
            if self.controller is not None:
                self.penalty_weight.copy_(self.controller(self.penalty_weight, share))
        self.active_fraction.copy_(share.mean())
        y = gated_linear(
            x.flatten(end_dim=-2),
            self.weight,
            self.bias,
            gates.flatten(end_dim=-2),
            gradient_when_off=self.gate.estimator.gradient_when_off,
        )
        return y.view(*x.shape[:-1], self.out_features)

    def penalty(self) -> Float[Tensor, ""]:
        """Return λ times the penalty on open gates for the last batch that was trained on.

        Raises:
            RuntimeError: if there was none.
        """
        logits, gates, weight = self._trained()
        if self.controller is not None:
            return weight * gates.abs().sum(dtype=at_least_float32(gates.dtype))
        full = logits.to(torch.promote_types(logits.dtype, torch.float32)).flatten(end_dim=-2)
        return weight * sparsity_penalty(self.gate.estimator.probability(full), self.sparsity)

    def score_loss(self, loss_per_example: Float[Tensor, "*batch"]) -> Float[Tensor, ""]:
        """Return the 0 that carries REINFORCE's gradient into the gater; without one unless the gate is ``"sbn"``.

        Args:
            loss_per_example: of the last batch that was trained on.

        Raises:
            RuntimeError: if there was none.
            ValueError: with ``"sbn"``, if the losses are a scalar or of another batch.
        """
        self._trained()
        if self.gate.score is None:
            return loss_per_example.new_zeros(())
        return score_loss(loss_per_example, self.gate.score, self.baseline if self.baseline is not None else 0.0)

    @torch.no_grad()
    def calibrate_threshold(self, inputs: Iterable[Any], fraction: float | None = None) -> Tensor:
        """Set the threshold of evaluation so that a share of all gates is open, over examples and units together.

        It is the (1 − fraction)-quantile of the logits, which all are kept in memory meanwhile, in float32 at least.
        Take training or validation data.

        Args:
            inputs: batches of what this layer gets, or of tuples and lists that begin with it, as from a loader.
            fraction: in (0, 1); by default the sparsity.

        Returns:
            The threshold, a 0-d tensor.

        Raises:
            ValueError: if there is no example, the fraction is out of range, or a logit is not finite.
        """
        fraction = self.sparsity if fraction is None else fraction
        check_sparsity("fraction", fraction)
        found = []
        for batch in inputs:
            x = batch if isinstance(batch, Tensor) else batch[0]
            found.append(in_full_precision(self.gater(x.to(self.weight.device)).flatten().cpu()))
        if not sum(map(len, found)):
            raise ValueError("inputs must have at least one example, got none")
        quantile = np.quantile(torch.cat(found).numpy(), 1 - fraction)
        self.gate.threshold.fill_(float(quantile))
        return self.gate.threshold

    def _trained(self) -> _Batch:
        if self._batch is None:
            raise RuntimeError("there was no forward pass in training mode yet")
        return self._batch

    def extra_repr(self) -> str:
        """Name the sizes."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, block={self.block}, "
            f"sparsity={self.sparsity}, bias={self.bias is not None}"
        )

    def __getstate__(self) -> dict[str, Any]:
        # What belongs to the last batch hangs on its graph, which can be neither copied nor saved.
        return {**self.__dict__, "_batch": None}


def _named(gate: str) -> GateEstimator:
    if gate not in GATES:
        raise ValueError(f"gate must be an estimator or one of {', '.join(GATES)}, got {gate!r}")
    return GATES[gate]


def _undrawn(inputs: int, outputs: int, made: dict[str, Any]) -> nn.Linear:
    layer: nn.Linear = skip_init(nn.Linear, inputs, outputs, **made)  # type: ignore[no-untyped-call]
    return layer


def _uniform(weight: Tensor, gain: float, generator: torch.Generator | None) -> None:
    bound = gain * math.sqrt(6 / sum(weight.shape))
    weight.uniform_(-bound, bound, generator=generator)


def _sparse_normal(weight: Tensor, generator: torch.Generator | None) -> None:
    """Give every unit a few normal weights at random places."""
    kept = min(_SPARSE_WEIGHTS, weight.shape[1])
    order = torch.rand(weight.shape, generator=generator, device=weight.device)
    places = order.topk(kept, dim=1).indices
    values = torch.randn(places.shape, generator=generator, device=weight.device, dtype=weight.dtype)
    weight.zero_().scatter_(1, places, values)

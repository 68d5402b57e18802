"""A wide gated layer between pixels and a softmax, and the networks that it is compared with.

    scores = (g(x) ⊙ (x W0 + b0)) W3 + b3

The gates g come from `aleator.nn.ConditionalLinear`, or are all 1, or in a narrow layer the sigmoids of the same gater.
Without gates the network is linear, so what a gated one can do beyond that it owes to its gates. Initial weights are as
in the authors' program: uniform by fan-in and fan-out, within ±0.05 into the softmax; biases are 0.

Y. Bengio, N. Léonard, A. Courville, arXiv 1308.3432, section 5 and appendix A.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aleator.nn import ConditionalLinear


class SigmoidGatedLinear(nn.Module):
    """Linear units times the sigmoids of a gater: no randomness, nothing skipped."""

    def __init__(self, inputs: int, units: int, gater_hidden: int) -> None:
        super().__init__()
        self.experts = _uniform(inputs, units)
        self.gater = nn.Sequential(_uniform(inputs, gater_hidden), nn.Tanh(), _uniform(gater_hidden, units, gain=4.0))

    def forward(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch units"]:
        """Return σ(a) ⊙ z."""
        return self.gater(x).sigmoid() * self.experts(x)  # type: ignore[no-any-return]


class GatedClassifier(nn.Module):
    """One wide layer and a softmax.

    Args:
        inputs: pixels.
        classes: number of classes.
        gate: a gate of `ConditionalLinear`, ``"none"`` or ``"dense"``.
        experts: units of the wide layer.
        gater_hidden: hidden units of the gater.
        block: experts that share a gate.
        sparsity: share of the gates that should be open; of the experts that ``"dense"`` has, at least one.
        penalty: weight of the penalty on open gates, or None for the layer's own.

    Attributes:
        gated: the layer, where it is a `ConditionalLinear`.
        width: units that are computed where nothing is skipped, as a share of the experts.
        noise: of the gates in the next pass, for callers that cannot give it to the pass.
    """

    def __init__(
        self,
        inputs: int,
        classes: int,
        *,
        gate: str,
        experts: int,
        gater_hidden: int,
        block: int,
        sparsity: float,
        penalty: float | None,
    ) -> None:
        super().__init__()
        self.noise: Tensor | None = None
        units = max(1, round(sparsity * experts)) if gate == "dense" else experts
        self.width = units / experts
        # First, so that networks that differ in their gates alone begin with the same softmax.
        self.head = _uniform(units, classes, bound=0.05)
        self.layer: nn.Module
        if gate == "none":
            self.layer = _uniform(inputs, experts)
        elif gate == "dense":
            self.layer = SigmoidGatedLinear(inputs, units, gater_hidden)
        else:
            self.layer = ConditionalLinear(
                inputs, experts, gater_hidden, gate=gate, sparsity=sparsity, penalty_weight=penalty, block=block
            )

    @property
    def gated(self) -> ConditionalLinear | None:
        """The layer with random gates or rectifiers, if there is one."""
        return self.layer if isinstance(self.layer, ConditionalLinear) else None

    def forward(
        self, x: Float[Tensor, "batch inputs"], noise: Float[Tensor, "batch blocks"] | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Return class scores; the noise is for the gates in training."""
        hidden = self.layer(x) if self.gated is None else self.gated(x, noise=self.noise if noise is None else noise)
        return self.head(hidden)  # type: ignore[no-any-return]


@torch.no_grad()
def bound_norms(model: nn.Module, largest: float) -> None:
    """Scale the incoming weights of every unit down to this norm, where theirs is larger."""
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.renorm_(2, 0, largest)


def _uniform(inputs: int, outputs: int, *, gain: float = 1.0, bound: float | None = None) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    bound = gain * math.sqrt(6 / (inputs + outputs)) if bound is None else bound
    nn.init.uniform_(layer.weight, -bound, bound)
    nn.init.zeros_(layer.bias)
    return layer

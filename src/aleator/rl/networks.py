"""The trunk that every network of an agent has: [Linear, dropout, LayerNorm, ReLU] for each width, and a Linear.

The mathematics is a function of a list of parameters, so that the same lines serve one network and several of one
shape stacked along leading axes, as `torch.func.stack_module_state` stacks them: [members, out, in] instead of
[out, in]. The module holds the parameters.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-5  # of LayerNorm


class Trunk(nn.Module):
    """A network of an actor or a critic.

    Its parameters come in the order Linear, LayerNorm, Linear, LayerNorm, …, Linear, weight before bias, as PyTorch
    initialises them.

    Args:
        inputs: width of the input.
        widths: of the hidden layers.
        outputs: width of the output.
        dropout: probability that a hidden unit is zero in a training pass; in [0, 1).
    """

    def __init__(self, inputs: int, widths: Sequence[int], outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in widths:
            layers += [nn.Linear(inputs, width), nn.LayerNorm(width, EPS)]
            inputs = width
        self.layers = nn.ModuleList([*layers, nn.Linear(inputs, outputs)])
        self.widths, self.dropout = tuple(widths), dropout

    def forward(self, x: Float[Tensor, "*batch inputs"], masks: Sequence[Tensor] = ()) -> Float[Tensor, "*batch out"]:
        """Return the output.

        Args:
            x: the input.
            masks: one for each hidden layer, see `aleator.rl.dropout_masks`; none is evaluation without dropout.
        """
        return trunk(list(self.parameters()), x, masks)


def trunk(parameters: Sequence[Tensor], x: Tensor, masks: Sequence[Tensor] = ()) -> Tensor:
    """Return the output of the network that has these parameters, or of the networks stacked in them.

    Args:
        parameters: as `Trunk` has them, or each with one more axis in front.
        x: ``[..., inputs]``, or ``[members, batch, inputs]`` for stacked parameters.
        masks: one for each hidden layer, of its output's shape; or none.
    """
    stacked = parameters[0].dim() == 3
    for layer in range(0, len(parameters) - 2, 4):
        weight, bias, scale, shift = parameters[layer : layer + 4]
        x = _linear(x, weight, bias, stacked)
        if masks:
            x = x.mul_(masks[layer // 4])
        if stacked:
            # PyTorch's kernel without weights is several times slower than with ones.
            ones, zeros = x.new_ones(scale.shape[-1]), x.new_zeros(scale.shape[-1])
            x = F.layer_norm(x, ones.shape, ones, zeros, EPS)
            x = torch.addcmul(shift.unsqueeze(1), x, scale.unsqueeze(1))
        else:
            x = F.layer_norm(x, scale.shape, scale, shift, EPS)
        x = F.relu_(x)  # what came before is not needed for the way back
    return _linear(x, parameters[-2], parameters[-1], stacked)


@functools.cache
def compiled_trunk() -> Callable[..., Tensor]:
    """Return `trunk` through `torch.compile`, which holds what it compiled for each shape."""
    return torch.compile(trunk)


def _linear(x: Tensor, weight: Tensor, bias: Tensor, stacked: bool) -> Tensor:
    if stacked:
        return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)
    return F.linear(x, weight, bias)

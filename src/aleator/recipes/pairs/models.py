"""Networks of the recipe ``pairs``: a backbone for each problem, under a pair head or under one or many softmaxes."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from aleator.nn import PairDistribution, PairHead

DROPOUT = 0.1
# Inputs and widths of the perceptrons; channels of the convolutional net.
_PERCEPTRONS = {"half-line": (5, 64, 64), "digits-of-pi": (30, 128, 128)}
_CHANNELS = (3, 8, 16, 32)


def backbone(data: str, dropout: float) -> tuple[nn.Module, int]:
    """Return a network without its last layer, and the number of its features."""
    noise = [nn.Dropout(dropout)] if dropout else []
    layers: list[nn.Module] = []
    if data in _PERCEPTRONS:
        widths = _PERCEPTRONS[data]
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU(), *noise]
        return nn.Sequential(*layers), widths[-1]
    for index, (inputs, outputs) in enumerate(pairwise(_CHANNELS)):
        stride = 1 if index else 2  # three halvings in all
        convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU(), *([nn.MaxPool2d(2)] if index else [])]
    layers += [nn.Flatten(), nn.Linear(_CHANNELS[-1] * 16, 64), nn.ReLU(), *noise]
    return nn.Sequential(*layers), 64


class PairNetwork(nn.Module):
    """A backbone under a pair head."""

    def __init__(self, data: str, num_labels: int, head: str, components: int | None) -> None:
        super().__init__()
        self.backbone, features = backbone(data, 0.0)
        given = {} if components is None else {"components": components}
        self.head = PairHead(features, num_labels, head, **given)  # type: ignore[arg-type]

    def forward(self, inputs: Tensor, y1: Int[Tensor, " batch"], y2: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Return the loss of each pair."""
        return -self.head.log_prob(self.backbone(inputs), y1, y2)

    def pairs(self, inputs: Tensor) -> PairDistribution:
        """Return the distribution of pairs."""
        return self.head(self.backbone(inputs))  # type: ignore[no-any-return]


class SoftmaxNetworks(nn.Module):
    """One or more networks that predict one response each."""

    def __init__(self, data: str, num_labels: int, members: int, dropout: float) -> None:
        super().__init__()
        self.members = nn.ModuleList()
        for _ in range(members):
            body, features = backbone(data, dropout)
            self.members.append(nn.Sequential(body, nn.Linear(features, num_labels)))

    def forward(self, inputs: Tensor, y1: Int[Tensor, " batch"], y2: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Return the loss of the two responses of each item, the mean over them and over the networks."""
        losses = [
            F.cross_entropy(scores, y, reduction="none")
            for scores in (member(inputs) for member in self.members)
            for y in (y1, y2)
        ]
        return torch.stack(losses).mean(0)

    def passes(self, inputs: Tensor, count: int) -> Float[Tensor, "batch passes K"]:
        """Return what the first network predicts with dropout, in several passes from the first dropout on."""
        body, last = cast("nn.Sequential", self.members[0])
        layers = list(cast("nn.Sequential", body))
        begin = next(i for i, layer in enumerate(layers) if isinstance(layer, nn.Dropout))
        before = nn.Sequential(*layers[:begin])(inputs)

        def one() -> Tensor:
            hidden = before
            for layer in layers[begin:]:
                hidden = F.dropout(hidden, layer.p) if isinstance(layer, nn.Dropout) else layer(hidden)
            return last(hidden).softmax(-1)  # type: ignore[no-any-return]

        return torch.stack([one() for _ in range(count)], 1)

    def probabilities(self, inputs: Tensor) -> Float[Tensor, "batch members K"]:
        """Return what each network predicts."""
        return torch.stack([member(inputs).softmax(-1) for member in self.members], 1)

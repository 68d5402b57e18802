"""The networks: a flow, a process reward, a classifier; and how they come about before alignment.

The network of the flow and of the process reward is a perceptron of the state, s and sin, cos of 2^k π s, k = 0 … 7.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aleator.losses import flow_matching
from aleator.recipes.alignment.options import Alignment
from aleator.video import velocity_of
from aleator.video.extra import needed

FREQUENCIES = 8
BATCH, LR = 256, 1e-3  # of everything before alignment
PRM_WIDTH = CLASSIFIER_WIDTH = 128
INPUT_NOISE = 0.3  # of the classifier's training, which then also knows samples that are not quite clean


class TimedMLP(nn.Module):
    """A perceptron of states and times.

    Args:
        shape: of a state.
        width: of the hidden layers.
        depth: how many there are.
        scalar: return one number for each sample, instead of something like the state.
    """

    def __init__(self, shape: Sequence[int], width: int, depth: int, *, scalar: bool = False) -> None:
        super().__init__()
        size = math.prod(shape)
        widths = [size + 1 + 2 * FREQUENCIES, *[width] * depth]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Linear(before, after), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, 1 if scalar else size))
        self.scalar = scalar

    def forward(self, x: Tensor, s: Tensor, cond: Any = None) -> Tensor:
        """Return velocities, or one number for each sample; there is no condition."""
        angles = s.unsqueeze(1) * math.pi * 2.0 ** torch.arange(FREQUENCIES, device=s.device, dtype=s.dtype)
        times = torch.cat([s.unsqueeze(1), angles.sin(), angles.cos()], 1).to(x.dtype)
        out = self.layers(torch.cat([x.flatten(1), times], 1))
        return out.squeeze(1) if self.scalar else out.view_as(x)  # type: ignore[no-any-return]


class SmallWan(nn.Module):
    """The transformer of Wan in small, for clips of one channel and without a text.

    Args:
        width: a multiple of 32.
        depth: blocks.
    """

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        diffusers = needed("diffusers", "flows with model wan")
        transformer = diffusers.WanTransformer3DModel(
            patch_size=(1, 2, 2), num_attention_heads=width // 32, attention_head_dim=32, in_channels=1, out_channels=1,
            text_dim=8, freq_dim=64, ffn_dim=4 * width, num_layers=depth, rope_max_seq_len=32,
        )  # fmt: skip
        self.velocity = velocity_of(transformer)

    def forward(self, x: Tensor, s: Tensor, cond: Any = None) -> Tensor:
        """Return velocities; there is no condition."""
        return self.velocity(x, s, {"encoder_hidden_states": x.new_zeros(len(x), 1, 8)})  # type: ignore[no-any-return]


def flow_network(options: Alignment, shape: Sequence[int]) -> nn.Module:
    """Return the network of the flow, with weights from torch's global generator."""
    if options.model == "wan":
        return SmallWan(options.chosen_width, options.depth)
    return TimedMLP(shape, options.chosen_width, options.depth)


def classifier_network(shape: Sequence[int]) -> nn.Module:
    """Return a classifier of ten digits, with weights from torch's global generator."""
    size, width = math.prod(shape), CLASSIFIER_WIDTH
    return nn.Sequential(
        nn.Flatten(), nn.Linear(size, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 10)
    )


def train_flow(network: nn.Module, examples: Tensor, steps: int, generator: torch.Generator) -> None:
    """Train by flow matching: Adam, and a rate that falls to 0 as a cosine."""

    def loss(rows: Tensor) -> Tensor:
        x0 = examples[rows]
        z = torch.randn(x0.shape, generator=generator).to(x0)
        s = torch.rand(len(rows), generator=generator).to(x0)
        return flow_matching(network, x0, z, s)

    _train(network, len(examples), steps, generator, loss)


def train_classifier(
    network: nn.Module, examples: Tensor, labels: Tensor, steps: int, generator: torch.Generator
) -> None:
    """Train on examples with noise, by the same rule."""

    def loss(rows: Tensor) -> Tensor:
        x = examples[rows]
        noise = torch.randn(x.shape, generator=generator).to(x)
        return F.cross_entropy(network(x + INPUT_NOISE * noise), labels[rows])

    _train(network, len(examples), steps, generator, loss)


def _train(network: nn.Module, count: int, steps: int, generator: torch.Generator, loss: Any) -> None:
    optimizer = torch.optim.Adam(network.parameters(), lr=LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        rows = torch.randint(count, (BATCH,), generator=generator)
        optimizer.zero_grad()
        loss(rows.to(next(network.parameters()).device)).backward()
        optimizer.step()
        schedule.step()
    optimizer.zero_grad()

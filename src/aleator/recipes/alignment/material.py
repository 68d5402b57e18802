"""What the flow learns from, what rewards are learned from, and what is real.

The flow sees few examples of the wanted digit, so that it rarely makes one; the classifier and the process reward see
all examples of training. All are in [−1, 1], images as (1, height, width), clips as (1, frame, height, width).
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from aleator.data import MovingDigits, load, moving_digits
from aleator.random import Streams
from aleator.recipes.alignment.options import Alignment

FRAMES, CANVAS, CLIPS = 8, 12, 4096
"""Of a clip; pixels of its sides; clips of the glyphs of training."""


class Material(NamedTuple):
    """Examples.

    Attributes:
        seen: by the flow before alignment.
        judged: examples for classifier and process reward.
        labels: their digits.
        real: examples of the wanted digit, of training and test.
    """

    seen: Tensor
    judged: Tensor
    labels: Tensor
    real: Tensor


def material(options: Alignment, streams: Streams) -> Material:
    """Return the examples of a run; which few of the wanted digit the flow sees is drawn from the stream ``wanted``.

    Raises:
        ValueError: if there are fewer examples of the wanted digit than the options ask for.
    """
    if options.data == "moving-digits":
        return _clips(options, streams)
    images = load(options.data)
    x, labels = _pixels(images.train.inputs, images.max_value), images.train.targets
    ends = _pixels(images.test.inputs[images.test.targets == options.wanted], images.max_value)
    real = torch.cat([x[labels == options.wanted], ends])
    return Material(x[_kept(labels, options, streams)], x, labels, real)


def _clips(options: Alignment, streams: Streams) -> Material:
    data = _moving("train")
    generator = streams.generator("clips")
    few = _kept(data.labels, options, streams)
    seen = replace(data, glyphs=data.glyphs[few], labels=data.labels[few])
    motions = data.draw(CLIPS, generator)
    labels = data.labels[motions.glyph]
    judged = _scaled(data.clips(motions))
    tests = _moving("test")
    ends = tests.draw(CLIPS // 4, generator)
    wanted = tests.labels[ends.glyph] == options.wanted
    real = torch.cat([judged[labels == options.wanted], _scaled(tests.clips(ends))[wanted]])
    return Material(_scaled(seen.clips(seen.draw(CLIPS, generator))), judged, labels, real)


def _moving(part: str) -> MovingDigits:
    return moving_digits(
        "digits", "train" if part == "train" else "test", frames=FRAMES, size=CANVAS, speed=1, begin="anywhere",
        brightnesses=(1.0,), block_share=0.0,
    )  # fmt: skip


def _kept(labels: Tensor, options: Alignment, streams: Streams) -> Tensor:
    """The places of all examples but of most of the wanted digit."""
    wanted = (labels == options.wanted).nonzero()[:, 0]
    if options.wanted_size > len(wanted):
        raise ValueError(
            f"wanted_size must be at most {len(wanted)} for the digit {options.wanted}, got {options.wanted_size}"
        )
    drawn = torch.randperm(len(wanted), generator=streams.generator("wanted"))[: options.wanted_size]
    others = (labels != options.wanted).nonzero()[:, 0]
    return torch.cat([others, wanted[drawn]]).sort().values


def _pixels(inputs: Tensor, largest: int) -> Tensor:
    return inputs.float() * (2 / largest) - 1


def _scaled(clips: Tensor) -> Tensor:
    return clips.unsqueeze(1) * 2 - 1

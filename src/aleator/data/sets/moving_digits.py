"""Clips of glyphs that move over a dark canvas, drawn from a generator: video without files.

A clip has a glyph, which is who is seen, and what may change without changing that: the direction of its motion, its
brightness, a bright block in front of it, and where it begins. Frame t shows

    crop = max(brightness · glyph, block)   at   fold(start + t · speed · direction),

where fold reflects a place that would be outside at the border. A *crop* is the glyph as a clip shows it, with the
clip's brightness and block: what a photograph of somebody is to a video of them.

    data = moving_digits("digits", frames=8, size=16)
    motions = data.draw(64, generator)
    clips, labels = data.clips(motions), data.labels[motions.glyph]
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

# Rows and columns that a frame goes on by: right, down, left, up.
DIRECTIONS = ((0, 1), (1, 0), (0, -1), (-1, 0))
BRIGHTNESSES = (0.4, 0.7, 1.0)


class Motions(NamedTuple):
    """What is seen in clips, beside the glyph itself.

    Attributes:
        glyph: which glyph.
        start: row and column of the glyph's upper left corner in the first frame, in pixels.
        direction: index into `DIRECTIONS`.
        level: index into the data's ``brightnesses``.
        block: whether a bright block is in front of the glyph.
    """

    glyph: Int64[Tensor, " clip"]
    start: Int64[Tensor, "clip 2"]
    direction: Int64[Tensor, " clip"]
    level: Int64[Tensor, " clip"]
    block: Bool[Tensor, " clip"]

    def at(self, clips: Int64[Tensor, " n"] | slice) -> Motions:
        """Return some of the clips, by their numbers."""
        return Motions(*(part[clips] for part in self))


@dataclass(frozen=True, eq=False)
class MovingDigits:
    """Glyphs and the way they move.

    Attributes:
        glyphs: in [0, 1].
        labels: class of each glyph.
        frames: of a clip.
        size: pixels of the canvas along each side.
        speed: pixels that a glyph moves from frame to frame.
        begin: where a glyph is in the first frame: in the middle, or anywhere.
        brightnesses: that a glyph may have, in [0, 1].
        block_share: share of the clips with a block.

    Raises:
        ValueError: if a value is out of its range, or the canvas is smaller than the glyphs.
    """

    glyphs: Float[Tensor, "glyph side side"]
    labels: Int64[Tensor, " glyph"]
    frames: int = 2
    size: int = 12
    speed: int = 2
    begin: Literal["middle", "anywhere"] = "middle"
    brightnesses: tuple[float, ...] = BRIGHTNESSES
    block_share: float = 0.5

    def __post_init__(self) -> None:
        side = self.glyphs.shape[-1]
        if self.frames < 1:
            raise ValueError(f"frames must be at least 1, got {self.frames}")
        if self.size < side:
            raise ValueError(f"size must be at least {side}, the side of a glyph, got {self.size}")
        if self.speed < 0:
            raise ValueError(f"speed must not be negative, got {self.speed}")
        if self.begin not in ("middle", "anywhere"):
            raise ValueError(f'begin must be "middle" or "anywhere", got {self.begin!r}')
        if not self.brightnesses or not all(0 <= level <= 1 for level in self.brightnesses):
            raise ValueError(f"brightnesses must be in [0, 1], got {self.brightnesses}")
        if not 0 <= self.block_share <= 1:
            raise ValueError(f"block_share must be in [0, 1], got {self.block_share}")

    def __len__(self) -> int:
        return len(self.glyphs)

    @property
    def side(self) -> int:
        """Pixels of a glyph along each side."""
        return self.glyphs.shape[-1]

    @property
    def block_pixels(self) -> Bool[Tensor, "side side"]:
        """Where the block is in a crop: a square of 3/8 of the side, in the middle."""
        side = self.side
        length = max(1, round(side * 3 / 8))
        low = (side - length) // 2
        inside = (torch.arange(side) >= low) & (torch.arange(side) < low + length)
        return inside.unsqueeze(1) & inside

    def draw(self, count: int, generator: torch.Generator) -> Motions:
        """Draw clips, each independent of the others.

        Args:
            count: how many.
            generator: of the CPU.
        """
        glyph = torch.randint(len(self), (count,), generator=generator)
        direction = torch.randint(len(DIRECTIONS), (count,), generator=generator)
        level = torch.randint(len(self.brightnesses), (count,), generator=generator)
        block = torch.rand(count, generator=generator) < self.block_share
        free = self.size - self.side
        if self.begin == "anywhere":
            start = torch.randint(free + 1, (count, 2), generator=generator)
        else:
            start = torch.full((count, 2), free // 2)
        return Motions(glyph, start, direction, level, block)

    def crops(self, motions: Motions) -> Float[Tensor, "clip side side"]:
        """Return the glyphs as clips show them, with brightness and block."""
        brightness = torch.tensor(self.brightnesses, dtype=self.glyphs.dtype)[motions.level]
        crops = self.glyphs[motions.glyph] * brightness.view(-1, 1, 1)
        return torch.where(motions.block.view(-1, 1, 1) & self.block_pixels, 1.0, crops)

    def clips(self, motions: Motions) -> Float[Tensor, "clip frame size size"]:
        """Return clips in [0, 1]."""
        crops = self.crops(motions)
        out = crops.new_zeros(len(crops), self.frames, self.size, self.size)
        out[self._pixels(motions)] = crops.unsqueeze(1).expand(-1, self.frames, -1, -1)
        return out

    def seen(
        self, clips: Float[Tensor, "clip frame size size"], motions: Motions
    ) -> Float[Tensor, "clip frame side side"]:
        """Return what clips, of these motions or made by a model for them, show where the glyph should be."""
        return clips[self._pixels(motions)]

    def places(self, motions: Motions) -> Int64[Tensor, "clip frame 2"]:
        """Return row and column of the glyph's upper left corner in every frame."""
        free = self.size - self.side
        step = torch.tensor(DIRECTIONS)[motions.direction] * self.speed
        place = motions.start.unsqueeze(1) + torch.arange(self.frames).view(1, -1, 1) * step.unsqueeze(1)
        place = place.remainder(max(1, 2 * free))
        return torch.minimum(place, 2 * free - place) if free else torch.zeros_like(place)

    def _pixels(self, motions: Motions) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return clip, frame, row and column of the glyph's pixels, of shapes that broadcast."""
        places = self.places(motions)
        inside = torch.arange(self.side)
        rows = places[..., 0].unsqueeze(2) + inside
        columns = places[..., 1].unsqueeze(2) + inside
        clip, frame = torch.arange(len(places)), torch.arange(self.frames)
        return clip.view(-1, 1, 1, 1), frame.view(1, -1, 1, 1), rows.unsqueeze(3), columns.unsqueeze(2)


def moving_digits(
    name: Literal["digits", "mnist", "fashion-mnist"] = "digits",
    part: Literal["train", "test"] = "train",
    *,
    frames: int = 2,
    size: int | None = None,
    speed: int = 2,
    begin: Literal["middle", "anywhere"] = "middle",
    brightnesses: tuple[float, ...] = BRIGHTNESSES,
    block_share: float = 0.5,
    root: str | os.PathLike[str] | None = None,
) -> MovingDigits:
    """Return the images of a set as glyphs that move; ``"digits"`` needs no files.

    Args:
        name: a set of grey images of `load`.
        part: its images for training, or for testing.
        frames: of a clip.
        size: pixels of the canvas along each side. Default: half as much again as a glyph's.
        speed: pixels that a glyph moves from frame to frame.
        begin: where a glyph is in the first frame.
        brightnesses: that a glyph may have.
        block_share: share of the clips with a block.
        root: of the set's files, see `load`.

    Raises:
        ValueError: if a value is out of its range, or the set is another one.
    """
    from aleator.data.sets.load import load

    if name not in ("digits", "mnist", "fashion-mnist"):
        raise ValueError(f"name must be digits, mnist or fashion-mnist, got {name!r}")
    if part not in ("train", "test"):
        raise ValueError(f"part must be train or test, got {part!r}")
    images = load(name, root)
    chosen = images.train if part == "train" else images.test
    glyphs = chosen.inputs[:, 0].float() / images.max_value
    size = glyphs.shape[-1] * 3 // 2 if size is None else size
    return MovingDigits(glyphs, chosen.targets, frames, size, speed, begin, brightnesses, block_share)

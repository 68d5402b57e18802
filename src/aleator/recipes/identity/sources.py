"""What the recipe ``identity`` generates: clips with a photograph of who is seen, and a text that says all else.

In training the photograph is of the same clip, as in paired training of the method. The test has two kinds of clips:
*same*, where the photograph agrees with what is asked for, and *conflict*, where it shows another brightness and has a
block where none is asked for, or none where one is. Of faces the photograph in conflict is of another moment.

Videos are [clip, frame, channel, height, width] in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from aleator.data import Motions, MovingDigits, load, moving_digits
from aleator.experiment import Split
from aleator.random import Streams

Data = Literal["moving-digits", "grid-faces", "olivetti"]
Kind = Literal["same", "conflict"]
KINDS: tuple[Kind, ...] = ("same", "conflict")
_VALIDATION = 137  # of the 1,437 digits for training


@dataclass(frozen=True)
class Clips:
    """Clips and what is known of them.

    Attributes:
        clips: as they should be.
        photo: of who is seen, [clip, channel, side, side].
        shallow: the photograph at its place in the first frame, and zeros after it; of the clips' shape.
        text: features of its tokens, [clip, token, word].
        seen: who is seen in each frame of the true clips, [clip, frame, channel, side, side].
        motions: of digits.
        of_photo: brightness and block of the photograph, of digits.
    """

    clips: Tensor
    photo: Tensor
    shallow: Tensor
    text: Tensor
    motions: Motions | None = None
    of_photo: Motions | None = None


@runtime_checkable
class Source(Protocol):
    """Where clips come from; sizes of what it gives, and pictures of known people for classifiers."""

    frames: int
    channels: int
    size: int
    side: int
    patch: int
    tokens: int
    words: int
    people: int

    def train(self, count: int, generator: torch.Generator) -> Clips:
        """Draw clips for training."""
        ...

    def held_out(self, split: Split, kind: Kind, count: int) -> Clips:
        """Return clips for an evaluation, the same at every call."""
        ...

    def portraits(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw pictures of people for a classifier, and who they are."""
        ...

    def seen(self, clips: Tensor, of: Clips) -> Tensor:
        """Return who is seen in each frame: [clip, frame, channel, side, side]."""
        ...


class DigitSource:
    """Digits of 8 × 8 pixels that move by two in one of four directions, in two frames of 12 × 12."""

    frames, channels, size, side, patch, people = 2, 1, 12, 8, 2, 10
    tokens, words = 5, 11  # begin, direction (4), brightness (3), block (2), place

    def __init__(self) -> None:
        known, test = moving_digits(), moving_digits(part="test")
        order = torch.randperm(len(known), generator=Streams(0).generator("identity", "validation"))
        self.parts = {
            "train": _some(known, order[_VALIDATION:]),
            "validation": _some(known, order[:_VALIDATION]),
            "test": test,
        }

    def train(self, count: int, generator: torch.Generator) -> Clips:
        """Draw clips whose photograph is of the same clip."""
        motions = self.parts["train"].draw(count, generator)
        return self._clips("train", motions, motions)

    def held_out(self, split: Split, kind: Kind, count: int) -> Clips:
        """Return clips of digits that training did not see."""
        generator = Streams(0).generator("identity", split)
        data = self.parts[split]
        motions = data.draw(count, generator)
        levels = len(data.brightnesses)
        other = (motions.level + torch.randint(1, levels, (count,), generator=generator)) % levels
        of_photo = motions if kind == "same" else motions._replace(level=other, block=~motions.block)
        return self._clips(split, motions, of_photo)

    def portraits(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw digits as photographs show them, and which digits they are."""
        data = self.parts["train"]
        motions = data.draw(count, generator)
        return data.crops(motions).unsqueeze(1), data.labels[motions.glyph]

    def seen(self, clips: Tensor, of: Clips) -> Tensor:
        """Return the pixels where the digit should be."""
        assert of.motions is not None
        return self.parts["test"].seen(clips[:, :, 0], of.motions).unsqueeze(2)

    def glyphs(self, split: Split, of: Clips) -> tuple[Tensor, Tensor]:
        """Return the clean digits of clips and their classes."""
        assert of.motions is not None
        data = self.parts[split]
        return data.glyphs[of.motions.glyph], data.labels[of.motions.glyph]

    def _clips(self, part: str, motions: Motions, of_photo: Motions) -> Clips:
        data = self.parts[part]
        photo, clips = data.crops(of_photo), data.clips(motions)
        shallow = data.clips(of_photo)
        shallow[:, 1:] = 0
        fields = (
            (torch.zeros_like(motions.level), 1),
            (motions.direction, 4),
            (motions.level, 3),
            (motions.block.long(), 2),
            (torch.zeros_like(motions.level), 1),
        )
        text, word = torch.zeros(len(photo), self.tokens, self.words), 0
        for token, (value, count) in enumerate(fields):
            text[:, token, word : word + count] = F.one_hot(value, count).float()
            word += count
        return Clips(clips.unsqueeze(2), photo.unsqueeze(1), shallow.unsqueeze(2), text, motions, of_photo)


class FaceSource:
    """Two moments of one person, of 32 × 32 pixels, with the letters of what is said; people are known in the test."""

    frames, size, side, patch = 2, 32, 32, 4

    def __init__(self, name: Literal["grid-faces", "olivetti"]) -> None:
        faces = load(name)
        pixels = faces.frames.float().permute(0, 1, 4, 2, 3) / 255
        small = F.avg_pool2d(pixels.flatten(0, 1), pixels.shape[-1] // self.size)
        self.images = small.view(*pixels.shape[:2], *small.shape[1:])
        self.channels = self.images.shape[2]
        self.who, self.people = faces.people, int(faces.people.max()) + 1
        clips, moments = self.images.shape[:2]
        self.gap = 6 if name == "grid-faces" else 1
        cuts = (round(0.6 * moments), round(0.8 * moments), moments)
        self.moments = dict(zip(("train", "validation", "test"), ((0, cuts[0]), cuts[:2], cuts[1:]), strict=True))
        letters = sorted(set("".join(faces.texts)))
        self.tokens, self.words = max(1, max(map(len, faces.texts))), max(1, len(letters))
        self.texts = torch.zeros(clips, self.tokens, self.words)
        for clip, text in enumerate(faces.texts):
            for token, letter in enumerate(text):
                self.texts[clip, token, letters.index(letter)] = 1

    def train(self, count: int, generator: torch.Generator) -> Clips:
        """Draw two moments, of which the first is also the photograph."""
        clip, first = self._drawn("train", count, generator)
        return self._clips(clip, first, self.images[clip, first])

    def held_out(self, split: Split, kind: Kind, count: int) -> Clips:
        """Return later moments than those of training; in conflict the photograph is of training."""
        generator = Streams(0).generator("identity", split)
        clip, first = self._drawn(split, count, generator)
        earlier = torch.randint(self.moments["train"][1], (count,), generator=generator)
        return self._clips(clip, first, self.images[clip, first if kind == "same" else earlier])

    def portraits(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw moments of training, and who is seen."""
        clip = torch.randint(len(self.images), (count,), generator=generator)
        moment = torch.randint(self.moments["train"][1], (count,), generator=generator)
        return self.images[clip, moment], self.who[clip]

    def seen(self, clips: Tensor, of: Clips) -> Tensor:
        """Return the whole frames."""
        return clips

    def _drawn(self, part: str, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        low, high = self.moments[part]
        clip = torch.randint(len(self.images), (count,), generator=generator)
        return clip, torch.randint(low, max(low + 1, high - self.gap), (count,), generator=generator)

    def _clips(self, clip: Tensor, first: Tensor, photo: Tensor) -> Clips:
        clips = torch.stack([self.images[clip, first], self.images[clip, first + self.gap]], 1)
        shallow = torch.zeros_like(clips)
        shallow[:, 0] = photo
        return Clips(clips, photo, shallow, self.texts[clip])


def source_of(name: Data) -> DigitSource | FaceSource:
    """Return the source of a name."""
    return DigitSource() if name == "moving-digits" else FaceSource(name)


def _some(data: MovingDigits, which: Tensor) -> MovingDigits:
    return MovingDigits(data.glyphs[which], data.labels[which], data.frames, data.size, data.speed)

"""Neural fields that are trained on random pixels, with S3IM beside the squared error or without.

This file holds the options, `aleator.recipes.field.scenes` the scenes, `aleator.recipes.field.task` the tasks. Settings
of the scenes are a first choice; none was changed after a run with S3IM.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aleator.experiment import Precision, Task
from aleator.later import named
from aleator.recipes.parts.checks import not_negative, positive, refuse_unless

if TYPE_CHECKING:
    from accelerate import Accelerator

    from aleator.random import Streams

Data = Literal["room", "nerf-buddha", "nerf-lego-100", "images"]
Picture = Literal["astronaut", "camera", "chelsea", "coffee"]
SMALLEST_IMAGE = 11  # pixels of a side, for the window of SSIM
_OF_S3IM = ("s3im_repeats", "s3im_layout", "s3im_height", "s3im_rise", "s3im_fall")


@dataclass(frozen=True)
class Settings:
    """What an option means that was not given. Of pictures: no grid, no samples, no shrinking."""

    steps: int
    lr: float
    resolution: int | None = None
    samples: int | None = None
    shrink: int | None = None
    size: int | None = None


SETTINGS: dict[Data, Settings] = {
    "room": Settings(steps=600, lr=0.05, resolution=40, samples=64, size=40),
    "nerf-buddha": Settings(steps=1000, lr=0.2, resolution=96, samples=96, shrink=3),
    "nerf-lego-100": Settings(steps=1000, lr=0.05, resolution=64, samples=64, shrink=1),
    "images": Settings(steps=400, lr=0.002, size=128),
}


@dataclass(frozen=True)
class Field:
    """Learn a scene from views, or a picture from some of its pixels, on random pixels with S3IM."""

    # --- data
    data: Data = "room"
    """A room of closed formulas; a plaster head photographed in grey; the Lego of the NeRF synthetic set, for tests
    only; or a picture, of which some pixels train."""
    picture: Picture | None = None
    """Of data images: which. Default: astronaut."""
    views: int | None = None
    """Views that train. Default: 20 of the room, all others."""
    train_share: float | None = None
    """Of data images: the share of the pixels that train. Default: 0.5."""
    size: int | None = None
    """Pixels along each side, of the views of the room or of the middle of a picture. Default: 40 and 128."""
    shrink: int | None = None
    """So many pixels of a photograph along each side become one. Default: 3 of nerf-buddha, 1 of nerf-lego-100."""
    noise: float = 0.0
    """Standard deviation of noise on the training colours, which are between 0 and 1."""
    corrupted: float = 0.0
    """Share of the training pixels that are black or white instead."""

    # --- the model
    model: Literal["field", "constant"] = "field"
    """A grid of density and colour, of pictures a network of Fourier features; or the mean colour everywhere."""
    resolution: int | None = None
    """Nodes of the grid along each side. Default: 40 for the room, 96 for nerf-buddha, 64 for nerf-lego-100."""
    samples: int | None = None
    """Samples along a ray. Default: 64, or 96 for nerf-buddha."""

    # --- training
    s3im_weight: float = 1.0
    """Weight of 1 − S3IM beside the squared error; 0 leaves it out."""
    s3im_repeats: int | None = None
    """Random orders of the pixels of a step, the given one among them. Default: 10."""
    s3im_layout: Literal["super", "separate"] | None = None
    """All orders in one image, or an image for each. Default: super."""
    s3im_height: int | None = None
    """Rows of the image. Default: 32; with sampling crops those of the square."""
    s3im_rise: float | None = None
    """Share of the steps over which the weight rises from 0. Default: 0."""
    s3im_fall: float | None = None
    """Share of the steps over which it falls to 0 at the end. Default: 0."""
    sampling: Literal["pixels", "crops"] = "pixels"
    """The pixels of a step: random ones of all views, each once in a round; or a square of one view, at random."""
    steps: int | None = None
    """Optimizer steps. Default: 600 for the room, 400 for images, else 1000."""
    batch_size: int = 1024
    """Pixels in a step, over all processes."""
    lr: float | None = None
    """Learning rate of Adam, which falls to a tenth. Default: 0.05, for nerf-buddha 0.2, of pictures 0.002."""
    precision: Precision = "float32"
    """Arithmetic; bfloat16 and float16 are mixed precision."""

    def __post_init__(self) -> None:
        """Check what can be checked without data.

        Raises:
            ValueError: naming the option, the value got and the values accepted.
        """
        for name in ("views", "size", "shrink", "samples", "s3im_repeats", "s3im_height", "steps", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.size is not None and self.size < SMALLEST_IMAGE:
            raise ValueError(f"size must be at least {SMALLEST_IMAGE}, the window of SSIM, got {self.size}")
        if self.resolution is not None and self.resolution < 2:
            raise ValueError(f"resolution must be at least 2, got {self.resolution}")
        positive(self, "lr")
        not_negative(self, "noise", "s3im_weight")
        if not 0 <= self.corrupted <= 1:
            raise ValueError(f"corrupted must be in [0, 1], got {self.corrupted}")
        if self.train_share is not None and not 0 < self.train_share < 1:
            raise ValueError(f"train_share must be in (0, 1), got {self.train_share}")
        self._check_shares()
        if self.sampling == "crops" and math.isqrt(self.batch_size) ** 2 != self.batch_size:
            raise ValueError(f"batch_size must be a square with sampling crops, got {self.batch_size}")
        where, of_pictures = f"data {self.data}", self.data == "images"
        refuse_unless(of_pictures, where, self, "picture", "train_share")
        refuse_unless(not of_pictures, where, self, "views", "resolution", "samples")
        refuse_unless(self.data in ("room", "images"), where, self, "size")
        refuse_unless(self.data in ("nerf-buddha", "nerf-lego-100"), where, self, "shrink")
        refuse_unless(self.model == "field", f"model {self.model}", self, "resolution", "samples", "lr", *_OF_S3IM)
        refuse_unless(self.s3im_weight > 0, "s3im_weight 0", self, *_OF_S3IM)
        if of_pictures and self.sampling == "crops":
            raise ValueError("sampling must be pixels with data images, of which only some pixels train, got crops")

    def _check_shares(self) -> None:
        rise, fall = self.s3im_rise or 0.0, self.s3im_fall or 0.0
        if not 0 <= rise <= 1:
            raise ValueError(f"s3im_rise must be in [0, 1], got {rise}")
        if not (fall >= 0 and rise + fall <= 1):
            raise ValueError(f"s3im_fall must be in [0, {1 - rise:g}], one minus s3im_rise, got {fall}")

    @property
    def chosen(self) -> Settings:
        """The settings with the options that were given in their place."""
        own = SETTINGS[self.data]
        given = {name: getattr(self, name) for name in vars(own)}
        return Settings(**{name: getattr(own, name) if value is None else value for name, value in given.items()})

    def task(self, streams: Streams, accelerator: Accelerator) -> Task:
        """Build the task; see `aleator.experiment.Recipe`."""
        task = "PictureTask" if self.data == "images" else "SceneTask"
        build = named(f"aleator.recipes.field.task:{task}")
        return build(self, streams, accelerator)  # type: ignore[no-any-return]

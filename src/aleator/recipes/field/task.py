"""The tasks behind the recipe ``field``: a scene in a grid, a picture in a network, the same loss.

A step takes pixels at random from all that train, renders them and compares them with the truth:

    L = MSE + λ(t) (1 − S3IM).

With several processes the squared error is that of the whole batch, and S3IM is the mean over processes, each of which
puts its own pixels in random orders. Pixels are spoilt before training and stay so. All processes see all held-out
views. A constant colour is the mean of the training colours; it takes one step, which does nothing.

Streams: ``init`` for the network; ``data`` for the order of the pixels or ``crops`` for squares; ``places`` for samples
along rays; ``orders`` for S3IM, one for each process; the key ``spoil`` for noise and corrupted pixels, ``frequencies``
for Fourier features, ``pixels`` for the pixels of a picture that train.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from aleator.data import load
from aleator.experiment import Budget, Exhibit, GradientStep, Headline, Split, StepResult
from aleator.experiment.model_state import unwrapped
from aleator.fields import Cameras, FourierField, Rays, Rendered, VoxelField, psnr, render, ssim
from aleator.losses import S3IM, s3im_weight
from aleator.random import Streams
from aleator.recipes.field import exhibits
from aleator.recipes.field.crops import Crops
from aleator.recipes.field.scenes import Scene, scene
from aleator.recipes.parts.gradient_task import GradientTask, check_shares, whole_rounds

if TYPE_CHECKING:
    from aleator.data import RepeatedRandomSampler
    from aleator.recipes.field.options import Field

RAYS_AT_A_TIME = 4096  # in evaluation
_LR_AT_THE_END = 0.1
_ROWS = 32  # of the image that pixels are laid out in


class RenderedField(nn.Module):
    """A field of a scene and how its rays are rendered, as one network: rays → what they see."""

    def __init__(self, field: VoxelField, scene: Scene, samples: int) -> None:
        super().__init__()
        self.field, self.samples = field, samples
        self.near, self.far, self.background = scene.near, scene.far, scene.background
        self.spacing: Literal["equal", "inverse"] = "inverse" if scene.endless else "equal"

    def forward(self, origins: Tensor, directions: Tensor, places: Tensor | None = None) -> Rendered:
        """Render rays, with samples at these places in their pieces."""
        return render(
            self.field,
            Rays(origins, directions),
            self.near,
            self.far,
            self.samples,
            background=self.background,
            spacing=self.spacing,
            places=places,
        )


class FieldTask(GradientTask):
    """A field in training on pixels; see `aleator.experiment.Task`. What is a pixel is up to those that inherit."""

    headline = Headline("psnr", "max")
    sampler: RepeatedRandomSampler | Crops

    def __init__(
        self,
        options: Field,
        streams: Streams,
        accelerator: Accelerator,
        network: nn.Module,
        colours: Tensor,
        sampler: RepeatedRandomSampler | Crops,
    ) -> None:
        """Take the true colours [pixels, channel] of the pixels that train, in the order that the sampler counts."""
        self.options, self.accelerator, self.settings, self.sampler = options, accelerator, options.chosen, sampler
        self.dtype = torch.float64 if options.precision == "float64" else torch.float32
        spoil = Streams(streams.key("spoil")).generator("pixels")
        self.colours = _spoilt(colours, options.noise, options.corrupted, spoil).to(accelerator.device, self.dtype)
        self.mean_colour = self.colours.mean(0)
        self.trains = options.model == "field"
        steps = self.settings.steps
        self.budget = Budget(steps if self.trains else 1, "steps")
        self.evaluate_every = max(1, steps // 3)
        self.s3im = S3IM(
            repeats=options.s3im_repeats or 10,
            patch_height=options.s3im_height or (sampler.side if isinstance(sampler, Crops) else _ROWS),
            layout=options.s3im_layout or "super",
            generator=streams.generator("orders", rank=accelerator.process_index, device=accelerator.device),
        )
        own = options.batch_size // accelerator.num_processes
        if self.trains and options.s3im_weight > 0 and own < self.s3im.fewest_rays:
            raise ValueError(
                f"batch_size must be at least {self.s3im.fewest_rays * accelerator.num_processes} for s3im_height "
                f"{self.s3im.settings['patch_height']}, got {options.batch_size}"
            )
        self.model = accelerator.prepare_model(network.to(accelerator.device, self.dtype))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=self.settings.lr, betas=(0.9, 0.99), fused=True)
        self.schedule = LambdaLR(self.optimizer, lambda step: _LR_AT_THE_END ** (step / steps))
        self.gradient_step = GradientStep(accelerator, self.model, self.optimizer, schedule=self.schedule)
        self.step = 0

    def train_batches(self) -> Iterator[Tensor]:
        """Yield the numbers of this process's pixels, batch after batch."""
        while True:
            for pixels in self.sampler.batches(self.options.batch_size):
                yield pixels.to(self.accelerator.device)

    def train_step(self, batch: Tensor) -> StepResult:
        """Take one step on pixels."""
        if not self.trains:
            return StepResult({}, examples=0)
        self.model.train()
        weight = s3im_weight(
            self.step,
            self.settings.steps,
            self.options.s3im_weight,
            rise=self.options.s3im_rise or 0.0,
            fall=self.options.s3im_fall or 0.0,
        )
        truth = self.colours.index_select(0, batch)
        seen = self._prepared(batch)
        parts: dict[str, Tensor] = {}

        def loss() -> Tensor:
            predicted = self._predicted(seen).to(self.dtype)
            parts["mse"] = F.mse_loss(predicted, truth)
            if weight == 0:
                return parts["mse"]
            parts["s3im_loss"] = self.s3im(predicted, truth)
            return parts["mse"] + weight * parts["s3im_loss"]

        size = self.options.batch_size
        report = self.gradient_step([(len(batch), loss)], total=size)
        self.step += 1
        metrics = {"loss": report.loss, **{name: part.detach() for name, part in parts.items()}}
        return StepResult(metrics, examples=size, skipped=report.skipped)

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimizer, schedule and the positions in the data and in the schedule of S3IM's weight."""
        return {**super().state_dict(), "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        super().load_state_dict(state)
        self.step = state["step"]

    def _prepared(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Return what the network is given for pixels that train."""
        raise NotImplementedError

    def _predicted(self, seen: tuple[Tensor, ...]) -> Tensor:
        """Return the colours that the network gives for it."""
        raise NotImplementedError


class SceneTask(FieldTask):
    """A scene in a grid."""

    def __init__(self, options: Field, streams: Streams, accelerator: Accelerator) -> None:
        self.scene = scene(options)
        settings, views = options.chosen, self.scene.train
        assert settings.resolution is not None  # a scene has one
        assert settings.samples is not None
        self.samples = settings.samples
        channels = self.scene.colours.shape[-1]
        box = self.scene.low, self.scene.high
        opacity, endless = self.scene.opacity, self.scene.endless
        field = VoxelField(settings.resolution, *box, channels, opacity, endless=endless)
        colours = self.scene.colours[views]
        sampler: RepeatedRandomSampler | Crops
        if options.sampling == "crops":
            if accelerator.num_processes > 1:
                raise ValueError(f"sampling must be pixels with {accelerator.num_processes} processes, got crops")
            views_rows_columns = (len(views), *colours.shape[1:3])
            shape = cast("tuple[int, int, int]", views_rows_columns)
            sampler = Crops(shape, math.isqrt(options.batch_size), streams.generator("crops"))
        else:
            pixels = colours[..., 0].numel()
            if options.batch_size > pixels:
                raise ValueError(f"batch_size must be at most the {pixels} pixels that train, got {options.batch_size}")
            sampler = whole_rounds(pixels, options.batch_size, streams, accelerator)
        check_shares(options.batch_size, accelerator)
        network = RenderedField(field, self.scene, settings.samples)
        super().__init__(options, streams, accelerator, network, colours.flatten(0, 2), sampler)
        self.cameras = self.scene.cameras.to(accelerator.device, self.dtype)
        self.train_views = views.to(accelerator.device)
        self.places = streams.generator("places")
        self._shown: tuple[list[Rendered], list[Tensor]] | None = None

    def evaluate(self, split: Split) -> dict[str, float]:
        """Return how alike the held-out views and their renderings are, and how wrong the distances are."""
        views = self.scene.test if split == "test" else self.scene.validation
        seen = [self._image(self.cameras, number) for number in views.tolist()]
        truth = [self.scene.colours[number] for number in views.tolist()]
        rendered = torch.stack([each.colour for each in seen])
        measured = _measures(rendered, torch.stack(truth))
        if self.scene.distances is not None:
            distances = torch.stack([each.distance for each in seen])
            measured["depth_l1"] = float((distances - self.scene.distances[views]).abs().double().mean())
        if split == "test":
            self._shown = seen, truth
        return measured

    def exhibits(self) -> Sequence[Exhibit]:
        """Return held-out views next to their renderings, the distances, and a way around."""
        if self._shown is None:  # not before a test
            return []
        seen, truth = self._shown
        shown = [exhibits.views([each.colour for each in seen], truth), exhibits.distances([s.distance for s in seen])]
        orbit = self.scene.orbit.to(self.accelerator.device, self.dtype)
        frames = [self._image(orbit, number).colour for number in range(len(orbit))]
        return [*shown, exhibits.orbit(frames)]

    def _image(self, cameras: Cameras, number: int) -> Rendered:
        """Render an image, on the CPU in float32: colours [height, width, channel] and distances [height, width]."""
        size = (cameras.height, cameras.width)
        rays = cameras.image_rays(number)
        if not self.trains:
            colour = self.mean_colour.expand(*size, -1)
            return Rendered(colour.float().cpu(), torch.full(size, self.scene.far), torch.ones(size))
        network = cast("RenderedField", unwrapped(self.model))
        pieces = zip(*(torch.split(part, RAYS_AT_A_TIME) for part in rays), strict=True)
        with torch.no_grad():
            parts = [network(*piece) for piece in pieces]
        colour, distance, opacity = (torch.cat(each).float().cpu() for each in zip(*parts, strict=True))
        return Rendered(colour.view(*size, -1), distance.view(size), opacity.view(size))

    def _prepared(self, pixels: Tensor) -> tuple[Tensor, ...]:
        height, width = self.cameras.height, self.cameras.width
        view = self.train_views.index_select(0, pixels // (height * width))
        rays = self.cameras.rays(view, pixels // width % height, pixels % width)
        # Drawn for the batch of all processes, so that their number does not change them; each takes its part.
        own = slice(self.accelerator.process_index, None, self.accelerator.num_processes)
        places = torch.rand(self.options.batch_size, self.samples, generator=self.places)[own]
        return *rays, places.to(rays.origins)

    def _predicted(self, seen: tuple[Tensor, ...]) -> Tensor:
        return self.model(*seen).colour  # type: ignore[no-any-return]


class PictureTask(FieldTask):
    """A picture in a network of Fourier features, trained on some of its pixels."""

    def __init__(self, options: Field, streams: Streams, accelerator: Accelerator) -> None:
        self.truth = _middle(load("images")[options.picture or "astronaut"], options.chosen.size)
        height, width, channels = self.truth.shape
        count = height * width
        order = torch.randperm(count, generator=Streams(streams.key("pixels")).generator("pixels"))
        trains = round((options.train_share or 0.5) * count)
        if (count - trains) // 5 == 0:
            raise ValueError(
                f"train_share must leave 5 of {count} pixels at least, some for validation and some for the test, "
                f"got {options.train_share}"
            )
        if trains < options.batch_size:
            raise ValueError(f"batch_size must be at most the {trains} pixels that train, got {options.batch_size}")
        validation = (count - trains) // 5
        held_out = torch.split(order[trains:], [validation, count - trains - validation])
        self.train_pixels = order[:trains]
        self.held_out: dict[Split, Tensor] = {
            "validation": held_out[0].sort().values,
            "test": held_out[1].sort().values,
        }
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        places = torch.stack([(columns + 0.5) / width, (rows + 0.5) / height], 2).view(-1, 2)
        frequencies = Streams(streams.key("frequencies")).generator("frequencies")
        network = FourierField(2, channels, generator=frequencies)
        sampler = whole_rounds(trains, options.batch_size, streams, accelerator)
        colours = self.truth.view(-1, channels)[self.train_pixels]
        super().__init__(options, streams, accelerator, network, colours, sampler)
        self.all_places = places.to(accelerator.device, self.dtype)
        self.train_places = self.all_places[self.train_pixels.to(accelerator.device)]
        self._shown: Tensor | None = None

    def evaluate(self, split: Split) -> dict[str, float]:
        """Return PSNR over the held-out pixels, and SSIM of the picture with the true colours of all others."""
        picture = self._picture()
        pixels = self.held_out[split]
        truth = self.truth.flatten(0, 1)
        mixed = truth.clone()
        mixed[pixels] = picture.flatten(0, 1)[pixels]
        error = float((mixed[pixels] - truth[pixels]).double().square().mean())
        if split == "test":
            self._shown = picture
        found = psnr(mixed[pixels].unsqueeze(0), truth[pixels].unsqueeze(0))
        return {"psnr": float(found), "ssim": float(ssim(picture, self.truth)), "mse": error}

    def exhibits(self) -> Sequence[Exhibit]:
        """Return the picture next to what was learned."""
        return [] if self._shown is None else [exhibits.picture(self._shown, self.truth)]

    def _picture(self) -> Tensor:
        if not self.trains:
            return self.mean_colour.float().cpu().expand_as(self.truth).contiguous()
        with torch.no_grad():
            found = [unwrapped(self.model)(piece) for piece in torch.split(self.all_places, RAYS_AT_A_TIME)]
        return torch.cat(found).float().cpu().view_as(self.truth)

    def _prepared(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return (self.train_places.index_select(0, pixels),)

    def _predicted(self, seen: tuple[Tensor, ...]) -> Tensor:
        return self.model(*seen)  # type: ignore[no-any-return]


def _spoilt(colours: Tensor, noise: float, corrupted: float, generator: torch.Generator) -> Tensor:
    """Return colours [pixels, channel] with noise, of which a share is black or white instead."""
    lots = torch.rand(len(colours), generator=generator)
    white = torch.rand(len(colours), generator=generator) < 0.5
    if noise:
        colours = (colours + noise * torch.randn(colours.shape, generator=generator)).clamp(0, 1)
    return torch.where((lots < corrupted).unsqueeze(1), white.to(colours).unsqueeze(1), colours)


def _measures(rendered: Tensor, truth: Tensor) -> dict[str, float]:
    """Return the mean over views of PSNR and SSIM, and the squared error over all pixels."""
    error = float((rendered - truth).double().square().mean())
    return {"psnr": float(psnr(rendered, truth).mean()), "ssim": float(ssim(rendered, truth).mean()), "mse": error}


def _middle(picture: Tensor, size: int | None) -> Tensor:
    """Return the middle of a picture of bytes as colours in [0, 1]."""
    assert size is not None  # a picture has one
    height, width = picture.shape[:2]
    if size > min(height, width):
        raise ValueError(f"size must be at most {min(height, width)} for this picture, got {size}")
    top, left = (height - size) // 2, (width - size) // 2
    return picture[top : top + size, left : left + size].float() / 255

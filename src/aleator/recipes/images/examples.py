"""Examples to train on and to hold out, the network's input, and the accuracy, as the shared options of images say.

Stream: ``split`` for the choice of training examples.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from accelerate import Accelerator
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from aleator.data import Examples, LabelledImages
from aleator.random import Streams
from aleator.recipes.images.options import ExampleOptions, ImageOptions

EVALUATION_BATCH = 1000


def image_splits(images: LabelledImages, options: ExampleOptions, streams: Streams) -> dict[str, Examples]:
    """Cut validation out of training, the same for every seed, then draw the training examples of this seed.

    Raises:
        ValueError: if there are fewer examples than the options ask for.
    """
    available, left = len(images.train.targets), full_size(images, options)
    held_out = available - left
    fixed = torch.randperm(available, generator=Streams(0).generator("classify", "validation", images.name))
    rest = fixed[held_out:].sort().values
    if options.train_size is not None:
        if options.train_size > left:
            raise ValueError(f"train_size must be at most {left} for {images.name}, got {options.train_size}")
        rest = rest[torch.randperm(len(rest), generator=streams.generator("split"))[: options.train_size]]
    test = images.test
    if options.test_size is not None:
        if options.test_size > len(test.targets):
            raise ValueError(f"test_size must be at most {len(test.targets)}, got {options.test_size}")
        test = Examples(test.inputs[: options.test_size], test.targets[: options.test_size])
    return {"train": take(images.train, rest), "validation": take(images.train, fixed[:held_out]), "test": test}


def full_size(images: LabelledImages, options: ExampleOptions) -> int:
    """Return how many training examples there are to draw from when validation is cut out.

    Raises:
        ValueError: if validation takes them all.
    """
    available = len(images.train.targets)
    held_out = available // 10 if options.validation_size is None else options.validation_size
    if held_out >= available:
        raise ValueError(f"validation_size must be below the {available} training examples, got {held_out}")
    return available - held_out


def take(examples: Examples, indices: Tensor) -> Examples:
    """Return the examples at these indices."""
    return Examples(examples.inputs[indices], examples.targets[indices])


def on_device(examples: Examples, device: torch.device) -> Examples:
    """Return the examples on a device."""
    return Examples(examples.inputs.to(device), examples.targets.to(device))


def network_input(
    images: LabelledImages, inputs: UInt8[Tensor, "batch c h w"], options: ImageOptions, dtype: torch.dtype
) -> Float[Tensor, "batch c h w"]:
    """Return a batch of the data set's bytes as the numbers that the options ask for."""
    if options.inputs == "standardised":
        return images.normalise(inputs, dtype)
    unit = inputs.to(dtype) / images.max_value
    return unit if options.inputs == "unit" else unit - pixel_means(images).to(unit)


def pixel_means(images: LabelledImages) -> Float[Tensor, "c h w"]:
    """Return the mean of each pixel over the training part, on the scale from 0 to 1, in float64."""
    return images.train.inputs.double().mean(0) / images.max_value


def measured(scores_of: Callable[[Tensor], Tensor], examples: Examples, accelerator: Accelerator) -> dict[str, float]:
    """Return accuracy, mean cross entropy, and the number of examples, which the processes share out.

    Args:
        scores_of: returns class scores for a batch of the examples' inputs.
        examples: on the accelerator's device.
        accelerator: of the run.
    """
    rank, processes = accelerator.process_index, accelerator.num_processes
    inputs, targets = (tensor[rank::processes] for tensor in examples)
    sums = torch.zeros(3, dtype=torch.float64, device=accelerator.device)
    for x, y in zip(torch.split(inputs, EVALUATION_BATCH), torch.split(targets, EVALUATION_BATCH), strict=True):
        scores = scores_of(x)
        loss = F.cross_entropy(scores, y, reduction="sum")
        sums += torch.stack([loss.double(), (scores.argmax(1) == y).sum().double(), sums.new_tensor(len(y))])
    loss_sum, correct, count = accelerator.reduce(sums, reduction="sum").tolist()
    return {"accuracy": correct / count, "loss": loss_sum / count, "examples": count}

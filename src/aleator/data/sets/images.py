"""Labelled images as tensors in memory: ``load("mnist").train.inputs``.

Inputs stay the bytes they are in the files; `LabelledImages.normalise` turns a batch of them into numbers

    (x / max_value - mean) / std

when it is used, so that a data set takes a quarter of the memory of its float32 form.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor

from aleator.data.permutation import fixed_order
from aleator.data.sets.catalog import lookup
from aleator.data.sets.entries import DatasetInfo
from aleator.data.sets.readers import LabelledArrays, read_cifar_archive, read_cifar_npz, read_counts, read_idx

_DIGITS_TEST = 360  # of 1,797: a fifth


class Examples(NamedTuple):
    """Inputs, uint8 of shape [N, C, H, W], and their targets, int64 of shape [N]."""

    inputs: UInt8[Tensor, "n channel height width"]
    targets: Int64[Tensor, " n"]


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """A labelled set of images.

    Attributes:
        name: the data set's name.
        train: the training part.
        test: the test part.
        classes: the names of the labels, in order.
        mean: mean of each channel over the whole training part, on the scale from 0 to 1.
        std: standard deviation of the same.
        max_value: the value of an input that stands for 1.
        notes: what a user should know; a set that is only there in part says so here.
    """

    name: str
    train: Examples
    test: Examples
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    max_value: int
    notes: tuple[str, ...]

    def normalise(
        self, inputs: UInt8[Tensor, "batch channel height width"], dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "batch channel height width"]:
        """Return ``(inputs / max_value - mean) / std``, channel by channel, on the inputs' device.

        Args:
            inputs: a batch of this data set's inputs.
            dtype: the type of the result. What is shorter than float32 is computed in float32 and then rounded once.

        Raises:
            ValueError: if the dtype is not a floating-point one.
        """
        return standardised(inputs, self, dtype)


@dataclass(frozen=True, eq=False)
class AnsweredImages:
    """A set of images to each of which several people responded.

    Attributes:
        name: the data set's name.
        inputs: the images.
        counts: how often each label was given to each image.
        classes: the names of the labels, in order.
        mean: mean of each channel over the set that the images are from, on the scale from 0 to 1.
        std: standard deviation of the same.
        max_value: the value of an input that stands for 1.
        notes: what a user should know, the terms of the licence among it.
    """

    name: str
    inputs: UInt8[Tensor, "n channel height width"]
    counts: Int64[Tensor, "n labels"]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    max_value: int
    notes: tuple[str, ...]

    def normalise(
        self, inputs: UInt8[Tensor, "batch channel height width"], dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "batch channel height width"]:
        """Return ``(inputs / max_value - mean) / std``; see `LabelledImages.normalise`."""
        return standardised(inputs, self, dtype)


def standardised(inputs: Tensor, images: LabelledImages | AnsweredImages, dtype: torch.dtype) -> Tensor:
    """Return ``(inputs / max_value - mean) / std`` with the numbers of a data set.

    Raises:
        ValueError: if the dtype is not a floating-point one.
    """
    if not dtype.is_floating_point:
        raise ValueError(f"dtype must be a floating-point type, got {dtype}")
    out = inputs.to(torch.promote_types(dtype, torch.float32)).div_(images.max_value)
    # Numbers, not tensors of constants: those would have to be copied to the device, which makes the host wait.
    for channel, (mean, std) in enumerate(zip(images.mean, images.std, strict=True)):
        out[:, channel].sub_(mean).div_(std)
    return out.to(dtype)


def labelled_images(info: DatasetInfo, paths: dict[str, Path], notes: tuple[str, ...]) -> LabelledImages:
    """Return the images that the files of a catalogue entry hold; the files' checksums were compared before.

    Raises:
        ValueError: if a file is not of its format, or a label is not one of the set's classes.
    """
    facts = info.images
    assert facts is not None  # an entry of this kind has them
    train, test = _READERS[info.reader](paths)
    return LabelledImages(
        name=info.name,
        train=_examples(info.name, "training", train, len(facts.classes)),
        test=_examples(info.name, "test", test, len(facts.classes)),
        classes=facts.classes,
        mean=facts.mean,
        std=facts.std,
        max_value=facts.max_value,
        notes=notes,
    )


def answered_images(info: DatasetInfo, paths: dict[str, Path], notes: tuple[str, ...]) -> AnsweredImages:
    """Return the images of another entry's test part with the counts that the files of this one hold.

    Raises:
        ValueError: if a file is not of its format, or there is not one row of counts for each image.
    """
    source = lookup(info.inputs_from)
    facts = source.images
    assert facts is not None  # an entry with images has them
    _, test = _READERS[source.reader](paths)
    counts = read_counts(paths[info.files[0].name])
    if counts.shape != (len(test.images), len(facts.classes)):
        raise ValueError(
            f"{info.name}: counts must have the shape [{len(test.images)}, {len(facts.classes)}], "
            f"got {list(counts.shape)}"
        )
    return AnsweredImages(
        name=info.name,
        inputs=torch.from_numpy(test.images),
        counts=torch.from_numpy(counts),
        classes=facts.classes,
        mean=facts.mean,
        std=facts.std,
        max_value=facts.max_value,
        notes=notes,
    )


def _examples(name: str, part: str, arrays: LabelledArrays, classes: int) -> Examples:
    if arrays.labels.size and not 0 <= arrays.labels.min() <= arrays.labels.max() < classes:
        raise ValueError(f"{name}: the {part} labels must be from 0 to {classes - 1}")
    return Examples(torch.from_numpy(arrays.images), torch.from_numpy(arrays.labels))


def _read_digits(paths: dict[str, Path]) -> tuple[LabelledArrays, LabelledArrays]:
    images, labels = _sklearn_digits()
    order = fixed_order(len(labels), "aleator.data", "digits", "split")
    train, test = order[:-_DIGITS_TEST], order[-_DIGITS_TEST:]
    return LabelledArrays(images[train], labels[train]), LabelledArrays(images[test], labels[test])


def _sklearn_digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    # The file is read where it lies: importing scikit-learn for it takes longer than training on it.
    package = importlib.util.find_spec("sklearn")
    for folder in (package.submodule_search_locations or []) if package else []:
        path = Path(folder, "datasets", "data", "digits.csv.gz")
        if path.is_file():
            table = np.loadtxt(path, delimiter=",", dtype=np.int64)
            return table[:, None, :-1].reshape(-1, 1, 8, 8).astype(np.uint8), table[:, -1]
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.images[:, None].astype(np.uint8), bunch.target.astype(np.int64)


def _read_idx_pair(images_path: Path, labels_path: Path) -> LabelledArrays:
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or images.dtype != "uint8":
        raise ValueError(f"{images_path}: images must be uint8 of rank 3, got {images.dtype} of rank {images.ndim}")
    if labels.ndim != 1 or labels.dtype != "uint8" or len(labels) != len(images):
        raise ValueError(f"{labels_path}: labels must be {len(images)} bytes, got {labels.dtype} {list(labels.shape)}")
    return LabelledArrays(images[:, None], labels.astype("int64"))


def _read_idx(paths: dict[str, Path]) -> tuple[LabelledArrays, LabelledArrays]:
    train, test = (
        _read_idx_pair(paths[f"{part}-images-idx3-ubyte.gz"], paths[f"{part}-labels-idx1-ubyte.gz"])
        for part in ("train", "t10k")
    )
    return train, test


def _read_cifar(paths: dict[str, Path]) -> tuple[LabelledArrays, LabelledArrays]:
    if "cifar-10-python.tar.gz" in paths:
        return read_cifar_archive(paths["cifar-10-python.tar.gz"])
    return read_cifar_npz(paths["data_batch_1.npz"]), read_cifar_npz(paths["test_batch.npz"])


_READERS: dict[str, Callable[[dict[str, Path]], tuple[LabelledArrays, LabelledArrays]]] = {
    "digits": _read_digits,
    "idx": _read_idx,
    "cifar": _read_cifar,
}

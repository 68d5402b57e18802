"""What a user may hand to the classifier as images and labels, with one message for each way of getting them wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_ROUNDING = 1e-6  # scalers of other libraries return 1.0000000000000002


def grey_levels(images: Any, n_in: int) -> npt.NDArray[np.float64]:
    """Return images as grey levels in [0, 255], [samples, N_in].

    Args:
        images: array or tensor [samples, …] with N_in pixels each: integers in 0…255 or floats in 0…1.
        n_in: number of pixels N_in.

    Raises:
        ValueError: if the images have another number of pixels, are neither integers in 0…255 nor floats in 0…1, or
            are not finite.
    """
    pixels = np.asarray(images)
    if pixels.ndim < 2 or pixels[:1].size != n_in * len(pixels[:1]):
        raise ValueError(f"images must be samples of {n_in} pixels, got the shape {pixels.shape}")
    kind, highest = ("uint8", 255) if pixels.dtype.kind in "ui" else ("float", 1)
    if pixels.dtype.kind not in "uif":
        raise ValueError(f"images must be integers in 0..255 or floats in 0..1, got {pixels.dtype}")
    greys = pixels.reshape(len(pixels), n_in).astype(np.float64)
    if not np.isfinite(greys).all():
        raise ValueError("images must be finite, got NaN or infinity")
    if greys.size and not (greys.min() >= 0 and greys.max() <= highest * (1 + _ROUNDING)):
        raise ValueError(
            f"images must be integers in 0..255 or floats in 0..1, "
            f"got {'integers' if kind == 'uint8' else 'floats'} from {pixels.min()} to {pixels.max()}"
        )
    return np.minimum(greys * (255 / highest), 255)


def brightened(greys: npt.NDArray[np.float64], mean_grey: float | None) -> npt.NDArray[np.float64]:
    """Return grey levels [samples, N_in] of which every image has a given mean; black ones stay black.

    Args:
        greys: of `grey_levels`.
        mean_grey: every image is multiplied to have this mean and cut at 255; None leaves them.
    """
    if mean_grey is None:
        return greys
    means = greys.mean(1, keepdims=True)
    return np.minimum(greys * np.where(means > 0, mean_grey / np.where(means > 0, means, 1), 1), 255)


def class_labels(labels: Any, samples: int, n_classes: int) -> npt.NDArray[np.int64]:
    """Return labels as integers, one per sample.

    Raises:
        ValueError: if they are not one integer in [0, n_classes) per sample.
    """
    classes = np.asarray(labels)
    if classes.shape != (samples,):
        raise ValueError(f"labels must be one per image, {samples}, got the shape {classes.shape}")
    if classes.dtype.kind not in "ui":
        raise ValueError(f"labels must be integers in [0, {n_classes}), got {classes.dtype}")
    if samples and not (classes.min() >= 0 and classes.max() < n_classes):
        wrong = classes.min() if classes.min() < 0 else classes.max()
        raise ValueError(f"labels must be integers in [0, {n_classes}), got {wrong}")
    return classes.astype(np.int64)

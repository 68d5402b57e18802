"""Checks of images and labels that a user hands to the classifier, with one message for each way to get them wrong."""

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
            are not finite, or are a sparse matrix.
    """
    if hasattr(images, "toarray"):
        raise ValueError(f"images must be dense, got a sparse {type(images).__name__}: use toarray()")
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


def class_names(labels: Any, n_classes: int) -> npt.NDArray[Any]:
    """Return the classes that labels are of, in the order of the class cells: their integers, or sorted strings.

    Raises:
        ValueError: if they are strings, but not ``n_classes`` different ones.
    """
    found = _array(labels)
    if found.dtype.kind != "U":
        return np.arange(n_classes)
    names = np.unique(found)
    if len(names) != n_classes:
        raise ValueError(f"labels must be {n_classes} different strings, as n_classes, got {len(names)}")
    return names


def class_indices(labels: Any, samples: int, classes: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return the place of each sample's label among the classes.

    Args:
        labels: one per sample.
        samples: their number.
        classes: of `class_names`.

    Raises:
        ValueError: if they are not one per sample, or not all of these classes.
    """
    if labels is None:
        raise ValueError("labels must be one per image: this requires y to be passed, but the target y is None")
    found = _array(labels)
    if found.shape != (samples,):
        raise ValueError(f"labels must be one per image, {samples}, got the shape {found.shape}")
    if classes.dtype.kind == "U":
        known = found.dtype.kind == "U" and np.isin(found, classes)
        if not np.all(known):
            wrong = found[~known][0] if found.dtype.kind == "U" else found.dtype
            raise ValueError(f"labels must be of {', '.join(classes)}, got {wrong}")
        return np.searchsorted(classes, found).astype(np.int64)
    if found.dtype.kind not in "ui":
        raise ValueError(f"labels must be integers in [0, {len(classes)}), got {found.dtype}")
    if samples and not (found.min() >= 0 and found.max() < len(classes)):
        wrong = found.min() if found.min() < 0 else found.max()
        raise ValueError(f"labels must be integers in [0, {len(classes)}), got {wrong}")
    return found.astype(np.int64)


def _array(labels: Any) -> npt.NDArray[Any]:
    """Return labels as an array; strings that pandas holds as objects are strings."""
    found = np.asarray(labels)
    if found.dtype.kind == "O" and all(isinstance(label, str) for label in found.flat):
        return found.astype(str)
    return found

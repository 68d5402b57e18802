"""A folder of texts or images, divided by class: what is in it becomes the splits of a supervised recipe."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aleator.data.own.splitting import class_numbers, drawn, said
from aleator.data.own.table_splits import Splits

_log = logging.getLogger("aleator.data")

IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".ppm", ".tif", ".tiff")
MOST_WORDS = 5000


def text_splits(folder: str | Path, generator: torch.Generator) -> Splits:
    """Return texts and their classes as tensors: 70 % to learn from, 15 % to choose by, 15 % to report.

    A text is what is frequent in it and rare in others (tf–idf) among the 5 000 most frequent words of training texts.

    Args:
        folder: with a file ``CLASS.txt`` for each class, a text in each line; or a folder ``CLASS`` for each, a text in
            each of its files ``*.txt``. UTF-8.
        generator: draws the examples of the three parts.

    Returns:
        For each part the texts, float32 [texts, words], and the classes, int64 [texts].

    Raises:
        ValueError: if the folder holds no two classes of texts; the line names what is wrong.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    labels, texts = _texts(Path(folder))
    y, classes = _classes(Path(folder), labels, "texts: CLASS.txt with a text in each line, or CLASS/*.txt")
    parts = drawn(len(texts), generator)
    vectorizer = TfidfVectorizer(sublinear_tf=True, max_features=MOST_WORDS, dtype=np.float32)
    try:
        vectorizer.fit([texts[index] for index in parts["train"].tolist()])
    except ValueError:
        raise ValueError(f"the texts in {folder} must have words of two letters or more") from None
    x = torch.from_numpy(vectorizer.transform(texts).toarray())
    _log.info("%s: %d words, %d classes; texts: %s", folder, x.shape[1], len(classes), said(parts))
    return {name: (x[chosen], y[chosen]) for name, chosen in parts.items()}


def image_splits(folder: str | Path, generator: torch.Generator, size: int = 32) -> Splits:
    """Return images and their classes as tensors: 70 % to learn from, 15 % to choose by, 15 % to report.

    Args:
        folder: with a folder for each class, which holds its images.
        generator: draws the examples of the three parts.
        size: height and width that images are resized to.

    Returns:
        For each part the images, float32 [images, 3, size, size], each channel with mean 0 and deviation 1 over the
        training images; and the classes, int64 [images].

    Raises:
        ValueError: if the folder holds no two classes of images, or an image cannot be read; the line names it.
    """
    if size < 1:
        raise ValueError(f"size must be positive, got {size}")
    files = sorted(path for path in Path(folder).glob("*/*") if path.suffix.lower() in IMAGES)
    y, classes = _classes(Path(folder), [path.parent.name for path in files], "images: CLASS/*.png, .jpg or the like")
    parts = drawn(len(files), generator)
    x = torch.stack([_image(path, size) for path in files])
    mean, spread = x[parts["train"]].mean((0, 2, 3), keepdim=True), x[parts["train"]].std((0, 2, 3), keepdim=True)
    x = (x - mean) / spread.clamp_min(1e-6)
    _log.info("%s: %d × %d pixels, %d classes; images: %s", folder, size, size, len(classes), said(parts))
    return {name: (x[chosen], y[chosen]) for name, chosen in parts.items()}


def _texts(folder: Path) -> tuple[list[str], list[str]]:
    labels, texts = [], []
    for path in sorted([*folder.glob("*.txt"), *folder.glob("*/*.txt")]):
        try:
            content = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise ValueError(f"{path} is not a text in UTF-8") from None
        by_line = path.parent == folder
        found = [line for line in content.splitlines() if line.strip()] if by_line else [content]
        labels += [path.stem if by_line else path.parent.name] * len(found)
        texts += found
    return labels, texts


def _image(path: Path, size: int) -> Tensor:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB").resize((size, size)), dtype=np.float32)
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from None
    return torch.from_numpy(pixels).permute(2, 0, 1) / 255


def _classes(folder: Path, labels: Sequence[str], wanted: str) -> tuple[Tensor, list[str]]:
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    y, classes = class_numbers(labels)
    if len(classes) < 2:
        raise ValueError(f"{folder} must hold two or more classes of {wanted}, got {len(classes)}")
    return y, classes

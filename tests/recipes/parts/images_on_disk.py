"""A recipe whose images are read from files, and drawn from at random as they are read."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from aleator.recipes import Supervised


class Files(torch.utils.data.Dataset):
    def __init__(self, folder: Path, indices: range, targets, moves: bool) -> None:
        self.folder, self.indices, self.moves = folder, indices, moves
        self.targets = [int(targets[index]) for index in indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int):
        image = torch.from_numpy(np.load(self.folder / f"{self.indices[index]}.npy"))
        shift = int(torch.randint(-1, 2, ())) + int(np.random.randint(2)) if self.moves else 0  # noqa: NPY002
        return image.roll(shift, 2), self.targets[index]


@dataclass(frozen=True)
class Images(Supervised):
    """Digits, a file each."""

    def splits(self, streams):
        folder = Path(tempfile.gettempdir()) / "aleator-test-digits"
        images, targets = load_digits(return_X_y=True)
        folder.mkdir(exist_ok=True)
        for index, image in enumerate(images[:400]):
            if not (file := folder / f"{index}.npy").exists():
                part = folder / f"{index}.{os.getpid()}.npy"
                np.save(part, image.reshape(1, 8, 8).astype(np.float32) / 8 - 1)
                part.replace(file)
        parts = {"train": range(200), "validation": range(200, 300), "test": range(300, 400)}
        return {name: Files(folder, part, targets, name == "train") for name, part in parts.items()}

    def network(self, splits):
        return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))

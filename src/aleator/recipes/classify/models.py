"""Small image classifiers, written out: multilayer perceptrons, a two-layer convolutional net, ResNet-18, transformers.

ResNet-18 (He et al., 2016, arXiv 1512.03385) is in its form for small images: the first convolution is 3 × 3 with
stride 1 and there is no pooling after it, so that 32 × 32 inputs reach the last stage at 4 × 4.

The vision transformers (Dosovitskiy et al., 2021, arXiv 2010.11929) cut small images into patches of 4 × 4. The larger
one has the size that the TrAct paper trains on CIFAR-10: 7 layers of width 384 with 12 heads.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

MODELS = ("mlp", "mlp-without-bias", "mlp-normalised", "cnn", "cnn-bn", "resnet18", "vit", "vit-tiny")

PATCH = 4
# Layers, width, heads.
TRANSFORMERS = {"vit": (7, 384, 12), "vit-tiny": (4, 96, 4)}


def image_model(name: str, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Return an untrained classifier for images of ``shape`` (channels, height, width), initialised as torch does.

    Raises:
        ValueError: if the name is not one of `MODELS`, or a transformer's patches do not fit the image.
    """
    channels, height, width = shape
    if name == "mlp":
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * height * width, 256),
            nn.ReLU(),
            nn.Linear(256, 256),
            nn.ReLU(),
            nn.Linear(256, num_classes),
        )
    if name == "mlp-without-bias":
        widths = [channels * height * width, 128, 128, 128]
        plain = [nn.Sequential(nn.Linear(a, b, bias=False), nn.ReLU()) for a, b in pairwise(widths)]
        return nn.Sequential(nn.Flatten(), *plain, nn.Linear(widths[-1], num_classes, bias=False))
    if name == "mlp-normalised":
        widths = [channels * height * width, 128, 128, 128, 128]
        normalised = [nn.Sequential(nn.Linear(a, b), nn.LayerNorm(b), nn.ReLU()) for a, b in pairwise(widths)]
        return nn.Sequential(nn.Flatten(), *normalised, nn.Linear(widths[-1], num_classes))
    if name == "cnn":
        return nn.Sequential(
            nn.Conv2d(channels, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64 * (height // 4) * (width // 4), 128),
            nn.ReLU(),
            nn.Linear(128, num_classes),
        )
    if name == "cnn-bn":
        convolutions = [
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2))
            for a, b in pairwise([channels, 16, 32, 64])
        ]
        return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes))
    if name == "resnet18":
        return ResNet18(channels, num_classes)
    if name in TRANSFORMERS:
        return VisionTransformer(shape, num_classes, *TRANSFORMERS[name])
    raise ValueError(f"model must be one of {', '.join(MODELS)}, got {name!r}")


def rescale(model: nn.Module, factor: float) -> None:
    """Multiply the weights of the first, third, … fully connected layer by ``factor``, and divide the others' weights.

    With as many of the one as of the other, rectifiers between them and no biases, the function stays the same.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    with torch.no_grad():
        for index, layer in enumerate(layers):
            layer.weight.mul_(1 / factor if index % 2 else factor)


class ResidualBlock(nn.Module):
    """Two 3 × 3 convolutions with batch normalisation, added to their input."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            projection = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(channels_out))

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c2 h2 w2"]:
        """Return the block's output; height and width are divided by the stride."""
        hidden = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(hidden)) + self.shortcut(x))


class ResNet18(nn.Module):
    """Four stages of two residual blocks with 64, 128, 256 and 512 channels."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU())
        blocks, width = [], 64
        for out, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            blocks += [ResidualBlock(width, out, stride), ResidualBlock(out, out, 1)]
            width = out
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch classes"]:
        """Return class scores."""
        return self.head(self.blocks(self.stem(x)).mean(dim=(2, 3)))  # type: ignore[no-any-return]


class VisionTransformer(nn.Module):
    """Patches, learnt positions, pre-norm transformer layers, and a linear head on the mean over the patches.

    Args:
        shape: of the images, (channels, height, width).
        num_classes: of the head.
        layers: how many.
        width: of every layer, also between the two matrices of its feed-forward part.
        heads: of its attention.

    Raises:
        ValueError: if height or width is no multiple of `PATCH`.
    """

    def __init__(self, shape: tuple[int, int, int], num_classes: int, layers: int, width: int, heads: int) -> None:
        super().__init__()
        channels, height, across = shape
        if height % PATCH or across % PATCH:
            raise ValueError(f"height and width must be multiples of {PATCH}, got {height} x {across}")
        self.patches = nn.Conv2d(channels, width, PATCH, PATCH)
        self.positions = nn.Parameter(torch.empty(1, (height // PATCH) * (across // PATCH), width).normal_(std=0.02))
        # Built one by one: nn.TransformerEncoder would copy the first, with its initial weights.
        self.blocks = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    width, heads, width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
                )
                for _ in range(layers)
            )
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch classes"]:
        """Return class scores."""
        tokens = self.patches(x).flatten(2).mT + self.positions
        return self.head(self.norm(self.blocks(tokens)).mean(dim=1))  # type: ignore[no-any-return]

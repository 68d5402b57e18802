"""The network of the paper: linear layers with a smooth activation between them."""

from __future__ import annotations

import itertools

from torch import nn

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "gelu": nn.GELU, "silu": nn.SiLU, "softplus": nn.Softplus}


def mlp(inputs: int, outputs: int = 1, width: int = 128, layers: int = 4, activation: str = "tanh") -> nn.Sequential:
    """Return a multilayer perceptron in torch's initialisation.

    Args:
        inputs: numbers that it sees.
        outputs: numbers that it returns.
        width: hidden units of a layer.
        layers: linear layers, the last one included.
        activation: tanh, gelu, silu or softplus.

    Raises:
        ValueError: if a size is below 1, there are fewer than two layers, or the activation is unknown.
    """
    for name, value in (("inputs", inputs), ("outputs", outputs), ("width", width)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if layers < 2:
        raise ValueError(f"layers must be at least 2, got {layers}")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    sizes = [inputs, *[width] * (layers - 1), outputs]
    parts: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        parts += [nn.Linear(before, after), ACTIVATIONS[activation]()]
    return nn.Sequential(*parts[:-1])

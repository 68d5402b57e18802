"""The training modes of a model's modules, which passes that only look at it leave as they were."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn


@contextlib.contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Put every module back into the mode in which it is now when the block ends, also by an error."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:  # ``train`` would set the mode of all submodules
            module.training = training

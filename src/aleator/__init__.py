"""Aleator: stochastic training for PyTorch.

The published methods that decide where randomness enters the training of a model, each an ordinary PyTorch object.
``aleator.random`` says where random numbers come from, ``aleator.data`` which examples a step sees, ``aleator.nn`` what
is random inside the model, ``aleator.optim`` how a noisy gradient becomes a step; ``aleator compare`` says, with error
bars, whether a method pays on your task.
"""

from typing import TYPE_CHECKING

from aleator.later import later
from aleator.version import __version__

if TYPE_CHECKING:
    from aleator.experiment.load import LoadedRun, load_run

__all__ = ["LoadedRun", "__version__", "load_run"]

# So that ``aleator --help`` does not wait for torch.
__getattr__ = later(__name__, {"LoadedRun": "experiment.load", "load_run": "experiment.load"})

"""Aleator: stochastic training for PyTorch.

The published methods that decide where randomness enters the training of a model, each an ordinary PyTorch object.
``aleator.random`` says where random numbers come from, ``aleator.data`` which examples a step sees, ``aleator.nn`` what
is random inside the model, ``aleator.optim`` how a noisy gradient becomes a step; ``aleator compare`` says, with error
bars, whether a method pays on your task.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aleator.experiment.load import LoadedRun, load_run

__version__ = "0.1.0.dev0"

__all__ = ["LoadedRun", "__version__", "load_run"]


def __getattr__(name: str) -> Any:
    """Import ``load_run`` when it is first asked for, so that ``aleator --help`` does not wait for torch."""
    if name in ("LoadedRun", "load_run"):
        from aleator.experiment import load

        return getattr(load, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

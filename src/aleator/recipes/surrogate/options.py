"""Target-based surrogates on the problems of their paper: a loss against the number of target gradients asked for.

This file holds the options. A problem is a task: `aleator.recipes.surrogate.tables` has data that is there,
`aleator.recipes.surrogate.imitation` has data that the learner's own actions lead to. What a call is used for, an
update by a surrogate or by a baseline, is in `aleator.recipes.surrogate.updates`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from aleator.experiment import Task
from aleator.later import named

if TYPE_CHECKING:
    from accelerate import Accelerator

    from aleator.random import Streams

SUPERVISED = ("breast-cancer", "digits", "generated")

# Options that not everything has are None, so that they can be refused where they mean nothing; what they are then.
_DEFAULTS: dict[str, Any] = {
    "features": "raw",
    "held_out": 0.2,
    "lr": 0.01,
    "inner": "armijo",
    "inner_steps": 10,
    "step_schedule": "constant",
    "armijo_c": 0.5,
    "width": 64,
}


Problem = Literal["breast-cancer", "digits", "generated", "linear-imitation", "gymnasium:Pendulum-v1"]


@dataclass(frozen=True)
class Surrogate:
    """Compare updates by target surrogates with one update a gradient: supervised problems, online imitation."""

    # --- what is learned
    problem: Problem = "breast-cancer"
    """scikit-learn's breast-cancer or digits; 20,000 examples that it generates, with features of different scales; or
    imitate an expert online, in an unstable linear system or in Gymnasium's pendulum (extra `rl`)."""
    features: Literal["raw", "max-scaled", "standardised"] | None = None
    """Features as they are, the default, divided by their largest absolute value, or with mean 0 and deviation 1."""
    held_out: float | None = None
    """Share of the examples that is not trained on, by default 0.2; one half for validation, one for test."""
    loss: Literal["logistic", "squared", "softmax"] | None = None
    """Default: softmax for digits, logistic for other supervised problems. In imitation it is squared."""
    model: Literal["linear", "mlp"] | None = None
    """A linear model that begins at zero, the default where problems are supervised, or one layer of hidden units, the
    default in imitation."""
    width: int | None = None
    """Hidden units of the mlp, with tanh, by default 64."""

    # --- what a call is
    calls: int = 100
    """Target gradients asked for; in imitation also the number of rounds."""
    batch_size: int | None = None
    """Examples in a call; a short last batch of a pass over the data is dropped. Default: all of them."""
    loss_after: tuple[int, ...] = ()
    """Report the training loss after these numbers of calls, too."""

    # --- what a call is used for
    method: Literal["sso", "gd", "adam", "sls"] = "sso"
    """A surrogate in the space of the targets, or one step of gradient descent, of Adam, or of gradient descent with
    Armijo's line search on the loss itself."""
    lr: float | None = None
    """Learning rate of gd, adam, and of a surrogate's inner adam, by default 0.01."""
    inner: Literal["armijo", "exact", "lbfgs", "adam"] | None = None
    """What descends on a surrogate. Default: armijo. exact is for linear models."""
    inner_steps: int | None = None
    """Steps on every surrogate, iterations of lbfgs, by default 10."""
    step_size: float | None = None
    """γ, the step in target space. Default: 1/L of the loss."""
    step_schedule: Literal["constant", "inverse-sqrt", "exponential", "adagrad-norm", "armijo"] | None = None
    """How γ changes from call to call; armijo searches for it, with evaluations of the loss. Default: constant."""
    armijo_c: float | None = None
    """The fraction of the promised decrease that sls and inner armijo ask for, by default 0.5."""

    # --- numbers
    precision: Literal["float32", "float64"] = "float64"
    """Arithmetic."""

    def __post_init__(self) -> None:
        """Check what can be checked without data.

        Raises:
            ValueError: naming the option, the value got and the values accepted.
        """
        for name in ("width", "calls", "batch_size", "lr", "inner_steps", "step_size"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {value}")
        if self.held_out is not None and not 0 <= self.held_out < 1:
            raise ValueError(f"held_out must be in [0, 1), got {self.held_out}")
        if self.armijo_c is not None and not 0 < self.armijo_c < 1:
            raise ValueError(f"armijo_c must be in (0, 1), got {self.armijo_c}")
        if any(not 1 <= calls <= self.calls for calls in self.loss_after):
            raise ValueError(f"loss_after must be between 1 and calls, {self.calls}, got {self.loss_after}")
        for name, where, has in self._owners():
            if getattr(self, name) not in (None, ()) and not has:
                raise ValueError(f"{name} cannot be used with {where}, got {getattr(self, name)}")
        if self.inner == "exact" and self.option("model") == "mlp":
            raise ValueError("model must be linear with inner exact, got mlp")

    def option(self, name: str) -> Any:
        """Return the value of an option, its default where it was left out."""
        value = getattr(self, name)
        if name == "model" and value is None:
            return "linear" if self.problem in SUPERVISED else "mlp"
        return _DEFAULTS.get(name) if value is None else value

    def task(self, streams: Streams, accelerator: Accelerator) -> Task:
        """Build the task; see `aleator.experiment.Recipe`."""
        if accelerator.num_processes > 1:
            raise ValueError(f"surrogate runs in one process, got {accelerator.num_processes}")
        supervised = self.problem in SUPERVISED
        task = "tables:SupervisedTask" if supervised else "imitation:ImitationTask"
        build = named(f"aleator.recipes.surrogate.{task}")
        return build(self, streams, accelerator)  # type: ignore[no-any-return]

    def _owners(self) -> list[tuple[str, str, bool]]:
        """Return for options that not everything has: its name, what may lack it, and whether it has it."""
        supervised, surrogate = self.problem in SUPERVISED, self.method == "sso"
        inner = self.option("inner") if surrogate else None
        method = f"inner {inner}" if surrogate else f"method {self.method}"
        data = ("features", "held_out", "loss", "batch_size", "loss_after")
        return [
            *((name, f"problem {self.problem}", supervised) for name in data),
            ("width", "model linear", self.option("model") == "mlp"),
            *((name, method, surrogate) for name in ("inner", "step_size", "step_schedule")),
            ("inner_steps", method, surrogate and inner != "exact"),
            ("lr", method, self.method in ("gd", "adam") or inner == "adam"),
            ("armijo_c", method, self.method == "sls" or inner == "armijo"),
        ]

"""Problems in many dimensions whose solutions are known, solved from a few second derivatives in each step.

This file holds the options; `aleator.recipes.pde.task` holds the task, `aleator.pde.problems` the problems. Every error
stands beside that of a trivial predictor, which is also a model to choose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import tyro

from aleator.experiment import Task
from aleator.later import named
from aleator.recipes.parts.checks import positive, refuse_unless
from aleator.recipes.parts.descent import OptimizerOption, ScheduleOption, TrainingOptions
from aleator.recipes.parts.ema import WeightEMA
from aleator.recipes.parts.rows import rates

if TYPE_CHECKING:
    from accelerate import Accelerator

    from aleator.random import Streams

ProblemName = Literal[
    "two-body", "three-body", "semilinear", "hjb-log", "hjb-rosenbrock", "hjb-linear", "black-scholes", "wave",
    "oscillator",
]  # fmt: skip
Operator = Literal["allen-cahn", "poisson", "sine-gordon", "heat"]
OPERATORS: dict[str, tuple[str, ...]] = {
    "two-body": ("allen-cahn", "poisson", "sine-gordon"),
    "three-body": ("allen-cahn", "poisson", "sine-gordon"),
    "semilinear": ("allen-cahn", "heat", "sine-gordon"),
}
DRAWN = ("two-body", "three-body", "hjb-rosenbrock")
_RATES = {"adamw": 1e-3}
LrOption = Annotated[float | None, tyro.conf.arg(help=f"Learning rate at its highest. Default: {rates(_RATES)}.")]


@dataclass(frozen=True)
class _Solved:
    """What is solved; a base of its own so that these come before the training options in the help."""

    # --- the problem
    problem: ProblemName = "two-body"
    """In the unit ball, with pairs or triples of neighbouring dimensions that interact; semilinear and parabolic, of
    which u(0, 0) is wanted; Hamilton-Jacobi-Bellman with three terminal costs; Black-Scholes-Barenblatt; a wave; or the
    ground state of the harmonic oscillator."""
    operator: Operator | None = None
    """Of two-body and three-body (allen-cahn, poisson, sine-gordon) and of semilinear (allen-cahn, heat, sine-gordon).
    Default: allen-cahn."""
    dimensions: int = 100
    """Dimensions of space."""
    coefficients: int | None = None
    """Seed of the coefficients of two-body, three-body and hjb-rosenbrock, as the authors' code draws them. Default:
    the seed of the run."""
    test_points: int | None = None
    """Points at which the error is measured, a fifth of them for validation. Default: 20000, fewer above 1000
    dimensions, and for hjb-rosenbrock, whose solution is a Monte Carlo mean, 200."""

    # --- the model
    model: Literal["pinn", "trivial"] = "pinn"
    """A network, or the trivial predictor of the problem, which has at most one number, fitted to the solution."""
    width: int = 128
    """Hidden units of a layer."""
    layers: int = 4
    """Linear layers."""

    # --- how second derivatives are estimated
    estimator: Literal["sdgd", "hutchinson", "exact"] = "sdgd"
    """From some dimensions (SDGD), from random vectors of signs (Hutchinson), or from all dimensions."""
    sampled_dimensions: int | None = None
    """Dimensions in a sample, or random vectors. Default: 10, or all of fewer."""
    algorithm: Literal[1, 2, 3] | None = None
    """1 weighs the sample's gradient by the residual of all dimensions; 2, the default, by that of a second sample;
    3 by its own, which is biased."""
    dimension_sets: int | None = None
    """Samples of dimensions in a step, each for an equal share of the points. Default: one for each process."""
    blocks: int | None = None
    """Of estimator exact: go through the dimensions in so many blocks, each with its own backward pass, for the same
    gradient in less memory. Default: 1."""

    # --- training
    points: int = 100
    """Points drawn for each step, over all processes, and as many for each soft condition."""
    steps: int = 1000
    """Optimizer steps."""


@dataclass(frozen=True)
class Pde(TrainingOptions, WeightEMA, _Solved):
    """Solve equations in many dimensions from a few of their second derivatives (SDGD), next to trivial predictors."""

    own_lr: ClassVar = _RATES

    optimizer: OptimizerOption = "adamw"
    lr: LrOption = None
    weight_decay: float = 0.0
    """Applied to every parameter; by LAMB and LARS only to those that they adapt, which have two or more dimensions."""
    schedule: ScheduleOption = "linear"

    def check(self) -> None:
        """Check what can be checked without data."""
        positive(self, "dimensions", "test_points", "width", "sampled_dimensions", "dimension_sets", "blocks")
        positive(self, "points", "steps")
        if self.layers < 2:
            raise ValueError(f"layers must be at least 2, got {self.layers}")
        if self.precision not in ("float32", "float64"):
            raise ValueError(
                f"precision must be float32 or float64, since second derivatives in half precision are noise, got "
                f"{self.precision}"
            )
        if self.shard:
            raise ValueError("shard must be False in the recipe pde, since derivatives read whole layers, got True")
        refuse_unless(self.problem in OPERATORS, f"problem {self.problem}", self, "operator")
        if self.problem in OPERATORS and self.chosen_operator not in OPERATORS[self.problem]:
            accepted = ", ".join(OPERATORS[self.problem])
            raise ValueError(f"operator must be one of {accepted} with problem {self.problem}, got {self.operator}")
        refuse_unless(self.problem in DRAWN, f"problem {self.problem}", self, "coefficients")
        if self.coefficients is not None and self.coefficients < 0:
            raise ValueError(f"coefficients must not be negative, got {self.coefficients}")
        refuse_unless(
            self.problem != "semilinear", "problem semilinear, which is known at one point", self, "test_points"
        )
        sampled = ("sampled_dimensions", "algorithm", "dimension_sets")
        refuse_unless(self.estimator != "exact", "estimator exact", self, *sampled)
        refuse_unless(self.estimator == "exact", f"estimator {self.estimator}", self, "blocks")
        if self.estimator == "hutchinson" and self.algorithm == 1:
            raise ValueError("algorithm must be 2 or 3 with estimator hutchinson, got 1")
        if self.estimator == "sdgd" and self.sample > self.dimensions:
            raise ValueError(
                f"sampled_dimensions must be at most the {self.dimensions} dimensions, got {self.sampled_dimensions}"
            )
        if self.blocks is not None and self.blocks > self.dimensions:
            raise ValueError(f"blocks must be at most the {self.dimensions} dimensions, got {self.blocks}")
        if self.points % (self.dimension_sets or 1):
            raise ValueError(f"points must be a multiple of dimension_sets, {self.dimension_sets}, got {self.points}")
        if self.accumulate > self.points // (self.dimension_sets or 1):
            most = self.points // (self.dimension_sets or 1)
            raise ValueError(f"accumulate must be at most {most}, the points of a sample, got {self.accumulate}")
        for name in ("accumulate", "max_grad_norm", "ema", "blocks"):
            if self.model == "trivial" and getattr(self, name) not in (None, 1):
                raise ValueError(f"{name} cannot be used with model trivial, got {getattr(self, name)}")

    @property
    def chosen_operator(self) -> str:
        """The operator where the problem has several."""
        return self.operator or "allen-cahn"

    @property
    def sample(self) -> int:
        """Dimensions in a sample, or random vectors."""
        return self.sampled_dimensions or min(10, self.dimensions)

    @property
    def held_out(self) -> int:
        """Points at which the error is measured in the test."""
        if self.test_points is not None:
            return self.test_points
        return 200 if self.problem == "hjb-rosenbrock" else min(20_000, max(1000, 20_000_000 // self.dimensions))

    def task(self, streams: Streams, accelerator: Accelerator) -> Task:
        """Build the task; see `aleator.experiment.Recipe`."""
        build = named("aleator.recipes.pde.task:PdeTask")
        return build(self, streams, accelerator)  # type: ignore[no-any-return]

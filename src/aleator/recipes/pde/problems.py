"""The problem that the options of the recipe ``pde`` name."""

from __future__ import annotations

from typing import Any

from aleator.pde import problems
from aleator.pde.problems import Problem
from aleator.recipes.pde.options import Pde

_NAMED: dict[str, Any] = {
    "hjb-log": problems.HJBLog,
    "hjb-linear": problems.HJBLinear,
    "black-scholes": problems.BlackScholesBarenblatt,
    "wave": problems.Wave,
    "oscillator": problems.HarmonicOscillator,
}


def problem_of(options: Pde, seed: int) -> Problem:
    """Return the problem, its coefficients from the seed of the run unless the options have one of their own.

    Raises:
        ValueError: if there are too few dimensions, or nothing is known in so many.
    """
    d, operator = options.dimensions, options.chosen_operator
    drawn_from = seed if options.coefficients is None else options.coefficients
    found: Any
    if options.problem in ("two-body", "three-body"):
        kind: Any = problems.TwoBody if options.problem == "two-body" else problems.ThreeBody
        found = kind(operator, d, drawn_from)
    elif options.problem == "hjb-rosenbrock":
        found = problems.HJBRosenbrock(d, seed=drawn_from)
    elif options.problem == "semilinear":
        found = problems.Semilinear(operator, d)  # type: ignore[arg-type]
        _ = found.reference
    else:
        found = _NAMED[options.problem](d)
    return found  # type: ignore[no-any-return]

"""Equations: what a residual may ask for, and the probe that sees whether it is affine."""

import math

import pytest
import torch

from aleator.pde import Equation, problems
from aleator.pde.equation import probe_once
from aleator.random import Streams


def points(d: int, n: int = 6) -> torch.Tensor:
    return torch.randn(n, d, generator=Streams(0).generator("x"), dtype=torch.float64)


AFFINE = {
    "laplace": lambda *, lap: lap,
    "weighted by u": lambda *, lap, u: u.exp() * lap - u**3,
    "by place": lambda *, x, lap, grad: x[:, 0] * lap + grad.square().sum(1),
    "with time": lambda *, lap, u_t, x: u_t - lap / (1 + x[:, -1] ** 2),
    "large source": lambda *, lap, x: lap - 1e6 * x[:, 0],
    "two equations": lambda *, lap, u: torch.stack([lap + u, 2 * lap - u], 1),
}
NOT_AFFINE = {
    "square": lambda *, lap: lap**2,
    "square of all": lambda *, lap, u: (lap + u) ** 2,
    "sine": lambda *, lap: torch.sin(lap),
    "absolute": lambda *, lap: lap.abs(),
    "slightly": lambda *, lap: lap + 1e-4 * lap**2,
    "odd": lambda *, lap: lap + 1e-3 * lap**3,
}


@pytest.mark.parametrize("name", AFFINE)
def test_affine_residuals_pass_the_probe(name):
    equation = Equation(AFFINE[name])
    equation.probe(4, points(4 + equation.has_time))


@pytest.mark.parametrize("name", NOT_AFFINE)
def test_residuals_that_are_not_affine_are_refused(name):
    with pytest.raises(ValueError, match="residual must be affine in lap, got one that is not"):
        Equation(NOT_AFFINE[name]).probe(4, points(4))


def test_the_residual_of_every_problem_is_affine():
    for problem in (
        *(problems.TwoBody(operator, 4) for operator in ("poisson", "allen-cahn", "sine-gordon")),
        problems.ThreeBody("allen-cahn", 4),
        *(problems.Semilinear(kind, 10) for kind in ("allen-cahn", "heat", "sine-gordon")),
        *(problems.HJBLog(4), problems.HJBRosenbrock(4), problems.HJBLinear(4)),
        *(problems.BlackScholesBarenblatt(4), problems.Wave(4), problems.HarmonicOscillator(4)),
    ):
        problem.equation.probe(problem.d, problem.sample(8, Streams(0).generator("x"), torch.float64))


def test_only_a_residual_that_requires_a_derivative_in_time_has_time():
    assert Equation(lambda *, x, u, lap, grad=None, u_t=None: lap).asks == {"x", "u", "lap", "grad"}
    assert Equation(lambda *, lap, u_t, u_tt=None: lap + u_t).asks == {"lap", "u_t", "u_tt"}


def test_an_equation_is_probed_once():
    calls = []

    def residual(*, lap):
        calls.append(len(lap))
        return lap

    equation = Equation(residual)
    for _ in range(3):
        probe_once(equation, 4, points(4))
    probed = len(calls)
    probe_once(equation, 5, points(5))  # other dimensions are another equation
    assert probed > 0
    assert len(calls) == 2 * probed


@pytest.mark.plain
def test_bad_residuals_are_one_line_each():
    refused = {
        lambda: Equation(lambda x, laplacian: x): (
            "residual must take keywords among x, u, lap, grad, u_t, u_tt, got laplacian"
        ),
        lambda: Equation(lambda **values: values["u"]): "got values",
        lambda: Equation(
            lambda *, u: u, weights=torch.ones(3)
        ): "weights cannot be used with a residual that has no lap",
        lambda: Equation(lambda *, lap: lap, outputs=0): "outputs must be at least 1, got 0",
        lambda: Equation(lambda *, lap: lap.sum()).probe(
            3, points(3)
        ): r"residual must return \(5,\) or \(5, equations\)",
        lambda: Equation(lambda *, lap: lap * math.nan).probe(3, points(3)): "residual must be finite",
        lambda: Equation(lambda *, lap, u: u + 0 * lap).probe(3, points(3)): "residual must depend on lap",
        lambda: Equation(lambda *, lap: lap - lap.mean()).probe(3, points(3)): "residual must be of each point alone",
        lambda: Equation(lambda *, lap: lap, weights=torch.ones(2)).weights_at(points(3), 3): (
            r"weights must be of shape \(3,\) or \(6, 3\), got \(2,\)"
        ),
    }
    for call, line in refused.items():
        with pytest.raises(ValueError, match=line):
            call()

"""Problems: solutions that solve them, sources, trivial predictors and the figures that are known of these."""

import math

import numpy as np
import pytest
import torch

from aleator.pde import figures, problems, relative_l2
from aleator.random import Streams

D = 5
SOLVED = {
    **{f"two-body {o}": problems.TwoBody(o, D, seed=1) for o in ("poisson", "allen-cahn", "sine-gordon")},
    **{f"three-body {o}": problems.ThreeBody(o, D, seed=1) for o in ("poisson", "allen-cahn", "sine-gordon")},
    "hjb-log": problems.HJBLog(D),
    "hjb-log, mu 2.5, T 0.5": problems.HJBLog(D, mu=2.5, horizon=0.5),
    "hjb-log, mu 0.5": problems.HJBLog(D, mu=0.5),
    "hjb-linear": problems.HJBLinear(D),
    "black-scholes": problems.BlackScholesBarenblatt(D),
    "wave": problems.Wave(D),
    "oscillator": problems.HarmonicOscillator(D, radius=1.5),
}


def drawn(problem: problems.Problem, n: int = 12, seed: int = 0) -> torch.Tensor:
    return problem.sample(n, Streams(seed).generator("x"), torch.float64)


@pytest.mark.parametrize("name", SOLVED)
def test_the_exact_solution_has_no_residual(name):
    problem = SOLVED[name]
    x = drawn(problem)
    x[0, :D] = 0  # the middle
    if name.split()[0] in ("two-body", "three-body", "oscillator"):
        x[1] = problem.domain.radius * x[1] / torch.linalg.vector_norm(x[1])
    residual = problem.residual(problem.exact, *problem.split(x))
    assert float(residual.abs().max()) < 1e-10 * max(1.0, float(problem.solution(x).abs().max()))


@pytest.mark.parametrize("name", SOLVED)
def test_another_function_has_a_residual(name):
    """The test above could not fail if residuals were 0 by construction."""
    problem = SOLVED[name]
    x = drawn(problem)
    residual = problem.residual(lambda *at: problem.exact(*at) + 0.01 * (at[0] ** 3).sum(1), *problem.split(x))
    assert float(residual.abs().max()) > 1e-4


@pytest.mark.parametrize("name", SOLVED)
def test_a_column_of_values_has_the_residual_of_its_numbers(name):
    problem = SOLVED[name]
    parts = problem.split(drawn(problem))
    flat = problem.residual(lambda *seen: problem.exact(*seen) ** 2, *parts)
    assert torch.equal(flat, problem.residual(lambda *seen: problem.exact(*seen).unsqueeze(1) ** 2, *parts))


@pytest.mark.parametrize("name", SOLVED)
def test_hard_conditions_have_the_values_of_the_solution(name):
    problem = SOLVED[name]
    x = drawn(problem)
    if problem.domain.time is None:
        x, _ = problem.domain.boundary(12, Streams(0).generator("x"), torch.float64)
    else:
        first, last = problem.domain.time
        x[:, D] = first if name == "wave" else last
    zero = torch.zeros_like(x[:, 0]) if problem.offset is None else problem.offset(x)
    torch.testing.assert_close(problem.factor(x), torch.zeros_like(zero), atol=1e-14, rtol=0)
    torch.testing.assert_close(zero, problem.solution(x), atol=1e-12, rtol=1e-12)


def test_the_sums_over_neighbours_are_those_of_the_formulas():
    c = torch.tensor([0.5, -2.0])
    x = torch.tensor([[0.1, 0.2, -0.3]], dtype=torch.float64)
    a, b, d = x[0].tolist()
    inside = 1 - a * a - b * b - d * d
    two = 0.5 * math.sin(a + math.cos(b) + b * math.cos(a)) - 2 * math.sin(b + math.cos(d) + d * math.cos(b))
    assert float(problems.TwoBody("poisson", 3, coefficients=c).exact(x)) == pytest.approx(inside * two, rel=1e-14)
    three = problems.ThreeBody("poisson", 3, coefficients=c[:1]).exact(x)
    assert float(three) == pytest.approx(inside * 0.5 * math.exp(a * b * d), rel=1e-14)


# Relative L2 errors of the trivial predictors, from the project's notes on the paper.
@pytest.mark.parametrize(("seed", "noted"), [(0, 6.5e-2), (1, 5.6e-2), (2, 3.9e-2)])
def test_the_best_constant_at_100_dimensions_has_the_error_that_was_noted(seed, noted):
    problem = problems.TwoBody("allen-cahn", 100, seed)
    x = drawn(problem, 4000)
    # About 2 % from one set of points to the next; the notes have two digits.
    assert relative_l2(problem.trivial(x), problem.solution(x)) == pytest.approx(noted, rel=0.08)
    assert problem.trivial_baseline() == pytest.approx(noted, rel=0.05)


def test_the_trivial_baseline_is_the_error_that_figures_have_beside_a_networks():
    for problem in (problems.TwoBody("poisson", D), problems.HJBLog(D), problems.Semilinear("heat", 10)):
        points = Streams(3).generator("held out")
        expected = figures(problem, lambda x: x[:, 0], 50, points).trivial_l2
        assert problem.trivial_baseline(50, seed=3) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("d", "closed", "zero"), [(20, 2.5e-2, 0.23), (100, 3.1e-3, 0.16), (1000, 2.0e-4, 0.10)])
def test_the_closed_form_of_hjb_log_has_the_error_that_was_noted(d, closed, zero):
    problem = problems.HJBLog(d)
    x = drawn(problem, 1000)
    exact = problem.solution(x)
    assert relative_l2(problem.trivial(x), exact) == pytest.approx(closed, rel=0.08)
    assert relative_l2(problem.offset(x), exact) == pytest.approx(zero, rel=0.06)


@pytest.mark.parametrize(
    ("kind", "noted"),
    [
        ("heat", (6.1e-4, 3.4e-4, 2.1e-4, 8e-5)),
        ("allen-cahn", (6.9e-3, 4.0e-4, 2.3e-4, 5.9e-4)),
        ("sine-gordon", (1.1e-4, 5.2e-4, 1.2e-4, 3e-5)),
    ],
)
def test_the_mean_of_g_and_one_scalar_equation_have_the_errors_that_were_noted(kind, noted):
    for d, error in zip((10, 100, 1000, 10_000), noted, strict=True):
        problem = problems.Semilinear(kind, d)
        found = abs(problem.trivial_value / problem.reference - 1)
        assert found == pytest.approx(error, rel=0.13), d  # the last of them has one digit


@pytest.mark.parametrize("d", [1, 20, 1000, 100_000])
def test_the_quadrature_of_hjb_log_does_not_depend_on_its_nodes(d):
    problem = problems.HJBLog(d)
    t = torch.tensor([0.0, 0.3, 0.999, 1.0], dtype=torch.float64)
    x = torch.randn(4, d, generator=Streams(0).generator("x"), dtype=torch.float64)
    torch.testing.assert_close(problem.exact(x, t), problem.exact(x, t, nodes=3000), rtol=1e-12, atol=1e-12)
    end = problem.exact(x[3:], t[3:])
    torch.testing.assert_close(end, problem.offset(x[3:]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mu", [0.5, 1.0, 2.5])
def test_the_quadrature_of_hjb_log_is_the_expectation(mu):
    problem, d, n = problems.HJBLog(6, mu=mu), 6, 200_000
    x = torch.full((1, d), 0.4, dtype=torch.float64)
    z = torch.randn(n, d, generator=Streams(0).generator("z"), dtype=torch.float64)
    costs = torch.exp(-mu * problem.offset(x + math.sqrt(2 * 0.75) * z))
    # Four standard errors of a mean, by the delta method.
    tolerance = 4 * float(costs.std() / costs.mean()) / math.sqrt(n) / mu
    exact = float(problem.exact(x, torch.tensor([0.25], dtype=torch.float64)))
    assert exact == pytest.approx(-math.log(float(costs.mean())) / mu, abs=tolerance)


def test_the_monte_carlo_mean_of_rosenbrock_is_a_gauss_hermite_integral():
    problem = problems.HJBRosenbrock(2, samples=40_000)
    x, t = torch.tensor([[0.3, -0.5]], dtype=torch.float64), torch.tensor([0.4], dtype=torch.float64)
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(120))
    grid = torch.cartesian_prod(nodes, nodes) * math.sqrt(2 * 0.6) + x
    share = torch.cartesian_prod(weights, weights).prod(1) / (2 * math.pi)
    exact = -math.log(float((share * torch.exp(-problem.offset(grid))).sum()))
    assert float(problem.exact(x, t)) == pytest.approx(exact, abs=4 * 0.6 / math.sqrt(40_000))


def test_coefficients_are_those_of_the_authors_generator():
    # numpy.random.seed(0); numpy.random.randn(1, 99)
    found = problems.TwoBody("poisson", 100, 0).coefficients
    assert found[:2].tolist() == pytest.approx([1.764052345967664, 0.4001572083672233], rel=1e-15)
    assert len(found) == 99


def test_coefficients_may_be_given_as_numpy_draws_them():
    given = np.random.RandomState(2).randn(3)
    for same in (given, given.tolist(), torch.from_numpy(given)):
        assert torch.equal(problems.TwoBody("poisson", 4, coefficients=same).coefficients, torch.from_numpy(given))


def test_a_problem_leaves_numpys_global_generator_alone():
    before = str(np.random.get_state())  # noqa: NPY002 - that is what is looked at
    problems.TwoBody("poisson", 10), problems.HJBRosenbrock(4)
    assert str(np.random.get_state()) == before  # noqa: NPY002


@pytest.mark.plain
def test_bad_problems_are_one_line_each():
    refused = {
        lambda: problems.TwoBody("heat", 5): "operator must be one of poisson, allen-cahn, sine-gordon, got 'heat'",
        lambda: problems.TwoBody("poisson", 1): "d must be at least 2, got 1",
        lambda: problems.ThreeBody("poisson", 4, coefficients=torch.ones(3)): (
            r"coefficients must be of shape \(2,\), got \(3,\)"
        ),
        lambda: problems.TwoBody("poisson", 5).trivial_baseline(0): "points must be at least 1, got 0",
        lambda: problems.HJBLog(3, mu=0.01): "mu must be from 0.1 to 1000, got 0.01",
        lambda: problems.HJBRosenbrock(3, samples=1): "samples must be a positive even number, got 1",
        lambda: problems.BlackScholesBarenblatt(3, sigma=0.0): "sigma must be positive and finite, got 0.0",
        lambda: problems.HJBRosenbrock(1): "d must be at least 2, got 1",
        lambda: problems.HJBLinear(3, power=0.5): "power must be at least 1 and finite, got 0.5",
        lambda: problems.Semilinear("wave", 10): "kind must be one of allen-cahn, heat, sine-gordon, got 'wave'",
        lambda: problems.Semilinear("heat", 20).reference: (
            "d must be one of 10, 100, 1000, 10000 for a reference, got 20"
        ),
    }
    for call, line in refused.items():
        with pytest.raises(ValueError, match=line):
            call()

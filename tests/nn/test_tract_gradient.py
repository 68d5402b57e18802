"""The functional rule: two closed forms, the ridge regression they solve, and their limits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aleator.nn import tract_weight_grad

SHAPES = [(3, 7), (5, 5), (9, 4)]  # fewer rows than inputs, as many, more


def problem(rows, n, m=3, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(rows, k, generator=generator, dtype=torch.float64).to(dtype) for k in (n, m))


@given(rows=st.integers(1, 12), n=st.integers(1, 12), lam=st.floats(0.01, 10))
@settings(max_examples=50)
def test_primal_equals_dual(rows, n, lam):
    x, d = problem(rows, n)
    primal, dual = (tract_weight_grad(x, d, lam, solver=solver) for solver in ("primal", "dual"))
    assert torch.allclose(primal, dual, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("rows", "n"), SHAPES)
def test_it_is_the_least_squares_solution(rows, n):
    x, d = problem(rows, n)
    lam = 0.1
    stacked = torch.cat([x, math.sqrt(lam * rows) * torch.eye(n, dtype=x.dtype)])
    target = torch.cat([-rows * d, torch.zeros(n, d.shape[1], dtype=x.dtype)])
    change = torch.linalg.lstsq(stacked, target).solution.mT
    assert torch.allclose(-tract_weight_grad(x, d, lam), change, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("rows", "n"), SHAPES)
def test_it_is_where_the_ridge_objective_is_flat(rows, n):
    x, d = problem(rows, n)
    change = -tract_weight_grad(x, d, 0.3)
    change.requires_grad_()
    objective = (-rows * d - x @ change.mT).square().sum() + 0.3 * rows * change.square().sum()
    (slope,) = torch.autograd.grad(objective, change)
    assert slope.abs().max() < 1e-10


@pytest.mark.parametrize(("rows", "n"), SHAPES)
def test_it_is_the_gradient_of_a_layer_that_is_fed_rewritten_inputs(rows, n):
    x, d = problem(rows, n)
    weight = torch.zeros(3, n, dtype=x.dtype, requires_grad=True)
    rewritten = x @ torch.linalg.inv(x.mT @ x / rows + 0.1 * torch.eye(n, dtype=x.dtype))
    (rewritten @ weight.mT).backward(d)
    assert torch.allclose(tract_weight_grad(x, d, 0.1), weight.grad, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("rows", "n"), SHAPES)
def test_a_large_lam_leaves_the_ordinary_gradient_over_lam(rows, n):
    x, d = problem(rows, n)
    assert torch.allclose(1e8 * tract_weight_grad(x, d, 1e8), d.mT @ x, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("rows", "n"), SHAPES[:2])
def test_a_small_lam_moves_every_pre_activation_by_its_own_gradient(rows, n):
    x, d = problem(rows, n)
    moved = -x @ tract_weight_grad(x, d, 1e-8).mT
    assert torch.allclose(moved, -rows * d, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-3, 0.5, 30.0])
@pytest.mark.parametrize(("rows", "n"), SHAPES)
def test_brighter_inputs_change_the_pre_activations_alike(rows, n, scale):
    x, d = problem(rows, n)
    plain = tract_weight_grad(x, d, 0.1)
    scaled = tract_weight_grad(scale * x, d, scale**2 * 0.1)
    assert torch.allclose(scaled, plain / scale, rtol=1e-10)
    assert torch.allclose(scale * x @ scaled.mT, x @ plain.mT, rtol=1e-10)


def test_on_one_hot_inputs_it_is_an_embedding_table():
    tokens = torch.tensor([0, 2, 2, 1, 0, 0, 2, 2, 2, 0])  # token 3 does not occur
    x = torch.nn.functional.one_hot(tokens, 4).double()
    _, d = problem(len(x), 4)
    sums = torch.stack([d[tokens == i].sum(0) for i in range(4)], dim=1)
    shares = torch.bincount(tokens, minlength=4).double() / len(x)
    assert torch.allclose(tract_weight_grad(x, d, 0.1), sums / (shares + 0.1), rtol=1e-10)
    means = torch.stack([d[tokens == i].mean(0) for i in range(3)], dim=1)
    assert torch.allclose(tract_weight_grad(x, d, 1e-10)[:, :3], len(x) * means, rtol=1e-8)


def test_stationary_points_are_those_of_gradient_descent():
    x, y = problem(20, 4)
    best = torch.linalg.lstsq(x, y).solution
    residual = (x @ best - y) / len(x)
    assert residual.abs().max() > 0.01
    assert tract_weight_grad(x, residual, 0.1).norm() < 1e-10


@pytest.mark.parametrize("solver", ["primal", "dual"])
def test_nothing_in_gives_nothing_out(solver):
    x, d = problem(6, 4)
    assert not tract_weight_grad(torch.zeros_like(x), d, 0.1, solver=solver).any()
    assert not tract_weight_grad(x, torch.zeros_like(d), 0.1, solver=solver).any()
    nothing = tract_weight_grad(x[:0], d[:0], 0.1, solver=solver)
    assert nothing.shape == (3, 4)
    assert not nothing.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("rows", "n"), SHAPES)
def test_half_precision_is_solved_in_float32(rows, n, dtype):
    x, d = problem(rows, n, dtype=dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = tract_weight_grad(x, d, 0.1)
    assert found.dtype == torch.float32
    expected = tract_weight_grad(x.double(), d.double(), 0.1)
    assert torch.allclose(found.double(), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.plain
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"lam": 0}, ValueError, "lam must be positive and finite, got 0"),
        ({"lam": -0.1}, ValueError, "lam must be positive and finite, got -0.1"),
        ({"lam": math.nan}, ValueError, "lam must be positive and finite, got nan"),
        ({"lam": math.inf}, ValueError, "lam must be positive and finite, got inf"),
        ({"solver": "fast"}, ValueError, "solver must be auto, primal or dual, got 'fast'"),
        ({"x": torch.ones(5, 4, dtype=torch.int64)}, TypeError, "inputs must be of floating point, got torch.int64"),
        ({"x": torch.full((5, 4), math.nan)}, RuntimeError, "the inputs: .* must be finite, got a norm of nan"),
        ({"x": torch.ones(6, 4)}, ValueError, r"with as many rows, got shapes \(6, 4\) and \(5, 2\)"),
        ({"x": torch.ones(5, 2, 4)}, ValueError, r"must be matrices .*, got shapes \(5, 2, 4\) and \(5, 2\)"),
        ({"x": torch.full((5, 4), 1e3)}, RuntimeError, "float32 is too coarse for lam=0.1 .* norm 4e.06: standardise"),
        ({"x": torch.full((5, 4), 1e30)}, RuntimeError, "the inputs: .* must be finite, got a norm of inf"),
    ],
)  # fmt: skip
def test_bad_input_is_named(change, error, message):
    arguments = {"x": torch.ones(5, 4), "grad_z": torch.ones(5, 2), "lam": 0.1, **change}
    x, grad_z, lam = (arguments.pop(name) for name in ("x", "grad_z", "lam"))
    with pytest.raises(error, match=message):
        tract_weight_grad(x, grad_z, lam, **arguments)

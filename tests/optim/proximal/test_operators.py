"""Proximal operators: closed forms, numerical minima, and what holds for all of them."""

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize

from aleator.optim import proximal as prox
from aleator.optim.proximal.operator import Prox

D = torch.float64


def draw(*shape, seed=0, dtype=D):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# Convex penalties that are finite everywhere, on tensors of any two-dimensional shape.
PENALTIES: dict[str, Prox] = {
    "l1": prox.L1(0.7),
    "l1-weighted": prox.L1(torch.tensor([0.0, 0.3, 1.0, 0.1, 0.8], dtype=D)),
    "ridge": prox.Ridge(0.7),
    "elastic-net": prox.ElasticNet(l1=0.4, l2=0.6),
    "l2-norm": prox.L2Norm(0.9),
    "group-lasso": prox.GroupLasso(0.4),
    "group-lasso-columns": prox.GroupLasso(0.4, dim=1, weight=1.3),
    "group-lasso-weights": prox.GroupLasso(0.4, weight=torch.tensor([0.1, 1.0, 3.0, 0.0], dtype=D)),
    "sparse-group-lasso": prox.SparseGroupLasso(l1=0.3, group=0.2),
    "l-inf": prox.LInfNorm(0.9),
    "nuclear": prox.Nuclear(0.8),
    "huber": prox.Huber(0.7, delta=0.5),
    "total-variation": prox.TotalVariation1d(0.4),
}
PROJECTIONS: dict[str, Prox] = {
    "box": prox.Box(-0.3, 0.8),
    "non-negative": prox.NonNegative(),
    "l2-ball": prox.L2Ball(1.2),
    "l1-ball": prox.L1Ball(1.5),
    "l-inf-ball": prox.LInfBall(0.4),
    "simplex": prox.Simplex(1.3),
    "max-norm": prox.MaxNorm(0.8),
}
NOT_CONVEX: dict[str, Prox] = {
    "l0": prox.L0(0.3),
    "stiefel": prox.Stiefel(),
    "low-rank": prox.LowRank(2),
    "unit-norm": prox.UnitNorm(),
    "log-barrier": prox.LogBarrier(0.5),
}
ALL = PENALTIES | PROJECTIONS | NOT_CONVEX
IN_METRICS = {name: op for name, op in PENALTIES.items() if op.metric_aware} | {"log-barrier": prox.LogBarrier(0.5)}


# --- closed forms


def test_elementwise_operators_equal_their_closed_forms():
    v, t = draw(200, seed=1) * 3, 0.7
    size, sign = v.abs(), torch.sign(v)
    expected = {
        prox.L1(0.9): sign * torch.clamp(size - t * 0.9, min=0),
        prox.Ridge(0.9): v / (1 + t * 0.9),
        prox.ElasticNet(l1=0.9, l2=2.0): sign * torch.clamp(size - t * 0.9, min=0) / (1 + t * 2.0),
        prox.L0(0.9): torch.where(size > math.sqrt(2 * t * 0.9), v, 0.0),
        prox.Huber(0.9, delta=0.4): torch.where(size <= 0.4 + t * 0.9, v * 0.4 / (0.4 + t * 0.9), v - t * 0.9 * sign),
        prox.LogBarrier(0.9): (v + (v**2 + 4 * t * 0.9).sqrt()) / 2,
        prox.Box(-1.0, 0.5): v.clamp(-1.0, 0.5),
        prox.NonNegative(): v.clamp(min=0),
        prox.LInfBall(0.5): v.clamp(-0.5, 0.5),
    }
    for operator, value in expected.items():
        torch.testing.assert_close(operator(v, t), value, rtol=0, atol=1e-12)


def test_block_operators_equal_their_closed_forms():
    v, t = draw(6, 4, seed=2), 0.6
    rows = v.norm(dim=1, keepdim=True)
    torch.testing.assert_close(prox.L2Norm(1.5)(v, t), v * (1 - t * 1.5 / v.norm()), rtol=0, atol=1e-12)
    shrunk = v * torch.clamp(1 - t * 0.8 * 2 / rows, min=0)  # √4 entries a row
    torch.testing.assert_close(prox.GroupLasso(0.8)(v, t), shrunk, rtol=0, atol=1e-12)
    assert 0 < int((shrunk.abs().sum(1) == 0).sum()) < 6
    torch.testing.assert_close(prox.MaxNorm(0.9)(v), v * torch.clamp(0.9 / rows, max=1), rtol=0, atol=1e-12)
    torch.testing.assert_close(prox.UnitNorm()(v), v / rows, rtol=0, atol=1e-12)
    p, sigma, qh = torch.linalg.svd(v, full_matrices=False)
    shrunk = p @ torch.diag(torch.clamp(sigma - t, min=0)) @ qh
    torch.testing.assert_close(prox.Nuclear(1.0)(v, t), shrunk, rtol=0, atol=1e-12)
    cut = p[:, :2] @ torch.diag(sigma[:2]) @ qh[:2]
    torch.testing.assert_close(prox.LowRank(2)(v), cut, rtol=0, atol=1e-12)
    torch.testing.assert_close(prox.Stiefel()(v).mT @ prox.Stiefel()(v), torch.eye(4, dtype=D), rtol=0, atol=1e-12)


def test_sorted_projections_equal_the_root_of_their_equation():
    v = draw(30, seed=3)
    tau = brentq(lambda tau: float((v - tau).clamp(min=0).sum()) - 1.3, -10, 10, xtol=1e-14)
    torch.testing.assert_close(prox.Simplex(1.3)(v), (v - tau).clamp(min=0), rtol=0, atol=1e-11)
    tau = brentq(lambda tau: float((v.abs() - tau).clamp(min=0).sum()) - 2.0, 0, 10, xtol=1e-14)
    torch.testing.assert_close(prox.L1Ball(2.0)(v), v.sign() * (v.abs() - tau).clamp(min=0), rtol=0, atol=1e-11)


def test_a_filter_is_one_group_of_a_convolution():
    v = draw(3, 2, 2, 2, seed=4)
    v[1] *= 1e-3
    after = prox.GroupLasso(0.1)(v, 1.0)
    torch.testing.assert_close(after.flatten(1), prox.GroupLasso(0.1)(v.flatten(1), 1.0), rtol=0, atol=1e-15)
    assert (after[1] == 0).all()
    assert (after[[0, 2]] != 0).all()


# --- what a proximal operator is


def _objective(operator, x, v, t, metric=None):
    weight = torch.ones_like(v) if metric is None else metric
    return float(operator.penalty(x)) + float((weight * (x - v) ** 2).sum()) / (2 * t)


def _attained(operator, v, t, metric=None, tries=4):
    """The least value of the objective that a derivative-free search finds, from several starts."""
    best = math.inf
    starts = [v, torch.zeros_like(v), operator(v, t, metric)]
    starts += [v + 0.5 * draw(*v.shape, seed=100 + i) for i in range(tries - 3)]
    for start in starts:
        found = minimize(
            lambda z: _objective(operator, torch.from_numpy(z).view(v.shape), v, t, metric),
            start.flatten().numpy(), method="Powell", options={"xtol": 1e-10, "ftol": 1e-14, "maxiter": 2000},
        )  # fmt: skip
        best = min(best, float(found.fun))
    return best


@pytest.mark.parametrize("name", [name for name in PENALTIES if "weight" not in name])
def test_no_search_finds_a_lower_objective(name):
    operator, v, t = PENALTIES[name], draw(2, 2, seed=5), 0.8
    assert _objective(operator, operator(v, t), v, t) <= _attained(operator, v, t) + 1e-12


@pytest.mark.parametrize("name", [n for n in IN_METRICS if "weight" not in n and n != "log-barrier"])
def test_no_search_finds_a_lower_objective_in_a_metric(name):
    operator, v, t = IN_METRICS[name], draw(2, 2, seed=6), 0.8
    metric = torch.exp(2 * draw(2, 2, seed=7))
    value = _objective(operator, operator(v, t, metric), v, t, metric)
    assert value <= _attained(operator, v, t, metric) + 1e-12
    assert value < _objective(operator, operator(v, t), v, t, metric) - 1e-4  # the Euclidean point is another one


@pytest.mark.parametrize("name", [n for n, op in PENALTIES.items() if n not in ("nuclear", "total-variation")])
def test_proximal_points_satisfy_the_optimality_condition(name):
    # f is convex: v − x is in t ∂f(x) if and only if f(y) ≥ f(x) + ⟨v − x, y − x⟩/t for every y.
    operator, v, t = PENALTIES[name], draw(4, 5, seed=8), 0.5
    metric = None if not operator.metric_aware else torch.exp(draw(4, 5, seed=9))
    for D_ in (None, metric):
        x = operator(v, t, D_)
        slope = (v - x) * (1 if D_ is None else D_) / t
        for seed in range(40):
            y = x + 10.0 ** (-seed % 5 + 1) * draw(4, 5, seed=200 + seed)
            assert float(operator.penalty(y) - operator.penalty(x) - (slope * (y - x)).sum()) >= -1e-9


@pytest.mark.parametrize("name", PENALTIES | PROJECTIONS)
def test_operators_are_firmly_non_expansive(name):
    operator = ALL[name]
    for seed in range(20):
        a, b = draw(4, 5, seed=seed) * 2, draw(4, 5, seed=1000 + seed) * 2
        pa, pb = operator(a, 0.7), operator(b, 0.7)
        assert float(((pa - pb) ** 2).sum()) <= float(((pa - pb) * (a - b)).sum()) + 1e-12


@pytest.mark.parametrize("name", [*PROJECTIONS, "stiefel", "low-rank", "unit-norm"])
def test_projections_stay_where_they_are_and_do_not_see_the_step(name):
    operator, v = ALL[name], draw(4, 5, seed=10)
    once = operator(v, 0.1)
    torch.testing.assert_close(operator(once), once, rtol=0, atol=1e-12)
    assert torch.equal(operator(v, 7.0), once)


@pytest.mark.parametrize(("penalty", "dual"), [
    (lambda r: prox.L1(r), lambda r: prox.LInfBall(r)),
    (lambda r: prox.LInfNorm(r), lambda r: prox.L1Ball(r)),
    (lambda r: prox.L2Norm(r), lambda r: prox.L2Ball(r)),
])  # fmt: skip
def test_moreau_identity(penalty, dual):
    # v = prox_{t‖·‖}(v) + the projection on the ball of the dual norm of radius t
    for seed in range(10):
        v = draw(7, seed=seed)
        torch.testing.assert_close(penalty(1.0)(v, 0.6) + dual(0.6)(v), v, rtol=0, atol=1e-12)


def test_the_point_of_a_separable_sum_is_made_of_those_of_its_parts():
    v, columns = draw(4, 5, seed=11), prox.GroupLasso(0.3, weight=1.0)
    rows = torch.stack([prox.L2Norm(0.3)(row, 0.9) for row in v])
    torch.testing.assert_close(columns(v, 0.9), rows, rtol=0, atol=1e-14)
    group = prox.GroupLasso(0.3)(prox.L1(0.2)(v, 0.9), 0.9)
    assert torch.equal(prox.SparseGroupLasso(l1=0.2, group=0.3)(v, 0.9), group)
    signals = torch.stack([prox.TotalVariation1d(0.3)(row, 0.9) for row in v])
    assert torch.equal(prox.TotalVariation1d(0.3)(v, 0.9), signals)


@given(scale=st.floats(-8, 8), spread=st.floats(0, 6), lam=st.floats(-3, 3), seed=st.integers(0, 1000))
def test_the_group_in_a_metric_solves_its_equation_whatever_the_scales(scale, spread, lam, seed):
    v = draw(3, 6, seed=seed) * 10**scale
    metric = 10 ** (spread * draw(3, 6, seed=seed + 1))
    level = 10**lam * 10**scale
    x = prox.GroupLasso(level, weight=1.0)(v, 1.0, metric)
    for row, point, weights in zip(v, x, metric, strict=True):
        if float((weights * row).norm()) <= level:
            assert (point == 0).all()
        else:
            # D (x − v) + level x/‖x‖ = 0, relative to its parts
            pull = level * point / point.norm()
            residual = weights * (point - row) + pull
            assert float((residual.abs() / (weights * row).abs()).max()) < 1e-9


def test_metric_one_is_the_euclidean_metric_and_a_constant_one_divides_the_step():
    v = draw(4, 5, seed=12)
    for operator in IN_METRICS.values():
        torch.testing.assert_close(operator(v, 0.6, torch.ones_like(v)), operator(v, 0.6), rtol=0, atol=1e-12)
        torch.testing.assert_close(operator(v, 0.6, 3 * torch.ones_like(v)), operator(v, 0.2), rtol=0, atol=1e-12)


@pytest.mark.parametrize("length", [1, 2, 3, 17, 64])
@pytest.mark.parametrize("lam", [1e-17, 0.05, 0.7, 20.0])
def test_total_variation_satisfies_its_dual_conditions(length, lam):
    v = draw(length, seed=length)
    x = prox.TotalVariation1d(lam)(v, 1.0)
    # v − x = Dᵀu with |u| ≤ λ and u = λ sign where x jumps, D taking differences.
    u = -(v - x).cumsum(0)
    assert float(u[-1].abs()) < 1e-12
    jumps = x.diff()
    assert (u[:-1].abs() <= lam + 1e-12).all()
    moved = jumps.abs() > 1e-9
    torch.testing.assert_close(u[:-1][moved], lam * jumps[moved].sign(), rtol=0, atol=1e-11)
    if lam == 20.0:
        torch.testing.assert_close(x, v.mean().expand(length), rtol=0, atol=1e-12)


def test_total_variation_at_a_step_of_zero_is_the_identity():
    v = torch.tensor([1.0, 1.0, 2.0, -3.0, -3.0, 0.5], dtype=D)
    assert torch.equal(prox.TotalVariation1d(0.7)(v, 0.0), v)


# --- zeros, identity, numbers


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", ALL)
def test_dtype_and_shape_stay_and_zeros_are_positive(name, dtype):
    v = draw(4, 5, seed=13).to(dtype)
    v[0], v[1, 2], v[1, 3] = v[0] * 1e-3, 0.0, -0.0
    operator = ALL[name]
    x = operator(v, 0.9)
    assert x.dtype == dtype
    assert x.shape == v.shape
    wide = operator(v.double(), 0.9)
    torch.testing.assert_close(x.double(), wide, rtol=0, atol=20 * torch.finfo(dtype).eps)
    assert not torch.signbit(x[x == 0]).any()


def test_zeros_are_exact_where_a_penalty_says_so():
    v = draw(8, 6, seed=14)
    v[:3] *= 0.01
    for operator in (prox.L1(1.0), prox.ElasticNet(l1=1.0, l2=1.0), prox.L0(1.0)):
        assert int((operator(v, 0.2) == 0).sum()) >= 18
    for operator in (prox.GroupLasso(0.3), prox.SparseGroupLasso(l1=0.1, group=0.1)):
        assert (operator(v, 0.5)[:3] == 0).all()
    assert (prox.Nuclear(1e3)(v, 1.0) == 0).all()
    assert (prox.LInfNorm(1e3)(v, 1.0) == 0).all()
    assert (prox.L2Norm(1e3)(v, 1.0) == 0).all()


@pytest.mark.parametrize("operator", [
    prox.L1(0.0), prox.Ridge(0.0), prox.ElasticNet(l1=0.0, l2=0.0), prox.L2Norm(0.0), prox.GroupLasso(0.0),
    prox.SparseGroupLasso(l1=0.0, group=0.0), prox.LInfNorm(0.0), prox.Nuclear(0.0), prox.L0(0.0), prox.Huber(0.0),
    prox.LogBarrier(0.0), prox.TotalVariation1d(0.0), prox.L1(torch.zeros(5, dtype=D)),
], ids=lambda op: type(op).__name__)  # fmt: skip
def test_a_penalty_of_zero_is_the_identity_bit_for_bit(operator):
    v = draw(4, 5, seed=15)
    assert torch.equal(operator(v, 0.9), v)
    inside = v.clone()
    operator.apply_([inside], 0.9)
    assert torch.equal(inside, v)


@pytest.mark.parametrize("name", [n for n in ALL if n not in ("nuclear", "low-rank", "stiefel")])
def test_what_is_no_number_stays_none(name):
    v = draw(4, 5, seed=16)
    v[2, 3] = math.nan
    assert ALL[name](v, 0.9)[2, 3].isnan()
    inside = v.clone()
    ALL[name].apply_([inside], 0.9)
    assert inside[2, 3].isnan()


def test_anomaly_mode_looks_for_what_is_not_finite():
    v = torch.tensor([1.0, math.inf])
    assert torch.equal(prox.L1(0.5)(v, 1.0), torch.tensor([0.5, math.inf]))
    with torch.autograd.set_detect_anomaly(True, check_nan=False), pytest.raises(FloatingPointError, match="1 others"):
        prox.L1(0.5)(v, 1.0)


def test_a_zero_group_divides_by_nothing_and_has_a_gradient_of_zero():
    v = torch.zeros(3, 4, dtype=D, requires_grad=True)
    for operator in (prox.L2Norm(0.1), prox.GroupLasso(0.1), prox.UnitNorm(), prox.MaxNorm(1.0), prox.L2Ball(1.0)):
        x = operator(v, 0.5)
        assert (x == 0).all()
        (gradient,) = torch.autograd.grad(x.sum(), v)
        assert torch.isfinite(gradient).all(), operator


def test_large_and_equal_entries_in_half_precision_project_as_in_float64():
    v = torch.tensor([600.0, 600.0, 600.0, 599.5, -60000.0], dtype=torch.float16)
    expected = torch.tensor([1 / 3, 1 / 3, 1 / 3, 0.0, 0.0])
    torch.testing.assert_close(prox.Simplex()(v).float(), expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(prox.Simplex()(v.float() * 1e4), expected, rtol=0, atol=1e-6)
    tie = torch.tensor([3.0, -3.0, 3.0, 1.0])
    torch.testing.assert_close(prox.LInfNorm(3.0)(tie, 1.0), torch.tensor([2.0, -2.0, 2.0, 1.0]))


def test_the_log_barrier_does_not_cancel_far_below_zero():
    v = torch.tensor([-1e8, -1e3, 0.0, 2.0], dtype=D)
    x = prox.LogBarrier(1.0)(v, 1.0)
    torch.testing.assert_close(x - 1 / x, v, rtol=1e-12, atol=1e-12)  # the optimality condition
    assert (x > 0).all()


def test_norms_survive_numbers_whose_squares_do_not():
    v = torch.tensor([[3e-30, 4e-30], [3e30, 4e30], [0.0, 0.0]])
    torch.testing.assert_close(prox.UnitNorm()(v), torch.tensor([[0.6, 0.8], [0.6, 0.8], [0.0, 0.0]]))
    torch.testing.assert_close(prox.MaxNorm(2.0)(v)[1], torch.tensor([1.2, 1.6]))
    torch.testing.assert_close(prox.L2Ball(2.0)(v[1]), torch.tensor([1.2, 1.6]))


# --- in place, differentiable, compiled, copied


@pytest.mark.parametrize("name", ALL)
def test_many_tensors_in_place_are_each_as_by_itself(name):
    operator = ALL[name]
    tensors = [draw(4, 5, seed=17), draw(4, 5, seed=18), -torch.zeros(4, 5, dtype=D)]
    expected = [operator(t, 0.4) for t in tensors]
    pointers = [t.data_ptr() for t in tensors]
    operator.apply_(tensors, 0.4)
    for tensor, value in zip(tensors, expected, strict=True):
        torch.testing.assert_close(tensor, value, rtol=0, atol=1e-15)
        assert not torch.signbit(tensor[tensor == 0]).any()
    assert [t.data_ptr() for t in tensors] == pointers


@pytest.mark.parametrize("name", ALL)
def test_a_step_that_is_a_tensor_is_the_same_step(name):
    operator, v = ALL[name], draw(4, 5, seed=19)
    step = torch.tensor(0.4, dtype=D)
    torch.testing.assert_close(operator(v, step), operator(v, 0.4), rtol=0, atol=1e-15)
    inside = v.clone()
    operator.apply_([inside], step)
    torch.testing.assert_close(inside, operator(v, 0.4), rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", [n for n in ALL if n not in ("l0",)])
def test_derivatives_are_those_of_differences(name):
    v = draw(4, 5, seed=20).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: ALL[name](v, 0.4), (v,), eps=1e-7, atol=1e-5)


def test_derivatives_in_the_step_exist():
    step = torch.tensor(0.3, dtype=D, requires_grad=True)
    v = draw(4, 5, seed=21)
    for name in ("l1", "ridge", "group-lasso", "l-inf", "huber", "nuclear", "total-variation"):
        assert torch.autograd.gradcheck(lambda s, name=name: PENALTIES[name](v, s), (step,), eps=1e-7, atol=1e-5), name


@pytest.mark.plain
@pytest.mark.parametrize("name", [n for n in ALL if n != "total-variation"])
def test_operators_compile_whole(name):
    operator, v = ALL[name], draw(4, 5, seed=22)
    torch.compiler.reset()
    compiled = torch.compile(lambda v: operator(v, 0.4), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(v), operator(v, 0.4), rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ALL)
def test_copies_do_the_same(name):
    operator, v = ALL[name], draw(4, 5, seed=23)
    for other in (copy.deepcopy(operator), pickle.loads(pickle.dumps(operator))):
        assert torch.equal(other(v, 0.4), operator(v, 0.4))


@pytest.mark.parametrize("name", ALL)
def test_empty_tensors_stay_empty(name):
    assert ALL[name](torch.zeros(0, 5), 0.4).shape == (0, 5)


# --- bad input


@pytest.mark.plain
@pytest.mark.parametrize(("make", "message"), [
    (lambda: prox.L1(-1.0), r"lam must be finite and not negative, got -1.0"),
    (lambda: prox.L1(math.nan), r"lam must be finite and not negative, got nan"),
    (lambda: prox.L1(torch.tensor([1.0, -2.0])), r"lam must be finite and not negative everywhere, got -2.0"),
    (lambda: prox.Huber(1.0, delta=0.0), r"delta must be positive and finite, got 0.0"),
    (lambda: prox.GroupLasso(1.0, weight="log"), r"weight must be \"sqrt\", a number or a tensor, got 'log'"),
    (lambda: prox.GroupLasso(1.0, dim=2)(torch.ones(2, 2)), r"dim must be a dimension .*, got 2 for shape \(2, 2\)"),
    (lambda: prox.GroupLasso(1.0, weight=torch.ones(3))(torch.ones(2, 2)), r"weight must have one entry per group"),
    (lambda: prox.Box(1.0, 0.0), r"low must be at most high, got 1.0 and 0.0"),
    (lambda: prox.Simplex(0.0), r"total must be positive and finite, got 0.0"),
    (lambda: prox.LowRank(0), r"rank must be at least 1, got 0"),
    (lambda: prox.Nuclear(1.0)(torch.ones(2)), r"parameter must be a matrix .*, got shape \(2,\)"),
    (lambda: prox.L1(1.0)(torch.ones(2), -0.1), r"step must be finite and not negative, got -0.1"),
    (lambda: prox.Nuclear(1.0)(torch.ones(2, 2), 1.0, torch.ones(2, 2)), r"metric must be None for Nuclear"),
])  # fmt: skip
def test_bad_input_is_one_line(make, message):
    with pytest.raises(ValueError, match=message):
        make()

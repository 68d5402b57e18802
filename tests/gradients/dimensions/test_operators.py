"""Claims about estimates of operators: their means by full enumeration of draws, their variances by formula."""

import itertools

import numpy as np
import pytest
import torch

from aleator.gradients import (
    SDGD,
    Exact,
    Hutchinson,
    WithDerivatives,
    biharmonic,
    dimension_variance,
    hutchinson_variance,
    laplacian,
    squared_gradient,
    taylor2,
)
from aleator.gradients.dimensions.taylor import jets_along
from tests.gradients.dimensions.small_nets import DIM, NETS, build, hessians, points


def subsets(batch):
    return [torch.tensor(chosen) for chosen in itertools.combinations(range(DIM), batch)]


def signs():
    return torch.tensor(list(itertools.product((-1.0, 1.0), repeat=DIM)), dtype=torch.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def case():
    net, x = build(NETS["ansatz"]), points()
    return net, x, hessians(net, x).detach()


@pytest.mark.parametrize("batch", [1, 2, 3, 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_mean_and_variance_over_all_subsets_are_those_of_the_formulas(case, batch, weighted):
    net, x, hessian = case
    weights = 0.5 + torch.rand(x.shape, generator=generator(), dtype=x.dtype) if weighted else None
    terms = hessian.diagonal(dim1=1, dim2=2) * (1 if weights is None else weights)
    with torch.no_grad():
        drawn = [laplacian(net, x, indices=j, weights=weights, variance=batch > 1) for j in subsets(batch)]
    values = torch.stack([d.value for d in drawn])
    torch.testing.assert_close(values.mean(0), terms.sum(1), rtol=0, atol=1e-10)
    expected = dimension_variance(terms, batch)
    torch.testing.assert_close(values.var(0, correction=0), expected, rtol=1e-10, atol=1e-12)
    if batch > 1:  # what is reported is unbiased
        reported = torch.stack([d.variance for d in drawn]).mean(0)
        torch.testing.assert_close(reported, expected, rtol=1e-10, atol=1e-12)


def test_the_variance_with_replacement_is_that_of_all_pairs():
    terms = points(4)
    pairs = [DIM / 2 * (terms[:, i] + terms[:, j]) for i, j in itertools.product(range(DIM), repeat=2)]
    torch.testing.assert_close(torch.stack(pairs).var(0, correction=0), dimension_variance(terms, 2, replacement=True))
    assert not dimension_variance(terms[:, :1], 1).any()


@pytest.mark.parametrize("weighted", [False, True])
def test_the_mean_and_variance_over_all_sign_vectors_are_those_of_the_formulas(case, weighted):
    net, x, hessian = case
    weights = 0.5 + torch.rand(DIM, generator=generator(), dtype=x.dtype) if weighted else None
    root = torch.ones(DIM, dtype=x.dtype) if weights is None else weights.sqrt()
    scaled = root[:, None] * hessian * root
    with torch.no_grad():
        values = torch.stack([laplacian(net, x, directions=v[None], weights=weights).value for v in signs()])
    torch.testing.assert_close(values.mean(0), scaled.diagonal(dim1=1, dim2=2).sum(1), rtol=0, atol=1e-10)
    torch.testing.assert_close(values.var(0, correction=0), hutchinson_variance(scaled), rtol=1e-10, atol=1e-12)


def test_the_mean_and_variance_of_gaussian_vectors_are_those_of_the_formulas(case):
    """False alarms: about 1 in 1 000 for each of 12 figures at 4 standard errors, all with one seed."""
    net, x, hessian = case
    many = 20_000
    v = Hutchinson(many, "gaussian").draw(x, generator())
    values = torch.einsum("bi,nij,bj->nb", v, hessian, v)
    torch.testing.assert_close(laplacian(net, x, directions=v[:50]).value, values[:, :50].mean(1), rtol=0, atol=1e-10)
    error = (values.mean(1) - hessian.diagonal(dim1=1, dim2=2).sum(1)).abs()
    assert (error < 4 * values.std(1) / many**0.5).all()
    squares = (values - values.mean(1, keepdim=True)).square()
    error = (squares.mean(1) - hutchinson_variance(hessian, "gaussian")).abs()
    assert (error < 4 * squares.std(1) / many**0.5).all()


def test_the_mean_squared_gradient_over_all_draws_is_the_squared_gradient(case):
    net, x, _ = case
    at = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(at).sum(), at)
    expected = gradient.square().sum(1)
    exact = squared_gradient(net, x)
    torch.testing.assert_close(exact.value, expected)
    assert exact.value.requires_grad
    with torch.no_grad():
        assert not squared_gradient(net, x).value.requires_grad
        for batch in (1, 3):
            values = [squared_gradient(net, x, indices=j).value for j in subsets(batch)]
            torch.testing.assert_close(torch.stack(values).mean(0), expected, rtol=0, atol=1e-10)
        values = [squared_gradient(net, x, directions=v[None]).value for v in signs()]
        torch.testing.assert_close(torch.stack(values).mean(0), expected, rtol=0, atol=1e-10)


def test_the_mean_over_gaussian_vectors_is_the_biharmonic_operator():
    """Gauss–Hermite nodes integrate the fourth-degree polynomial of v exactly."""
    c = torch.tensor([0.7, -1.2, 0.4], dtype=torch.float64)

    def u(y):
        return torch.sin(y @ c) + (y**2).sum(-1) ** 2 * y[:, 0]

    x = points(3, 3)
    # Δ²: |c|⁴ sin(c·x), and Δ²(|x|⁴ x₁) = 280 x₁ in three dimensions
    expected = c.square().sum() ** 2 * torch.sin(x @ c) + 280 * x[:, 0]
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(3))
    v = torch.cartesian_prod(nodes, nodes, nodes)
    w = torch.cartesian_prod(weights, weights, weights).prod(1) / (2 * torch.pi) ** 1.5
    estimates = jets_along(u, x, v, 4)[-1] / 3  # (vectors, points)
    torch.testing.assert_close((w[:, None] * estimates).sum(0), expected, rtol=0, atol=1e-10)
    some = biharmonic(u, x, Hutchinson(1, "gaussian"), directions=(v[5:6], v[[1, 25]]))
    torch.testing.assert_close(some.value, estimates[[1, 25]].mean(0), rtol=0, atol=1e-10)
    torch.testing.assert_close(some.value_independent, estimates[5], rtol=0, atol=1e-10)


@pytest.mark.parametrize("estimator", [SDGD(2), SDGD(2, per_point=True), SDGD(2, weight_batch=3), Hutchinson(3)])
def test_a_draw_is_two_independent_ones_and_a_seed_reproduces_both(case, estimator):
    net, x, _ = case
    found = laplacian(net, x, estimator, generator=generator())
    again = laplacian(net, x, estimator, generator=generator())
    other = laplacian(net, x, estimator, generator=generator(4))
    assert torch.equal(found.value, again.value)
    assert torch.equal(found.value_independent, again.value_independent)
    assert not torch.equal(found.value, other.value)
    assert found.value.requires_grad
    assert not found.value_independent.requires_grad
    given = (found.drawn_independent, found.drawn)
    by_hand = laplacian(net, x, **{"directions" if isinstance(estimator, Hutchinson) else "indices": given})
    assert torch.equal(by_hand.value, found.value)
    assert torch.equal(by_hand.value_independent, found.value_independent)


def test_the_exact_weight_is_the_exact_operator_whatever_is_computed_at_a_time(case):
    net, x, hessian = case
    expected = hessian.diagonal(dim1=1, dim2=2).sum(1)
    found = laplacian(net, x, SDGD(2, weight_batch="all"), generator=generator())
    torch.testing.assert_close(found.value_independent, expected)
    assert found.drawn_independent is None
    with torch.no_grad():
        for chunk in (1, 2, 128):
            torch.testing.assert_close(laplacian(net, x, Exact(chunk)).value, expected)


@pytest.mark.parametrize("per_point", [False, True])
def test_every_dimension_is_drawn_equally_often_and_none_twice(per_point):
    """False alarms: 1 in 10 000, at 5 standard errors of 2 000 draws for each of 7 dimensions."""
    x, estimator, draws = torch.zeros(100, 7), SDGD(3, per_point=per_point), 2000
    g = generator()
    rows = torch.cat([estimator.draw(x, g).reshape(-1, 3) for _ in range(draws // (100 if per_point else 1))])
    assert all(len(set(row)) == 3 for row in rows.tolist())
    share = 3 / 7
    counts = torch.bincount(rows.flatten(), minlength=7)
    assert ((counts - draws * share).abs() < 5 * (draws * share * (1 - share)) ** 0.5).all()


def test_random_vectors_leave_time_alone():
    x = points(4, 3)
    for kind in ("rademacher", "gaussian"):
        v = Hutchinson(5, kind, per_point=True).draw(x, generator(), dim=2)
        assert v.shape == (4, 5, 3)
        assert v[..., :2].all()
        assert not v[..., 2].any()
    assert SDGD(2).draw(x, generator(), dim=2).sort().values.tolist() == [0, 1]


@pytest.mark.parametrize("weighted", [False, True])
def test_what_a_wrapper_returns_is_what_the_functions_do(weighted):
    net, x = build(NETS["terminal"]), points()
    at = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(at).sum(), at)
    weights = torch.rand(len(x), DIM - 1, generator=generator(), dtype=x.dtype) if weighted else None
    terms = hessians(net, x).diagonal(dim1=1, dim2=2)[:, :-1] * (1 if weights is None else weights)
    module = WithDerivatives(net, time=True)
    for with_graph in (True, False):  # without one the sum is taken some dimensions at a time
        for gradient_too in (False, True):
            with torch.set_grad_enabled(with_graph):
                found = module(x, weights=weights, gradient=gradient_too)
            torch.testing.assert_close(found.u, net(x), rtol=0, atol=1e-12)
            torch.testing.assert_close(found.lap, terms.sum(1), rtol=0, atol=1e-10)
            torch.testing.assert_close(found.u_t, gradient[:, -1], rtol=0, atol=1e-10)
            assert found.lap.requires_grad == with_graph
            if gradient_too:
                torch.testing.assert_close(found.grad, gradient[:, :-1], rtol=0, atol=1e-10)
            else:
                assert found.grad is None
    drawn = torch.tensor([2, 0])
    torch.testing.assert_close(module(x, drawn, weights=weights).lap, 2 * terms[:, drawn].sum(1))
    assert module(x, laplacian=False).lap is None
    torch.testing.assert_close(module(x, laplacian=False).u_t, gradient[:, -1], rtol=0, atol=1e-10)


def test_random_vectors_of_a_wrapper_leave_time_alone():
    net, x = build(NETS["terminal"]), points()
    hessian = hessians(net, x)
    v = Hutchinson(3).draw(x, generator(), dim=DIM - 1)
    found = WithDerivatives(net, time=True)(x, v)
    torch.testing.assert_close(found.lap, torch.einsum("bi,nij,bj->nb", v, hessian, v).mean(1), rtol=0, atol=1e-10)


SCALED = {
    "a multiple": lambda x: torch.exp((0.1 * x).sum(1)),
    "the negative": lambda x: torch.exp((-x).sum(1)),
    "a factor of each point": lambda x: torch.tanh((x * torch.full((len(x), 1), 0.3, dtype=x.dtype)).sum(1)),
    "spread over columns": lambda x: (x[:, :1] + torch.arange(4, dtype=x.dtype)) @ torch.eye(4, dtype=x.dtype)[0],
}


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("own", [False, True])
def test_a_sum_of_scaled_coordinates_has_a_derivative_along_each(name, own):
    x, j = points(4), torch.tensor([0, 3])
    j = j.repeat(4, 1) if own else j
    at = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(SCALED[name](at).sum(), at)
    found = squared_gradient(SCALED[name], x, indices=j).value
    torch.testing.assert_close(found, DIM / 2 * gradient[:, [0, 3]].square().sum(1))
    if name != "spread over columns":
        second = hessians(SCALED[name], x).diagonal(dim1=1, dim2=2)[:, [0, 3]].sum(1)
        torch.testing.assert_close(laplacian(SCALED[name], x, indices=j).value, DIM / 2 * second)


@pytest.mark.parametrize(
    "f", [lambda x: torch.add(x.sin(), 1.0, alpha=2).sum(1), lambda x: x.tanh().sum(axis=1)], ids=["alpha", "axis"]
)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_arguments_without_a_rule_go_by_the_slow_way(f, dtype):
    x = points(4)
    with pytest.warns(UserWarning, match="no Taylor rule"):
        found = laplacian(f, x, indices=torch.tensor([0, 3], dtype=dtype)).value
    expected = hessians(f, x).diagonal(dim1=1, dim2=2)[:, [0, 3]].sum(1)
    torch.testing.assert_close(found, DIM / 2 * expected)


def test_the_log_of_a_sigmoid_has_its_tail():
    x = torch.full((1, 1), -20.5, dtype=torch.float64)
    _, _, second = taylor2(lambda y: torch.nn.functional.logsigmoid(y)[:, 0], x, torch.tensor([0]))
    torch.testing.assert_close(second, -torch.sigmoid(x) * torch.sigmoid(-x), rtol=1e-12, atol=0)


def test_a_draw_keeps_no_more_than_it_holds():
    drawn = SDGD(10).draw(torch.zeros(2, 1000), generator())
    assert drawn.untyped_storage().nbytes() == 10 * 8

"""Claims about derivatives along directions: against nested reverse mode, and against closed forms to order 4."""

import math

import pytest
import torch
from torch import nn

from aleator.gradients import jet, laplacian, taylor2
from aleator.gradients.dimensions.taylor import second_sum
from tests.gradients.dimensions.small_nets import DIM, NETS, Ansatz, NormByFormula, build, hessians, mlp, points


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def _no_slow_way(recwarn):
    """Every network here has rules for all its functions."""
    yield
    assert not [w for w in recwarn if "no Taylor rule" in str(w.message)]


@pytest.mark.parametrize("name", NETS)
def test_two_derivatives_equal_nested_reverse_mode_along_every_kind_of_direction(name):
    net, x = build(NETS[name]), points()
    hessian = hessians(net, x)
    diagonal = hessian.diagonal(dim1=1, dim2=2)
    at = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(at).sum(), at)

    shared = torch.tensor([4, 0, 2])
    own = torch.rand(len(x), DIM, generator=generator()).argsort(1)[:, :2]
    vectors = torch.randn(3, DIM, generator=generator(), dtype=x.dtype)
    own_vectors = torch.randn(len(x), 3, DIM, generator=generator(), dtype=x.dtype)
    expected = {
        "indices": (shared, gradient[:, shared], diagonal[:, shared]),
        "indices per point": (own, gradient.gather(1, own), diagonal.gather(1, own)),
        "vectors": (
            vectors,
            gradient @ vectors.T,
            torch.einsum("bi,nij,bj->nb", vectors, hessian, vectors),
        ),
        "vectors per point": (
            own_vectors,
            torch.einsum("nbi,ni->nb", own_vectors, gradient),
            torch.einsum("nbi,nij,nbj->nb", own_vectors, hessian, own_vectors),
        ),
    }
    for kind, (directions, first, second) in expected.items():
        u, du, d2u = taylor2(net, x, directions)
        torch.testing.assert_close(u, net(x).reshape(-1), rtol=0, atol=1e-12, msg=kind)
        torch.testing.assert_close(du, first, rtol=0, atol=1e-10, msg=kind)
        torch.testing.assert_close(d2u, second, rtol=0, atol=1e-10, msg=kind)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("own", [False, True])
def test_the_collapsed_sum_is_the_weighted_sum_of_the_second_derivatives(name, own):
    net, x = build(NETS[name]), points()
    indices = torch.rand(len(x), DIM, generator=generator()).argsort(1)[:, :3] if own else torch.tensor([1, 4, 0])
    weights = torch.randn(len(x), 3, generator=generator(), dtype=x.dtype)
    u, du, d2u = taylor2(net, x, indices)
    for w in (None, weights[0], weights):
        value, first, total = second_sum(net, x, indices, w)
        torch.testing.assert_close(value, u)
        torch.testing.assert_close(first.T, du)
        torch.testing.assert_close(total, (d2u * (1 if w is None else w)).sum(1), rtol=0, atol=1e-12)
    some = second_sum(net, x, indices, count=2)[2]
    torch.testing.assert_close(some, d2u[:, :2].sum(1), rtol=0, atol=1e-12)


def test_vectors_of_another_precision_are_those_numbers_in_the_points_precision():
    net, x = build(NETS["tanh"]), points()
    for given, same in zip(taylor2(net, x, torch.eye(DIM)), taylor2(net, x, torch.arange(DIM)), strict=True):
        torch.testing.assert_close(given, same)


@pytest.mark.parametrize("name", NETS)
def test_four_derivatives_of_a_network_equal_nested_reverse_mode(name):
    net, x = build(NETS[name]), points()
    v = torch.randn(DIM, generator=generator(), dtype=x.dtype)
    s = torch.zeros(len(x), dtype=x.dtype, requires_grad=True)
    with NormByFormula():
        expected = [net(x + s[:, None] * v).reshape(-1)]
    for _ in range(4):
        expected.append(torch.autograd.grad(expected[-1].sum(), s, create_graph=True)[0])
    found = jet(net, x, v, order=4)
    assert len(found) == 5
    for k in range(5):
        torch.testing.assert_close(found[k], expected[k], rtol=1e-10, atol=1e-10)
    assert all(torch.equal(a, b) for a, b in zip(jet(net, x, v, order=3), found[:4], strict=True))


def closed_forms(x, v):
    """Functions of 2 or 3 variables, and d^k/ds^k f(x + s·v) at 0 for k = 0 … 4 by hand."""
    c = torch.tensor([0.7, -1.2, 0.4], dtype=x.dtype)[: x.shape[1]]
    at, slope = x @ c, v @ c
    yield lambda y: torch.exp(y @ c), [slope**k * at.exp() for k in range(5)]
    turns = (at.sin(), at.cos(), -at.sin(), -at.cos(), at.sin())
    yield lambda y: torch.sin(y @ c), [slope**k * turns[k] for k in range(5)]
    q, r, p = (v**2).sum(-1), (x * v).sum(-1), (x**2).sum(-1)
    yield lambda y: (y**2).sum(-1) ** 2, [p**2, 4 * p * r, 8 * r**2 + 4 * p * q, 24 * r * q, 24 * q**2]
    w = 3 + at
    yield lambda y: 1 / (3 + y @ c), [math.factorial(k) * (-slope) ** k / w ** (k + 1) for k in range(5)]
    yield (
        lambda y: torch.log(3 + y @ c),
        [w.log(), *((-1) ** (k + 1) * math.factorial(k - 1) * (slope / w) ** k for k in range(1, 5))],
    )


@pytest.mark.parametrize("dim", [2, 3])
def test_four_derivatives_equal_closed_forms(dim):
    x, v = 0.4 * points(4, dim), points(4, dim, seed=3)
    for f, expected in closed_forms(x, v):
        for found, value in zip(jet(f, x, v), expected, strict=True):
            torch.testing.assert_close(found, value.expand(len(x)), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("estimate", ["indices", "vectors"])
def test_the_gradient_of_the_loss_in_the_parameters_is_right(estimate):
    net, x = build(NETS["residual"]), points(3)
    names, values = zip(*net.named_parameters(), strict=True)
    given = {"indices": torch.tensor([1, 3])} if estimate == "indices" else {"directions": points(2, seed=5)}

    def loss(*parameters):
        def at(y):
            return torch.func.functional_call(net, dict(zip(names, parameters, strict=True)), (y,))

        found = laplacian(at, x, **given)
        return (found.value + found.u.sin()).square().mean()

    assert torch.autograd.gradcheck(loss, values, fast_mode=True)


def test_the_gradient_in_the_points_is_right():
    net, x = build(NETS["awkward"]), points(3).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda y: laplacian(net, y, indices=torch.tensor([0, 2])).value, (x,), fast_mode=True
    )


def test_several_outputs_have_their_own_derivatives():
    net, x = build(lambda: mlp(nn.Tanh(), outputs=3)), points()
    indices = torch.tensor([2, 0])
    u, du, d2u = taylor2(net, x, indices)
    assert (u.shape, du.shape, d2u.shape) == ((6, 3), (6, 3, 2), (6, 3, 2))
    for m in range(3):
        _, first, second = taylor2(lambda y, m=m: net(y)[:, m], x, indices)
        torch.testing.assert_close(du[:, m], first)
        torch.testing.assert_close(d2u[:, m], second)
    torch.testing.assert_close(laplacian(net, x, indices=indices).value, 2.5 * d2u.sum(-1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_keep_their_type_whatever_autocast_says(dtype):
    net, x = build(NETS["residual"]).to(dtype), points(dtype=dtype)
    plain = taylor2(net, x, torch.tensor([1]))
    with torch.autocast("cpu", torch.bfloat16):
        cast = taylor2(net, x, torch.tensor([1]))
    assert all(a.dtype == dtype and torch.equal(a, b) for a, b in zip(cast, plain, strict=True))
    assert all(d.dtype == dtype for d in jet(net, x, x[0]))


def test_a_function_that_is_constant_or_linear_has_no_second_derivative():
    x = points()
    assert not laplacian(lambda y: torch.ones(6, dtype=torch.float64), x).value.any()
    assert not laplacian(lambda y: y.sum(-1), x).value.any()
    _, du, d2u = taylor2(lambda y: 3 * y[:, 1], x, torch.tensor([0, 1]))
    assert torch.equal(du, torch.tensor([0.0, 3.0], dtype=torch.float64).expand(6, 2))
    assert not d2u.any()


def kept_bytes(net, x, indices):
    """Bytes of all tensors that are kept for the backward pass, each once."""
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        loss = laplacian(net, x, indices=indices).value.square().mean()
    assert loss.requires_grad
    return sum(kept.values())


def test_bytes_kept_for_backward_beside_the_points_do_not_grow_with_the_number_of_dimensions():
    kept, points_themselves = {}, {}
    for dim in (10, 100, 1000, 10_000):
        net = build(lambda dim=dim: Ansatz(mlp(nn.Tanh(), nn.Linear(128, 128), nn.Tanh(), width=128, dim=dim))).float()
        x = points(100, dim, dtype=torch.float32)
        kept[dim], points_themselves[dim] = kept_bytes(net, x, torch.arange(10)), x.nbytes
    beside = {dim: kept[dim] - points_themselves[dim] for dim in kept}
    assert max(beside.values()) <= 1.01 * min(beside.values()), beside
    assert kept[1000] <= 1.2 * kept[10], kept
    assert kept[10_000] <= 8e6, kept  # 4 MB of which are the points

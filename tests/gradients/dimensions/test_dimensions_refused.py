"""Claims about bad input to derivatives: one line that names what was got."""

import warnings

import pytest
import torch
from torch import nn

from aleator.gradients import (
    SDGD,
    Exact,
    Hutchinson,
    WithDerivatives,
    accumulate_dimensions,
    biharmonic,
    dimension_variance,
    hutchinson_variance,
    jet,
    laplacian,
    residual_loss,
    taylor2,
)
from tests.gradients.dimensions.small_nets import DIM, NETS, Residual, Sine, build, hessians, mlp, points

pytestmark = pytest.mark.plain

x = points(4)
g = torch.Generator().manual_seed(0)


def tanh(y):
    return torch.tanh(y).sum(-1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: laplacian(tanh, x, SDGD(6), generator=g), "batch must be from 1 to the number of dimensions 5, got 6"),
        (lambda: SDGD(0), "batch must be at least 1, got 0"),
        (lambda: SDGD(2, weight_batch=0), "weight_batch must be at least 1 or 'all', got 0"),
        (lambda: SDGD(2, weight_batch="some"), "weight_batch must be at least 1 or 'all', got 'some'"),
        (lambda: SDGD(2, False, "all"), "weight_batch cannot be used with unbiased=False, got 'all'"),
        (lambda: laplacian(tanh, x, SDGD(2, weight_batch=9), generator=g), "number of dimensions 5, got 9"),
        (lambda: Hutchinson(0), "samples must be at least 1, got 0"),
        (lambda: Hutchinson(2, "uniform"), "kind must be 'rademacher' or 'gaussian', got 'uniform'"),
        (lambda: Exact(0), "chunk must be at least 1, got 0"),
        (
            lambda: laplacian(tanh, x, SDGD(2)),
            "generator must be a torch.Generator where dimensions are drawn, got None",
        ),
        (lambda: laplacian(tanh, x[0]), r"x must have shape (points, dimensions), got (5,)"),
        (
            lambda: laplacian(tanh, x.bfloat16()),
            "x must be float32 or float64 for second derivatives, got torch.bfloat16",
        ),
        (lambda: taylor2(tanh, x, torch.tensor([0, 5])), "indices must be in [0, 4], got 5"),
        (lambda: taylor2(tanh, x, torch.tensor([-1, 3])), "indices must be in [0, 4], got -1"),
        (lambda: laplacian(tanh, x, indices=torch.tensor([1, 1])), "indices must be distinct, got one of them twice"),
        (lambda: laplacian(tanh, x, indices=torch.zeros(0, dtype=torch.long)), "indices must have shape (B,)"),
        (
            lambda: laplacian(tanh, x, indices=torch.arange(6)),
            "indices must be at most 5, the number of dimensions, got 6",
        ),
        (lambda: laplacian(tanh, x, indices=x), "indices must be integers, got torch.float64"),
        (lambda: laplacian(tanh, x, directions=torch.arange(2)), "directions must be floats, got torch.int64"),
        (lambda: laplacian(tanh, x, directions=x[:, :3]), "directions must have shape (B, 5) or (4, B, 5), got (4, 3)"),
        (lambda: laplacian(tanh, x, indices=torch.arange(2), directions=x), "indices cannot be used with directions"),
        (lambda: laplacian(tanh, x, weights=x[:2]), "weights must have shape (5,) or (4, 5), got (2, 5)"),
        (
            lambda: laplacian(tanh, x, Hutchinson(2), generator=g, weights=-torch.ones(DIM, dtype=x.dtype)),
            "weights must not be negative with random vectors, got -1: use SDGD",
        ),
        (
            lambda: laplacian(tanh, x, SDGD(1), generator=g, variance=True),
            "batch must be at least 2 for a variance, got 1",
        ),
        (
            lambda: laplacian(lambda y: torch.tanh(y).sum(), x),
            "net must return shape (4,), (4, 1) or (4, outputs), got ()",
        ),
        (
            lambda: laplacian(lambda y: torch.tanh(y)[:, :, None], x),
            "net must return shape (4,), (4, 1) or (4, outputs)",
        ),
        (lambda: biharmonic(tanh, x, SDGD(2), generator=g), "is no sum over single dimensions, got SDGD"),
        (lambda: biharmonic(tanh, x, Hutchinson(2), generator=g), "must be Hutchinson(…, 'gaussian')"),
        (lambda: jet(tanh, x, x[0], order=5), "order must be from 0 to 4, got 5"),
        (lambda: jet(tanh, x, x[0, :2]), "v must have shape (5,) or (4, 5), got (2,)"),
        (lambda: dimension_variance(x, 6), "batch must be from 1 to the number of dimensions 5, got 6"),
        (lambda: hutchinson_variance(x @ x.T, "other"), "kind must be 'rademacher' or 'gaussian', got 'other'"),
        (lambda: residual_loss(x[0], x[1, :2]), "independent must have shape (5,), got (2,)"),
        (lambda: next(accumulate_dimensions(tanh, 5, 6)), "blocks must be from 1 to the number of dimensions 5, got 6"),
        (
            lambda: WithDerivatives(build(NETS["tanh"]), time=True)(x, torch.tensor([4])),
            "indices must be in [0, 3], got 4",
        ),
    ],
)
def test_bad_input_is_one_line_that_names_it(call, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        call()
    said = str(caught.value)
    assert message in said
    assert "\n" not in said


@pytest.mark.parametrize(
    "kinked", [nn.ReLU(), nn.LeakyReLU(), nn.PReLU(), nn.Hardtanh(), nn.ReLU6(), torch.relu, torch.abs]
)
def test_activations_without_second_derivative_are_refused_by_name(kinked):
    name = type(kinked).__name__ if isinstance(kinked, nn.Module) else kinked.__name__
    for call in (lambda f: laplacian(f, x.float()), lambda f: jet(f, x.float(), x[0].float())):
        with pytest.raises(ValueError, match=f"activations must be smooth for second derivatives .*, got {name}"):
            call(nn.Sequential(Sine(), kinked) if isinstance(kinked, nn.Module) else lambda y: kinked(y))


def test_points_that_depend_on_each_other_and_draws_are_refused():
    norm = build(lambda: mlp(nn.BatchNorm1d(8), nn.Tanh())).float()
    with pytest.raises(ValueError, match="points one by one, got batch normalisation in training mode: '1'"):
        laplacian(norm, x.float())
    norm.eval()
    found = laplacian(norm, x.float()).value
    torch.testing.assert_close(found, hessians(norm, x.float()).diagonal(dim1=1, dim2=2).sum(1))
    dropped = build(lambda: mlp(nn.Tanh(), nn.Dropout(0.5))).float()
    with pytest.raises(ValueError, match=r"dropout must be off \(net.eval\(\)\), got p = 0.5"):
        laplacian(dropped, x.float())
    laplacian(dropped.eval(), x.float())


def test_a_function_without_a_rule_goes_the_slow_way_with_a_warning_and_the_same_numbers():
    net = build(lambda: mlp(nn.Tanh(), Residual(8), nn.Softmax(-1)))  # LayerNorm is where torch's nested way is wrong
    hessian = hessians(net, x)
    with pytest.warns(UserWarning, match="net uses softmax, which has no Taylor rule: nested torch.func.jvp") as caught:
        value = laplacian(net, x).value
    assert len([w for w in caught if "no Taylor rule" in str(w.message)]) == 1
    torch.testing.assert_close(value, hessian.diagonal(dim1=1, dim2=2).sum(1), rtol=0, atol=1e-10)
    v = points(2, seed=4)
    with pytest.warns(UserWarning, match="no Taylor rule"):
        value = taylor2(net, x, v)[2]
    torch.testing.assert_close(value, torch.einsum("bi,nij,bj->nb", v, hessian, v), rtol=0, atol=1e-10)
    with pytest.warns(UserWarning, match="no Taylor rule"):
        slow = jet(net, x, v[0])
    torch.testing.assert_close(slow[2], value[:, 0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["residual", "ansatz", "terminal"])
def test_a_compiled_step_equals_a_plain_one(name):
    torch.compiler.reset()
    net, points_ = build(NETS[name]), points(6)
    with_derivatives = WithDerivatives(net, time=name == "terminal")

    def step(at, indices):
        with torch.no_grad():
            weight = with_derivatives(at, indices.flip(0) * 0 + 1)
        found = with_derivatives(at, indices)
        loss = residual_loss(found.lap + found.u, weight.lap + weight.u)
        return loss if found.u_t is None else loss + found.u_t.square().mean()

    indices = torch.tensor([2])
    expected = torch.autograd.grad(step(points_, indices), list(net.parameters()), allow_unused=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        compiled = torch.compile(step, backend="aot_eager", fullgraph=True)
        found = torch.autograd.grad(compiled(points_, indices), list(net.parameters()), allow_unused=True)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    "net",
    [
        lambda y: (2**y).sum(-1),
        lambda y: torch.where(y > -100, y**2, y).sum(-1),
        lambda y: torch.logsumexp(y, -1),
        lambda y: (y.T.T**2).sum(-1),
        lambda y: torch.stack((y[:, 0], y[:, 1]), -1).square().sum(-1),
    ],
)
def test_whatever_a_network_does_beyond_the_rules_is_done_the_slow_way(net):
    with pytest.warns(UserWarning, match="no Taylor rule"):
        found = laplacian(net, x).value
    torch.testing.assert_close(found, hessians(net, x).diagonal(dim1=1, dim2=2).sum(1), rtol=1e-10, atol=1e-10)


@pytest.mark.filterwarnings("ignore:net uses view")
def test_a_kinked_function_is_refused_behind_one_without_a_rule():
    with pytest.raises(ValueError, match=r"activations must be smooth .* got relu"):
        laplacian(lambda y: torch.relu(torch.tanh(y).view(len(y), DIM)).sum(1), x, indices=torch.arange(2))


def test_a_biharmonic_weight_of_all_dimensions_is_refused():
    with pytest.raises(ValueError, match="directions must be vectors"):
        biharmonic(tanh, x, Hutchinson(2, "gaussian"), directions=(None, x[:2]))

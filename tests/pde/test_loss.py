"""The loss of a sampled residual: expectations by enumeration, against derivatives by nested reverse mode."""

import itertools

import pytest
import torch
from torch import nn

from aleator.gradients import SDGD, Exact, Hutchinson, WithDerivatives, dimension_variance
from aleator.pde import Equation, mlp, pinn_loss, problems
from aleator.random import Streams

D, B = 4, 2
SETS = [torch.tensor(s) for s in itertools.combinations(range(D), B)]
ALLEN_CAHN = Equation(lambda *, x, u, lap: lap + u - u**3 - x[:, 0])


def network(inputs: int = D, outputs: int = 1) -> nn.Sequential:
    """A network whose second derivatives are as large as its values."""
    with Streams(0).scope("init"):
        net = mlp(inputs, outputs, width=8, layers=3).double()
    with torch.no_grad():
        net[0].weight.mul_(4)
        net[2].weight.mul_(2)
    return net


def points(columns: int = D, n: int = 3) -> torch.Tensor:
    return torch.randn(n, columns, generator=Streams(0).generator("x"), dtype=torch.float64)


def by_definition(net, x, residual, weights=None, time=False):
    """Mean squared residual, with every derivative from nested reverse mode and a graph."""
    seen = x.clone().requires_grad_()
    u = net(seen)
    u = u.squeeze(1) if u.ndim == 2 else u
    (gradient,) = torch.autograd.grad(u.sum(), seen, create_graph=True)
    second = [torch.autograd.grad(gradient[:, i].sum(), seen, create_graph=True)[0][:, i] for i in range(x.shape[1])]
    d = x.shape[1] - time
    terms = torch.stack(second[:d], 1)
    lap = (terms if weights is None else weights * terms).sum(1)
    more = {"u_t": gradient[:, d], "u_tt": second[d]} if time else {}
    values = {"x": x, "u": u, "lap": lap, "grad": gradient[:, :d], **more}
    return residual(**values).square().mean(), torch.stack(second, 1).detach()


def gradient_of(loss, net) -> torch.Tensor:
    found = torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)
    return torch.cat(
        [
            torch.zeros_like(p).flatten() if g is None else g.flatten()
            for p, g in zip(net.parameters(), found, strict=True)
        ]
    )


def exact():
    net, x = network(), points()
    loss, terms = by_definition(net, x, lambda **values: ALLEN_CAHN(**values))
    return net, x, loss.detach(), gradient_of(loss, net), terms


def test_algorithm_1_has_the_gradient_and_the_value_of_the_full_loss_in_the_mean():
    net, x, loss, gradient, _ = exact()
    found = [pinn_loss(ALLEN_CAHN, net, x, 1, (None, J)) for J in SETS]
    mean = torch.stack([gradient_of(one, net) for one, _ in found]).mean(0)
    torch.testing.assert_close(mean, gradient, rtol=1e-10, atol=1e-10)
    for _, metrics in found:  # what is reported has no noise
        torch.testing.assert_close(metrics["residual"], loss, rtol=1e-12, atol=0)


def test_algorithm_2_has_the_gradient_and_the_value_of_the_full_loss_in_the_mean():
    net, x, loss, gradient, _ = exact()
    found = [pinn_loss(ALLEN_CAHN, net, x, 2, pair) for pair in itertools.product(SETS, SETS)]
    mean = torch.stack([gradient_of(one, net) for one, _ in found]).mean(0)
    torch.testing.assert_close(mean, gradient, rtol=1e-10, atol=1e-10)
    for values in ([one.detach() for one, _ in found], [metrics["residual"] for _, metrics in found]):
        torch.testing.assert_close(torch.stack(values).mean(), loss, rtol=1e-10, atol=0)


def test_algorithm_3_is_too_large_by_the_variance_in_the_mean():
    net, x, loss, _, terms = exact()
    found = torch.stack([pinn_loss(ALLEN_CAHN, net, x, 3, (None, J))[0].detach() for J in SETS]).mean()
    bias = dimension_variance(terms, B).mean()
    torch.testing.assert_close(found, loss + bias, rtol=1e-10, atol=0)
    assert float(bias) > 0.01 * float(loss)


def test_algorithm_3_may_be_told_its_one_set_twice():
    net, x = network(), points()
    once, twice = (pinn_loss(ALLEN_CAHN, net, x, 3, sets)[0] for sets in ((None, SETS[1]), (SETS[1].clone(), SETS[1])))
    assert torch.equal(once, twice)
    assert torch.equal(gradient_of(once, net), gradient_of(twice, net))


def test_a_plain_function_is_a_network():
    x = points()
    found, metrics = pinn_loss(
        lambda *, x, u, lap, grad: lap + u - grad.square().sum(1),
        lambda at: at.square().sum(1),
        x,
        indices=(SETS[0], SETS[3]),
    )
    r2 = x.square().sum(1)  # Δ|x|² = 2 d from any of the dimensions, |∇|x|²|² = 4 |x|²
    torch.testing.assert_close(found, (2 * D - 3 * r2).square().mean())
    torch.testing.assert_close(metrics["residual"], found)


def test_vectors_of_signs_have_the_gradient_of_the_full_loss_in_the_mean():
    net, x = network(3), points(3)
    loss, _ = by_definition(net, x, lambda **values: ALLEN_CAHN(**values))
    signs = [torch.tensor([s], dtype=torch.float64) for s in itertools.product((-1, 1), repeat=3)]
    found = [gradient_of(pinn_loss(ALLEN_CAHN, net, x, 2, pair)[0], net) for pair in itertools.product(signs, signs)]
    torch.testing.assert_close(torch.stack(found).mean(0), gradient_of(loss, net), rtol=1e-10, atol=1e-10)


PROBLEMS = {
    "hjb-log": problems.HJBLog(D),
    "hjb-rosenbrock": problems.HJBRosenbrock(D),
    "hjb-linear": problems.HJBLinear(D),
    "black-scholes": problems.BlackScholesBarenblatt(D),
    "wave": problems.Wave(D),
    "oscillator": problems.HarmonicOscillator(D),
    "two-body": problems.TwoBody("sine-gordon", D),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_all_dimensions_give_the_loss_and_gradient_by_definition_inside_hard_conditions(name):
    problem = PROBLEMS[name]
    net = problem.ansatz(network(problem.domain.coordinates))
    x = problem.sample(5, Streams(0).generator("x"), torch.float64)
    weights = problem.equation.weights_at(x, D)
    time = problem.equation.has_time
    loss, _ = by_definition(net, x, lambda **values: problem.equation(**values), weights, time)
    found, metrics = pinn_loss(problem.equation, net, x, estimator=Exact())
    torch.testing.assert_close(found, loss, rtol=1e-10, atol=0)
    torch.testing.assert_close(metrics["residual"], loss, rtol=1e-10, atol=0)
    torch.testing.assert_close(gradient_of(found, net), gradient_of(loss, net), rtol=1e-9, atol=1e-10)
    # All of them drawn, in another order, are all of them: with time, which is never sampled.
    other, _ = pinn_loss(problem.equation, net, x, estimator=SDGD(D), generator=Streams(0).generator("J"))
    torch.testing.assert_close(other, loss, rtol=1e-10, atol=0)


def test_two_outputs_and_two_equations():
    net, x = network(outputs=2), points()
    coupled = Equation(lambda *, u, lap, grad: lap + u.flip(1) * grad.square().sum(2), outputs=2)
    loss, metrics = pinn_loss(coupled, net, x, indices=(SETS[0], SETS[1]))

    def residual_with(axes):
        seen = x.clone().requires_grad_()
        u = net(seen)
        gradients = [torch.autograd.grad(u[:, k].sum(), seen, create_graph=True)[0] for k in range(2)]
        laps = [
            sum(torch.autograd.grad(g[:, i].sum(), seen, retain_graph=True)[0][:, i] for i in axes.tolist()) * D / B
            for g in gradients
        ]
        return torch.stack(laps, 1) + u.flip(1) * torch.stack(gradients, 1).square().sum(2)

    product = (residual_with(SETS[0]) * residual_with(SETS[1])).mean()
    torch.testing.assert_close(metrics["residual"], product.detach(), rtol=1e-10, atol=0)
    torch.testing.assert_close(loss.detach(), product.detach(), rtol=1e-10, atol=0)


def test_dimensions_of_its_own_for_every_point():
    net, x = network(), points()
    own = torch.stack([SETS[0], SETS[3], SETS[5]])
    one_by_one = [pinn_loss(ALLEN_CAHN, net, x[i : i + 1], 3, (None, own[i]))[0] for i in range(3)]
    together, _ = pinn_loss(ALLEN_CAHN, net, x, 3, (None, own))
    torch.testing.assert_close(together, torch.stack(one_by_one).mean(), rtol=1e-12, atol=0)


def test_a_source_is_computed_once_a_step_also_with_two_sets():
    calls = []

    def residual(*, x, lap):
        calls.append(len(x))
        return lap - x.sum(1)

    equation, net, x = Equation(residual), network(), points()
    pinn_loss(equation, net, x, indices=(SETS[0], SETS[1]))
    calls.clear()
    pinn_loss(equation, net, x, indices=(SETS[0], SETS[1]))
    assert calls == [3]


def test_the_gradient_of_the_loss_is_right_in_the_weights():
    net, x = network(), points()
    parameters = tuple(p.detach().clone().requires_grad_() for p in net.parameters())

    def loss(*own):
        class Held(nn.Module):
            def forward(self, at):
                return torch.func.functional_call(net, dict(zip(dict(net.named_parameters()), own, strict=True)), at)

        return pinn_loss(ALLEN_CAHN, Held(), x, 3, (None, SETS[2]))[0]

    assert torch.autograd.gradcheck(loss, parameters)


def test_draws_come_from_the_generator_and_nothing_else():
    net, x = network(), points()
    before = torch.get_rng_state()
    found = [
        pinn_loss(ALLEN_CAHN, net, x, estimator=estimator, generator=Streams(seed).generator("J"))[0].detach()
        for estimator in (SDGD(2), Hutchinson(2))
        for seed in (0, 0, 1)
    ]
    assert torch.equal(before, torch.get_rng_state())
    assert found[0] == found[1] != found[2]
    assert found[3] == found[4] != found[5]


@pytest.mark.plain
def test_bad_losses_are_one_line_each():
    net, x, g = network(), points(), torch.Generator()
    with Streams(0).scope("init"):
        relu = nn.Sequential(nn.Linear(D, 4), nn.ReLU(), nn.Linear(4, 1)).double()
    refused = {
        lambda: pinn_loss(ALLEN_CAHN, net, x): "either indices or estimator must be given, got neither",
        lambda: pinn_loss(ALLEN_CAHN, net, x, estimator=SDGD(2)): "generator must be given to draw with, got None",
        lambda: pinn_loss(
            ALLEN_CAHN, net, x, 3, estimator=SDGD(2), generator=g
        ): "algorithm cannot be used with estimator",
        lambda: pinn_loss(ALLEN_CAHN, net, x, 4, (None, SETS[0])): "algorithm must be 1, 2 or 3, got 4",
        lambda: pinn_loss(ALLEN_CAHN, net, x, 2, (None, SETS[0])): "got K = None with algorithm 2",
        lambda: pinn_loss(ALLEN_CAHN, net, x, 3, (SETS[1], SETS[0])): "got K = a set with algorithm 3",
        lambda: pinn_loss(ALLEN_CAHN, net, x, estimator=SDGD(5), generator=g): "5",
        lambda: pinn_loss(ALLEN_CAHN, net, x, 3, (None, torch.tensor([0, 4]))): "indices must be",
        lambda: pinn_loss(ALLEN_CAHN, net, x, 3, (None, torch.tensor([1, 1]))): "indices must be distinct",
        lambda: pinn_loss(ALLEN_CAHN, relu, x, 3, (None, SETS[0])): "activations must be smooth",
        lambda: pinn_loss(ALLEN_CAHN, net.bfloat16(), x, 3, (None, SETS[0])): (
            "net must compute in float32 or float64, since second derivatives in half precision are noise, got "
            "torch.bfloat16 in 0.weight"
        ),
        lambda: pinn_loss(ALLEN_CAHN, network(), x.half(), 3, (None, SETS[0])): "x must be float32 or float64",
        lambda: pinn_loss(lambda *, lap: lap**2, network(), x, 3, (None, SETS[0])): "residual must be affine in lap",
        lambda: pinn_loss(ALLEN_CAHN, WithDerivatives(network(), time=True), x, 3, (None, SETS[0])): (
            r"net must be WithDerivatives\(…, time=False\), got time=True"
        ),
    }
    for call, line in refused.items():
        with pytest.raises(ValueError, match=line):
            call()


def test_without_a_graph_the_loss_has_the_same_value():
    net, x = network(), points()

    def value():
        residual = lambda *, u, lap: lap + u - u**3  # noqa: E731
        return pinn_loss(residual, net, x, indices=(torch.tensor([0, 1]), torch.tensor([1, 2])))[0].detach()

    expected = value()
    with torch.no_grad():
        torch.testing.assert_close(value(), expected)

"""Conditions: hard ones hold whatever the weights are, soft ones are 0 at functions that fulfil them and only there."""

import math

import pytest
import torch
from torch import nn

from aleator.gradients import WithDerivatives
from aleator.pde import Ball, Box, Dirichlet, Gaussian, Initial, Neumann, Periodic, mlp
from aleator.pde.conditions import input_features, with_hard
from aleator.random import Streams

D = 3


def made(domain, *conditions, outputs: int = 1) -> nn.Module:
    with Streams(0).scope("init"):
        net = mlp(input_features(domain, conditions), outputs, width=8, layers=3).double()
    for condition in conditions:
        condition.check(domain)
    return with_hard(net, domain, conditions)


def generator() -> torch.Generator:
    return Streams(0).generator("points")


@pytest.mark.parametrize("domain", [Ball(D, radius=2.0), Box(D, low=-1.0, high=2.0), Box(D, (0.0, 1.0))], ids=str)
def test_a_hard_dirichlet_condition_holds_on_the_boundary_and_only_there(domain):
    net = made(domain, Dirichlet(lambda x: x[:, :D].sum(1), hard=True))
    x, _ = domain.boundary(20, generator(), torch.float64)
    torch.testing.assert_close(net(x).squeeze(1), x[:, :D].sum(1))
    inside = domain.sample(20, generator(), torch.float64)
    assert float((net(inside).detach().squeeze(1) - inside[:, :D].sum(1)).abs().min()) > 1e-4


@pytest.mark.parametrize("at", ["first", "last"])
def test_a_hard_initial_condition_holds_at_its_end_of_time(at):
    domain = Gaussian(D, (0.5, 2.0))
    condition = Initial(lambda x: x[:, 0] ** 2, at, hard=True)
    net = made(domain, condition, outputs=2)
    x = condition.draw(domain, 20, generator(), torch.float64)["x"]
    assert bool((x[:, D] == (0.5 if at == "first" else 2.0)).all())
    torch.testing.assert_close(net(x), (x[:, 0] ** 2).unsqueeze(1).expand(-1, 2))
    other = domain.sample(20, generator(), torch.float64)
    assert float((net(other).detach() - other[:, :1] ** 2).abs().min()) > 1e-6


def test_hard_conditions_of_time_and_space_hold_together():
    domain = Ball(D, (0.0, 1.0))
    net = made(domain, Initial(0.0, hard=True), Dirichlet(0.0, hard=True))
    x, _ = domain.boundary(20, generator(), torch.float64)
    torch.testing.assert_close(net(x), torch.zeros(20, 1, dtype=torch.float64), atol=1e-14, rtol=0)
    x = domain.sample(20, generator(), torch.float64)
    x[:, D] = 0
    assert float(net(x).detach().abs().max()) == 0


def test_a_hard_periodic_condition_holds_with_all_derivatives_and_needs_no_slow_way(recwarn):
    domain, condition = Box(D, (0.0, 1.0), low=-1.0, high=3.0), Periodic(hard=True)
    net = WithDerivatives(made(domain, condition), time=True)
    drawn = condition.draw(domain, 20, generator(), torch.float64)
    here, there = (net(drawn[name], gradient=True) for name in ("x", "across"))
    for a, b in zip(here, there, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)
    assert not recwarn.list


class Known(nn.Module):
    """A function in the place of a network."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x).unsqueeze(1)


SOFT = {
    "initial": (Initial(lambda x: x[:, 0] ** 2, gradient_weight=2.0), Box(D, (0.0, 1.0))),
    "terminal": (Initial(lambda x: x[:, 0] ** 2 + 3, "last", weight=5.0), Gaussian(D, (0.0, 3.0))),
    "dirichlet": (Dirichlet(lambda x: x[:, 0] ** 2 + x[:, -1], weight=0.5), Ball(D, (0.0, 1.0))),
    "neumann on a sphere": (Neumann(lambda x: 2 * x[:, 0] ** 2), Ball(D, (0.0, 1.0))),
    "periodic": (Periodic(), Box(D, (0.0, 1.0), low=0.0, high=1.0)),
}


@pytest.mark.parametrize("name", SOFT)
def test_a_soft_condition_is_0_where_it_is_fulfilled_and_the_weighted_mean_square_elsewhere(name):
    condition, domain = SOFT[name]
    condition.check(domain)
    drawn = condition.draw(domain, 20, generator(), torch.float64)
    if name == "periodic":
        right = Known(lambda x: torch.cos(2 * math.pi * x[:, 0]) + x[:, D])
        wrong = Known(lambda x: torch.cos(2 * math.pi * x[:, 0]) + 0.1 * x[:, :D].sum(1))
        missed = 0.1**2  # the slopes agree, values differ by 0.1 on opposite faces
    else:
        right = Known(lambda x: x[:, 0] ** 2 + x[:, D])
        wrong = Known(lambda x: x[:, 0] ** 2 + x[:, D] + 0.1 * (x[:, :D].sum(1) if name.startswith("neumann") else 1))
        missed = condition.weight * 0.01
    at = [condition.loss(WithDerivatives(net, time=True), drawn).detach() for net in (right, wrong)]
    assert float(at[0]) < 1e-20
    if name.startswith("neumann"):  # 0.1 times the sum of the normal's components
        missed = 0.01 * float(drawn["normals"].sum(1).square().mean())
    assert float(at[1]) == pytest.approx(missed, rel=1e-9)


def test_the_gradient_of_initial_values_counts_in_space_alone():
    condition, domain = SOFT["initial"]
    drawn = condition.draw(domain, 20, generator(), torch.float64)
    tilted = Known(lambda x: x[:, 0] ** 2 + 7 * x[:, D])  # another derivative in time, and at t = 0 no other value
    assert float(condition.loss(WithDerivatives(tilted, time=True), drawn)) < 1e-20
    bent = Known(lambda x: x[:, 0] ** 2 + 0.1 * x[:, 1])
    values = 0.01 * float(drawn["x"][:, 1].square().mean())
    slopes = 2.0 * 0.01 / D
    assert float(condition.loss(WithDerivatives(bent, time=True), drawn)) == pytest.approx(values + slopes, rel=1e-9)


@pytest.mark.plain
def test_bad_conditions_are_one_line_each():
    ball, timed = Ball(D), Ball(D, (0.0, 1.0))
    one, other = (lambda x: x[:, 0]), (lambda x: x[:, 1])
    refused = {
        lambda: Dirichlet(weight=0.0): "weight must be positive and finite, got 0.0",
        lambda: Dirichlet(weight=2.0, hard=True): "weight cannot be used with hard, got 2.0",
        lambda: Initial(0.0).check(ball): "Initial needs a domain with time, got time None",
        lambda: Initial(0.0, "end").check(timed): "at must be first or last, got 'end'",
        lambda: Initial(0.0, gradient_weight=1.0, hard=True).check(timed): "gradient_weight cannot be used with hard",
        lambda: Dirichlet().check(Gaussian(D)): "Dirichlet needs a domain with a boundary, got Gaussian",
        lambda: Neumann(hard=True).check(ball): "hard must be False for Neumann, got True",
        lambda: Periodic().check(ball): "Periodic needs a Box, got Ball",
        lambda: Dirichlet(hard=True).check(
            Box(21)
        ): "hard must be False for Dirichlet on a box of more than 20 dimensions",
        lambda: made(timed, Initial(one, hard=True), Dirichlet(other, hard=True)): (
            "hard conditions must have one function for all their values, got several"
        ),
    }
    for call, line in refused.items():
        with pytest.raises(ValueError, match=line):
            call()


def test_the_gradient_of_initial_values_is_that_of_each_output():
    class Two(nn.Module):
        def forward(self, x):
            return torch.cat([x[:, :1], 2 * x[:, 1:2]], 1)

    condition = Initial(Two(), gradient_weight=1.0)
    x = condition.draw(Box(2, (0.0, 1.0)), 5, generator(), torch.float64)
    assert float(condition.loss(WithDerivatives(Two(), time=True), x)) == 0

"""The oscillator's energy of products of functions of single coordinates."""

import math

import pytest
import torch

from aleator.pde import SeparableState, gauss_cells, oscillator_energy
from aleator.random import Streams


def made(d: int, width: int = 10) -> SeparableState:
    with Streams(0).scope("init"):
        return SeparableState(d, width=width, layers=3)


def test_quadrature_is_exact_for_polynomials_and_for_the_normal_density():
    x, weights = gauss_cells(-5.0, 5.0)
    assert len(x) == 160
    assert float(weights @ x**30) == pytest.approx(2 * 5.0**31 / 31, rel=1e-13)
    density = torch.exp(-0.5 * x.square()) / math.sqrt(2 * math.pi)
    assert float(weights @ density) == pytest.approx(math.erf(5 / math.sqrt(2)), rel=1e-13)


def test_the_ground_state_has_the_energy_of_its_dimensions():
    x, weights = gauss_cells()
    d = 1000
    values = torch.exp(-0.5 * x.square()).expand(d, -1)
    energy = oscillator_energy(values, -x * values, x, weights).sum()
    # What lies beyond 5 is missing: of the order of e^-25.
    assert float(energy) == pytest.approx(d, rel=1e-6)


def test_slopes_are_derivatives_and_states_vanish_at_the_ends():
    state, x = made(3), torch.linspace(-5, 5, 7, dtype=torch.float64, requires_grad=True)
    values, slopes = state(x)
    for own, slope in zip(values, slopes, strict=True):
        torch.testing.assert_close(torch.autograd.grad(own.sum(), x, retain_graph=True)[0], slope)
    assert float(values[:, [0, -1]].detach().abs().max()) == 0


def test_blocks_of_coordinates_have_the_gradient_of_all():
    state, (x, weights) = made(5), gauss_cells(cells=4, nodes=8)
    oscillator_energy(*state(x), x, weights).sum().backward()
    whole = [parameter.grad.clone() for parameter in state.parameters()]
    state.zero_grad()
    for block in torch.arange(5).split(2):
        oscillator_energy(*state(x, block), x, weights).sum().backward()
    for parameter, wanted in zip(state.parameters(), whole, strict=True):
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-10, atol=1e-12)


def test_training_comes_near_the_ground_state_from_above():
    state, (x, weights) = made(4), gauss_cells(cells=5, nodes=8)
    optimizer = torch.optim.Adam(state.parameters(), lr=1e-2)
    for _ in range(200):
        energy = oscillator_energy(*state(x), x, weights).sum()
        optimizer.zero_grad()
        energy.backward()
        optimizer.step()
    assert 4 - 1e-6 < float(energy.detach()) < 4.4


@pytest.mark.plain
def test_bad_states_are_one_line_each():
    for call, line in (
        (lambda: SeparableState(0), "d must be at least 1, got 0"),
        (lambda: SeparableState(2, layers=1), "layers must be at least 2, got 1"),
        (lambda: SeparableState(2, 1.0, 1.0), "high must be finite and above low, 1, got 1"),
        (lambda: gauss_cells(cells=0), "cells and nodes must be at least 1, got 0 and 16"),
    ):
        with pytest.raises(ValueError, match=line):
            call()

"""Claims about Algorithms 1 to 3: their means over all draws, enumerated."""

import itertools

import pytest
import torch

from aleator.gradients import accumulate_dimensions, dimension_variance, laplacian, residual_loss
from tests.gradients.dimensions.small_nets import DIM, NETS, build, hessians, points


@pytest.fixture(scope="module")
def case():
    """An Allen–Cahn residual of a network: r = Δu + u − u³ − f."""
    net, x = build(NETS["tanh"]), points(3)
    source = torch.sin(x.sum(1))

    def residual(indices=None):
        found = laplacian(net, x, indices=indices)
        return found.value + found.u - found.u**3 - source

    return net, x, residual


def gradient(net, loss):
    found = torch.autograd.grad(loss, list(net.parameters()), retain_graph=True)
    return torch.cat([g.flatten() for g in found])


def subsets(batch):
    return [torch.tensor(chosen) for chosen in itertools.combinations(range(DIM), batch)]


@pytest.mark.parametrize("batch", [1, 2, 3, 5])
def test_the_mean_gradient_of_algorithms_1_and_2_is_the_full_gradient(case, batch):
    net, _, residual = case
    full = residual()
    expected = gradient(net, full.square().mean())
    drawn = [residual(j) for j in subsets(batch)]

    def gradients(weights):
        losses = [residual_loss(r, w) for r in drawn for w in weights]
        return torch.stack([loss.detach() for loss in losses]), torch.stack([gradient(net, loss) for loss in losses])

    variances = []
    for weights in ([full], drawn):  # Algorithms 1 and 2
        values, found = gradients(weights)
        torch.testing.assert_close(found.mean(0), expected, rtol=0, atol=1e-10)
        torch.testing.assert_close(values.mean(), full.square().mean().detach(), rtol=0, atol=1e-10)
        variances.append(found.var(0, correction=0).sum())
    if batch == DIM:
        assert max(variances) < 1e-20
    else:
        assert variances[1] >= variances[0] > 0


@pytest.mark.parametrize("batch", [1, 2, 3, 5])
def test_the_mean_loss_of_algorithm_3_is_too_large_by_the_variance(case, batch):
    net, x, residual = case
    with torch.no_grad():
        losses = torch.stack([residual_loss(residual(j)) for j in subsets(batch)])
        exact = residual().square().mean()
    bias = dimension_variance(hessians(net, x).detach().diagonal(dim1=1, dim2=2), batch).mean()
    torch.testing.assert_close(losses.mean(), exact + bias, rtol=0, atol=1e-10)
    assert (bias > 1e-6) == (batch < DIM)


@pytest.mark.parametrize("blocks", [1, 2, 5])
def test_blocks_of_dimensions_add_up_to_the_exact_gradient_and_loss(case, blocks):
    net, _, residual = case
    exact = residual().square().mean()
    net.zero_grad()
    total = 0.0
    for loss in accumulate_dimensions(residual, DIM, blocks):
        loss.backward()
        total += loss.item()
    found = torch.cat([p.grad.flatten() for p in net.parameters()])
    net.zero_grad()
    torch.testing.assert_close(found, gradient(net, exact), rtol=0, atol=1e-10)
    assert abs(total - exact.item()) < 1e-10


def test_a_loss_has_the_value_of_the_estimate_and_the_gradient_of_the_surrogate():
    r, k = torch.tensor([1.0, -2.0], requires_grad=True), torch.tensor([3.0, 5.0], requires_grad=True)
    loss = residual_loss(r, k)
    assert loss.item() == (3 - 10) / 2
    assert [g.tolist() if g is not None else None for g in torch.autograd.grad(loss, (r, k), allow_unused=True)] == [
        [3.0, 5.0],
        None,
    ]

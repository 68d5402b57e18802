import math

import pytest
import torch

from aleator.nn import NoisyReLU, noisy_relu

A = torch.tensor([-1.4, -0.5, 0.0, 0.7, 1.4], dtype=torch.float64)
N = 400_000


def sample(**options):
    a = A.expand(N, -1).clone().requires_grad_()
    h = noisy_relu(a, generator=torch.Generator().manual_seed(0), **options)
    return h.detach(), torch.autograd.grad(h.sum(), a)[0]


def close(samples, expected):
    """Within 5 standard errors: a false alarm in 10^5 runs for the five of them, and the seed is fixed."""
    error = samples.std(0) / math.sqrt(N)
    assert torch.all((samples.mean(0) - expected).abs() <= 5 * error), (samples.mean(0), expected, error)


def test_logistic_noise_gives_softplus_in_the_mean():
    h, gradient = sample(noise="logistic")
    close((h > 0).double(), A.sigmoid())
    close(h, torch.nn.functional.softplus(A))
    close(gradient, A.sigmoid())


@pytest.mark.parametrize("std", [0.5, 1.0, 2.0])
def test_gaussian_noise_has_its_closed_moments(std):
    h, gradient = sample(std=std)
    below = torch.special.ndtr(A / std)
    density = (-(A / std).square() / 2).exp() / math.sqrt(2 * math.pi)
    close((h > 0).double(), below)
    close(h, A * below + std * density)
    close(gradient, below)


def test_given_noise_is_added_and_the_gradient_passes_where_the_sum_is_positive():
    a = A.clone().requires_grad_()
    z = torch.tensor([2.4, 0.4, -0.1, -2.0, 0.6], dtype=torch.float64)
    h = noisy_relu(a, noise=z)
    assert h.tolist() == [1.0, 0.0, 0.0, 0.0, 2.0]
    assert torch.autograd.grad(h.sum(), a)[0].tolist() == [1.0, 0.0, 0.0, 0.0, 1.0]


def test_without_deviation_it_is_the_rectifier():
    assert torch.equal(noisy_relu(A, std=0.0), A.relu())
    assert torch.equal(NoisyReLU(0.0).probability(A), (A > 0).double())


def test_a_uniform_of_zero_gives_no_infinite_noise(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda shape, **options: torch.zeros(shape, dtype=options["dtype"]))
    assert torch.equal(noisy_relu(A, noise="logistic"), torch.zeros_like(A))
    low = noisy_relu(torch.full((1,), 1000.0), noise="logistic")
    assert 900 < float(low) < 1000


@pytest.mark.plain
def test_bad_options_are_refused():
    with pytest.raises(ValueError, match=r"std must not be negative and must be finite, got -1\.0"):
        noisy_relu(A, std=-1.0)
    with pytest.raises(ValueError, match=r"std must not be negative and must be finite, got inf"):
        NoisyReLU(math.inf)
    with pytest.raises(ValueError, match=r"noise must be 'gaussian', 'logistic' or a tensor, got 'uniform'"):
        noisy_relu(A, noise="uniform")

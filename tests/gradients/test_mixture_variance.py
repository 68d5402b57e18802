"""The least noisy sampling: against enumeration, and against the paper's theorem where that does not hold."""

import itertools

import numpy as np
import pytest
import torch

from aleator.data import scalarization_weights, temperature_probabilities
from aleator.data.mixtures.allocation import quota_counts
from aleator.gradients import GradientMoments, batch_gradient_variance, forecast_variance


def mixture(sizes, temperature):
    p = temperature_probabilities(sizes, temperature)
    return torch.from_numpy(p), torch.from_numpy(scalarization_weights(p, sizes))


def moments_of(gradients, covariance=None):
    """The exact moments of domains given by all their gradients."""
    means = torch.stack([g.mean(0) for g in gradients])
    k = len(gradients)
    return GradientMoments(
        names=tuple(map(str, range(k))),
        samples=tuple(map(len, gradients)),
        second=torch.stack([g.square().sum(1).mean() for g in gradients]),
        products=means @ means.T,
        covariance=torch.zeros(k, k + 1, k + 1).double() if covariance is None else covariance,
    )


def of_norms(*norms):
    """Gradients of given norms that cancel within each domain."""
    return moments_of([torch.tensor([[norm], [-norm]]).double() for norm in norms])


@pytest.mark.parametrize(
    ("norms", "scalarization", "temperature"),
    [((3, 1), 5.23, 5.87), ((10, 1), 42.6, 61.2), ((1, 1), 1.95, 1.00), ((1, 10), 154, 39.8)],
)
def test_scalarization_wins_where_large_domains_have_large_gradients(norms, scalarization, temperature):
    p, w = mixture((90, 10), 5)
    moments = of_norms(*norms)
    variance = batch_gradient_variance(p, w, moments.second, moments.products, 1)
    assert variance["scalarization"] == pytest.approx(scalarization, rel=2e-3)
    assert variance["temperature"] == pytest.approx(temperature, rel=2e-3)
    least = forecast_variance(p, w, moments, 1).least
    # Gradients that cancel have nothing between domains: quotas and temperature sampling tie.
    assert least == ("scalarization" if norms in ((3, 1), (10, 1)) else "undecided")


@pytest.mark.parametrize("temperature", [1, 2, 5, 100])
def test_single_draws_of_a_13_example_toy_are_as_enumerated(temperature):
    sizes = (9, 3, 1)
    generator = torch.Generator().manual_seed(0)
    gradients = [torch.randn(n, 4, generator=generator).double() + i for i, n in enumerate(sizes)]
    p, w = mixture(sizes, temperature)
    each = torch.cat(gradients)
    domain = torch.repeat_interleave(torch.arange(3), torch.tensor(sizes))
    chance = {
        "temperature": (p / torch.tensor(sizes))[domain],
        "scalarization": torch.full((13,), 1 / 13, dtype=torch.double),
    }
    drawn = {"temperature": each, "scalarization": w[domain, None] * each}
    means = {how: chance[how] @ drawn[how] for how in chance}
    torch.testing.assert_close(means["temperature"], means["scalarization"], rtol=1e-12, atol=1e-12)
    moments = moments_of(gradients)
    variance = batch_gradient_variance(p, w, moments.second, moments.products, 1)
    for how in chance:
        enumerated = chance[how] @ (drawn[how] - means[how]).square().sum(1)
        assert variance[how] == pytest.approx(float(enumerated), rel=1e-12)


def test_batches_of_quotas_are_as_enumerated():
    # 2·P = 0, 1.25, 1.75, 2: eight offsets are all there is, and steps 0 to 7 visit each once.
    sizes, p = (9, 3, 1), torch.tensor([5, 2, 1]).double() / 8
    generator = torch.Generator().manual_seed(1)
    gradients = [torch.randn(n, 2, generator=generator).double() + i for i, n in enumerate(sizes)]
    moments = moments_of(gradients)
    mean = sum(q * g.mean(0) for q, g in zip(p, gradients, strict=True))
    total = 0.0
    for counts in quota_counts(p.numpy(), 2, 0, 8, key=2**36):  # the middles of the pieces
        slots = [gradients[i] for i in np.repeat(np.arange(3), counts)]
        pairs = torch.stack([(a + b) / 2 for a, b in itertools.product(*slots)])
        total += float((pairs - mean).square().sum(1).mean()) / 8
    w = p * 13 / torch.tensor(sizes)
    found = batch_gradient_variance(p, w, moments.second, moments.products, 2)
    assert found["quota"] == pytest.approx(total, rel=1e-12)


def test_whole_quotas_remove_what_lies_between_domains():
    generator = torch.Generator().manual_seed(2)
    gradients = [torch.randn(20, 3, generator=generator).double() + 3 * i for i in range(2)]
    moments = moments_of(gradients)
    p = torch.tensor([0.75, 0.25]).double()
    variance = batch_gradient_variance(p, torch.ones(2).double(), moments.second, moments.products, 8)
    means = torch.stack([g.mean(0) for g in gradients])
    between = p @ (means - p @ means).square().sum(1)
    assert variance["quota"] == pytest.approx(float(p @ moments.variance) / 8)
    assert variance["temperature"] == pytest.approx(float(p @ moments.variance + between) / 8)


def test_quotas_are_not_noisier_than_independent_draws_over_200_random_problems():
    generator = torch.Generator().manual_seed(3)
    rng = np.random.default_rng(3)
    ratios = []
    for _ in range(200):
        k = int(rng.integers(2, 8))
        p, w = mixture(rng.integers(1, 10_000, k).tolist(), float(rng.uniform(1, 10)))
        gradients = [torch.randn(5, 3, generator=generator).double() + rng.normal() * 2 for _ in range(k)]
        moments = moments_of(gradients)
        variance = batch_gradient_variance(p, w, moments.second, moments.products, int(rng.integers(k, 64)))
        ratios.append(variance["quota"] / variance["temperature"])
    assert np.mean(ratios) < 1
    assert np.mean(np.array(ratios) < 1) > 0.95


def test_equal_gradients_and_temperature_one_make_no_difference():
    p, w = mixture((90, 10), 1)
    moments = of_norms(3, 1)
    forecast = forecast_variance(p, w, moments, 4)
    assert forecast.variance["temperature"] == pytest.approx(forecast.variance["scalarization"])
    assert forecast.least == "undecided"


def test_a_difference_within_its_error_is_undecided():
    p, w = mixture((90, 10), 5)
    gradients = [torch.tensor([[3.0], [-3.0]]).double(), torch.tensor([[1.0], [-1.0]]).double()]
    covariance = torch.zeros(2, 3, 3).double()
    for error, least in ((0.1, "scalarization"), (5.0, "undecided")):
        covariance[:, 0, 0] = error**2
        forecast = forecast_variance(p, w, moments_of(gradients, covariance), 1)
        difference, claimed = forecast.differences["scalarization", "temperature"]
        assert difference == pytest.approx(5.23 - 5.87, abs=0.01)
        assert claimed == pytest.approx(error * float((p * (w - 1)).norm()))
        assert forecast.least == least


def test_batches_and_shapes_out_of_range_are_refused():
    p, w = mixture((90, 10), 5)
    moments = of_norms(1, 1)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        forecast_variance(p, w, moments, 0)


@pytest.mark.plain
def test_weights_of_other_domains_are_refused():
    p, w = mixture((90, 10), 5)
    with pytest.raises(ValueError, match=r"one entry for each domain, got shapes \(2,\), \(1,\)"):
        forecast_variance(p, w[:1], of_norms(1, 1), 1)

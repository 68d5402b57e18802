"""Scalarization has the gradient of temperature sampling, and says what it cannot weigh."""

import pytest
import torch

from aleator.data import scalarization_weights, temperature_probabilities
from aleator.losses import scalarized_loss

LOSSES = torch.tensor([1.0, 2.0, 4.0, 8.0])
DOMAINS = torch.tensor([0, 1, 1, 2])
WEIGHTS = torch.tensor([1.0, 10.0, 0.5])


def test_the_two_normalisations_are_their_formulas():
    assert scalarized_loss(LOSSES, DOMAINS, WEIGHTS) == (1 + 20 + 40 + 4) / 4
    assert scalarized_loss(LOSSES, DOMAINS, WEIGHTS, "weights") == pytest.approx((1 + 20 + 40 + 4) / 21.5)


@pytest.mark.parametrize("normalize", ["batch", "weights"])
def test_unit_weights_give_the_mean(normalize):
    assert scalarized_loss(LOSSES, DOMAINS, torch.ones(3), normalize) == LOSSES.mean()


@pytest.mark.parametrize("temperature", [1, 2, 5, 1e6])
def test_full_batch_gradients_of_temperature_sampling_and_scalarization_are_equal(temperature):
    generator = torch.Generator().manual_seed(0)
    sizes = (50, 12, 3)
    domains = torch.repeat_interleave(torch.arange(3), torch.tensor(sizes))
    inputs, targets = (torch.randn(65, d, generator=generator, dtype=torch.double) for d in (4, 2))
    parameters = [
        torch.randn(*shape, generator=generator, dtype=torch.double, requires_grad=True) for shape in ((4, 8), (8, 2))
    ]

    def losses():
        return ((inputs @ parameters[0]).tanh() @ parameters[1] - targets).square().sum(1)

    p = temperature_probabilities(sizes, temperature)
    sampled = sum(q * losses()[domains == i].mean() for i, q in enumerate(p))
    weights = torch.from_numpy(scalarization_weights(p, sizes))
    weighted = scalarized_loss(losses(), domains, weights)
    for a, b in zip(torch.autograd.grad(sampled, parameters), torch.autograd.grad(weighted, parameters), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_over_batches_dividing_by_the_batch_is_unbiased_and_by_the_weights_is_not():
    sizes, losses = (3, 1), torch.tensor([1.0, 2.0, 3.0, 10.0])
    domains = torch.tensor([0, 0, 0, 1])
    p = temperature_probabilities(sizes, 5)
    weights = torch.from_numpy(scalarization_weights(p, sizes)).float()
    pairs = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    means = {
        how: torch.stack([scalarized_loss(losses[pair], domains[pair], weights, how) for pair in pairs]).mean()
        for how in ("batch", "weights")
    }
    wanted = p[0] * 2 + p[1] * 10
    assert means["batch"] == pytest.approx(wanted, rel=1e-6)
    assert abs(means["weights"] - wanted) > 0.1


def test_weights_take_the_precision_of_the_losses():
    assert scalarized_loss(LOSSES, DOMAINS, WEIGHTS.double()).dtype == torch.float32


@pytest.mark.plain
@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ((LOSSES, torch.tensor([0, 1, 3, 2]), WEIGHTS), r"domain_ids must be in \[0, 3\), got 3"),
        ((LOSSES, torch.tensor([0, 1, -1, 2]), WEIGHTS), r"domain_ids must be in \[0, 3\), got -1"),
        ((LOSSES, DOMAINS[:3], WEIGHTS), r"one entry for each example, got shapes \(4,\) and \(3,\)"),
        ((LOSSES.mean(), DOMAINS, WEIGHTS), r"one entry for each example, got shapes \(\) and \(4,\)"),
        ((LOSSES, DOMAINS, WEIGHTS[None]), r"weights must have one entry for each domain, got shape \(1, 3\)"),
        ((LOSSES, DOMAINS, WEIGHTS, "sum"), 'normalize must be "batch" or "weights", got \'sum\''),
    ],
)
def test_what_does_not_fit_is_refused(args, reason):
    with pytest.raises(ValueError, match=reason):
        scalarized_loss(*args)


@pytest.mark.plain
def test_it_compiles_to_the_same_loss():
    compiled = torch.compile(scalarized_loss, backend="aot_eager", fullgraph=True)
    assert compiled(LOSSES, DOMAINS, WEIGHTS) == scalarized_loss(LOSSES, DOMAINS, WEIGHTS)


def test_autocast_does_not_round_the_losses():
    losses = torch.tensor([1.001, 2.003, 4.007, 8.0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        within = scalarized_loss(losses, DOMAINS, WEIGHTS)
    assert within == scalarized_loss(losses, DOMAINS, WEIGHTS)
    assert within.dtype == torch.float32


@pytest.mark.parametrize("normalize", ["batch", "weights"])
def test_sums_of_losses_in_half_precision_stay_finite(normalize):
    losses = torch.full((4096,), 30.0, dtype=torch.float16, requires_grad=True)
    loss = scalarized_loss(losses, torch.zeros(4096, dtype=torch.int64), torch.tensor([2.0]), normalize)
    assert loss.item() == pytest.approx(60.0 if normalize == "batch" else 30.0, rel=1e-6)
    loss.backward()
    assert losses.grad.dtype == torch.float16

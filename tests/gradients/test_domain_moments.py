"""Per-domain gradient moments: exact on whole domains, unbiased on samples, with errors that are what they say."""

import pytest
import torch
from torch import nn

from aleator.gradients import GradientMomentProbe

SIZES = {"a": 30, "b": 9, "c": 1}


def problem(seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    model[0].bias.requires_grad_(False)
    domains = {
        name: (torch.randn(n, 3, generator=generator), torch.randint(2, (n,), generator=generator))
        for name, n in SIZES.items()
    }
    return model, domains


def direct(model, domains):
    """All per-example gradients, by backward."""
    model.eval()
    trained = [p for p in model.parameters() if p.requires_grad]
    found = {}
    for name, (inputs, targets) in domains.items():
        rows = []
        for x, y in zip(inputs, targets, strict=True):
            loss = nn.functional.cross_entropy(model(x[None]), y[None])
            rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, trained)]).double())
        found[name] = torch.stack(rows)
    model.train()
    return found


def measured(samples, seed=1, chunk_size=4):
    model, domains = problem()
    probe = GradientMomentProbe(model, nn.functional.cross_entropy, chunk_size)
    return probe.measure(domains, samples, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def truth():
    gradients = direct(*problem())
    means = torch.stack([g.mean(0) for g in gradients.values()])
    second = torch.stack([g.square().sum(1).mean() for g in gradients.values()])
    variance = torch.stack([(g - g.mean(0)).square().sum(1).mean() for g in gradients.values()])
    return second, variance, means @ means.T


@pytest.mark.parametrize("chunk_size", [1, 4, 100])
def test_whole_domains_give_the_moments_of_their_gradients_without_error(truth, chunk_size):
    moments = measured(30, chunk_size=chunk_size)
    second, variance, products = truth
    torch.testing.assert_close(moments.second, second, rtol=1e-5, atol=0)
    torch.testing.assert_close(moments.variance, variance, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(moments.products, products, rtol=1e-4, atol=1e-5)
    assert moments.samples == (30, 9, 1)
    assert moments.second_error.tolist() == moments.variance_error.tolist() == [0, 0, 0]


def test_samples_are_unbiased_and_vary_by_their_standard_errors(truth):
    runs = [measured(8, seed, chunk_size=8) for seed in range(144)]
    for name, errors, expected in (
        ("second", "second_error", truth[0]),
        ("variance", "variance_error", truth[1]),
    ):
        found = torch.stack([getattr(run, name) for run in runs])[:, :2]
        spread = found.std(0)
        # Four standard errors of the mean: a false alarm in 16 000 for each figure.
        assert ((found.mean(0) - expected[:2]).abs() < 4 * spread / 12 + 1e-6).all()
        claimed = torch.stack([getattr(run, errors) for run in runs])[:, :2].square().mean(0).sqrt()
        # The spread of 144 runs is itself known to 6 %; to first order the claim is good to about a quarter.
        assert (claimed / spread - 1).abs().max() < 0.25
    products = torch.stack([run.products for run in runs])
    spread = products.std(0) / 12
    assert ((products.mean(0) - truth[2]).abs() < 4 * spread + 1e-6).all()


def test_the_model_is_left_as_it_was():
    model, domains = problem()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    GradientMomentProbe(model, nn.functional.cross_entropy).measure(domains, 8, generator=torch.Generator())
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_generator_decides_which_examples_are_looked_at():
    assert measured(8, 3).second.tolist() == measured(8, 3).second.tolist() != measured(8, 4).second.tolist()


def test_at_most_a_chunk_of_gradients_is_held():
    model, domains = problem()
    seen = []
    original = GradientMomentProbe._gradients

    class Counting(GradientMomentProbe):
        def _gradients(self, tensors):
            for chunk in original(self, tensors):
                seen.append(len(chunk))
                yield chunk

    Counting(model, nn.functional.cross_entropy, chunk_size=4).measure(domains, 30, generator=torch.Generator())
    assert max(seen) == 4
    assert sum(seen) == 2 * sum(SIZES.values())


@pytest.mark.parametrize(
    ("change", "samples", "reason"),
    [
        ({"a": (torch.zeros(0, 3), torch.zeros(0).long())}, 8, r"equally long and not empty, got \[0\] for 'a'"),
        ({"a": (torch.zeros(4, 3), torch.zeros(5).long())}, 8, r"equally long and not empty, got \[4, 5\] for 'a'"),
        ({}, 1, "samples must be at least 2, got 1"),
    ],
)
def test_domains_that_cannot_be_measured_are_refused(change, samples, reason):
    model, domains = problem()
    probe = GradientMomentProbe(model, nn.functional.cross_entropy)
    with pytest.raises(ValueError, match=reason):
        probe.measure(domains | change, samples, generator=torch.Generator())


def test_probes_out_of_range_are_refused():
    model, _ = problem()
    with pytest.raises(ValueError, match="chunk_size must be at least 1, got 0"):
        GradientMomentProbe(model, nn.functional.cross_entropy, 0)
    with pytest.raises(ValueError, match="model must have a parameter to train, got none"):
        GradientMomentProbe(nn.Tanh(), nn.functional.cross_entropy)
    probe = GradientMomentProbe(model, nn.functional.cross_entropy)
    with pytest.raises(ValueError, match="domains must hold at least one domain, got none"):
        probe.measure({}, generator=torch.Generator())


def test_the_mode_of_every_module_is_left_as_it_is():
    model, domains = problem()
    model.train()
    model[2].eval()
    before = [module.training for module in model.modules()]
    GradientMomentProbe(model, nn.functional.cross_entropy).measure(domains, 2, generator=torch.Generator())
    assert [module.training for module in model.modules()] == before


def test_a_recurrent_layer_is_refused_by_name():
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.GRU(3, 2, batch_first=True)

        def forward(self, x):
            return self.layer(x[:, None])[0][:, 0]

    with torch.random.fork_rng(devices=[]):
        model = Tagger()
    probe = GradientMomentProbe(model, nn.functional.cross_entropy)
    with pytest.raises(ValueError, match=r"model must have no recurrent layer: .* by vmap do not support these"):
        probe.measure(problem()[1], 2, generator=torch.Generator())

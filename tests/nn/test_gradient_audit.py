import functools

import pytest
import torch

from aleator.nn import (
    STS,
    BernoulliReinforce,
    BernoulliST,
    GradientAudit,
    NoisyReLU,
    ReinMaxBernoulli,
    RelaxedBernoulliST,
    arm,
    disarm,
    reinforce,
    rloo,
)

A = torch.tensor([-1.2, 0.4, 2.0], dtype=torch.float64)
DISCRETE = [
    BernoulliST(),
    BernoulliST("identity"),
    ReinMaxBernoulli(),
    STS(),
    STS(0.3, rescale=True),
    STS(sample_from="p"),
    BernoulliReinforce(),
    functools.partial(reinforce, baseline=0.4),
    rloo,
    functools.partial(rloo, k=3),
    arm,
    disarm,
]


def f(h):
    return (h.sum(-1) - 0.3).square() * h[..., 0].cos() + h.prod(-1)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("estimator", DISCRETE, ids=range(len(DISCRETE)))  # names hold addresses
def test_samples_agree_with_what_is_found_exactly(estimator):
    n = 200_000
    exact, sampled = (
        GradientAudit(estimator, f, A).exact(),
        GradientAudit(estimator, f, A).monte_carlo(n, generator()),
    )
    assert torch.all((sampled.mean - exact.mean).abs() <= 5 * sampled.standard_error + 1e-12)
    torch.testing.assert_close(sampled.variance, exact.variance, rtol=0.05, atol=1e-12)
    assert exact.samples is None
    assert torch.equal(exact.standard_error, torch.zeros(3).double())
    assert torch.equal(sampled.truth, exact.truth)


@pytest.mark.parametrize("estimator", [BernoulliST(), STS(), STS(sample_from="p"), RelaxedBernoulliST()], ids=repr)
def test_the_truth_is_the_derivative_of_the_expected_loss(estimator):
    # Against differences of the mean loss over all states.
    def expected(a):
        p, value = estimator.probability(a), estimator.magnitude(a)
        states = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 3)
        return float((torch.where(states > 0, p, 1 - p).prod(1) * f(states * value)).sum())

    truth = GradientAudit(estimator, f, A).monte_carlo(2, generator()).truth
    for unit, step in enumerate(1e-6 * torch.eye(3, dtype=torch.float64)):
        difference = (expected(A + step) - expected(A - step)) / 2e-6
        assert float(truth[unit]) == pytest.approx(difference, abs=1e-8)


def test_an_odd_number_of_cases_and_one_unit_are_gone_through():
    found = GradientAudit(arm, f, A[:1]).exact()
    torch.testing.assert_close(found.mean, found.truth)
    many = GradientAudit(BernoulliST(), lambda h: h.sum(-1), torch.linspace(-2, 2, 16).double()).exact()
    torch.testing.assert_close(many.bias, torch.zeros(16).double(), rtol=0, atol=1e-12)


def test_noisy_rectifiers_have_no_truth_to_compare_with():
    found = GradientAudit(NoisyReLU(), f, A).monte_carlo(1000, generator())
    assert found.truth is None
    assert found.bias is None
    assert GradientAudit(BernoulliST(), f, torch.zeros(17)).monte_carlo(100, generator()).truth is None


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GradientAudit(rloo, f, torch.zeros(9)).exact(), r"at most 65536 cases, got 2\^18: use monte_carlo"),
        (lambda: GradientAudit(BernoulliST(), f, torch.zeros(17)).exact(), r"at most 65536 cases, got 2\^17"),
        (lambda: GradientAudit(NoisyReLU(), f, A).exact(), r"finitely many cases, got NoisyReLU\(.*: use monte_carlo"),
        (lambda: GradientAudit(RelaxedBernoulliST(), f, A).exact(), "finitely many cases, got RelaxedBernoulliST"),
        (lambda: GradientAudit(lambda f, a, **_: f(a), f, A).exact(), "estimator must be one whose cases are known"),
        (lambda: GradientAudit(arm, f, torch.zeros(2, 3)), r"logits must be a vector .*, got shape \(2, 3\)"),
        (lambda: GradientAudit(arm, f, torch.zeros(0)), r"logits must be a vector .*, got shape \(0,\)"),
        (lambda: GradientAudit(arm, f, A).monte_carlo(1, generator()), "n must be at least 2, got 1"),
        (
            lambda: GradientAudit(BernoulliST(), lambda h: h.mean(), A).exact(),
            r"f must return losses of shape \(8,\), got \(\)",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()

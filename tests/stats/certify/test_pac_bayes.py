"""PAC-Bayes bounds: the inversion, its relaxation, the divergence of Gaussians, and a bound that holds."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Independent, Normal, kl_divergence

from aleator.stats import accuracy_bound, gaussian_kl, pac_bayes_kl, pac_bayes_sqrt
from aleator.stats.certify.binary_kl import binary_kl


@given(risk=st.floats(0.001, 0.9), kl=st.floats(0, 500), n=st.integers(8, 10**6), delta=st.floats(1e-6, 0.5))
def test_the_inversion_spends_the_budget_and_its_relaxation_is_looser(
    risk: float, kl: float, n: int, delta: float
) -> None:
    bound = pac_bayes_kl(risk, kl, n, delta)
    budget = (kl + math.log(2 * math.sqrt(n) / delta)) / n
    assert risk <= bound <= pac_bayes_sqrt(risk, kl, n, delta) + 1e-12
    if bound < 1 - 1e-9:
        assert binary_kl(risk, bound) == pytest.approx(budget, rel=1e-6)


def test_without_errors_the_inversion_has_a_closed_form() -> None:
    assert pac_bayes_kl(0.0, 10.0, 1000, 0.05) == pytest.approx(
        1 - math.exp(-(10 + math.log(2 * math.sqrt(1000) / 0.05)) / 1000)
    )


def test_gaussian_kl_is_torchs_and_zero_for_equal_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, prior_mean = torch.randn(2, 7, 3, generator=generator)
    std, prior_std = torch.rand(2, 7, 3, generator=generator) + 0.1
    theirs = kl_divergence(
        Independent(Normal(mean.double(), std.double()), 2),
        Independent(Normal(prior_mean.double(), prior_std.double()), 2),
    )
    assert float(gaussian_kl(mean, std, prior_mean, prior_std)) == pytest.approx(float(theirs), rel=1e-12)
    assert float(gaussian_kl(mean, std, mean, std)) == 0


def test_gaussian_kl_is_differentiable_and_summed_in_double() -> None:
    mean = torch.zeros(3_000_000, requires_grad=True)
    kl = gaussian_kl(mean + 1e-3, torch.tensor(1.0), 0.0, 1.0)
    assert float(kl.detach()) == pytest.approx(1.5, rel=1e-6)  # a float32 sum of 3 million terms of 5e-7 is off by more
    kl.backward()
    assert mean.grad is not None
    assert torch.allclose(mean.grad, torch.full_like(mean.grad, 1e-3))


def test_bound_with_an_estimated_risk_holds_for_a_threshold_that_is_drawn() -> None:
    """Labels x > 0 with x uniform on [−1, 1]; the posterior is N(a, s²) over thresholds, a fitted to the examples.

    The risk of a threshold w is min(|w|, 1)/2 and its mean over the posterior is known to Monte Carlo error; 200 draws
    of the examples, δ = 0.05: more than 23 exceedances have probability below 1e-4, and few are expected.
    """
    generator = torch.Generator().manual_seed(0)
    n, m, delta, std, exceeded = 400, 2000, 0.05, 0.1, 0
    for _ in range(200):
        x = torch.rand(n, generator=generator) * 2 - 1
        fitted = float((x[x > 0].min() + x[x <= 0].max()) / 2)
        w = fitted + std * torch.randn(m, generator=generator)
        example = x[torch.randint(n, (m,), generator=generator)]
        wrong = int(((example > w) != (example > 0)).sum())
        risk = accuracy_bound(wrong, m, delta / 2, side="upper").bound
        kl = float(gaussian_kl(torch.tensor([fitted]), torch.tensor([std]), 0.0, 1.0))
        bound = pac_bayes_kl(risk, kl, n, delta / 2)  # type: ignore[arg-type]
        truth = float((fitted + std * torch.randn(20_000, generator=generator)).abs().clamp(max=1).mean()) / 2
        assert bound < 0.15  # not vacuous: the risk is about 0.04
        exceeded += bound < truth
    assert exceeded <= 23


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pac_bayes_kl(0.1, 1.0, 7, 0.05), "n must be a whole number of at least 8, got 7"),
        (lambda: pac_bayes_kl(1.1, 1.0, 10, 0.05), r"empirical_risk must be in \[0, 1\], got 1.1"),
        (lambda: pac_bayes_sqrt(0.1, -1.0, 10, 0.05), "kl must not be negative and must be finite, got -1.0"),
        (lambda: pac_bayes_kl(0.1, 1.0, 10, 1.0), r"delta must be in \(0, 1\), got 1.0"),
        (
            lambda: gaussian_kl(torch.zeros(2), torch.tensor([1.0, 0.0]), 0.0, 1.0),
            "std must be positive and finite, got 0",
        ),
    ],
)
def test_refuses_in_one_line(call, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()

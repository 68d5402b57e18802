"""R̂ and the effective sample size of chains whose mixing is known."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from aleator.stats import effective_sample_size, split_rhat


def autoregressive(phi: float, m: int, n: int, seed: int = 0) -> Tensor:
    """Stationary chains x_t = φ x_{t−1} + √(1−φ²) ξ, whose effective sample size is mn(1−φ)/(1+φ)."""
    noise = torch.randn(m, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = noise.clone()
    for t in range(1, n):
        x[:, t] = phi * x[:, t - 1] + math.sqrt(1 - phi**2) * noise[:, t]
    return x


def test_rhat_is_the_formula_of_the_halves() -> None:
    chains = autoregressive(0.5, 3, 11)
    halves = np.concatenate([chains[:, :5].numpy(), chains[:, 6:].numpy()])
    within, between = halves.var(1, ddof=1).mean(), halves.mean(1).var(ddof=1)
    assert split_rhat(chains) == pytest.approx(math.sqrt((4 / 5 * within + between) / within), rel=1e-12)


def test_rhat_is_near_one_for_chains_that_agree_and_large_for_those_that_do_not() -> None:
    chains = autoregressive(0.0, 4, 2000)
    assert split_rhat(chains) == pytest.approx(1.0, abs=0.005)
    apart = chains + torch.tensor([[0.0], [0.0], [0.0], [3.0]])
    assert split_rhat(apart) > 1.5
    drifting = chains + torch.linspace(0, 8, 2000)
    assert split_rhat(drifting) > 1.5  # all chains drift alike: only their halves disagree
    assert split_rhat(drifting[:1]) > 1.5  # one chain is enough for that


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9, -0.5])
def test_effective_sample_size_of_an_autoregression(phi: float) -> None:
    m, n = 4, 20_000
    truth = m * n * (1 - phi) / (1 + phi)
    assert effective_sample_size(autoregressive(phi, m, n)) == pytest.approx(truth, rel=0.12)


def test_chains_that_disagree_are_worth_few_draws() -> None:
    chains = autoregressive(0.0, 4, 1000) + 10 * torch.arange(4).unsqueeze(1)
    assert effective_sample_size(chains) < 10


def test_what_does_not_move_has_not_mixed() -> None:
    still = torch.ones(2, 10)
    assert split_rhat(still) == math.inf
    assert effective_sample_size(still) == 0


def test_a_large_mean_costs_no_digits() -> None:
    chains = autoregressive(0.5, 4, 1000)
    assert split_rhat(chains + 1e6) == pytest.approx(split_rhat(chains), abs=1e-7)
    assert effective_sample_size(chains + 1e6) == pytest.approx(effective_sample_size(chains), rel=1e-5)


@pytest.mark.plain
def test_refuses_in_one_line() -> None:
    for measure in (split_rhat, effective_sample_size):
        with pytest.raises(
            ValueError, match=r"^chains must have shape \(chains, draws\) with at least 4 draws, got \(2, 3\)$"
        ):
            measure(torch.zeros(2, 3))
        with pytest.raises(ValueError, match=r"^chains must be finite, got nan or infinity: a chain has diverged$"):
            measure(torch.full((2, 8), math.nan))

"""The processes are their closed forms, agree with their own drift and diffusion, and say what they cannot do."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from aleator.sde import VESDE, VPSDE, SubVPSDE

PROCESSES = [VPSDE(0.1, 1.0), VPSDE(0.1, 20.0), VESDE(0.2, 1.0), VESDE(0.01, 50.0), SubVPSDE(0.1, 5.0)]
times = st.floats(0.0, 1.0)


def at(t: float) -> torch.Tensor:
    return torch.tensor(t, dtype=torch.float64)


@given(t=times, low=st.floats(0, 2), rise=st.floats(0.01, 20))
def test_vp_and_subvp_marginals_are_those_of_the_integral_of_beta(t, low, rise):
    integral = quad(lambda u: low + u * rise, 0, t)[0]
    mean, std = VPSDE(low, low + rise).marginal(at(t))
    assert float(mean) == pytest.approx(math.exp(-integral / 2), rel=1e-6)
    assert float(std) == pytest.approx(math.sqrt(-math.expm1(-integral)), rel=1e-6)
    mean, std = SubVPSDE(low, low + rise).marginal(at(t))
    assert float(mean) == pytest.approx(math.exp(-integral / 2), rel=1e-6)
    assert float(std) == pytest.approx(-math.expm1(-integral), rel=1e-6)


@given(t=times, low=st.floats(0.01, 1), ratio=st.floats(1.1, 100))
def test_ve_keeps_the_mean_and_its_deviation_runs_from_sigma_min_to_sigma_max(t, low, ratio):
    mean, std = VESDE(low, low * ratio).marginal(at(t))
    assert float(mean) == 1
    assert float(std) == pytest.approx(low * ratio**t, rel=1e-6)


@pytest.mark.parametrize("sde", PROCESSES, ids=str)
@pytest.mark.parametrize("t", [0.001, 0.3, 1.0])
def test_drift_and_diffusion_reproduce_the_marginals(sde, t):
    """The moments of dx = a x dt + g dw obey m' = a m and (s²)' = 2 a s² + g²."""
    (mean, std), (mean_rate, std_rate) = torch.func.jvp(sde.marginal, (at(t),), (at(1.0),))
    rate = sde.drift(at(1.0), at(t))
    torch.testing.assert_close(mean_rate, rate * mean, rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(2 * std * std_rate, 2 * rate * std**2 + sde.diffusion(at(t)) ** 2, rtol=1e-6, atol=1e-12)


def test_small_times_lose_no_digits_in_single_precision():
    t = 1e-6
    for sde, wanted in ((VPSDE(0.1, 1), math.sqrt(-math.expm1(-1e-7))), (SubVPSDE(0.1, 1), -math.expm1(-1e-7))):
        assert float(sde.marginal(torch.tensor(t))[1]) == pytest.approx(wanted, rel=1e-5)


def test_times_of_a_batch_broadcast_over_the_trailing_dimensions():
    x = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.1, 0.5, 0.9])
    for sde in PROCESSES:
        whole, (f, g) = sde.drift(x, t), sde.discretize(x, t, 1000)
        assert g.shape == (3,)
        for b in range(3):
            torch.testing.assert_close(whole[b], sde.drift(x[b], t[b]))
            torch.testing.assert_close(f[b], sde.discretize(x[b], t[b], 1000)[0])


def chain(sde, steps):
    """f for x = 1, and G², of every link, asked for in the middle of the times that belong to it."""
    f, g = sde.discretize(torch.ones(steps), (torch.arange(steps) + 0.5) / (steps - 1), steps)
    return f.double(), g.double().square()


def test_the_vp_chain_keeps_unit_variance_and_converges_to_the_marginal():
    gaps = []
    for steps in (100, 200):
        f, variance = chain(VPSDE(0.1, 5), steps)
        torch.testing.assert_close((1 + f) ** 2 + variance, torch.ones(steps).double(), rtol=1e-6, atol=0)
        gaps.append(float((1 + f).prod()) - float(VPSDE(0.1, 5).marginal(at(1.0))[0]))
    assert gaps[0] / gaps[1] == pytest.approx(2, rel=0.05)


def test_the_variances_of_the_ve_chain_add_up_to_that_of_the_marginal():
    _, variance = chain(VESDE(0.1, 2), 500)
    assert variance.cumsum(0)[-1] == pytest.approx(4, rel=1e-5)
    assert variance[0] == pytest.approx(0.01, rel=1e-5)  # as if there were no noise before t = 0


@pytest.mark.parametrize("steps", [1, 2, 10, 1000])
def test_every_link_of_the_chain_has_the_betas_of_an_even_grid(steps):
    grid = torch.linspace(1, 1e-4, steps)  # the samplers' own, in single precision
    wanted = torch.linspace(0.1 / steps, 1 / steps, steps).flip(0) if steps > 1 else torch.tensor([0.1])
    torch.testing.assert_close(VPSDE(0.1, 1).discretize(torch.ones(steps), grid, steps)[1].square(), wanted)


def test_subvp_has_no_chain_of_its_own_and_takes_a_step_of_euler():
    sde, x, t = SubVPSDE(0.1, 5), torch.tensor([2.0]), torch.tensor([0.4])
    f, g = sde.discretize(x, t, 50)
    torch.testing.assert_close(f, sde.drift(x, t) / 50)
    torch.testing.assert_close(g, sde.diffusion(t) / math.sqrt(50))


@pytest.mark.parametrize("sde", PROCESSES[:4], ids=str)
@pytest.mark.parametrize(("start", "end"), [(1.0, 0.5), (0.3, 0.0)])
def test_the_reverse_transition_solves_the_reversed_linear_equation(sde, start, end):
    """Backwards in time a' = −rate(t) a and v' = −2 rate(t) v + g²: solved by a fine Runge-Kutta."""
    n = 400
    h = (start - end) / n
    state = torch.tensor([1.0, 0.0], dtype=torch.float64)

    def slope(t, y):
        rate = -float(sde.drift(at(1.0), at(t)))
        return torch.stack((rate * y[0], 2 * rate * y[1] + sde.diffusion(at(t)) ** 2))

    for i in range(n):
        t = start - i * h
        k1 = slope(t, state)
        k2 = slope(t - h / 2, state + h / 2 * k1)
        k3 = slope(t - h / 2, state + h / 2 * k2)
        k4 = slope(t - h, state + h * k3)
        state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    factor, std = sde.reverse_transition(at(start), at(end))
    torch.testing.assert_close(torch.stack((factor, std**2)), state, rtol=1e-6, atol=0)


def test_the_official_deviation_of_vp_is_that_of_the_forward_process():
    sde, start, end = VPSDE(0.1, 20), at(0.519), at(0.5)
    kept = float(sde.marginal(start)[0] / sde.marginal(end)[0])
    assert float(sde.reverse_transition(start, end, official=True)[1]) == pytest.approx(math.sqrt(1 - kept**2))


def test_official_and_exact_deviations_differ_as_measured():
    """J = 0.2 makes 20 % of the variance, a half step at N = 1000 with beta 1 makes 5e-4."""
    for length, relative in ((0.2, 0.2), (0.0005, 0.0005)):
        exact, official = (VPSDE(1, 1).reverse_transition(at(length), at(0.0), official=o)[1] for o in (False, True))
        assert float(exact**2 / official**2) - 1 == pytest.approx(relative, rel=0.11)


def test_the_prior_gap_is_the_wasserstein_distance_of_data_at_one_point():
    for sde in PROCESSES:
        mean, std = (float(v) for v in sde.marginal(at(1.0)))
        assert sde.prior_gap(0) == pytest.approx(abs(std - sde.prior_std))
        assert sde.prior_gap(3.0) == pytest.approx(math.sqrt((3 * mean) ** 2 + (std - sde.prior_std) ** 2))
    assert VPSDE(0.1, 20).prior_gap() < 0.01 < 0.8 < VPSDE(0.1, 1.0).prior_gap()


def test_the_prior_gap_bounds_the_distance_of_gaussian_data():
    for sde in PROCESSES:
        mean, std = (float(v) for v in sde.marginal(at(1.0)))
        assert abs(math.hypot(mean * 2, std) - sde.prior_std) <= sde.prior_gap(2.0)


def test_the_prior_of_ve_has_its_last_deviation_and_the_official_one_that_of_one():
    assert VESDE(0.2, 0.8).prior_std == 0.8
    assert VESDE(0.2, 0.8, official_prior=True).prior_std == 1
    assert VESDE(0.2, 1.0).prior_std == VESDE(0.2, 1.0, official_prior=True).prior_std
    assert VPSDE().prior_std == SubVPSDE().prior_std == 1


@pytest.mark.plain
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: VPSDE(-0.1, 1), "0 <= beta_min <= beta_max and 0 < beta_max, got -0.1 and 1"),
        (lambda: VPSDE(2, 1), "got 2 and 1"),
        (lambda: SubVPSDE(0, 0), "got 0 and 0"),
        (lambda: VPSDE(0.1, math.nan), "got 0.1 and nan"),
        (lambda: VESDE(0, 1), "0 < sigma_min < sigma_max, got 0 and 1"),
        (lambda: VESDE(1, 1), "got 1 and 1"),
        (lambda: VESDE(0.1, math.inf), "got 0.1 and inf"),
        (lambda: VPSDE().prior_gap(-1), "data_rms must not be negative and must be finite, got -1"),
        (
            lambda: VPSDE(0.1, 20).discretize(torch.ones(1), torch.ones(1), 10),
            "steps must be at least beta_max = 20 for b_k <= 1, got 10",
        ),
    ],
    ids=range(9),
)
def test_constants_out_of_range_are_refused_with_their_values(make, reason):
    with pytest.raises(ValueError, match=reason):
        make()


@pytest.mark.plain
def test_subvp_has_no_reverse_transition():
    with pytest.raises(NotImplementedError, match=r"VPSDE or VESDE, got SubVPSDE\(beta_min=0.1, beta_max=1.0\)"):
        SubVPSDE().reverse_transition(torch.ones(1), torch.zeros(1))

"""What the paper proves, on finite actions with Gaussian values: Jensen, the sub-Gaussian bound, enough pessimism."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

POINTS, WEIGHTS = np.polynomial.hermite_e.hermegauss(40)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def soft_value(mu, a):
    return a * float(logsumexp(np.asarray(mu) / a))


def expected_soft_value(mu, sigma, a, beta=0.0):
    """E[a log Σ exp((Q − βσ)/a)] of two actions, by Gauss–Hermite quadrature."""
    q = [m + s * (POINTS - beta) for m, s in zip(mu, sigma, strict=True)]
    grid = np.stack(np.meshgrid(*q, indexing="ij"))
    return float(WEIGHTS @ (a * logsumexp(grid / a, axis=0)) @ WEIGHTS)


def bound(mu, sigma, a):
    return soft_value([m + s * s / (2 * a) for m, s in zip(mu, sigma, strict=True)], a)


def test_the_worked_example():
    mu, sigma = (1.0, 0.8), (0.7, 0.3)
    assert expected_soft_value(mu, sigma, 0.5) == pytest.approx(1.372606, abs=1e-6)
    assert soft_value(mu, 0.5) == pytest.approx(1.256508, abs=1e-6)
    assert bound(mu, sigma, 0.5) == pytest.approx(1.621641, abs=1e-6)


@settings(max_examples=15)
@given(
    st.tuples(st.floats(-1, 1), st.floats(-1, 1)), st.tuples(st.floats(0, 0.8), st.floats(0, 0.8)), st.floats(0.3, 2)
)
def test_noise_raises_the_soft_value_at_most_to_the_bound_and_pessimism_undoes_it(mu, sigma, a):
    exact = expected_soft_value(mu, sigma, a)
    assert soft_value(mu, a) - 1e-6 <= exact <= bound(mu, sigma, a) + 1e-6
    enough = max(sigma) / (2 * a)
    assert expected_soft_value(mu, sigma, a, beta=enough) <= soft_value(mu, a) + 1e-6

"""The fit is the best power law there is, at any scale, and says when there is none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from aleator.stats import PowerLaw, fit_power_law, fit_power_laws

Z = np.arange(1.0, 21.0)


def noisy_curves(count: int, levels: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    a, b, c = rng.uniform(0.1, 0.5, count), rng.uniform(0.05, 2.0, count), rng.uniform(0.7, 1.0, count)
    x = np.arange(1.0, levels + 1) * 1000
    y = c[:, None] - a[:, None] * (x / 1000) ** -b[:, None] + rng.normal(0, noise, (count, levels))
    return x, y


@pytest.mark.parametrize("scale", [10.0, 1e3, 1e6, 1e9])
@pytest.mark.parametrize(("a", "b", "c"), [(0.3, 0.05, 1.2), (0.5, 0.5, 0.9), (0.2, 1.0, 0.95), (0.4, 3.0, 0.99)])
def test_power_law_without_noise_is_recovered_at_any_scale(scale, a, b, c):
    law = fit_power_law(scale * Z, c - a * Z**-b)
    assert (law.a, law.b, law.c) == pytest.approx((a * scale**b, b, c), rel=1e-6)
    assert law.flags == ()
    assert law.predict(100 * scale) == pytest.approx(c - a * 100**-b, rel=1e-6)


def test_three_points_are_met_exactly():
    x, y = np.array([1e3, 2e3, 3e3]), np.array([0.7, 0.75, 0.77])
    law = fit_power_law(x, y)
    assert law.predict(x) == pytest.approx(y, abs=1e-12)


def test_no_trust_region_start_finds_a_better_fit():
    """Twenty-one starts on each of thirty noisy curves, with the same bounds."""
    x, y = noisy_curves(30, 12, 0.01, seed=2)
    z = x / x[0]
    ours = fit_power_laws(x, y).sse
    for scores, sse in zip(y, ours, strict=True):

        def residuals(p, scores=scores):
            return p[2] - p[0] * z ** -p[1] - scores

        def jacobian(p):
            power = z ** -p[1]
            return np.stack([-power, p[0] * power * np.log(z), np.ones_like(z)], axis=1)

        starts = [[0.3, b, scores[-1]] for b in np.geomspace(2e-3, 4.9, 21)]
        bounds = ([-np.inf, 1e-3, -np.inf], [np.inf, 5.0, np.inf])
        theirs = min(2 * least_squares(residuals, s, jacobian, bounds, xtol=1e-12, ftol=1e-12).cost for s in starts)
        assert sse <= theirs * (1 + 1e-9)


@settings(max_examples=30)
@given(factor=st.floats(1e-3, 1e6))
def test_other_units_of_size_change_only_the_amplitude(factor):
    x, y = noisy_curves(1, 15, 0.003, seed=3)
    one, other = fit_power_law(x, y[0]), fit_power_law(factor * x, y[0])
    assert (other.b, other.c) == pytest.approx((one.b, one.c), rel=1e-7)
    assert other.a == pytest.approx(one.a * factor**one.b, rel=1e-6)


@settings(max_examples=30)
@given(scale=st.floats(0.01, 100), shift=st.floats(-10, 10))
def test_other_units_of_score_change_amplitude_and_asymptote(scale, shift):
    x, y = noisy_curves(1, 15, 0.003, seed=3)
    one, other = fit_power_law(x, y[0]), fit_power_law(x, scale * y[0] + shift)
    assert other.b == pytest.approx(one.b, rel=1e-6)
    assert other.a == pytest.approx(scale * one.a, rel=1e-5)
    assert other.c == pytest.approx(scale * one.c + shift, rel=1e-6, abs=1e-6)


def test_anchor_of_no_weight_is_the_plain_fit():
    x, y = noisy_curves(1, 15, 0.003, seed=4)
    plain, anchored = fit_power_law(x, y[0]), fit_power_law(x, y[0], anchor=0.5, anchor_weight=0.0)
    assert (anchored.a, anchored.b, anchored.c) == pytest.approx((plain.a, plain.b, plain.c), rel=1e-9)


def test_anchor_of_great_weight_is_the_asymptote():
    x, y = noisy_curves(1, 15, 0.003, seed=4)
    plain = fit_power_law(x, y[0])
    gaps = []
    for weight in (1.0, 1e3, 1e6, 1e12):
        law = fit_power_law(x, y[0], anchor=plain.c + 0.05, anchor_weight=weight)
        gaps.append(abs(law.c - plain.c - 0.05))
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 1e-10


def test_square_of_the_anchors_residual_counts():
    x, y = noisy_curves(1, 15, 0.003, seed=4)
    law = fit_power_law(x, y[0], anchor=0.99, anchor_weight=2.0)
    assert law.sse == pytest.approx(np.sum((y[0] - law.predict(x)) ** 2) + 2 * (law.c - 0.99) ** 2, rel=1e-9)


def test_falling_scores_are_flagged_and_fitted():
    y = 0.5 + 0.3 * Z**-0.7
    law = fit_power_law(Z, y)
    assert law.flags == ("not_increasing",)
    assert law.predict(Z) == pytest.approx(y, abs=1e-9)
    assert law.size_for(0.9) == np.inf


def test_logarithmic_scores_have_no_asymptote():
    law = fit_power_law(Z, 0.5 + 0.1 * np.log(Z))
    assert law.flags == ("no_asymptote",)
    assert law.b == 1e-3  # the bound itself


def test_equal_scores_are_flat():
    law = fit_power_law(Z[:3], [0.3, 0.1 + 0.2, 0.3])
    assert law.flags == ("flat",)
    assert law.a == 0
    assert law.predict(1e9) == law.c == pytest.approx(0.3)


def test_scores_of_one_are_kept():
    law = fit_power_law(Z, np.minimum(1.0, 0.8 + 0.1 * np.sqrt(Z)))
    assert np.isfinite([law.a, law.b, law.c, law.sse]).all()


def test_equal_sizes_are_both_used_as_a_weight_of_two():
    x, y = noisy_curves(1, 10, 0.01, seed=5)
    twice = fit_power_law([*x, x[4]], [*y[0], y[0, 4]])
    weighted = fit_power_law(x, y[0], weights=np.where(np.arange(10) == 4, 2.0, 1.0))
    assert (twice.b, twice.c, twice.sse) == pytest.approx((weighted.b, weighted.c, weighted.sse), rel=1e-8)


def test_missing_score_is_left_out_with_a_warning():
    x, y = noisy_curves(1, 10, 0.01, seed=5)
    with pytest.warns(UserWarning, match="1 of 11 scores are not numbers and are left out"):
        law = fit_power_law([*x, 99_000.0], [*y[0], np.nan])
    assert law.c == pytest.approx(fit_power_law(x, y[0]).c, rel=1e-9)


@pytest.mark.parametrize("own_sizes", [False, True])
def test_many_curves_are_fitted_as_one_by_one(own_sizes):
    x, y = noisy_curves(20, 15, 0.005, seed=6)
    y[3, 10:] = np.nan
    y[7, 5:] = np.nan
    sizes = np.where(np.isnan(y), np.nan, x * np.arange(1, 21)[:, None]) if own_sizes else x
    together = fit_power_laws(sizes, y)
    assert len(together) == 20
    for i, law in enumerate(together[i] for i in range(20)):
        there = ~np.isnan(y[i])
        one = fit_power_law((sizes[i] if own_sizes else x)[there], y[i][there])
        assert isinstance(law, PowerLaw)
        assert (law.b, law.c, law.sse) == pytest.approx((one.b, one.c, one.sse), rel=1e-6)
        assert law.flags == one.flags


@given(target=st.floats(0.6, 0.94))
def test_size_for_a_target_inverts_the_law(target):
    law = fit_power_law(1000 * Z, 0.95 - 0.4 * Z**-0.5)
    assert law.predict(law.size_for(target)) == pytest.approx(target, rel=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit_power_law([1, 2], [0.1, 0.2, 0.3]), "two lists of equal length"),
        (lambda: fit_power_law([1, 2, 2], [0.1, 0.2, 0.3]), "x must hold at least 3 different sizes, got 2"),
        (lambda: fit_power_law([0, 1, 2], [0.1, 0.2, 0.3]), "x must be positive and finite, got 0.0"),
        (lambda: fit_power_law([1, 2, 3], [0.1, 0.2, np.inf]), "y must be finite numbers, got an infinite one"),
        (lambda: fit_power_law([1, 2, 3], [0.1, 0.2, 0.3], weights=[1, 1, -1]), "weights must be finite and not neg"),
        (lambda: fit_power_law([1, 2, 3], [0.1, 0.2, 0.3], weights=[1, 1]), "weights must have the shape of y"),
        (lambda: fit_power_law([1, 2, 3], [0.1, 0.2, 0.3], anchor=np.nan), "anchor and anchor_weight must be finite"),
        (lambda: fit_power_law([1, 2, 3], [0.1, 0.2, 0.3], b_bounds=(0, 5)), "b_bounds must be two increasing pos"),
        (lambda: fit_power_laws([1, 2], [[0.1, 0.2, 0.3]]), "x must have the shape of y or of one of its rows"),
    ],
)
def test_bad_input_is_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("size", [0.0, -5.0])
def test_a_missing_score_may_have_any_size(size):
    y = 0.9 - 0.3 * Z**-0.5
    law = fit_power_laws(np.append(size, Z), np.append(np.nan, y)[None])[0]
    assert (law.a, law.b, law.c) == pytest.approx((0.3, 0.5, 0.9), rel=1e-6)

"""Every family recovers its own curves, and the tail shows which one a curve is of."""

import numpy as np
import pytest

from aleator.stats import choose_family, fit_family, fit_power_law

X = 500.0 * np.arange(1, 25)
Z = X / 500
CURVES = {
    "pow3": 0.9 - 0.4 * Z**-0.6,
    "pow4": 0.9 - 0.6 * (Z + 3.0) ** -0.8,
    "mmf4": 0.9 - 0.5 / (1 + Z**1.5 / 12),
    "exp3": 0.9 - 0.4 * np.exp(-0.2 * Z),
    "log2": 0.5 + 0.1 * np.log(Z),
}
BEYOND = {
    "pow3": 0.9 - 0.4 * 48**-0.6,
    "pow4": 0.9 - 0.6 * 51.0**-0.8,
    "mmf4": 0.9 - 0.5 / (1 + 48**1.5 / 12),
    "exp3": 0.9 - 0.4 * np.exp(-0.2 * 48),
    "log2": 0.5 + 0.1 * np.log(48),
}


@pytest.mark.parametrize("family", CURVES)
def test_family_recovers_its_own_curve(family):
    fit = fit_family(X, CURVES[family], family)
    assert fit.sse < 1e-12
    assert fit.predict(X) == pytest.approx(CURVES[family], abs=1e-5)
    assert float(fit.predict(24_000.0)) == pytest.approx(BEYOND[family], abs=1e-4)


@pytest.mark.parametrize("family", ["mmf4", "exp3", "log2"])
def test_tail_chooses_the_family_of_the_curve(family):
    fits = choose_family(X, CURVES[family])
    assert fits[0].family == family or CURVES[family] == pytest.approx(fits[0].predict(X), abs=1e-5)
    errors = [fit.tail_error for fit in fits]
    assert errors == sorted(errors)
    assert {fit.family for fit in fits} == {*CURVES, "last1"}


def test_last_score_is_the_trivial_forecast():
    fit = fit_family(X, CURVES["pow3"], "last1")
    assert fit.predict([1e5, 1e6]).tolist() == [CURVES["pow3"][-1]] * 2
    last = next(fit for fit in choose_family(X, CURVES["pow3"]) if fit.family == "last1")
    assert last.tail_error == pytest.approx(np.mean(CURVES["pow3"][-6:] - CURVES["pow3"][-7]))


def test_larger_families_fit_no_worse_than_the_power_law():
    """The shift of pow4 is at least 0.001, so it holds pow3 only nearly."""
    y = CURVES["pow3"] + np.random.default_rng(0).normal(0, 0.003, len(X))
    assert fit_family(X, y, "pow4").sse <= fit_power_law(X, y).sse * (1 + 1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit_family(X, CURVES["pow3"], "pow5"), "family must be one of pow3, pow4, mmf4, exp3, log2, last1"),
        (lambda: fit_family(X[::-1], CURVES["pow3"]), "x must be positive and increasing"),
        (lambda: fit_family(X[:2], CURVES["pow3"][:2]), "lists of one length of at least 3"),
        (lambda: choose_family(X[:4], CURVES["pow3"][:4]), "x must hold at least 5 sizes to keep a tail, got 4"),
    ],
)
def test_bad_input_is_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()

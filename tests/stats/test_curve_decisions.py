"""Decisions from learning curves: when to stop, and which of two systems will win."""

import numpy as np
import pytest

from aleator.stats import LearningCurveStopping, LearningTrace, compare_curves

X = 1000.0 * np.arange(1, 21)


def curve(c: float, b: float = 0.5, noise: float = 0.002, seed: int = 0) -> list[float]:
    return (c - 0.3 * (X / 1000) ** -b + np.random.default_rng(seed).normal(0, noise, len(X))).tolist()


def trace(y: list[float], levels: int = 20, bands: bool = True, **options) -> LearningTrace:
    generator = np.random.default_rng(1) if bands else None
    made = LearningTrace(generator=generator, **({"nu": 1e-3} | options))
    made.extend(X[:levels].tolist(), y[:levels])
    return made


@pytest.mark.parametrize("horizon", [None, 30_000.0])
def test_stops_at_the_first_decided_level_with_a_thin_layer(horizon):
    stopping = LearningCurveStopping(LearningTrace(nu=1e-3, horizon=horizon), tau=0.08)
    y = curve(0.9, noise=0.0)
    stopped = next(x for x, score in zip(X.tolist(), y, strict=True) if stopping.should_stop(x, score))
    end = 0.9 if horizon is None else 0.9 - 0.3 * 30**-0.5
    thin = [x for x, score in zip(X, y, strict=True) if end - score <= 0.08]
    # With λ = 5 nothing is decided before level 9.
    assert stopped == max(9000.0, thin[0])
    assert stopping.state.x == stopped


def test_does_not_stop_on_scores_that_fall():
    stopping = LearningCurveStopping(LearningTrace(), tau=0.5)
    assert not any(
        stopping.should_stop(x, y) for x, y in zip(X.tolist(), np.linspace(0.9, 0.5, 20).tolist(), strict=True)
    )


def test_bands_that_are_apart_decide():
    found = compare_curves(trace(curve(0.95)), trace(curve(0.85, seed=1)), at=40_000.0)
    assert (found.winner, found.reason) == ("a", "the bands are apart")
    assert found.confidence == 1.0
    assert found.bands[0][0] > found.bands[1][1]


def test_exchanging_the_systems_exchanges_the_winner():
    one, other = trace(curve(0.9, noise=0.004)), trace(curve(0.899, noise=0.004, seed=1))
    there, back = compare_curves(one, other, 40_000.0), compare_curves(other, one, 40_000.0)
    assert {there.winner, back.winner} == {"a", "b"}
    assert there.confidence == pytest.approx(back.confidence)
    assert there.predictions == back.predictions[::-1]


def test_overlapping_bands_are_undecided_until_both_have_converged():
    close = (curve(0.9, noise=0.004), curve(0.899, noise=0.004, seed=1))
    early = compare_curves(*(trace(y, levels=7) for y in close), at=40_000.0)
    assert (early.winner, early.reason) == (None, "a trace has not converged")
    assert 0 <= early.confidence <= 1
    late = compare_curves(*(trace(y) for y in close), at=40_000.0)
    assert (late.winner is not None, late.reason) == (True, "both traces have converged")


def test_without_generators_only_convergence_decides():
    found = compare_curves(*(trace(curve(c), bands=False) for c in (0.85, 0.95)), at=40_000.0)
    assert (found.winner, found.confidence, found.bands) == ("b", None, None)


def test_equal_curves_have_no_winner():
    found = compare_curves(trace(curve(0.9)), trace(curve(0.9)), at=40_000.0)
    assert (found.winner, found.confidence, found.reason) == (None, 0.5, "the forecasts are equal")


def test_of_losses_the_lower_wins():
    low, high = ([c - y for y in curve(0.9, seed=seed)] for seed, c in enumerate((1.0, 1.2)))
    found = compare_curves(*(trace(y, higher_is_better=False) for y in (high, low)), at=40_000.0)
    assert found.winner == "b"


def test_bad_input_is_explained():
    with pytest.raises(ValueError, match="tau must be positive, got 0"):
        LearningCurveStopping(LearningTrace(), tau=0)
    with pytest.raises(ValueError, match="must have the same higher_is_better"):
        compare_curves(trace(curve(0.9)), trace(curve(0.9), higher_is_better=False), at=1e5)
    with pytest.raises(ValueError, match="a trend needs at least 3 observations, got 2"):
        compare_curves(trace(curve(0.9)), trace(curve(0.9), levels=2), at=1e5)


def test_a_trend_beyond_one_decides_nothing():
    """The first trace leads to 1.19 at the horizon: its band, cut at 1, would be apart from the other's."""
    steep, calm = (trace((c - 0.3 * (X / 1000) ** -0.05).tolist(), levels=7) for c in (1.2, 0.9))
    found = compare_curves(steep, calm, at=1e80)
    assert found.predictions == (1.0, pytest.approx(0.9, abs=1e-3))
    assert found.bands[0] == (1.0, 1.0)
    assert (found.winner, found.reason) == (None, "the trend of a is beyond what a score can be")

"""The levels of a trace, what its layers bound, and how often its bands hold the truth."""

import json
import math

import numpy as np
import pytest

from aleator.stats import LearningTrace, PowerLaw, fit_power_law, fit_power_laws
from aleator.stats.backbone import backbone_levels

NAN = math.nan
X = 1000.0 * np.arange(1, 16)


def power_law(x, a=0.3, b=0.4, c=0.95):
    return c - a * (np.asarray(x) / 1000) ** -b


def fed(x, y, **options) -> LearningTrace:
    trace = LearningTrace(**options)
    trace.extend(list(map(float, x)), [score if isinstance(score, list) else float(score) for score in y])
    return trace


def mixture(rng: np.random.Generator, late: bool):
    """A concave, increasing curve below 1, a mixture of power laws that may start late, and its asymptote."""
    terms = rng.integers(1, 4)
    a, b = rng.uniform(0.05, 0.25, terms), rng.uniform(0.2, 1.0, terms)
    d, c = rng.uniform(0, 3, terms) if late else np.zeros(terms), rng.uniform(0.85, 0.98)
    return (lambda x: c - (a * (x[..., None] / 5000 + d) ** -b).sum(-1)), c


def layers_of_mixtures(count: int, late: bool, seed: int):
    """For each converged curve: its asymptote, and at each level from ℘ on the trend's asymptote, its largest error on
    [x, 100·x], and layer + radius."""
    rng = np.random.default_rng(seed)
    x, ends = 5000.0 * np.arange(1, 25), np.arange(3, 25)
    curves = [mixture(rng, late) for _ in range(count)]
    scores = np.array([curve(x) for curve, _ in curves])
    prefixes = np.where(np.arange(24) < ends[:, None], scores[:, None, :], NAN)
    laws = fit_power_laws(x, prefixes.reshape(-1, 24))
    a, b, c = (values.reshape(count, 22) for values in (laws.a, laws.b, laws.c))
    for i, (curve, asymptote) in enumerate(curves):
        start = backbone_levels(x, np.array([NAN, NAN, *c[i]]), 2e-5, 1, 5).prediction
        if start is None:
            continue
        found = []
        for level in range(start, 25):
            law = PowerLaw(a[i, level - 3], b[i, level - 3], c[i, level - 3], sse=0.0)
            beyond = np.geomspace(x[level - 1], 100 * x[level - 1], 40)
            error = np.max(np.abs(curve(beyond) - law.predict(beyond)))
            radius = np.max(np.abs(scores[i, :level] - law.predict(x[:level]))[-6:])
            found.append((law.c, error, law.c - law.predict(x[level - 1]) + radius))
        yield asymptote, *np.array(found).T


def test_layer_and_radius_bound_the_error_where_the_hypotheses_hold():
    """500 curves whose backbone does not rise after ℘, every level from there on."""
    satisfying = 0
    for _, alpha, error, bound in layers_of_mixtures(1200, late=True, seed=6):
        if np.all(np.diff(alpha) <= 1e-9):
            satisfying += 1
            assert np.all(error <= bound + 1e-9)
    assert satisfying >= 500


def test_a_backbone_that_still_rises_widens_the_bound_by_as_much():
    """Pure mixtures break the hypothesis: their slowest term comes last, and the backbone rises to the asymptote."""
    rising = 0
    for asymptote, alpha, error, bound in layers_of_mixtures(500, late=False, seed=7):
        rising += np.sum(alpha < asymptote - 1e-6)
        assert np.all(error <= bound + np.maximum(0.0, asymptote - alpha) + 1e-9)
    assert rising > 1000


def test_state_reports_layer_radius_and_largest_rise():
    x = 5000.0 * np.arange(1, 25)
    curve, _ = mixture(np.random.default_rng(8), late=False)
    y = curve(x)
    trace = fed(x, y, horizon=300_000.0)
    state, law = trace.state(), fit_power_law(x, y)
    backbone = trace.backbone[state.prediction_level - 1 :]
    assert state.largest_rise == pytest.approx(np.max(backbone - np.minimum.accumulate(backbone)))
    assert ("backbone_not_monotone" in state.warnings) == (state.largest_rise > 0)
    assert state.largest_rise > 0
    assert state.layer == pytest.approx(law.c - law.predict(x[-1]), rel=1e-6)
    assert state.layer_at_horizon == pytest.approx(law.predict(3e5) - law.predict(x[-1]), rel=1e-6)
    assert state.radius == pytest.approx(np.max(np.abs(y - law.predict(x))[-6:]) + state.largest_rise, rel=1e-6)


@pytest.mark.plain  # half a million small calls, whose checking would take a minute
@pytest.mark.parametrize("folds", [1, 10])
def test_bands_hold_the_score_at_the_horizon_about_as_often_as_they_say(folds):
    """120 curves of 20 levels with independent errors; nominally 95 %."""
    rng = np.random.default_rng(7)
    x, horizon, held = 1000.0 * np.arange(1, 21), 40_000.0, 0
    for _ in range(120):
        a, b, c = rng.uniform(0.2, 0.5), rng.uniform(0.2, 0.8), rng.uniform(0.8, 0.95)
        scores = power_law(x, a, b, c)[:, None] + rng.normal(0, 0.004 * math.sqrt(folds), (20, folds))
        state = fed(x, scores.tolist(), horizon=horizon, generator=rng).state()
        held += state.band[0] <= power_law(horizon, a, b, c) <= state.band[1]
    assert 0.85 <= held / 120 <= 0.99


def test_bands_depend_on_the_generator_and_not_on_how_often_they_are_asked_for():
    x = 1000.0 * np.arange(1, 11)
    y = power_law(x) + np.random.default_rng(0).normal(0, 0.003, 10)
    one, same, other = (fed(x, y, generator=np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.band(5e4) == one.band(5e4) == same.band(5e4) != other.band(5e4)
    assert one.band(math.inf)[1] > one.band(5e4)[1]
    low, high = one.size_band(0.86)
    assert 0 < low < one.size_for(0.86).x < high


@pytest.mark.parametrize("anchor", ["none", "canonical", "fixed"])
def test_anchored_forecasts_follow_their_definition(anchor):
    x = 1000.0 * np.arange(1, 13)
    y = power_law(x) + np.random.default_rng(3).normal(0, 0.002, 12)
    trace = fed(x, y, nu=1e-3, lookahead=1, anchor=anchor, anchor_weight=2.0)
    start = trace.levels.prediction
    assert start < 10
    at = alpha = fit_power_law(x[:start], y[:start]).c
    for level in range(start + 1, 13):
        law = fit_power_law(x[:level], y[:level], anchor=None if anchor == "none" else at, anchor_weight=2.0)
        at = alpha if anchor == "fixed" else law.c
    assert trace.predict(math.inf) == pytest.approx(law.c, rel=1e-9)
    assert trace.backbone[-1] == pytest.approx(fit_power_law(x, y).c, rel=1e-9)


def test_status_is_undecided_until_the_look_ahead_has_passed():
    trace = LearningTrace(horizon=1e5, nu=1e-3)
    states = [
        trace.update(x, y) for x, y in zip(1000.0 * np.arange(1, 13), power_law(1000.0 * np.arange(1, 13)), strict=True)
    ]
    assert [state.status for state in states] == ["undecided"] * 8 + ["converged"] * 4
    assert states[1].prediction is None
    assert states[2].prediction == pytest.approx(power_law(1e5), rel=1e-6)
    assert states[7].layer is None
    assert (states[8].working_level, states[8].prediction_level, states[8].decision_level) == (3, 3, 9)
    assert states[8].layer == pytest.approx(0.95 - power_law(9000.0), rel=1e-6)


def test_equal_scores_converge_with_nothing_left():
    state = fed(1000.0 * np.arange(1, 10), [0.8] * 9, horizon=1e5).state()
    assert (state.prediction_level, state.decision_level, state.layer, state.radius) == (3, 9, 0.0, 0.0)
    assert (state.alpha, state.prediction) == (pytest.approx(0.8), pytest.approx(0.8))
    assert state.warnings == ("flat",)


def test_trace_survives_scores_that_fall():
    state = fed(1000.0 * np.arange(1, 10), 1 - power_law(1000.0 * np.arange(1, 10)), horizon=1e5).state()
    assert state.warnings == ("not_increasing",)
    assert (state.alpha, state.layer, state.status) == (None, None, "undecided")


def test_horizon_below_the_data_is_interpolated_with_a_warning():
    x = 1000.0 * np.arange(1, 13)
    state = fed(x, power_law(x), horizon=5500.0, nu=1e-3).state()
    assert "horizon_below_data" in state.warnings
    assert state.prediction == pytest.approx(power_law(5500.0), rel=1e-6)
    assert state.layer_at_horizon == 0


def test_convergence_level_is_the_first_thin_layer():
    x = 1000.0 * np.arange(1, 31)
    trace = fed(x, power_law(x), nu=1e-3, horizon=40_000.0)
    at = next(level for level in range(3, 31) if 0.95 - power_law(1000.0 * level) <= 0.1)
    assert trace.convergence_level(0.1) == at
    assert trace.convergence_level(1e-4) is None
    assert trace.convergence_level(0.03, at_horizon=True) < 30


def test_losses_are_followed_with_the_sign_turned():
    x = 1000.0 * np.arange(1, 13)
    noise = np.random.default_rng(3).normal(0, 0.002, 12)
    rng = [np.random.default_rng(5) for _ in range(2)]
    up = fed(x, 1 - power_law(x) + 2 + noise, higher_is_better=False, generator=rng[0], horizon=5e4, nu=1e-3)
    down = fed(x, power_law(x) - 3 - noise, bounded=False, generator=rng[1], horizon=5e4, nu=1e-3)
    one, other = up.state(), down.state()
    assert one.prediction == pytest.approx(-other.prediction)
    assert one.alpha == pytest.approx(-other.alpha)
    assert one.layer == pytest.approx(other.layer)
    assert one.prediction_level == other.prediction_level
    assert up.size_for(2.1).x == pytest.approx(down.size_for(-2.1).x)
    assert one.band[0] < one.prediction < one.band[1]


@pytest.mark.parametrize(
    ("target", "size", "reason"),
    [
        (0.9, 1000 * 6**2.5, "where the trend reaches it"),
        (0.7, 1000 * 1.2**2.5, "the trend is there within the data"),
        (0.95, math.inf, "the trend's asymptote 0.95 is not beyond 0.95"),
        (0.97, math.inf, "the trend's asymptote 0.95 is not beyond 0.97"),
    ],
)
def test_size_for_a_target_and_why(target, size, reason):
    x = 1000.0 * np.arange(1, 13)
    trace = fed(x, np.append(power_law(x)[:-1], power_law(x)[-1]))
    if target == 0.95:
        target = float(np.nextafter(trace.predict(math.inf), 1))
    found = trace.size_for(target)
    assert found.x == pytest.approx(size, rel=1e-5)
    assert found.reason == reason


def test_size_for_a_target_of_flat_and_falling_scores():
    flat, falling = (fed(X[:5], y) for y in ([0.8] * 5, [0.8, 0.7, 0.65, 0.6, 0.58]))
    assert flat.size_for(0.8) == (1000.0, "every score is that good")
    assert flat.size_for(0.81) == (math.inf, "the scores are flat")
    assert falling.size_for(0.9) == (math.inf, "the scores do not get better with more data")


@pytest.mark.parametrize("anchor", ["none", "canonical"])
def test_saved_trace_goes_on_to_the_last_bit(anchor):
    x = 1000.0 * np.arange(1, 13)
    y = power_law(x) + np.random.default_rng(3).normal(0, 0.002, 12)
    options = {"anchor": anchor, "nu": 1e-3, "horizon": 5e4}
    trace = LearningTrace(**options, generator=np.random.default_rng(1))
    for size, score in zip(x[:9], y[:9], strict=True):
        trace.update(float(size), float(score))
    saved = json.dumps(trace.state_dict())
    resumed = LearningTrace(**options)
    resumed.load_state_dict(json.loads(saved))
    assert resumed.state() == trace.state()
    for size, score in zip(x[9:], y[9:], strict=True):
        assert resumed.update(float(size), float(score)) == trace.update(float(size), float(score))
    with pytest.raises(ValueError, match="the saved trace has options"):
        LearningTrace(**options | {"lookahead": 1}).load_state_dict(json.loads(saved))


def test_many_observations_at_once_are_those_one_by_one():
    x = 1000.0 * np.arange(1, 13)
    y = power_law(x) + np.random.default_rng(3).normal(0, 0.002, 12)
    single = LearningTrace(nu=1e-3)
    for size, score in zip(x, y, strict=True):
        single.update(float(size), float(score))
    assert fed(x, y, nu=1e-3).backbone[2:] == pytest.approx(single.backbone[2:], rel=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nu": 0.0}, "nu must be positive, got 0.0"),
        ({"slowdown": 0}, "slowdown must be at least 1, got 0"),
        ({"lookahead": -1}, "lookahead must be at least 0, got -1"),
        ({"anchor_weight": -1.0}, "anchor_weight must not be negative, got -1.0"),
        ({"horizon": 0.0}, "horizon must be positive, got 0.0"),
    ],
)
def test_bad_options_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        LearningTrace(**options)


@pytest.mark.plain
def test_unknown_anchor_is_explained():
    with pytest.raises(ValueError, match="anchor must be one of none, canonical, fixed, got 'firm'"):
        LearningTrace(anchor="firm")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t.update(1000.0, 0.8), "x must increase from level to level, got 1000.0 after 2000.0"),
        (lambda t: t.update(-1.0, 0.8), "x must be positive and finite, got -1.0"),
        (lambda t: t.update(3000.0, 83.0), r"y must be in \[0, 1\], got 83.0; divide percentages by 100"),
        (lambda t: t.update(3000.0, NAN), "y must be a finite number, got nan"),
        (lambda t: t.update(3000.0, [0.8, 0.9]), "y must have as many folds at every level, got 2"),
        (lambda t: t.extend([3000.0], [0.1, 0.2]), "two lists of equal length, got 1 and 2 values"),
        (lambda t: t.predict(1e4), "a trend needs at least 3 observations, got 2"),
        (lambda t: t.band(1e4), "a bootstrap needs a generator and 4 levels"),
        (lambda t: t.convergence_level(0.0), "tau must be positive, got 0.0"),
        (lambda t: t.convergence_level(0.1, at_horizon=True), "horizon must be given"),
        (lambda t: LearningTrace().state(), "a trace without observations has no state"),
        (lambda t: LearningTrace(higher_is_better=False).update(1.0, -0.1), "y must not be negative, got -0.1"),
    ],
)
def test_bad_observations_and_questions_are_explained(call, message):
    trace = fed([1000, 2000], [0.7, 0.75])
    with pytest.raises(ValueError, match=message):
        call(trace)
    assert len(trace) == 2


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.array])
def test_scores_may_be_any_kind_of_number(kind):
    trace = LearningTrace()
    for x in X[:4]:
        trace.update(kind(x), kind(0.75))
    assert trace.state().score == 0.75
    assert trace.trend.flags == ("flat",)


NEAR_ONE = ([100, 200, 400, 800, 1600, 3200], [0.70, 0.80, 0.87, 0.93, 0.97, 0.985])  # ../shared/trials


@pytest.mark.parametrize("turned", [False, True], ids=["accuracy", "error rate"])
def test_forecasts_and_bands_end_where_scores_do(turned):
    x, y = NEAR_ONE
    options = {"horizon": 1e6, "generator": np.random.default_rng(0), "higher_is_better": not turned}
    trace = LearningTrace(**options)
    state = trace.extend(x, [1 - score for score in y] if turned else y)
    ideal = 0.0 if turned else 1.0
    assert trace.ideal == ideal
    assert state.prediction == trace.predict(np.inf) == ideal
    assert "impossible" in state.warnings
    assert trace.is_impossible(1e6)
    assert not trace.is_impossible(3200)
    assert ideal in state.band
    assert 0 <= state.band[0] <= state.band[1] <= 1
    reached = trace.size_for(0.002 if turned else 0.998)
    assert 3200 < reached.x < np.inf
    assert reached.reason == f"where the trend, which leads beyond {ideal:g}, reaches it"


def test_scores_without_an_ideal_are_not_cut():
    x, y = NEAR_ONE
    trace = LearningTrace(horizon=1e6, bounded=False)
    assert trace.extend(x, y).prediction > 1
    assert trace.ideal is None
    assert trace.state().warnings == ()


def test_scores_that_fall_are_not_forecast_below_zero():
    trace = LearningTrace(horizon=1e4)
    state = trace.extend([100, 200, 400, 800], [0.5, 0.4, 0.2, 0.05])
    assert state.prediction == 0
    assert set(state.warnings) == {"not_increasing", "impossible"}


def test_nothing_is_promised_beyond_the_ideal():
    x, _ = NEAR_ONE
    trace = LearningTrace(nu=1.0, lookahead=0, horizon=1e6)
    trace.extend(x[:3], [0.4, 0.5, 0.56])
    trace.extend(x[3:], [0.60, 0.97, 0.985])
    state = trace.state()
    assert state.alpha > 1
    assert state.layer == pytest.approx(1 - trace.trend.predict(3200.0), abs=1e-12)


@pytest.mark.parametrize(("better", "target"), [(True, 95), (True, -1), (False, -0.1), (True, float("nan"))])
def test_a_target_that_no_score_can_be_is_refused(better, target):
    trace = LearningTrace(higher_is_better=better, generator=np.random.default_rng(0))
    trace.extend([1, 2, 3, 4], [0.5, 0.6, 0.65, 0.68] if better else [0.5, 0.4, 0.35, 0.32])
    for ask in (trace.size_for, trace.size_band):
        with pytest.raises(ValueError, match=r"target must be (in \[0, 1\]|at least 0), got"):
            ask(target)

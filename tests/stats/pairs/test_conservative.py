"""Intervals that hold for any model: the coverage of the factor, and of the intervals made with it."""

import math

import pytest
import torch
from scipy.stats import binom

from aleator.random import Streams
from aleator.stats import confidence_interval, conservative_factor

ALPHA, EPS, SETS = 0.1, 0.05, 2000


def calibration_sets(items: int, name: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return p̂, true p, y1 and y2 of many sets, for a model that is off by up to 0.2."""
    generator = Streams(0).generator(name)
    true = torch.rand(SETS, items, generator=generator, dtype=torch.float64)
    off = 0.2 * torch.sin(9 * true)
    y1, y2 = (torch.rand(true.shape, generator=generator, dtype=torch.float64) < true for _ in range(2))
    return (true + off).clamp(0, 1), true, y1.long(), y2.long()


@pytest.mark.plain  # a loop, whose functions other tests check
@pytest.mark.filterwarnings("ignore:.*variances are below")
@pytest.mark.parametrize(
    ("method", "claimed"),
    [*((method, claimed) for method in ("hoeffding", "bernstein") for claimed in (0.0, 1.0, -0.02)), ("betting", 0.0)],
)
def test_the_factor_is_above_the_true_mean_as_often_as_it_says(method, claimed):
    """Enough of 2,000 sets cover E[z]: a coverage of 1 − α would give fewer in less than 0.5 % of all cases."""
    p, true, y1, y2 = calibration_sets(100, "coverage")
    V = torch.full((100,), claimed, dtype=torch.float64)
    mean = float((p - true).square().mean() / max(claimed, EPS))
    covered = sum(conservative_factor(p[i], V, y1[i], y2[i], EPS, ALPHA, method) >= mean for i in range(0, SETS))
    assert covered >= binom.ppf(0.005, SETS, 1 - ALPHA)


def test_a_mean_without_a_bound_does_not_cover():
    """The demonstration that the test above can fail: the plain mean of z is below E[z] in about half of the sets."""
    p, true, y1, y2 = calibration_sets(100, "coverage")
    means = ((y1 - p) * (y2 - p)).mean(1)
    assert float((means >= float((p - true).square().mean())).double().mean()) < 0.6


def test_the_bounds_are_the_formulas():
    p, _, y1, y2 = (t[0] for t in calibration_sets(200, "formulas"))
    V = torch.linspace(0, 0.2, 200, dtype=torch.float64)
    z = (y1 - p) * (y2 - p) / V.clamp(min=EPS)
    hoeffding = z.mean() + 1.25 / EPS * math.sqrt(math.log(10) / 400)
    bernstein = z.mean() + math.sqrt(2 * z.var() * math.log(20) / 200) + 7 * 1.25 / EPS * math.log(20) / (3 * 199)
    found = [conservative_factor(p, V, y1, y2, EPS, ALPHA, m) for m in ("hoeffding", "bernstein")]
    assert found == pytest.approx([float(hoeffding), float(bernstein)], rel=1e-12)


def test_betting_is_tighter_than_the_others_where_z_varies_little():
    generator = Streams(0).generator("betting")
    p = torch.full((2000,), 0.95, dtype=torch.float64)
    y1, y2 = ((torch.rand(2000, generator=generator) < 0.95).long() for _ in range(2))
    found = {
        m: conservative_factor(p, torch.zeros(2000), y1, y2, 0.01, 0.05, m)
        for m in ("hoeffding", "bernstein", "betting")
    }
    assert 0 <= found["betting"] < found["bernstein"] < found["hoeffding"]


def test_a_factor_is_never_negative():
    half = torch.full((400,), 0.5)
    y1 = torch.arange(400) % 2
    assert conservative_factor(half, half, y1, 1 - y1, 0.9, 0.5, "hoeffding") == 0.0


def test_intervals_hold_for_a_model_that_knows_nothing_of_its_error():
    """V is 0, and still the truth is outside for no more than β of fresh inputs."""
    p, true, y1, y2 = (t.flatten()[:4000] for t in calibration_sets(100, "intervals"))
    train, test = slice(0, 2000), slice(2000, 4000)
    V = torch.zeros_like(p)
    gamma = conservative_factor(p[train], V[train], y1[train], y2[train], 1e-2, 0.05)
    for beta in (0.5, 0.2, 0.05):
        low, high = confidence_interval(p[test], V[test], beta, gamma, 1e-2)
        assert float(((true[test] < low) | (true[test] > high)).double().mean()) <= beta


def test_the_interval_is_the_formula_and_stays_in_the_unit_interval():
    low, high = confidence_interval(torch.tensor([0.5, 0.9]), torch.tensor([0.01, -0.5]), 0.25, gamma=2.0, eps=0.02)
    radius = math.sqrt(2 * 0.02 / 0.25)
    assert low.tolist() == pytest.approx([0.5 - radius, 0.9 - radius])
    assert high.tolist() == pytest.approx([0.5 + radius, 1.0])
    assert low.dtype == torch.float32


def test_without_a_floor_a_negative_variance_gives_a_point():
    low, high = confidence_interval(torch.tensor([0.5]), torch.tensor([-0.01]), 0.1)
    assert float(low) == float(high) == 0.5


def data(items: int = 4):
    return torch.full((items,), 0.5), torch.full((items,), 0.1), torch.tensor([0, 1] * (items // 2)), torch.ones(items)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"eps": 0}, "eps must be positive and finite, got 0"),
        ({"eps": math.nan}, "eps must be positive and finite, got nan"),
        ({"alpha": 1.0}, r"alpha must be in \(0, 1\), got 1.0"),
        ({"alpha": 0.0}, r"alpha must be in \(0, 1\), got 0.0"),
        ({"method": "bernstien"}, "method must be bernstein, hoeffding or betting, got 'bernstien'"),
        ({"p": torch.full((4, 2), 0.5)}, r"p must have one value for each item, got shape \(4, 2\)"),
        ({"p": torch.full((1,), 0.5)}, "p must be of at least 2 items, got 1"),
        ({"V": torch.zeros(3)}, r"V must have the shape of p, \(4,\), got \(3,\)"),
        ({"y1": torch.zeros(3)}, "y1 must have one response for each of 4 items, got shape"),
        ({"y2": torch.tensor([0, 1, 2, 1])}, "y2 must be 0 or 1, whether the response is the scored label, got 2"),
        ({"used_ids": [1]}, "used_ids cannot be used without item_ids to be compared with, got none"),
        ({"item_ids": [1, 2, 3]}, "item_ids must have one name for each of 4 items, got 3"),
        ({"item_ids": [1, 2, 3, 2]}, "pairs of one item are not independent, got 2 twice"),
        (
            {"item_ids": ["a", "b", "c", "d"], "used_ids": ["x", "c"]},
            "calibration items must not have been used for training, got 1 that were, such as 'c'",
        ),
        (
            {"item_ids": torch.arange(4), "used_ids": torch.arange(3, 9)},
            "calibration items must not have been used for training, got 1 that were, such as 3",
        ),
    ],
)
def test_bad_calibration_is_named(changed, message):
    p, V, y1, y2 = data()
    given = {"p": p, "V": V, "y1": y1, "y2": y2, "eps": 1e-3, "alpha": 0.05} | changed
    with pytest.raises(ValueError, match=message):
        conservative_factor(**given)


def test_items_that_were_not_used_are_welcome():
    p, V, y1, y2 = data()
    assert conservative_factor(p, V, y1, y2, 1e-3, 0.05, item_ids=torch.arange(4), used_ids=range(4, 9)) > 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"V": torch.tensor([0.1, -0.01, 0.1, 0.1])}, "1 of 4 variances are below -0.001, the least -0.01"),
        ({"p": torch.full((4,), 0.05), "V": torch.full((4,), -0.0009)}, "4 of 4 confidences are above 1.05"),
        ({"y1": torch.ones(4)}, "the two responses agree in 100.0 % of the items"),
    ],
)
def test_signs_of_a_bad_model_or_of_leaked_responses_are_warned_of(changed, message):
    p, V, y1, y2 = data()
    given = {"p": p, "V": V, "y1": y1, "y2": y2, "eps": 1e-3, "alpha": 0.05} | changed
    with pytest.warns(UserWarning, match=message):
        conservative_factor(**given)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.0}, r"beta must be in \(0, 1\), got 0.0"),
        ({"beta": 1.0}, r"beta must be in \(0, 1\), got 1.0"),
        ({"beta": 0.1, "gamma": -1.0}, "gamma must be finite and not negative, got -1.0"),
        ({"beta": 0.1, "eps": math.inf}, "eps must be finite and not negative, got inf"),
    ],
)
def test_bad_intervals_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        confidence_interval(torch.tensor([0.5]), torch.tensor([0.1]), **options)

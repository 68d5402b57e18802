"""Claims about what the sizes of a comparison forecast."""

import math
from pathlib import Path

import pytest

from aleator.cli import main
from aleator.experiment.comparison.size_forecast import check_horizon, size_forecasts
from aleator.experiment.files import read_json
from aleator.experiment.protocol import Headline

GRID = f"{Path(__file__).parent / 'grid_recipe.py'}:Grid"
SIZES = (100, 200, 400, 800, 1600)


def entries(law, sizes=SIZES, seeds=3, metric="accuracy", name="v"):
    """A variant whose headline is a function of size and seed."""
    return [
        {
            "name": name,
            "size": size,
            "runs": [{"seed": seed, "test": {metric: law(size, seed)}} for seed in range(seeds)],
        }
        for size in sizes
    ]


def forecast_of(found, direction="max", metric="accuracy", seeds=3, **options):
    options = {"horizon": None, "full_size": None, "target": None, **options}
    return size_forecasts(found, Headline(metric, direction), range(seeds), **options)


def rising(size, seed):
    return 0.9 - 2 * size**-0.6 + 0.001 * (seed - 1)


def test_a_known_law_is_recovered_with_its_asymptote_and_the_size_for_a_target():
    (found,) = forecast_of(entries(rising), target=0.88)
    assert found["trend"] == {"a": pytest.approx(2, rel=1e-5), "b": pytest.approx(0.6), "c": pytest.approx(0.9)}
    assert (found["horizon"], found["horizon_source"], found["flags"]) == (3200, "twice", [])
    assert found["forecast"] == pytest.approx(rising(3200, 1))
    assert found["asymptote"] == pytest.approx(0.9)
    assert found["target"]["size"] == pytest.approx(100 ** (1 / 0.6), rel=1e-4)  # 2·n^(−0.6) = 0.02
    assert found["means"] == pytest.approx([rising(size, 1) for size in SIZES])


def test_seeds_that_are_apart_by_the_same_at_every_size_give_a_band_as_wide_at_the_horizon():
    (found,) = forecast_of(entries(rising))
    low, high = found["band"]
    # Resampled means of three seeds, 0.001 apart, lie within ±0.001; the correction for few seeds is √(3/2).
    assert (low, high) == (
        pytest.approx(rising(3200, 1) - 0.001 * math.sqrt(1.5), abs=1e-6),
        pytest.approx(rising(3200, 1) + 0.001 * math.sqrt(1.5), abs=1e-6),
    )
    assert (found["curve"]["low"][-1], found["curve"]["high"][-1]) == (low, high)
    assert found["curve"]["x"][-1] == 3200


def test_lower_is_better_is_the_same_curve_upside_down():
    (up,) = forecast_of(entries(rising, metric="score"), metric="score", target=0.88)
    (down,) = forecast_of(entries(lambda n, s: -rising(n, s), metric="loss"), "min", "loss", target=-0.88)
    assert down["forecast"] == -up["forecast"]
    assert down["asymptote"] == -up["asymptote"]
    assert down["band"] == pytest.approx([-up["band"][1], -up["band"][0]], abs=2e-6)
    assert down["target"]["size"] == up["target"]["size"]
    assert down["trend"]["c"] + 2 * 100**-0.6 == pytest.approx(-rising(100, 1))


def test_five_sizes_can_be_trusted_and_four_cannot():
    (five,) = forecast_of(entries(rising))
    assert (five["prediction_size"], five["decision_size"]) == (400, 1600)
    (four,) = forecast_of(entries(rising, SIZES[:4]))
    assert (four["prediction_size"], four["decision_size"]) == (None, None)
    assert four["forecast"] is not None


@pytest.mark.parametrize(
    ("law", "flag"),
    [
        (lambda n, s: 0.9 - 0.1 * math.log10(n) / 4, "not_increasing"),
        (lambda n, s: 0.2 + 0.2 * math.log10(n), "impossible"),  # 0.9 at 3 200, and 1.0 at 10 000
    ],
)
def test_a_trend_that_leads_nowhere_is_no_forecast(law, flag):
    (found,) = forecast_of(entries(law), horizon=50_000, target=0.95)
    assert flag in found["flags"]
    assert [found[key] for key in ("forecast", "band", "asymptote", "target")] == [None] * 4
    assert found["curve"]["trend"] is None


def test_bands_end_at_one_and_an_asymptote_beyond_it_is_not_shown():
    (found,) = forecast_of(entries(lambda n, s: 1.02 - 1.5 * n**-0.5 + 0.004 * (s - 1)), horizon=5000)
    assert found["flags"] == ["impossible_asymptote"]
    assert found["asymptote"] is None
    assert 0.99 < found["forecast"] < 1
    assert found["band"][1] == max(found["curve"]["high"]) == 1.0


def test_a_logarithmic_curve_has_a_forecast_and_no_asymptote():
    (found,) = forecast_of(entries(lambda n, s: 0.2 + 0.1 * math.log10(n)), horizon=10_000)
    assert found["flags"] == ["no_asymptote"]
    assert found["asymptote"] is None
    assert found["forecast"] == pytest.approx(0.6, abs=1e-3)


def test_the_horizon_is_the_whole_training_set_where_that_is_larger_than_what_was_run():
    assert forecast_of(entries(rising), full_size=5000)[0]["horizon"] == 5000
    assert forecast_of(entries(rising), full_size=1600)[0]["horizon"] == 3200
    assert forecast_of(entries(rising), full_size=5000, horizon=9000)[0]["horizon"] == 9000


def test_two_sizes_or_a_missing_run_have_no_forecast():
    assert forecast_of(entries(rising, SIZES[:2])) == []
    assert forecast_of(entries(rising), seeds=4) == []  # a seed that has not finished
    broken = entries(rising)
    broken[2]["runs"][1]["test"] = {}
    assert [found["name"] for found in forecast_of(broken + entries(rising, name="w"))] == ["w"]
    assert forecast_of([{"name": "v", "size": None, "runs": []}]) == []


def test_one_seed_has_a_band_from_four_sizes_on():
    assert forecast_of(entries(rising, SIZES[:3], seeds=1), seeds=1)[0]["band"] is None
    assert forecast_of(entries(rising, SIZES[:4], seeds=1), seeds=1)[0]["band"] is not None


def test_the_same_results_give_the_same_forecast_in_any_order_of_sizes():
    assert forecast_of(entries(rising)) == forecast_of(entries(rising)[::-1])


@pytest.mark.plain
@pytest.mark.parametrize(
    ("sizes", "horizon", "message"),
    [
        (None, 100, "horizon cannot be used with fewer than 3 sizes, got 0"),
        ([10, 20], 100, "horizon cannot be used with fewer than 3 sizes, got 2"),
        ([10, 40, 20], 39, "horizon must be at least 40, the largest size, got 39"),
    ],
)
def test_a_horizon_that_cannot_be_forecast_is_refused(sizes, horizon, message):
    with pytest.raises(ValueError, match=message):
        check_horizon(sizes, horizon)


def test_sizes_are_forecast_through_the_door(tmp_path, capsys):
    out = tmp_path / "out"
    sizes = ("--sizes", "8", "16", "32", "64", "128")
    words = [*sizes, "--variant", "a", "--variant", "b:lr=0.01", "--steps", "10", "--seeds", "2", "--workers", "1"]
    words = ["compare", GRID, *words, "--trackers", "--horizon", "512", "--target", "0.7", "--out", str(out)]
    assert main(words) == 0
    shown = capsys.readouterr().out
    forecasts = read_json(out / "comparison.json")["forecasts"]
    assert [(found["name"], found["horizon"]) for found in forecasts] == [("a", 512), ("b", 512)]
    assert "test accuracy forecast from 5 sizes" in shown
    assert "at 512 examples" in shown
    assert "plot-sizes" in (out / "report.html").read_text()
    # The same folder with another horizon: no run is carried out again, and the forecast is new.
    words[words.index("512")] = "1024"
    assert main(words) == 0
    assert read_json(out / "comparison.json")["forecasts"][0]["horizon"] == 1024
    words[words.index("1024")] = "100"
    assert main(words) == 2
    assert "horizon must be at least 128, the largest size, got 100" in capsys.readouterr().err

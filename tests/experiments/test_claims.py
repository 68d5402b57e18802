import pytest

from experiments.claims import Claim, pair


@pytest.mark.parametrize(
    ("relation", "threshold", "difference", "interval", "verdict"),
    [
        ("at least", 0.14, 0.19, (0.17, 0.21), "reproduced"),
        ("at least", 0.14, 0.12, (0.10, 0.14), "partly"),  # better, but by less than claimed
        ("at least", 0.14, 0.15, (0.12, 0.18), "partly"),  # perhaps by as much as claimed
        ("at least", 0.0, 0.01, (-0.01, 0.03), "not"),  # an interval that crosses zero reproduces nothing
        ("at least", 0.14, 0.19, None, "not"),  # one seed
        ("no less than", 0.008, -0.003, (-0.004, -0.002), "reproduced"),
        ("no less than", 0.008, -0.003, (-0.009, 0.003), "partly"),
        ("no less than", 0.008, -0.02, (-0.03, -0.01), "not"),
        ("equal within", 0.005, 0.001, (-0.002, 0.004), "reproduced"),
        ("equal within", 0.005, 0.001, (-0.006, 0.008), "partly"),  # not known to be different is not equal
        ("equal within", 0.005, 0.009, (0.008, 0.010), "not"),
        ("equal within", 0.005, 0.0, None, "partly"),
    ],
)
def test_verdicts(relation, threshold, difference, interval, verdict):
    assert Claim("", "a", "b", relation, threshold).verdict(difference, interval) == verdict


def test_runs_equal_in_every_seed_are_equal_and_not_better():
    assert Claim("", "a", "b", "equal within", 0.005).verdict(0.0, None, constant=True) == "reproduced"
    assert Claim("", "a", "b", "at least", 0.0).verdict(0.0, None, constant=True) == "not"


def test_pair_is_found_either_way_round():
    found = {"a": "x", "b": "y", "mean_difference": 0.2, "interval": [0.1, 0.3], "n": 3}
    comparison = {"pairs": [found]}
    assert pair(comparison, "x", "y") == found
    turned = pair(comparison, "y", "x")
    assert (turned["mean_difference"], turned["interval"]) == (-0.2, [-0.3, -0.1])
    with pytest.raises(KeyError, match="no pair x, z"):
        pair(comparison, "x", "z")

import pytest
from scipy.stats import binomtest

from aleator.experiment import Headline
from experiments.claims import AllOf, BestOf, Claim, Wins, count_wins, find


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


def comparison(direction: str, **variants: dict[str, tuple[list[float], list[float]]]) -> dict:
    """Variants by name, each with metrics by name, each with its validation and test values for seeds 0, 1, …"""
    metrics = list(next(iter(variants.values())))
    return {
        "headline": {"name": metrics[0], "direction": direction},
        "variants": [
            {
                "name": name,
                "summary": {metric: {"mean": sum(test) / len(test)} for metric, (_, test) in values.items()},
                "runs": [
                    {
                        "seed": seed,
                        "validation": {metric: validation[seed] for metric, (validation, _) in values.items()},
                        "test": {metric: test[seed] for metric, (_, test) in values.items()},
                    }
                    for seed in range(len(values[metrics[0]][1]))
                ],
            }
            for name, values in variants.items()
        ],
    }


def test_a_difference_is_positive_where_a_is_better():
    one = {"m": ([0.0, 0.0], [0.5, 0.75])}
    other = {"m": ([0.0, 0.0], [0.25, 0.375])}
    more = find(Claim("", "x", "y", "at least", 0), comparison("max", x=one, y=other))
    less = find(Claim("", "x", "y", "at least", 0), comparison("min", x=one, y=other))
    assert more.difference.mean == 0.3125
    assert less.difference.mean == -0.3125
    assert less.difference.interval == pytest.approx([-end for end in reversed(more.difference.interval)])
    assert more.means == less.means == (0.625, 0.3125)
    with pytest.raises(KeyError, match="z"):
        find(Claim("", "x", "z", "at least", 0), comparison("max", x=one, y=other))


def test_best_of_a_grid_is_chosen_on_validation_and_judged_on_test():
    # On test data the other one of each grid would be chosen.
    grid = comparison(
        "min",
        small={"loss": ([1.0, 1.2], [2.0, 2.2])},
        large={"loss": ([1.4, 1.0], [1.0, 1.2])},
        base={"loss": ([3.0, 3.0], [5.0, 5.0])},
        worse={"loss": ([3.0, 3.5], [4.0, 4.0])},
    )
    claim = Claim("", BestOf("ours", ("large", "small")), BestOf("theirs", ("base", "worse")), "at least", 0)
    found = find(claim, grid)
    assert (found.a, found.b) == ("small", "base")
    assert found.difference.mean == pytest.approx(2.9)


def test_a_claim_may_be_about_another_metric_than_the_one_that_chooses():
    ours = {"loss": ([1.0], [1.0]), "norm": ([9.0], [9.0])}
    other = {"loss": ([2.0], [2.0]), "norm": ([4.0], [4.0])}
    claim = Claim("", BestOf("best", ("x", "y")), "y", "at least", 0, metric=Headline("norm", "min"))
    found = find(claim, comparison("min", x=ours, y=other))
    assert found.a == "x"
    assert found.difference.mean == -5


def test_a_sign_test_counts_cells_without_ties():
    cells = comparison(
        "max",
        a1={"m": ([0.0] * 3, [0.9, 0.9, 0.5])},
        b1={"m": ([0.0] * 3, [0.8, 0.8, 0.5])},
        a2={"m": ([0.0] * 3, [0.1, 0.3, 0.3])},
        b2={"m": ([0.0] * 3, [0.2, 0.2, 0.2])},
    )
    ours, theirs = AllOf("ours", ("a1", "a2")), AllOf("theirs", ("b1", "b2"))
    found = count_wins(Claim("", ours, theirs, "more often than", 0.5), cells)
    assert (found.a, found.b, found.seeds) == (4, 1, 3)
    assert found.share == 0.8
    fewer = count_wins(Claim("", ours, theirs, "more often than", 0.5, Headline("m", "min")), cells)
    assert (fewer.a, fewer.b) == (1, 4)
    tied = count_wins(Claim("", ours, ours, "more often than", 0.5), cells)
    assert (tied.share, tied.interval) == (0.5, None)
    with pytest.raises(ValueError, match="AllOf"):
        count_wins(Claim("", "a1", "b1", "more often than", 0.5), cells)
    with pytest.raises(ValueError, match="one variant or the best"):
        find(Claim("", ours, theirs, "at least", 0), cells)


@pytest.mark.parametrize(("won", "lost"), [(6, 0), (5, 0), (10, 2), (10, 3), (9, 9), (3, 9), (0, 0)])
def test_a_sign_test_is_reproduced_where_its_p_value_is_below_a_twentieth(won, lost):
    wins = Wins(Headline("m", "max"), won, lost, 1)
    p = binomtest(won, won + lost).pvalue if won + lost else 1.0
    expected = "not" if won <= lost else "reproduced" if p < 0.05 else "partly"
    assert Claim("", "", "", "more often than", 0.5).verdict(wins.share, wins.interval) == expected


def test_the_best_of_a_grid_may_be_chosen_by_another_metric():
    early = Headline("early", "min")
    grid = comparison(
        "min",
        slow={"late": ([0.1, 0.1], [0.1, 0.1]), "early": ([0.9, 0.9], [0.9, 0.8])},
        fast={"late": ([0.3, 0.3], [0.3, 0.3]), "early": ([0.5, 0.5], [0.5, 0.6])},
        ours={"late": ([0.2, 0.2], [0.2, 0.2]), "early": ([0.4, 0.4], [0.4, 0.4])},
    )
    best = BestOf("base", ("slow", "fast"), early)
    assert find(Claim("", "ours", best, "at least", 0, early), grid).b == "fast"
    assert find(Claim("", "ours", BestOf("base", ("slow", "fast")), "at least", 0, early), grid).b == "slow"


def test_a_number_stands_for_the_baseline():
    ours = {"loss": ([0.0] * 3, [1.0] * 3), "ratio": ([0.0] * 3, [1.1, 1.2, 1.3])}
    one = comparison("min", ours=ours)

    def verdict(relation: str, number: float, threshold: float, direction: str) -> str:
        claim = Claim("", "ours", number, relation, threshold, Headline("ratio", direction))
        found = find(claim, one)
        assert found.means == (pytest.approx(1.2), number)
        assert found.b == f"{number:g}"
        return claim.verdict(found.difference.mean, found.difference.interval)

    # The interval of the ratio is 1.2 ± 4.303 · 0.1/√3, [0.952, 1.448].
    assert verdict("no less than", 1.5, 0.0, "min") == "reproduced"  # at most 1.5
    assert verdict("no less than", 2, 0.0, "min") == "reproduced"
    assert verdict("no less than", 1.4, 0.0, "min") == "partly"
    assert verdict("no less than", 1.1, 0.0, "min") == "not"
    assert verdict("no less than", 0.9, 0.0, "max") == "reproduced"  # at least 0.9
    assert verdict("equal within", 1.2, 0.25, "max") == "reproduced"
    assert verdict("equal within", 1.2, 0.2, "max") == "partly"
    assert verdict("equal within", 1.0, 0.1, "max") == "not"

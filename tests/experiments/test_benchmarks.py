import pytest

from benchmarks.pairs import Pairs, interleave, median_interval, verdict
from benchmarks.peers import PeerMissing, rows_of_a_peer
from benchmarks.reading import moved
from experiments import tables


def test_only_an_interval_decides_about_a_target():
    assert verdict(None, 2.0, at_most=False) == "open"
    for low, high, at_least, at_most in (
        (1, 1.9, "missed", "met"),
        (1.9, 2.1, "open", "open"),
        (2.1, 3, "met", "missed"),
    ):
        interval = {"low": low, "high": high}
        assert verdict(interval, 2.0, at_most=False) == at_least
        assert verdict(interval, 2.0, at_most=True) == at_most


def test_a_row_has_the_verdicts_of_its_target_and_of_its_limit():
    row = Pairs([1.0] * 6, [3.0] * 6, limit=[0.5] * 6).row("work", "other", "≥ 2 (as hoped)", limit=("least", 1.5))
    assert (row["ratio"]["median"], row["verdict"], row["pairs"]) == (3, "met", 6)
    assert (row["limit"]["ratio"]["median"], row["limit"]["verdict"]) == (2, "missed")
    added = Pairs([1.04] * 6, [1.0] * 6).row("work", "plain", "overhead ≤ 5 %", figure="overhead")
    assert added["verdict"] == "met"
    assert Pairs([1.0] * 4, [3.0] * 4).row("work", "other", "≥ 2")["verdict"] == "open"
    many = Pairs([30.0] * 6, [1.0] * 6).row("64 of them", "one", "≤ 40", figure="cost")
    assert (many["ratio"]["median"], many["verdict"]) == (30, "met")
    assert "verdict" not in Pairs([1.0] * 6, [3.0] * 6).row("work", "other", "–")


def test_an_interval_of_a_median_lies_around_it_and_needs_five_values():
    values = [1.0, 1.1, 1.2, 1.3, 5.0]
    found = median_interval(values)
    assert 1 <= found["low"] <= 1.2 <= found["high"] <= 5
    assert median_interval(values[:4]) is None


def test_all_sides_take_turns_and_are_timed_by_two_clocks():
    calls = []
    timings = interleave(
        lambda: calls.append("a"), lambda: calls.append("b"), limit=lambda: calls.append("c"), pairs=5, number=2
    )
    assert calls == ["a", "a", "b", "b", "c", "c"] * 6
    row = timings.row("work", "other", "–", limit=("least", 2.0))
    assert (row["clock"], row["beside"]["clock"]) == ("wall", "processor")
    assert len(interleave(lambda: None, lambda: None).ours) == 31


def result(median, half, machine="here", what="a step", peer="other: 3 s"):
    ends = {"low": median - half, "high": median + half}
    row = {"what": what, "peer": peer, "ratio": {"median": median, **ends}, "interval": ends}
    return {"rows": [row], "machine": {"processor": machine}}


def test_a_comparison_says_what_moved_appeared_and_is_gone():
    before = result(2.0, 0.1)
    assert moved(None, before) == ["no committed result to compare with"]
    assert moved(before, result(2.15, 0.1, peer="other: 4 s")) == ["nothing moved since the committed result"]
    (line,) = moved(before, result(2.3, 0.1))
    assert line == "moved: a step, other: 2 [1.9, 2.1] before, 2.3 [2.2, 2.4] now"
    assert moved(before, result(2.0, 0.1, what="a leap")) == ["new: a leap", "gone: a step, other"]
    assert moved(before, result(2.0, 0.1, machine="there"))[0].startswith("another machine than the committed result's")


def test_a_peer_that_cannot_be_fetched_leaves_its_rows_out_in_one_line(capsys):
    rows = ["before"]
    with rows_of_a_peer():
        raise PeerMissing("what benchmarks/peers/x.txt pins could not be fetched")
    rows.append("after")
    assert rows == ["before", "after"]
    assert capsys.readouterr().err == "left out: what benchmarks/peers/x.txt pins could not be fetched\n"
    with pytest.raises(ZeroDivisionError), rows_of_a_peer():
        raise ZeroDivisionError


def test_tables_show_results_with_and_without_intervals():
    old = tables._benchmark_table("loop")
    assert "lowest to highest" in old.splitlines()[0]
    assert all(line.count("|") == 6 for line in old.splitlines())

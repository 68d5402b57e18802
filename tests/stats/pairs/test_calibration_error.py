"""Errors of calibration of both orders: exact models have none, and bins are as described."""

import pytest
import torch

from aleator.random import Streams
from aleator.stats import ece1, ece2, signed_gap
from tests.stats.pairs.six_inputs import GROUP, ROWS, WEIGHTS, joint

# Every input as often as its weight says, in eighths.
INPUTS = torch.repeat_interleave(torch.arange(6), (8 * WEIGHTS).long())


def exact() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    pairs = joint()
    p, V = pairs.log_marginal().exp(), pairs.variance()
    return p[GROUP[INPUTS]], V[GROUP[INPUTS]], ROWS[INPUTS]


def test_a_calibrated_model_claims_its_error():
    p, V, truth = exact()
    assert abs(signed_gap(p, V, p_true=truth)) < 1e-15
    # Bins cut through runs of equal variances, within which errors differ: with one bin nothing is cut.
    assert ece2(p, V, p_true=truth, bins=1) < 1e-15


def test_who_claims_to_know_all_is_off_by_its_error():
    p, V, truth = exact()
    error = float((p - truth).square().mean())
    assert ece2(p, torch.zeros_like(V), p_true=truth) == pytest.approx(error, rel=1e-12)
    assert signed_gap(p, torch.zeros_like(V), p_true=truth) == pytest.approx(error, rel=1e-12)
    assert signed_gap(p, V + 0.1, p_true=truth) == pytest.approx(-0.1, rel=1e-12)


def test_bins_are_runs_of_almost_equal_size_longer_ones_first():
    p = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
    correct = torch.tensor([1, 0, 0, 1, 1])
    bins = [(0.1 + 0.2 + 0.3 - 1), (0.4 + 0.5 - 2)]
    assert ece1(p, correct, bins=2) == pytest.approx(sum(map(abs, bins)) / 5, rel=1e-6)
    order = torch.tensor([3, 0, 4, 2, 1])
    assert ece1(p[order], correct[order], bins=2) == pytest.approx(ece1(p, correct, bins=2), rel=1e-12)


def test_ties_keep_the_order_of_the_data():
    p = torch.full((4,), 0.5)
    assert ece1(p, torch.tensor([1, 1, 0, 0]), bins=2) == pytest.approx(0.5)
    assert ece1(p, torch.tensor([1, 0, 1, 0]), bins=2) == pytest.approx(0.0)


def test_fewer_entries_than_bins_are_one_in_each():
    assert ece1(torch.tensor([0.5, 0.25]), torch.tensor([1, 0]), bins=20) == pytest.approx(0.375)


def test_pairs_and_truth_agree_on_many_items():
    """The false-alarm rate at 4 standard errors is 1 in 16,000; the seed is fixed."""
    p, V, truth = (t.repeat(20_000, 1) for t in exact())
    y1, y2 = torch.multinomial(truth, 2, replacement=True, generator=Streams(0).generator("pairs")).unbind(1)
    found, real = signed_gap(p, V, pairs=(y1, y2)), signed_gap(p, V, p_true=truth)
    assert abs(found - real) < 4 * 0.3 / len(p) ** 0.5


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: ece1(p, p[:2]), r"p and correct must have one value for each item, got shapes \(3,\) and \(2,\)"),
        (lambda p: ece1(p, p, bins=0), "bins must be at least 1, got 0"),
        (lambda p: ece1(p[:0], p[:0]), "p must hold at least one item, got none"),
        (lambda p: ece1(p + 1, p), r"p must be in \[0, 1\], got 1.5"),
        (lambda p: ece2(p, p[:2], p_true=p), r"V must have the shape of p, \(3,\), got \(2,\)"),
        (lambda p: ece2(p, p * float("nan"), p_true=p), r"V must be in \[-1, 1\], got nan"),
        (lambda p: ece2(p, p + 3, p_true=p), r"V must be in \[-1, 1\], got 3.5"),
        (lambda p: ece2(p, p), "exactly one of p_true, counts and pairs must be given, got none"),
        (lambda p: signed_gap(p[:0], p[:0], p_true=p[:0]), "p and V must hold at least one item, got none"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.full((3,), 0.5))

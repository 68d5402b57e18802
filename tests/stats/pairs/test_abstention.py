"""Answer or abstain: the bound holds for every decoder of an exactly calibrated model, and fails where it must."""

import copy
import pickle

import pytest
import torch

from aleator.random import Streams
from aleator.stats import ABSTAIN, Abstention, auroc, hallucination_rate_bound, selective_decode
from tests.stats.pairs.six_inputs import GROUP, ROWS, WEIGHTS, expected, joint

BETAS = (0.5, 0.3, 0.2, 0.05)


def scores() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return of every input p̂, V, doubt 1 − C, and which answers are impossible."""
    pairs = joint()
    p, V, C = pairs.log_marginal().exp(), pairs.variance(), pairs.confidence()
    return p[GROUP], V[GROUP], 1 - C[GROUP], ROWS == 0


def rate(given: torch.Tensor, values: torch.Tensor) -> float:
    """Mean of a value over the answers that are given, each with its probability at each input."""
    return float(expected((given * values).sum(1)) / expected(given.sum(1)))


def test_sampled_and_likeliest_answers_have_the_rates_of_the_notes():
    p, _, doubt, impossible = scores()
    assert (rate(p, impossible), rate(p, doubt)) == pytest.approx((0.208, 0.273), abs=5e-4)
    greedy = torch.nn.functional.one_hot(p.argmax(1), 3).double()
    assert (rate(greedy, impossible), rate(greedy, doubt)) == pytest.approx((0.125, 0.177), abs=5e-4)


@pytest.mark.parametrize("beta", BETAS)
def test_no_decoder_answers_impossibly_more_often_than_it_says(beta):
    p, _, doubt, impossible = scores()
    good = doubt <= beta
    kept = p * good
    some = good.any(1, keepdim=True)
    decoders = {
        "filter": kept,
        "reject": torch.where(some, kept / kept.sum(1, keepdim=True).clamp(min=1e-300), 0.0),
        "top1": torch.nn.functional.one_hot(kept.argmax(1), 3) * some.double(),
    }
    for name, given in decoders.items():
        if expected(given.sum(1)) > 0:
            assert rate(given, impossible) <= rate(given, doubt) + 1e-12 <= beta + 2e-12, name


@pytest.mark.parametrize("beta", BETAS)
def test_the_error_is_beyond_its_own_deviation_as_rarely_as_chebyshev_says(beta):
    p, V, _, _ = scores()
    beyond = ((p - ROWS).abs() >= (V / beta).sqrt() - 1e-12) & (V > 0)
    for answers in (p, torch.nn.functional.one_hot(p.argmax(1), 3).double()):
        assert rate(answers, beyond) <= beta


def test_answers_that_know_the_input_break_the_identity():
    """ỹ must not know more of X than the model sees; the annotator's own answer does."""
    p, V, _, _ = scores()
    errors = (p - ROWS).square()
    assert rate(p, errors) == pytest.approx(rate(p, V), abs=1e-12)
    assert rate(ROWS, errors) == pytest.approx(0.0959, abs=5e-5)
    assert rate(ROWS, V) == pytest.approx(0.0839, abs=5e-5)


def test_confidence_ranks_impossible_answers_last():
    p, _, doubt, impossible = scores()
    mass = (WEIGHTS.unsqueeze(1) * p).flatten()
    assert auroc(-doubt.flatten(), (~impossible).flatten(), mass) > 0.7


def test_the_bound_is_the_mean_doubt_with_confidence_clipped():
    assert hallucination_rate_bound(torch.tensor([1.0, 0.5, 1.5])) == pytest.approx(1 / 6)


def test_filter_looks_once_and_reject_until_one_is_good():
    answers = ["bad", "bad", "good"]
    confidence = {"bad": 0.2, "good": 0.95}.__getitem__
    assert selective_decode(iter(answers).__next__, confidence, 0.1) is ABSTAIN
    assert selective_decode(iter(answers).__next__, confidence, 0.1, "reject") == "good"
    assert selective_decode(iter(answers).__next__, confidence, 0.1, "reject", max_tries=2) is ABSTAIN
    assert selective_decode(iter(answers[:2]).__next__, confidence, 0.1, "top1") is ABSTAIN


def test_rejection_samples_in_proportion_to_the_first_marginal():
    """At 4 standard errors the false-alarm rate is 1 in 16,000, at a fixed seed."""
    p, C = torch.tensor([0.5, 0.3, 0.2]), {0: 0.1, 1: 0.95, 2: 0.99}
    generator = Streams(0).generator("draws")
    found = [
        selective_decode(lambda: int(torch.multinomial(p, 1, generator=generator)), C.__getitem__, 0.1, "reject")
        for _ in range(2000)
    ]
    assert set(found) == {1, 2}
    assert found.count(1) / 2000 == pytest.approx(0.6, abs=4 * (0.24 / 2000) ** 0.5)


def test_exactly_beta_is_good_enough():
    assert selective_decode(lambda: "y", lambda _: 0.75, 0.25) == "y"


def test_a_confidence_above_one_counts_as_one():
    assert selective_decode(lambda: "y", lambda _: 1.3, 0.1) == "y"
    assert selective_decode(lambda: "y", lambda _: float("inf"), 0.1) == "y"  # p₂(y | y) = 0 in a table


def test_abstain_is_one_of_its_kind():
    assert copy.deepcopy(ABSTAIN) is ABSTAIN
    assert pickle.loads(pickle.dumps(ABSTAIN)) is ABSTAIN
    assert isinstance(ABSTAIN, Abstention)
    assert repr(ABSTAIN) == "ABSTAIN"


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: selective_decode(lambda: 1, lambda _: 1.0, 0.0), r"beta must be in \(0, 1\), got 0.0"),
        (lambda: selective_decode(lambda: 1, lambda _: 1.0, 1.0), r"beta must be in \(0, 1\), got 1.0"),
        (lambda: selective_decode(lambda: 1, lambda _: 1.0, 0.1, "top-1"), "mode must be filter, reject or top1"),
        (lambda: selective_decode(lambda: 1, lambda _: 1.0, 0.1, max_tries=0), "max_tries must be at least 1, got 0"),
        (
            lambda: selective_decode(lambda: 1, lambda _: float("nan"), 0.1),
            "that is not negative, got nan",
        ),
        (lambda: hallucination_rate_bound(torch.tensor([])), "confidence must be of at least one answer, got none"),
        (lambda: hallucination_rate_bound(torch.tensor([float("nan")])), "numbers that are not negative, got nan"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()

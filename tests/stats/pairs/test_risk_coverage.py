"""Ranking answers: against scikit-learn, with weights and ties, and in any order."""

import pytest
import torch
from sklearn.metrics import roc_auc_score

from aleator.random import Streams
from aleator.stats import auroc, risk_coverage


def answers(count: int = 300) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = Streams(0).generator("answers")
    score = torch.randint(0, 20, (count,), generator=generator).double()  # many ties
    good = (torch.rand(count, generator=generator) < 0.2 + score / 40).long()
    return score, good, torch.rand(count, generator=generator, dtype=torch.float64)


def test_area_is_scikit_learns():
    score, good, weights = answers()
    assert auroc(score, good) == pytest.approx(roc_auc_score(good, score), rel=1e-12)
    assert auroc(score, good, weights) == pytest.approx(roc_auc_score(good, score, sample_weight=weights), rel=1e-12)


def test_curve_is_the_mean_error_of_the_best():
    score, error = torch.tensor([0.9, 0.1, 0.5, 0.5]), torch.tensor([0, 1, 1, 0])
    curve = risk_coverage(score, error)
    assert curve.threshold.tolist() == pytest.approx([0.9, 0.5, 0.1])
    assert curve.coverage.tolist() == pytest.approx([0.25, 0.75, 1])
    assert curve.risk.tolist() == pytest.approx([0, 1 / 3, 1 / 2])
    assert curve.area == pytest.approx(0.25 * 0 + 0.5 / 3 + 0.25 / 2)


def test_neither_depends_on_the_order_of_the_data():
    score, good, weights = answers()
    order = torch.randperm(len(score), generator=Streams(0).generator("order"))
    assert auroc(score[order], good[order], weights[order]) == pytest.approx(auroc(score, good, weights), rel=1e-12)
    a, b = risk_coverage(score, good, weights), risk_coverage(score[order], good[order], weights[order])
    assert torch.allclose(a.risk, b.risk, rtol=1e-12)


def test_a_weight_of_two_is_two_answers():
    score, good = torch.tensor([0.3, 0.7, 0.5]), torch.tensor([0, 1, 0])
    twice = torch.tensor([0, 1, 1, 2])
    weights = torch.tensor([1.0, 2.0, 1.0])
    repeated = risk_coverage(score[twice], 1 - good[twice])
    assert risk_coverage(score, 1 - good, weights).area == pytest.approx(repeated.area)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: auroc(s, torch.ones(3)), "good must have answers of both kinds, got one kind"),
        (lambda s: auroc(s, torch.tensor([0, 1, 0.5])), "good must be 0 or 1, got 0.5"),
        (lambda s: risk_coverage(s, torch.ones(2)), r"got shapes \(3,\), \(2,\) and \(3,\)"),
        (lambda s: risk_coverage(s * float("nan"), s), "score must be finite numbers, got nan"),
        (lambda s: risk_coverage(s, s, -s), "weights must not be negative, got -0.3"),
        (lambda s: risk_coverage(s, s, 0 * s), "at least one answer with a weight, got none"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.tensor([0.1, 0.2, 0.3]))

"""Joint distributions of two answers: exact truths, the mixture's inequalities, and what is refused."""

import copy
import math
import pickle

import pytest
import torch

from aleator.nn import PairDistribution, PairHead
from aleator.random import Streams
from tests.stats.pairs.six_inputs import GROUP, ROWS, expected, joint


def normal(*shape: int, name: str = "x", dtype=torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=Streams(0).generator(name), dtype=dtype)


def mixture(batch: int = 50, members: int = 4, labels: int = 5, dtype=torch.float64) -> PairDistribution:
    scores = normal(batch, members, labels + 1, dtype=dtype)
    return PairDistribution.from_mixture_logits(scores[..., 0], 2 * scores[..., 1:])


# --- the exact joint of six inputs


def test_the_first_group_has_the_figures_of_the_notes():
    pairs = joint()
    assert torch.allclose(pairs.log_marginal()[0].exp(), torch.tensor([0.7, 0.05, 0.25]).double())
    assert torch.allclose(pairs.variance()[0], torch.tensor([0.04, 0.0025, 0.0625]).double(), atol=1e-12)
    assert torch.allclose(pairs.confidence()[0], torch.tensor([0.49 / 0.53, 0.5, 0.5]).double(), atol=1e-12)


def test_variance_is_the_mean_squared_error_of_a_calibrated_model():
    pairs = joint()
    errors = (pairs.log_marginal().exp()[GROUP] - ROWS).square().sum(1)
    assert float(expected(errors) - expected(pairs.variance()[GROUP].sum(1))) == pytest.approx(0, abs=1e-12)


def test_covariance_is_that_of_the_true_distribution_around_the_prediction():
    pairs = joint()
    found = pairs.covariance()
    first = ROWS[:2] - ROWS[:2].mean(0)
    assert torch.allclose(found[0], first.T @ first / 2, atol=1e-12)
    assert torch.allclose(found.sum(-1), torch.zeros(3, 3).double(), atol=1e-12)
    assert torch.allclose(found, found.mT, atol=1e-15)
    assert torch.linalg.eigvalsh(found).min() > -1e-12
    assert torch.allclose(found.diagonal(dim1=-2, dim2=-1), pairs.variance(), atol=1e-12)


def test_noise_and_ignorance_add_up_to_the_variance_of_an_answer():
    pairs = joint()
    p = pairs.log_marginal().exp()
    total = torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2)
    noise = torch.diag_embed(p) - pairs.log_joint().exp()
    assert torch.allclose(total, noise + pairs.covariance(), atol=1e-12)
    assert torch.linalg.eigvalsh(noise).min() > -1e-12


def test_who_is_alone_in_its_group_is_known():
    pairs = joint()
    assert torch.allclose(pairs.variance()[2], torch.zeros(3).double(), atol=1e-12)
    assert torch.allclose(pairs.confidence()[2], torch.ones(3).double(), atol=1e-12)
    assert float(pairs.mutual_information()[2]) == pytest.approx(0, abs=1e-12)


def test_information_is_entropy_lost_by_seeing_the_first_answer():
    pairs = joint()

    def entropy(p):
        return -torch.special.xlogy(p, p).sum(-1)

    p = pairs.log_marginal().exp()
    left = (p * entropy(pairs.log_conditional().exp())).sum(-1)
    assert torch.allclose(pairs.mutual_information(), entropy(p) - left, atol=1e-12)


def test_agreement_is_the_trace():
    pairs = joint()
    assert torch.allclose(pairs.agreement(), pairs.log_joint().exp().diagonal(dim1=-2, dim2=-1).sum(-1), atol=1e-12)


def test_impossible_answers_have_neither_variance_nor_confidence():
    rows = torch.tensor([[0.5, 0.5, 0.0]]).double()
    for pairs in (
        PairDistribution.from_members(rows),
        PairDistribution.from_log_joint((rows.T * rows).log()),
    ):
        assert pairs.variance(clip=False)[2] == 0
        assert pairs.confidence(clip=False)[2] == 0
        assert pairs.covariance().isfinite().all()
        assert float(pairs.mutual_information()) == pytest.approx(0, abs=1e-12)
        assert (pairs.log_conditional()[2] == -torch.inf).all()


def test_one_label_is_certain():
    pairs = PairDistribution.from_logits(torch.zeros(3, 1, 1))
    assert pairs.variance(clip=False).tolist() == [[0.0]] * 3
    assert pairs.confidence(clip=False).tolist() == [[1.0]] * 3


# --- tables and mixtures


def test_symmetrised_tables_have_equal_marginals_and_others_need_not():
    logits = normal(20, 6, 6)
    one, two = (PairDistribution.from_logits(logits).log_marginal(r) for r in (1, 2))
    assert torch.allclose(one, two, atol=1e-13)
    raw = PairDistribution.from_logits(logits, symmetric=False)
    assert not torch.allclose(raw.log_marginal(1), raw.log_marginal(2), atol=0.1)
    assert torch.equal(raw.log_joint(), logits.flatten(1).log_softmax(1).view(20, 6, 6))
    joint_ = raw.log_joint().exp()
    exact = joint_ - joint_.sum(2, keepdim=True) * joint_.sum(1, keepdim=True)
    assert torch.allclose(raw.covariance(), exact, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mixtures_never_have_a_negative_variance_or_too_much_confidence(dtype):
    pairs = mixture(10_000, dtype=dtype)
    assert pairs.variance(clip=False).min() >= 0
    assert pairs.confidence(clip=False).max() <= 1
    assert torch.linalg.eigvalsh(pairs.covariance()[:200].double()).min() > -1e-6


@pytest.mark.parametrize("gap", [50.0, 100.0, 1000.0])
def test_a_member_of_hardly_any_weight_that_is_alone_in_an_answer_is_all_that_is_known_of_it(gap):
    # p = w and E[q²] = w for w = e^−gap, so C = w and V = w (1 − w); (q/p)² is beyond float32.
    weights, members = torch.tensor([0.0, -gap]), torch.tensor([[0.0, -3 * gap], [-3 * gap, 0.0]])
    pairs = PairDistribution.from_mixture_logits(weights.requires_grad_(), members)
    scores = pairs.scores(clip=False)
    assert pairs.log_cheated()[1].item() == pytest.approx(0, abs=1e-4)
    assert scores.log_variance[1].item() == pytest.approx(-gap, rel=1e-6)
    assert scores.confidence[1].item() == pytest.approx(math.exp(-gap), rel=1e-4, abs=1e-44)
    (gradient,) = torch.autograd.grad(scores.confidence.sum(), weights)
    assert torch.isfinite(scores.variance).all()
    assert torch.isfinite(gradient).all()


def test_huge_features_leave_a_mixtures_scores_finite():
    draw = Streams(0).generator("features")
    pairs = PairHead(6, 40, generator=draw)(1000 * torch.randn(500, 6, generator=draw))
    variance, confidence = pairs.variance(clip=False), pairs.confidence(clip=False)
    assert variance.min() >= 0
    assert variance.max() <= 0.25 + 1e-6
    assert confidence.min() >= 0
    assert confidence.max() <= 1


def test_members_may_come_in_half_precision():
    probs = normal(100, 5, 10).softmax(-1)
    for dtype in (torch.float16, torch.bfloat16):
        rounded = PairDistribution.from_members(probs.to(dtype)).variance()
        assert torch.allclose(rounded, PairDistribution.from_members(probs).variance().float(), atol=2e-3)


def test_mixtures_are_their_tables():
    pairs = mixture()
    table = PairDistribution.from_log_joint(pairs.log_joint())
    y1, y2 = (torch.randint(5, (50,), generator=Streams(0).generator(name)) for name in ("y1", "y2"))
    assert torch.allclose(pairs.log_prob(y1, y2), table.log_prob(y1, y2), atol=1e-12)
    for method in ("log_marginal", "variance", "confidence", "covariance", "mutual_information", "agreement"):
        assert torch.allclose(getattr(pairs, method)(), getattr(table, method)(), atol=1e-12), method


def test_one_member_knows_all():
    pairs = PairDistribution.from_members(normal(7, 1, 4).softmax(-1))
    assert not pairs.variance(clip=False).any()
    assert (pairs.confidence(clip=False) == 1).all()
    assert (pairs.mutual_information() == 0).all()


def test_variance_of_an_ensemble_is_that_of_its_members():
    probs, weights = normal(9, 6, 4).softmax(-1), torch.tensor([1.0, 2, 3, 4, 5, 0]).double()
    share = weights / weights.sum()
    mean = torch.einsum("m,bmk->bk", share, probs)
    variance = torch.einsum("m,bmk->bk", share, (probs - mean.unsqueeze(1)).square())
    pairs = PairDistribution.from_members(probs, weights)
    assert torch.allclose(pairs.log_marginal().exp(), mean, atol=1e-14)
    assert torch.allclose(pairs.variance(), variance, atol=1e-14)
    equal = PairDistribution.from_members(probs[..., :5, :])
    assert torch.allclose(equal.variance(), probs[:, :5].var(1, correction=0), atol=1e-14)
    of_each = PairDistribution.from_members(probs, weights.expand(9, 6))
    assert torch.equal(of_each.variance(), pairs.variance())


def test_gradients_are_those_of_finite_differences():
    y1, y2 = torch.tensor([0, 2]), torch.tensor([1, 2])
    for symmetric in (True, False):
        assert torch.autograd.gradcheck(
            lambda x, s=symmetric: PairDistribution.from_logits(x, s).log_prob(y1, y2),
            normal(2, 3, 3).requires_grad_(),
        )
    assert torch.autograd.gradcheck(
        lambda w, q: PairDistribution.from_mixture_logits(w, q).log_prob(y1, y2),
        (normal(2, 4).requires_grad_(), normal(2, 4, 3, name="q").requires_grad_()),
    )
    assert torch.autograd.gradcheck(
        lambda x: PairDistribution.from_logits(x).variance(clip=False), normal(2, 3, 3).requires_grad_()
    )


def test_log_space_holds_where_probabilities_underflow():
    logits = torch.full((2, 2), -700.0)
    logits[0, 0] = 0
    pairs = PairDistribution.from_logits(logits)
    assert pairs.log_marginal().isfinite().all()
    scores = pairs.scores()
    assert scores.variance.isfinite().all()
    assert scores.confidence.isfinite().all()
    assert math.isclose(float(pairs.log_marginal()[1]), -700 + math.log(2), rel_tol=1e-6)


def test_half_precision_is_computed_in_float32():
    logits = normal(4, 3, 3, dtype=torch.float32)
    half = PairDistribution.from_logits(logits.bfloat16())
    assert half.log_joint().dtype == torch.float32
    assert torch.equal(half.log_joint(), PairDistribution.from_logits(logits.bfloat16().float()).log_joint())
    assert PairDistribution.from_members(logits.softmax(-1).half()).variance().dtype == torch.float32


def test_batches_may_have_any_number_of_dimensions():
    for pairs, shape in ((PairDistribution.from_logits(normal(3, 3)), ()), (mixture(6), (6,))):
        assert pairs.variance().shape[:-1] == shape
    deep = PairDistribution.from_logits(normal(2, 5, 3, 3))
    assert deep.log_prob(torch.zeros(2, 5).long(), torch.ones(2, 5).long()).shape == (2, 5)


@pytest.mark.parametrize("pairs", [PairDistribution.from_logits(torch.eye(3)), mixture(3)], ids=["table", "mixture"])
def test_distributions_can_be_copied_and_pickled(pairs):
    for other in (copy.deepcopy(pairs), pickle.loads(pickle.dumps(pairs))):
        assert torch.equal(other.log_joint(), pairs.log_joint())


# --- bad input


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: PairDistribution.from_logits(torch.zeros(2, 3, 4)),
            r"square tables, \[..., K, K\], got shape \(2, 3",
        ),
        (lambda: PairDistribution.from_logits(torch.zeros(3)), r"logits must be square tables"),
        (
            lambda: PairDistribution.from_log_joint(torch.zeros(2, 2)),
            "probabilities that sum to 1, got a sum of 4",
        ),
        (lambda: PairDistribution.from_log_joint(torch.full((2, 2), torch.nan)), "got a sum of nan"),
        (lambda: PairDistribution.from_members(torch.ones(3)), r"shape \[..., members, labels\], got \(3,\)"),
        (
            lambda: PairDistribution.from_members(torch.ones(3, 2)),
            "probabilities that sum to 1, got a sum of 2",
        ),
        (lambda: PairDistribution.from_members(torch.tensor([[1.5, -0.5]])), "not negative, got -0.5"),
        (
            lambda: PairDistribution.from_members(torch.full((2, 2), 0.5), torch.ones(3)),
            r"weights must have the shape \(2,\)",
        ),
        (
            lambda: PairDistribution.from_members(torch.full((2, 2), 0.5), torch.tensor([1, -1.0])),
            "weights must be numbers",
        ),
    ],
)
def test_bad_distributions_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()

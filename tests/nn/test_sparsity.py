import math

import pytest
import torch

from aleator.nn import SparsityController, sparsity_penalty


def test_the_penalty_is_the_cross_entropy_of_the_batch_means():
    p = torch.rand(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = sum(-(0.1 * math.log(1e-6 + m) + 0.9 * math.log(1e-6 + 1 - m)) for m in p.mean(0).tolist())
    assert float(sparsity_penalty(p, 0.1)) == pytest.approx(expected, rel=1e-12)


def test_its_gradient_is_that_of_finite_differences():
    logits = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: sparsity_penalty(a.sigmoid(), 0.1), logits)


def test_it_is_least_where_every_mean_is_the_target():
    def at(mean):
        p = torch.full((3, 2), mean, dtype=torch.float64)
        return float(sparsity_penalty(p, 0.1))

    assert at(0.1) < min(at(0.1 + d) for d in (-0.05, -0.001, 0.001, 0.05))


def test_probabilities_of_zero_and_one_have_a_finite_penalty():
    p = torch.tensor([[0.0, 1.0]], requires_grad=True)
    penalty = sparsity_penalty(p, 0.1)
    assert penalty.isfinite()
    assert torch.autograd.grad(penalty, p)[0].isfinite().all()


@pytest.mark.parametrize(
    ("weight", "share", "expected"),
    [
        (1e-5, 0.5, 1.1e-5),
        (1e-5, 0.1101, 1.1e-5),
        (1e-5, 0.1099, 1e-5),
        (1e-5, 0.1, 1e-5),
        (1e-5, 0.0901, 1e-5),
        (1e-5, 0.0899, 0.9e-5),
        (0.95, 0.5, 1.0),
        (1.05e-13, 0.0, 1e-13),
    ],
)
def test_the_controller_follows_its_table(weight, share, expected):
    weight, share = torch.tensor(weight, dtype=torch.float64), torch.tensor(share, dtype=torch.float64)
    assert float(SparsityController(0.1)(weight, share)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.plain
@pytest.mark.parametrize("target", [0.0, 1.0, -0.1, float("nan")])
def test_targets_of_zero_and_one_are_refused(target):
    for call in (lambda: sparsity_penalty(torch.ones(1, 1), target), lambda: SparsityController(target)):
        with pytest.raises(ValueError, match=rf"target must be in \(0, 1\), got {target}"):
            call()


@pytest.mark.plain
def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="probabilities must be of at least one example, got an empty batch"):
        sparsity_penalty(torch.ones(0, 3), 0.1)

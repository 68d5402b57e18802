"""The loss of pairs: the formula, its minimum, and what is refused."""

import math

import pytest
import torch

from aleator.losses import pair_nll
from aleator.nn import PairDistribution
from aleator.random import Streams
from tests.stats.pairs.six_inputs import ROWS


def test_loss_of_scores_is_cross_entropy_over_symmetrised_cells():
    logits = torch.randn(8, 4, 4, generator=Streams(0).generator("x"), dtype=torch.float64)
    y1, y2 = (torch.randint(4, (8,), generator=Streams(0).generator(name)) for name in ("y1", "y2"))
    cells = ((logits + logits.mT) / 2).flatten(1)
    each = torch.nn.functional.cross_entropy(cells, 4 * y1 + y2, reduction="none")
    assert torch.allclose(pair_nll(logits, y1, y2, "none"), each, rtol=1e-12)
    assert torch.allclose(pair_nll(logits, y1, y2), each.mean(), rtol=1e-12)
    assert torch.equal(pair_nll(logits, y1, y2), pair_nll(logits, y2, y1))


def test_equal_scores_cost_the_logarithm_of_the_cells():
    zeros = torch.zeros(3).long()
    assert float(pair_nll(torch.zeros(3, 7, 7), zeros, zeros)) == pytest.approx(2 * math.log(7))


def test_its_minimum_is_the_mean_product_of_true_distributions():
    """Gradient descent on the exact expectation, over two inputs that the model cannot tell apart."""
    target = torch.einsum("xi,xj->ij", ROWS[:2], ROWS[:2]) / 2
    logits = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    optimizer = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        losses = pair_nll(logits.expand(9, 3, 3), labels[:, 0], labels[:, 1], "none")
        loss = (losses * target.flatten()).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    pairs = PairDistribution.from_logits(logits.detach())
    assert torch.allclose(pairs.log_joint().exp(), target, atol=1e-4)
    assert torch.allclose(pairs.variance(), torch.tensor([0.04, 0.0025, 0.0625]).double(), atol=2e-4)


def test_loss_under_autocast_is_computed_in_float32():
    logits = torch.randn(8, 4, 4, generator=Streams(0).generator("x")).bfloat16()
    y = torch.zeros(8).long()
    with torch.autocast("cpu", torch.bfloat16):
        loss = pair_nll(logits, y, y)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(pair_nll(logits.float(), y, y)), rel=1e-6)


@pytest.mark.plain
def test_compiled_loss_is_the_same():
    logits = torch.randn(8, 4, 4, generator=Streams(0).generator("x"))
    y1, y2 = (torch.randint(4, (8,), generator=Streams(0).generator(name)) for name in ("y1", "y2"))
    compiled = torch.compile(pair_nll, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(logits, y1, y2), pair_nll(logits, y1, y2), rtol=1e-6)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("logits", "y1", "reduction", "message"),
    [
        (
            torch.zeros(2, 3, 4),
            torch.zeros(2).long(),
            "mean",
            r"must be square tables, .* got shape \(2, 3, 4\)",
        ),
        (torch.zeros(2, 3, 3), torch.tensor([0, 3]), "mean", r"y1 must be in \[0, 3\), got 3"),
        (torch.zeros(2, 3, 3), torch.tensor([-1, 0]), "mean", r"y1 must be in \[0, 3\), got -1"),
        (torch.zeros(2, 3, 3), torch.zeros(3).long(), "mean", r"y1 must have the shape \(2,\), .* got \(3,\)"),
        (torch.zeros(2, 3, 3), torch.zeros(2).long(), "sum", "reduction must be mean or none, got 'sum'"),
    ],
)
def test_bad_input_is_named(logits, y1, reduction, message):
    with pytest.raises(ValueError, match=message):
        pair_nll(logits, y1, torch.zeros(2).long(), reduction)

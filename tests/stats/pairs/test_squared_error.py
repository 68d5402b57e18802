"""The squared error of a probability: unbiased from pairs and from counts."""

import pytest
import torch

from aleator.random import Streams
from aleator.stats import pair_squared_error

P = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
TRUE = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
DRAWS = 1_000_000


def drawn(count: int) -> torch.Tensor:
    generator = Streams(0).generator("labels")
    return torch.multinomial(TRUE.expand(DRAWS // count, 3), count, replacement=True, generator=generator)


def assert_mean(errors: torch.Tensor) -> None:
    """Within 4 standard errors: a false alarm in 16,000 for each label, at a fixed seed."""
    standard_error = errors.std(0) / len(errors) ** 0.5
    assert ((errors.mean(0) - (P - TRUE).square()).abs() < 4 * standard_error).all()


def test_pairs_are_unbiased():
    y1, y2 = drawn(2).unbind(1)
    assert_mean(pair_squared_error(P.expand(len(y1), 3), pairs=(y1, y2)))


def test_counts_are_unbiased():
    counts = torch.nn.functional.one_hot(drawn(4), 3).sum(1)
    assert_mean(pair_squared_error(P.expand(len(counts), 3), counts=counts))


def test_shares_in_place_of_pairs_are_not():
    """The demonstration that the test above can fail: (c/n)² is too large by the variance of a share."""
    counts = torch.nn.functional.one_hot(drawn(4), 3).sum(1).double()
    errors = (P - counts / 4).square()
    standard_error = errors.std(0) / len(errors) ** 0.5
    assert (errors.mean(0) - (P - TRUE).square() > 100 * standard_error).all()


def test_counts_are_the_mean_over_all_pairs():
    labels = torch.tensor([0, 0, 1, 2])
    counts = torch.bincount(labels, minlength=3).unsqueeze(0)
    pairs = [(labels[i], labels[j]) for i in range(4) for j in range(4) if i != j]
    of_pairs = torch.cat([pair_squared_error(P.unsqueeze(0), pairs=(a.unsqueeze(0), b.unsqueeze(0))) for a, b in pairs])
    assert torch.allclose(pair_squared_error(P.unsqueeze(0), counts=counts)[0], of_pairs.mean(0), atol=1e-14)


def test_truth_gives_the_square():
    assert torch.equal(pair_squared_error(P, p_true=TRUE), (P - TRUE).square())


def test_one_scored_label_takes_hits():
    errors = pair_squared_error(torch.tensor([0.7, 0.7]), pairs=(torch.tensor([1, 1]), torch.tensor([1, 0])))
    assert torch.allclose(errors, torch.tensor([0.09, -0.21]).double(), atol=1e-7)


def test_float32_probabilities_are_squared_in_float64():
    assert pair_squared_error(P.float(), p_true=TRUE).dtype == torch.float64


@pytest.mark.plain
@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ({}, "exactly one of p_true, counts and pairs must be given, got none"),
        ({"p_true": TRUE, "counts": TRUE}, "must be given, got p_true and counts"),
        ({"p_true": TRUE[:2]}, r"p_true must have the shape of p, \(3,\), got \(2,\)"),
        ({"p_true": TRUE + 1}, r"p_true must be in \[0, 1\], got 1.5"),
        ({"counts": torch.ones(3)}, r"counts must be of all labels of every item, \[items, K\], got shape \(3,\)"),
        ({"pairs": (torch.ones(2), torch.ones(3))}, "y1 must have one response for each of 3 items"),
        ({"pairs": (torch.ones(3), torch.full((3,), 2))}, "y2 must be 0 or 1, whether the response is the scored"),
    ],
)
def test_bad_truths_are_named(truth, message):
    with pytest.raises(ValueError, match=message):
        pair_squared_error(P, **truth)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ({"counts": torch.tensor([[1, 0, 0]])}, "counts must have at least two responses for each item, got 1"),
        ({"counts": torch.tensor([[3, -1, 0]])}, "counts must be whole numbers that are not negative, got -1"),
        ({"counts": torch.tensor([[1.5, 1, 1]])}, "counts must be whole numbers that are not negative, got 1.5"),
        ({"counts": torch.tensor([[float("nan"), 1, 1]])}, "counts must be whole numbers"),
        ({"pairs": (torch.tensor([3]), torch.tensor([0]))}, r"y1 must be in \[0, 3\), got 3"),
        ({"pairs": (torch.tensor([0]), torch.tensor([-1]))}, r"y2 must be in \[0, 3\), got -1"),
        (
            {"pairs": (torch.tensor([0.0]), torch.tensor([1]))},
            r"y1 must be whole numbers in \[0, 3\), got torch",
        ),
    ],
)
def test_bad_labels_are_named(truth, message):
    with pytest.raises(ValueError, match=message):
        pair_squared_error(P.unsqueeze(0), **truth)


@pytest.mark.plain
def test_a_probability_that_is_not_a_number_is_refused():
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\], got nan"):
        pair_squared_error(torch.tensor([float("nan")]), p_true=torch.tensor([0.5]))

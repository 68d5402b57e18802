"""Pairs of responses: different annotators, uniform, and the same for an item wherever it is."""

import pytest
import torch

from aleator.data import PairSampler
from aleator.random import ItemGenerator, Streams

LISTS = [[0, 0, 1], [2, 2], [1, 0, 2, 2]]
COUNTS = torch.tensor([[2, 1, 0], [0, 0, 2], [1, 1, 2]])


def test_a_response_is_never_paired_with_itself():
    """Every item has each label once, so that equal labels would be one response twice."""
    sampler = PairSampler([[0, 1, 2, 3]] * 500, seed=1)
    for epoch in range(20):
        y1, y2 = sampler.pairs(epoch)
        assert (y1 != y2).all()


def test_ordered_pairs_are_uniform():
    """χ² with 11 degrees of freedom is above 31.3 in 0.1 % of all cases; the seed is fixed."""
    sampler = PairSampler([[0, 1, 2, 3]] * 12_000, seed=1)
    y1, y2 = sampler.pairs(0)
    seen = torch.bincount(4 * y1 + y2, minlength=16).view(4, 4)
    assert not seen.diagonal().any()
    off = seen[~torch.eye(4, dtype=torch.bool)].double()
    assert float(((off - 1000).square() / 1000).sum()) < 31.3


@pytest.mark.parametrize(
    "responses",
    [LISTS, COUNTS, COUNTS.numpy(), [torch.tensor(row) for row in LISTS]],
    ids=["lists", "counts", "array", "tensors"],
)
def test_lists_and_counts_are_the_same_responses(responses):
    sampler = PairSampler(responses)
    assert torch.equal(sampler.counts(), COUNTS)
    assert len(sampler) == sampler.num_labels == 3
    assert sampler.agreement() == pytest.approx((1 / 3 + 1 + 1 / 6) / 3)


def test_pairs_depend_on_epoch_and_item_alone():
    sampler = PairSampler([list(range(10))] * 50, seed=3)
    y1, y2 = sampler.pairs(7)
    rows = torch.tensor([31, 4, 31])
    assert torch.equal(sampler.pairs(7, rows)[0], y1[rows])
    part = sampler.take(torch.tensor([4, 31]))
    assert torch.equal(part.pairs(7)[1], y2[[4, 31]])
    assert not torch.equal(sampler.pairs(8)[0], y1)
    assert not torch.equal(PairSampler([list(range(10))] * 50, seed=4).pairs(7)[0], y1)
    assert torch.equal(PairSampler([list(range(10))] * 50, 3).pairs(7)[0], y1)


def test_a_generator_is_read_once_and_decides():
    generator = Streams(0).generator("pairs")
    one, other = (PairSampler(LISTS * 40, generator=generator) for _ in range(2))
    assert not torch.equal(one.pairs(0)[0], other.pairs(0)[0])


def test_both_orders_of_two_responses_occur():
    firsts = torch.stack([PairSampler([[0, 1]] * 100).pairs(epoch)[0] for epoch in range(100)])
    assert firsts.double().mean() == pytest.approx(0.5, abs=0.02)  # four standard errors of 10,000 tosses


def test_parts_are_disjoint_and_keep_the_names_of_their_items():
    sampler = PairSampler(torch.randint(1, 5, (100, 4), generator=Streams(0).generator("counts")))
    parts = sampler.split(60, 30, 5)
    assert [len(part) for part in parts] == [60, 30, 5]
    items = torch.cat([part.items for part in parts])
    assert len(items.unique()) == 95
    for part in parts:
        assert torch.equal(part.counts(), sampler.counts()[part.items])
        assert torch.equal(part.pairs(2)[0], sampler.pairs(2)[0][part.items])
    again = sampler.split(60, 30, 5)
    assert torch.equal(again[0].items, parts[0].items)
    assert not torch.equal(sampler.split(60, seed=1)[0].items, parts[0].items)
    nested = parts[0].split(10)[0]
    assert torch.equal(nested.pairs(2)[0], sampler.pairs(2)[0][nested.items])


def test_numbers_below_a_bound_belong_to_their_items():
    """χ² with 6 degrees of freedom is above 22.5 in 0.1 % of all cases; the seed is fixed."""
    bounds = torch.full((7000,), 7)
    whole = ItemGenerator(5, range(7000)).below(bounds)
    assert torch.equal(ItemGenerator(5, range(100, 200)).below(bounds[:100]), whole[100:200])
    seen = torch.bincount(whole, minlength=7).double()
    assert float(((seen - 1000).square() / 1000).sum()) < 22.5
    assert not ItemGenerator(5, range(9)).below(torch.ones(9).long()).any()
    assert ItemGenerator(5, range(1000)).below(torch.full((1000,), 2**31)).max() < 2**31


def test_labels_that_are_there_twice_are_warned_of():
    with pytest.warns(UserWarning, match="agree in 100.00 % of the pairs: is each annotator's label there twice"):
        PairSampler([[1, 1], [0, 0]] * 500)


# --- bad input


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PairSampler([[0, 1], [1]]), "at least two for each item, by different annotators, got 1 for item 1"),
        (lambda: PairSampler(torch.tensor([[2, 0], [0, 1]])), "got 1 for item 1"),
        (lambda: PairSampler([]), "responses must be of at least one item, got none"),
        (lambda: PairSampler(torch.tensor([[3, -1]])), "counts must be whole numbers that are not negative, got -1"),
        (lambda: PairSampler(torch.tensor([[1.5, 1]])), "counts must be whole numbers that are not negative, got 1.5"),
        (lambda: PairSampler(torch.tensor([[float("nan"), 1]])), "counts must be whole numbers"),
        (lambda: PairSampler(torch.tensor([1, 2])), r"counts must have the shape \[items, labels\], got \(2,\)"),
        (lambda: PairSampler([[0, 3]], num_labels=3), r"responses must be in \[0, 3\), got 3"),
        (lambda: PairSampler([[0, -1]]), r"responses must be in \[0, 1\), got -1"),
        (lambda: PairSampler([[0.0, 1.0]]), "responses must be whole numbers, a list for each item, got torch.float32"),
        (lambda: PairSampler(COUNTS, num_labels=4), "num_labels must be 3, as many as there are columns, got 4"),
        (lambda: PairSampler(LISTS, seed=0, generator=torch.Generator()), "seed cannot be used with generator, got 0"),
        (lambda: PairSampler(LISTS).pairs(-1), "epoch must not be negative, got -1"),
        (lambda: PairSampler(LISTS).pairs(0, torch.tensor([3])), r"rows must be in \[0, 3\), got 3"),
        (lambda: PairSampler(LISTS).take(torch.tensor([-1])), r"rows must be in \[0, 3\), got -1"),
        (lambda: PairSampler(LISTS).split(2, 2), r"sizes must be positive and at most 3 in all, got \(2, 2\)"),
        (
            lambda: ItemGenerator(0, range(2)).below(torch.tensor([1, 0])),
            r"bounds must be in \[1, 2\*\*31\], got 0 to 1",
        ),
        (lambda: ItemGenerator(0, range(2)).below(torch.tensor([1])), "bounds must be one for each of 2 items"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()

"""Batches of changing size: the order of a run whose batches do not change, on every number of processes, resumed."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from aleator.data import RepeatedRandomSampler, VariableBatchSampler


def order(n=50, seed=3, **options):
    return RepeatedRandomSampler(n, **{"ratio": 1.0, "seed": seed, **options})


def sampler(sizes, total=None, n=50, **options):
    following = iter(sizes)
    return VariableBatchSampler(order(n, **options), lambda: next(following), total=total)


def first(batches, count):
    return list(itertools.islice(batches, count))


def test_examples_come_in_the_order_of_constant_batches():
    constant = order()
    expected = [int(i) for _ in range(4) for batch in constant.batches(10) for i in batch]
    found = [i for batch in sampler([4, 4, 7, 30, 25, 50, 1, 40], total=161) for i in batch]
    assert found == expected[:161]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=40))
def test_every_round_shows_each_example_once_whatever_the_sizes(sizes):
    found = [i for batch in first(iter(sampler(sizes, n=20)), len(sizes)) for i in batch]
    for start in range(0, len(found) - 19, 20):
        assert sorted(found[start : start + 20]) == list(range(20))
    assert len(found) == sum(sizes)


@pytest.mark.parametrize("ranks", [2, 4])
def test_processes_share_the_batches_of_one(ranks):
    sizes = [4, 8, 20, 40, 48]
    alone = list(sampler(sizes, total=112))
    shared = [list(sampler(sizes, total=112, num_replicas=ranks, rank=rank)) for rank in range(ranks)]
    for whole, *parts in zip(alone, *shared, strict=True):
        assert [part for together in zip(*parts, strict=True) for part in together] == whole
    assert [len(batch) for batch in alone] == [4, 8, 20, 40, 40]


def test_a_number_of_examples_stands_for_rounds_of_all_of_them():
    for rank in range(2):
        sizes = iter([4, 8, 20, 40, 48])
        found = VariableBatchSampler(50, lambda sizes=sizes: next(sizes), 3, rank, 2, total=112)
        assert list(found) == list(sampler([4, 8, 20, 40, 48], total=112, num_replicas=2, rank=rank))
    with pytest.raises(ValueError, match="must be those of the order, got seed=None, rank=0 and world=2"):
        VariableBatchSampler(order(), lambda: 2, world=2)


def test_the_last_batch_is_cut_to_what_is_left():
    assert [len(batch) for batch in sampler([10, 20, 20], total=37)] == [10, 20, 7]


def test_batches_of_rs2_are_cut_from_its_subsets():
    constant = order(60, ratio=0.5, replacement_between_rounds=True)
    expected = [int(i) for _ in range(3) for batch in constant.batches(15) for i in batch]
    found = sampler([7, 20, 30, 30], n=60, ratio=0.5, replacement_between_rounds=True, total=85)
    assert [i for batch in found for i in batch] == expected[:85]


class Plan:
    """A size that grows with the steps that were taken."""

    def __init__(self):
        self.steps = 0

    def __call__(self):
        return 3 + self.steps // 2


class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 50

    def __getitem__(self, index):
        return index


def loaded(variable, workers):
    return DataLoader(
        Data(),
        batch_sampler=variable,
        num_workers=workers,
        collate_fn=list,
        generator=torch.Generator(),
        prefetch_factor=2 if workers else None,
        multiprocessing_context="fork" if workers else None,
    )


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [0, 1, 6])
def test_a_run_that_reads_ahead_resumes_with_the_batches_that_it_had_drawn(workers, stop):
    plan = Plan()
    variable = VariableBatchSampler(order(), plan)
    seen, state = [], variable.state_dict()
    steps_at_state = 0
    for number, batch in enumerate(loaded(variable, workers)):
        seen.append(batch)
        if number + 1 == stop:
            state, steps_at_state = variable.state_dict(batches=stop), number + 1
            plan.steps = number + 1
            continue
        plan.steps = number + 1
        if number == 13:
            break
    if workers and stop:
        assert state["drawn"] == stop + 4  # two workers with two batches each ahead
    again = Plan()
    again.steps = steps_at_state
    other = VariableBatchSampler(order(seed=8), again)
    other.load_state_dict(state)
    for number, batch in enumerate(loaded(other, workers), stop):
        assert batch == seen[number]
        again.steps = number + 1
        if number == 13:
            break
    lag = 4 if workers else 0
    assert [len(batch) for batch in seen[:14]] == [3 + max(k - lag, 0) // 2 for k in range(14)]


def test_a_state_goes_from_one_number_of_processes_to_another():
    sizes = [4, 8, 12, 16, 20]
    one = sampler(sizes)
    first(iter(one), 2)
    state = one.state_dict()
    rest = sampler(sizes[2:], num_replicas=2, rank=1)
    rest.load_state_dict(state)
    alone = first(iter(sampler(sizes)), 5)
    assert first(iter(rest), 3) == [batch[1::2] for batch in alone[2:]]


def test_an_iterator_that_is_given_up_is_followed_by_the_batch_after_it():
    variable = sampler([3, 4, 5])
    alone = first(iter(sampler([3, 4, 5])), 3)
    assert first(variable, 1) + first(variable, 2) == alone


@pytest.mark.plain
def test_what_cannot_be_is_refused_in_a_line():
    with pytest.raises(ValueError, match="total must be a positive multiple of the 2 processes, got 7"):
        sampler([2], total=7, num_replicas=2)
    for size in (3, 0, 52):
        line = "size must be a positive multiple of the 2 processes and at most 50, the examples of a round, got"
        with pytest.raises(ValueError, match=f"{line} {size}"):
            first(iter(sampler([size], num_replicas=2)), 1)
    with pytest.raises(ValueError, match="tail must not be 'wrap' where all rounds have to be of one size, got 'wrap'"):
        sampler([2], ratio=0.3, n=52, tail="wrap")
    variable = sampler([3, 4])
    first(iter(variable), 1)
    with pytest.raises(ValueError, match="batches must be between 0 and the 1 that were drawn, got 2"):
        variable.state_dict(batches=2)
    with pytest.raises(ValueError, match="the saved sampler has n=50, this one has n=20"):
        sampler([3], n=20).load_state_dict(variable.state_dict())


@pytest.mark.parametrize("sizes", [[6, 8], [8, 6]])
def test_processes_that_cannot_share_what_was_saved_refuse_it(sizes):
    """A batch that was drawn ahead, or what is left of the total."""
    one = sampler(sizes, total=24)
    first(iter(one), 2)
    three = VariableBatchSampler(order(num_replicas=3), lambda: 6, total=24)
    with pytest.raises(ValueError, match=r"3 processes cannot share (8|16) examples of the saved state in equal parts"):
        three.load_state_dict(one.state_dict(batches=1))
    assert [len(batch) for batch in three] == [2] * 4  # it is as it was

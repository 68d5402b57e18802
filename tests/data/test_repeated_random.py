import hashlib
import io
import itertools
import tracemalloc

import numpy as np
import pytest
import torch
from accelerate.data_loader import prepare_data_loader, skip_first_batches
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.utils.data import DataLoader

from aleator.data.permutation import shuffled
from aleator.data.repeated_random import LARGEST_SHUFFLE, RepeatedRandomSampler
from aleator.data.rounds import class_sizes, class_sizes_rounded

RS2 = RepeatedRandomSampler
SIZES = pytest.mark.parametrize(
    ("n", "ratio"),
    [(1, 1.0), (2, 0.5), (7, 0.3), (10, 0.3), (13, 0.99), (50, 0.1), (97, 0.05), (101, 0.5), (128, 0.25)],
)
MODES = {
    "carry": {"tail": "carry"},
    "drop": {"tail": "drop"},
    "independent": {"replacement_between_rounds": True},
    "feistel": {"order": "feistel"},
    "feistel, independent": {"order": "feistel", "replacement_between_rounds": True},
}
ALL_MODES = MODES | {
    "wrap": {"tail": "wrap"},
    "strata": {"labels": [i % 7 for i in range(97)], "stratified": True},
    "strata, independent": {
        "labels": [i * i % 11 for i in range(97)],
        "stratified": "per_class_round",
        "replacement_between_rounds": True,
    },
}


def in_modes(*names):
    return pytest.mark.parametrize("mode", [ALL_MODES[name] for name in names], ids=names)


IN_EVERY_MODE = in_modes(*ALL_MODES)


def rounds(sampler, count):
    return [sampler.round_indices(j).tolist() for j in range(count)]


# --- 1. sizes, duplicates, and the limit r = 1


@in_modes(*MODES)
@SIZES
def test_every_round_has_exactly_m_examples(n, ratio, mode):
    sampler = RS2(n, ratio=ratio, **mode)
    for j in range(25):
        indices = sampler.round_indices(j)
        assert indices.dtype == torch.int64
        assert len(indices) == round(ratio * n)
        assert set(indices.tolist()) <= set(range(n))


@in_modes("drop", "wrap", "strata", "strata, independent")
@pytest.mark.parametrize("ratio", [0.3, 0.7])
def test_no_example_is_twice_in_a_round(mode, ratio):
    for indices in rounds(RS2(97, ratio=ratio, **mode), 40):
        assert len(set(indices)) == len(indices)


@SIZES
def test_independent_rounds_hold_no_example_twice(n, ratio):
    for indices in rounds(RS2(n, ratio=ratio, replacement_between_rounds=True), 25):
        assert len(set(indices)) == len(indices)


@SIZES
def test_a_carried_round_holds_an_example_twice_only_where_it_straddles_permutations(n, ratio):
    m = round(ratio * n)
    for j, indices in enumerate(rounds(RS2(n, ratio=ratio), 40)):
        straddles = (j * m) // n != ((j + 1) * m - 1) // n
        assert straddles or len(set(indices)) == m


@in_modes("carry", "drop", "independent", "wrap")
def test_ratio_one_is_the_shuffled_epoch_of_the_same_key(mode):
    sampler = RS2(97, ratio=1, seed=3, **mode)
    for j in range(4):
        assert torch.equal(sampler.round_indices(j), shuffled(97, sampler.key, j).long())
        assert list(sampler) == shuffled(97, sampler.key, j).tolist()


# --- 2. tails


@SIZES
def test_dropped_tails_leave_disjoint_rounds(n, ratio):
    sampler = RS2(n, ratio=ratio, tail="drop")
    per_cycle = n // round(ratio * n)
    for cycle in range(4):
        block = [i for j in range(per_cycle) for i in sampler.round_indices(cycle * per_cycle + j).tolist()]
        assert len(set(block)) == len(block)


@pytest.mark.parametrize("order", ["shuffle", "feistel"])
@SIZES
def test_carried_rounds_joined_are_permutations_joined(n, ratio, order):
    sampler = RS2(n, ratio=ratio, order=order)
    stream = list(itertools.chain.from_iterable(rounds(sampler, 4 * n // round(ratio * n) + 1)))
    for cycle in range(4):
        assert sorted(stream[cycle * n : (cycle + 1) * n]) == list(range(n))


def authors_rounds(n, m, permutation, count):
    """Section 2.4 of the specification, read line by line: the pointers of the authors' loop."""
    cycle, order, start, end, fresh = -1, None, 0, 0, True
    for _ in range(count):
        if fresh:
            cycle += 1
            order, start, end = permutation(cycle), 0, m
        else:
            start, end = end, (end + m) % (n + 1)
        wrapped = start >= end
        yield order[start:] + order[:end] if wrapped else order[start:end]
        fresh = wrapped or end == n


@SIZES
def test_wrapped_rounds_are_those_of_the_authors_pointers(n, ratio):
    def permutation(cycle):
        return torch.randperm(n, generator=torch.Generator().manual_seed(cycle)).tolist()

    sampler = RS2(n, ratio=ratio, tail="wrap", permutation=permutation)
    assert rounds(sampler, 30) == list(authors_rounds(n, round(ratio * n), permutation, 30))


def test_wrapped_rounds_known_by_size():
    assert [len(indices) for indices in rounds(RS2(10, ratio=0.3, tail="wrap"), 8)] == [3, 3, 3, 2] * 2
    large = RS2(50_000, ratio=0.3, tail="wrap")
    assert [len(large.round_indices(j)) for j in range(4)] == [15_000] * 3 + [14_999]
    assert set(large.round_indices(3).tolist()) >= set(large.round_indices(0)[:9_999].tolist())


# --- 3 to 5. probabilities


@pytest.mark.plain  # a loop, whose functions other tests check
def test_inclusion_probabilities_of_examples_and_pairs():
    # 20 000 rounds, N = 50, m = 2, so that pairs are a multinomial sample. False-alarm rate of either: 1e-3.
    sampler = RS2(50, ratio=0.04, replacement_between_rounds=True, seed=1)
    drawn = torch.stack([sampler.round_indices(j) for j in range(20_000)]).sort(1).values
    singles = np.bincount(drawn.ravel().numpy(), minlength=50)
    expected = 20_000 * 2 / 50
    statistic = ((singles - expected) ** 2 / (expected * (1 - 2 / 50))).sum() * 49 / 50
    assert stats.chi2.sf(statistic, 49) > 1e-3
    pairs = np.bincount((50 * drawn[:, 0] + drawn[:, 1]).numpy(), minlength=2500).reshape(50, 50)
    assert stats.chisquare(pairs[np.triu_indices(50, 1)]).pvalue > 1e-3


@pytest.mark.plain  # a loop, whose functions other tests check
def test_coverage_is_that_of_the_closed_forms():
    n, m, count, trials = 50, 5, 8, 400
    distinct = [
        len(
            set(
                itertools.chain.from_iterable(rounds(RS2(n, ratio=0.1, replacement_between_rounds=True, seed=s), count))
            )
        )
        for s in range(trials)
    ]
    # 4 standard errors: a false alarm once in 16 000 seeds.
    error = np.std(distinct, ddof=1) / trials**0.5
    assert abs(np.mean(distinct) - n * (1 - (1 - m / n) ** count)) < 4 * error
    for rounds_run in range(1, 15):
        drawn = set(itertools.chain.from_iterable(rounds(RS2(n, ratio=0.1), rounds_run)))
        assert len(drawn) == min(n, m * rounds_run)


@pytest.mark.parametrize("disjoint_rounds", [1, 2, 3])
def test_variance_of_round_means_by_enumeration(disjoint_rounds):
    # Every way of choosing k·m of 10 examples, each as the head of one permutation: the mean over k disjoint rounds.
    n, m, k = 10, 3, disjoint_rounds
    values = torch.tensor([3.0, 1, 4, 1, 5, 9, 2, 6, 5, 3], dtype=torch.float64)
    heads = list(itertools.combinations(range(n), k * m))
    orders = [[*head, *(i for i in range(n) if i not in head)] for head in heads]
    sampler = RS2(n, ratio=0.3, tail="drop", permutation=lambda cycle: orders[cycle])
    means = []
    for cycle in range(len(orders)):
        run = [values[sampler.round_indices(3 * cycle + j)].mean() for j in range(k)]
        means.append(torch.stack(run).mean())
    variance = torch.stack(means).var(correction=0)
    assert variance == pytest.approx((1 - k * m / n) * values.var(correction=1) / (k * m))


# --- 7. strata


CLASS_COUNTS = st.lists(st.integers(1, 60), min_size=1, max_size=12)


@given(counts=CLASS_COUNTS, ratio=st.floats(0.02, 1))
def test_class_sizes_sum_to_m_and_are_the_quotas_rounded(counts, ratio):
    if round(ratio * sum(counts)) == 0:
        return
    sizes = class_sizes(counts, ratio)
    assert sum(sizes) == round(ratio * sum(counts))
    assert all(abs(size - ratio * count) < 1 for size, count in zip(sizes, counts, strict=True))


@given(counts=CLASS_COUNTS, ratio=st.floats(0.02, 1), minimum=st.integers(1, 5))
def test_minima_are_met_without_changing_the_sum(counts, ratio, minimum):
    total = round(ratio * sum(counts))
    if minimum > min(counts) or minimum * len(counts) > total or total == 0:
        return
    sizes = class_sizes(counts, ratio, minimum)
    assert sum(sizes) == total
    assert all(minimum <= size <= count for size, count in zip(sizes, counts, strict=True))


def test_equal_remainders_go_to_the_lower_class_although_floats_differ():
    # 0.7 · 45 is 31.499999999999996 as a float, and 0.7 · 15 is 10.5: a tie of 31.5 and 10.5.
    assert class_sizes([45, 15], 0.7) == [32, 10]


def test_class_sizes_known_by_hand():
    assert class_sizes([5, 5, 5, 5], 0.5) == [3, 3, 2, 2]  # ties go to the lower classes
    assert class_sizes([7, 93], 0.05) == [0, 5]
    assert class_sizes([7, 93], 0.05, min_per_class=1) == [1, 4]
    assert class_sizes_rounded([7, 50, 30], 0.05) == [0, 2, 2]  # round(2.5) = 2, round(1.5) = 2
    assert class_sizes_rounded([7, 50, 30], 0.05, min_per_class=1) == [1, 2, 2]


@pytest.mark.parametrize("replacement", [False, True])
@pytest.mark.parametrize("stratified", [True, "per_class_round"])
def test_every_round_has_the_class_sizes(stratified, replacement):
    labels = torch.tensor([9] * 40 + [-1] * 25 + [4] * 11)[shuffled(76, 5, 0)]
    sampler = RS2(
        labels=labels, ratio=0.3, stratified=stratified, replacement_between_rounds=replacement, min_per_class=4
    )
    expected = {-1: 7 if stratified is True else 8, 4: 4, 9: 12}  # quotas 7.5, 3.3, 12; 23 in all
    for j in range(30):
        classes, counts = labels[sampler.round_indices(j)].unique(return_counts=True)
        assert dict(zip(classes.tolist(), counts.tolist(), strict=True)) == expected


def test_strata_without_replacement_use_up_each_class_before_repeating():
    labels = torch.arange(60) % 3
    stream = torch.cat([RS2(labels=labels, ratio=0.1, stratified=True).round_indices(j) for j in range(10)])
    assert stream.sort().values.tolist() == list(range(60))


def test_classes_of_equal_size_are_drawn_independently_of_each_other():
    sampler = RS2(labels=torch.arange(100) % 2, ratio=0.1, stratified=True)
    members = [sampler.round_indices(j) // 2 for j in range(10)]
    # With one order for both classes, every round would hold 5 of the 50 ranks within a class, not up to 10.
    assert max(len(ranks.unique()) for ranks in members) > 5


@pytest.mark.parametrize("stratified", [True, "per_class_round"])
def test_strata_that_straddle_hold_no_example_twice_and_use_each_class_evenly(stratified):
    labels = torch.tensor([0] * 10 + [1] * 23 + [2] * 67)
    sampler, uses = RS2(labels=labels, ratio=0.3, stratified=stratified), torch.zeros(100, dtype=torch.int64)
    for j in range(50):
        indices = sampler.round_indices(j)
        assert len(indices.unique()) == len(indices)
        uses += torch.bincount(indices, minlength=100)
        assert all(part.max() - part.min() <= 1 for part in uses.split([10, 23, 67]))


def test_a_stratified_round_is_shuffled_over_its_classes():
    # Positions of class 0 in 200 rounds of 40 from two equal classes; false-alarm rate 1e-3.
    labels = torch.arange(80) % 2
    sampler = RS2(labels=labels, ratio=0.5, stratified=True)
    at = torch.stack([labels[sampler.round_indices(j)] == 0 for j in range(200)]).sum(0).double().numpy()
    # Without replacement within a round: variance 200/4, covariance of positions −200/(4·39).
    assert stats.chi2.sf(((at - 100) ** 2).sum() / 50 * 39 / 40, 39) > 1e-3


@pytest.mark.parametrize(
    "labels", [[0, 1, 1, 0], np.array([0, 1, 1, 0]), torch.tensor([0, 1, 1, 0], dtype=torch.uint8)]
)
def test_labels_may_come_as_lists_arrays_and_tensors(labels):
    assert len(RS2(4, labels=labels, ratio=0.5, stratified=True).round_indices(0)) == 2


# --- keys and random access


@IN_EVERY_MODE
def test_rounds_do_not_depend_on_the_order_of_access(mode):
    forwards = rounds(RS2(97, ratio=0.3, seed=4, **mode), 12)
    sampler = RS2(97, ratio=0.3, seed=4, **mode)
    for j in [11, 0, 5, 5, 3, 11, 4, 10, 1]:
        assert sampler.round_indices(j).tolist() == forwards[j]


@IN_EVERY_MODE
@settings(max_examples=30)
@given(bounds=st.lists(st.integers(0, 25), min_size=2, max_size=2).map(sorted), j=st.integers(0, 12))
def test_a_slice_of_a_round_is_that_of_the_whole(mode, bounds, j):
    sampler = RS2(97, ratio=0.3, **mode)
    assert sampler.round_indices(j, *bounds).tolist() == sampler.round_indices(j).tolist()[slice(*bounds)]


@IN_EVERY_MODE
def test_what_is_handed_out_is_the_callers_to_change(mode):
    sampler = RS2(97, ratio=0.3, **mode)
    before = rounds(sampler, 3)
    sampler.round_indices(1).zero_()
    for batch in sampler.batches(7):
        batch.zero_()
    assert rounds(sampler, 3) == before


def test_the_seed_and_every_round_change_the_indices():
    assert rounds(RS2(97, ratio=0.3), 3) == rounds(RS2(97, ratio=0.3, seed=0), 3)
    assert rounds(RS2(97, ratio=0.3, seed=1), 3) != rounds(RS2(97, ratio=0.3, seed=2), 3)
    first, second = rounds(RS2(97, ratio=0.3, replacement_between_rounds=True), 2)
    assert first != second


def test_a_generator_is_drawn_from_once_and_decides_the_rounds():
    generator = torch.Generator().manual_seed(5)
    sampler = RS2(97, ratio=0.3, generator=generator)
    state = generator.get_state()
    list(sampler), list(sampler.batches(8))
    assert torch.equal(generator.get_state(), state)
    again = RS2(97, ratio=0.3, generator=torch.Generator().manual_seed(5))
    other = RS2(97, ratio=0.3, generator=generator)
    assert rounds(again, 3) == rounds(sampler, 3) != rounds(other, 3)


# --- 8. processes


@IN_EVERY_MODE
@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_ranks_share_the_round_of_one_process_without_overlap(mode, replicas):
    whole = RS2(97, ratio=0.3, **mode)
    for j in (0, 3, 7):
        ranks = [
            RS2(97, ratio=0.3, num_replicas=replicas, rank=rank, drop_last=False, **mode) for rank in range(replicas)
        ]
        slices = []
        for sampler in ranks:
            assert torch.equal(sampler.round_indices(j), whole.round_indices(j))
            sampler.set_epoch(j)
            length = len(sampler)
            slices.append(list(sampler))
            assert len(slices[-1]) == length
        indices = whole.round_indices(j).tolist()
        assert slices == [indices[rank::replicas] for rank in range(replicas)]


@pytest.mark.parametrize("replicas", [2, 3, 4])
def test_ranks_get_equal_lengths_by_dropping(replicas):
    indices = RS2(97, ratio=0.3).round_indices(0).tolist()
    each = len(indices) // replicas
    for rank in range(replicas):
        sampler = RS2(97, ratio=0.3, num_replicas=replicas, rank=rank)
        assert len(sampler) == each
        assert list(sampler) == indices[rank::replicas][:each]


@IN_EVERY_MODE
@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_global_batches_are_the_same_whatever_the_number_of_ranks(mode, replicas, drop_last):
    ranks = [RS2(97, ratio=0.3, num_replicas=replicas, rank=r, drop_last=False, **mode) for r in range(replicas)]
    for j in range(5):
        indices = ranks[0].round_indices(j).tolist()
        expected = [indices[k : k + 8] for k in range(0, len(indices), 8)]
        if drop_last:
            expected = [batch for batch in expected if len(batch) == 8]
        for rank, sampler in enumerate(ranks):
            batches = sampler.batches(8, drop_last=drop_last)
            length = len(batches)
            found = [batch.tolist() for batch in batches]
            assert found == [batch[rank::replicas] for batch in expected if batch[rank::replicas]]
            assert len(found) == length


def test_a_kept_short_batch_is_cut_to_equal_parts():
    for rank in range(2):
        sampler = RS2(97, ratio=0.3, num_replicas=2, rank=rank)  # 29 = 3 · 8 + 5
        assert [len(batch) for batch in sampler.batches(8, drop_last=False)] == [4, 4, 4, 2]


# --- passes


@IN_EVERY_MODE
def test_each_pass_runs_the_next_round(mode):
    sampler = RS2(97, ratio=0.3, **mode)
    expected = rounds(sampler, 6)
    passes = []
    for _ in range(3):
        passes.append(list(sampler))
        passes.append(torch.cat(list(sampler.batches(4, drop_last=False))).tolist())
    assert passes == expected


def test_a_pass_that_was_broken_off_is_started_again():
    sampler = RS2(97, ratio=0.3)
    first = next(iter(sampler))
    next(iter(sampler.batches(8)))
    assert list(sampler) == sampler.round_indices(0).tolist()
    assert first == sampler.round_indices(0)[0]
    assert next(iter(sampler)) == sampler.round_indices(1)[0]


def test_set_epoch_selects_any_round_forwards_and_backwards():
    sampler = RS2(97, ratio=0.3)
    for j in (5, 2, 2, 9):
        sampler.set_epoch(j)
        assert sampler.round == j
        assert list(sampler) == sampler.round_indices(j).tolist()


def test_long_rounds_are_made_in_chunks_without_seams():
    sampler = RS2(150_000, ratio=1, order="feistel", num_replicas=2, rank=1)
    indices = sampler.round_indices(0)
    assert list(sampler) == indices[1::2].tolist()
    sampler.set_epoch(0)
    assert torch.equal(torch.cat(list(sampler.batches(6))), indices[1::2])


def test_large_populations_use_no_memory_proportional_to_them():
    RS2(LARGEST_SHUFFLE + 1, ratio=0.5).round_indices(0, 0, 10)  # the thread's scratch, 2 MB once
    tracemalloc.start()
    sampler = RS2(10**12, ratio=0.3)
    first, again = (sampler.round_indices(j, 10**11, 10**11 + 1000) for j in (0, 4))
    batches = list(itertools.islice(sampler.batches(128), 3))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000
    assert torch.equal(torch.cat(batches), sampler.round_indices(0, 0, 3 * 128))
    assert len(torch.cat([first, again]).unique()) == 2000
    assert len(sampler) == 3 * 10**11


# --- 9. resuming


def resumed(sampler, state, **changed):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    sampler.load_state_dict(torch.load(buffer, weights_only=True))
    return sampler


@IN_EVERY_MODE
@pytest.mark.parametrize("consumed", [0, 1, 5, 28])
def test_the_rest_of_a_round_is_the_same_after_resuming(mode, consumed):
    sampler = RS2(97, ratio=0.3, seed=1, **mode)
    sampler.set_epoch(3)
    indices = sampler.round_indices(3).tolist()
    consumed = min(consumed, len(indices) - 1)
    iterator = iter(sampler)
    assert list(itertools.islice(iterator, consumed)) == indices[:consumed]
    assert sampler.position == consumed
    state = sampler.state_dict()
    other = resumed(RS2(97, ratio=0.3, seed=2, **mode), state)
    assert (other.round, other.position, other.key) == (3, consumed, sampler.key)
    assert list(other) == list(iterator) == indices[consumed:]
    assert list(other) == list(sampler) == sampler.round_indices(4).tolist()


@IN_EVERY_MODE
@pytest.mark.parametrize("taken", [0, 1, 2, 3])
def test_the_batches_left_are_the_same_after_resuming_on_other_ranks(mode, taken):
    sampler = RS2(97, ratio=0.3, **mode)
    iterator = iter(sampler.batches(8))
    for _ in range(min(taken, len(sampler.batches(8)))):
        next(iterator)
    state = sampler.state_dict()
    left = [batch.tolist() for batch in iterator]
    following = [batch.tolist() for batch in sampler.batches(8)]
    for rank in range(2):
        other = resumed(RS2(97, ratio=0.3, num_replicas=2, rank=rank, **mode), state)
        assert [batch.tolist() for batch in other.batches(8)] == [batch[rank::2] for batch in left]
        assert [batch.tolist() for batch in other.batches(8)] == [batch[rank::2] for batch in following]


def test_a_state_after_the_last_example_is_the_start_of_the_next_round():
    sampler = RS2(97, ratio=0.3)
    iterator = iter(sampler)
    for _ in range(29):
        next(iterator)
    assert (sampler.state_dict()["round"], sampler.state_dict()["position"]) == (1, 0)
    list(iterator)
    assert (sampler.state_dict()["round"], sampler.state_dict()["position"]) == (1, 0)


def test_a_resumed_loop_may_call_set_epoch():
    sampler = RS2(97, ratio=0.3)
    iterator = iter(sampler.batches(8))
    next(iterator)
    other = resumed(RS2(97, ratio=0.3), sampler.state_dict())
    found = []
    for j in range(other.round, 2):
        other.set_epoch(j)
        found += [batch.tolist() for batch in other.batches(8)]
    expected = [batch.tolist() for batch in iterator]
    assert found == expected + [batch.tolist() for batch in sampler.batches(8)]
    other.load_state_dict(sampler.state_dict(position=8))
    other.set_epoch(0)
    assert list(other) == other.round_indices(0).tolist()


def test_the_state_is_a_copy():
    sampler = RS2(97, ratio=0.3)
    state = sampler.state_dict()
    list(sampler)
    assert (state["round"], state["position"]) == (0, 0)


# --- torch's loader and Accelerate's


class Squares(torch.utils.data.Dataset):
    def __len__(self):
        return 97

    def __getitem__(self, index):
        return torch.tensor([index, index**2])


def loader(sampler, workers=0, batch_size=8):
    return DataLoader(
        Squares(),
        batch_size=batch_size,
        sampler=sampler,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        generator=torch.Generator(),
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_the_number_of_workers_does_not_change_the_order(workers):
    sampler = RS2(97, ratio=0.3)
    loading = loader(sampler, workers)
    assert len(loading) == 3
    for j in range(3):
        found = torch.cat(list(loading))
        assert torch.equal(found[:, 0], sampler.round_indices(j)[:24])
        assert torch.equal(found[:, 1], found[:, 0] ** 2)


def test_with_prefetching_workers_the_loop_says_how_far_it_is():
    sampler = RS2(97, ratio=0.3)
    batches = iter(loader(sampler, workers=2))
    next(batches), next(batches)
    assert sampler.position > 16
    other = resumed(RS2(97, ratio=0.3), sampler.state_dict(position=16))
    left = torch.cat(list(loader(other)))[:, 0]
    assert torch.equal(left, sampler.round_indices(0)[16:24])
    assert torch.equal(torch.cat(list(batches))[:, 0], left)


def test_without_workers_the_position_is_that_of_the_loop():
    sampler = RS2(97, ratio=0.3)
    batches = iter(loader(sampler))
    next(batches), next(batches)
    assert sampler.state_dict()["position"] == 16


def test_accelerate_splits_the_batches_of_one_round_and_sets_the_epoch():
    processes = []
    for process in range(2):
        sampler = RS2(97, ratio=0.3)
        prepared = prepare_data_loader(loader(sampler, batch_size=4), num_processes=2, process_index=process)
        processes.append([torch.cat(list(prepared))[:, 0] for _ in range(3)])
    for j, (even, odd) in enumerate(zip(*processes, strict=True)):
        indices = sampler.round_indices(j)[:24].view(3, 2, 4)
        assert torch.equal(even, indices[:, 0].ravel())
        assert torch.equal(odd, indices[:, 1].ravel())


def test_batches_skipped_by_accelerate_need_the_round_told():
    def prepared():
        sampler, generator = RS2(20, ratio=0.5), torch.Generator()
        loader = DataLoader(torch.arange(20), batch_size=2, sampler=sampler, drop_last=True, generator=generator)
        return prepare_data_loader(loader)

    loader = prepared()
    whole = [[batch.tolist() for batch in loader] for _ in range(5)]
    resumed = prepared()
    silent = skip_first_batches(resumed, 3)
    assert [batch.tolist() for batch in silent] == whole[0][3:]  # and not the batches of round 2
    resumed = prepared()
    skipped = skip_first_batches(resumed, 3)
    skipped.set_epoch(2)
    assert [batch.tolist() for batch in skipped] == whole[2][3:]
    resumed.set_epoch(3)
    assert [[batch.tolist() for batch in resumed] for _ in range(2)] == whole[3:]


def test_a_resumed_loader_of_accelerate_is_told_the_round():
    sampler = RS2(97, ratio=0.3)
    sampler.set_epoch(5)
    other = resumed(RS2(97, ratio=0.3), sampler.state_dict(position=8))
    prepared = prepare_data_loader(loader(other), num_processes=1, process_index=0)
    prepared.set_epoch(other.round)
    assert torch.equal(torch.cat(list(prepared))[:, 0], sampler.round_indices(5)[8:24])
    assert torch.equal(torch.cat(list(prepared))[:, 0], sampler.round_indices(6)[:24])


# --- errors


@pytest.mark.plain
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"ratio": 0.0}, r"ratio must be in \(0, 1\], got 0.0"),
        ({"ratio": 1.5}, r"ratio must be in \(0, 1\], got 1.5"),
        ({"ratio": 0.001}, "ratio must select at least one of the 10 examples, got 0.001"),
        ({"n": 0}, "n must be at least 1, got 0"),
        ({"n": None}, "n or labels must be given, got neither"),
        ({"labels": [0, 1]}, "labels must have one entry for each of the 10 examples, got 2"),
        ({"labels": torch.zeros(10)}, "labels must be one integer per example, got torch.float32"),
        ({"labels": torch.zeros(10, 2, dtype=int)}, r"labels must be one integer per example, .* \(10, 2\)"),
        ({"stratified": True}, "stratified cannot be used without labels, got True"),
        ({"stratified": "yes"}, "stratified must be False, True or .*, got 'yes'"),
        ({"min_per_class": 1}, "min_per_class cannot be used without stratified, got 1"),
        ({"tail": "cut"}, "tail must be .*, got 'cut'"),
        ({"order": "sorted"}, "order must be .*, got 'sorted'"),
        ({"seed": -1}, "seed must not be negative, got -1"),
        ({"seed": 1, "generator": torch.Generator()}, "seed cannot be used with generator, got 1"),
        ({"num_replicas": 0}, "num_replicas must be at least 1, got 0"),
        ({"num_replicas": 2, "rank": 2}, r"rank must be in \[0, 2\), got 2"),
        ({"permutation": list, "order": "shuffle"}, "permutation cannot be used with stratified or order"),
        ({"num_replicas": 6}, "num_replicas must be at most 5, the examples of the smallest round, got 6"),
        ({"ratio": 0.3, "tail": "wrap", "num_replicas": 3}, "num_replicas must be at most 2, .* got 3"),
        ({"n": None, "labels": [0, 1] * 5, "stratified": True, "ratio": 0.2, "num_replicas": 3}, "at most 2, .* got 3"),
    ],
)
def test_impossible_samplers_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        RS2(**({"n": 10, "ratio": 0.5} | changed))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"min_per_class": 3}, r"min_per_class must be in \[0, 2\], the smallest class's size, got 3"),
        ({"min_per_class": 2}, "min_per_class must be at most 1, a round having 3 examples for 2 classes, got 2"),
        ({"min_per_class": -1}, "min_per_class must be in .*, got -1"),
        ({"ratio": 0.06, "stratified": "per_class_round"}, "ratio must select at least one example of some class"),
    ],
)
def test_impossible_strata_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        RS2(**({"labels": [0, 0, *[1] * 8], "ratio": 0.3, "stratified": True} | changed))


def test_impossible_requests_are_refused():
    sampler = RS2(100, ratio=0.1, num_replicas=2)
    with pytest.raises(ValueError, match="batch_size must be a positive multiple of num_replicas, 2, got 3"):
        sampler.batches(3)
    with pytest.raises(ValueError, match=r"batch_size must be at most 10, the examples of a round, .* got 12"):
        sampler.batches(12)
    with pytest.raises(ValueError, match="round must not be negative, got -1"):
        sampler.set_epoch(-1)
    with pytest.raises(ValueError, match="round must not be negative, got -1"):
        sampler.round_indices(-1)
    with pytest.raises(ValueError, match="within the round's 10 examples, got 3, 11"):
        sampler.round_indices(0, 3, 11)
    with pytest.raises(ValueError, match="position must be between 0 and the round's 10 examples, got 11"):
        sampler.state_dict(position=11)
    with pytest.raises(ValueError, match=r"permutation must return an order of range\(4\), got \[0, 1, 2, 2\]"):
        RS2(4, ratio=0.5, permutation=lambda cycle: [0, 1, 2, 2]).round_indices(0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n": 98}, "saved sampler has n=97, this one has n=98"),
        ({"ratio": 0.2}, "saved sampler has ratio=0.3, this one has ratio=0.2"),
        ({"replacement_between_rounds": True}, "has replacement_between_rounds=False, this one"),
        ({"tail": "drop"}, "has tail='carry', this one has tail='drop'"),
        ({"order": "feistel"}, "has order='auto', this one has order='feistel'"),
        ({"labels": [0] * 97, "stratified": True}, "has stratified='False', this one has stratified='True'"),
    ],
)
def test_a_state_of_another_configuration_is_refused(changed, message):
    state = RS2(97, ratio=0.3).state_dict()
    with pytest.raises(ValueError, match=message):
        RS2(**({"n": 97, "ratio": 0.3} | changed)).load_state_dict(state)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"position": 29}, r"position must be in \[0, 29\), the examples of round 0, got 29"),
        ({"position": -1}, r"position must be in \[0, 29\), the examples of round 0, got -1"),
        ({"round": -1}, "round must not be negative, got -1"),
    ],
)
def test_a_position_that_the_round_does_not_have_is_refused(changed, message):
    sampler = RS2(97, ratio=0.3)
    before = sampler.state_dict()
    with pytest.raises(ValueError, match=message):
        sampler.load_state_dict(before | changed | {"key": 1})
    assert sampler.state_dict() == before


def test_a_state_of_other_classes_is_refused():
    labels = torch.arange(97) % 2
    state = RS2(labels=labels, ratio=0.3, stratified=True).state_dict()
    with pytest.raises(ValueError, match="saved sampler has classes="):
        RS2(labels=labels.flip(0) * (torch.arange(97) > 3), ratio=0.3, stratified=True).load_state_dict(state)


def test_the_indices_of_a_seed_and_a_round_never_change():
    small = RS2(1000, ratio=0.25, seed=3)
    assert small.round_indices(0)[:6].tolist() == [268, 211, 723, 289, 460, 405]
    assert small.round_indices(5)[:6].tolist() == [914, 108, 674, 618, 168, 638]
    digests = {}
    for order in ("shuffle", "feistel"):
        sampler = RS2(10**5, ratio=1, seed=3, order=order)
        batches = torch.cat(list(sampler.batches(100)))
        digests[order] = [
            hashlib.sha256(indices.numpy().astype("<i8").tobytes()).hexdigest()[:16]
            for indices in (batches, sampler.round_indices(2))
        ]
    assert digests == {
        "shuffle": ["0450458c7a068ca1", "ad5131dc314d4143"],
        "feistel": ["6fe6bbe2eda5e56e", "14a91c502331c1a2"],
    }

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from aleator.data.permutation import FeistelPermutation, fixed_order, shuffled

KEYS = st.integers(0, 2**63 - 1)


def feistel(n, key, cycle):
    return FeistelPermutation(n, key, cycle)[:]


FORMS = pytest.mark.parametrize("form", [shuffled, feistel])


def is_order(tensor, n):
    return torch.equal(tensor.long().sort().values, torch.arange(n))


@FORMS
def test_every_length_up_to_300_is_permuted(form):
    for n in range(1, 301):
        assert is_order(form(n, key=5, cycle=n), n)


@given(n=st.integers(1, 200_000), key=KEYS, cycle=st.integers(0, 2**40))
def test_feistel_is_a_bijection(n, key, cycle):
    assert is_order(feistel(n, key, cycle), n)


@pytest.mark.parametrize("n", [2**28 - 1, 2**28, 2**28 + 1, 2**32 - 1, 2**32, 2**32 + 1, 2**33 + 12345, 10**12, 2**62])
def test_long_orders_stay_in_range_and_do_not_repeat(n):
    permutation = FeistelPermutation(n, key=3, cycle=1)
    assert len(permutation) == n
    drawn = torch.cat([permutation[:100_000], permutation[n // 2 : n // 2 + 1000], permutation[n - 1000 :]])
    assert drawn.min() >= 0
    assert drawn.max() < n
    assert len(drawn.unique()) == len(drawn) == 102_000
    # The mean of a uniform sample of 102 000 has a standard error of n / 1106: a false alarm once in 10^4 keys.
    assert abs(drawn.double().mean() / n - 0.5) < 3.9 / 1106


@given(n=st.integers(1, 1000), key=KEYS, bounds=st.tuples(*[st.integers(-1100, 1100)] * 2), step=st.integers(1, 2000))
def test_slices_are_those_of_the_whole(n, key, bounds, step):
    permutation = FeistelPermutation(n, key)
    whole = permutation[:].tolist()
    assert permutation[slice(*bounds, step)].tolist() == whole[slice(*bounds, step)]


def test_slices_are_joined_without_seams():
    permutation = FeistelPermutation(300_000, key=8)
    whole = permutation[:]
    assert torch.equal(torch.cat([permutation[:65_537], permutation[65_537:131_000], permutation[131_000:]]), whole)
    assert torch.equal(permutation[1::3], whole[1::3])
    assert permutation[5 :: 10**30].tolist() == whole[5:6].tolist()


@FORMS
def test_key_and_cycle_decide_the_order(form):
    order = form(1000, key=1, cycle=2)
    assert torch.equal(form(1000, key=1, cycle=2), order)
    assert not torch.equal(form(1000, key=1, cycle=3), order)
    assert not torch.equal(form(1000, key=2, cycle=2), order)
    assert not torch.equal(form(1000, key=2**32 + 1, cycle=2), order)  # the upper half of the key counts


def test_orders_are_those_of_earlier_releases():
    # A change breaks the resuming of runs: not without a word in the change log.
    assert FeistelPermutation(50, key=1, cycle=2)[:8].tolist() == [36, 47, 46, 23, 34, 6, 15, 20]
    assert FeistelPermutation(10**8, key=1, cycle=2)[-4:].tolist() == [62710345, 76646172, 95497419, 98707136]
    assert FeistelPermutation(10**12, key=1, cycle=2)[10**11 : 10**11 + 3].tolist() == [
        635944628482,
        960910166925,
        813338571892,
    ]


@pytest.fixture(scope="module", params=[shuffled, feistel])
def orders(request):
    """10 000 orders of 50, a matrix. Each test on it would alarm falsely once in 1000 keys."""
    return torch.stack([request.param(50, key=11, cycle=cycle) for cycle in range(10_000)]).long().numpy()


def uniform_p_value(counts):
    return stats.chisquare(counts).pvalue


@pytest.mark.plain  # a loop, whose functions other tests check
def test_every_position_holds_every_example_equally_often(orders):
    for position in (0, 7, 8, 49):
        assert uniform_p_value(np.bincount(orders[:, position], minlength=50)) > 1e-3 / 4


@pytest.mark.plain  # a loop, whose functions other tests check
@pytest.mark.parametrize("start", [0, 20, 45])
def test_every_example_is_in_a_block_of_5_with_probability_a_tenth(orders, start):
    counts = np.bincount(orders[:, start : start + 5].ravel(), minlength=50)
    assert counts.sum() == 50_000
    # Sampling without replacement: the variance of a count is K p (1 − p), and one degree of freedom is lost.
    statistic = ((counts - 1000) ** 2 / (1000 * 0.9)).sum() * 49 / 50
    assert stats.chi2.sf(statistic, 49) > 1e-3 / 3


@pytest.mark.plain  # a loop, whose functions other tests check
@pytest.mark.parametrize("positions", [(0, 1), (0, 8), (24, 25), (3, 42)])
def test_every_pair_is_drawn_equally_often(orders, positions):
    first, second = orders[:, positions[0]], orders[:, positions[1]]
    pairs = np.bincount(50 * np.minimum(first, second) + np.maximum(first, second), minlength=2500)
    assert pairs.reshape(50, 50)[np.tril_indices(50)].sum() == 0
    assert uniform_p_value(pairs.reshape(50, 50)[np.triu_indices(50, 1)]) > 1e-3 / 4


@pytest.mark.plain  # a loop, whose functions other tests check
def test_neighbours_differ_by_anything_equally_often(orders):
    differences = np.diff(orders, axis=1) % 50
    assert uniform_p_value(np.bincount(differences.ravel(), minlength=50)[1:]) > 1e-3


def test_neighbours_in_long_orders_differ_by_anything_equally_often():
    # Fewer lines are used from n = 2^16 + 1 on. In 100 classes of differences; false-alarm rate 1e-3.
    n = 100_000
    differences = torch.cat([FeistelPermutation(n, key=2, cycle=cycle)[:].diff() % n for cycle in range(40)])
    assert uniform_p_value(np.bincount(differences.numpy() // 1000, minlength=100)) > 1e-3


def test_threads_do_not_disturb_each_other():
    permutation = FeistelPermutation(10**9, key=4)
    starts = [i * 10**7 for i in range(16)]
    expected = [permutation[start : start + 100_000] for start in starts]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda start: permutation[start : start + 100_000], starts))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_slice_of_a_long_order_takes_no_more_memory_than_itself():
    FeistelPermutation(10**15, key=0)[:10]  # the thread's scratch, 2 MB once
    tracemalloc.start()
    FeistelPermutation(10**15, key=0)[10**14 : 10**14 + 1000]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000


@pytest.mark.plain
def test_impossible_lengths_are_refused():
    for n in (0, 2**62 + 1):
        with pytest.raises(ValueError, match=f"n must be between 1 and 2\\*\\*62, got {n}"):
            FeistelPermutation(n, key=0)


@pytest.mark.plain
def test_a_negative_step_is_refused():
    with pytest.raises(ValueError, match="step must be positive, got -1"):
        FeistelPermutation(10, key=0)[::-1]


def test_fixed_order_is_a_permutation_that_never_changes_and_differs_by_name():
    # Recorded when it was written. A change here changes the splits of data sets.
    assert fixed_order(10, "a", "split") == [1, 0, 2, 9, 6, 7, 8, 3, 5, 4]
    assert sorted(fixed_order(3071, "a")) == list(range(3071))
    assert fixed_order(3071, "a") != fixed_order(3071, "b")

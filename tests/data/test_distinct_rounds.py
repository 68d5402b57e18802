from collections import Counter
from itertools import combinations

import pytest
import torch
from scipy import stats

from aleator.data.distinct_rounds import DistinctRounds
from aleator.data.permutation import FeistelPermutation, shuffled

GRID = [(n, m) for n in (1, 2, 3, 5, 7, 10, 11, 12, 31) for m in range(1, n + 1)]


def rounds_of(n, m, key=0, order=shuffled):
    return DistinctRounds(n, m, lambda cycle: order(n, key, cycle))


@pytest.mark.parametrize("order", [shuffled, FeistelPermutation], ids=["shuffle", "feistel"])
@pytest.mark.parametrize(("n", "m"), GRID)
def test_no_round_holds_an_example_twice_and_all_are_used_equally_often(n, m, order):
    rounds, uses = rounds_of(n, m, order=order), torch.zeros(n, dtype=torch.int64)
    for j in range(3 * n + 2):
        indices = rounds.whole(j)
        assert len(set(indices.tolist())) == len(indices) == rounds.size(j) == m
        uses += torch.bincount(indices, minlength=n)
        assert uses.max() - uses.min() <= 1


@pytest.mark.parametrize(("n", "m"), [(31, 7), (31, 20), (10, 5)])
def test_rounds_do_not_depend_on_the_order_of_access(n, m):
    forwards = rounds_of(n, m)
    known = [forwards.whole(j).tolist() for j in range(40)]
    for j in (39, 0, 17, 18, 5, 38):
        assert rounds_of(n, m).whole(j).tolist() == known[j] == forwards.whole(j).tolist()


def test_rounds_that_do_not_straddle_are_blocks_of_the_permutation():
    rounds = rounds_of(12, 4)
    for j in range(9):
        cycle, block = divmod(j, 3)
        assert rounds.whole(j).tolist() == shuffled(12, 0, cycle)[4 * block : 4 * block + 4].tolist()


@pytest.mark.parametrize(("m", "j"), [(2, 2), (3, 2), (4, 1)])
def test_a_straddling_round_is_every_subset_equally_often(m, j):
    """False-alarm rate 1e-3 for each case; the generator is seeded. With n = 5 each of these rounds straddles."""
    generator = torch.Generator().manual_seed(m)
    found = Counter()
    for _ in range(600):
        orders = [torch.randperm(5, generator=generator) for _ in range(3)]
        found[tuple(sorted(DistinctRounds(5, m, orders.__getitem__).whole(j).tolist()))] += 1
    assert stats.chisquare([found[subset] for subset in combinations(range(5), m)]).pvalue > 1e-3

"""Numbers of items: Philox as published, normal, and the same in every batch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from aleator.random import ItemGenerator, Streams
from aleator.random.items import philox

FULL = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "wanted"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((FULL,) * 4, (FULL, FULL), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
    ids=["zeros", "ones", "digits of pi"],
)
def test_philox_gives_the_published_words(counter, key, wanted):
    assert philox(counter, key) == wanted
    words = philox(tuple(torch.tensor([word]) for word in counter), key)
    assert tuple(int(word) for word in words) == wanted


def test_numbers_are_standard_normal():
    z = ItemGenerator(Streams(0).key("samples"), range(500)).normal(torch.empty(500, 401, dtype=torch.float64))
    assert stats.kstest(z.flatten().numpy(), "norm").pvalue > 0.01
    assert float(z.abs().max()) < 6.8


def test_numbers_of_items_draws_and_keys_are_unrelated():
    like = torch.empty(2, 20_000, dtype=torch.float64)
    generator = ItemGenerator(3, [0, 1])
    rows = torch.cat((generator.normal(like), generator.normal(like), ItemGenerator(4, [0, 2**32]).normal(like)))
    correlations = torch.corrcoef(rows) - torch.eye(6)
    assert float(correlations.abs().max()) < 4 / 20_000**0.5  # 15 pairs: a false alarm in one of 1 000 runs


@given(cut=st.integers(0, 6), size=st.integers(1, 9))
def test_an_item_has_its_numbers_in_every_batch(cut, size):
    def drawn(items):
        generator = ItemGenerator(11, items)
        return torch.stack([generator.normal(torch.empty(len(items), size, 2)) for _ in range(3)])

    order = [5, 3, 0, 1, 4, 2]
    parts = torch.cat([drawn(order[:cut]), drawn(torch.tensor(order[cut:], dtype=torch.int64))], 1)
    assert torch.equal(parts, drawn(range(6))[:, order])


def test_a_generator_can_go_back_to_a_draw():
    generator, like = ItemGenerator(0, range(3)), torch.empty(3, 5)
    draws = [generator.normal(like) for _ in range(3)]
    generator.draws = 1
    assert torch.equal(generator.normal(like), draws[1])
    assert not torch.equal(draws[0], draws[1])


def test_numbers_have_the_type_of_what_they_are_like():
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        assert ItemGenerator(0, [4]).normal(torch.empty(1, 3, dtype=dtype)).dtype == dtype
    single, double = (ItemGenerator(0, [4]).normal(torch.empty(1, 9, dtype=d)) for d in (torch.float32, torch.float64))
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-5)


@pytest.mark.plain
def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"key must be in \[0, 2\*\*64\), got -1"):
        ItemGenerator(-1, [0])
    with pytest.raises(ValueError, match=r"items must be a list of numbers that are not negative, got \[0, -2\]"):
        ItemGenerator(0, [0, -2])
    with pytest.raises(ValueError, match="like must have one row for each of 2 items, got 3"):
        ItemGenerator(0, [0, 1]).normal(torch.empty(3, 1))

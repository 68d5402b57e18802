"""Packed symmetric matrices: the two forms undo each other, and their derivatives are right."""

import pytest
import torch

from aleator.graphs.edge_pairs import EdgePairs
from aleator.random import Streams


@pytest.mark.parametrize("n", [1, 2, 5])
def test_packing_undoes_unpacking(n):
    pairs = EdgePairs(n, torch.device("cpu"))
    packed = torch.arange(3.0 * (n * (n + 1) // 2)).view(3, -1)
    square = pairs.unpack(packed)
    assert torch.equal(square, square.mT)
    assert torch.equal(pairs.pack(square), packed)
    assert torch.equal(packed[:, pairs.off_diagonal :], square.diagonal(dim1=-2, dim2=-1))
    assert torch.equal(packed, square[:, pairs.first, pairs.second])


def test_packing_takes_the_symmetric_part():
    pairs = EdgePairs(4, torch.device("cpu"))
    matrix = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(pairs.unpack(pairs.pack(matrix)), (matrix + matrix.mT) / 2)


def test_derivatives_of_first_and_second_order():
    pairs = EdgePairs(3, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(2, 3, 3, generator=generator, dtype=torch.float64).requires_grad_()
    packed = torch.randn(2, 6, generator=generator, dtype=torch.float64).requires_grad_()
    with Streams(0).scope("directions"):
        for function, x in ((pairs.pack, matrix), (pairs.unpack, packed)):
            assert torch.autograd.gradcheck(function, x)
            assert torch.autograd.gradgradcheck(lambda x, f=function: f(x).pow(3), x)


def test_another_diagonal():
    pairs = EdgePairs(3, torch.device("cpu"))
    full = torch.arange(6.0)
    assert pairs.with_diagonal(full, 9).tolist() == [0, 1, 2, 9, 9, 9]
    assert pairs.with_diagonal(full[:3], 9).tolist() == [0, 1, 2, 9, 9, 9]

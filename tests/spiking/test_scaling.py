import pytest
import torch

from aleator.spiking import SynapticScaling


def weights():
    return torch.rand(30, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_every_column_sums_to_the_target():
    torch.testing.assert_close(SynapticScaling(78.4)(weights()).sum(0), torch.full((7,), 78.4).double())


def test_a_column_of_zeros_stays():
    w = weights()
    w[:, 2] = 0
    scaled = SynapticScaling(5.0)(w)
    assert not scaled[:, 2].any()
    assert torch.isfinite(scaled).all()


def test_the_order_of_cells_does_not_matter():
    scaling, w = SynapticScaling(5.0), weights()
    rows, columns = torch.randperm(30, generator=torch.Generator().manual_seed(2)), torch.tensor([3, 1, 0, 2, 6, 5, 4])
    torch.testing.assert_close(scaling(w[rows][:, columns]), scaling(w)[rows][:, columns])


def test_the_target_must_be_positive():
    with pytest.raises(ValueError, match=r"target must be positive, got 0\.0"):
        SynapticScaling(0.0)

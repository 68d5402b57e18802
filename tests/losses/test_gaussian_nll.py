"""A Gaussian read off two numbers: values by hand, the floor of the deviation, gradients."""

import math

import pytest
import torch

from aleator.losses import gaussian_head, gaussian_nll

RAW = torch.tensor([[0.3, -1.2], [2.0, 0.7], [-1.0, -9.0]], dtype=torch.float64)
TARGET = torch.tensor([[1.0], [-0.5], [-1.01]], dtype=torch.float64)


def by_hand(mean: float, s: float, y: float) -> float:
    std = math.log1p(math.exp(max(s, -5.0)))
    return 0.5 * math.log(2 * math.pi) + math.log(std) + 0.5 * ((y - mean) / std) ** 2


def test_it_is_the_density_of_a_gaussian():
    expected = [[by_hand(*raw, *y)] for raw, y in zip(RAW.tolist(), TARGET.tolist(), strict=True)]
    torch.testing.assert_close(
        gaussian_nll(RAW, TARGET), torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=0
    )


def test_its_gradient_is_the_derivative():
    raw = RAW.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: gaussian_nll(x, TARGET), raw)
    (gradient,) = torch.autograd.grad(gaussian_nll(raw, TARGET).sum(), raw)
    mean, s, y = 0.3, -1.2, 1.0
    std = math.log1p(math.exp(s))
    assert gradient[0, 0].item() == pytest.approx((mean - y) / std**2, rel=1e-10)
    by_std = 1 / std - (y - mean) ** 2 / std**3
    assert gradient[0, 1].item() == pytest.approx(by_std / (1 + math.exp(-s)), rel=1e-10)


def test_the_deviation_has_a_floor_and_no_ceiling():
    _, std = gaussian_head(torch.tensor([[0.0, -100.0], [0.0, -5.0], [0.0, 300.0]], dtype=torch.float64))
    assert std.flatten().tolist() == pytest.approx([0.0067153485, 0.0067153485, 300.0], rel=1e-7)


def test_the_deviation_learns_at_minus_five_and_not_below():
    raw = torch.tensor([[0.0, -5.0], [0.0, -5.0001]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(gaussian_head(raw)[1].sum(), raw)
    assert gradient[:, 1].tolist() == pytest.approx([1 / (1 + math.exp(5)), 0.0])


def test_a_huge_error_at_the_floor_is_finite():
    loss = gaussian_nll(torch.tensor([[0.0, -9.0]], dtype=torch.float16), torch.tensor([[100.0]]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(0.5 * (100 / 0.0067153485) ** 2, rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_head_of_half_precision_is_in_float32(dtype):
    raw = torch.tensor([[0.3, -1.7]], dtype=dtype)
    assert all(torch.equal(*pair) for pair in zip(gaussian_head(raw), gaussian_head(raw.float()), strict=True))


@pytest.mark.plain
def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"raw must have an even last dimension.*\(2, 3\)"):
        gaussian_head(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"target must have shape \(2, 1\), half of raw, got \(2,\)"):
        gaussian_nll(torch.zeros(2, 2), torch.zeros(2))

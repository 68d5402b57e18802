"""The squashed Gaussian: its density is one, and finite where tanh is flat."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from aleator.rl import squashed_gaussian


@pytest.mark.parametrize(("mean", "s"), [(0.0, 0.5), (1.5, -1.0), (-0.4, 1.2)])
def test_the_density_integrates_to_one_over_actions(mean, s):
    raw = torch.tensor([mean, s], dtype=torch.float64)
    std = float(torch.nn.functional.softplus(raw[1]))

    def density(a: float) -> float:
        eps = torch.tensor([(np.arctanh(a) - mean) / std])
        action, log_prob = squashed_gaussian(raw, eps)
        assert float(action[0]) == pytest.approx(a, abs=1e-12)
        return float(log_prob.exp())

    assert quad(density, -1, 1, limit=200)[0] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("u", [50.0, -50.0])
def test_far_out_the_density_is_finite_and_right(u):
    raw = torch.tensor([u, 0.0], dtype=torch.float64, requires_grad=True)
    action, log_prob = squashed_gaussian(raw, torch.zeros(1, dtype=torch.float64))
    std = np.log(2.0)
    # log(1 − tanh²(u)) = log 4 − 2|u| up to e^(−2|u|)
    assert log_prob.item() == pytest.approx(-np.log(std * np.sqrt(2 * np.pi)) - (np.log(4) - 2 * abs(u)), rel=1e-12)
    (gradient,) = torch.autograd.grad(log_prob, raw)
    assert action.item() == np.sign(u)
    assert gradient[0].item() == pytest.approx(2 * np.sign(u), rel=1e-10)


def test_its_gradients_are_derivatives():
    raw = torch.tensor([[0.3, -0.7, -1.0, 0.4]], dtype=torch.float64, requires_grad=True)
    eps = torch.tensor([[0.5, -1.5]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: squashed_gaussian(x, eps), raw)


def test_the_density_is_summed_over_coordinates():
    raw = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    eps = torch.randn(4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    _, together = squashed_gaussian(raw, eps)
    alone = sum(squashed_gaussian(raw[:, [d, 3 + d]], eps[:, [d]])[1] for d in range(3))
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=0)


@pytest.mark.plain
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_density_of_half_precision_outputs_is_in_float32(dtype):
    draw = torch.Generator().manual_seed(0)
    raw, eps = (torch.randn(1000, width, generator=draw).to(dtype) for width in (12, 6))
    exact = squashed_gaussian(raw.double(), eps.double())[1]
    torch.testing.assert_close(squashed_gaussian(raw, eps)[1].double(), exact, rtol=1e-5, atol=1e-5)


def test_noise_of_another_width_is_refused():
    with pytest.raises(ValueError, match=r"eps must have shape \(2, 1\), half of raw, got \(2, 2\)"):
        squashed_gaussian(torch.zeros(2, 2), torch.zeros(2, 2))

"""The loss of v-prediction: its other form, its mask, what it refuses."""

import math

import pytest
import torch

from aleator.losses import v_prediction_loss

ALPHAS = torch.linspace(0.999, 0.01, 1000, dtype=torch.float64)


def case(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    o, x0, noise = torch.randn(3, 4, 2, 3, generator=generator, dtype=torch.float64).to(dtype)
    return o, x0, noise, torch.tensor([0, 10, 500, 999])


def test_it_is_the_weighted_error_of_the_guessed_data():
    o, x0, noise, t = case()
    alpha = ALPHAS[t][:, None, None]
    x_t = alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise
    guess = alpha.sqrt() * x_t - (1 - alpha).sqrt() * o
    expected = ((guess - x0).square() / (1 - alpha)).mean()
    torch.testing.assert_close(v_prediction_loss(o, x0, noise, t, ALPHAS), expected, rtol=1e-9, atol=0)


def test_it_is_finite_without_noise_and_its_smallest_value_is_zero():
    _, x0, noise, t = case()
    alphas = torch.cat([torch.ones(1, dtype=torch.float64), ALPHAS[1:-1], torch.zeros(1, dtype=torch.float64)])
    alpha = alphas[t][:, None, None]
    v = alpha.sqrt() * noise - (1 - alpha).sqrt() * x0
    assert float(v_prediction_loss(v, x0, noise, t, alphas)) < 1e-28


def test_a_mask_takes_the_mean_over_what_it_selects_in_the_whole_batch():
    o, x0, noise, t = case()
    mask = torch.zeros(4, 1, 3)
    mask[0, 0, 0], mask[2, 0, :2] = 1, 0.5
    each = torch.stack([v_prediction_loss(o[i : i + 1], x0[i : i + 1], noise[i : i + 1], t[i : i + 1], ALPHAS, m)
                        for i, m in ((0, torch.tensor([1.0, 0, 0])), (2, torch.tensor([1.0, 1, 0])))])  # fmt: skip
    weights = torch.tensor([2.0, 2.0], dtype=torch.float64)  # two rows of weight 1; two of two of weight ½
    expected = (each * weights).sum() / 4
    torch.testing.assert_close(v_prediction_loss(o, x0, noise, t, ALPHAS, mask), expected, rtol=1e-12, atol=0)
    whole = v_prediction_loss(o, x0, noise, t, ALPHAS)
    torch.testing.assert_close(v_prediction_loss(o, x0, noise, t, ALPHAS, torch.ones(3) > 0), whole)


def test_an_empty_mask_has_loss_zero_and_gradient_zero():
    o, x0, noise, t = case()
    o.requires_grad_()
    loss = v_prediction_loss(o, x0, noise, t, ALPHAS, torch.zeros(4, 2, 3))
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.equal(o.grad, torch.zeros_like(o))


def test_half_precision_is_summed_in_float32():
    o, x0, noise, t = case(torch.bfloat16)
    loss = v_prediction_loss(o, x0, noise, t, ALPHAS)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(
        loss.double(), v_prediction_loss(o.double(), x0.double(), noise.double(), t, ALPHAS), rtol=1e-5, atol=0
    )


@pytest.mark.plain
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"o": torch.zeros(4, 2, 2)}, r"model_out must have the shape of x0, \(4, 2, 3\), got \(4, 2, 2\)"),
        ({"t": torch.tensor([0, 1, 2])}, r"t must have one time for each of 4 samples, got shape \(3,\)"),
        ({"t": torch.tensor([0, 1, 2, 1000])}, r"t must be in \[0, 1000\), got 1000"),
        ({"t": torch.tensor([0, 1, 2, -1])}, r"t must be in \[0, 1000\), got -1"),
        ({"mask": torch.ones(5)}, r"mask must broadcast over the shape of x0, \(4, 2, 3\), got \(5,\)"),
        ({"mask": torch.ones(2, 4, 2, 3)}, r"mask must broadcast over the shape of x0"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changes, message):
    o, x0, noise, t = case()
    given = {"o": o, "t": t, "mask": None, **changes}
    with pytest.raises(ValueError, match=message) as refusal:
        v_prediction_loss(given["o"], x0, noise, given["t"], ALPHAS, given["mask"])
    assert "\n" not in str(refusal.value)


def test_nothing_outside_the_mask_enters_the_loss():
    o, x0, noise, t = case()
    o[1] = math.inf
    o.requires_grad_()
    mask = torch.ones(4, 1, 1)
    mask[1] = 0
    v_prediction_loss(o, x0, noise, t, ALPHAS, mask).backward()
    assert bool(o.grad.isfinite().all())
    assert int((o.grad != 0).sum()) == 3 * 6

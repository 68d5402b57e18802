"""The diffusion of CogVideoX."""

import pytest
import torch

from aleator.video import add_noise, alphas_cumprod, sample_clips, velocity_target


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_levels_are_those_of_the_published_scheduler():
    from diffusers import CogVideoXDDIMScheduler

    scheduler = CogVideoXDDIMScheduler(
        beta_start=0.00085, beta_end=0.012, snr_shift_scale=1.0, rescale_betas_zero_snr=True,
        prediction_type="v_prediction", timestep_spacing="trailing",
    )  # fmt: skip
    found = alphas_cumprod()
    assert float((found - scheduler.alphas_cumprod.double()).abs().max()) < 1e-6
    assert float(found[-1]) == 0


def test_the_clean_sample_and_the_noise_come_back_from_noisy_sample_and_velocity():
    levels = alphas_cumprod()
    x0, noise = (torch.randn(5, 2, 3, dtype=torch.float64, generator=drawn(seed)) for seed in (0, 1))
    t = torch.tensor([0, 10, 500, 998, 999])
    x, v = add_noise(x0, noise, t, levels), velocity_target(x0, noise, t, levels)
    level = levels[t].view(-1, 1, 1)
    assert torch.allclose(level.sqrt() * x - (1 - level).sqrt() * v, x0, atol=1e-12, rtol=0)
    assert torch.allclose((1 - level).sqrt() * x + level.sqrt() * v, noise, atol=1e-12, rtol=0)
    assert torch.equal(x[-1], noise[-1])  # nothing of the signal is left in the last step


def test_the_sampler_finds_the_one_clip_that_a_perfect_network_knows():
    levels = alphas_cumprod()
    clip = torch.rand(1, 2, 4, generator=drawn(2), dtype=torch.float64)

    def predict(x, t, condition):
        level = levels[t].view(-1, 1, 1)
        noise = (x - level.sqrt() * clip) / (1 - level).sqrt()
        return velocity_target(clip.expand_as(x), noise, t, levels)

    noise = torch.randn(3, 2, 4, generator=drawn(3), dtype=torch.float64)
    found = sample_clips(predict, noise, {}, {}, torch.ones(10), levels)
    assert torch.allclose(found, clip.expand_as(found), atol=1e-9, rtol=0)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_steps": 1}, "train_steps must be at least 2, got 1"),
        ({"beta_start": 0.0}, r"beta_start must be in \(0, 1\), got 0.0"),
        ({"beta_end": 2.0}, r"beta_end must be in \(0, 1\), got 2.0"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        alphas_cumprod(**options)

"""Clips and latents."""

import diffusers
import pytest
import torch

from aleator.video import check_frames, decode, encode


def autoencoder():
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        return diffusers.AutoencoderKLWan(
            base_dim=4, z_dim=2, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[True],
            latents_mean=[0.5, -0.5], latents_std=[2.0, 4.0], scale_factor_temporal=4,
        ).eval()  # fmt: skip


def test_wan_would_drop_frames_in_silence_and_is_not_asked_to():
    vae, clips = autoencoder(), torch.rand(1, 3, 7, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(vae.encode(clips).latent_dist.mode(), vae.encode(clips[:, :, :5]).latent_dist.mode())
    with pytest.raises(ValueError, match="frames must be 1 more than a multiple of 4, such as 5 or 9, got 7"):
        encode(vae, clips)
    check_frames(vae, 5)


def test_latents_have_the_scale_of_training_and_come_back():
    vae, clips = autoencoder(), torch.rand(1, 3, 5, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        raw = vae.encode(clips).latent_dist.mode()
        latents = encode(vae, clips)
        back = decode(vae, latents)
        expected = vae.decode(raw, return_dict=False)[0]
    torch.testing.assert_close(latents[:, 0], (raw[:, 0] - 0.5) / 2)
    torch.testing.assert_close(latents[:, 1], (raw[:, 1] + 0.5) / 4)
    torch.testing.assert_close(back, expected)

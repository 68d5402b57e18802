"""Sizes of CogVideoX."""

import pytest
import torch

from aleator.video import TRAINED_SIZES, latent_shape, rope_crop_region, shallow_latents


@pytest.mark.parametrize(
    ("size", "latents", "region"),
    [
        ((480, 480), (60, 60), ((0, 8), (30, 38))),
        ((480, 640), (60, 80), ((0, 2), (30, 42))),
        ((480, 848), (60, 106), ((2, 0), (27, 45))),
        ((640, 480), (80, 60), ((0, 12), (30, 34))),
        ((848, 480), (106, 60), ((0, 14), (30, 31))),
    ],
)
def test_the_five_sizes_that_were_trained(size, latents, region):
    assert latent_shape(49, *size) == (13, 16, *latents)
    assert rope_crop_region(*size) == region
    assert size in TRAINED_SIZES


def test_the_photograph_is_the_first_latent_frame_and_all_others_are_zero():
    photo = torch.rand(2, 1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    found = shallow_latents(photo, 13)
    assert found.shape == (2, 13, 3, 4, 5)
    assert torch.equal(found[:, :1], photo)
    assert not found[:, 1:].any()


@pytest.mark.plain
def test_refuses_other_numbers():
    for frames in (12, 13, 57, 0):
        with pytest.raises(ValueError, match=f"frames must be one of 1, 9, 17, 25, 33, 41, 49, got {frames}"):
            latent_shape(frames, 480, 480)
    with pytest.raises(ValueError, match="width must be a multiple of 16 pixels, got 850"):
        latent_shape(49, 480, 850)
    with pytest.raises(ValueError, match="photo must have one latent frame, got 2"):
        shallow_latents(torch.ones(1, 2, 1, 1, 1), 3)

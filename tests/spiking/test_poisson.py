import numpy as np
import pytest
import torch

from aleator.spiking import PoissonEncoder, content_keys, sample_keys
from aleator.spiking.kernels import poisson_events

KEY = sample_keys(0, "test", 0, 1)[0]


@pytest.mark.parametrize("rate", [2.0, 63.75, 200.0])
def test_the_mean_count_is_within_four_sigma_of_that_of_the_refractory_process(rate):
    channels, steps, p = 2000, 1000, rate * 0.5 / 1000
    count = PoissonEncoder()(np.full(channels, rate), steps, KEY).sum().item()
    # A renewal process of gaps 1 + G, G geometric: mean p / (1 + p) per step, and variance p (1 − p) / (1 + p)³.
    # One start in 1 + p is not taken up by the step of rest. False alarm: 6e-5.
    mean, sigma = channels * steps * p / (1 + p), (channels * steps * p * (1 - p) / (1 + p) ** 3) ** 0.5
    start = channels * p**2 / (1 + p) ** 2
    assert abs(count - mean - start) < 4 * sigma
    assert mean == pytest.approx(channels * steps * p * (1 - p), rel=p**2 * 1.1)  # the sheet's form


def test_no_channel_spikes_in_two_steps_running():
    raster = PoissonEncoder()(np.full(200, 1500.0), 300, KEY)
    assert raster.any(0).all()
    assert not (raster[1:] & raster[:-1]).any()


def test_black_never_spikes_and_a_certain_spike_comes_every_other_step():
    raster = PoissonEncoder()(np.array([0.0, 2000.0]), 10, KEY)
    assert not raster[:, 0].any()
    assert raster[:, 1].tolist() == [True, False] * 5


@pytest.mark.parametrize("rate", [0.3, 64.0, 2000.0])
def test_the_compiled_events_are_those_of_the_encoder(rate):
    rates = np.linspace(0, rate, 50)
    for presentation in (0, 3):
        time, source = PoissonEncoder().events(rates, 400, KEY, presentation)
        sources, begins = poisson_events(rates * 0.0005, 400, KEY, presentation)
        np.testing.assert_array_equal(sources, source)
        np.testing.assert_array_equal(np.diff(begins), np.bincount(time, minlength=400))


def test_a_channel_has_its_own_numbers_whatever_the_others_do():
    rates = np.full(6, 60.0)
    alone = np.where(np.arange(6) == 4, rates, 0)
    encoder = PoissonEncoder()
    assert torch.equal(encoder(rates, 500, KEY)[:, 4], encoder(alone, 500, KEY)[:, 4])


def test_samples_presentations_streams_and_seeds_have_different_numbers():
    keys = [*sample_keys(0, "train", 0, 3), *sample_keys(0, "evaluate", 0, 1), *sample_keys(1, "train", 0, 1)]
    encoder, rates = PoissonEncoder(), np.full(20, 60.0)
    rasters = [encoder(rates, 200, key) for key in keys] + [encoder(rates, 200, keys[0], presentation=1)]
    for i in range(len(rasters)):
        assert not any(torch.equal(rasters[i], other) for other in rasters[:i])


def test_channels_are_uncorrelated():
    raster = PoissonEncoder()(np.full(40, 400.0), 4000, KEY).double()
    correlations = np.corrcoef(raster.T.numpy()) - np.eye(40)
    assert abs(correlations).max() < 4.5 / 4000**0.5  # 780 pairs: false alarm 0.5 %


def test_keys_of_a_range_are_those_of_its_parts():
    np.testing.assert_array_equal(sample_keys(3, "a", 5, 4), sample_keys(3, "a", 0, 9)[5:])


def test_keys_of_images_follow_their_grey_levels_and_not_their_place():
    images = np.random.default_rng(0).integers(0, 256, (50, 30)).astype(float)
    keys = content_keys(3, "a", images)
    assert len(set(keys)) == 50
    order = np.random.default_rng(1).permutation(50)
    np.testing.assert_array_equal(content_keys(3, "a", images[order]), keys[order])
    np.testing.assert_array_equal(content_keys(3, "a", images / 255 * 255), keys)  # grey levels that were floats
    for other in (content_keys(4, "a", images), content_keys(3, "b", images)):
        assert not set(other) & set(keys)
    assert len(content_keys(3, "a", images[:0])) == 0


def test_a_rate_that_exceeds_one_spike_per_step_is_refused():
    with pytest.raises(ValueError, match=r"rates must be in \[0, 2000\] Hz, so that rate times dt <= 1, got 2001.0"):
        PoissonEncoder()(np.array([1.0, 2001.0]), 10, KEY)
    with pytest.raises(ValueError, match="got nan"):
        PoissonEncoder()(np.array([np.nan]), 10, KEY)
    with pytest.raises(ValueError, match=r"dt must be positive, got 0\.0"):
        PoissonEncoder(0.0)

"""Poisson coding: a pixel's grey level is the rate of its spikes, and the random numbers are a function of their place.

A cell spikes in a step with the probability p = rate · dt, but never in two steps running. So the gaps are geometric,

    t_0 = G_0 − 1,    t_{n+1} = t_n + 1 + G_{n+1},    G = 1 + ⌊ln u / ln(1 − p)⌋,   u uniform in (0, 1),

and only spikes cost anything. The number u of spike n of channel i in presentation m of a sample is hashed from (key of
the sample, m, i, n), so samples may be drawn in any order and by any number of processes. The hash is the finaliser of
SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), whose constants are below.

The mean count in T steps is p T / (1 + p), up to the start, or rate · T · (1 − rate · dt) for small p.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool
from torch import Tensor

from aleator.random import derive_key

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mixed(z: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return the finaliser of SplitMix64 of each number, a bijection of 64-bit integers."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def subkeys(keys: npt.NDArray[np.uint64], places: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return the key of each place under each key, by NumPy's rules for shapes."""
    return mixed(keys + (places + np.uint64(1)) * _GOLDEN)


def sample_keys(seed: int, stream: str, first: int, count: int) -> npt.NDArray[np.uint64]:
    """Return the keys of the samples at the positions first … first + count − 1 of a stream.

    Args:
        seed: any non-negative integer.
        stream: what the samples are for; different streams have different numbers.
        first: position of the first sample. In epoch e of N samples the positions begin at e · N.
        count: number of samples.
    """
    positions = np.arange(first, first + count, dtype=np.uint64)
    return subkeys(np.full(1, derive_key(seed, "spiking", stream), np.uint64), positions)


def content_keys(seed: int, stream: str, greys: npt.NDArray[np.float64]) -> npt.NDArray[np.uint64]:
    """Return a key for each image that depends on nothing but its grey levels, rounded to integers, and on the seed.

    An image has the same key wherever it stands, in bytes and in floats; images that are equal share one. The key is a
    BLAKE2b hash (RFC 7693) of the levels.

    Args:
        seed: any non-negative integer.
        stream: what the images are for; different streams have different numbers.
        greys: images [samples, pixels] with grey levels in [0, 255].
    """
    own = derive_key(seed, "spiking", stream).to_bytes(8, "little")
    levels = np.rint(greys).astype(np.uint8)
    digests = [hashlib.blake2b(image.tobytes(), digest_size=8, key=own).digest() for image in levels]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


class PoissonEncoder:
    """Spikes of independent Poisson cells with a refractory step.

    Args:
        dt: length of a step (ms).

    Raises:
        ValueError: if dt is not positive.

    Example:
        >>> encoder = PoissonEncoder()
        >>> raster = encoder(rates, 700, key=sample_keys(0, "train", 0, 1)[0])
    """

    def __init__(self, dt: float = 0.5) -> None:
        if not dt > 0:
            raise ValueError(f"dt must be positive, got {dt}")
        self.dt = dt

    def events(
        self, rates: npt.NDArray[np.float64], steps: int, key: np.uint64, presentation: int = 0
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the steps and the channels of all spikes, in the order of steps, then of channels.

        Args:
            rates: of every channel (Hz).
            steps: number of steps.
            key: of the sample, see `sample_keys`.
            presentation: how often the sample was presented before.

        Raises:
            ValueError: if a rate is negative or not finite, or a rate times dt exceeds 1.
        """
        p = rates * (self.dt / 1000)
        if not ((p >= 0) & (p <= 1)).all():
            worst = rates[~((p >= 0) & (p <= 1))][0]
            raise ValueError(f"rates must be in [0, {1000 / self.dt:g}] Hz, so that rate times dt <= 1, got {worst}")
        channels = np.flatnonzero(p)
        presented = subkeys(np.full(1, key), np.full(1, presentation, np.uint64))
        keys = subkeys(presented, channels.astype(np.uint64))
        with np.errstate(divide="ignore"):
            slope = np.log1p(-p[channels])
        now = np.full(len(channels), -2.0)
        times, sources = [], []
        for n in range(steps // 2 + 1):
            u = ((subkeys(keys, np.full(1, n, np.uint64)) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
            now = now + 2 + np.floor(np.log(u) / slope) if n else np.floor(np.log(u) / slope)
            alive = now < steps
            channels, keys, slope, now = channels[alive], keys[alive], slope[alive], now[alive]
            times.append(now.astype(np.int64))
            sources.append(channels)
        time, source = np.concatenate(times), np.concatenate(sources)
        order = np.lexsort((source, time))
        return time[order], source[order]

    def __call__(
        self, rates: npt.NDArray[np.float64], steps: int, key: np.uint64, presentation: int = 0
    ) -> Bool[Tensor, "time channels"]:
        """Return the spikes of `events` as a raster."""
        raster = torch.zeros(steps, len(rates), dtype=torch.bool)
        time, source = self.events(rates, steps, key, presentation)
        raster[torch.from_numpy(time), torch.from_numpy(source)] = True
        return raster

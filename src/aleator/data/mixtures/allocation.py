"""The number of examples of each domain in a batch: quotas with error diffusion, or independent draws.

*Quota.* With cumulative probabilities P_0 = 0, …, P_K = 1, the batch of step t holds

    c_i(t) = ⌊B·P_{i+1} + φ_t⌋ − ⌊B·P_i + φ_t⌋,      φ_t = frac(φ + v(t))

which is systematic sampling: whatever φ_t is, the counts sum to B, each is B·p_i rounded down or up, and a uniform φ
makes E[c_i] = B·p_i. v(t) is van der Corput's sequence, the bits of t mirrored at the point: 0, 1/2, 1/4, 3/4, 1/8, …
It visits every part of [0, 1) as evenly as a sequence can, so that what a batch rounds away the next ones give back:

    |Σ_{t<T} c_i(t) − T·B·p_i| ≤ 1 + log₂(T) / 3         for every T, i and φ

(its discrepancy: R. Béjian and H. Faure, C. R. Acad. Sci. Paris 285, 1977), where independent roundings would be off by
√T. So a domain is off by less than 8 draws after 10⁶ steps and 11 after 10⁹. Blocks of 2^b steps visit equidistant
offsets: sums over any range of steps with the same p are counted in closed form, and nothing has to be replayed. All of
it is in integers, multiples of 2⁻⁴⁰.

*Iid.* Every slot of the batch draws its domain by itself, from numbers of a counter-based generator (Philox) at the
slot's own counter.

Both are pure functions of (key, step), the same in every process.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aleator.data.mixtures.temperature import Array

Counts = npt.NDArray[np.int64]

_BITS = 40  # of a fixed-point number's fraction
_ONE = 1 << _BITS
LARGEST_BATCH = 1 << 62 - _BITS


def quota_counts(probabilities: Array, batch_size: int, start: int, stop: int, key: int) -> Counts:
    """Return the counts of the batches of steps ``start`` to ``stop − 1``, one row a step.

    Args:
        probabilities: p, one for each of K domains, the same in all these steps.
        batch_size: B.
        start: the first step.
        stop: the step after the last.
        key: a non-negative integer; its last 40 bits are φ.

    Returns:
        (stop − start) × K integers; each row sums to B.

    Raises:
        ValueError: if B is out of range.
    """
    offsets = np.array([(key + _mirrored(step)) % _ONE for step in range(start, stop)], np.int64)
    return np.diff((_boundaries(probabilities, batch_size) + offsets[:, None]) >> _BITS, axis=1)


def quota_totals(probabilities: Array, batch_size: int, start: int, stop: int, key: int) -> Counts:
    """Return the sum of `quota_counts` over the steps, in O(K log stop) time however many there are."""
    boundaries = _boundaries(probabilities, batch_size)
    whole, part = boundaries >> _BITS, boundaries & (_ONE - 1)
    # A step rounds up where its offset φ + v is at least 1 − part, modulo 1: where v lies in [low, low + part).
    low = (-part - key % _ONE) % _ONE
    high = low + part
    ups = np.zeros_like(part)
    for steps, sign in ((stop, 1), (start, -1)):
        wrapped = _visits(steps, np.maximum(high, _ONE) - _ONE)
        ups += sign * (_visits(steps, np.minimum(high, _ONE)) - _visits(steps, low) + wrapped)
    return np.diff((stop - start) * whole + ups)


def quota_domains(probabilities: Array, batch_size: int, start: int, stop: int, key: int) -> Counts:
    """Return the domain of every slot of the batches, (stop − start) × B, each row in the order of the domains."""
    counts = quota_counts(probabilities, batch_size, start, stop, key)
    domains = np.broadcast_to(np.arange(counts.shape[1]), counts.shape)
    return np.repeat(domains.ravel(), counts.ravel()).reshape(stop - start, batch_size)


def iid_domains(probabilities: Array, batch_size: int, start: int, stop: int, key: int) -> Counts:
    """Return the domain of every slot of the batches, (stop − start) × B, each drawn by itself.

    Takes the arguments of `quota_counts`; the key has up to 128 bits.
    """
    block, skipped = divmod(start * batch_size, 4)  # Philox makes four numbers for each value of its counter
    words = np.random.Philox(key=key, counter=block).random_raw(skipped + (stop - start) * batch_size)[skipped:]
    uniform = (words >> np.uint64(11)) * 2.0**-53
    slots: Counts = np.searchsorted(_cumulative(probabilities), uniform, side="right")
    return slots.reshape(stop - start, batch_size)


def _cumulative(probabilities: Array) -> Array:
    # Divided by its last entry it ends in exactly 1, also before trailing domains of probability 0.
    cumulative = np.cumsum(probabilities)
    return np.asarray(cumulative / cumulative[-1])


def _boundaries(probabilities: Array, batch_size: int) -> Counts:
    """Return B·P_0 … B·P_K in multiples of 2⁻⁴⁰."""
    if not 1 <= batch_size <= LARGEST_BATCH:
        raise ValueError(f"batch_size must be between 1 and {LARGEST_BATCH}, got {batch_size}")
    boundaries = np.zeros(len(probabilities) + 1, np.int64)
    boundaries[1:] = np.rint(_cumulative(probabilities) * (batch_size * _ONE))
    return boundaries


def _mirrored(step: int) -> int:
    """Return van der Corput's v(step) in multiples of 2⁻⁴⁰."""
    return int(f"{step % _ONE:0{_BITS}b}"[::-1], 2)


def _visits(steps: int, below: Counts) -> Counts:
    """Return how many of the steps 0 … steps − 1 have v(step) < below, for each entry in [0, 2⁴⁰]."""
    visits = np.zeros_like(below)
    base = 0
    for bit in range(_BITS, -1, -1):
        if steps >> bit & 1:  # the block of 2^bit steps from base on: v(base) plus all multiples of 2^(40 − bit)
            gap = _BITS - bit
            visits += np.clip((below - _mirrored(base) + (1 << gap) - 1) >> gap, 0, 1 << bit)
            base += 1 << bit
    return visits

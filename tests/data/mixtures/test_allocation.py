"""Quotas: every batch is exact to within one example, and so is the long run to within a logarithm."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from aleator.data.mixtures.allocation import iid_domains, quota_counts, quota_domains, quota_totals
from aleator.data.mixtures.temperature import temperature_probabilities

PROBABILITIES = (
    st.lists(st.integers(0, 10**6), min_size=1, max_size=12).filter(any).map(lambda sizes: np.array(sizes) / sum(sizes))
)
BATCHES = st.integers(1, 50)
KEYS = st.integers(0, 2**63 - 1)
STEPS = st.integers(0, 10**10)


@given(PROBABILITIES, BATCHES, STEPS, KEYS)
def test_a_batch_has_its_size_and_each_domain_its_share_rounded_down_or_up(p, batch_size, start, key):
    counts = quota_counts(p, batch_size, start, start + 20, key)
    assert (counts.sum(1) == batch_size).all()
    assert (np.abs(counts - batch_size * p) < 1 + 1e-9).all()
    assert (counts[:, p == 0] == 0).all()


@given(PROBABILITIES, BATCHES, KEYS, st.integers(1, 3000))
def test_sums_over_steps_are_off_by_at_most_a_logarithm(p, batch_size, key, steps):
    sums = quota_counts(p, batch_size, 0, steps, key).cumsum(0)
    t = np.arange(1, steps + 1)[:, None]
    assert (np.abs(sums - t * batch_size * p) <= 1 + np.log2(t) / 3 + 1e-6).all()


@given(PROBABILITIES, BATCHES, KEYS, st.integers(10**6, 10**9))
def test_the_logarithm_holds_up_to_a_billion_steps(p, batch_size, key, steps):
    off = quota_totals(p, batch_size, 0, steps, key) - steps * batch_size * p
    # A share is kept as a multiple of 2⁻⁴⁰ of an example, which adds up to 10⁻³ in 10⁹ steps.
    assert (np.abs(off) <= 1 + math.log2(steps) / 3 + 2e-3).all()


@given(PROBABILITIES, BATCHES, KEYS, STEPS, st.integers(0, 300))
def test_the_closed_form_is_the_sum_of_the_batches(p, batch_size, key, start, length):
    summed = quota_counts(p, batch_size, start, start + length, key).sum(0)
    assert quota_totals(p, batch_size, start, start + length, key).tolist() == summed.tolist()


@given(PROBABILITIES, BATCHES, STEPS, KEYS, st.integers(1, 30), st.integers(1, 30))
def test_a_step_does_not_depend_on_what_it_is_asked_with(p, batch_size, start, key, before, after):
    for domains in (quota_domains, iid_domains):
        together = domains(p, batch_size, start, start + before + after, key)
        assert together[:before].tolist() == domains(p, batch_size, start, start + before, key).tolist()
        assert (
            together[before:].tolist() == domains(p, batch_size, start + before, start + before + after, key).tolist()
        )


def test_over_keys_a_quota_is_unbiased():
    p = np.array([0.55, 0.31, 0.13, 0.01])
    keys = np.random.default_rng(0).integers(2**63, size=4000).tolist()
    mean = np.mean([quota_counts(p, 7, 5, 6, key)[0] for key in keys], axis=0)
    # Each count is one of two neighbours: a deviation of at most 1/2, and 4 standard errors of 1/126.
    np.testing.assert_allclose(mean, 7 * p, atol=4 * 0.5 / math.sqrt(len(keys)))


@pytest.mark.parametrize("temperature", [1, 5])
def test_independent_slots_have_the_domains_frequencies(temperature):
    p = temperature_probabilities([5600, 0, 600, 60], temperature)
    drawn = np.bincount(iid_domains(p, 100, 0, 1000, key=3).ravel(), minlength=4)
    assert drawn[1] == 0
    filled = p > 0
    assert stats.chisquare(drawn[filled], 1e5 * p[filled]).pvalue > 1e-3  # the false-alarm rate, had the key been drawn


def test_independent_slots_vary_as_multinomials_do():
    p = np.array([0.7, 0.3])
    counts = (iid_domains(p, 50, 0, 4000, key=1) == 1).sum(1)
    # The variance of 4000 binomials has a relative standard error of 2.2 %.
    assert counts.var() == pytest.approx(50 * 0.21, rel=0.1)


def test_trailing_domains_without_probability_are_never_drawn():
    p = np.array([0.1] * 10 + [0.0, 0.0])  # ten tenths do not add up to one
    for domains in (quota_domains, iid_domains):
        assert domains(p, 64, 0, 2000, key=9).max() == 9


@pytest.mark.parametrize("batch_size", [0, -1, 2**22 + 1])
def test_a_batch_out_of_range_is_refused(batch_size):
    with pytest.raises(ValueError, match=f"batch_size must be between 1 and 4194304, got {batch_size}"):
        quota_counts(np.array([1.0]), batch_size, 0, 1, 0)

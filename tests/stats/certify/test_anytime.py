"""The confidence sequence is the one it says it is, and its intervals are wrong together as rarely as they say."""

import copy
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import betaln, xlog1py, xlogy
from scipy.stats import beta

from aleator.stats import AnytimeAccuracy


def robbins(p: float, correct: int, n: int) -> float:
    """Left side of the definition, which stays below ln(1/δ) inside the interval."""
    return float(betaln(correct + 1, n - correct + 1) - xlogy(correct, p) - xlog1py(n - correct, -p))


def after(correct: int, n: int, delta: float = 0.05, candidates: int = 1) -> AnytimeAccuracy:
    accuracy = AnytimeAccuracy(delta, candidates)
    accuracy.update(correct, n)
    return accuracy


def test_headline_of_a_cifar_sized_test_set() -> None:
    assert tuple(round(end, 4) for end in after(9500, 10_000).interval) == (0.9407, 0.9583)


@given(n=st.integers(1, 10**6), data=st.data(), delta=st.floats(1e-6, 0.5))
def test_ends_solve_the_definition(n: int, data: st.DataObject, delta: float) -> None:
    correct = data.draw(st.integers(0, n))
    low, high = after(correct, n, delta).interval
    assert low <= correct / n <= high
    for end in (low, high):
        if 1e-12 < end < 1 - 1e-9:
            assert robbins(end, correct, n) == pytest.approx(-math.log(delta), rel=1e-4)


def test_paths_that_are_ever_excluded_are_at_most_delta() -> None:
    """2 000 paths of 600 examples, looked at after each; 3 standard errors, and a fixed seed."""
    rng, delta, paths, n = np.random.default_rng(0), 0.05, 2000, 600
    for p in (0.5, 0.97):
        correct = (rng.random((paths, n)) < p).cumsum(1)
        size = np.arange(1, n + 1)
        left = betaln(correct + 1, size - correct + 1) - xlogy(correct, p) - xlog1py(size - correct, -p)
        excluded = (left >= -math.log(delta)).any(1)
        # The formula above and the interval say the same of the path's worst moment.
        worst = left[excluded].argmax(1)[:20]
        for path, at in zip(np.flatnonzero(excluded), worst, strict=False):
            low, high = after(int(correct[path, at]), int(at) + 1, delta).interval
            assert not low <= p <= high
        assert 0 < excluded.mean() <= delta + 3 * math.sqrt(delta * (1 - delta) / paths)
        # The exact interval for a fixed n, looked at as often, is wrong far more often.
        k, looks = correct[:, 19::20], size[19::20]
        low, high = beta.ppf(delta / 2, k, looks - k + 1), beta.isf(delta / 2, k + 1, looks - k)
        wrong = ((low > p) | (high < p)).any(1)
        assert np.mean(wrong) > 2 * delta


def test_interval_depends_on_the_sums_alone() -> None:
    batches = AnytimeAccuracy()
    for correct, n in [(3, 4), (0, 0), (0, 1), (17, 17)]:
        batches.update(correct, n)
    assert batches.interval == after(20, 22).interval
    assert AnytimeAccuracy().interval == (0.0, 1.0)


def test_candidates_divide_delta() -> None:
    assert after(95, 100, 0.05, candidates=5).interval == pytest.approx(after(95, 100, 0.01).interval, rel=1e-14)


def test_counts_survive_a_checkpoint_a_copy_and_a_pickle() -> None:
    accuracy = after(95, 100)
    fresh = AnytimeAccuracy()
    fresh.load_state_dict(accuracy.state_dict())
    for copied in (fresh, copy.deepcopy(accuracy), pickle.loads(pickle.dumps(accuracy))):
        copied.update(4, 5)
        assert copied.interval == after(99, 105).interval
    with pytest.raises(ValueError, match=r"delta must equal the saved 0.05, got 0.1"):
        AnytimeAccuracy(0.1).load_state_dict(accuracy.state_dict())


@pytest.mark.plain
@pytest.mark.parametrize(
    ("correct", "n", "message"),
    [
        (5, 4, r"correct must be a whole number in \[0, 4\], got 5"),
        (-1, 4, r"correct must be a whole number in \[0, 4\], got -1"),
        (0.9, 4, r"correct must be a whole number in \[0, 4\], got 0.9"),
        (0, -1, r"n must be a whole number of at least 0, got -1"),
        (0, 1.5, r"n must be a whole number of at least 0, got 1.5"),
    ],
)
def test_refuses_counts_that_cannot_be(correct: float, n: float, message: str) -> None:
    accuracy = AnytimeAccuracy()
    with pytest.raises(ValueError, match=f"^{message}$"):
        accuracy.update(correct, n)  # type: ignore[arg-type]
    assert (accuracy.correct, accuracy.n) == (0, 0)

"""Working, prediction and decision level of stored backbones."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aleator.stats.backbone import backbone_levels

NAN = math.nan
# Levels 1 to 15, a thousand words apart. The slopes of levels 6 to 8 are calm for ν = 1e-5, the slope of 9 is not.
X = 1000.0 * np.arange(1, 16)
ALPHA = np.array(
    [NAN, NAN, 63.5, 1.6, 1.2, 1.1, 1.095, 1.09, 1.085, 1.06, 1.055, 1.012, 1.006, 0.999, 0.995],
)


def levels(nu: float = 2e-5, slowdown: int = 1, lookahead: int = 2, x=X, alpha=ALPHA):
    return tuple(backbone_levels(x, alpha, nu, slowdown, lookahead))


def test_levels_of_a_stored_backbone():
    assert levels() == (6, 14, 14)  # calm from 6; α ≤ 1 first at 14
    assert levels(lookahead=3) == (None, None, None)  # 9 → 10 breaks the run of four, 11 → 12 the next
    assert levels(nu=3e-5, lookahead=3) == (6, 14, 14)
    assert levels(nu=5e-5, lookahead=4) == (6, 14, 14)
    assert levels(nu=1e-4, lookahead=2) == (5, 14, 14)


def test_root_of_the_threshold_serves_slow_curves():
    """ν^(1/2) = 2e-5."""
    assert levels(nu=4e-10, slowdown=2) == levels(nu=2e-5)
    assert levels(nu=4e-10) == (None, None, None)


def test_decision_waits_for_the_look_ahead():
    alpha = np.array([NAN, NAN, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9])
    x = X[:9]
    assert levels(lookahead=5, x=x, alpha=alpha) == (3, 3, 9)
    assert levels(lookahead=5, x=x[:8], alpha=alpha[:8]) == (None, None, None)
    assert levels(lookahead=0, x=x, alpha=alpha) == (3, 3, 4)


def test_level_without_asymptote_is_never_calm():
    alpha = np.array([NAN, NAN, 0.9, 0.9, NAN, 0.9, 0.9, 0.9, 0.9])
    assert levels(lookahead=1, x=X[:9], alpha=alpha) == (6, 6, 8)


@given(
    alpha=st.lists(st.floats(0.5, 1.5), min_size=3, max_size=30),
    nus=st.tuples(st.floats(1e-6, 1e-3), st.floats(1e-6, 1e-3)),
    lookaheads=st.tuples(st.integers(0, 6), st.integers(0, 6)),
)
def test_working_level_falls_with_nu_and_rises_with_the_look_ahead(alpha, nus, lookaheads):
    backbone, x = np.array([NAN, NAN, *alpha]), 1000.0 * np.arange(1, len(alpha) + 3)

    def working(nu, lookahead):
        return backbone_levels(x, backbone, nu, 1, lookahead).working or math.inf

    assert working(max(nus), lookaheads[0]) <= working(min(nus), lookaheads[0])
    assert working(nus[0], max(lookaheads)) >= working(nus[0], min(lookaheads))


@given(alpha=st.lists(st.floats(0.99, 1.01), min_size=10, max_size=30), cut=st.integers(3, 9))
def test_decided_levels_stay_whatever_comes_later(alpha, cut):
    backbone, x = np.array([NAN, NAN, *alpha]), 1000.0 * np.arange(1, len(alpha) + 3)
    early = backbone_levels(x[:cut], backbone[:cut], 1e-5, 1, 1)
    late = backbone_levels(x, backbone, 1e-5, 1, 1)
    for before, after in zip(early, late, strict=True):
        assert before is None or before == after

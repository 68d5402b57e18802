"""What the four tests ask for, from per-example gradients: closed forms, identities, what others compute."""

import math

import pytest
import torch

from aleator.data import required_batch_size
from aleator.gradients import GradStats, TraceStats, between_trace, official_trace, pooled_trace


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradients(b=10, d=9, seed=0, signal=1.0):
    return normal(b, d, seed=seed) + signal * normal(d, seed=seed + 1000)


def stats_of(g, s=None):
    """Statistics of the first s of a batch's gradients."""
    mean, part = g.mean(0), g[: s or len(g)]
    sub = part.mean(0)
    return GradStats(
        part.square().sum(1),
        part @ mean,
        float(mean @ mean),
        len(g),
        part.square().mean(0),
        mean,
        None if s is None else sub,
        None if s is None else float(sub @ sub),
    )


def by_definition(g):
    """The tests as their definitions have them, all of them for η = ϑ = ν = 1."""
    mean = g.mean(0)
    square = mean @ mean
    along = g @ mean
    residuals = g - (along / square)[:, None] * mean
    inner = along.var() / square**2
    orthogonal = residuals.var(0).sum() / square
    return {
        "norm": g.var(0).sum() / square,
        "inner": inner,
        "orthogonal": orthogonal,
        "augmented": max(inner, orthogonal),
        "coordinate": (g.var(0) / mean**2).max(),
    }


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("eta", "theta", "nu"), [(1.0, 1.0, 1.0), (0.5, 0.3, 2.0)])
def test_required_sizes_equal_their_definitions(seed, eta, theta, nu):
    g = gradients(seed=seed)
    expected = by_definition(g)
    found = {test: required_batch_size(stats_of(g), test, eta, theta, nu) for test in expected}
    scaled = {
        "norm": expected["norm"] / eta**2,
        "inner": expected["inner"] / theta**2,
        "orthogonal": expected["orthogonal"] / nu**2,
        "augmented": max(expected["inner"] / theta**2, expected["orthogonal"] / nu**2),
        "coordinate": expected["coordinate"] / eta**2,
    }
    for test, value in scaled.items():
        assert found[test] == pytest.approx(float(value), rel=1e-10)


def test_tests_are_of_all_tensors_together_and_not_of_each_by_itself():
    g = gradients(seed=3)
    together = stats_of(g)
    square = together.mean_sq_norm
    inner = orthogonal = 0.0  # tensor by tensor, with the whole norm below: what the authors' program adds up
    for own in (g[:, :4], g[:, 4:]):
        mean = own.mean(0)
        along = own @ mean
        residuals = own - (along / (mean @ mean))[:, None] * mean
        inner += float(along.var()) / square**2
        orthogonal += float(residuals.var(0).sum()) / square
    assert abs(inner / required_batch_size(together, "inner", theta=1) - 1) > 0.05
    assert abs(orthogonal / required_batch_size(together, "orthogonal", nu=1) - 1) > 0.01
    both = sum(stats_of(own).trace for own in (g[:, :4], g[:, 4:]))  # the norm test can be added up
    assert both / square == pytest.approx(required_batch_size(together, "norm", eta=1), rel=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_the_norm_test_is_inner_plus_orthogonal(seed):
    g = gradients(seed=seed)
    stats = stats_of(g)
    along = float((g @ g.mean(0)).var())
    across = required_batch_size(stats, "orthogonal", nu=1) * stats.mean_sq_norm
    assert along / stats.mean_sq_norm + across == pytest.approx(stats.trace, rel=1e-12)


def test_scale_changes_nothing_and_rotation_only_the_coordinate_test():
    g = gradients()
    turned = g @ torch.linalg.qr(normal(9, 9, seed=5)).Q
    for test in ("norm", "inner", "orthogonal", "augmented", "coordinate"):
        size = required_batch_size(stats_of(g), test)
        assert required_batch_size(stats_of(g * 1e-7), test) == pytest.approx(size, rel=1e-9)
        same = required_batch_size(stats_of(turned), test) == pytest.approx(size, rel=1e-9)
        assert same == (test != "coordinate")


def test_a_part_of_the_batch_has_an_unbiased_trace_and_the_whole_gradient_below():
    whole = gradients(b=64, d=7, seed=2)
    traces = []
    generator = torch.Generator().manual_seed(0)
    for _ in range(4000):
        chosen = torch.randperm(64, generator=generator)[:8]
        part = whole[chosen]
        sub = part.mean(0)
        stats = GradStats(part.square().sum(1), None, 1.0, 64, sub_mean_sq_norm=float(sub @ sub))
        traces.append(stats.trace)
    assert sum(traces) / len(traces) == pytest.approx(float(whole.var(0).sum()), rel=0.02)
    stats = stats_of(whole, s=16)
    assert required_batch_size(stats, "norm", 1.0) == pytest.approx(
        float(whole[:16].var(0).sum() / whole.mean(0).square().sum()), rel=1e-10
    )
    expected = (whole[:16].var(0) / whole.mean(0).square()).max()
    assert required_batch_size(stats, "coordinate", 1.0) == pytest.approx(float(expected), rel=1e-10)


def test_the_trace_is_unbiased():
    # 10^4 batches of 4: the standard error of their mean is 0.4 %, so 2 % are five of them.
    g = normal(10_000, 4, 6) * torch.arange(1, 7)
    traces = (g.square().sum((1, 2)) - 4 * g.mean(1).square().sum(1)) / 3
    one = GradStats(g[0].square().sum(1), None, float(g[0].mean(0).square().sum()), 4)
    assert one.trace == pytest.approx(float(traces[0]), rel=1e-12)
    assert float(traces.mean()) == pytest.approx(sum(i * i for i in range(1, 7)), rel=0.02)


@pytest.mark.parametrize("d", [10, 60])
def test_noise_alone_asks_for_the_batch_over_eta_squared(d):
    # E[tr V/‖ḡ‖²] = b·d/(d − 2) for isotropic noise: ‖ḡ‖² is a chi-squared of d degrees, independent of V.
    g = normal(3000, 16, d)
    sizes = [required_batch_size(stats_of(batch), "norm", eta=0.5) for batch in g]
    assert sum(sizes) / len(sizes) == pytest.approx(16 / 0.25 * d / (d - 2), rel=0.03)


def test_coordinates_without_gradient_rule_the_coordinate_test_unless_told_otherwise():
    g = gradients(b=12, d=20, seed=1)
    g[:, 0] -= g[:, 0].mean()
    g[:, 1] = 0.0
    g[:, 2] = 0.7
    stats = stats_of(g)
    assert required_batch_size(stats, "coordinate") > 1e20
    kept = [j for j in range(20) if j not in (1, 2)]
    each = (g.var(0) / g.mean(0).square())[kept].sort().values / 0.25
    assert required_batch_size(stats, "coordinate", quantile=0.5) == pytest.approx(float(each[8]), rel=1e-10)
    floored = (g.var(0) / g.mean(0).square().clamp(min=0.1))[kept].max() / 0.25
    assert required_batch_size(stats, "coordinate", floor=0.1) == pytest.approx(float(floored), rel=1e-10)
    still = torch.full((5, 3), 0.3, dtype=torch.float64)
    assert required_batch_size(stats_of(still), "coordinate") == 0


def test_without_a_gradient_noise_asks_for_everything_and_nothing_for_nothing():
    g = torch.tensor([[1.0, 0], [-1, 0]], dtype=torch.float64)
    assert required_batch_size(stats_of(g), "norm") == math.inf
    assert required_batch_size(stats_of(g), "augmented") == math.inf
    assert required_batch_size(stats_of(g * 0), "norm") == 0
    assert math.isnan(required_batch_size(stats_of(g * math.nan), "norm"))


# --- traces from parts


SPLITS = [(1, 4), (2, 2), (4, 3), (6, 2), (12, 1)]


@pytest.mark.parametrize(("parts", "n"), SPLITS)
def test_pooled_parts_equal_the_whole_for_every_cut(parts, n):
    g = gradients(b=parts * n, d=6, seed=parts)
    cut = g.view(parts, n, 6)
    within = cut.var(1).sum(1) if n > 1 else torch.full((parts,), math.nan, dtype=torch.float64)
    found = pooled_trace(cut.mean(1), within, n)
    assert float(found) == pytest.approx(float(g.var(0).sum()), rel=1e-12)


def test_pooled_parts_of_unequal_sizes_equal_the_whole():
    g = gradients(b=12, d=6)
    parts = g.split([5, 1, 4, 2])
    within = torch.stack([part.var(0).sum() if len(part) > 1 else torch.tensor(9.0) for part in parts]).double()
    found = pooled_trace(torch.stack([part.mean(0) for part in parts]), within, [5, 1, 4, 2])
    assert float(found) == pytest.approx(float(g.var(0).sum()), rel=1e-12)


def test_the_official_statistic_is_larger_by_one_over_n():
    pooled, official, mixed, right = [], [], [], []
    for seed in range(200):
        g = normal(4, 4, 10, seed=seed)
        means, within = g.mean(1), g.var(1).sum(1)
        pooled.append(float(pooled_trace(means, within, 4)))
        official.append(float(official_trace(means, within, 4)))
        # The official orthogonal statistic is the same, and minus the square of a sum of residuals that vanishes.
        whole = g.flatten(0, 1)
        mean = whole.mean(0)
        residuals = (whole - ((whole @ mean) / (mean @ mean))[:, None] * mean).view(4, 4, 10)
        right.append(float(pooled_trace(residuals.mean(1), residuals.var(1).sum(1), 4)))
        mixed.append(float(residuals.var(1).sum(1).mean() + residuals.mean(1).square().mean(0).sum()))
        stats = stats_of(whole)
        assert required_batch_size(stats, "orthogonal", nu=1) * stats.mean_sq_norm == pytest.approx(right[-1])
    assert sum(official) / sum(pooled) == pytest.approx(1 + 3 / 16, rel=0.02)  # the mean of ‖m_i − ḡ‖² has M, not M − 1
    assert sum(mixed) / sum(right) > 1.1


def test_means_alone_tell_the_trace_on_average():
    found = [float(between_trace(normal(8, 4, 50, seed=seed).mean(1), 4)) for seed in range(300)]
    assert sum(found) / len(found) == pytest.approx(50, rel=0.03)
    g = gradients(b=12, d=6)
    parts = g.split([5, 1, 4, 2])
    means, counts = torch.stack([part.mean(0) for part in parts]), torch.tensor([5.0, 1, 4, 2]).double()
    by_norms = (counts @ means.square().sum(1) - 12 * g.mean(0).square().sum()) / 3
    assert float(between_trace(means, [5, 1, 4, 2])) == pytest.approx(float(by_norms), rel=1e-12)


def test_means_of_two_batch_sizes_are_the_same_estimate():
    # Of M parts of n: E‖m‖² = ‖∇F‖² + tr V/n and ‖ḡ‖² = ‖∇F‖² + tr V/(nM), solved for tr V.
    g = normal(6, 3, 5)
    means = g.mean(1)
    small, large = means.square().sum(1).mean(), means.mean(0).square().sum()
    expected = (small - large) / (1 / 3 - 1 / 18)
    assert float(between_trace(means, 3)) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda g: required_batch_size(stats_of(g), "l2"), "test must be one of 'norm', 'inner', .*, got 'l2'"),
        (lambda g: required_batch_size(stats_of(g), eta=0.0), "eta must be positive and finite, got 0.0"),
        (lambda g: required_batch_size(stats_of(g), "inner", theta=-1), "theta must be positive and finite, got -1"),
        (lambda g: required_batch_size(stats_of(g), "coordinate", quantile=0), r"quantile must be in \(0, 1\], got 0"),
        (lambda g: required_batch_size(TraceStats(1.0, 1.0, 4), "inner"), "test must be 'norm' where only the trace"),
        (lambda g: required_batch_size(GradStats(g[:, 0], None, 1.0, 10), "inner"), "stats must have inner products"),
        (lambda g: required_batch_size(GradStats(g[:, 0], None, 1.0, 10), "coordinate"), "stats must have second_mo"),
        (lambda g: GradStats(g[:1, 0], None, 1.0, 10), "sq_norms must be of 2 examples or more, got 1"),
        (lambda g: GradStats(g[:, 0], None, 1.0, 9), "n must be at least 10, the examples looked at, got 9"),
        (lambda g: pooled_trace(g, g[:, 0], [1] * 9), "n must be a positive number for each of 10 parts"),
        (lambda g: between_trace(g[:1], 4), "means must be of 2 parts or more, got 1"),
        (lambda g: official_trace(g[:2], g[:2, 0], [2, 3]), "n must be the same for all parts in the official"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(call, line):
    with pytest.raises(ValueError, match=line):
        call(gradients())

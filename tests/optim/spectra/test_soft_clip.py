import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aleator.optim import soft_norm_clip, soft_spectral_clip, spectral_clip_grads_
from aleator.optim.spectra import soft_clip

STEPS = ["scaled_newton_schulz", "newton_schulz"]
SHAPES = [(5, 5), (4, 9), (9, 4), (1, 6), (6, 1), (1, 1), (3, 4, 7), (2, 3, 6, 4)]


def gaussian(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def by_svd(update, c):
    """The definition, with LAPACK's full decomposition."""
    p, sigma, qh = torch.linalg.svd(update, full_matrices=False)
    return p @ torch.diag_embed(sigma / (1 + (sigma / c) ** 2).sqrt()) @ qh


def polar(matrices):
    p, _, qh = torch.linalg.svd(matrices, full_matrices=False)
    return p @ qh


def scalar_recursion(sigma, c, a, steps, method):
    """What ``steps`` steps make of a singular value, in plain numbers."""
    y, z = (1 + (sigma / c) ** 2) / a, 1.0
    lowest = 1 / math.sqrt(a)
    for step in range(steps):
        mu = 1.0
        if method == "scaled_newton_schulz" and step < steps - 1:
            mu = math.sqrt(3 / (1 + lowest + lowest**2))
            lowest = mu * lowest * (3 - (mu * lowest) ** 2) / 2
        y, z = mu * y, mu * z
        t = (3 - z * y) / 2
        y, z = y * t, t * z
    return sigma * z / math.sqrt(a)


def bound_of(update, c):
    wide = update if update.shape[0] <= update.shape[1] else update.T
    gram = wide @ wide.T / c**2
    return 1 + float(min(gram.abs().sum(1).max(), gram.norm()))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("c", [0.3, 1.0, 20.0])
def test_exact_and_polar_and_newton_schulz_are_the_formula(shape, c):
    update = gaussian(*shape)
    expected = by_svd(update, c)
    torch.testing.assert_close(soft_spectral_clip(update, c, method="svd"), expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(soft_spectral_clip(update, c, method=polar), expected, rtol=0, atol=1e-10)
    for method in STEPS:
        clipped = soft_spectral_clip(update, c, method=method, ns_steps=30)
        torch.testing.assert_close(clipped, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 5, 10])
@pytest.mark.parametrize("method", STEPS)
@pytest.mark.parametrize("shape", [(6, 6), (4, 11), (11, 4)])
def test_newton_schulz_maps_singular_values_by_the_scalar_recursion(steps, shape, method):
    update, c = gaussian(*shape, seed=1), 0.2
    p, sigma, qh = torch.linalg.svd(update, full_matrices=False)
    a = bound_of(update, c)
    mapped = torch.tensor([scalar_recursion(float(s), c, a, steps, method) for s in sigma], dtype=torch.float64)
    clipped = soft_spectral_clip(update, c, method=method, ns_steps=steps)
    torch.testing.assert_close(clipped, p @ mapped.diag() @ qh, rtol=0, atol=1e-9)


def test_panels_of_large_symmetric_products_change_nothing():
    update = gaussian(301, 330, seed=2)  # panels of 76, 76, 76 and 73 rows
    torch.testing.assert_close(soft_spectral_clip(update, 10.0, ns_steps=25), by_svd(update, 10.0), rtol=0, atol=1e-9)


@given(seed=st.integers(0, 10**6), c=st.floats(0.05, 50), steps=st.integers(1, 14))
def test_the_norm_stays_below_the_threshold_however_few_the_steps(seed, c, steps):
    update = 10 * gaussian(5, 7, seed=seed)
    sigma = torch.linalg.svdvals(update)
    for method in (*STEPS, "svd"):
        clipped = torch.linalg.svdvals(soft_spectral_clip(update, c, method=method, ns_steps=steps))
        assert clipped[0] < c * (1 + 1e-12)
        assert (clipped <= sigma / (1 + (sigma / c) ** 2).sqrt() + 1e-9).all()


def signs(rows, columns, noise, generator):
    """±1, the rows alike but for noise: of singular values one is large."""
    common = torch.randn(1, columns, generator=generator, dtype=torch.float64)
    return (common + noise * torch.randn(rows, columns, generator=generator, dtype=torch.float64)).sign()


def inputs_of_table():
    """Name → matrix, c and how many scaled steps do what 10 plain ones do. The card's table is of these."""
    g = torch.Generator().manual_seed(0)
    correlated = signs(128, 512, 0.8, g)
    ones = torch.ones(128, 512, dtype=torch.float64) + 1e-2 * torch.randn(128, 512, generator=g, dtype=torch.float64)
    return {
        "Gaussian 256 × 256": (torch.randn(256, 256, generator=g, dtype=torch.float64), 10.0, 7),
        "±1, 768 × 3072": (torch.randn(768, 3072, generator=g, dtype=torch.float64).sign(), 10.0, 7),
        "±1, 128 × 512, correlated rows": (correlated, 10.0, 7),
        "the same, c = 1": (correlated, 1.0, 8),
        "ones, 128 × 512, with noise of 0.01": (ones, 10.0, 7),
    }


@pytest.mark.parametrize("name", list(inputs_of_table()))
def test_in_float32_fewer_scaled_steps_are_as_accurate_as_ten_plain_ones(name):
    update, c, steps = inputs_of_table()[name]
    exact = by_svd(update, c)

    def error(method, k):
        clipped = soft_spectral_clip(update.float(), c, method=method, ns_steps=k)
        assert torch.linalg.matrix_norm(clipped.double(), 2) < c
        return float((clipped - exact).norm() / exact.norm())

    rounding = 8 * torch.finfo(torch.float32).eps  # below that, which of the two is better is chance
    assert error("scaled_newton_schulz", steps) <= max(error("newton_schulz", 10), rounding)
    assert error("newton_schulz", 10) < 3e-3


def test_by_default_there_are_seven_scaled_steps_or_ten_plain_ones():
    update = gaussian(4, 6, dtype=torch.float32)
    assert torch.equal(soft_spectral_clip(update, 0.2), soft_spectral_clip(update, 0.2, method=STEPS[0], ns_steps=7))
    plain = soft_spectral_clip(update, 0.2, method="newton_schulz")
    assert torch.equal(plain, soft_spectral_clip(update, 0.2, method="newton_schulz", ns_steps=10))


def test_in_bfloat16_scaled_steps_are_no_worse_than_plain_ones_on_spikes():
    # Noise of the size of the smallest eigenvalues is not scaled up: without that results of 1e20 c were seen here.
    worst = dict.fromkeys(STEPS, 0.0)
    for seed in range(300):
        spike = gaussian(5, 7, seed=seed) + 0.2 * (seed + 1) * gaussian(5, 1, seed=seed) @ gaussian(1, 7, seed=seed + 1)
        for method in STEPS:
            clipped = soft_spectral_clip(spike.float(), 0.5, method=method, compute_dtype=torch.bfloat16)
            worst[method] = max(worst[method], float(torch.linalg.matrix_norm(clipped, 2)))
    assert worst["scaled_newton_schulz"] <= 2 * worst["newton_schulz"]


def test_float32_keeps_the_bound_on_a_spike_and_bfloat16_is_close_without_one():
    spike = gaussian(5, 7, dtype=torch.float32) + 40 * gaussian(5, 1, dtype=torch.float32) @ gaussian(
        1, 7, seed=1, dtype=torch.float32
    )
    assert torch.linalg.matrix_norm(soft_spectral_clip(spike, 0.5), 2) < 0.5
    update = gaussian(64, 64, dtype=torch.float32)
    error = soft_spectral_clip(update, 5.0, compute_dtype=torch.bfloat16) - by_svd(update, 5.0)
    assert 1e-4 < error.norm() / by_svd(update, 5.0).norm() < 0.03


@pytest.mark.parametrize("method", [*STEPS, "svd", polar])
def test_directions_and_order_are_kept(method):
    update, c = gaussian(5, 8, seed=3), 0.7
    p, _, qh = torch.linalg.svd(update, full_matrices=False)
    inner = p.T @ soft_spectral_clip(update, c, method=method, ns_steps=25) @ qh.T
    assert (inner - inner.diag().diag()).abs().max() < 1e-9
    assert (inner.diag()[:-1] > inner.diag()[1:]).all()


@pytest.mark.parametrize("method", [*STEPS, "svd"])
def test_odd_equivariant_and_scaling(method):
    update, c = gaussian(4, 6, seed=4), 1.3
    q = torch.linalg.qr(gaussian(4, 4, seed=5))[0]

    def clip(u, threshold=c):
        return soft_spectral_clip(u, threshold, method=method, ns_steps=25)

    torch.testing.assert_close(clip(-update), -clip(update))
    torch.testing.assert_close(clip(update.T), clip(update).T)
    torch.testing.assert_close(clip(q @ update), q @ clip(update), rtol=0, atol=1e-10)
    torch.testing.assert_close(clip(3 * update), 3 * clip(update, c / 3), rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", [*STEPS, "svd"])
def test_limits_of_the_threshold(method):
    update = gaussian(4, 6, seed=6)
    large = 1e4 * float(torch.linalg.matrix_norm(update, 2))
    torch.testing.assert_close(soft_spectral_clip(update, large, method=method), update, rtol=0, atol=1e-6)
    torch.testing.assert_close(soft_spectral_clip(update, math.inf, method=method), update)
    # The smallest singular value here is about 1, so c = 1e-4 leaves a relative c²/(2σ²) of 1e-8.
    small = soft_spectral_clip(update, 1e-4, method=method, ns_steps=60) / 1e-4
    torch.testing.assert_close(small, polar(update), rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", [*STEPS, "svd"])
def test_zero_stays_zero_and_what_is_empty_stays_empty(method):
    assert torch.equal(soft_spectral_clip(torch.zeros(3, 4), 1.0, method=method), torch.zeros(3, 4))
    for shape in ((0, 3, 4), (0, 3), (3, 0), (2, 0, 3)):
        assert soft_spectral_clip(torch.zeros(shape), 1.0, method=method).shape == shape
    assert torch.equal(soft_norm_clip(torch.zeros(3), 1.0), torch.zeros(3))
    assert soft_norm_clip(torch.zeros(0), 1.0).shape == (0,)


@pytest.mark.parametrize("c", [1e-30, 1e-19, 1.0, 1e19, 1e30])
@pytest.mark.parametrize("method", [*STEPS, "svd"])
def test_in_float32_no_scale_of_update_and_threshold_is_too_small_or_too_large(c, method):
    update = gaussian(5, 8, dtype=torch.float32)
    for relative in (1e-7, 1.0, 10.0):  # the norm of the update over c, but for a factor of about 5
        given = relative * c * update
        clipped = soft_spectral_clip(given, c, method=method)
        torch.testing.assert_close(clipped.double() / c, by_svd(given.double(), c) / c, rtol=0, atol=5e-6)
        vector = soft_norm_clip(given[0], c).double() / c
        expected = by_svd(given.double()[:1], c)[0] / c
        torch.testing.assert_close(vector, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("scale", [1e15, 1e36])
def test_the_bound_holds_however_far_the_update_is_above_it(scale):
    update = scale * gaussian(5, 8, dtype=torch.float32)
    for method in (*STEPS, "svd"):
        clipped = soft_spectral_clip(update, 1.0, method=method, ns_steps=7)
        assert clipped.isfinite().all()
        assert torch.linalg.matrix_norm(clipped, 2) <= 1 + 1e-5
    assert soft_norm_clip(update[0], 1.0).norm() == pytest.approx(1)
    assert soft_norm_clip(update[0], 1.0, form="official").norm() == pytest.approx(1)


def test_a_threshold_of_one_number_may_lie_on_another_device_than_the_update():
    update = torch.empty(4, 6, device="meta")  # stands for an accelerator
    for method in STEPS:
        assert soft_spectral_clip(update, torch.tensor(1.0), method=method).device == update.device
    assert soft_norm_clip(update[0], torch.tensor(1.0)).device == update.device


@pytest.mark.parametrize("method", [*STEPS, "svd"])
def test_autocast_changes_nothing(method):
    update = gaussian(16, 24, dtype=torch.float32)
    plain = soft_spectral_clip(update, 3.0, method=method)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(soft_spectral_clip(update, 3.0, method=method), plain)
        assert (update @ update.mT).dtype == torch.bfloat16  # it was on


def test_members_of_a_batch_do_not_see_each_other():
    calm, spiky = gaussian(4, 6), 1e3 * gaussian(4, 6, seed=1)
    together = soft_spectral_clip(torch.stack([calm, spiky, calm * math.nan]), 1.0, ns_steps=5)
    torch.testing.assert_close(together[0], soft_spectral_clip(calm, 1.0, ns_steps=5), rtol=0, atol=1e-12)
    assert together[:2].isfinite().all()
    assert together[2].isnan().all()


def test_a_batch_may_have_a_threshold_for_each():
    batch, thresholds = gaussian(3, 4, 6), torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    for method in (*STEPS, "svd", polar):
        together = soft_spectral_clip(batch, thresholds, method=method, ns_steps=25)
        for update, c, clipped in zip(batch, thresholds, together, strict=True):
            torch.testing.assert_close(clipped, by_svd(update, c), rtol=0, atol=1e-9)


def test_it_is_the_maximiser_of_its_variational_problem():
    update, c = gaussian(4, 6, seed=7), 1.5

    def objective(v):
        return float((update * v).sum() + c**2 * (1 - (torch.linalg.svdvals(v) / c) ** 2).clamp(min=0).sqrt().sum())

    best_v = soft_spectral_clip(update, c, method="svd")
    best = objective(best_v)
    for seed in range(100):
        direction = gaussian(4, 6, seed=seed)
        inside = direction * (0.99 * c / float(torch.linalg.matrix_norm(direction, 2)))
        assert objective(inside) <= best
        near = best_v + 1e-3 * direction
        if torch.linalg.matrix_norm(near, 2) < c:
            assert objective(near) <= best


def test_it_is_the_gradient_of_the_softened_nuclear_norm():
    update, c = gaussian(4, 6, seed=8).requires_grad_(), 0.8
    value = c**2 * (1 + (torch.linalg.svdvals(update) / c) ** 2).sqrt().sum()
    (gradient,) = torch.autograd.grad(value, update)
    torch.testing.assert_close(gradient, soft_spectral_clip(update, c, ns_steps=25).detach(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", STEPS)
def test_newton_schulz_can_be_differentiated(method):
    update = gaussian(3, 5, seed=9).requires_grad_()
    assert torch.autograd.gradcheck(lambda u: soft_spectral_clip(u, 0.8, method=method, ns_steps=20), update)


def test_the_input_is_left_alone_and_its_dtype_kept():
    for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
        update = gaussian(4, 3, dtype=torch.float32).to(dtype)
        before = update.clone()
        assert soft_spectral_clip(update, 0.5).dtype == dtype
        assert torch.equal(update, before)


@given(seed=st.integers(0, 10**6), c=st.floats(0.1, 10))
def test_a_vector_is_clipped_as_a_matrix_of_one_column(seed, c):
    vector = gaussian(7, seed=seed)
    expected = soft_spectral_clip(vector[:, None], c, method="svd")[:, 0]
    torch.testing.assert_close(soft_norm_clip(vector, c), expected, rtol=0, atol=1e-12)


def test_the_smooth_form_is_continuous_and_the_official_one_falls_by_root_two():
    below, above = (torch.tensor([x, 0.0], dtype=torch.float64) for x in (1 - 1e-9, 1 + 1e-9))
    assert float(soft_norm_clip(above, 1.0)[0] - soft_norm_clip(below, 1.0)[0]) == pytest.approx(0, abs=1e-8)
    assert torch.equal(soft_norm_clip(below, 1.0, form="official"), below)
    assert float(soft_norm_clip(above, 1.0, form="official")[0]) == pytest.approx(1 / math.sqrt(2), abs=1e-8)


def test_preclipping_keeps_the_signal_under_a_spike_where_norm_clipping_loses_it():
    # Means over 200 draws; the standard error is below 0.005, so the margins are over ten of them.
    generator = torch.Generator().manual_seed(0)
    alignment, energy, kept, bound, hard_alignment, hard_energy = [], [], [], [], [], []
    for _ in range(200):
        g = torch.randn(64, 64, generator=generator, dtype=torch.float64)
        g /= torch.linalg.matrix_norm(g, 2)
        u, v = (torch.nn.functional.normalize(torch.randn(64, 1, generator=generator).double(), dim=0) for _ in "uv")
        noisy = torch.nn.Parameter(g + 50 * u @ v.T)
        noisy.grad = noisy.detach().clone()
        spectral_clip_grads_(noisy, 1.0, ns_steps=15)
        clipped = noisy.grad
        alignment.append((g * clipped).sum() / g.square().sum())
        energy.append(clipped.square().sum())
        bound.append(1 + g.square().sum())
        shrunk = noisy.detach() * (clipped.norm() / noisy.detach().norm())
        kept.append((g * shrunk).sum() / g.square().sum())
        p, sigma, qh = torch.linalg.svd(noisy.detach())
        hard = p @ sigma.clamp(max=1).diag() @ qh  # what soft clipping approximates
        hard_alignment.append((g * hard).sum() / g.square().sum())
        hard_energy.append(hard.square().sum())
    columns = (alignment, energy, bound, kept, hard_alignment, hard_energy)
    mean = [float(torch.stack(values).mean()) for values in columns]
    assert mean[0] >= 0.7
    assert mean[1] <= mean[2]
    assert mean[3] <= 0.15
    assert mean[4] >= 0.9
    assert mean[5] <= mean[2]


def test_gradients_of_matrices_are_clipped_in_place_and_the_others_left():
    shapes = [(4, 6), (4, 6), (6, 4), (5,), (2, 4, 6)]
    parameters = [torch.nn.Parameter(gaussian(*shape)) for shape in shapes]
    for seed, p in enumerate(parameters):
        p.grad = gaussian(*p.shape, seed=seed)
    before = [p.grad.clone() for p in parameters]
    kept = [p.grad for p in parameters]
    spectral_clip_grads_(iter([*parameters, torch.nn.Parameter(gaussian(3, 3))]), ns_steps=25)
    for p, old, grad in zip(parameters, before, kept, strict=True):
        assert p.grad is grad
        torch.testing.assert_close(grad, by_svd(old, 0.1) if p.ndim == 2 else old, rtol=0, atol=1e-9)


def test_clipping_the_spectrum_and_clipping_the_norm_do_not_commute():
    one, other = (torch.nn.Parameter(gaussian(4, 6)) for _ in range(2))
    for p in (one, other):
        p.grad = 5 * p.detach().clone()
    spectral_clip_grads_(one, 1.0)
    torch.nn.utils.clip_grad_norm_(one, 1.0)
    torch.nn.utils.clip_grad_norm_(other, 1.0)
    spectral_clip_grads_(other, 1.0)
    assert (one.grad - other.grad).norm() > 0.1


def test_a_gradient_that_is_not_finite_is_an_error_on_request():
    p = torch.nn.Parameter(torch.zeros(2, 2))
    p.grad = torch.tensor([[1.0, math.inf], [0, 0]])
    with pytest.raises(RuntimeError, match="nothing was clipped"):
        spectral_clip_grads_(p, error_if_nonfinite=True)
    assert p.grad[0, 1] == math.inf


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: soft_spectral_clip(torch.ones(2, 2), 0.0), "threshold must be positive, got 0.0"),
        (lambda: soft_spectral_clip(torch.ones(2, 2), -1.5), "threshold must be positive, got -1.5"),
        (lambda: soft_spectral_clip(torch.ones(2, 2), math.nan), "threshold must be positive, got nan"),
        (lambda: soft_spectral_clip(torch.ones(2, 2), 1.0, ns_steps=0), "ns_steps must be at least 1, got 0"),
        (lambda: soft_spectral_clip(torch.ones(2, 2), 1.0, method="qr"), "method must be .*, got 'qr'"),
        (lambda: soft_spectral_clip(torch.ones(2), 1.0), r"update must be a real matrix .* shape \(2,\)"),
        (lambda: soft_spectral_clip(torch.ones(2, 2).long(), 1.0), "update must be a real matrix .* torch.int64"),
        (
            lambda: soft_spectral_clip(torch.ones(2, 2), 1.0, compute_dtype=torch.int32),
            "compute_dtype must be one of torch.bfloat16, torch.float32, torch.float64, got torch.int32",
        ),
        (
            lambda: soft_spectral_clip(torch.ones(2, 2), 1.0, compute_dtype=torch.float16),
            "compute_dtype must be one of torch.bfloat16, torch.float32, torch.float64, got torch.float16",
        ),
        (lambda: soft_norm_clip(torch.ones(2), 0.0), "threshold must be positive, got 0.0"),
        (lambda: soft_norm_clip(torch.ones(2), 1.0, form="hard"), "form must be .*, got 'hard'"),
        (lambda: spectral_clip_grads_(torch.ones(2, 2), 0.0), "threshold must be positive, got 0.0"),
        (lambda: spectral_clip_grads_(with_grad(torch.ones(2, 2).to_sparse())), "got one of shape .*: sparse"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def with_grad(grad):
    p = torch.nn.Parameter(torch.zeros(grad.shape))
    p.grad = grad
    return p


@pytest.mark.plain
def test_it_compiles_to_the_same_numbers():
    update = gaussian(2, 6, 9, dtype=torch.float32)
    compiled = torch.compile(soft_spectral_clip, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(update, 1.0), soft_spectral_clip(update, 1.0))


@pytest.mark.parametrize(
    "matrix",
    [torch.eye(3, 5), torch.zeros(3, 4), torch.diag(torch.tensor([2.0, 2.0, 0.0, 0.0])), torch.ones(2, 4, 3)],
    ids=["orthogonal", "zero", "repeated", "rank 1"],
)
def test_the_exact_form_can_be_differentiated_where_singular_values_repeat(matrix):
    matrix = matrix.double().requires_grad_()
    c = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda u, c: soft_spectral_clip(u, c, method="svd"), (matrix, c))
    weights = torch.linspace(-1, 1, matrix.numel(), dtype=torch.float64).view(matrix.shape)
    (exact,) = torch.autograd.grad((weights * soft_spectral_clip(matrix, 1.3, method="svd")).sum(), matrix)
    (iterated,) = torch.autograd.grad((weights * soft_spectral_clip(matrix, 1.3, ns_steps=20)).sum(), matrix)
    torch.testing.assert_close(exact, iterated, rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", ["svd", "newton_schulz", "scaled_newton_schulz"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_a_number_spreads_over_its_matrix(method, value):
    matrices = torch.ones(2, 3, 4)
    matrices[1, 2, 0] = value
    clipped = soft_spectral_clip(matrices, 1.0, method=method)
    assert clipped[0].isfinite().all()
    assert clipped[1].isnan().all()


@pytest.mark.parametrize("shape", [(2, 40, 90), (1, 120, 100)])
def test_bfloat16_without_instructions_for_it_is_rounded_as_with_them(shape, monkeypatch):
    update = 0.3 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    exact = soft_spectral_clip(update, 2.0, method="svd")
    errors = []
    for has_instructions in (True, False):
        monkeypatch.setattr(soft_clip, "_CPU_MULTIPLIES_BFLOAT16", has_instructions)
        found = soft_spectral_clip(update, 2.0, compute_dtype=torch.bfloat16)
        errors.append(float((found - exact).norm() / exact.norm()))
    assert max(errors) < 0.01
    assert errors[1] < 1.2 * errors[0]

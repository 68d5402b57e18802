import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aleator.nn import (
    STS,
    BernoulliReinforce,
    BernoulliST,
    GateEstimator,
    GradientAudit,
    NoisyReLU,
    ReinMaxBernoulli,
    RelaxedBernoulliST,
    StochasticUnits,
    bernoulli_st,
    reinmax_bernoulli,
    relaxed_bernoulli_st,
    sts,
)

OF_BITS = [BernoulliST(), BernoulliST("identity"), RelaxedBernoulliST(), ReinMaxBernoulli(), BernoulliReinforce()]
ALL = [*OF_BITS, STS(), STS(sample_from="p"), STS(0.25, rescale=True), NoisyReLU(), NoisyReLU(noise="logistic")]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def doubles(*values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def slope(estimator, a, noise):
    """The factor dh/da of one sample."""
    return torch.autograd.grad(estimator(a, noise=noise).sum(), a)[0]


def audit(estimator, f, *logits):
    return GradientAudit(estimator, f, doubles(*logits)).exact()


# --- values


@pytest.mark.parametrize("estimator", OF_BITS, ids=repr)
def test_a_bit_is_one_where_the_uniform_is_below_its_probability(estimator):
    a = doubles(-3.0, 0.0, 1.0, 4.0)
    p = a.detach().sigmoid()
    assert torch.equal(estimator(a, noise=p - 1e-9), torch.ones(4, dtype=torch.float64))
    assert torch.equal(estimator(a, noise=p), torch.zeros(4, dtype=torch.float64))


@pytest.mark.parametrize("estimator", ALL, ids=repr)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_rates_are_the_probabilities_in_every_precision(estimator, dtype):
    # Ten draws of standard deviation at most 0.5/√n: within 5 of them; a false alarm in a million runs.
    a = torch.tensor([-6.0, -1.0, 0.0, 2.0], dtype=dtype)
    n = 200_000
    rate = (estimator(a.expand(n, 4), generator=generator()) > 0).double().mean(0)
    p = estimator.probability(a.double())
    assert torch.all((rate - p).abs() <= 5 * (p * (1 - p) / n).sqrt())


def test_rare_bits_in_half_precision_are_as_rare_as_they_should_be():
    # Uniforms drawn in bfloat16 are 0 once in 512 draws and would fire there: 1950 times here.
    a = torch.full((1_000_000,), -20.0, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert bernoulli_st(a, generator=generator()).sum() == 0
        assert relaxed_bernoulli_st(a, generator=generator()).sum() == 0


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_the_temperature_changes_the_gradient_and_not_the_bits(temperature):
    a, u = (
        torch.linspace(-4, 4, 50, dtype=torch.float64, requires_grad=True),
        torch.rand(50, dtype=torch.float64, generator=generator()),
    )
    bits = relaxed_bernoulli_st(a, temperature, noise=u)
    assert torch.equal(bits, bernoulli_st(a, noise=u))
    soft = ((a - u.logit()) / temperature).sigmoid().detach()
    assert torch.equal(bits.detach(), (soft > 0.5).double())
    torch.testing.assert_close(torch.autograd.grad(bits.sum(), a)[0], soft * (1 - soft) / temperature)


@given(a=st.floats(-8, 8), ratio=st.floats(0, 1))
def test_sts_has_the_mean_p_and_is_on_with_probability_p_to_the_r(a, ratio):
    estimator, logits = STS(ratio), torch.tensor([a], dtype=torch.float64)
    p = logits.sigmoid()
    torch.testing.assert_close(estimator.probability(logits), p**ratio)
    torch.testing.assert_close(estimator.probability(logits) * estimator.magnitude(logits), p)
    on = estimator(logits, noise=torch.zeros(1, dtype=torch.float64))
    torch.testing.assert_close(on, p ** (1 - ratio))


def test_sts_sampled_as_in_the_authors_program_has_a_smaller_mean():
    estimator, logits = STS(sample_from="p"), torch.tensor([-1.0], dtype=torch.float64)
    mean = estimator.probability(logits) * estimator.magnitude(logits)
    torch.testing.assert_close(mean, logits.sigmoid() ** 1.5)


# --- gradients of one sample


@given(a=st.floats(-8, 8), u=st.floats(0, 1, exclude_max=True))
def test_slopes_have_their_closed_forms(a, u):
    logits, noise = doubles(a), torch.tensor([u], dtype=torch.float64)
    p = logits.detach().sigmoid()
    h = (noise < p).double()
    q = (p + h) / 2
    torch.testing.assert_close(slope(bernoulli_st, logits, noise), p * (1 - p))
    torch.testing.assert_close(slope(BernoulliST("identity"), logits, noise), torch.ones(1, dtype=torch.float64))
    torch.testing.assert_close(slope(reinmax_bernoulli, logits, noise), 2 * q * (1 - q) - p * (1 - p) / 2)
    on = (noise < p.sqrt()).double()
    torch.testing.assert_close(slope(sts, logits, noise), on * p.sqrt() * (1 - p) / 2)
    torch.testing.assert_close(slope(STS(rescale=True), logits, noise), on * p.sqrt() * (1 - p))


@pytest.mark.parametrize("estimator", [BernoulliST(), RelaxedBernoulliST(), STS(), ReinMaxBernoulli()], ids=repr)
def test_the_gradient_can_be_derived_again(estimator):
    # The derivative of the slope, against differences of the slope with the bits held.
    a, noise = doubles(-0.7, 0.3, 1.1), torch.tensor([0.1, 0.9, 0.2], dtype=torch.float64)
    (first,) = torch.autograd.grad(estimator(a, noise=noise).sum(), a, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), a)
    step = 1e-6
    above, below = (slope(estimator, (a.detach() + d).requires_grad_(), noise) for d in (step, -step))
    torch.testing.assert_close(second, (above - below) / (2 * step), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("estimator", ALL, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("u", [0.0, 0.5])
def test_probabilities_of_zero_and_one_give_finite_gates_and_gradients(estimator, dtype, u):
    a = torch.tensor([-1e4, -200.0, 0.0, 200.0, 1e4], dtype=dtype, requires_grad=True)
    noise = torch.full((5,), u)
    gates = estimator(a, noise=noise)
    score = estimator.score(a, gates)
    total = gates.sum() if score is None else score.sum()
    (gradient,) = torch.autograd.grad(total, a)
    assert gates.isfinite().all()
    assert gradient.isfinite().all()
    if estimator in OF_BITS:
        assert gates.tolist() == [0, 0, u < 0.5, 1, 1]


# --- means, by enumeration


@given(a=st.floats(-5, 5), k=st.floats(-3, 3))
def test_means_for_a_linear_loss(a, k):
    def linear(h):
        return k * h.sum(-1)

    p = float(torch.tensor(a, dtype=torch.float64).sigmoid())
    true = k * p * (1 - p)
    for estimator, mean in (
        (BernoulliST(), true),
        (ReinMaxBernoulli(), true),
        (BernoulliST("identity"), k),
        (STS(), true / 2),
        (STS(rescale=True), true),
    ):
        found = audit(estimator, linear, a)
        assert float(found.truth) == pytest.approx(true, abs=1e-12)
        assert float(found.mean) == pytest.approx(mean, abs=1e-12)


@given(a=st.floats(-5, 5), t=st.floats(-2, 2))
def test_means_for_a_quadratic_loss(a, t):
    p = float(torch.tensor(a, dtype=torch.float64).sigmoid())

    def quadratic(h):
        return (h - t).square().sum(-1)

    assert float(audit(ReinMaxBernoulli(), quadratic, a).bias) == pytest.approx(0, abs=1e-12)
    assert float(audit(BernoulliST(), quadratic, a).bias) == pytest.approx(p * (1 - p) * (2 * p - 1), abs=1e-12)


def test_means_of_three_units_equal_their_closed_forms():
    a = doubles(-1.2, 0.4, 2.0)
    v = torch.tensor([0.7, -1.1, 0.5], dtype=torch.float64)

    def f(h):
        return (h @ v - 0.3).square() + 0.9 * h.prod(-1) + 0.25 * torch.sin(2 * h[..., 0] + h[..., 1])

    def df(h):
        first, second = h[0], h[1]
        cos = 0.25 * torch.cos(2 * first + second)
        products = torch.stack([h[1] * h[2], h[0] * h[2], h[0] * h[1]])
        return 2 * (h @ v - 0.3) * v + 0.9 * products + torch.stack([2 * cos, cos, 0 * cos])

    p = a.detach().sigmoid()
    for estimator, rate, value, factor in (
        (BernoulliST(), p, torch.ones(3), lambda h: p * (1 - p)),
        (BernoulliST("identity"), p, torch.ones(3), lambda h: 1),
        (ReinMaxBernoulli(), p, torch.ones(3), lambda h: (h - p).abs() / 2),
        (STS(), p.sqrt(), p.sqrt(), lambda h: (h > 0) * p.sqrt() * (1 - p) / 2),
        (STS(sample_from="p"), p, p.sqrt(), lambda h: (h > 0) * p.sqrt() * (1 - p) / 2),
    ):
        mean = 0
        for state in itertools.product((0.0, 1.0), repeat=3):
            on = torch.tensor(state, dtype=torch.float64)
            h = on * value
            mean = mean + torch.where(on > 0, rate, 1 - rate).prod() * df(h) * factor(h)
        torch.testing.assert_close(GradientAudit(estimator, f, a).exact().mean, mean, rtol=0, atol=1e-12)


# --- the object that modules are given


@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_equal_generators_and_equal_noise_give_equal_gates(estimator):
    a = torch.randn(5, 7, generator=generator(1))
    assert torch.equal(estimator(a, generator=generator()), estimator(a, generator=generator()))
    assert not torch.equal(estimator(a, generator=generator()), estimator(a, generator=generator(3)))
    u = torch.rand(5, 7, generator=generator(2))
    assert torch.equal(estimator(a, noise=u), estimator(a, noise=u))


@pytest.mark.parametrize("estimator", [e for e in ALL if not e.gradient_when_off], ids=repr)
def test_what_is_said_to_pass_no_gradient_when_off_passes_none(estimator):
    a = torch.randn(1000, generator=generator(1)).requires_grad_()
    gates = estimator(a, generator=generator())
    if estimator.score(a, gates) is None:
        (gradient,) = torch.autograd.grad(gates.sum(), a)
        assert torch.all(gradient[gates == 0] == 0)
        assert torch.any(gradient != 0)
    else:
        assert not gates.requires_grad


def test_units_sample_while_training_and_are_deterministic_in_evaluation():
    units = StochasticUnits(STS())
    a = torch.linspace(-3, 3, 101)
    assert torch.equal(units(a, generator=generator()), STS()(a, generator=generator()))
    units.eval()
    with torch.no_grad():
        units.threshold.fill_(1.0)
    expected = torch.where(a > 1, a.sigmoid().sqrt(), 0)
    torch.testing.assert_close(units(a), expected)
    assert units.state_dict().keys() == {"threshold"}


def test_recomputed_activations_have_the_same_gates():
    from torch.utils.checkpoint import checkpoint

    a = torch.zeros(1000, requires_grad=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        gates = checkpoint(ReinMaxBernoulli(), a, use_reentrant=False)
        bits = gates.detach().clone()
        gates.sum().backward()
    # The slope is (1 − p)/2 or p/2, and p is not ½ after a shift of the logits.
    b = torch.full((1000,), 1.0, requires_grad=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        again = checkpoint(ReinMaxBernoulli(), b, use_reentrant=False)
        again.sum().backward()
    p = b.detach().sigmoid()
    torch.testing.assert_close(b.grad, torch.where(again.detach() > 0, 1 - p, p) / 2)
    assert 0 < bits.mean() < 1


@pytest.mark.plain
@pytest.mark.parametrize("estimator", [e for e in ALL if e != BernoulliReinforce()], ids=repr)
def test_compiled_gates_equal_plain_ones(estimator):
    a = torch.randn(40, generator=generator(1)).requires_grad_()
    u = torch.rand(40, generator=generator(2))

    def loss(a):
        return (estimator(a, noise=u) * torch.arange(40)).square().sum()

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    value, expected = compiled(a), loss(a)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(torch.autograd.grad(value, a), torch.autograd.grad(expected, a))


@pytest.mark.plain
def test_a_compiled_graph_draws_anew_each_time():
    a = torch.zeros(1000)
    compiled = torch.compile(lambda a: bernoulli_st(a), backend="aot_eager", fullgraph=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, second = compiled(a), compiled(a)
    assert not torch.equal(first, second)
    assert 0.4 < first.mean() < 0.6


# --- bad input


@pytest.mark.plain
@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_bad_logits_and_noise_are_refused(estimator: GateEstimator):
    with pytest.raises(TypeError, match=r"logits must be of a floating-point type, got torch\.int64"):
        estimator(torch.zeros(3, dtype=torch.int64))
    for bad in (float("nan"), float("inf"), -float("inf")):
        with pytest.raises(ValueError, match=r"logits must be finite, got values from"):
            estimator(torch.tensor([0.0, bad]))
    with pytest.raises(ValueError, match=r"noise must have the shape \(3,\), got \(2,\)"):
        estimator(torch.zeros(3), noise=torch.zeros(2))


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bernoulli_st(torch.zeros(1), grad="soft"), "grad must be 'sigmoid' or 'identity', got 'soft'"),
        (lambda: BernoulliST("soft"), "grad must be 'sigmoid' or 'identity', got 'soft'"),
        (lambda: relaxed_bernoulli_st(torch.zeros(1), 0.0), "temperature must be positive, got 0.0"),
        (lambda: RelaxedBernoulliST(-1.0), "temperature must be positive, got -1.0"),
        (lambda: sts(torch.zeros(1), 1.5), r"ratio must be in \[0, 1\], got 1.5"),
        (lambda: STS(-0.1), r"ratio must be in \[0, 1\], got -0.1"),
        (lambda: STS(1.0, rescale=True), "ratio must be below 1 where the gradient is rescaled, got 1"),
        (lambda: STS(sample_from="half"), "sample_from must be 'sqrt' or 'p', got 'half'"),
    ],
)
def test_options_out_of_range_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()

import itertools
from functools import partial

import pytest
import torch

from aleator.nn import (
    BernoulliReinforce,
    GradientAudit,
    MinVarianceBaseline,
    arm,
    bernoulli_reinforce,
    disarm,
    reinforce,
    rloo,
    surrogate,
)

# The numerical example: three units and a loss that is neither linear nor quadratic.
A = torch.tensor([-1.2, 0.4, 2.0], dtype=torch.float64)
V = torch.tensor([0.7, -1.1, 0.5], dtype=torch.float64)
STATES = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3)), dtype=torch.float64)
P = A.sigmoid()
OF_STATES = torch.where(STATES > 0, P, 1 - P).prod(1)


def f(h):
    return (h @ V - 0.3).square() + 0.9 * h.prod(-1) + 0.25 * torch.sin(2 * h[..., 0] + h[..., 1])


def true_gradient():
    a = A.clone().requires_grad_()
    p = a.sigmoid()
    return torch.autograd.grad((torch.where(STATES > 0, p, 1 - p).prod(1) * f(STATES)).sum(), a)[0]


def best_baseline():
    square = OF_STATES[:, None] * (STATES - P).square()
    return (square * f(STATES)[:, None]).sum(0) / square.sum(0)


MEAN_LOSS = float((OF_STATES * f(STATES)).sum())
UNBIASED = {
    "no baseline": (reinforce, (0.159, 0.120, 0.212)),
    "mean loss": (partial(reinforce, baseline=MEAN_LOSS), (0.0225, 0.0413, 0.0997)),
    "best": (partial(reinforce, baseline=best_baseline()), (0.0199, 0.0346, 0.0889)),
    "any": (partial(reinforce, baseline=torch.tensor([-1.0, 7.0, 0.3], dtype=torch.float64)), None),
    "sampled bits": (BernoulliReinforce(), (0.159, 0.120, 0.212)),
    "rloo": (rloo, None),
    "rloo of 3": (partial(rloo, k=3), None),
    "arm": (arm, (0.044, 0.039, 0.095)),
    "disarm": (disarm, (0.028, 0.028, 0.074)),
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_example_has_the_gradient_of_the_sheet():
    torch.testing.assert_close(true_gradient(), torch.tensor([0.0401, 0.2031, -0.0443]).double(), rtol=0, atol=5e-5)


@pytest.mark.parametrize("name", UNBIASED)
def test_means_over_everything_that_can_happen_are_the_true_gradient(name):
    estimator, variances = UNBIASED[name]
    found = GradientAudit(estimator, f, A).exact()
    torch.testing.assert_close(found.mean, true_gradient(), rtol=0, atol=1e-12)
    if variances is not None:
        rounding = [0.5 * 10.0 ** -(4 if v < 0.1 and name in ("mean loss", "best") else 3) for v in variances]
        for got, expected, within in zip(found.variance.tolist(), variances, rounding, strict=True):
            assert got == pytest.approx(expected, abs=1.01 * within)


def test_two_samples_have_the_variance_of_their_formula():
    # Over all 64 pairs of states. The sheet rounds the first of the three to 0.040.
    pairs = itertools.product(range(8), repeat=2)
    mean, square = torch.zeros(3).double(), torch.zeros(3).double()
    for i, j in pairs:
        g = ((STATES[i] - P) - (STATES[j] - P)) * (f(STATES[i]) - f(STATES[j])) / 2
        mean += OF_STATES[i] * OF_STATES[j] * g
        square += OF_STATES[i] * OF_STATES[j] * g.square()
    variance = GradientAudit(rloo, f, A).exact().variance
    torch.testing.assert_close(variance, square - mean.square())
    torch.testing.assert_close(variance, torch.tensor([0.0395, 0.0783, 0.0670]).double(), rtol=0, atol=5e-5)


@pytest.mark.parametrize("name", UNBIASED)
def test_means_of_samples_are_the_true_gradient(name):
    # Four standard errors, as the sheet says; a false alarm for one of three units once in 5000 runs.
    found = GradientAudit(UNBIASED[name][0], f, A).monte_carlo(1_000_000, generator())
    assert torch.all((found.mean - true_gradient()).abs() <= 4 * found.standard_error)


def test_the_closed_form_of_the_baseline_has_the_least_variance():
    best = best_baseline()

    def variance(baseline):
        return GradientAudit(partial(reinforce, baseline=baseline), f, A).exact().variance

    least = variance(best)
    for unit, away in itertools.product(range(3), (-0.3, -0.01, 0.01, 0.3)):
        moved = best.clone()
        moved[unit] += away
        assert variance(moved)[unit] > least[unit]


def test_running_means_find_the_baseline_of_least_variance():
    baseline = MinVarianceBaseline(3, momentum=0.999).double()
    assert torch.equal(baseline.value, torch.ones(3, dtype=torch.float64))
    noise = generator()
    for _ in range(3000):
        bits, score = bernoulli_reinforce(A.expand(64, 3), generator=noise)
        baseline.update(f(bits), score)
    # What is left of sampling noise after averaging over about 2000 batches of 64.
    torch.testing.assert_close(baseline.value, best_baseline(), rtol=0.03, atol=0)


def test_the_baseline_of_a_batch_knows_only_the_batches_before():
    baseline = MinVarianceBaseline(3).double()
    before = baseline.value.clone()
    logits = A.expand(8, 3).clone().requires_grad_()
    bits, score = bernoulli_reinforce(logits, generator=generator())
    losses = f(bits)
    (gradient,) = torch.autograd.grad(surrogate(losses, score, baseline), logits)
    torch.testing.assert_close(gradient, (bits - P) * (losses[:, None] - before) / 8)
    square = (bits - P).square()
    numerator = 0.9e-6 + 0.1 * (square * losses[:, None]).mean(0)
    torch.testing.assert_close(baseline.value, numerator / (0.9e-6 + 0.1 * square.mean(0)))


def test_the_baseline_rests_in_evaluation_and_moves_with_its_state():
    baseline, other = MinVarianceBaseline(3).double(), MinVarianceBaseline(3).double()
    bits, score = bernoulli_reinforce(A.expand(8, 3), generator=generator())
    surrogate(f(bits), score, baseline.eval())
    assert torch.equal(baseline.value, other.value)
    surrogate(f(bits), score, baseline.train())
    assert not torch.equal(baseline.value, other.value)
    other.load_state_dict(baseline.state_dict())
    assert torch.equal(baseline.value, other.value)


def test_units_that_never_change_keep_a_finite_baseline():
    # Their running means halve until they underflow.
    baseline = MinVarianceBaseline(2, momentum=0.5)
    logits = torch.tensor([[200.0, -200.0]])
    for _ in range(500):
        _, score = bernoulli_reinforce(logits, generator=generator())
        surrogate(torch.ones(1), score, baseline)
    assert baseline.value.isfinite().all()


def test_the_surrogate_is_the_mean_loss_and_trains_what_is_downstream_as_usual():
    weight = V.clone().requires_grad_()
    logits = A.expand(16, 3).clone().requires_grad_()
    bits, score = bernoulli_reinforce(logits, generator=generator())
    losses = (bits @ weight).square()
    total = surrogate(losses, score, 0.5)
    torch.testing.assert_close(total, losses.mean())
    of_weight, of_logits = torch.autograd.grad(total, [weight, logits], retain_graph=True)
    torch.testing.assert_close(of_weight, torch.autograd.grad(losses.mean(), weight)[0])
    torch.testing.assert_close(of_logits, (bits - P) * (losses.detach()[:, None] - 0.5) / 16)


@pytest.mark.parametrize("estimator", [reinforce, rloo, partial(rloo, k=4), arm, disarm])
def test_estimators_return_mean_losses_and_train_the_function_as_usual(estimator):
    weight = V.clone().requires_grad_()
    seen = []

    def loss(h):
        seen.append((h @ weight).square())
        return seen[-1]

    logits = A.expand(5, 3).clone().requires_grad_()
    losses = estimator(loss, logits, generator=generator())
    expected = torch.stack(seen).mean(0)
    torch.testing.assert_close(losses, expected)
    (gradient,) = torch.autograd.grad(losses.sum(), weight, retain_graph=True)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), weight)[0])


def test_disarm_is_the_mean_of_arm_over_the_uniform():
    u = torch.linspace(0, 1, 200_002, dtype=torch.float64)[1:-1, None]
    a = torch.tensor([0.8], dtype=torch.float64)

    def loss(h):
        return (h[..., 0] - 0.3).square()

    means = []
    for estimator in (arm, disarm):
        logits = a.expand(len(u), 1).clone().requires_grad_()
        means.append(torch.autograd.grad(estimator(loss, logits, noise=u).mean(), logits)[0].sum())
    torch.testing.assert_close(means[0], means[1], rtol=1e-4, atol=0)


def test_a_saturated_unit_has_no_score():
    logits = torch.tensor([[-200.0, 200.0, -1e4]], requires_grad=True)
    bits, score = bernoulli_reinforce(logits, noise=torch.full((1, 3), 0.5))
    assert bits.tolist() == [[0, 1, 0]]
    total = surrogate(torch.tensor([3.0]), score)
    assert torch.autograd.grad(total, logits)[0].abs().max() == 0


@pytest.mark.plain
def test_a_compiled_surrogate_equals_a_plain_one():
    logits, u = A.expand(6, 3).clone().requires_grad_(), torch.rand(6, 3, dtype=torch.float64, generator=generator())

    def loss(logits):
        bits, score = bernoulli_reinforce(logits, noise=u)
        return surrogate(f(bits), score, 0.2)

    value = torch.compile(loss, backend="aot_eager", fullgraph=True)(logits)
    torch.testing.assert_close(value, loss(logits))
    torch.testing.assert_close(torch.autograd.grad(value, logits), torch.autograd.grad(loss(logits), logits))


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: surrogate(torch.tensor(1.0), torch.zeros(4, 3)),
            "loss_per_example must have one entry per example, got a scalar",
        ),
        (
            lambda: surrogate(torch.ones(3), torch.zeros(4, 3)),
            r"loss_per_example must have the shape \(4,\) of the examples that were sampled, got \(3,\)",
        ),
        (lambda: surrogate(torch.ones(0), torch.zeros(0, 3)), "loss_per_example must not be empty, got no example"),
        (lambda: MinVarianceBaseline(0), "n_units must be at least 1, got 0"),
        (lambda: MinVarianceBaseline(3, momentum=1.0), r"momentum must be in \[0, 1\), got 1.0"),
        (lambda: rloo(f, A, k=1), "k must be at least 2, got 1"),
        (lambda: rloo(f, A, noise=torch.zeros(3)), r"noise must have the shape \(2, 3\), got \(3,\)"),
        (
            lambda: arm(lambda h: h.mean(), A.expand(4, 3), generator=generator()),
            r"f must return losses of shape \(4,\), got \(\)",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()

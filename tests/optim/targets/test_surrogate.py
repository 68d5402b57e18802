"""Unit truths of the sheet target_surrogates, 6(a), and what a user of the class can count on."""

import copy
import functools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from aleator.optim import (
    SMOOTH_STEP,
    AdaGradNormStep,
    ArmijoGD,
    DiagonalAdaGrad,
    Exponential,
    InverseSqrt,
    TargetArmijo,
    TargetSurrogate,
    logistic_metric,
    softmax_metric,
    surrogate_loss,
)
from aleator.optim.targets import surrogate as target_surrogate
from aleator.optim.targets.least_squares import LeastSquares


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def problem(rows=40, features=5, outputs=1, seed=0):
    g = generator(seed)
    x = torch.randn(rows, features, generator=g, dtype=torch.float64)
    truth = torch.randn(features, outputs, generator=g, dtype=torch.float64)
    return x, x @ truth + 0.3 * torch.randn(rows, outputs, generator=g, dtype=torch.float64)


def zeroed(model):
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    return model


def linear(features=5, outputs=1, bias=False):
    with torch.random.fork_rng():
        return zeroed(nn.Linear(features, outputs, bias=bias).double())


def frozen_bias():
    model = linear(bias=True)
    model.bias.requires_grad_(False)
    return model


def perceptron(seed=0, features=5, outputs=1):
    with torch.random.fork_rng():
        model = nn.Sequential(nn.Linear(features, 8), nn.Tanh(), nn.Linear(8, outputs)).double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator(seed), dtype=torch.float64) * 0.5)
    return model


def squared(y, z):
    return (z - y).square().flatten(1).sum(1)


def logistic(y, z):
    return F.binary_cross_entropy_with_logits(z, y, reduction="none").sum(1)


def gradients(loss, model):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


class TestTheSurrogate:
    def test_it_touches_the_loss_where_it_was_made(self):
        x, y = problem()
        model = perceptron()
        z = model(x)
        losses = squared(y, z)
        (g,) = torch.autograd.grad(losses.sum(), z, retain_graph=True)
        model_of = surrogate_loss(z, z.detach(), g.detach(), 0.3)
        assert model_of.item() == 0
        torch.testing.assert_close(
            gradients(model_of, model), gradients(squared(y, model(x)).mean(), model), rtol=1e-12, atol=1e-14
        )

    @pytest.mark.parametrize(("loss_of", "step"), [(squared, "squared"), (logistic, "logistic")])
    def test_it_lies_above_a_smooth_loss(self, loss_of, step):
        g = generator(3)
        anchor, other = (3 * torch.randn(10_000, 1, generator=g, dtype=torch.float64) for _ in range(2))
        y = torch.randint(0, 2, anchor.shape, generator=g).double()
        anchor.requires_grad_()
        (grad,) = torch.autograd.grad(loss_of(y, anchor).sum(), anchor)
        above = [
            loss_of(y[i : i + 1], anchor[i : i + 1])
            + surrogate_loss(other[i : i + 1], anchor[i : i + 1], grad[i : i + 1], SMOOTH_STEP[step])
            - loss_of(y[i : i + 1], other[i : i + 1])
            for i in range(0, 10_000, 10)
        ]
        assert min(float(a.detach()) for a in above) >= -1e-9

    def test_twice_the_smooth_step_is_too_long_for_the_logistic_loss(self):
        anchor = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)  # p = ½, where the curvature is 1/4
        y = torch.ones(1, 1, dtype=torch.float64)
        (grad,) = torch.autograd.grad(logistic(y, anchor).sum(), anchor)
        near = torch.full((1, 1), 0.1, dtype=torch.float64)
        assert logistic(y, anchor) + surrogate_loss(near, anchor, grad, 8.0) < logistic(y, near)
        assert logistic(y, anchor) + surrogate_loss(near, anchor, grad, 4.0) >= logistic(y, near)

    def test_a_matrix_metric_of_diagonal_matrices_is_the_diagonal_one(self):
        g = generator(1)
        z, anchor, grad = (torch.randn(6, 3, generator=g, dtype=torch.float64) for _ in range(3))
        weights = torch.rand(6, 3, generator=g, dtype=torch.float64)
        torch.testing.assert_close(
            surrogate_loss(z, anchor, grad, 0.7, weights),
            surrogate_loss(z, anchor, grad, 0.7, torch.diag_embed(weights)),
        )

    @pytest.mark.parametrize(("metric", "outputs"), [(logistic_metric, 1), (softmax_metric, 4)])
    def test_metrics_are_second_derivatives(self, metric, outputs):
        z = torch.randn(3, outputs, generator=generator(2), dtype=torch.float64)

        def loss_of(row):
            if outputs == 1:
                return F.softplus(row).sum()
            return torch.logsumexp(row, 0)

        exact = torch.stack([torch.autograd.functional.hessian(loss_of, row) for row in z])
        found = metric(z, z, damping=0.0)
        torch.testing.assert_close(found if outputs > 1 else found.unsqueeze(-1), exact)


class TestInnerSteps:
    def test_one_inner_step_is_gradient_descent(self):
        x, y = problem()
        model, other = perceptron(), perceptron()
        surrogate = TargetSurrogate(
            model, 0.5, inner=lambda params: torch.optim.SGD(params, lr=0.03), inner_steps=1, tolerance=0
        )
        plain = torch.optim.SGD(other.parameters(), lr=0.03)
        for _ in range(5):
            surrogate.step(x, functools.partial(squared, y))
            plain.zero_grad()
            squared(y, other(x)).mean().backward()
            plain.step()
        for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)

    @pytest.mark.parametrize("inner_steps", [1, 3, 20])
    @pytest.mark.parametrize("loss", ["squared", "logistic"])
    def test_a_full_batch_never_gets_worse(self, loss, inner_steps):
        x, y = problem()
        y = (y > 0).double() if loss == "logistic" else y
        loss_of = functools.partial(logistic if loss == "logistic" else squared, y)
        surrogate = TargetSurrogate(perceptron(), SMOOTH_STEP[loss], inner_steps=inner_steps)
        losses = [float(surrogate.step(x, loss_of).loss) for _ in range(15)]
        assert losses == sorted(losses, reverse=True)
        assert losses[-1] < losses[0]

    def test_the_rate_of_the_sheet_holds(self):
        # min ‖∇h‖² ≤ 2β(h₀ − h*)/T with inner steps of 1/β, β the smoothness of the surrogate in the weights.
        x, y = problem()
        model = linear()
        beta = float(torch.linalg.eigvalsh(x.T @ x / len(x))[-1]) / SMOOTH_STEP["squared"]
        surrogate = TargetSurrogate(
            model, SMOOTH_STEP["squared"], inner=lambda p: torch.optim.SGD(p, lr=1 / beta), inner_steps=3, tolerance=0
        )
        lowest = float(squared(y, x @ torch.linalg.lstsq(x, y).solution).mean())
        first, squares = None, []
        for t in range(1, 20):
            squares.append(float(gradients(squared(y, model(x)).mean(), model).square().sum()))
            loss = float(surrogate.step(x, functools.partial(squared, y)).loss)
            first = loss if first is None else first
            assert min(squares) <= 2 * beta * (first - lowest) / t

    def test_the_oracle_is_asked_once_and_sees_no_graph(self):
        x, y = problem()
        seen = []

        def oracle(z):
            assert z.is_leaf
            seen.append(z)
            return squared(y, z)

        surrogate = TargetSurrogate(perceptron(), 0.5, inner_steps=7)
        info = surrogate.step(x, oracle)
        assert len(seen) == 1
        assert (info.target_gradient_calls, info.inner_steps, info.total_inner_steps) == (1, 7, 7)
        info = surrogate.step(x, oracle)
        assert (info.target_gradient_calls, info.total_inner_steps) == (2, 14)
        assert len(seen) == 2

    def test_the_model_is_run_once_for_the_anchor_and_once_per_inner_step(self):
        x, y = problem()
        model, passes = perceptron(), []
        model.register_forward_hook(lambda *_: passes.append(1))
        surrogate = TargetSurrogate(model, 0.5, inner=lambda p: torch.optim.SGD(p, lr=0.01), inner_steps=4)
        surrogate.step(x, functools.partial(squared, y))
        assert len(passes) == 1 + 4  # of which the last tells the decrease

    def test_an_oracle_of_gradients_is_one_of_losses(self):
        x, y = problem()
        model, other = perceptron(), perceptron()
        a, b = TargetSurrogate(model, 0.5), TargetSurrogate(other, 0.5)
        for _ in range(3):
            first = a.step(x, functools.partial(squared, y))
            second = b.step(x, lambda z: (squared(y, z).mean(), 2 * (z - y)))
            torch.testing.assert_close(first.loss, second.loss, rtol=1e-12, atol=0)

    def test_targets_may_be_one_number_per_example(self):
        class Flat(nn.Module):
            def __init__(self, inside):
                super().__init__()
                self.inside = inside

            def forward(self, x):
                return self.inside(x).squeeze(1)

        x, y = problem()
        model, other = perceptron(), perceptron()
        rule = AdaGradNormStep(1.0), AdaGradNormStep(1.0)
        a, b = TargetSurrogate(Flat(model), rule[0]), TargetSurrogate(other, rule[1])
        for _ in range(3):
            first = a.step(x, lambda z: (z - y.squeeze(1)).square())
            assert torch.equal(first.loss, b.step(x, functools.partial(squared, y)).loss)

    def test_the_oracle_of_a_model_in_half_precision_sees_float32(self):
        x, y = problem()
        seen = []

        def oracle(z):
            seen.append(z.dtype)
            return squared(y, z)

        model = perceptron().bfloat16()
        TargetSurrogate(model, 0.5, inner=lambda p: torch.optim.SGD(p, lr=0.01)).step(x.bfloat16(), oracle)
        assert seen == [torch.float32]

    def test_the_line_search_begins_at_one_and_finds_the_scale_of_any_inputs(self):
        x, y = problem()
        info = TargetSurrogate(linear(), 0.5).step(1e5 * x, functools.partial(squared, y))
        assert (info.inner_steps, info.failed_searches) == (10, 0)
        assert info.decrease > 0

    @pytest.mark.parametrize("change", ["shuffled", "doubled"])
    def test_neither_order_nor_number_of_copies_matters(self, change):
        x, y = problem()
        order = torch.randperm(len(x), generator=generator())
        x2, y2 = (x[order], y[order]) if change == "shuffled" else (torch.cat([x, x]), torch.cat([y, y]))
        model, other = perceptron(), perceptron()
        a, b = TargetSurrogate(model, 0.5, inner_steps=5), TargetSurrogate(other, 0.5, inner_steps=5)
        for _ in range(3):
            a.step(x, functools.partial(squared, y))
            b.step(x2, functools.partial(squared, y2))
        for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)

    def test_lbfgs_is_new_for_every_surrogate_and_adam_goes_on(self):
        x, y = problem()
        lbfgs = TargetSurrogate(perceptron(), 0.5, inner=lambda p: torch.optim.LBFGS(p, max_iter=5), inner_steps=2)
        first = lbfgs.optimizer
        lbfgs.step(x, functools.partial(squared, y))
        assert lbfgs.optimizer is not first
        adam = TargetSurrogate(perceptron(), 0.5, inner=lambda p: torch.optim.Adam(p, lr=1e-3), inner_steps=2)
        first = adam.optimizer
        adam.step(x, functools.partial(squared, y))
        assert adam.optimizer is first

    @pytest.mark.parametrize(("reset_inner", "anew"), [(None, True), (True, True), (False, False)])
    def test_a_line_search_begins_anew_with_every_surrogate_unless_it_shall_not(self, reset_inner, anew):
        x, y = problem()
        surrogate = TargetSurrogate(linear(), 0.5, inner_steps=1, reset_inner=reset_inner)
        found = []
        for _ in range(2):
            surrogate.step(x, functools.partial(squared, y))
            found.append(surrogate.optimizer.search)
        first_trial = found[1].step / 0.9 ** (found[1].trials - 1)
        assert first_trial == pytest.approx(1.0 if anew else 1.8 * found[0].step)

    def test_a_regularizer_is_part_of_every_inner_step(self):
        x, y = problem()
        model = linear()
        penalty = lambda m: 0.5 * m.weight.square().sum()  # noqa: E731
        surrogate = TargetSurrogate(model, 0.5, inner_steps=200, regularizer=penalty, tolerance=1e-10)
        for _ in range(30):
            surrogate.step(x, functools.partial(squared, y))
        ridge = torch.linalg.solve(x.T @ x / len(x) + 0.5 * torch.eye(5).double(), x.T @ y / len(x))
        torch.testing.assert_close(model.weight.detach().T, ridge, rtol=1e-5, atol=1e-6)


class TestExactly:
    def test_half_a_step_solves_least_squares(self):
        x, y = problem()
        model = linear()
        TargetSurrogate(model, 0.5, inner="exact").step(x, functools.partial(squared, y))
        torch.testing.assert_close(model.weight.detach().T, torch.linalg.lstsq(x, y).solution)

    def test_the_error_shrinks_by_one_minus_twice_gamma(self):
        x, y = problem()
        model, best = linear(), torch.linalg.lstsq(x, y).solution.T
        surrogate = TargetSurrogate(model, 0.1, inner="exact")
        for t in range(1, 6):
            surrogate.step(x, functools.partial(squared, y))
            torch.testing.assert_close(model.weight.detach() - best, -best * 0.8**t)

    def test_one_row_is_a_step_of_kaczmarz(self):
        x, y = problem()
        model = linear()
        a, target = x[:1], y[:1]
        TargetSurrogate(model, 0.3, inner="exact").step(a, functools.partial(squared, target))
        torch.testing.assert_close(model.weight.detach(), 2 * 0.3 * target * a / a.square().sum())

    def test_rows_one_by_one_lead_to_rows_weighted_by_their_length(self):
        # The bias that the sheet derives: small batches solve another problem. In closed form, for speed.
        x, y = problem(rows=8, features=4, seed=5)
        x = x * torch.linspace(0.5, 3, 8).double()[:, None]
        lengths = x.square().sum(1)
        rows = torch.randint(0, 8, (200_000,), generator=generator(1)).tolist()
        xs, ys, ns = x.numpy(), y.squeeze(1).numpy(), lengths.numpy()
        w = 0 * xs[0]
        for t, i in enumerate(rows, 1):
            w = w + 2 * 0.5 / t**0.5 * (ys[i] - xs[i] @ w) * xs[i] / ns[i]
        roots = lengths.rsqrt()[:, None]
        weighted = torch.linalg.lstsq(roots * x, roots * y).solution.squeeze(1)
        ordinary = torch.linalg.lstsq(x, y).solution.squeeze(1)
        found = torch.from_numpy(w)
        assert (found - weighted).norm() < 0.02
        assert (found - ordinary).norm() > 5 * (found - weighted).norm()
        model = linear(features=4)
        surrogate = TargetSurrogate(model, InverseSqrt(0.5), inner="exact")
        for i in rows[:200]:
            surrogate.step(x[i : i + 1], functools.partial(squared, y[i : i + 1]))
        u = 0 * xs[0]
        for t, i in enumerate(rows[:200], 1):
            u = u + 2 * 0.5 / t**0.5 * (ys[i] - xs[i] @ u) * xs[i] / ns[i]
        torch.testing.assert_close(model.weight.detach().squeeze(0), torch.from_numpy(u))

    def test_the_scale_of_the_features_does_not_matter(self):
        x, y = problem()
        y = (y > 0).double()
        scales = 10.0 ** torch.linspace(-3, 3, 5).double()
        losses = []
        for inputs in (x, x * scales):
            surrogate = TargetSurrogate(linear(bias=True), 4.0, inner="exact")
            losses.append([float(surrogate.step(inputs, functools.partial(logistic, y)).loss) for _ in range(20)])
        assert losses[0] == pytest.approx(losses[1], rel=1e-8)

    def test_the_metric_of_the_loss_makes_newton_steps(self):
        x, y = problem()
        y = (y > 0).double()
        model = linear()
        surrogate = TargetSurrogate(model, 1.0, inner="exact", metric=functools.partial(logistic_metric, damping=0.0))
        surrogate.step(x, functools.partial(logistic, y))
        p = torch.full_like(y, 0.5)
        newton = torch.linalg.solve(x.T @ (p * (1 - p) * x), x.T @ (y - p))
        torch.testing.assert_close(model.weight.detach().T, newton)

    @pytest.mark.plain  # a loop, whose functions other tests check
    def test_it_is_the_minimum_that_descent_goes_to(self):
        x, y = problem(outputs=2)
        x = torch.linalg.qr(x).Q * len(x) ** 0.5  # well conditioned, so that descent gets there in few steps
        weights = 0.2 + torch.rand(y.shape, generator=generator(4), dtype=torch.float64)
        metric = lambda anchor, grad, ids: weights  # noqa: E731
        model, other = linear(outputs=2, bias=True), linear(outputs=2, bias=True)
        exact = TargetSurrogate(model, 0.3, inner="exact", metric=metric)
        descent = TargetSurrogate(other, 0.3, inner_steps=300, metric=metric, tolerance=1e-9)
        a, b = exact.step(x, functools.partial(squared, y)), descent.step(x, functools.partial(squared, y))
        torch.testing.assert_close(model.weight, other.weight, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(a.decrease, b.decrease, rtol=1e-8, atol=1e-10)

    def test_inputs_that_stay_are_factored_once(self, monkeypatch):
        factored = []
        monkeypatch.setattr(target_surrogate, "LeastSquares", lambda rows: factored.append(rows) or LeastSquares(rows))
        x, y = problem()
        surrogate = TargetSurrogate(linear(), 0.1, inner="exact")
        for _ in range(3):
            surrogate.step(x, functools.partial(squared, y))
        assert len(factored) == 1
        x *= 2  # in place: the same tensor with other values
        surrogate.step(x, functools.partial(squared, y))
        surrogate.step(x.clone(), functools.partial(squared, y))
        assert len(factored) == 3

    def test_dependent_features_have_the_smallest_weights(self):
        x, y = problem()
        model = linear(features=10)
        TargetSurrogate(model, 0.5, inner="exact").step(torch.cat([x, x], 1), functools.partial(squared, y))
        torch.testing.assert_close(model.weight.detach().T, torch.linalg.lstsq(x, y).solution.repeat(2, 1) / 2)


class TestStepSizes:
    def test_rules_have_their_formulas(self):
        z, g = torch.zeros(4, 1), torch.full((4, 1), 2.0)
        mean = lambda values: float(values.mean())  # noqa: E731
        root, decay, norm = InverseSqrt(3.0), Exponential(3.0, 4), AdaGradNormStep(3.0)
        for t in (1, 2, 3):
            assert root(z, g, mean, None) == pytest.approx(3 / t**0.5)
            assert decay(z, g, mean, None) == pytest.approx(3 * 4 ** (-t / 4))
            assert norm(z, g, mean, None) == pytest.approx(3 / (4 * t) ** 0.5, rel=1e-5)

    def test_a_search_in_target_space_accepts_the_smooth_step(self):
        # For the squared loss a step γ lowers ℓ by γ(1 − γ)‖g‖², which c = ½ allows up to γ = ½.
        x, y = problem()
        surrogate = TargetSurrogate(linear(), TargetArmijo(10.0), inner="exact")
        gamma = surrogate.step(x, functools.partial(squared, y)).step_size
        assert 0.45 <= gamma <= 0.5

    def test_a_search_in_target_space_stays_within_its_bounds(self):
        mean = lambda values: float(values.mean())  # noqa: E731
        z, g = torch.zeros(4, 1), torch.full((4, 1), -2.0)

        def steep(z):  # falls without end: every γ is accepted
            return float((-10 * z).mean())

        rule = TargetArmijo(1.0, bounds=(0.5, 3.0))
        assert [rule(z, g, mean, steep) for _ in range(4)] == pytest.approx([1.0, 1.8, 3.0, 3.0])
        assert TargetArmijo(0.1, bounds=(0.5, 3.0))(z, g, mean, steep) == 0.5

    def test_diagonal_adagrad_adds_up_per_example(self):
        metric = DiagonalAdaGrad(4, 1)
        anchor, grad = torch.zeros(2, 1, dtype=torch.float64), torch.tensor([[3.0], [0.0]], dtype=torch.float64)
        ids = torch.tensor([2, 0])
        torch.testing.assert_close(metric(anchor, grad, ids), torch.tensor([[3.0], [1e-5**0.5]]).double())
        torch.testing.assert_close(metric(anchor, grad, ids)[0, 0].item(), 18**0.5)
        torch.testing.assert_close(metric(anchor, 1e3 * grad, ids)[0, 0].item(), 1e5**0.5)


class TestWhatCannotGoOn:
    def test_inner_steps_that_diverge_end_before_there_are_no_numbers(self):
        x, y = problem()
        model = perceptron()
        surrogate = TargetSurrogate(model, 0.5, inner=lambda p: torch.optim.SGD(p, lr=1e200), inner_steps=20)
        info = surrogate.step(x, functools.partial(squared, y))
        assert info.stopped == "the surrogate's gradient is not finite"
        assert all(p.isfinite().all() for p in model.parameters())

    def test_targets_without_parameters_end_the_inner_loop(self):
        class Fixed(nn.Module):
            def __init__(self):
                super().__init__()
                self.unused = nn.Parameter(torch.ones(1))

            def forward(self, x):
                return x

        info = TargetSurrogate(Fixed(), 0.5).step(torch.ones(3, 1), lambda z: z.square().sum(1))
        assert info.inner_steps == 0
        assert info.stopped == "the targets do not depend on the parameters"

    def test_a_zero_gradient_moves_nothing(self):
        x, _ = problem()
        model = perceptron()
        before = [p.detach().clone() for p in model.parameters()]
        info = TargetSurrogate(model, 0.5).step(x, lambda z: 0 * z.sum(1))
        assert info.stopped == "the surrogate's gradient is below tolerance"
        assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))

    def test_a_search_without_a_step_is_told_and_ends_the_loop(self):
        x, y = problem()
        inner = functools.partial(ArmijoGD, first_step=100.0, max_tries=2)
        info = TargetSurrogate(perceptron(), 0.5, inner=inner).step(x, functools.partial(squared, y))
        assert (info.failed_searches, info.inner_steps) == (1, 0)
        assert info.stopped == "the line search found no step that lowers the surrogate in 2 trials"

    @pytest.mark.parametrize("inner", [None, "exact"])
    def test_a_search_for_gamma_that_cannot_decrease_is_told_and_moves_nothing(self, inner):
        x, y = problem()
        model, rule = linear(), TargetArmijo(2.0)
        before = [p.detach().clone() for p in model.parameters()]

        def worse_with_every_evaluation(z):
            worse_with_every_evaluation.calls += 1
            return squared(y, z) + worse_with_every_evaluation.calls

        worse_with_every_evaluation.calls = 0
        surrogate = TargetSurrogate(model, rule, inner=inner)
        info = surrogate.step(x, worse_with_every_evaluation)
        assert (info.inner_steps, info.failed_searches, float(info.decrease)) == (0, 1, 0)
        assert info.stopped == "the search for γ found no step that lowers the loss"
        assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
        info = surrogate.step(x, functools.partial(squared, y))  # begins anew, and goes on
        assert (info.failed_searches, info.stopped is None or info.inner_steps > 0) == (0, True)
        assert info.step_size == pytest.approx(0.5, abs=0.05)


class TestRandomModels:
    def model(self):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return nn.Sequential(
                nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 1)
            ).double()

    def test_dropout_and_batch_statistics_are_those_of_one_pass(self):
        x, y = problem()
        model = self.model()
        surrogate = TargetSurrogate(
            model, 0.5, inner=lambda p: torch.optim.SGD(p, lr=0.0), inner_steps=5, tolerance=0, freeze_stochastic=True
        )
        seen = []
        model.register_forward_hook(lambda _, __, output: seen.append(output.detach().clone()))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            surrogate.step(x, functools.partial(squared, y))
            after = torch.get_rng_state()
            torch.manual_seed(0)
            once = self.model()
            torch.manual_seed(0)
            once(x)
            assert torch.equal(after, torch.get_rng_state())
        assert all(torch.equal(seen[0], later) for later in seen[1:])
        assert model[1].num_batches_tracked == 1

    def test_an_oracle_that_fails_leaves_statistics_as_they_were(self):
        x, _ = problem()
        model = self.model()
        with torch.random.fork_rng(), pytest.raises(ValueError, match="a finite gradient"):
            TargetSurrogate(model, 0.5, freeze_stochastic=True).step(x, lambda z: (z.sum(1), z * float("inf")))
        assert model[1].num_batches_tracked == 0
        assert not model[1].running_mean.any()

    @pytest.mark.plain
    def test_layers_whose_passes_are_alike_are_not_refused(self):
        x, y = problem()
        with torch.random.fork_rng():
            layers = nn.Dropout(0.0), nn.BatchNorm1d(5, track_running_stats=False), nn.Linear(5, 1)
            TargetSurrogate(nn.Sequential(*layers).double(), 0.5).step(x, functools.partial(squared, y))
            attention = nn.MultiheadAttention(4, 2, dropout=0.1)
        with torch.random.fork_rng(), pytest.raises(RuntimeError, match="with MultiheadAttention"):
            TargetSurrogate(attention, 0.5).step(torch.ones(3, 4), lambda z: z.sum(1))

    @pytest.mark.plain
    def test_they_are_refused_unless_asked_for(self):
        x, y = problem()
        with pytest.raises(RuntimeError, match=r"freeze_stochastic must be True .* with BatchNorm1d \(1\)"):
            TargetSurrogate(self.model(), 0.5).step(x, functools.partial(squared, y))
        model = self.model().eval()
        TargetSurrogate(model, 0.5).step(x, functools.partial(squared, y))


def test_a_restored_surrogate_goes_on_bit_by_bit():
    x, y = problem()

    def new(model):
        return TargetSurrogate(
            model,
            InverseSqrt(0.5),
            inner=lambda p: torch.optim.Adam(p, lr=1e-2),
            inner_steps=3,
            metric=DiagonalAdaGrad(len(x), 1),
        )

    def run(surrogate, n):
        return [float(surrogate.step(x, functools.partial(squared, y), ids=torch.arange(40)).loss) for _ in range(n)]

    model = perceptron()
    surrogate = new(model)
    run(surrogate, 3)
    other = perceptron(seed=1)
    other.load_state_dict(model.state_dict())
    restored = new(other)
    restored.load_state_dict(copy.deepcopy(surrogate.state_dict()))  # torch's optimizers load references
    assert run(surrogate, 4) == run(restored, 4)
    assert restored.target_gradient_calls == 7


@pytest.mark.plain
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: TargetSurrogate(linear(), 0.0), ValueError, "step_size must be positive and finite, got 0.0"),
        (lambda: TargetSurrogate(linear(), 1.0, inner_steps=0), ValueError, "an integer of at least 1, got 0"),
        (lambda: TargetSurrogate(linear(), 1.0, inner_steps=2.5), ValueError, "an integer of at least 1, got 2.5"),
        (lambda: TargetSurrogate(linear(), "auto"), TypeError, "step_size must be a number or a rule, got 'auto'"),
        (lambda: TargetSurrogate(linear(), 1.0, inner="sgd"), TypeError, "that makes an optimizer, got 'sgd'"),
        (
            lambda: TargetSurrogate(torch.nn.utils.parametrizations.weight_norm(linear()), 1.0, inner="exact"),
            TypeError,
            "a weight and a bias that are not computed from others",
        ),
        (lambda: TargetSurrogate(frozen_bias(), 1.0, inner="exact"), TypeError, "learns all its parameters"),
        (
            lambda: TargetSurrogate(perceptron(), 1.0, inner="exact"),
            TypeError,
            "inner 'exact' needs a torch.nn.Linear, got Sequential",
        ),
        (
            lambda: TargetSurrogate(linear(), 1.0, inner="exact", regularizer=max),
            ValueError,
            "regularizer must be None with inner 'exact'",
        ),
        (lambda: TargetSurrogate(linear(), 1.0, tolerance=-1), ValueError, "tolerance must be finite and not negative"),
        (lambda: TargetArmijo(c=2.0), ValueError, "c must be in (0, 1), got 2.0"),
        (lambda: DiagonalAdaGrad(0, 1), ValueError, "num_examples and num_targets must be positive, got 0, 1"),
    ],
)
def test_options_out_of_range_are_named(make, error, message):
    with pytest.raises(error) as raised:
        make()
    assert message in str(raised.value)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("oracle", "message"),
    [
        (lambda z: torch.ones(len(z)), "a loss that depends on the targets, got one that does not"),
        (lambda z: z.sum(), "a loss per example, 40, got shape ()"),
        (lambda z: (z.sum(1), z[:3]), "a gradient of shape (40, 1), got (3, 1)"),
        (lambda z: (z.sum(1), z * float("nan")), "a finite gradient, got NaN or infinity"),
        (lambda z: 1.0, "or one of losses and one of gradients, got float"),
        (lambda z: (z.sum(1), z, z), "or one of losses and one of gradients, got tuple"),
    ],
)
def test_answers_of_the_oracle_that_cannot_be_used_are_named(oracle, message):
    x, _ = problem()
    with pytest.raises(ValueError, match="oracle must return") as error:
        TargetSurrogate(perceptron(), 0.5).step(x, oracle)
    assert message in str(error.value)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("kind", "rows", "message"), [(nn.LSTM, 4, "got tuple"), (nn.Linear, 0, r"got shape \(0, 2\)")]
)
def test_outputs_that_are_no_targets_are_named(kind, rows, message):
    with torch.random.fork_rng():
        model = kind(3, 2)
    with pytest.raises(ValueError, match=f"model must return a tensor, .* {message}"):
        TargetSurrogate(model, 0.5).step(torch.ones(rows, 3), lambda z: z.sum(1))


@pytest.mark.plain
def test_a_metric_of_examples_needs_their_indices():
    x, y = problem()
    with pytest.raises(ValueError, match="ids must be the indices"):
        TargetSurrogate(perceptron(), 0.5, metric=DiagonalAdaGrad(40, 1)).step(x, functools.partial(squared, y))


def test_under_autocast_every_inner_step_sees_its_own_weights():
    x, y = (t.float() for t in problem())
    found = []
    for outer in (True, False):
        model = perceptron().float()
        seen = []
        for layer in (model[0], model[2]):
            cast = layer.forward
            layer.forward = lambda z, cast=cast: torch.autocast("cpu", dtype=torch.bfloat16)(cast)(z)
        model.register_forward_hook(lambda _, __, output, seen=seen: seen.append(output.detach().float().clone()))
        surrogate = TargetSurrogate(model, 0.5, inner=lambda p: torch.optim.SGD(p, lr=0.05), inner_steps=6)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=outer):
            for _ in range(2):
                surrogate.step(x, functools.partial(squared, y))
        found.append(torch.stack(seen))
    assert torch.equal(*found)
    assert not torch.equal(found[0][0], found[0][1])


def test_a_surrogate_whose_gradient_is_not_finite_is_told_as_such():
    x, y = problem()
    for rate, finite in ((1e200, False), (1e-3, True)):
        inner = functools.partial(torch.optim.SGD, lr=rate)
        info = TargetSurrogate(perceptron(), 0.5, inner=inner, inner_steps=20).step(x, functools.partial(squared, y))
        assert info.finite == finite


@pytest.mark.parametrize("condition", [1e3, 1e5])
def test_in_float32_an_exact_solve_is_as_good_as_its_inputs(condition):
    rows = torch.randn(60, 6, generator=generator(), dtype=torch.float64)
    rows = (rows * torch.logspace(0, -torch.tensor(condition).log10(), 6, dtype=torch.float64)).float()
    wanted = torch.randn(60, 2, generator=generator(1), dtype=torch.float64).float()
    exact = torch.linalg.lstsq(rows.double(), wanted.double(), driver="gelsd").solution
    found = LeastSquares(rows)(wanted)
    assert ((found - exact).norm(dim=1) / exact.norm(dim=1)).max() < 1e-9


def test_columns_that_depend_on_others_but_for_rounding_count_as_dependent():
    rows = torch.randn(60, 3, generator=generator())
    rows = torch.cat([rows, rows[:, :1] / 3 + rows[:, 1:2] / 7], dim=1)
    wanted = torch.randn(60, 1, generator=generator(1))
    exact = torch.linalg.lstsq(rows.double(), wanted.double(), rcond=1e-7, driver="gelsd").solution
    torch.testing.assert_close(LeastSquares(rows)(wanted), exact, rtol=1e-9, atol=1e-12)
    assert exact.norm() < 10

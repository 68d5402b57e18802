"""Optimizers with proximal steps: trajectories, fixed points, states."""

import copy
import io
import math
import pickle

import numpy as np
import pytest
import torch
from sklearn.linear_model import ElasticNet, Lasso, LogisticRegression
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils._python_dispatch import TorchDispatchMode

from aleator.optim import (
    FISTA,
    LAMB,
    RDA,
    Pegasos,
    Proximal,
    ProximalSGD,
    ProxSVRG,
    RobbinsMonro,
    Sparsity,
    hessian_norm,
    lam_grid,
    lam_path,
    largest_lam,
    linear_smoothness,
    prox_average_,
    sklearn_alpha,
    sklearn_c,
    sparsity,
)
from aleator.optim import proximal as prox

D = torch.float64
LAM = 0.15


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=D)


class LassoProblem:
    """½ mean (y − Xw)² + λ‖w‖₁ with 40 examples of 8 features, three of which matter."""

    def __init__(self, lam=LAM):
        self.X = draw(40, 8, seed=1)
        truth = torch.tensor([2.0, -1.5, 1.0, 0, 0, 0, 0, 0], dtype=D)
        self.y = self.X @ truth + 0.1 * draw(40, seed=2)
        self.lam = lam
        self.w = torch.zeros(8, dtype=D, requires_grad=True)
        self.L = linear_smoothness(self.X, "half-squared", bias=False)

    def loss(self, rows=slice(None)):
        return (self.X[rows] @ self.w - self.y[rows]).square().mean() / 2

    def backward(self, optimizer, rows=slice(None)):
        optimizer.zero_grad()
        loss = self.loss(rows)
        loss.backward()
        return loss

    def gradient(self, w):
        return self.X.T @ (self.X @ w - self.y) / 40

    def solution(self):
        solver = Lasso(alpha=self.lam, fit_intercept=False, tol=1e-14, max_iter=100_000)
        return torch.from_numpy(solver.fit(self.X.numpy(), self.y.numpy()).coef_)


def soft(v, t):
    return v.sign() * (v.abs() - t).clamp(min=0)


@pytest.fixture
def lasso():
    return LassoProblem()


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)).double()


def linear(*shape):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(*shape).double()


def fit(model, optimizer, steps, seed=3):
    for step in range(steps):
        x = draw(16, 6, seed=seed * 1000 + step)
        optimizer.zero_grad()
        (model(x).square().mean() + model(x)[:, 0].mean()).backward()
        optimizer.step()


# --- trajectories


def test_ista_trajectory_is_the_papers(lasso):
    optimizer = ProximalSGD([lasso.w], lr=1 / lasso.L, prox=prox.L1(LAM))
    w = torch.zeros(8, dtype=D)
    for _ in range(30):
        lasso.backward(optimizer)
        optimizer.step()
        w = soft(w - lasso.gradient(w) / lasso.L, LAM / lasso.L)
        torch.testing.assert_close(lasso.w.detach(), w, rtol=0, atol=1e-12)


def test_stochastic_trajectory_with_falling_rate_is_that_of_the_formula(lasso):
    optimizer = ProximalSGD([lasso.w], lr=0.3, prox=prox.L1(LAM))
    schedule = RobbinsMonro(optimizer, c=0.2, a=0.75)
    w = torch.zeros(8, dtype=D)
    for t in range(40):
        rows = slice(t % 40, t % 40 + 1)
        lasso.backward(optimizer, rows)
        optimizer.step()
        schedule.step()
        x, y, rate = lasso.X[rows], lasso.y[rows], 0.3 / (1 + 0.2 * t) ** 0.75
        w = soft(w - rate * x.T @ (x @ w - y), rate * LAM)  # the same rate in both places
        torch.testing.assert_close(lasso.w.detach(), w, rtol=0, atol=1e-12)


@pytest.mark.parametrize("restart", [None, "gradient", "function"])
def test_fista_trajectory_is_the_papers(lasso, restart):
    optimizer = FISTA([lasso.w], lr=1 / lasso.L, prox=prox.L1(LAM), restart=restart)
    x = y = torch.zeros(8, dtype=D)
    t, restarts, best = 1.0, 0, math.inf
    for _ in range(35):
        optimizer.step(lambda: lasso.backward(optimizer))
        new = soft(y - lasso.gradient(y) / lasso.L, LAM / lasso.L)
        value = float((lasso.X @ new - lasso.y).square().mean() / 2 + LAM * new.abs().sum())
        if (restart == "gradient" and float((y - new) @ (new - x)) > 0) or (restart == "function" and value > best):
            t, restarts = 1.0, restarts + 1
        best = value
        following = (1 + math.sqrt(1 + 4 * t * t)) / 2
        y = new + (t - 1) / following * (new - x)
        x, t = new, following
        torch.testing.assert_close(lasso.w.detach(), x, rtol=0, atol=1e-12)
    assert (restarts > 0) == (restart is not None)


def test_rda_trajectory_is_that_of_the_formula(lasso):
    optimizer = RDA([lasso.w], gamma=2.0, lam=0.4)
    gradients, w = [], torch.zeros(8, dtype=D)
    for t in range(1, 30):
        rows = slice(t, t + 1)
        lasso.backward(optimizer, rows)
        optimizer.step()
        gradients.append(lasso.X[rows].T @ (lasso.X[rows] @ w - lasso.y[rows]))
        mean = torch.stack(gradients).mean(0)
        w = -math.sqrt(t) / 2.0 * soft(mean, 0.4)
        torch.testing.assert_close(lasso.w.detach(), w, rtol=0, atol=1e-12)
    assert (w == 0).any()
    assert not torch.signbit(lasso.w[lasso.w == 0]).any()


def test_pegasos_trajectory_is_the_papers():
    lam, w = 0.3, torch.zeros(4, dtype=D, requires_grad=True)
    optimizer, ours = Pegasos([w], lam), torch.zeros(4, dtype=D)
    projected = 0
    for t in range(1, 30):
        x = 2 * draw(4, seed=t)
        y = float(x[0].sign())
        optimizer.zero_grad()
        (1 - y * (w @ x)).clamp(min=0).backward()
        optimizer.step()
        inside = float(y * (ours @ x) < 1)
        ours = (1 - 1 / t) * ours + inside * y * x / (lam * t)
        norm = float(ours.norm())
        projected += norm > 1 / math.sqrt(lam)
        ours = ours * min(1.0, 1 / math.sqrt(lam) / norm)
        torch.testing.assert_close(w.detach(), ours, rtol=0, atol=1e-12)
    assert projected


def test_svrg_trajectory_is_the_papers(lasso):
    rate = 0.2
    optimizer, w = ProxSVRG([lasso.w], rate, prox.L1(LAM)), torch.zeros(8, dtype=D)
    for _ in range(3):
        optimizer.snapshot(lambda: lasso.backward(optimizer))
        at, mean = w.clone(), lasso.gradient(w)
        for start in range(0, 40, 8):
            rows = slice(start, start + 8)
            loss = optimizer.step(lambda rows=rows: lasso.backward(optimizer, rows))
            x, y = lasso.X[rows], lasso.y[rows]
            assert float(loss.detach()) == pytest.approx(float((x @ w - y).square().mean() / 2))
            direction = x.T @ (x @ w - y) / 8 - x.T @ (x @ at - y) / 8 + mean
            w = soft(w - rate * direction, rate * LAM)
            torch.testing.assert_close(lasso.w.detach(), w, rtol=0, atol=1e-12)
            torch.testing.assert_close(lasso.w.grad, direction, rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [
    {}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    {"momentum": 0.5, "dampening": 0.3}, {"weight_decay": 0.1},
])  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, D])
@pytest.mark.parametrize("foreach", [None, True, False])
def test_without_a_penalty_it_is_torchs_sgd_bit_for_bit(options, dtype, foreach):
    ours, theirs = network().to(dtype), network().to(dtype)
    one = ProximalSGD(ours.parameters(), lr=0.05, foreach=foreach, **options)
    other = torch.optim.SGD(theirs.parameters(), lr=0.05, foreach=foreach, **options)
    ours[3].bias.requires_grad_(False)
    theirs[3].bias.requires_grad_(False)
    for model, optimizer in ((ours, one), (theirs, other)):
        for step in range(6):
            if step == 3:
                model[3].bias.requires_grad_(True)  # a buffer that begins later than the others
            optimizer.zero_grad()
            model(draw(16, 6, seed=step).to(dtype)).square().mean().backward()
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


# --- fixed points


@pytest.mark.parametrize("options", [
    {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {"momentum": 0.8, "dampening": 0.5}, {}, {"dampening": 0.5},
])  # fmt: skip
def test_the_fixed_point_with_momentum_is_the_regularised_optimum(lasso, options):
    optimizer = ProximalSGD([lasso.w], lr=0.05 / lasso.L, prox=prox.L1(LAM), **options)
    for _ in range(4000):
        lasso.backward(optimizer)
        optimizer.step()
    torch.testing.assert_close(lasso.w.detach(), lasso.solution(), rtol=0, atol=1e-9)
    lasso.backward(optimizer)
    assert float(optimizer.proximal_gradient_norm()) < 1e-9


def test_the_unscaled_threshold_has_another_fixed_point(lasso):
    optimizer = ProximalSGD([lasso.w], lr=0.05, momentum=0.9, prox=prox.L1(LAM), prox_scale="lr")
    for _ in range(2000):
        lasso.backward(optimizer)
        optimizer.step()
    weaker = LassoProblem(LAM / 10).solution()  # a penalty 1 − β times as strong
    torch.testing.assert_close(lasso.w.detach(), weaker, rtol=0, atol=1e-8)
    assert float((lasso.w.detach() - lasso.solution()).abs().max()) > 0.05


@pytest.mark.parametrize("make", [
    lambda w: torch.optim.Adam([("w", w)], lr=0.01),
    lambda w: torch.optim.Adam([("w", w)], lr=0.01, amsgrad=True),
    lambda w: torch.optim.RMSprop([("w", w)], lr=0.003),
    lambda w: torch.optim.RMSprop([("w", w)], lr=0.003, momentum=0.5),
    lambda w: torch.optim.Adagrad([("w", w)], lr=0.3, lr_decay=1e-3),
    lambda w: torch.optim.SGD([("w", w)], lr=0.1, momentum=0.5),
], ids=["adam", "amsgrad", "rmsprop", "rmsprop-momentum", "adagrad", "sgd"])  # fmt: skip
def test_around_an_adaptive_optimizer_the_fixed_point_is_the_regularised_optimum(lasso, make):
    optimizer = Proximal(make(lasso.w), {"w": prox.L1(LAM)})
    for step in range(3000):
        if step == 2000:
            optimizer.param_groups[0]["lr"] /= 10
        lasso.backward(optimizer)
        optimizer.step()
    solution = lasso.solution()
    torch.testing.assert_close(lasso.w.detach(), solution, rtol=0, atol=1e-5)
    assert torch.equal(lasso.w.detach() == 0, solution == 0)


def test_the_metric_is_what_the_step_was_divided_by():
    # x_new = prox in D of x_old − D⁻¹ d: with a step of the base alone beside it, D is known from outside.
    for make in (
        lambda p: torch.optim.Adam([("w", p)], lr=0.02, betas=(0.0, 0.9)),
        lambda p: torch.optim.AdamW([("w", p)], lr=0.02, betas=(0.0, 0.9), weight_decay=0.1),
        lambda p: torch.optim.RMSprop([("w", p)], lr=0.02, centered=True, alpha=0.5),
        lambda p: torch.optim.Adagrad([("w", p)], lr=0.02, lr_decay=0.1),
    ):
        plain, both = draw(5, seed=4).requires_grad_(), draw(5, seed=4).requires_grad_()
        base, optimizer = make(plain), Proximal(make(both), {"w": prox.L1(0.3)})
        decay = 1 - 0.02 * base.param_groups[0]["weight_decay"] if isinstance(base, torch.optim.AdamW) else 1.0
        for step in range(4):
            gradient = draw(5, seed=step)
            before = plain.detach().clone()
            start = both.detach().clone()
            plain.grad, both.grad = gradient.clone(), gradient.clone()
            base.step()
            optimizer.step()
            per_gradient = (decay * before - plain.detach()) / gradient  # 1/D
            expected = soft(decay * start - per_gradient * gradient, 0.3 * per_gradient)
            torch.testing.assert_close(both.detach(), expected, rtol=0, atol=1e-12)


def test_the_euclidean_point_after_adam_solves_another_problem(lasso):
    optimizer = Proximal(torch.optim.Adam([("w", lasso.w)], lr=0.003), {"w": prox.L1(LAM)}, metric="euclidean")
    for _ in range(3000):
        lasso.backward(optimizer)
        optimizer.step()
    assert float((lasso.w.detach() - lasso.solution()).abs().max()) > 0.05


@pytest.mark.parametrize("solver", ["fista", "fista-gradient", "svrg", "rda"])
def test_solvers_reach_the_support_of_coordinate_descent(lasso, solver):
    if solver.startswith("fista"):
        restart = "gradient" if "-" in solver else None
        optimizer = FISTA([lasso.w], 1 / lasso.L, prox.L1(LAM), restart=restart)
        assert optimizer.minimize(lambda: lasso.backward(optimizer), tolerance=1e-10)
    elif solver == "svrg":
        optimizer = ProxSVRG([lasso.w], 0.5 / lasso.L, prox.L1(LAM))
        for _ in range(60):
            optimizer.snapshot(lambda: lasso.backward(optimizer))
            if float(optimizer.proximal_gradient_norm()) < 1e-10:
                break
            for start in range(0, 40, 8):
                optimizer.step(lambda start=start: lasso.backward(optimizer, slice(start, start + 8)))
        assert float(optimizer.proximal_gradient_norm()) < 1e-10
    else:
        optimizer = RDA([lasso.w], gamma=0.5, lam=LAM)
        for _ in range(4000):
            lasso.backward(optimizer)
            optimizer.step()
    solution = lasso.solution()
    torch.testing.assert_close(lasso.w.detach(), solution, rtol=0, atol=0.02 if solver == "rda" else 1e-9)
    assert torch.equal(lasso.w.detach() == 0, solution == 0)
    assert 0 < int((solution == 0).sum()) < 8


# --- which parameter has which operator


def test_each_parameter_gets_its_own_operator():
    # A list of operators made with closures over the loop variable gives all parameters the last one.
    model = network()
    operators = {"0.weight": prox.L1(0.3), "0.bias": prox.NonNegative(), "3.weight": prox.GroupLasso(0.2)}
    optimizer = Proximal(
        torch.optim.SGD(model.named_parameters(), lr=0.5), {f"^{name}$": op for name, op in operators.items()}
    )
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in model.named_parameters():
        expected = operators[name](before[name], 0.5) if name in operators else before[name]
        assert torch.equal(p.detach(), expected), name
    groups = [{"params": [p], "prox": operators.get(name)} for name, p in network().named_parameters()]
    optimizer = ProximalSGD(groups, lr=0.5)
    for group in groups:
        group["params"][0].grad = torch.zeros_like(group["params"][0])
    optimizer.step()
    for group, (name, p) in zip(groups, model.named_parameters(), strict=True):
        assert torch.equal(group["params"][0].detach(), p.detach()), name


@pytest.mark.parametrize("lr", [0.01, 1.0, 7.0])
def test_the_operator_is_called_with_the_learning_rate_and_not_with_one(lr):
    v = draw(3, 4, seed=5)
    for make in (
        lambda w: ProximalSGD([w], lr=lr, prox=prox.L1(0.1)),
        lambda w: Proximal(torch.optim.SGD([("w", w)], lr=lr), {"w": prox.L1(0.1)}),
    ):
        w = v.clone().requires_grad_()
        optimizer = make(w)
        w.grad = torch.zeros_like(w)
        optimizer.step()
        torch.testing.assert_close(w.detach(), soft(v, lr * 0.1), rtol=0, atol=1e-15)


def test_biases_and_normalisation_are_penalised_only_if_asked_for():
    big = prox.L1(1e6)
    for make, kept in (
        (lambda m: ProximalSGD(m.parameters(), lr=0.1, prox=big), {"0.bias", "1.weight", "1.bias", "3.bias"}),
        (lambda m: ProximalSGD(m.parameters(), lr=0.1, prox=big, apply_to="all"), set()),
        (lambda m: ProximalSGD([{"params": m.parameters(), "prox": big}], lr=0.1), set()),
        (lambda m: ProxSVRG(m.parameters(), 0.1, big), {"0.bias", "1.weight", "1.bias", "3.bias"}),
    ):
        model = network()
        with torch.no_grad():
            for p in model.parameters():
                p.add_(1.0)
        optimizer = make(model)
        if isinstance(optimizer, ProxSVRG):
            optimizer.snapshot(lambda m=model: m(draw(8, 6)).square().mean().backward())
            optimizer.step(lambda m=model: m(draw(8, 6)).square().mean().backward())
        else:
            fit(model, optimizer, 1)
        assert {name for name, p in model.named_parameters() if bool((p != 0).all())} == kept


def test_parameters_without_a_gradient_stay():
    model = network()
    optimizer = ProximalSGD(model.parameters(), lr=0.1, prox=prox.L1(10.0))
    before = [p.detach().clone() for p in model.parameters()]
    optimizer.step()
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


def test_accumulated_gradients_make_one_proximal_step():
    whole, pieces = network(), network()
    x = draw(16, 6)
    for model, parts in ((whole, [x]), (pieces, [x, x])):
        optimizer = ProximalSGD(model.parameters(), lr=0.1, momentum=0.9, prox=prox.L1(0.01))
        model.eval()
        for part in parts:
            (model(part).square().mean() / len(parts)).backward()
        optimizer.step()
    for a, b in zip(whole.parameters(), pieces.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-14)


def test_a_rate_of_zero_moves_nothing_not_even_by_projection():
    for lr in (0.0, torch.tensor(0.0, dtype=D)):
        w = draw(3, 4, seed=6).requires_grad_()
        before = w.detach().clone()
        optimizer = ProximalSGD([w], lr=lr, prox=prox.MaxNorm(0.1))
        w.grad = torch.ones_like(w)
        optimizer.step()
        assert torch.equal(w.detach(), before)


def test_a_step_that_the_gradient_scaler_skips_has_no_proximal_step():
    w = torch.ones(3, 3, requires_grad=True)
    for optimizer in (
        ProximalSGD([w], lr=0.1, prox=prox.L1(1.0)),
        Proximal(torch.optim.AdamW([("w", w)], lr=0.1), {"w": prox.L1(1.0)}),
    ):
        scaler = torch.amp.GradScaler("cpu")
        scaler.scale((w * math.inf).sum()).backward()
        before = w.detach().clone()
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(w.detach(), before)
        optimizer.zero_grad()


def test_hooks_run_once_in_a_step_and_closures_are_called_once():
    torch.optim.SGD([torch.zeros(1, requires_grad=True)])  # patches the class's own step
    for make in (
        lambda m: ProximalSGD(m.parameters(), lr=0.1, prox=prox.L1(0.1)),
        lambda m: Proximal(torch.optim.SGD(m.named_parameters(), lr=0.1), {"weight": prox.L1(0.1)}),
    ):
        model = network()
        optimizer, calls = make(model), []
        optimizer.register_step_pre_hook(lambda *_, calls=calls: calls.append("pre"))
        optimizer.register_step_post_hook(lambda *_, calls=calls: calls.append("post"))

        def closure(model=model, calls=calls):
            calls.append("closure")
            loss = model(draw(8, 6)).square().mean()
            loss.backward()
            return loss

        assert float(optimizer.step(closure)) > 0
        assert calls == ["pre", "closure", "post"]


class _Watch(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.waited = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.waited += "_local_scalar_dense" in str(func) or "nonzero" in str(func)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("make", [
    lambda m: ProximalSGD(m.parameters(), lr=0.1, momentum=0.9, prox=prox.L1(0.1)),
    lambda m: ProximalSGD(m.parameters(), lr=0.1, prox=prox.GroupLasso(0.1)),
    lambda m: Proximal(torch.optim.SGD(m.named_parameters(), lr=0.1), {"weight": prox.LInfNorm(0.1)}),
])  # fmt: skip
def test_a_step_does_not_wait_for_the_device(make):
    model = network()
    optimizer = make(model)
    fit(model, optimizer, 1)
    with _Watch() as watch:
        optimizer.step()
    assert watch.waited == 0


# --- saving


OPTIMIZERS = {
    "sgd": lambda m: ProximalSGD(m.named_parameters(), lr=0.05, momentum=0.9, prox=prox.L1(1e-2)),
    "adamw": lambda m: Proximal(torch.optim.AdamW(m.named_parameters(), lr=0.01), {"weight": prox.L1(1e-2)}),
    "svrg": lambda m: ProxSVRG(m.named_parameters(), 0.05, prox.L1(1e-2)),
    "fista": lambda m: FISTA(m.named_parameters(), 0.05, prox.L1(1e-2)),
    "rda": lambda m: RDA(m.named_parameters(), gamma=5.0, lam=1e-2),
    "pegasos": lambda m: Pegasos(m.named_parameters(), lam=0.5),
}


def linear_pair(order):
    model = nn.ModuleDict({name: nn.Linear(4, 4, bias=False).double() for name in order})
    for name, layer in model.items():
        nn.init.zeros_(layer.weight)
        layer.weight.requires_grad_(True)
        layer.weight.name_ = name
    return model


def train_pair(model, optimizer, first, last):
    def closure(step):
        optimizer.zero_grad()
        x = draw(8, 4, seed=step)
        loss = (model["a"](x) - x).square().mean() + (model["b"](x) + 2 * x.flip(1)).square().mean()
        loss.backward()
        return loss

    for step in range(first, last):
        if isinstance(optimizer, ProxSVRG):
            if step % 3 == 0:
                optimizer.snapshot(lambda: closure(99))
            optimizer.step(lambda step=step: closure(step))
        elif isinstance(optimizer, FISTA):
            optimizer.step(lambda: closure(99))
        else:
            closure(step)
            optimizer.step()
    return {name: layer.weight.detach().clone() for name, layer in model.items()}


def make_pair(order):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return linear_pair(order)


@pytest.mark.parametrize("order", ["ab", "ba"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_saved_state_goes_on_by_name_and_not_by_place(name, order):
    straight = make_pair("ab")
    expected = train_pair(straight, OPTIMIZERS[name](straight), 0, 8)
    first = make_pair("ab")
    optimizer = OPTIMIZERS[name](first)
    train_pair(first, optimizer, 0, 4)
    file = io.BytesIO()
    torch.save({"model": first.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)  # no operator in it
    second = make_pair(order)
    second.load_state_dict(saved["model"])
    other = OPTIMIZERS[name](second)
    other.load_state_dict(saved["optimizer"])
    found = train_pair(second, other, 4, 8)
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_copies_go_on_alike_and_apart(name, copied):
    model = make_pair("ab")
    optimizer = OPTIMIZERS[name](model)
    train_pair(model, optimizer, 0, 4)
    other_model, other = copied((model, optimizer))
    expected = train_pair(model, optimizer, 4, 8)
    found = train_pair(other_model, other, 4, 8)
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_a_state_of_other_names_is_refused():
    model, other = make_pair("ab"), make_pair("ac")
    optimizer = OPTIMIZERS["sgd"](model)
    with pytest.raises(ValueError, match=r"param_names of group 0 must match a group .* no c\.weight"):
        OPTIMIZERS["sgd"](other).load_state_dict(optimizer.state_dict())


def test_a_state_of_another_shape_is_refused():
    def momentum(shape):
        w = torch.zeros(shape, requires_grad=True)
        w.grad = torch.ones(shape)
        optimizer = ProximalSGD([w], momentum=0.9)
        optimizer.step()
        return optimizer

    with pytest.raises(ValueError, match=r"momentum_buffer of parameter 0\.0 must have its shape \(3, 4\)"):
        momentum((3, 4)).load_state_dict(momentum((4, 3)).state_dict())


@pytest.mark.plain
@pytest.mark.parametrize("make", [
    lambda named: ProximalSGD(named, lr=torch.tensor(0.1, dtype=D), momentum=0.9, prox=prox.L1(0.1)),
    lambda named: ProximalSGD(named, lr=torch.tensor(0.1, dtype=D), prox=prox.MaxNorm(0.5)),
    lambda named: Proximal(torch.optim.SGD(named, lr=0.1), {"[01]": prox.GroupLasso(0.1)}),
])  # fmt: skip
def test_a_compiled_step_equals_a_plain_one(make):
    found = []
    for compiled in (True, False):
        named = [(str(i), draw(*shape, seed=i).requires_grad_()) for i, shape in enumerate([(4, 3), (5, 2), (3,)])]
        optimizer = make(named)
        torch.compiler.reset()
        step = torch.compile(optimizer.step, backend="aot_eager") if compiled else optimizer.step
        for number in range(3):
            for i, (_, w) in enumerate(named):
                w.grad = draw(*w.shape, seed=10 * number + i)
            step()
        found.append([w.detach() for _, w in named])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def test_loading_does_not_tie_two_optimizers_together():
    model = make_pair("ab")
    optimizer = OPTIMIZERS["rda"](model)
    train_pair(model, optimizer, 0, 3)
    state = optimizer.state_dict()
    other = OPTIMIZERS["rda"](make_pair("ab"))
    other.load_state_dict(state)
    mean = other.state[other.param_groups[0]["params"][0]]["mean_gradient"].clone()
    train_pair(model, optimizer, 3, 6)
    assert torch.equal(other.state[other.param_groups[0]["params"][0]]["mean_gradient"], mean)


def test_a_group_that_is_refused_leaves_no_trace_and_one_that_joins_is_stepped():
    model = network()
    base = torch.optim.AdamW(list(model.parameters())[:2], lr=0.1)
    optimizer = Proximal(base, {r"0\.weight": prox.L1(1e6)}, model.named_parameters())
    with pytest.raises(ValueError, match="named_parameters must have every parameter"):
        optimizer.add_param_group({"params": [torch.zeros(2, 2, requires_grad=True)]})
    assert len(base.param_groups) == len(optimizer.param_groups) == 1
    optimizer = Proximal(base, {"weight": prox.L1(1e6)}, model.named_parameters())
    optimizer.add_param_group({"params": [model[3].weight]})
    fit(model, optimizer, 1)
    assert (model[3].weight == 0).all()
    assert len(base.param_groups) == 2


# --- svrg on models with noise of their own


def test_both_passes_of_a_step_draw_the_same_and_count_once():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1)).double()
        optimizer = ProxSVRG(model.parameters(), 0.1, prox.L1(1e-3), model=model)
        x, plain = draw(16, 6), copy.deepcopy(model)

        def closure():
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            return loss

        optimizer.snapshot(closure)
        mean = [optimizer.state[p]["mean_gradient"].clone() for p in model.parameters()]
        plain.load_state_dict(model.state_dict())
        torch.manual_seed(1)
        optimizer.step(closure)
        after = torch.get_rng_state()
        torch.manual_seed(1)
        plain(x)
        assert torch.equal(torch.get_rng_state(), after)
        assert int(model[1].num_batches_tracked) == int(plain[1].num_batches_tracked)
        torch.testing.assert_close(model[1].running_mean, plain[1].running_mean)
        # x is still the snapshot: with the same masks both gradients of the batch cancel.
        for p, value in zip(model.parameters(), mean, strict=True):
            torch.testing.assert_close(p.grad, value, rtol=0, atol=1e-14)


def test_under_autocast_the_snapshots_gradient_is_that_of_the_snapshot():
    weight = torch.ones(4, 4, requires_grad=True)
    optimizer, x = ProxSVRG([weight], 0.1, None), torch.randn(8, 4, generator=torch.Generator().manual_seed(0))

    def closure():
        optimizer.zero_grad()
        loss = (x @ weight).float().square().mean()
        loss.backward()
        return loss

    with torch.autocast("cpu", torch.bfloat16):
        optimizer.snapshot(closure)
        mean = weight.grad.clone()
        weight.data.mul_(3.0)
        optimizer.step(closure)
    torch.testing.assert_close(weight.grad, 3 * mean, rtol=0.05, atol=0.02)  # 3 g − g + g


# --- rules, averages, paths, reports


def test_smoothness_bounds_curvature_and_is_attained():
    x = draw(50, 4, seed=7)
    for loss, value in (
        ("half-squared", lambda z: z.square().mean() / 2),
        ("squared", lambda z: z.square().mean()),
        ("logistic", lambda z: nn.functional.softplus(z).mean()),
    ):
        w = torch.zeros(4, dtype=D, requires_grad=True)
        bound = linear_smoothness(x, loss, bias=False)
        found = hessian_norm(lambda w=w, f=value: f(x @ w), [w], torch.Generator().manual_seed(0), 200)
        assert found == pytest.approx(bound, rel=1e-6), loss  # logistic: its curvature is largest at 0
    model = linear(4, 2)
    found = hessian_norm(
        lambda: nn.functional.cross_entropy(model(x) * 0 + model(x), torch.zeros(50, dtype=torch.long)),
        model.parameters(), torch.Generator().manual_seed(0), 200,
    )  # fmt: skip
    assert 0.2 * linear_smoothness(x, "cross-entropy") < found <= linear_smoothness(x, "cross-entropy") * (1 + 1e-9)


def test_the_average_has_no_zeros_until_the_operator_gives_them_back():
    model = linear(4, 2)
    optimizer = ProximalSGD(model.parameters(), lr=0.1, prox=prox.L1(1.0))
    average = AveragedModel(model)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.0, 0.1, 3.0, 0.0], [0.2, 0.0, 0.0, -3.0]]))
        average.update_parameters(model)
        model.weight.copy_(torch.tensor([[0.1, 0.0, 3.0, 0.0], [0.0, 0.0, 0.1, -3.0]]))
        average.update_parameters(model)
    assert int((average.module.weight == 0).sum()) == 2
    bias = average.module.bias.clone()
    prox_average_(average, model, optimizer)
    expected = torch.tensor([[0.0, 0.0, 2.9, 0.0], [0.0, 0.0, 0.0, -2.9]], dtype=D)
    torch.testing.assert_close(average.module.weight.detach(), expected)
    assert torch.equal(average.module.bias, bias)


def test_a_path_starts_at_zero_and_equals_scikit_learns(lasso):
    lasso.loss().backward()
    largest = largest_lam([lasso.w.grad])
    lams = lam_grid(largest, 6, ratio=1e-2)
    assert lams[-1] == pytest.approx(largest / 100)
    steps = []

    def solve(lam):
        optimizer = FISTA([lasso.w], 1 / lasso.L, prox.L1(lam), restart="gradient")
        assert optimizer.minimize(lambda: lasso.backward(optimizer), tolerance=1e-11, check_every=1)
        steps.append(lam)
        return lam

    points = lam_path([("w", lasso.w)], solve, lams)
    assert points[0].zeros == 1.0
    assert points[1].zeros < 1.0
    for point in points:
        assert torch.equal(point.weights["w"] == 0, LassoProblem(point.lam).solution() == 0)
        torch.testing.assert_close(point.weights["w"], LassoProblem(point.lam).solution(), rtol=0, atol=1e-8)
    assert [point.result for point in points] == steps == lams


def test_conversions_give_scikit_learn_the_same_problem():
    x, truth = draw(60, 5, seed=8), torch.tensor([1.0, -2.0, 0.0, 0.5, 0.0], dtype=D)
    y = x @ truth + 0.3 * draw(60, seed=9)
    for loss, half in (("squared", 1.0), ("half-squared", 0.5)):
        penalty = prox.ElasticNet(l1=0.2, l2=0.3)
        w = torch.zeros(5, dtype=D, requires_grad=True)
        optimizer = FISTA([w], 0.5 / linear_smoothness(x, loss, bias=False), penalty, restart="gradient")

        def closure(w=w, optimizer=optimizer, half=half):
            optimizer.zero_grad()
            value = half * (x @ w - y).square().mean()
            value.backward()
            return value

        assert optimizer.minimize(closure, 1e-10)
        theirs = ElasticNet(**sklearn_alpha(penalty, loss), fit_intercept=False, tol=1e-12).fit(x.numpy(), y.numpy())
        np.testing.assert_allclose(w.detach().numpy(), theirs.coef_, atol=1e-6)
    labels = (y > 0).long()
    penalty, model = prox.L1(0.02), linear(5, 2)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    optimizer = FISTA(model.parameters(), 1 / linear_smoothness(x, "cross-entropy"), penalty, restart="gradient")

    def closure():
        optimizer.zero_grad()
        value = nn.functional.binary_cross_entropy_with_logits(model(x)[:, 1], labels.double())
        value.backward()
        return value

    assert optimizer.minimize(closure, 1e-9)
    theirs = LogisticRegression(solver="saga", **sklearn_c(penalty, 60), tol=1e-10, max_iter=100_000)
    theirs.fit(x.numpy(), labels.numpy())
    np.testing.assert_allclose(model.weight[1].detach().numpy(), theirs.coef_[0], atol=1e-5)


def test_sparsity_counts_entries_and_slices():
    weight = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 2.0]])
    found = sparsity([("w", weight), ("b", torch.zeros(2)), ("s", torch.tensor(1.0))])
    assert found == {"w": Sparsity(4, 6, 1, 2), "b": Sparsity(2, 2, 2, 2), "s": Sparsity(0, 1, 0, 1)}
    together = sum(found.values(), Sparsity(0, 0, 0, 0))
    assert together.share == pytest.approx(6 / 9)
    assert together.share_of_slices == pytest.approx(3 / 5)
    by_columns = sparsity([("w", weight), ("b", torch.tensor([0.0, 1.0]))], dim=1)
    assert by_columns["w"].zero_slices == 1
    assert by_columns["b"] == Sparsity(1, 2, 1, 2)


def test_penalty_and_gradient_norm_are_those_of_the_objective():
    model = network()
    optimizer = ProximalSGD(model.parameters(), lr=0.1, weight_decay=0.2, prox=prox.L1(0.3))
    expected = 0.3 * sum(float(p.detach().abs().sum()) for p in model.parameters() if p.ndim > 1)
    assert float(optimizer.penalty()) == pytest.approx(expected)
    model(draw(16, 6)).square().mean().backward()
    squares = 0.0
    for p in model.parameters():
        moved = p.detach() - 0.5 * (p.grad + 0.2 * p.detach())
        moved = soft(moved, 0.15) if p.ndim > 1 else moved
        squares += float((p.detach() - moved).square().sum())
    assert float(optimizer.proximal_gradient_norm(0.5)) == pytest.approx(math.sqrt(squares) / 0.5)


# --- bad input


def _svrg_without_snapshot():
    ProxSVRG([torch.zeros(1, requires_grad=True)], 0.1).step(lambda: None)


def _rda_from_elsewhere():
    w = torch.ones(2, requires_grad=True)
    optimizer = RDA([w], gamma=1.0, lam=0.1)
    w.grad = torch.ones(2)
    optimizer.step()


def _sparse_gradient():
    w = torch.zeros(3, requires_grad=True)
    optimizer = ProximalSGD([w], lr=0.1, prox=prox.L1(0.1))
    w.grad = torch.zeros(3).to_sparse()
    optimizer.step()


def _named(cls=torch.optim.SGD, **options):
    return cls(network().named_parameters(), lr=0.1, **options)


W = [torch.zeros(2, 2, requires_grad=True)]
HALF = [torch.zeros(2, 2, dtype=torch.bfloat16, requires_grad=True)]


@pytest.mark.plain
@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: ProximalSGD(W, lr=-0.1), ValueError, "lr must not be negative, got -0.1"),
    (lambda: ProximalSGD(W, momentum=1.0), ValueError, r"momentum must be in \[0, 1\), got 1.0"),
    (lambda: ProximalSGD(W, nesterov=True), ValueError, "nesterov must be False without momentum"),
    (lambda: ProximalSGD(W, prox=0.1), TypeError, "prox must be an operator .* or None, got 0.1"),
    (lambda: ProximalSGD(W, prox_scale="x"), ValueError, "prox_scale must be 'effective' or 'lr', got 'x'"),
    (lambda: ProximalSGD(W, apply_to="x"), ValueError, "apply_to must be 'all', 'matrices' or None, got 'x'"),
    (lambda: ProximalSGD(W, weight_decay=0.1, prox=prox.Ridge(0.1)), ValueError, "weight_decay must be 0 with Ridge"),
    (lambda: ProximalSGD(HALF, prox=prox.L1(0.1)), ValueError, "must be float32 or float64, got torch.bfloat16"),
    (lambda: Proximal(_named(), {"absent": prox.L1(1.0)}), ValueError, "found in a name, got 'absent' for: 0.w"),
    (lambda: Proximal(_named(), {"0": prox.L1(1.0), "wei": prox.L1(1.0)}), ValueError, "got '0', 'wei' for 0.weight"),
    (lambda: Proximal(_named(), {"0": 0.1}), TypeError, "prox must map patterns to operators, got 0.1 for '0'"),
    (lambda: Proximal(torch.optim.SGD(W, lr=0.1), {"0": prox.L1(1.0)}), ValueError, "named_parameters must be given"),
    (lambda: Proximal(_named(torch.optim.NAdam), {"0": prox.L1(1.0)}), ValueError, "must be 'euclidean' for NAdam"),
    (lambda: Proximal(_named(torch.optim.Adam), {"w": prox.Nuclear(1.0)}), ValueError, "'euclidean' for Nuclear"),
    (lambda: Proximal(ProximalSGD(W), {"0": prox.L1(1.0)}), ValueError, "base must have no proximal step itself"),
    (lambda: Proximal(_named(torch.optim.AdamW), {"0.w": prox.Ridge(1.0)}), ValueError, "must be 0 with Ridge"),
    (lambda: FISTA(W, lr=0.0), ValueError, "lr must be positive and finite, got 0.0"),
    (lambda: FISTA(W, lr=0.1, restart="x"), ValueError, "restart must be 'gradient', 'function' or None, got 'x'"),
    (lambda: RDA(W, gamma=0.0, lam=0.1), ValueError, "gamma must be positive and finite, got 0.0"),
    (lambda: RDA(W, gamma=1.0, lam=-0.1), ValueError, "lam must be finite and not negative, got -0.1"),
    (_rda_from_elsewhere, ValueError, r"parameters must be zero before the first step of RDA.*shape \(2,\)"),
    (_svrg_without_snapshot, RuntimeError, "snapshot must be called before the first step"),
    (_sparse_gradient, RuntimeError, "gradients must be dense, got one of layout torch.sparse_coo"),
    (lambda: Pegasos(W, lam=0.0), ValueError, "lam must be positive and finite, got 0.0"),
    (lambda: RobbinsMonro(torch.optim.SGD(W), a=0.5), ValueError, r"a must be in \(0.5, 1\], got 0.5"),
    (lambda: linear_smoothness(torch.ones(2, 2), "hinge"), ValueError, "loss must be one of squared.*got 'hinge'"),
    (lambda: lam_path([("w", W[0])], lambda lam: None, [0.1, 0.2]), ValueError, "lams must fall"),
    (lambda: sklearn_alpha(prox.L0(1.0)), ValueError, "penalty must be L1 with a number, Ridge or ElasticNet"),
    (lambda: sklearn_c(prox.L1(1.0), 0), ValueError, "examples must be at least 1, got 0"),
    (lambda: ProximalSGD([torch.zeros(2, dtype=torch.complex64, requires_grad=True)]), TypeError, "must be real"),
])  # fmt: skip
def test_bad_input_is_one_line(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_it_goes_around_the_optimizers_of_the_house():
    model = network()
    base = LAMB(model.named_parameters(), lr=0.01, adapt="decayed")
    optimizer = Proximal(base, {r"0\.weight": prox.GroupLasso(0.5)}, metric="euclidean")
    fit(model, optimizer, 30)
    assert bool((model[0].weight == 0).all(1).any())
    assert set(base.trust_ratios()) == {name for name, _ in model.named_parameters()}


def test_a_gradient_in_another_order_of_memory_takes_the_same_steps():
    # torch's fused SGD for CPUs with momentum walks through memory, whatever the strides say.
    def stepped(order):
        w = torch.nn.Parameter(torch.ones(3, 4))
        optimizer = ProximalSGD([w], lr=0.1, momentum=0.9, prox=prox.L1(0.01))
        for step in range(3):
            w.grad = order((torch.arange(12.0) + step).view(4, 3).T)
            optimizer.step()
        return w.detach()

    torch.testing.assert_close(stepped(lambda g: g), stepped(torch.Tensor.contiguous), rtol=1e-6, atol=1e-7)

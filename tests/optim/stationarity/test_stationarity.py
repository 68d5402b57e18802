"""Tests of stationarity: the identity on a process whose law is known, and what schedules do with it."""

import copy
import io
import math
import pickle

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.linalg import solve_discrete_lyapunov
from torch import nn

from aleator.optim import SASA, DistanceTest, Pflug, Proximal, ProximalSGD, fluctuation_sides
from aleator.optim import proximal as prox

D = torch.float64


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=D)


class NoisyQuadratic:
    """g = H x + noise, with H diagonal: the stationary law of SGD with momentum solves a Lyapunov equation."""

    def __init__(self, start=0.0, seed=0, dim=4):
        self.curvature = torch.linspace(0.5, 2.0, dim, dtype=D)
        self.x = torch.full((dim,), float(start), dtype=D, requires_grad=True)
        self.noise = torch.Generator().manual_seed(seed)

    def backward(self):
        noise = torch.randn(self.x.shape, generator=self.noise, dtype=D)
        self.x.grad = self.curvature * self.x.detach() + noise


def run(problem, optimizer, steps):
    for _ in range(steps):
        problem.backward()
        optimizer.step()


# --- the identity


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_both_sides_are_equal_in_the_stationary_law(momentum):
    # State (x, d): d' = (1 − β)(h x + ξ) + β d, x' = x − γ d'. Its covariance solves S = A S Aᵀ + B Bᵀ.
    lr, h = 0.3, 1.7
    a = np.array([[1 - lr * (1 - momentum) * h, -lr * momentum], [(1 - momentum) * h, momentum]])
    b = np.array([[-lr * (1 - momentum)], [1 - momentum]])
    covariance = solve_discrete_lyapunov(a, b @ b.T)
    left = h * covariance[0, 0]  # E x g, with x before the step and noise that does not know it
    right = lr / 2 * (1 + momentum) / (1 - momentum) * covariance[1, 1]
    assert left == pytest.approx(right, rel=1e-12)
    # What the function computes on a long sample path of that process, within 5 standard errors.
    rng = np.random.default_rng(0)
    state, n = np.zeros(2), 40_000
    x, g, d = np.empty(n), np.empty(n), np.empty(n)
    for t in range(n):
        x[t] = state[0]
        g[t] = h * state[0] + rng.standard_normal()
        d[t] = (1 - momentum) * g[t] + momentum * state[1]
        state = np.array([state[0] - lr * d[t], d[t]])
    sides = fluctuation_sides(*(torch.from_numpy(v).unsqueeze(1) for v in (x, g, d)), lr, momentum)
    samples = x * g - lr / 2 * (1 + momentum) / (1 - momentum) * d**2
    error = samples.reshape(100, -1).mean(1).std(ddof=1) / 10
    assert float(sides[0] - sides[1]) == pytest.approx(samples.mean())
    assert abs(samples.mean()) < 5 * error
    assert float(sides[0]) == pytest.approx(left, rel=0.1)


@pytest.mark.parametrize("options", [
    {}, {"momentum": 0.9}, {"momentum": 0.9, "weight_decay": 0.2}, {"weight_decay": 0.2},
    {"momentum": 0.6, "dampening": 0.3}, {"momentum": 0.6, "dampening": 0.6, "maximize": True, "weight_decay": 0.1},
    {"dampening": 0.3},
])  # fmt: skip
def test_samples_are_those_of_the_identity_in_torchs_convention(options):
    weights = [draw(3, 2, seed=1).requires_grad_(), draw(4, seed=2).requires_grad_()]
    lr = 0.07
    optimizer = torch.optim.SGD(weights, lr=lr, **options)
    schedule = SASA(optimizer, check_every=1000)
    beta = options.get("momentum", 0.0)
    dampening = options.get("dampening", 0.0) if beta else 0.0  # torch has none without momentum
    d, expected = None, []
    for step in range(5):
        gradients = [draw(*w.shape, seed=10 * step + i) for i, w in enumerate(weights)]
        x = torch.cat([w.detach().flatten().clone() for w in weights])
        sign = -1.0 if options.get("maximize") else 1.0
        g = sign * torch.cat([g.flatten() for g in gradients]) + options.get("weight_decay", 0.0) * x
        # torch's first buffer is g itself, which is d/(1 − β) only from then on.
        first = g * (1 - beta) / (1 - dampening)
        d = first if d is None else (1 - beta) * g + beta * d
        rate = lr * (1 - dampening) / (1 - beta)
        left, right = fluctuation_sides(x, g, d, rate, beta)
        expected.append(float(left - right))
        for w, gradient in zip(weights, gradients, strict=True):
            w.grad = gradient
        optimizer.step()
    np.testing.assert_allclose(schedule.samples.numpy(), expected, rtol=1e-12)


def test_the_interval_is_that_of_twenty_batch_means_of_the_last_half():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    schedule = SASA(optimizer, check_every=100)
    values = draw(130, seed=3) + 0.2
    schedule.samples = values
    means = values[130 - 60 :].view(20, 3).mean(1).numpy()  # 65 samples are 20 batches of 3
    expected = stats.t.interval(0.95, 19, means.mean(), stats.sem(means))
    np.testing.assert_allclose(schedule.interval(), expected, rtol=1e-12)
    schedule.samples = values[:39]
    assert schedule.interval() is None


# --- when rates fall


@pytest.mark.plain  # a loop, whose functions other tests check
def test_sasa_waits_while_the_iterates_travel_and_drops_when_they_hover():
    problem = NoisyQuadratic(start=300.0)
    optimizer = torch.optim.SGD([problem.x], lr=0.002, momentum=0.5)
    schedule = SASA(optimizer, check_every=200)
    run(problem, optimizer, 600)  # still on its way: x has a time scale of 1/(h·0.004) = 125 to 500 steps
    assert schedule.drops == []
    assert schedule.interval()[0] > 0
    run(problem, optimizer, 9000)
    assert schedule.drops
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.002 * 0.1 ** len(schedule.drops))
    assert all(step % 200 == 0 for step in np.diff([0, *schedule.drops]))


def test_a_drop_forgets_the_samples():
    problem = NoisyQuadratic()
    optimizer = torch.optim.SGD([problem.x], lr=0.2)
    schedule = SASA(optimizer, check_every=400, factor=0.5)
    run(problem, optimizer, 400)  # begins at the solution: stationary from the start
    assert schedule.drops == [400]
    assert len(schedule.samples) == 0
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)
    assert schedule.get_last_lr() == [pytest.approx(0.1)]


def test_pflugs_sum_is_that_of_neighbouring_gradients():
    weights = [draw(3, seed=4).requires_grad_(), draw(2, 2, seed=5).requires_grad_()]
    optimizer = torch.optim.SGD(weights, lr=0.05, weight_decay=0.1)
    schedule = Pflug(optimizer, burn_in=100)
    previous, total = None, 0.0
    for step in range(6):
        for i, w in enumerate(weights):
            w.grad = draw(*w.shape, seed=10 * step + i)
        now = torch.cat([(w.grad + 0.1 * w.detach()).flatten() for w in weights])
        total += 0.0 if previous is None else float(now @ previous)
        previous = now
        optimizer.step()
    assert float(schedule.sum) == pytest.approx(total, rel=1e-12)


def test_pflug_drops_after_the_burn_in_around_a_solution_and_not_on_the_way():
    problem = NoisyQuadratic(start=1000.0)
    optimizer = torch.optim.SGD([problem.x], lr=0.001)
    schedule = Pflug(optimizer, burn_in=50, check_every=10)
    run(problem, optimizer, 1000)
    assert schedule.drops == []
    problem = NoisyQuadratic()
    optimizer = torch.optim.SGD([problem.x], lr=0.5)
    schedule = Pflug(optimizer, burn_in=50, check_every=10)
    run(problem, optimizer, 60)
    assert schedule.drops == [60]
    assert schedule.sum is None
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)


def test_the_distance_test_compares_slopes_at_powers_of_q():
    # x_t − x_0 = t^{s/2}: the slope is s, whatever t.
    for slope, drops in ((0.5, [12]), (0.7, [])):
        x = torch.zeros(1, dtype=D, requires_grad=True)
        optimizer = torch.optim.SGD([x], lr=1.0)
        schedule = DistanceTest(optimizer)
        for t in range(1, 30):
            if drops and t > 12:
                break
            x.grad = torch.tensor([(t - 1) ** (slope / 2) - t ** (slope / 2)], dtype=D)
            optimizer.step()
        assert schedule.drops == drops  # looks at ⌈1.5⁵⌉ = 8, ⌈1.5⁶⌉ = 12, …
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 ** len(drops))
    assert schedule.looks == 4  # 8, 12, 18, 26


def test_after_a_drop_distance_and_time_begin_anew():
    problem = NoisyQuadratic()
    optimizer = torch.optim.SGD([problem.x], lr=0.5)
    schedule = DistanceTest(optimizer)
    run(problem, optimizer, 3000)
    assert len(schedule.drops) >= 2
    first, second = schedule.drops[:2]
    looks = [math.ceil(1.5**k) for k in range(5, 25)]
    assert first in looks
    assert second - first in looks


# --- what is not looked at, what is refused


def test_a_step_that_the_scaler_skips_is_not_counted():
    w = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.1, momentum=0.9)
    schedules = [SASA(optimizer), Pflug(optimizer), DistanceTest(optimizer)]
    scaler = torch.amp.GradScaler("cpu")
    for scale in (1.0, math.inf, 1.0):
        optimizer.zero_grad()
        scaler.scale((w * scale).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    assert [schedule.steps for schedule in schedules] == [2, 2, 2]
    assert len(schedules[0].samples) == 2
    # Gradients are unscaled when they are looked at: g = 1 twice.
    assert float(schedules[0].samples[0]) == pytest.approx(2 * (1 - 0.05 * 1.9), rel=1e-6)


def test_calling_step_on_the_schedule_changes_nothing():
    problem = NoisyQuadratic()
    optimizer = torch.optim.SGD([problem.x], lr=0.2)
    schedule = SASA(optimizer, check_every=400)
    for _ in range(400):
        problem.backward()
        optimizer.step()
        schedule.step()
    assert (schedule.steps, schedule.drops) == (400, [400])


def test_rates_that_are_tensors_fall_in_place():
    problem = NoisyQuadratic()
    rate = torch.tensor(0.2, dtype=D)
    optimizer = torch.optim.SGD([problem.x], lr=rate)
    SASA(optimizer, check_every=400)
    run(problem, optimizer, 400)
    assert optimizer.param_groups[0]["lr"] is rate
    assert float(rate) == pytest.approx(0.02)


def test_a_schedule_that_was_removed_sees_nothing():
    problem = NoisyQuadratic()
    optimizer = torch.optim.SGD([problem.x], lr=0.2)
    schedule = SASA(optimizer)
    run(problem, optimizer, 3)
    schedule.remove()
    run(problem, optimizer, 3)
    assert schedule.steps == 3


W = [torch.zeros(2, 2, requires_grad=True)]


@pytest.mark.plain
@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: SASA(torch.optim.Adam(W)), ValueError, "optimizer must be torch.optim.SGD, got Adam"),
    (lambda: SASA(torch.optim.SGD(W, momentum=0.9, nesterov=True)), ValueError, "nesterov must be False with SASA"),
    (lambda: SASA(ProximalSGD(W, prox=prox.L1(0.1))), ValueError, "must have no proximal step, got ProximalSGD"),
    (lambda: SASA(Proximal(torch.optim.SGD([("w", W[0])]), {"w": prox.L1(0.1)})), ValueError, "got Proximal"),
    (lambda: Pflug(ProximalSGD(W, prox=prox.L1(0.1))), ValueError, "must have no proximal step"),
    (lambda: SASA(torch.optim.SGD(W), check_every=39), ValueError, "check_every must be at least 40, got 39"),
    (lambda: SASA(torch.optim.SGD(W), factor=1.0), ValueError, r"factor must be in \(0, 1\), got 1.0"),
    (lambda: SASA(torch.optim.SGD(W), confidence=1.0), ValueError, r"confidence must be in \(0, 1\), got 1.0"),
    (lambda: SASA("sgd"), ValueError, "optimizer must be torch.optim.SGD, got str"),
    (lambda: Pflug(torch.optim.SGD(W), burn_in=-1), ValueError, "burn_in must not be negative, got -1"),
    (lambda: DistanceTest(torch.optim.SGD(W), q=1.0), ValueError, "q must be above 1, got 1.0"),
    (lambda: DistanceTest(torch.optim.SGD(W), q=1.1, first=2), ValueError, "first must be so large"),
    (lambda: DistanceTest(torch.optim.SGD(W), threshold=0.0), ValueError, "threshold must be in"),
    (lambda: fluctuation_sides(*[torch.zeros(2)] * 3, 0.1, 1.0), ValueError, "momentum must be in"),
])  # fmt: skip
def test_bad_input_is_one_line(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_closure_is_refused_because_gradients_are_looked_at_before_it():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    SASA(optimizer)
    with pytest.raises(RuntimeError, match="call backward first, and step without a closure"):
        optimizer.step(lambda: torch.zeros(()))
    optimizer.step(None)


# --- saving


MAKERS = {
    "sasa": lambda optimizer: SASA(optimizer, check_every=60),
    "pflug": lambda optimizer: Pflug(optimizer, burn_in=20, check_every=7),
    "distance": lambda optimizer: DistanceTest(optimizer),
}


def pair(order="ab"):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.ModuleDict({name: nn.Linear(2, 2, bias=False).double() for name in order})
    for layer in model.values():
        nn.init.ones_(layer.weight)
    return model, torch.optim.SGD(model.named_parameters(), lr=0.3, momentum=0.5)


def train(model, optimizer, first, last):
    for step in range(first, last):
        for i, name in enumerate("ab"):
            weight = model[name].weight
            weight.grad = weight.detach() + draw(2, 2, seed=10 * step + i)
        optimizer.step()


def remembered(model, optimizer, schedule):
    rate = optimizer.param_groups[0]["lr"]
    return rate, schedule.state_dict(), {name: layer.weight.detach().clone() for name, layer in model.items()}


def assert_same(one, other):
    assert one[0] == other[0]
    assert one[1].keys() == other[1].keys()
    for key, value in one[1].items():
        torch.testing.assert_close(value, other[1][key], rtol=0, atol=0)
    assert all(torch.equal(one[2][key], other[2][key]) for key in "ab")


@pytest.mark.parametrize("name", MAKERS)
def test_a_resumed_schedule_ends_where_one_that_was_not_interrupted_does(name):
    straight, optimizer = pair()
    schedule = MAKERS[name](optimizer)
    train(straight, optimizer, 0, 150)
    expected = remembered(straight, optimizer, schedule)
    assert schedule.drops
    model, first = pair()
    schedule = MAKERS[name](first)
    train(model, first, 0, 95)  # in the middle of a window
    file = io.BytesIO()
    torch.save([model.state_dict(), first.state_dict(), schedule.state_dict()], file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    model, second = pair()
    other = MAKERS[name](second)
    model.load_state_dict(saved[0])
    second.load_state_dict(saved[1])
    other.load_state_dict(saved[2])
    train(model, second, 95, 150)
    assert_same(remembered(model, second, other), expected)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
@pytest.mark.parametrize("name", MAKERS)
def test_a_copy_watches_the_copy_of_the_optimizer(name, copied):
    model, optimizer = pair()
    schedule = MAKERS[name](optimizer)
    train(model, optimizer, 0, 30)
    other_model, other_optimizer, other = copied((model, optimizer, schedule))
    train(other_model, other_optimizer, 30, 70)
    assert schedule.steps == 30
    train(model, optimizer, 30, 70)
    assert_same(remembered(other_model, other_optimizer, other), remembered(model, optimizer, schedule))


@pytest.mark.parametrize("name", ["pflug", "distance"])
def test_what_is_compared_with_belongs_to_names(name):
    model, optimizer = pair("ab")
    schedule = MAKERS[name](optimizer)
    train(model, optimizer, 0, 15)
    swapped, other_optimizer = pair("ba")
    other = MAKERS[name](other_optimizer)
    swapped.load_state_dict(model.state_dict())
    other.load_state_dict(schedule.state_dict())
    state = schedule.state_dict()
    kept = state["last"] if name == "pflug" else state["start"]
    assert set(kept) == {"a.weight", "b.weight"}
    train(model, optimizer, 15, 18)
    optimizer_state = other_optimizer.state
    for key in "ab":
        optimizer_state[swapped[key].weight]["momentum_buffer"] = torch.zeros(2, 2, dtype=D)
    train(swapped, other_optimizer, 15, 16)
    assert schedule.steps == 18
    assert other.steps == 16

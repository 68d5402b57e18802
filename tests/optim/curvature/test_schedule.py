"""The learner: its first rates, its guards, its memory, and what it leaves alone."""

import copy
import io
import math
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from aleator.optim import CurvatureLRScheduler, CurvatureOperator, heavy_ball


class Diagonal(nn.Module):
    """Outputs wᵢ √λᵢ, so that the Gauss-Newton matrix of half the squared error is diag(λ)."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(len(values), dtype=torch.float64))
        self.register_buffer("values", torch.tensor(values, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.weight * self.values.clamp(min=0).sqrt()).expand(len(x), -1)


def half_squares(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs - targets).square().sum(1).mean() / 2


SAMPLE = [(torch.zeros(6, 1), torch.zeros(6, 1, dtype=torch.float64))]


def made(model: nn.Module, every: int = 20, sample=SAMPLE, loss_fn=half_squares, lr: float = 0.5, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.5, weight_decay=options.pop("weight_decay", 0.0))
    generator = torch.Generator().manual_seed(options.pop("seed", 0))
    return CurvatureLRScheduler(optimizer, model, loss_fn, sample, every, generator=generator, **options)


def rate(schedule: CurvatureLRScheduler) -> tuple[float, float]:
    return tuple(schedule.optimizer.param_groups[0][name] for name in ("lr", "momentum"))


def test_the_first_probe_sets_the_heavy_ball_of_the_spectrum():
    schedule = made(Diagonal(9.0, 1.0, 1.0, 1.0), every=10)
    alpha, rho = heavy_ball(9.0, 3.0)  # μ is the mean eigenvalue
    assert (schedule.lmbda, schedule.mu) == (pytest.approx(9), pytest.approx(3))
    assert schedule.lr == pytest.approx(0.1 * alpha)
    assert rate(schedule) == (pytest.approx(0.1 * alpha / 20), pytest.approx(rho))  # 1 of 2K steps of warm-up


def test_warm_up_ends_after_two_periods_and_the_own_factor_multiplies():
    schedule = made(Diagonal(4.0, 1.0), every=3, factor=lambda t: 1 / (1 + t))
    seen = []
    for t in range(9):
        seen.append(rate(schedule)[0] / schedule.lr * (1 + t))
        schedule.step()
    assert seen == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1, 1, 1])
    assert schedule.probes == 4
    assert schedule.get_last_lr() == [rate(schedule)[0]]


@pytest.mark.parametrize(("decay", "mu"), [(0.0, 1e-3), (0.5, 0.5)])
def test_mu_has_a_floor(decay, mu):
    schedule = made(Diagonal(10.0, *[0.0] * 300_000), weight_decay=decay)
    assert schedule.mu == pytest.approx(max(mu, 10 / 300_001))
    assert schedule.momentum == pytest.approx(min(heavy_ball(10.0, mu)[1], 0.99))


def scaled(model: Diagonal, factor: float) -> None:
    with torch.no_grad():
        model.values.mul_(factor)
        model.weight.mul_(1.0)  # a new version of the weights


def test_later_probes_move_half_way_and_at_most_double():
    model = Diagonal(9.0, 1.0, 1.0, 1.0)
    schedule = made(model, every=1, hold="none")
    first = schedule.lr
    scaled(model, 4)  # four times the curvature, a quarter of the rate
    schedule.step()
    assert schedule.lr == pytest.approx(first / 2, rel=1e-6)
    scaled(model, 1e-6)
    schedule.step()
    assert schedule.lr == pytest.approx(first, rel=1e-6)  # only doubled


def test_momentum_moves_by_at_most_a_twentieth():
    model = Diagonal(9.0, 9.0, 9.0, 9.0)
    schedule = made(model, every=1, hold="none")
    before = schedule.momentum
    with torch.no_grad():
        model.values.copy_(torch.tensor([100.0, 0, 0, 0]))
    schedule.step()
    assert heavy_ball(100.0, 25.0)[1] > before + 0.05
    assert schedule.momentum == pytest.approx(before + 0.05)


def test_hold_keeps_the_largest_eigenvalue_and_without_it_falls():
    seen = {}
    for hold in ("max", "none"):
        model = Diagonal(9.0, 1.0)
        schedule = made(model, every=1, hold=hold)
        scaled(model, 0.1)
        schedule.step()
        seen[hold] = schedule.lmbda
    assert seen == {"max": pytest.approx(9), "none": pytest.approx(0.9)}
    default = made(Diagonal(9.0, 1.0))
    assert default.hold == "max"


def test_a_fitted_slope_raises_the_eigenvalue_of_small_batches_and_halves_it_at_most():
    # b = 2, b_h = 6: λ' = 9 + 12 (1/2 − 1/6)
    assert made(Diagonal(9.0, 1.0), slope=12.0, batch=2).lmbda == pytest.approx(13)
    # of N = 12: b(2) = 2.4, b(6) = 12
    assert made(Diagonal(9.0, 1.0), slope=12.0, batch=2, n=12).lmbda == pytest.approx(9 + 12 * (1 / 2.4 - 1 / 12))
    # A batch larger than the sample has less noise, but no less than half is left.
    assert made(Diagonal(9.0, 1.0), slope=1e3, batch=60).lmbda == pytest.approx(4.5)


def test_a_flat_start_keeps_the_given_rate():
    model = Diagonal(0.0, 0.0)
    schedule = made(model, every=1, lr=0.25)
    assert (schedule.lr, schedule.momentum, schedule.lmbda) == (0.25, None, None)
    assert rate(schedule)[1] == 0.5
    with torch.no_grad():
        model.values.fill_(2.0)
    schedule.step()  # the first that finds something
    assert schedule.lr == pytest.approx(0.1 * heavy_ball(2.0, 2.0)[0])


def test_a_probe_that_is_not_finite_halves_the_rate_keeps_the_rest_and_warns():
    model = Diagonal(9.0, 1.0, 1.0, 1.0)
    schedule = made(model, every=1)
    before = schedule.state_dict()
    with torch.no_grad():
        model.values[0] = math.nan
    with pytest.warns(UserWarning, match=r"not finite.*; the learning rate is halved to 0\.0"):
        schedule.step()
    after = schedule.state_dict()
    assert after["lr"] == before["lr"] / 2
    assert torch.equal(after["vector"], before["vector"])
    assert [after[name] for name in ("momentum", "lmbda", "mu")] == [
        before[name] for name in ("momentum", "lmbda", "mu")
    ]
    with torch.no_grad():
        model.values[0] = 9.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schedule.step()  # the run goes on
    assert math.isfinite(schedule.lr)


def network() -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


def examples(count: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(count, 6, generator=torch.Generator().manual_seed(1))
    return x, x[:, :3].argmax(1)


class Drawn:
    """Another sample for every probe, by its number."""

    def __call__(self, number: int):
        x, y = examples()
        rows = torch.randperm(64, generator=torch.Generator().manual_seed(number))[:32]
        return [(x[rows], y[rows])]


def trained(steps: int, schedule: CurvatureLRScheduler, first: int = 0) -> list[float]:
    x, y = examples()
    model, optimizer, seen = schedule.model, schedule.optimizer, []
    for step in range(first, first + steps):
        rows = torch.randperm(64, generator=torch.Generator().manual_seed(1000 + step))[:16]
        with torch.random.fork_rng([]):
            torch.manual_seed(step)
            loss = F.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        seen.append(rate(schedule)[0])
    return seen


def test_a_probe_changes_neither_statistics_nor_modes_nor_gradients():
    model = network()
    model[4].eval()
    schedule = made(model, 5, Drawn(), F.cross_entropy)
    trained(4, schedule)
    x, y = examples()
    with torch.random.fork_rng([]):
        F.cross_entropy(model(x), y).backward()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    schedule.probe()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))


def test_a_shuffling_loader_does_not_move_the_global_generator():
    x, y = examples()
    loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)  # draws from the global generator
    schedule = made(network(), 5, loader, F.cross_entropy)
    assert schedule.lmbda > 0  # the fixture of all tests looks at the generator


@pytest.mark.parametrize("at", [3, 4, 7])
def test_a_resumed_learner_ends_in_the_same_bits(at):
    whole = made(network(), 4, Drawn(), F.cross_entropy)
    rates = trained(10, whole)
    begun = made(network(), 4, Drawn(), F.cross_entropy)
    trained(at, begun)
    saved = copy.deepcopy((begun.model.state_dict(), begun.optimizer.state_dict(), begun.state_dict()))
    resumed = made(network(), 4, Drawn(), F.cross_entropy, seed=9)
    resumed.model.load_state_dict(saved[0])
    resumed.optimizer.load_state_dict(saved[1])
    resumed.load_state_dict(torch.load(_through_a_file(saved[2]), weights_only=True))
    assert trained(10 - at, resumed, first=at) == rates[at:]
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True))


def _through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return file


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda schedule: pickle.loads(pickle.dumps(schedule))])
def test_copies_go_on_alike_and_apart(copied):
    schedule = made(network(), 4, Drawn(), F.cross_entropy)
    trained(3, schedule)
    other = copied(schedule)
    assert other.optimizer is not schedule.optimizer
    assert other.optimizer.param_groups[0]["params"][0] is next(other.model.parameters())
    assert trained(6, other, first=3) == trained(6, schedule, first=3)


def test_warm_starts_find_the_eigenvalue_in_fewer_products():
    model = network().double()
    x, y = examples()
    sample = [(x.double(), y)]
    model.eval()
    op = CurvatureOperator(model, F.cross_entropy, sample, "ggn")
    exact = float(torch.linalg.eigvalsh(torch.stack([op @ e for e in torch.eye(op.shape[0], dtype=op.dtype)]))[-1])
    schedule = made(model, 1, sample, F.cross_entropy, steps=4, hold="none")
    cold = exact - schedule.lmbda
    schedule.probe()
    schedule.probe()
    assert 0 <= exact - schedule.lmbda < 0.1 * cold


def test_groups_keep_their_ratios():
    model = network()
    groups = [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[4].parameters(), "lr": 0.4}]
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    schedule = CurvatureLRScheduler(
        optimizer, model, F.cross_entropy, Drawn(), 5, set_momentum=False, generator=torch.Generator().manual_seed(0)
    )
    first, second = (group["lr"] for group in optimizer.param_groups)
    assert second == pytest.approx(schedule.lr / 10)
    assert first == pytest.approx(second / 4)
    assert [group["momentum"] for group in optimizer.param_groups] == [0.9, 0.9]


def test_a_rate_that_is_a_tensor_stays_the_same_tensor():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=torch.tensor(0.3), momentum=0.9)
    lr = optimizer.param_groups[0]["lr"]
    schedule = CurvatureLRScheduler(optimizer, model, F.cross_entropy, Drawn(), 5, generator=torch.Generator())
    assert optimizer.param_groups[0]["lr"] is lr
    assert float(lr) == pytest.approx(schedule.lr / 10)
    assert float(optimizer.param_groups[0]["initial_lr"]) == pytest.approx(0.3)


def test_a_network_learns_at_the_rate_that_is_found():
    """Three features decide the class; a network learns that at the learner's rate."""
    model = network()
    schedule = made(model, 20, Drawn(), F.cross_entropy, lr=123.0)
    trained(200, schedule)
    model.eval()
    x, y = examples()
    assert float((model(x).argmax(1) == y).float().mean()) > 0.8
    assert schedule.lr < 10


@pytest.mark.plain
def test_what_cannot_be_is_refused():
    for name, value, line in (
        ("every", 0, "every must be at least 1, got 0"),
        ("steps", 0, "steps must be at least 1, got 0"),
        ("safety", 0.0, "safety must be positive and finite, got 0.0"),
        ("hold", "mean", "hold must be 'max' or 'none', got 'mean'"),
        ("slope", -1.0, "slope must be finite and not negative, got -1.0"),
        ("slope", 1.0, "batch must be given with a slope, got None"),
        ("sample", [], "data must hold at least one example, got none"),
    ):
        with pytest.raises(ValueError, match=line):
            made(Diagonal(1.0, 2.0), **{name: value})
    adam = torch.optim.AdamW(network().parameters())
    with pytest.raises(ValueError, match="set_momentum must be False with AdamW, which has none, got True"):
        CurvatureLRScheduler(adam, network(), F.cross_entropy, Drawn(), 5, generator=torch.Generator())

"""Process rewards of Gaussian classes against their posterior, and gradients with and without a black box."""

import math

import pytest
import torch
from torch import nn
from torch.nn.utils import skip_init

from aleator.sde import RewardGuidance
from aleator.video import (
    ZeroOrderGuidance,
    checkpointed,
    process_reward_loss,
    reward_gradient,
    train_process_reward,
)
from tests.video.flows import curved

M, Q = 1.0, 0.25  # data of the good class are N(M, Q), of the bad one N(−M, Q)


class Posterior(nn.Module):
    """The family that the log-odds of the two classes are in: a x (1 − s) / ((1 − s)² b + s²), a = 2 M and b = Q."""

    def __init__(self, a=1.0, log_b=0.0):
        super().__init__()
        self.a, self.log_b = nn.Parameter(torch.tensor(a)), nn.Parameter(torch.tensor(log_b))

    def forward(self, x, s, cond):
        return self.a * x[:, 0] * (1 - s) / ((1 - s) ** 2 * self.log_b.exp() + s**2)


def classes(n, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 2
    noise = torch.randn(n, 1, generator=generator, dtype=torch.float64)
    return ((2.0 * labels[:, None] - 1) * M + math.sqrt(Q) * noise).to(dtype), labels


def test_training_finds_the_posterior_of_two_gaussians_and_its_gradient():
    net = train_process_reward(
        Posterior(),
        *classes(20_000),
        generator=torch.Generator().manual_seed(1),
        steps=300,
        batch_size=512,
        lr=0.05,
    )
    x, s = torch.tensor([[-1.0], [0.3], [1.5], [0.5]]), torch.tensor([0.1, 0.4, 0.7, 0.95])
    factor = 2 * M * (1 - s) / ((1 - s) ** 2 * Q + s**2)
    r, gradient = reward_gradient(net, x, s)
    # 300 steps of 512: within a tenth of the log-odds.
    torch.testing.assert_close(r, factor * x[:, 0], rtol=0.1, atol=0.02)
    torch.testing.assert_close(gradient[:, 0], factor, rtol=0.1, atol=0.02)
    assert net.a.grad is None  # parameters keep none of training, and get none from guidance


def test_without_a_generator_training_is_that_of_seed_0():
    state = torch.get_rng_state()
    found = train_process_reward(Posterior(), *classes(16), steps=3)
    expected = train_process_reward(Posterior(), *classes(16), generator=torch.Generator().manual_seed(0), steps=3)
    assert torch.equal(found.a, expected.a)
    assert torch.equal(torch.get_rng_state(), state)


def test_pairs_of_one_time_rank_better_above_worse():
    data, labels = classes(2000)
    pairs = torch.stack([(labels == 1).nonzero()[:, 0], (labels == 0).nonzero()[:, 0]], 1)
    generator = torch.Generator().manual_seed(1)
    net = train_process_reward(
        Posterior(0.1), data, pairs, "bradley_terry", generator=generator, steps=200, batch_size=128, lr=0.05
    )
    s = torch.full((2000,), 0.3)
    noise = torch.randn(2000, 1, generator=generator)
    r = net((1 - 0.3) * data + 0.3 * noise, s, None).detach()
    assert float((r[pairs[:, 0]] > r[pairs[:, 1]]).float().mean()) > 0.9
    loss = process_reward_loss(net, data, pairs, s, noise, objective="bradley_terry")
    torch.testing.assert_close(loss.detach(), torch.nn.functional.softplus(r[pairs[:, 1]] - r[pairs[:, 0]]).mean())


def test_half_of_every_batch_is_good_and_conditions_go_with_their_rows():
    seen = []

    class Watched(Posterior):
        def forward(self, x, s, cond):
            seen.append(cond.clone())
            return super().forward(x, s, cond["row"] if isinstance(cond, dict) else cond)

    data, _ = classes(100)
    labels = (torch.arange(100) < 3).long()  # three good ones of a hundred
    train_process_reward(
        Watched(), data, labels, generator=torch.Generator(), cond=torch.arange(100), steps=3, batch_size=8
    )
    assert all(bool((rows[:4] < 3).all() and (rows[4:] >= 3).all()) for rows in seen)


class Deep(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Sequential(skip_init(nn.Linear, 4, 64), nn.Tanh(), skip_init(nn.Linear, 64, 4))
                                     for _ in range(6)])  # fmt: skip
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))

    def forward(self, x, s, cond):
        for block in self.blocks:
            x = x + block(x)
        return x.sum(1)


def test_checkpointed_blocks_keep_less_and_have_the_same_gradient():
    net, x, s = Deep(), torch.ones(5, 4), torch.full((5,), 0.5)
    sizes: list[int] = []

    def run():
        sizes.append(0)

        def pack(tensor):
            sizes[-1] += tensor.numel() if tensor.shape[:1] == (5,) else 0  # activations, not weights
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            return reward_gradient(net, x, s)

    r, gradient = run()
    with checkpointed(net):
        again, same = run()
    assert torch.equal(r, again)
    assert torch.equal(gradient, same)
    assert sizes[1] < sizes[0] / 4
    assert all("forward" not in block.__dict__ for block in net.blocks)


def test_a_black_box_has_the_slope_of_each_sample_along_its_direction():
    directions = []

    def noise(like, state, generator):
        directions.append(torch.randn(like.shape, generator=generator, dtype=like.dtype))
        return directions[-1]

    x0 = torch.randn(4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    slope = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    zero = ZeroOrderGuidance(lambda x, cond: (x.detach() @ slope) * cond, RewardGuidance(scale=1.0), samples=2)
    scale = torch.tensor([1.0, 2.0, 0.0, -1.0], dtype=torch.float64)
    found = zero.gradient(x0, scale, generator=torch.Generator().manual_seed(0), noise=noise)
    expected = sum((u @ slope * scale)[:, None] * u for u in directions) / 2
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_on_average_it_is_the_gradient():
    """E g = ∇r; the variance of an element of (∇r · u) u is ‖∇r‖² + (∇ᵢr)². Within four standard errors."""
    n = 20_000
    slope = torch.tensor([1.0, -2.0])
    zero = ZeroOrderGuidance(lambda x, cond: x @ slope, RewardGuidance(scale=1.0), eps=0.5)
    found = zero.gradient(torch.zeros(n, 2), None, generator=torch.Generator().manual_seed(0)).mean(0)
    error = 4 * torch.sqrt((slope.square().sum() + slope.square()) / n)
    assert bool(((found - slope).abs() < error).all())


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: train(torch.zeros(4)), "labels must be 0 and 1 and have both, got 4 of 0 and 0 of 1 among 4"),
        (lambda: train(torch.tensor([0.0, 1.0, 0.5, 1.0])), "labels must be 0 and 1 and have both"),
        (lambda: train(torch.tensor([0.0, 1.0, 2.0, 1.0])), r"labels must be in \[0, 1\], got 2"),
        (lambda: train(torch.zeros(3)), r"labels must be one for each of 4 latents, got shape \(3,\)"),
        (lambda: train(torch.tensor([[0, 4]]), "bradley_terry"), r"labels must be rows in \[0, 4\), got 4"),
        (lambda: train(torch.zeros(4), "bradley_terry"), "labels must be pairs of rows"),
        (lambda: train(torch.zeros(4), "mse"), "objective must be bce or bradley_terry, got 'mse'"),
        (lambda: train(torch.arange(4) % 2, batch_size=3), "batch_size must be even and positive, got 3"),
        (lambda: train(torch.arange(4) % 2, steps=0), "steps must be at least 1, got 0"),
        (lambda: reward_gradient(curved, torch.zeros(2, 3), torch.ones(2)) and checkpointed(Posterior()).__enter__(),
         "net must have a ModuleList or Sequential of blocks, got Posterior"),
        (lambda: ZeroOrderGuidance(len, RewardGuidance(scale=1.0), eps=0.0),
         "eps must be positive and finite, got 0.0"),
        (lambda: ZeroOrderGuidance(len, RewardGuidance(scale=1.0), samples=0), "samples must be at least 1, got 0"),
        (
            lambda: ZeroOrderGuidance(lambda x, c: x[:, 0] * math.nan, RewardGuidance(scale=1.0)).gradient(
                torch.ones(2, 3), None, generator=torch.Generator()
            ),
            r"reward beside the guessed data \(\+1 eps\) must be finite, got nan for sample 0",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as refusal:
        call()
    assert "\n" not in str(refusal.value)


def train(labels, objective="bce", **settings):
    return train_process_reward(
        Posterior(), torch.zeros(4, 1), labels, objective, generator=torch.Generator(), **{"steps": 1, **settings}
    )

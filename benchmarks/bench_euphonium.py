"""Alignment of flows: what a stochastic step costs beside a network, and process rewards beside DanceGRPO.

- **A step and its log-probability** against the forward pass of a diffusion transformer with 13 million parameters, in
  which it is one step of a rollout: the figure is step / forward.
- **An iteration** with process rewards of a network as large as the policy, guidance in the last quarter of 16 steps
  and distillation, against DanceGRPO with the same policy: rollout, losses, backward passes and two steps of AdamW.
- **To the threshold**: both methods of the recipe ``alignment`` on digits, from one flow, until four in five samples
  are rewarded or 200 iterations are over, with five seeds of the rollouts; looks at that share count. Euphonium needs
  a process reward besides, which is trained once and serves every alignment that follows: a second row counts it.

Seconds are of this process's processor time, by one thread.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from aleator.random import Streams
from aleator.recipes.alignment import Alignment
from aleator.sde import FlowSDE, RewardGuidance, shifted_sigmas
from aleator.video import DualRewardGRPO, group_noise, rollout, train_process_reward
from benchmarks.pairs import Pairs, interleave

GROUP, STEPS = 8, 16


class Block(nn.Module):
    """Attention and two linear layers, each with the shift, scale and gate of a time."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width, elementwise_affine=False) for _ in range(2)])
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.of_time = nn.Linear(width, 6 * width)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Return tokens [batch, tokens, width]."""
        shift, scale, gate, shift2, scale2, gate2 = self.of_time(nn.functional.silu(time))[:, None].chunk(6, -1)
        batch, tokens = x.shape[:2]
        q, k, v = self.qkv(self.norms[0](x) * (1 + scale) + shift).chunk(3, -1)
        q, k, v = (each.reshape(batch, tokens, self.heads, -1).transpose(1, 2) for each in (q, k, v))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        x = x + gate * self.out(mixed)
        x = x + gate2 * self.down(nn.functional.gelu(self.up(self.norms[1](x) * (1 + scale2) + shift2)))
        return x


class Transformer(nn.Module):
    """A diffusion transformer over tokens, as a velocity, or with ``score`` as a process reward."""

    def __init__(self, channels: int, width: int, depth: int, heads: int, *, score: bool = False) -> None:
        super().__init__()
        self.score = score
        self.inside, self.time = nn.Linear(channels, width), nn.Linear(1, width)
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(depth)])
        self.outside = nn.Linear(width, 1 if score else channels)

    def forward(self, x: Tensor, s: Tensor, cond: Any = None) -> Tensor:
        """Return velocities like ``x``, [batch, tokens, channels], or scores [batch]."""
        time, x = self.time(s[:, None]), self.inside(x)
        for block in self.blocks:
            x = block(x, time)
        found: Tensor = self.outside(x)
        return found.mean((1, 2)) if self.score else found


def benchmark() -> list[dict[str, Any]]:
    """Return the share of a step in a forward pass, the ratio of iterations, and those of the way to the threshold."""
    return [_step(), _iteration(), *_to_the_threshold()]


def _step() -> dict[str, Any]:
    batch, tokens, channels = 1, 256, 16
    with Streams(0).scope("init"):
        net = Transformer(channels, width=384, depth=5, heads=6)
        x = torch.randn(batch, tokens, channels)
    million = sum(p.numel() for p in net.parameters()) / 1e6
    sde, generator = FlowSDE(), torch.Generator().manual_seed(0)
    s, s_next = torch.full((batch,), 0.5), torch.full((batch,), 0.4)

    @torch.no_grad()
    def step() -> None:
        taken = sde.step(x, x, s, s_next, generator=generator)
        sde.log_prob(taken.x, taken.mean, s, s_next)

    @torch.no_grad()
    def forward() -> None:
        net(x, s)

    pairs = interleave(step, forward, pairs=31, clock=time.process_time)
    what = f"share of a step and its log-probability in a forward pass, a latent of {tokens} × {channels}"
    return pairs.row(what, f"forward pass of {million:.1f} M parameters", "≤ 0.01", figure="cost")


def _iteration() -> dict[str, Any]:
    def make(*, dual: bool) -> Callable[[], None]:
        with Streams(0).scope("init"):
            policy = Transformer(8, width=128, depth=3, heads=4)
            prm = Transformer(8, width=128, depth=3, heads=4, score=True).requires_grad_(False) if dual else None
        optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-5, weight_decay=1e-4)
        generator, grid, sde = torch.Generator().manual_seed(0), shifted_sigmas(STEPS, 5.0), FlowSDE()
        guidance = RewardGuidance(scale=0.01, start=12) if dual else None
        share: dict[str, Any] = {"group_size": GROUP, "timestep_fraction": 0.6}
        objective = DualRewardGRPO(**share) if dual else DualRewardGRPO.dance_grpo(**share)

        def iteration() -> None:
            x1 = group_noise(torch.empty(GROUP, 32, 8), GROUP, generator=generator)
            path = rollout(policy, x1, grid, sde, prm=prm, guidance=guidance, generator=generator)
            rewards = path.x0_pred.mean((1, 2))
            for update in objective.updates(policy, path, rewards, generator=generator, piece_size=4):
                update.backward()
                optimizer.step()
                optimizer.zero_grad()

        return iteration

    pairs = interleave(make(dual=True), make(dual=False), pairs=15, clock=time.process_time)
    what = "iteration with two rewards, guidance and distillation, over one without"
    return pairs.row(what, "DanceGRPO", "≤ 1.35", figure="cost")


def _to_the_threshold() -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    base: Any = Alignment().task(Streams(0), accelerator)
    base.begin()
    before = base.state_dict()
    seconds: dict[str, list[float]] = {"euphonium": [], "dance-grpo": []}
    for seed in range(5):
        for method, found in seconds.items():
            task: Any = Alignment(method=method, iterations=200).task(Streams(seed), accelerator)  # type: ignore[arg-type]
            task.load_state_dict(before)
            begin = time.process_time()
            for iteration in range(task.options.iterations):
                if task.train_step(iteration).stop:
                    break
            found.append(time.process_time() - begin)
    trained = [align + _process_reward(base, seed) for seed, align in enumerate(seconds["euphonium"])]
    what, peer = "until 80 % of samples are rewarded, digits", seconds["dance-grpo"]
    with_reward = f"{what}, the process reward's training counted"
    return [
        Pairs(seconds["euphonium"], peer, clock="processor").row(what, "DanceGRPO", "≤ 0.75", figure="cost"),
        Pairs(trained, peer, clock="processor").row(with_reward, "DanceGRPO", "–", figure="cost"),
    ]


def _process_reward(task: Any, seed: int) -> float:
    """Return the seconds of a process reward's training, as the recipe begins with one."""
    network = copy.deepcopy(task.prm).requires_grad_(True)
    good = (task.material.labels == task.options.wanted).to(task.dtype)
    generator = torch.Generator().manual_seed(seed)
    begin = time.process_time()
    train_process_reward(network, task.material.judged.to(task.dtype), good, generator=generator)
    return time.process_time() - begin

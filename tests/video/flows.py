"""Small flows, rewards and rollouts that tests of alignment share."""

import torch
from torch import nn
from torch.nn.utils import skip_init

from aleator.sde import FlowSDE, RewardGuidance, shifted_sigmas
from aleator.video import group_noise, rollout


class Flow(nn.Module):
    """A small network of state, time and condition."""

    def __init__(self, dim=3, seed=0):
        super().__init__()
        self.layers = nn.Sequential(skip_init(nn.Linear, dim + 2, 8), nn.Tanh(), skip_init(nn.Linear, 8, dim))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))

    def forward(self, x, s, cond):
        cond = torch.zeros(len(x)) if cond is None else cond
        return self.layers(torch.cat([x, s[:, None], cond[:, None]], 1).to(self.layers[0].weight.dtype))


def curved(x, s, cond):
    """A process reward that is not linear."""
    return (1 - s) * (torch.sin(x).sum(1) + x[:, 0] * x[:, 1])


def first(samples, cond):
    """An outcome reward."""
    return {"first": samples[:, 0]}


GUIDANCE = RewardGuidance(beta=0.5)


def rolled(flow, groups=2, size=4, steps=5, *, sde=None, seed=0, prm=curved, guidance=GUIDANCE, dim=3, **settings):
    generator = torch.Generator().manual_seed(seed)
    cond = torch.arange(float(groups)).repeat_interleave(size)
    x1 = group_noise(torch.empty(groups * size, dim), size, generator=generator)
    grid = shifted_sigmas(steps, 2.0)
    settings = {"prm": prm, "guidance": guidance, "generator": generator, **settings}
    return rollout(flow, x1, grid, sde or FlowSDE("constant", 0.5), cond, **settings)


def gradients(module):
    return torch.cat([p.grad.reshape(-1) for p in module.parameters()])

"""Small smooth networks of every supported kind, in float64, and their derivatives by nested reverse mode."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from aleator.random import Streams

DIM = 5


class Sine(nn.Module):
    def forward(self, x):
        return torch.sin(x)


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, width)

    def forward(self, x):
        return x + torch.sin(self.linear(self.norm(x)))


class Ansatz(nn.Module):
    """0 on the unit sphere."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return (1 - x.square().sum(-1)) * self.net(x).squeeze(-1)


class Terminal(nn.Module):
    """log((1 + |x|²)/2) at t = 1, the last column."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        t, space = x[:, -1], x[:, :-1]
        return (1 - t) * self.net(x).squeeze(-1) + torch.log((1 + (space**2).sum(1)) / 2)


class Awkward(nn.Module):
    """Products, quotients, powers, slices and sums of coordinates and of what was made of them."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        waves = torch.cos(3 * x - 1) * x / (2 + x * x)
        some = x[..., 1:3]
        pieces = torch.cat((some.sin(), waves, some**3), -1)
        return self.net(x)[:, 0] * waves.mean(-1) + pieces.sum(-1) - 2 / (4 + x[:, 0].exp())


def mlp(activation, *between, outputs=1, width=8, dim=DIM):
    layers = (nn.Linear(dim, width), activation, *between, nn.Linear(width, width), activation)
    return nn.Sequential(*layers, nn.Linear(width, outputs))


def build(make):
    with Streams(0).scope("init"):
        return make().double()


NETS = {
    "tanh": lambda: mlp(nn.Tanh()),
    "sin": lambda: mlp(Sine()),
    "softplus": lambda: mlp(nn.Softplus(2.0)),
    "gelu": lambda: mlp(nn.GELU()),
    "gelu-tanh": lambda: mlp(nn.GELU("tanh")),
    "silu": lambda: mlp(nn.SiLU()),
    "mish": lambda: mlp(nn.Mish()),
    "sigmoid": lambda: mlp(nn.Sigmoid()),
    "logsigmoid": lambda: mlp(nn.LogSigmoid()),
    "residual": lambda: mlp(nn.Tanh(), Residual(8), nn.Dropout(0.0), nn.RMSNorm(8)),
    "ansatz": lambda: Ansatz(mlp(nn.Tanh(), Residual(8))),
    "terminal": lambda: Terminal(mlp(nn.Tanh())),
    "awkward": lambda: Awkward(mlp(nn.Tanh())),
}


def points(count=6, dim=DIM, seed=0, dtype=torch.float64):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class NormByFormula(TorchFunctionMode):
    """Layer normalisation by its formula: torch's own has wrong derivatives, forward from the second, reverse from the
    third on."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is not F.layer_norm:
            return func(*args, **(kwargs or {}))
        return self.formula(*args, **(kwargs or {}))

    def formula(self, x, shape, weight, bias, eps):
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * weight + bias


def hessians(net, x):
    """(points, dim, dim), by reverse mode twice, with a graph to the parameters."""
    at = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(net(at).sum(), at, create_graph=True)
    rows = [torch.autograd.grad(column.sum(), at, create_graph=True)[0] for column in gradient.unbind(1)]
    return torch.stack(rows, 1)

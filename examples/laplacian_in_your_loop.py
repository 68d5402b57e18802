"""A Poisson equation in 100 dimensions, in a loop of your own: ``python examples/laplacian_in_your_loop.py [steps]``.

Δu = f in the unit ball, u = 0 on its surface, with the solution u = (1 − |x|²)·(1 + sin 2x₁). The error that is printed
first is that of the best constant times 1 − |x|². A step looks at 10 of the 100 second derivatives twice over, and its
gradient is unbiased.
"""

import sys

import torch
from torch import Tensor, nn

from aleator.gradients import SDGD, laplacian, residual_loss
from aleator.random import Streams

DIM, POINTS = 100, 100


def solution(x: Tensor) -> Tensor:
    """Return what the network is to find."""
    return (1 - x.square().sum(-1)) * (1 + torch.sin(2 * x[:, 0]))


class ZeroOnSphere(nn.Module):
    """A network times 1 − |x|²."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(DIM, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(points,)``."""
        out: Tensor = (1 - x.square().sum(-1)) * self.net(x).squeeze(-1)
        return out


def points(count: int, generator: torch.Generator) -> Tensor:
    """Draw a direction and a distance from the centre, both uniformly."""
    direction = torch.randn(count, DIM, generator=generator)
    radius = torch.rand(count, 1, generator=generator)
    found: Tensor = radius * nn.functional.normalize(direction, dim=1)
    return found


def main(steps: int) -> None:
    """Train, and print relative errors on new points."""
    streams = Streams(0)
    with streams.scope("init"):
        net = ZeroOnSphere()
    generator = streams.generator("data")
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for _ in range(steps):
        x = points(POINTS, generator)
        with torch.no_grad():
            source = laplacian(solution, x).value
        found = laplacian(net, x, SDGD(batch=10), generator=generator)
        assert found.value_independent is not None
        loss = residual_loss(found.value - source, found.value_independent - source)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    x = points(5000, streams.generator("test"))
    truth, factor = solution(x), 1 - x.square().sum(-1)
    constant = (truth @ factor) / (factor @ factor) * factor
    with torch.no_grad():
        errors = [float((guess - truth).norm() / truth.norm()) for guess in (constant, net(x))]
    print(f"best constant {errors[0]:.4f}, network after {steps} steps {errors[1]:.4f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)

"""Train the expert of the pendulum: ``python -m experiments.experts.pendulum``, about a minute on one core.

The controller knows the physics of Gymnasium's pendulum (mass and length 1, g = 10, torque u ≤ 2, θ = 0 upright):

    θ'' = 15 sin θ + 3u,    E = θ'²/6 + 5 cos θ, which is 5 upright and at rest

Below, u = 2 (5 − E) θ' brings the energy to its value at the top; near the top, u = −K (θ, θ') with K from the Riccati
equation of the motion there. A network cannot show the edges of this sharply, so it is trained on the states that it
leads to itself (DAgger), which is where it has to know what to do.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.linalg
import torch
from safetensors.torch import save_file
from torch import Tensor

from aleator.random import Streams
from aleator.recipes.surrogate import pendulum
from aleator.recipes.surrogate.pendulum import MEASURED, TORQUE, Expert, Pendulum

ROUNDS, STEPS, BATCH = 30, 1500, 1024
FILE = Path(pendulum.__file__).with_name("pendulum.safetensors")


def controller(observed: Tensor) -> Tensor:
    """Return torques [n, 1] from observations [n, 3]."""
    cosine, sine, speed = observed.double().T
    angle = torch.atan2(sine, cosine)
    energy = speed.square() / 6 + 5 * cosine
    swing = (2.0 * (5 - energy) * torch.where(speed == 0, 1.0, speed)).clamp(-TORQUE, TORQUE)
    gain = torch.from_numpy(_gain())
    hold = -(gain[0] * angle + gain[1] * speed)
    near = (angle.abs() < 0.5) & (hold.abs() < 4 * TORQUE)
    return torch.where(near, hold.clamp(-TORQUE, TORQUE), swing)[:, None]


def _gain() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return K for θ'' = 15 θ + 3u in steps of 0.05 s, with the weights of the environment's own cost."""
    dt = 0.05
    a, b = np.array([[1 + 15 * dt**2, dt], [15 * dt, 1]]), np.array([[3 * dt**2], [3 * dt]])
    q, r = np.diag([1.0, 0.1]), np.array([[0.01]])
    p = scipy.linalg.solve_discrete_are(a, b, q, r)
    gain: np.ndarray[tuple[int], np.dtype[np.float64]] = np.linalg.solve(r + b.T @ p @ b, b.T @ p @ a)[0]
    return gain


def main() -> None:
    """Train, measure and save."""
    streams = Streams(0)
    with streams.scope("init"):
        network = Expert()
    system = Pendulum(streams.generator("rounds"), network)
    order = streams.generator("order")
    print(f"controller: {system.episodes(controller, MEASURED)[1]:.1f}")  # noqa: T201
    seeds = torch.randint(2**31, (10,), generator=order).tolist()
    states = system.episodes(controller, seeds)[0]
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, ROUNDS * STEPS)
    for round_index in range(ROUNDS):
        answers = controller(states).float()
        for _ in range(STEPS):
            batch = torch.randint(len(states), (BATCH,), generator=order)
            loss = (network(states[batch].float()) - answers[batch]).abs().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            decay.step()
        seeds = torch.randint(2**31, (10,), generator=order).tolist()
        fresh, value = system.episodes(system.ask, seeds)
        states = torch.cat([states, fresh])
        print(f"round {round_index + 1}: loss {loss.item():.3f}, return {value:.1f}")  # noqa: T201
    print(f"on the measured episodes: {system.episodes(system.ask, MEASURED)[1]:.1f}")  # noqa: T201
    save_file(network.state_dict(), FILE)


if __name__ == "__main__":
    main()

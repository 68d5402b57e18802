"""Two coupled numbers with a Gaussian density: every marginal, score and step is known in closed form."""

import numpy as np
import torch
from torch import Tensor

from aleator.sde import SDE, Solver, solve

DATA = np.array([[1.0, 0.9], [0.9, 1.0]])


def values(sde: SDE, t: float) -> tuple[float, float, float]:
    """m, s and g at t."""
    time = torch.tensor(t, dtype=torch.float64)
    return tuple(float(v) for v in (*sde.marginal(time), sde.diffusion(time)))


def covariance(sdes: tuple[SDE, SDE], t: float, data: np.ndarray = DATA) -> np.ndarray:
    """Of (x_t, y_t)."""
    m, s, _ = (np.diag(column) for column in zip(*(values(sde, t) for sde in sdes), strict=True))
    return m @ data @ m + s @ s


def exact_score(sdes: tuple[SDE, SDE], data: np.ndarray = DATA):
    """The partial scores of two states of shape [batch, 1]."""

    def score(states: tuple[Tensor, Tensor], t: Tensor) -> tuple[Tensor, Tensor]:
        precision = torch.from_numpy(np.linalg.inv(covariance(sdes, float(t[0]), data))).to(states[0])
        joint = -torch.cat(states, 1) @ precision
        return joint[:, :1], joint[:, 1:]

    return score


def solved_covariance(solver: Solver, sdes, start: np.ndarray, data: np.ndarray = DATA) -> np.ndarray:
    """What a solver without corrections makes of N(0, start), without sampling.

    Its result is linear in the initial states and in every number that it draws. So one batch holds, as its items, the
    answer to a unit in each of them.
    """
    score = exact_score(sdes, data)
    draws = 0

    def count(like: Tensor, state: int, generator: object) -> Tensor:
        nonlocal draws
        draws += 1
        return torch.zeros_like(like)

    one = torch.zeros(1, 1, dtype=torch.float64)
    generator = torch.Generator()
    solve(score, sdes, (one, one), solver, generator=generator, noise=count)
    total, draws = draws, 0

    def impulse(like: Tensor, state: int, generator: object) -> Tensor:
        nonlocal draws
        z = torch.zeros_like(like)
        z[2 + draws] = 1
        draws += 1
        return z

    init = torch.zeros(2 + total, 2, dtype=torch.float64)
    init[:2] = torch.eye(2)
    states = solve(score, sdes, (init[:, :1], init[:, 1:]), solver, generator=generator, noise=impulse).states
    answer = torch.cat(states, 1).numpy()
    return answer[:2].T @ start @ answer[:2] + answer[2:].T @ answer[2:]


def order(solver_of, sdes, steps=(200, 400)) -> float:
    """Order of the final covariance's error from an exact start; eps = 1/N makes the grid match the step."""
    errors = [
        np.linalg.norm(solved_covariance(solver_of(n), sdes, covariance(sdes, 1.0)) - covariance(sdes, 0.0))
        for n in steps
    ]
    return float(np.log2(errors[0] / errors[1]))

"""Rollouts of a flow: the steps that a policy gradient is taken of, with what was known when they were taken.

    for k = 0 … K − 1:   v = v_θ(x_k, s_k)         μ = mean of the step        d = λ h ∇r(x_k, s_k) where guided
                         x_{k+1} = μ + d + σ √h ε

Samples are what the last step guesses, x̂₀ = x_{K−1} − s v, and not x_K, which has the last step's noise in it. Process
rewards are recorded of all states, in guided steps and others, for advantages need them. With a window of steps only
those are random, the others follow the ODE, and only those are trained (J. Li et al., "MixGRPO", arXiv 2507.21802).

R. Zhong et al., "Euphonium", arXiv 2602.04928. Without guidance and process rewards it is a rollout of DanceGRPO or
Flow-GRPO.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from aleator.losses import Velocity, distillation_target
from aleator.sde import FlowSDE, Generator, Noise, RewardGuidance, check_sigmas, gaussian_noise, over_trailing
from aleator.video.process_reward import ProcessReward, reward_gradient, score
from aleator.video.rewards import ZeroOrderGuidance

LogProbMean = Literal["unguided", "guided"]
ODE = FlowSDE("none")


@dataclass(frozen=True)
class Trajectory:
    """What a rollout went through; without gradients."""

    states: tuple[Tensor, ...]
    """x_0 (noise) … x_K, each of shape [batch, ...]."""
    sigmas: Float[Tensor, " steps_and_one"]
    """The grid, on the CPU."""
    sde: FlowSDE
    """The kernel of the random steps."""
    random: tuple[bool, ...]
    """Of each step, whether it had noise."""
    log_probs: Float[Tensor, "batch steps"]
    """Mean log-probabilities of the steps; NaN where a step had no noise."""
    logprob_mean: LogProbMean
    """The mean that they are under."""
    shifts: tuple[Tensor | None, ...]
    """What guidance added to the mean of each step; None where it did not act."""
    targets: tuple[Tensor | None, ...]
    """The velocities that would have made random guided steps unguided ones; None elsewhere."""
    process_rewards: Float[Tensor, "batch steps_and_one"] | None
    """r of x_0 … x_K; None without a process reward."""
    x0_pred: Tensor
    """The samples: what the last step guessed."""
    log_weights: Float[Tensor, " batch"] | None
    """With which x_K is a draw of the tilted distribution; None if not asked for."""
    cond: Any
    """The condition of the samples."""
    figures: dict[str, Tensor] = field(default_factory=dict)
    """0-d tensors: "reward_grad_norm" and "shift_over_std", means over guided steps and samples."""

    def __len__(self) -> int:
        """Return K, the number of steps."""
        return len(self.random)

    @property
    def trained(self) -> list[int]:
        """The steps that a policy gradient is taken of: random ones, but for the last, which no sample depends on."""
        return [k for k in range(len(self) - 1) if self.random[k]]


@torch.no_grad()
def rollout(
    velocity: Velocity,
    x1: Float[Tensor, "batch ..."],
    sigmas: Float[Tensor, " steps_and_one"],
    sde: FlowSDE,
    cond: Any = None,
    *,
    prm: ProcessReward | None = None,
    guidance: RewardGuidance | None = None,
    zero_order: ZeroOrderGuidance | None = None,
    logprob_mean: LogProbMean = "unguided",
    window: tuple[int, int] | None = None,
    generator: Generator | None = None,
    noise: Noise = gaussian_noise,
    return_log_weights: bool = False,
    offload: torch.device | str | None = None,
) -> Trajectory:
    """Sample a flow and record how.

    The velocity is called as it will be in training: autocast and classifier-free guidance belong inside it, so that
    ratios are 1 before the first update. They are up to rounding, which differs where batches do.

    Args:
        velocity: (x, s, cond) → v.
        x1: the noise to begin with, such as `group_noise` draws, float32 or float64.
        sigmas: strictly decreasing times, such as `aleator.sde.shifted_sigmas`.
        sde: the kernel of the steps.
        cond: condition of the samples: a tensor with a row for each, or tensors in mappings, lists and tuples.
        prm: (x, s, cond) → process rewards.
        guidance: how far means follow the gradient of ``prm``.
        zero_order: guidance by a black box, beside that or alone.
        logprob_mean: record log-probabilities under the mean without guidance, so that training on them makes guidance
            superfluous, or under the guided one.
        window: (first step, step after the last) that is random, the others follow the ODE; None: all are.
        generator: feeds ``noise``; the ODE alone needs none.
        noise: draws standard noise.
        return_log_weights: weigh the paths, see `aleator.sde.RewardGuidance`. Takes one evaluation of ``prm`` more in
            every step, a guidance by ``beta`` in all steps, and a reward that is constant at s = 1.
        offload: a device to which states are moved as they are made, such as the CPU.

    Raises:
        ValueError: if an argument is out of range or lacks another one, a shape does not fit, or a velocity, a reward
            or its gradient is not finite.
    """
    if x1.ndim < 1 or not len(x1) or x1.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"x1 must be float32 or float64 of at least one sample, got {x1.dtype} of {tuple(x1.shape)}")
    check_sigmas(sigmas)
    steps = len(sigmas) - 1
    if guidance is not None and prm is None:
        raise ValueError("prm must be given where guidance is, got None")
    if logprob_mean not in ("unguided", "guided"):
        raise ValueError(f"logprob_mean must be unguided or guided, got {logprob_mean!r}")
    first, after = window if window is not None else (0, steps)
    if not 0 <= first < after <= steps:
        raise ValueError(f"window must be (first, after) with 0 <= first < after <= {steps}, got {window}")
    beta = _weighable(guidance, zero_order, window, steps) if return_log_weights else math.nan
    random = tuple(sde.noise != "none" and first <= k < after for k in range(steps))

    def kept(x: Tensor) -> Tensor:
        return x if offload is None else x.to(offload)

    grid = sigmas.cpu()
    x = x0_pred = x1
    log_weights = torch.zeros(len(x1), dtype=torch.float64, device=x1.device) if return_log_weights else None
    states, log_probs, rewards = [kept(x1)], [], []
    shifts: list[Tensor | None] = []
    targets: list[Tensor | None] = []
    sizes: list[tuple[Tensor, Tensor | None]] = []
    for k in range(steps):
        kernel = sde if random[k] else ODE
        s, s_next = (grid[i].to(x.device).expand(len(x)) for i in (k, k + 1))
        v = velocity(x, s, cond)
        gradient = None
        if prm is not None:
            if guidance is not None and guidance.acts(k):
                r, gradient = reward_gradient(prm, x, s, cond)
            else:
                r = score(prm, x, s, cond)
            rewards.append(r)
        follow = None if gradient is None else guidance
        step = kernel.step(x, v, s, s_next, generator=generator, noise=noise, reward_grad=gradient, guidance=follow)
        x_next, shift = step.x, step.shift
        x0_pred = x - over_trailing(s, x).to(x.dtype) * v.to(x.dtype)
        if zero_order is not None and zero_order.guidance.acts(k):
            if generator is None:
                raise ValueError("generator must be given where zero_order is, got None")
            slope = zero_order.gradient(x0_pred, cond, generator=generator, noise=noise)
            gradient = slope if gradient is None else gradient + slope
            more = zero_order.guidance.shift(slope, kernel.sigma(s, s_next), s - s_next)
            x_next, shift = x_next + more, more if shift is None else shift + more
        if random[k]:
            under = step.mean if shift is None or logprob_mean == "unguided" else step.mean + shift
            log_probs.append(kernel.log_prob(x_next, under, s, s_next))
        else:
            log_probs.append(torch.full((len(x),), torch.nan, dtype=step.mean.dtype, device=x.device))
        shifts.append(None if shift is None else kept(shift))
        to_distil = shift if random[k] else None
        targets.append(None if to_distil is None else kept(distillation_target(sde, v, to_distil, s, s_next)))
        if shift is not None and gradient is not None:
            sizes.append((_norms(gradient), _norms(shift) / sde.std(s, s_next) if random[k] else None))
        if log_weights is not None and prm is not None and gradient is not None:
            rise = score(prm, x, s_next, cond).double() - rewards[-1].double()
            along = (v.double() * gradient.double()).reshape(len(x), -1).sum(1)
            log_weights += (rise - (s - s_next).double() * along) / beta
        x = x_next
        states.append(kept(x))
    if prm is not None:
        rewards.append(score(prm, x, grid[-1].to(x.device).expand(len(x)), cond))
        _check_finite("prm must return finite rewards", torch.stack(rewards, 1))
    _check_finite("velocity and the gradients of rewards must be finite", x)
    if torch.is_autocast_enabled():  # or training would find the weights cast here, without gradients
        torch.clear_autocast_cache()
    return Trajectory(
        states=tuple(states),
        sigmas=grid,
        sde=sde,
        random=random,
        log_probs=torch.stack(log_probs, 1),
        logprob_mean=logprob_mean,
        shifts=tuple(shifts),
        targets=tuple(targets),
        process_rewards=torch.stack(rewards, 1) if prm is not None else None,
        x0_pred=x0_pred,
        log_weights=log_weights,
        cond=cond,
        figures=_means(sizes),
    )


def _weighable(
    guidance: RewardGuidance | None, zero_order: ZeroOrderGuidance | None, window: tuple[int, int] | None, steps: int
) -> float:
    """β, where the steps are those of the guided equation, which the weights are of."""
    if guidance is None or guidance.beta is None or not guidance.times_dt or guidance.normalize:
        raise ValueError(
            f"return_log_weights needs guidance by beta, times_dt and without normalize, got guidance={guidance}"
        )
    if not all(guidance.acts(k) for k in range(steps)):
        raise ValueError(f"return_log_weights needs guidance in all {steps} steps, got {guidance}")
    for name, value in (("window", window), ("zero_order", zero_order)):
        if value is not None:
            raise ValueError(f"return_log_weights cannot be used with {name}, got {value}")
    return guidance.beta


def _check_finite(what: str, values: Tensor) -> None:
    if not bool(values.isfinite().all()):
        raise ValueError(f"{what}, got {float(values[~values.isfinite()][0]):g}")


def _norms(x: Tensor) -> Float[Tensor, " batch"]:
    norms: Tensor = torch.linalg.vector_norm(x.reshape(len(x), -1), dim=1)
    return norms


def _means(sizes: Sequence[tuple[Tensor, Tensor | None]]) -> dict[str, Tensor]:
    figures = {}
    if sizes:
        figures["reward_grad_norm"] = torch.stack([norm for norm, _ in sizes]).mean()
    ratios = [ratio for _, ratio in sizes if ratio is not None]
    if ratios:
        figures["shift_over_std"] = torch.stack(ratios).mean()
    return figures

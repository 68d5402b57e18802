"""Flow matching on straight paths, and the velocity that makes a flow go by itself where a reward has pushed it.

    x_s = (1 − s) x₀ + s z,    ℓ = mean (v(x_s, s) − (z − x₀))²

is smallest at v = E[z − x₀ | x_s], and is not 0 there: for data N(m, q) its least value is q / ((1 − s)² q + s²) an
element. A step that guidance moved by d from its mean, see `aleator.sde.FlowSDE`, is the unguided step of

    v* = v − d / (h c),

so that regression on v* with the weight h c²/(2 σ²), `FlowSDE.kl`, teaches the flow what the guidance did.

Y. Lipman et al., "Flow Matching for Generative Modeling", ICLR 2023, arXiv 2210.02747; X. Liu, C. Gong, Q. Liu, "Flow
Straight and Fast", ICLR 2023, arXiv 2209.03003. Distilling the guidance so is the house's reading of Euphonium, arXiv
2602.04928, whose program has no such term.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from aleator.sde import FlowSDE, over_trailing

# States [batch, ...], times [batch] and a condition, or None → velocities like the states.
Velocity: TypeAlias = Callable[[Tensor, Tensor, Any], Tensor]


def flow_matching(
    velocity: Velocity,
    x0: Float[Tensor, "batch ..."],
    noise: Float[Tensor, "batch ..."],
    s: Float[Tensor, " batch"],
    cond: Any = None,
) -> Float[Tensor, ""]:
    """Return the loss, the mean over all elements, in float32 or wider.

    Args:
        velocity: (x, s, cond) → v.
        x0: data.
        noise: z, standard normal.
        s: times in [0, 1], one for each sample.
        cond: handed on to ``velocity``.

    Raises:
        ValueError: if shapes differ, the batch is empty, or, on a CPU, if a time is not in [0, 1]; elsewhere the loss
            is NaN then.
    """
    if noise.shape != x0.shape:
        raise ValueError(f"noise must have the shape of x0, {tuple(x0.shape)}, got {tuple(noise.shape)}")
    if s.shape != x0.shape[:1] or not len(s):
        raise ValueError(f"s must have one time for each of {len(x0)} samples, at least one, got {tuple(s.shape)}")
    inside = (s >= 0) & (s <= 1)
    if s.device.type == "cpu" and not torch.compiler.is_compiling() and not bool(inside.all()):
        raise ValueError(f"s must be in [0, 1], got {float(s[~inside][0]):g}")
    times = over_trailing(torch.where(inside, s, torch.nan), x0).to(x0.dtype)
    v = velocity((1 - times) * x0 + times * noise, s, cond)
    if v.shape != x0.shape:
        raise ValueError(f"velocity must return the shape of its states, {tuple(x0.shape)}, got {tuple(v.shape)}")
    dtype = torch.promote_types(torch.promote_types(v.dtype, x0.dtype), torch.float32)
    return (v.to(dtype) - (noise.to(dtype) - x0.to(dtype))).square().mean()


def distillation_target(
    sde: FlowSDE,
    v: Float[Tensor, "batch ..."],
    shift: Float[Tensor, "batch ..."],
    s: Float[Tensor, " batch"],
    s_next: Float[Tensor, " batch"],
) -> Float[Tensor, "batch ..."]:
    """Return v*, whose unguided step is the guided step of ``v``; without gradient.

    Args:
        sde: the kernel of the steps.
        v: the velocities of the guided rollout.
        shift: what guidance added to the means.
        s: where the steps began.
        s_next: where they ended.

    Raises:
        ValueError: if shapes differ.
    """
    if shift.shape != v.shape:
        raise ValueError(f"shift must have the shape of v, {tuple(v.shape)}, got {tuple(shift.shape)}")
    dtype = torch.promote_types(torch.promote_types(v.dtype, shift.dtype), torch.float32)
    follows = over_trailing(sde.velocity_factor(s, s_next), v).to(dtype)
    return (v.to(dtype) - shift.to(dtype) / follows).detach()

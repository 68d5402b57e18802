"""Policy gradients without a critic: a reward is compared with those of its group, and the ratio is clipped.

The samples of a group have one prompt. With their mean m and deviation d,

    A = clamp((r − m) / (d + ε), ±clip),    ℓ = max(−ρ A, −clamp(ρ, 1 ± clip) A),    ρ = exp(log π − log π_old).

The deviation is the group's, or that of the whole batch (Flow-GRPO), and unbiased or not. A group whose rewards are
all equal has no advantage; equal means equal up to 10⁻⁶, for 10⁻⁸ in the denominator would make rounding errors large.

Z. Shao et al., "DeepSeekMath", arXiv 2402.03300 (GRPO); clipping by J. Schulman et al., arXiv 1707.06347.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

EQUAL = 1e-6  # a deviation below this is rounding, in units of the mean where that is above 1


def group_advantages(
    rewards: Float[Tensor, "batch ..."],
    group_size: int,
    clip: float | None = 5.0,
    std: Literal["group", "batch"] = "group",
    unbiased: bool = True,
    eps: float = 1e-8,
) -> Float[Tensor, "batch ..."]:
    """Return advantages within groups of neighbours, each step by itself, without gradient and at least in float32.

    Args:
        rewards: one for each sample, or one for each sample and step. Groups are neighbours in the batch.
        group_size: G, at least 2.
        clip: bound of the advantages, positive; None leaves them. They cannot be beyond (G − 1)/√G in any case.
        std: divide by the deviation in the group, or by that of all samples of the batch.
        unbiased: whether the deviation is with G − 1 instead of G.
        eps: ε, not negative.

    Raises:
        ValueError: if a value is out of range, the batch is no multiple of the group, or a reward is not finite.
    """
    if group_size < 2:
        raise ValueError(f"group_size must be at least 2, got {group_size}")
    if clip is not None and not clip > 0:
        raise ValueError(f"clip must be positive, got {clip}")
    if std not in ("group", "batch"):
        raise ValueError(f"std must be group or batch, got {std!r}")
    if not 0 <= eps < math.inf:
        raise ValueError(f"eps must not be negative, got {eps}")
    if rewards.ndim < 1 or not len(rewards) or len(rewards) % group_size:
        raise ValueError(
            f"rewards must be for a multiple of group_size = {group_size} samples, got shape {tuple(rewards.shape)}"
        )
    if not bool(rewards.isfinite().all()):
        raise ValueError(f"rewards must be finite, got {float(rewards[~rewards.isfinite()][0]):g}")
    r = rewards.detach().double().reshape(-1, group_size, *rewards.shape[1:])
    means = r.mean(1, keepdim=True)
    over = (0, 1) if std == "batch" else (1,)
    deviations = r.std(over, correction=int(unbiased), keepdim=True)
    flat = deviations <= EQUAL * r.mean(over, keepdim=True).abs().clamp(min=1)
    advantages = torch.where(flat, 0.0, (r - means) / (deviations + eps))
    if clip is not None:
        advantages = advantages.clamp(-clip, clip)
    return advantages.reshape(rewards.shape).to(torch.promote_types(rewards.dtype, torch.float32))


def clipped_surrogate(
    logp_new: Float[Tensor, " batch"],
    logp_old: Float[Tensor, " batch"],
    advantages: Float[Tensor, " batch"],
    clip: float,
) -> Float[Tensor, " batch"]:
    """Return max(−ρ A, −clamp(ρ, 1 ± clip) A), one loss for each sample.

    Args:
        logp_new: log-probabilities under the policy that is trained.
        logp_old: of the same steps when they were taken.
        advantages: A.
        clip: half the width of the clipping, positive. For log-probabilities that are means over the elements of a
            sample it is small, such as 10⁻⁴.

    Raises:
        ValueError: if ``clip`` is not positive or shapes differ.
    """
    if not 0 < clip < math.inf:
        raise ValueError(f"clip must be positive and finite, got {clip}")
    for name, tensor in (("logp_old", logp_old), ("advantages", advantages)):
        if tensor.shape != logp_new.shape:
            raise ValueError(
                f"{name} must have the shape of logp_new, {tuple(logp_new.shape)}, got {tuple(tensor.shape)}"
            )
    ratio = torch.exp(logp_new - logp_old)
    return torch.maximum(-ratio * advantages, -ratio.clamp(1 - clip, 1 + clip) * advantages)

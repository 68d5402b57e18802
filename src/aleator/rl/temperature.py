"""The temperature α of the entropy, and the rules by which it follows the policy.

    exp_sgd      α ← α · exp(lr · α · (H_target − H))    the authors' STAC: gradient descent on log α
    exp_plain    α ← α · exp(lr · (H_target − H))        the authors' SAC, five times as fast at α = 0.2
    adam         Adam on log α, gradient H − H_target    what most libraries do

A comparison of algorithms should use one of them for all. H is the mean of −log π over the batch, with the actions of
the actor's step. α stays on the device and is never read.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from aleator.rl.lean_adam import LeanAdam

Rule = Literal["exp_sgd", "exp_plain", "adam"]
RULES = ("exp_sgd", "exp_plain", "adam")


def temperature_step(
    alpha: float | Tensor, entropy: float | Tensor, target_entropy: float, lr: float, rule: str = "exp_sgd"
) -> Any:
    """Return the next temperature by a rule without memory: a number, or a tensor if one was given.

    Args:
        alpha: the temperature, positive.
        entropy: H, in nats.
        target_entropy: H_target.
        lr: step size.
        rule: ``"exp_sgd"`` or ``"exp_plain"``.

    Raises:
        ValueError: if ``rule`` is neither.
    """
    if rule not in ("exp_sgd", "exp_plain"):
        raise ValueError(f"rule must be exp_sgd or exp_plain, got {rule!r}")
    exponent = lr * (target_entropy - entropy)
    if rule == "exp_sgd":
        exponent = alpha * exponent
    return alpha * (exponent.exp() if isinstance(exponent, Tensor) else math.exp(exponent))


class Temperature(nn.Module):
    """A temperature that is fixed, or follows a rule.

    Args:
        alpha: at the beginning; one number, or one for each member.
        target_entropy: H_target; None keeps the temperature as it is.
        lr: step size.
        rule: how it moves.
    """

    alpha: Tensor

    def __init__(self, alpha: float | Tensor, target_entropy: float | None, lr: float, rule: Rule = "exp_sgd") -> None:
        super().__init__()
        self.target_entropy, self.lr, self.rule = target_entropy, lr, rule
        self.register_buffer("alpha", torch.as_tensor(alpha, dtype=torch.get_default_dtype()).clone())
        self.optimizer: torch.optim.Optimizer | None = None
        if rule == "adam" and target_entropy is not None:
            self.log_alpha = nn.Parameter(self.alpha.log(), requires_grad=False)
            self.optimizer = LeanAdam([self.log_alpha], lr)

    @torch.no_grad()
    def step(self, entropy: Tensor) -> None:
        """Move once, after the actor did, with the entropy that it had before."""
        if self.target_entropy is None:
            return
        if self.optimizer is None:
            moved = temperature_step(self.alpha, entropy, self.target_entropy, self.lr, self.rule)
            self.alpha.copy_(moved)
        else:
            self.log_alpha.grad = (entropy - self.target_entropy).to(self.log_alpha)
            self.optimizer.step()
            torch.exp(self.log_alpha, out=self.alpha)

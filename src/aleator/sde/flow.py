"""A flow made stochastic: the same marginals as its ODE, with a kernel whose density is known.

With x_s = (1 − s) x₀ + s z, 1 the noise and 0 the data, a network v = E[z − x₀ | x_s] moves noise to data along an ODE.
Its velocity also tells the score, ∇ log p_s(x) = −(x + (1 − s) v)/s, so that for every noise level σ ≥ 0 a step from s
to s' < s, h = s − s',

    x' = μ + σ √h ε,    μ = x − h [c v + σ² x / (2 s)],    c = 1 + σ² (1 − s) / (2 s)

has the marginals of the ODE up to the error of Euler's method. Being Gaussian it has a likelihood, which is what policy
gradients need, and between two velocities a divergence of h c² ‖v − v'‖² / (2 σ²).

    noise        σ                        by
    constant     eta                      DanceGRPO, arXiv 2505.07818; Euphonium, arXiv 2602.04928
    flow_grpo    eta √(s / (1 − s))       Flow-GRPO, arXiv 2505.05470; at s = 1 with s' in the place of s below
    none         0                        the ODE

Log-probabilities are means over the elements of a sample unless the sum is asked for: the ratios of these methods, and
with them their narrow clipping, are of the mean. Everything is computed in float32, or wider where the state is.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from aleator.sde.noise import Generator, Noise, gaussian_noise
from aleator.sde.processes import over_trailing
from aleator.sde.reward_guidance import RewardGuidance

FlowNoise = Literal["constant", "flow_grpo", "none"]


class FlowStep(NamedTuple):
    """One step of a flow."""

    x: Tensor
    """x', the next state."""
    mean: Tensor
    """μ, without guidance."""
    shift: Tensor | None
    """What guidance added to μ; None without guidance."""


def shifted_sigmas(
    steps: int, shift: float = 1.0, *, dtype: torch.dtype = torch.float32
) -> Float[Tensor, " steps_and_one"]:
    """Return a grid from 1 down to 0 of which a larger ``shift`` spends more steps near the noise.

    It is u ↦ shift u / (1 + (shift − 1) u) of evenly spaced u. The scheduler of diffusers gives it for
    ``set_timesteps(sigmas=linspace(1, 1/steps, steps))``, and another one for ``set_timesteps(steps)``.

    Args:
        steps: K, at least 1; the grid has K + 1 values.
        shift: positive.
        dtype: of the grid; it is computed in float64.

    Raises:
        ValueError: if a value is out of range.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if not 0 < shift < math.inf:
        raise ValueError(f"shift must be positive and finite, got {shift}")
    u = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    return (shift * u / (1 + (shift - 1) * u)).to(dtype)


def check_sigmas(sigmas: Tensor) -> None:
    """Refuse a grid that a flow cannot be sampled on.

    Raises:
        ValueError: unless it has at least two values, strictly decreasing from at most 1 to at least 0.
    """
    if sigmas.ndim != 1 or len(sigmas) < 2 or not sigmas.is_floating_point():
        raise ValueError(
            f"sigmas must be at least two numbers in a row, got shape {tuple(sigmas.shape)} of {sigmas.dtype}"
        )
    values = sigmas.tolist()
    if not (values[0] <= 1 and values[-1] >= 0 and all(a > b for a, b in itertools.pairwise(values))):
        raise ValueError(
            f"sigmas must decrease strictly within [0, 1], got {', '.join(f'{value:.4g}' for value in values)}"
        )


@dataclass(frozen=True)
class FlowSDE:
    """The stochastic kernels of a flow. Times are tensors of shape [batch], one for each sample.

    Args:
        noise: the law of σ.
        eta: its factor, positive; "none" does not look at it.

    Raises:
        ValueError: if the noise is unknown or ``eta`` is out of range. Methods raise it, on a CPU, where a step does
            not go from s in (0, 1] down to s' in [0, s); elsewhere, where to look would mean to wait for the device,
            the result is NaN then.
    """

    noise: FlowNoise = "constant"
    eta: float = 0.25

    def __post_init__(self) -> None:
        if self.noise not in ("constant", "flow_grpo", "none"):
            raise ValueError(f"noise must be constant, flow_grpo or none, got {self.noise!r}")
        if self.noise != "none" and not 0 < self.eta < math.inf:
            raise ValueError(f"eta must be positive and finite (noise none is the ODE), got {self.eta}")

    def sigma(self, s: Float[Tensor, " batch"], s_next: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Return σ for the steps from ``s`` to ``s_next``."""
        return self._sigma(*_interval(s, s_next))

    def std(self, s: Float[Tensor, " batch"], s_next: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Return σ √h, the deviation of a step."""
        s, s_next = _interval(s, s_next)
        return self._sigma(s, s_next) * torch.sqrt(s - s_next)

    def velocity_factor(self, s: Float[Tensor, " batch"], s_next: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Return h c, by which the mean of a step follows a change of the velocity, with the sign turned."""
        s, s_next = _interval(s, s_next)
        return _factors(s, s_next, self._sigma(s, s_next))[1]

    def mean(
        self,
        x: Float[Tensor, "batch ..."],
        v: Float[Tensor, "batch ..."],
        s: Float[Tensor, " batch"],
        s_next: Float[Tensor, " batch"],
        reward_grad: Float[Tensor, "batch ..."] | None = None,
        guidance: RewardGuidance | None = None,
    ) -> Float[Tensor, "batch ..."]:
        """Return μ, and with a reward's gradient the guided mean.

        Args:
            x: the states at ``s``.
            v: the velocities there.
            s: where the states are, in (0, 1].
            s_next: where the step goes, below ``s``.
            reward_grad: gradient of the process reward in ``x``.
            guidance: how far the mean follows it.

        Raises:
            ValueError: if shapes differ, or only one of ``reward_grad`` and ``guidance`` is given.
        """
        s, s_next = _interval(s, s_next, x, v)
        sigma = self._sigma(s, s_next)
        mean = _mean(x, v, s, s_next, sigma)
        shift = _shift(x, s, s_next, sigma, reward_grad, guidance)
        return mean if shift is None else mean + shift

    def step(
        self,
        x: Float[Tensor, "batch ..."],
        v: Float[Tensor, "batch ..."],
        s: Float[Tensor, " batch"],
        s_next: Float[Tensor, " batch"],
        *,
        generator: Generator | None = None,
        noise: Noise = gaussian_noise,
        reward_grad: Float[Tensor, "batch ..."] | None = None,
        guidance: RewardGuidance | None = None,
    ) -> FlowStep:
        """Take a step, as `mean` and one draw of ``noise``.

        Args:
            x: the states at ``s``.
            v: the velocities there.
            s: where the states are, in (0, 1].
            s_next: where the step goes, below ``s``.
            generator: feeds ``noise`` and nothing else; the ODE needs none.
            noise: draws standard noise.
            reward_grad: gradient of the process reward in ``x``.
            guidance: how far the mean follows it.

        Raises:
            ValueError: as `mean`, or if noise has to be drawn and there is no generator.
        """
        s, s_next = _interval(s, s_next, x, v)
        sigma = self._sigma(s, s_next)
        mean = _mean(x, v, s, s_next, sigma)
        shift = _shift(x, s, s_next, sigma, reward_grad, guidance)
        end = mean if shift is None else mean + shift
        if self.noise != "none":
            if generator is None:
                raise ValueError(f"generator must be given where noise is {self.noise}, got None")
            std = over_trailing(sigma * torch.sqrt(s - s_next), mean).to(mean.dtype)
            end = torch.addcmul(end, std, noise(mean, 0, generator))
        return FlowStep(end, mean, shift)

    def log_prob(
        self,
        x_next: Float[Tensor, "batch ..."],
        mean: Float[Tensor, "batch ..."],
        s: Float[Tensor, " batch"],
        s_next: Float[Tensor, " batch"],
        reduce: Literal["mean", "sum"] = "mean",
    ) -> Float[Tensor, " batch"]:
        """Return the log-density of the step to ``x_next``, for each sample.

        Args:
            x_next: where the step arrived.
            mean: μ, or the guided mean.
            s: where the step began.
            s_next: where it ended.
            reduce: the mean over a sample's elements, or their sum, which is the density itself.

        Raises:
            ValueError: if there is no noise and hence no density, shapes differ, or ``reduce`` is unknown.
        """
        if reduce not in ("mean", "sum"):
            raise ValueError(f"reduce must be mean or sum, got {reduce!r}")
        _check_shape("mean", mean, x_next)
        self._needs_noise("a log-probability")
        dtype = _wide(x_next, mean)
        std = self.std(s.to(_wide(s, x_next, mean)), s_next)
        z = (x_next.to(dtype) - mean.to(dtype)) / over_trailing(std, x_next).to(dtype)
        squares = z.square().reshape(len(z), z.shape[1:].numel())
        log_std = (torch.log(std) + 0.5 * math.log(2 * math.pi)).to(dtype)
        if reduce == "mean":
            return -0.5 * squares.mean(1) - log_std
        return -0.5 * squares.sum(1) - squares.shape[1] * log_std

    def kl(
        self,
        v: Float[Tensor, "batch ..."],
        v_ref: Float[Tensor, "batch ..."],
        s: Float[Tensor, " batch"],
        s_next: Float[Tensor, " batch"],
    ) -> Float[Tensor, " batch"]:
        """Return the divergence between steps by two velocities: the mean over elements of h c² (v − v_ref)²/(2 σ²).

        Which of the two comes first makes no difference: they have one deviation.

        Raises:
            ValueError: if there is no noise, or shapes differ.
        """
        _check_shape("v_ref", v_ref, v)
        self._needs_noise("a divergence")
        dtype = _wide(v, v_ref)
        s, s_next = _interval(s, s_next, v, v_ref)
        sigma = self._sigma(s, s_next)
        weight = _factors(s, s_next, sigma)[1].square() / (2 * sigma.square() * (s - s_next))
        return weight.to(dtype) * (v.to(dtype) - v_ref.to(dtype)).square().reshape(len(v), v.shape[1:].numel()).mean(1)

    def _sigma(self, s: Tensor, s_next: Tensor) -> Tensor:
        if self.noise == "constant":
            return torch.where(s.isnan(), s, self.eta)
        if self.noise == "flow_grpo":
            return self.eta * torch.sqrt(s / (1 - torch.where(s < 1, s, s_next)))
        return s * 0

    def _needs_noise(self, what: str) -> None:
        if self.noise == "none":
            raise ValueError(f"noise must be constant or flow_grpo where {what} is asked for, got none")


def _wide(*tensors: Tensor) -> torch.dtype:
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def _interval(s: Tensor, s_next: Tensor, *states: Tensor) -> tuple[Tensor, Tensor]:
    """The ends of steps, in at least float32 and no narrower than the states; NaN where they are none."""
    if s.shape != s_next.shape or s.ndim != 1:
        raise ValueError(f"s and s_next must have one shape [batch], got {tuple(s.shape)} and {tuple(s_next.shape)}")
    dtype = _wide(s, s_next, *states)
    s, s_next = s.to(dtype), s_next.to(dtype)
    sound = (s <= 1) & (s_next >= 0) & (s_next < s)
    if s.device.type == "cpu" and not torch.compiler.is_compiling() and not bool(sound.all()):
        wrong = int((~sound).nonzero()[0])
        raise ValueError(
            f"s and s_next must be 1 >= s > s_next >= 0, got s={float(s[wrong]):g} and s_next={float(s_next[wrong]):g}"
        )
    return torch.where(sound, s, torch.nan), s_next


def _factors(s: Tensor, s_next: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """What the mean of a step has of the state, and of the velocity with the sign turned."""
    h = s - s_next
    half = h * sigma.square() / (2 * s)
    return 1 - half, h + half * (1 - s)


def _mean(x: Tensor, v: Tensor, s: Tensor, s_next: Tensor, sigma: Tensor) -> Tensor:
    _check_shape("v", v, x)
    if s.shape != x.shape[:1]:
        raise ValueError(f"s must have one time for each of {len(x)} samples, got shape {tuple(s.shape)}")
    of_x, of_v = (over_trailing(factor, x).to(_wide(x, v)) for factor in _factors(s, s_next, sigma))
    return torch.addcmul(of_x * x, of_v, v.to(of_v.dtype), value=-1)


def _shift(
    x: Tensor,
    s: Tensor,
    s_next: Tensor,
    sigma: Tensor,
    reward_grad: Tensor | None,
    guidance: RewardGuidance | None,
) -> Tensor | None:
    if (reward_grad is None) != (guidance is None):
        missing = "guidance" if guidance is None else "reward_grad"
        raise ValueError(f"reward_grad and guidance must be given together, got no {missing}")
    if reward_grad is None or guidance is None:
        return None
    _check_shape("reward_grad", reward_grad, x)
    return guidance.shift(reward_grad.to(_wide(x, reward_grad)), sigma, s - s_next)


def _check_shape(name: str, tensor: Tensor, like: Tensor) -> None:
    if tensor.shape != like.shape:
        raise ValueError(f"{name} must have the shape of the state, {tuple(like.shape)}, got {tuple(tensor.shape)}")

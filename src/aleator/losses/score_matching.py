"""Denoising score matching: the score of noisy data is learned by guessing the noise that was added.

For coupled states x¹, x², … that each went through a process of their own up to one common time t,

    ℓⁱ = ½ E ‖ sⁱ(t) Sⁱ(x¹_t, x²_t, …, t) + zⁱ ‖²,    xⁱ_t = mⁱ(t) xⁱ_0 + sⁱ(t) zⁱ,    t ~ U(ε, 1),

is smallest where Sⁱ is the partial score ∇ᵢ log p_t(x¹, x², …). The smallest value is not 0: for Gaussian data of
deviation c it is ½ m² c² / (m² c² + s²) per coordinate.

P. Vincent, Neural Computation 23 (2011); weighting and coupling as in J. Jo, S. Lee, S. J. Hwang, ICML 2022, arXiv
2202.02514, equations 4 and 5.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from aleator.sde import SDE, Constrain, Noise, Score, gaussian_noise, over_trailing


def denoising_score_matching(
    score: Score,
    sdes: Sequence[SDE],
    states: Sequence[Tensor],
    t: Float[Tensor, " batch"] | None = None,
    noise: Sequence[Tensor] | Noise = gaussian_noise,
    *,
    generator: torch.Generator | None = None,
    constrain: Constrain | None = None,
    reduce_mean: bool = False,
    likelihood_weighting: bool = False,
    eps: float = 1e-5,
) -> tuple[Float[Tensor, ""], ...]:
    """Return one loss for each state, averaged over the batch.

    Args:
        score: (states, t of shape [batch]) → one partial score for each state. It is called once, with all states.
        sdes: one process for each state.
        states: x_0, each of shape [batch, ...].
        t: times in (0, 1], one for each item and shared by its states; None draws them, before the noise.
        noise: z itself, or a callable that draws it for one state, such as noise that is symmetric.
        generator: feeds the draws; needed unless both ``t`` and z are given.
        constrain: a linear projection of a tuple of states, such as a mask; applied to z, to x_t and to the scores.
        reduce_mean: the mean over all entries of a state, padding included, instead of half their sum.
        likelihood_weighting: (S + z/s)² g² instead of (s S + z)², which makes the loss a bound of the likelihood. Its
            variance is large at small t.
        eps: ε, in [0, 1).

    Raises:
        ValueError: if ``eps`` is out of range, if states, processes, times, noise or scores do not fit each other, if
            something has to be drawn and there is no generator, or, on a CPU, if a time is not in (0, 1]. Elsewhere,
            where to look would mean to wait for the device, the loss is NaN then.
    """
    if not 0 <= eps < 1:
        raise ValueError(f"eps must be in [0, 1), got {eps}")
    clean = tuple(states)
    if not clean or len(clean) != len(sdes):
        raise ValueError(f"states must be one for each of {len(sdes)} processes, got {len(clean)}")
    batch = len(clean[0])
    if t is None:
        t = eps + (1 - eps) * torch.rand(
            batch, generator=_given(generator, "t"), dtype=clean[0].dtype, device=clean[0].device
        )
    elif t.shape != (batch,):
        raise ValueError(f"t must have shape ({batch},), one time for each item, got {tuple(t.shape)}")
    else:
        t = _within_the_process(t)
    project = constrain if constrain is not None else _as_it_is
    z = tuple(noise(x, i, _given(generator, "noise")) for i, x in enumerate(clean)) if callable(noise) else tuple(noise)
    _check_shapes("noise", z, clean)
    z = project(z)
    marginals = [
        tuple(over_trailing(value, x) for value in sde.marginal(t)) for sde, x in zip(sdes, clean, strict=True)
    ]
    noisy = project(tuple(m * x + s * n for (m, s), x, n in zip(marginals, clean, z, strict=True)))
    scores = tuple(score(noisy, t))
    _check_shapes("score", scores, clean)
    losses = []
    for sde, (_, std), guess, target in zip(sdes, marginals, project(scores), z, strict=True):
        residual = guess + target / std if likelihood_weighting else std * guess + target
        squares = residual.square().flatten(1)
        per_item = squares.mean(1) if reduce_mean else 0.5 * squares.sum(1)
        losses.append((per_item * sde.diffusion(t).square() if likelihood_weighting else per_item).mean())
    return tuple(losses)


def _within_the_process(t: Tensor) -> Tensor:
    inside = (t > 0) & (t <= 1)
    if t.device.type == "cpu" and not torch.compiler.is_compiling() and not bool(inside.all()):
        raise ValueError(f"t must be in (0, 1], got {float(t[~inside][0]):g}")
    return torch.where(inside, t, torch.nan)


def _as_it_is(states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return states


def _given(generator: torch.Generator | None, what: str) -> torch.Generator:
    if generator is None:
        raise ValueError(f"generator must be given where {what} has to be drawn, got None")
    return generator


def _check_shapes(name: str, found: tuple[Tensor, ...], states: tuple[Tensor, ...]) -> None:
    shapes, wanted = ([tuple(x.shape) for x in group] for group in (found, states))
    if shapes != wanted:
        raise ValueError(f"{name} must have shapes {wanted}, got {shapes}")

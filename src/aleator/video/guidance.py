"""Classifier-free guidance over text and identity, with a scale for each step of the sampler.

The negative branch has the empty text, the vision tokens of a black image and an identity of zeros. Shallow features of
a photograph are the same in both branches, so that guidance does not amplify them:

    v = v_negative + g_i (v_positive − v_negative).

The authors' "dynamic guidance" is g = 1 + s (1 − cos(π ((N − t)/N)⁵))/2 with the training timestep t in the place of
the step i; it goes up and down between 1 and 1 + s. With the step it falls from 1 + s to about 1, see PR 13172 of
diffusers; the authors of CogVideo call the other an accident that works. Both are here, by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

GUIDED = ("text", "vision", "identity")
"""Parts of a condition that the negative branch has others of."""


def trailing_timesteps(steps: int, train_steps: int = 1000) -> Int64[Tensor, " steps"]:
    """Return the training timesteps of a sampler's steps, evenly from the last one down: 999, 979, …, 19 for 50.

    Raises:
        ValueError: if there is no step, or more than training has.
    """
    if not 1 <= steps <= train_steps:
        raise ValueError(f"steps must be in [1, {train_steps}], got {steps}")
    return torch.tensor([round(train_steps - i * train_steps / steps) - 1 for i in range(steps)])


def guidance_schedule(
    kind: Literal["constant", "progress", "released"], scale: float, steps: int, *, train_steps: int = 1000
) -> Float64[Tensor, " steps"]:
    """Return the guidance scale of each step of a sampler.

    Args:
        kind: ``"constant"``: the scale; ``"progress"``: from 1 + scale to about 1; ``"released"``: as the authors'
            code has it, a wave between 1 and 1 + scale.
        scale: s, not negative. A step whose guidance scale is 1 needs one forward pass, see `guided`.
        steps: N, of the sampler.
        train_steps: timesteps of training.

    Raises:
        ValueError: if a value is out of its range.
    """
    if not 0 <= scale < math.inf:
        raise ValueError(f"scale must be finite and not negative, got {scale}")
    timesteps = trailing_timesteps(steps, train_steps).double()
    if kind == "constant":
        return torch.full((steps,), float(scale), dtype=torch.float64)
    if kind not in ("progress", "released"):
        raise ValueError(f'kind must be "constant", "progress" or "released", got {kind!r}')
    at = torch.arange(steps, dtype=torch.float64) if kind == "progress" else timesteps
    return 1 + scale * (1 - torch.cos(math.pi * ((steps - at) / steps) ** 5)) / 2


def negative_condition(
    condition: Mapping[str, Tensor], text: Float[Tensor, "tokens dim"], vision: Float[Tensor, "patches width"]
) -> dict[str, Tensor]:
    """Return the condition of the negative branch.

    Args:
        condition: with ``text``, ``vision`` and ``identity``; what else it has stays.
        text: tokens of the empty text.
        vision: tokens of a black image.

    Raises:
        ValueError: if a part is missing.
    """
    missing = [name for name in GUIDED if name not in condition]
    if missing:
        raise ValueError(f"condition must have {', '.join(GUIDED)}, got none of {', '.join(missing)}")
    return {
        **condition,
        "text": text.to(condition["text"]).expand_as(condition["text"]),
        "vision": vision.to(condition["vision"]).expand_as(condition["vision"]),
        "identity": torch.zeros_like(condition["identity"]),
    }


def guided(
    predict: Callable[[Tensor, Mapping[str, Tensor]], Tensor],
    x: Float[Tensor, batch * shape],
    condition: Mapping[str, Tensor],
    negative: Mapping[str, Tensor],
    scale: float,
) -> Float[Tensor, batch * shape]:
    """Return the guided prediction: from one forward pass of both branches, and of the positive one at scale 1.

    Args:
        predict: samples and their conditions → predictions.
        x: noisy samples.
        condition: of the positive branch, by names.
        negative: of the negative branch, with the same names.
        scale: g.
    """
    if scale == 1:
        return predict(x, condition)
    both = {name: torch.cat([negative[name], part]) for name, part in condition.items()}
    without, having = predict(torch.cat([x, x]), both).chunk(2)
    return without + scale * (having - without)

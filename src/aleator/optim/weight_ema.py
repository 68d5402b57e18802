"""A running mean of the weights, which a noisy training ends better with than with its last step.

    w̄ ← w̄ + (1 − d_n) (w − w̄),    d_n = min(d, (1 + n)/(10 + n)),    n = 1, 2, …

w̄ starts as the weights at construction. The warm-up lets the mean forget them within the first steps: d_n reaches 0.999
at n = 8 990. The object is torch's ``AveragedModel``; what is here is the rule.

The warm-up is the same as in TensorFlow's ``ExponentialMovingAverage``; score-based models of Y. Song et al. (ICLR
2021) and J. Jo et al. (ICML 2022) are published with it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

ParameterList = tuple[Tensor, ...] | list[Tensor]


def weight_ema(model: nn.Module, decay: float = 0.999) -> AveragedModel:
    """Return a copy of the model whose parameters follow the model's as a running mean with warm-up.

    Call ``update_parameters(model)`` after every optimizer step; evaluate and sample with the copy's ``module``, whose
    buffers are the model's last ones. ``state_dict`` holds the mean and n.

    Args:
        model: stays as it is.
        decay: d, in [0, 1).

    Raises:
        ValueError: if ``decay`` is out of range, or so near 1 that a mean in the parameters' precision stands still.

    Example:
        >>> model = torch.nn.Linear(2, 2)
        >>> average = weight_ema(model, 0.999)
        >>> average.update_parameters(model)  # after optimizer.step()
        >>> outputs = average.module(torch.zeros(1, 2))
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay must be in [0, 1), got {decay}")
    for dtype in {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}:
        if 1 - decay < torch.finfo(dtype).eps:
            highest = 1 - torch.finfo(dtype).eps
            raise ValueError(f"decay must be at most {highest:.7g} for parameters in {dtype}, got {decay}")

    @torch.no_grad()
    def follow(means: ParameterList, weights: ParameterList, n: Tensor | int) -> None:
        count = torch.as_tensor(n).to(torch.promote_types(means[0].dtype, torch.float32))
        rate = (9 / (10 + count)).clamp(min=1 - decay).to(means[0])  # 1 − (1 + n)/(10 + n) = 9/(10 + n)
        steps = torch._foreach_sub(weights, means)
        torch._foreach_mul_(steps, rate)
        torch._foreach_add_(means, steps)

    average = AveragedModel(model, multi_avg_fn=follow)
    average.update_parameters(model)  # the first call copies and counts: from here on n = 1
    return average

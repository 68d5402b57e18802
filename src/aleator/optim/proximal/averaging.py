"""The average of the iterates, with its zeros put back.

Polyak–Ruppert averaging is torch's ``AveragedModel(model)``: without options it is the plain mean of all models that it
was given. It has less noise than the last iterate, and no zeros: a weight that was not zero once is not zero in the
mean. The proximal point of the average has them again.

B. Polyak and A. Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM J. Control Optim. 1992.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from aleator.optim.proximal.penalised import PenalisedOptimizer
from aleator.optim.proximal.shards import apply_to_parts_


@torch.no_grad()
def prox_average_(average: AveragedModel, model: nn.Module, optimizer: PenalisedOptimizer) -> None:
    """Apply to each averaged weight the operator of the weight, with the optimizer's present step, in place.

    Call it once, at the end: what is averaged afterwards has no exact zeros again. The metric is Euclidean.

    Args:
        average: of the model.
        model: whose parameters the optimizer has.
        optimizer: says which operator a parameter has.

    Raises:
        ValueError: if average and model have other parameters.

    Example:
        >>> from aleator.optim import ProximalSGD, proximal as prox
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = ProximalSGD(model.parameters(), lr=0.1, prox=prox.L1(0.1))
        >>> average = AveragedModel(model)
        >>> average.update_parameters(model)  # after every optimizer.step()
        >>> prox_average_(average, model, optimizer)
    """
    of_model = dict(model.named_parameters())
    of_average = dict(average.module.named_parameters())
    if of_model.keys() != of_average.keys():
        raise ValueError(f"average must be of the model, got other parameters: {of_model.keys() ^ of_average.keys()}")
    means: dict[Tensor, Tensor] = {of_model[name]: mean for name, mean in of_average.items()}
    for group in optimizer.param_groups:
        step = optimizer.prox_step(group)
        for operator, parameters in optimizer.penalised(group, group["params"]):
            if operator is not None:
                apply_to_parts_(operator, [means[p] for p in parameters if p in means], step)

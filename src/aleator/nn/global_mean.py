"""The mean over the batches of all processes, of which each process has a part.

Under data parallelism a penalty that is not linear in a batch mean, or a running mean that all processes have to agree
on, needs the mean over the whole batch:

    x̄ = Σ over processes Σ x / Σ over processes n

Its derivative here is the derivative of this process's part, times the number of processes: `DistributedDataParallel`
averages gradients, and that average is then the derivative of a function of x̄.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def global_mean(values: Float[Tensor, " batch *features"]) -> Float[Tensor, "*features"]:
    """Return the mean over the batch, and over the default process group where there is one, in one all-reduce.

    It is in float32 at least: in half precision sums overflow, and the number of examples has too many digits.
    """
    total = values.sum(0, dtype=torch.promote_types(values.dtype, torch.float32))
    distributed = torch.distributed
    if not distributed.is_available() or not distributed.is_initialized() or distributed.get_world_size() == 1:
        return total / len(values)
    packed = torch.cat([total.detach().flatten(), total.new_full((1,), len(values))])
    distributed.all_reduce(packed)
    mean = packed[:-1].view_as(total) / packed[-1]
    return mean + (total - total.detach()) * (distributed.get_world_size() / packed[-1])

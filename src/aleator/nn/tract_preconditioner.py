"""TrAct exactly, for batches that are cut into pieces: sum first, solve once.

With the gradient g = Σ Dᵀx of the whole batch, however it was accumulated or averaged, and xᵀx and N summed over all
micro-batches and processes,

    .grad ← g (Σ xᵀx / Σ N + λI)⁻¹

between the last backward pass and the step. Solving for each piece and averaging after, as happens without this, gives
another gradient. The solution is linear in g: it may come before or after the unscaling of a `GradScaler`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from aleator.nn.tract import TrAct
from aleator.nn.tract_gradient import right_solve, without_autocast


class TrActPreconditioner:
    """Turns the ordinary gradients of layers with ``TrAct(…, reduce="global")`` into TrAct's gradients.

    Call `step` after the last backward pass and before gradients are clipped, on all processes together. Gradients must
    come from one mean over the whole batch: with accumulation, divide each micro-batch's mean loss as usual.

    Args:
        model: layers with ``reduce="local"`` are left alone.
        process_group: over which a batch is spread; by default all processes, if there are several.

    Example:
        >>> model = apply_tract(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)), reduce="global")
        >>> preconditioner = TrActPreconditioner(model)
        >>> for rows in torch.eye(4).split(2):
        ...     (model(rows).square().mean() / 2).backward()
        >>> preconditioner.step()
        >>> norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    """

    def __init__(self, model: nn.Module, *, process_group: ProcessGroup | None = None) -> None:
        self._layers = [m for m in model.modules() if isinstance(m, TrAct) and m.reduce == "global"]
        self._process_group = process_group
        for layer in self._layers:
            layer.awaits_preconditioner = False

    @torch.no_grad()
    def step(self) -> None:
        """Bring the gradients up to date and forget the sums. A second call before a backward pass changes nothing.

        Raises:
            RuntimeError: on a CPU, if the inputs were not finite, or so large beside λ that the precision of the sums
                does not do: see `TrAct`.
        """
        for layer in self._layers:
            total, count = layer.gram_sum, layer.row_count
            layer.gram_sum, layer.row_count = None, 0
            if dist.is_available() and dist.is_initialized():
                self._solve(layer, *self._over_processes(layer, total, count))
            elif total is not None:
                self._solve(layer, total, torch.full((), count, device=total.device))

    def attach(self, optimizer: Optimizer) -> RemovableHandle:
        """Call `step` at the beginning of every step of an optimizer.

        For loops without clipping and without a `GradScaler`: clipping would see the ordinary gradient, and a step that
        a scaler leaves out would leave its sums to the next.
        """

        def before_step(*_: Any) -> None:
            self.step()

        return optimizer.register_step_pre_hook(before_step)

    def _over_processes(self, layer: TrAct, total: Tensor | None, count: int) -> tuple[Tensor, Tensor]:
        if total is None:  # a process without a share of this batch still takes part
            weight = layer._parameters["weight"]
            assert weight is not None
            groups = getattr(layer, "groups", 1)
            n = weight[0].numel()
            dtype = layer.compute_dtype or torch.promote_types(weight.dtype, torch.float32)
            total = torch.zeros(groups, n, n, dtype=dtype, device=weight.device)
        sums = torch.cat([total.flatten(), total.new_full((1,), count)])  # a copy from the host would wait
        dist.all_reduce(sums, group=self._process_group)
        return sums[:-1].view_as(total), sums[-1]

    def _solve(self, layer: TrAct, total: Tensor, count: Tensor) -> None:
        weight = layer._parameters["weight"]
        if weight is None or weight.grad is None:
            return
        grad = weight.grad
        whole = grad.full_tensor() if isinstance(grad, DTensor) else grad
        by_group = whole.to(total.dtype).reshape(total.shape[0], -1, total.shape[-1])
        with without_autocast(total):
            solved = right_solve(by_group, total / count.clamp(min=1), layer.lam, layer.name)
        solved = solved.reshape(whole.shape).to(whole.dtype).where(count > 0, whole)
        if isinstance(grad, DTensor):
            solved = distribute_tensor(solved, grad.device_mesh, grad.placements)
        grad.copy_(solved)

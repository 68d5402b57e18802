"""The common base of samplers that follow noisy gradients: optimizers whose steps have noise of a known size.

They sample exp(−U/T), where U is −log of a posterior density up to a constant. With N examples, a loss that is the mean
over a batch and ``weight_decay`` λ,

    ∇Û(x) = N·(grad + λx)

so λ is a Gaussian prior of variance 1/(Nλ). With ``n_data=1`` the loss is U itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim.optimizer import ParamsT


class Part(NamedTuple):
    """The parameters of a group that have a gradient, of one type.

    Attributes:
        group: their options.
        params: the parameters.
        values: this process's numbers of each, to be changed in place.
        grads: its gradients of the mean loss, without weight decay; not to be changed.
        slopes: with weight decay, ∇Û/N; not to be changed.
    """

    group: dict[str, Any]
    params: list[Tensor]
    values: list[Tensor]
    grads: list[Tensor]
    slopes: list[Tensor]


class GradientSampler(torch.optim.Optimizer):
    """Base of `SGLD`, `PreconditionedSGLD` and `SGHMC`.

    The generator's state is part of ``state_dict``, so that a chain which was stopped and resumed goes on as it would
    have. Processes that hold the same parameters (DDP) need generators in the same state, those that hold different
    shards (FSDP2) different ones: `Streams.generator` without and with ``rank``. Gradients must be of the loss that
    stands for U: clipping, dropout and batch statistics sample something else.

    Subclasses write ``_move``.
    """

    def __init__(self, params: ParamsT, defaults: dict[str, Any], generator: torch.Generator) -> None:
        self.generator = generator
        super().__init__(params, defaults)

    def __getstate__(self) -> dict[str, Any]:  # torch's keeps the groups and the state alone
        return {**super().__getstate__(), "generator": self.generator}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Check the options of a group, its parameters, and add it."""
        options = self.defaults | param_group
        self._check(options)
        params = param_group["params"]
        params = param_group["params"] = [params] if isinstance(params, Tensor) else list(params)
        for parameter in (p[1] if isinstance(p, tuple) else p for p in params):
            if parameter.dtype not in (torch.float32, torch.float64):
                raise ValueError(
                    f"parameters must be float32 or float64, got {parameter.dtype}: shorter numbers round the noise "
                    "away; keep float32 weights and use autocast"
                )
            if parameter.device != self.generator.device and parameter.device.type != "meta":
                raise ValueError(
                    f"generator must be on the parameters' device {parameter.device}, got {self.generator.device}"
                )
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take one step along the gradients that are there; parameters without one stay.

        Raises:
            RuntimeError: if a gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts():
            self._move(part)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return torch's optimizer state and the state of the generator."""
        return {**super().state_dict(), "generator": self.generator.get_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where `state_dict` was called; the generator that was given is set too.

        A state without a generator's, as `torch.distributed.checkpoint` keeps it, leaves the generator as it is.
        """
        super().load_state_dict({name: state_dict[name] for name in ("state", "param_groups")})
        if "generator" in state_dict:
            self.generator.set_state(state_dict["generator"].cpu())

    def _check(self, group: dict[str, Any]) -> None:
        if not 1 <= group["n_data"] < math.inf:
            raise ValueError(
                f"n_data must be the number of training examples, or 1 where the loss is U, got {group['n_data']}"
            )
        for name in ("lr", "temperature", "weight_decay"):
            if not 0 <= group[name] < math.inf:
                raise ValueError(f"{name} must not be negative and must be finite, got {group[name]}")

    def _move(self, part: Part) -> None:
        raise NotImplementedError

    def _parts(self) -> Iterator[Part]:
        for group in self.param_groups:
            for dtype in (torch.float32, torch.float64):
                params = [p for p in group["params"] if p.grad is not None and p.dtype == dtype]
                if params:
                    yield _part(group, params)

    def _kept(self, part: Part, name: str) -> list[Tensor]:
        """Return this process's part of a tensor that is kept for each parameter, zero at first."""
        for parameter in part.params:
            if name not in self.state[parameter]:
                self.state[parameter][name] = torch.zeros_like(parameter)
        return [local(self.state[parameter][name]) for parameter in part.params]

    def _noise(self, like: list[Tensor]) -> list[Tensor]:
        """Return standard normal numbers of these shapes, drawn at once."""
        sizes = [tensor.numel() for tensor in like]
        flat = torch.randn(sum(sizes), generator=self.generator, dtype=like[0].dtype, device=like[0].device)
        return [piece.view(tensor.shape) for piece, tensor in zip(torch.split(flat, sizes), like, strict=True)]


def _part(group: dict[str, Any], params: list[Tensor]) -> Part:
    values, grads = [local(p) for p in params], [local(cast(Tensor, p.grad)) for p in params]
    if any(grad.is_sparse for grad in grads):
        raise RuntimeError("gradients must be dense, got a sparse one")
    slopes = list(torch._foreach_add(grads, values, alpha=group["weight_decay"])) if group["weight_decay"] else grads
    return Part(group, params, values, grads, slopes)


def local(tensor: Tensor) -> Tensor:
    """Return this process's part of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor

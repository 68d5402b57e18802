"""Optimizers that treat every parameter tensor as a layer of its own.

What they share: names for their tensors, the choice of those that are adapted, running means in float32 for weights in
half precision, the refusal of parameters that are not whole tensors, and the trust ratios of the last step,

    trust ratio of a layer = φ(‖w‖) / ‖u‖,    1 where a norm is zero,    φ(z) = z, or z kept between two bounds,

by which LAMB and LARS multiply a layer's update u.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from aleator.optim.arguments import Bounds
from aleator.optim.rules import Rule
from aleator.optim.sharded_norms import by_placement, norms, state_dtype

Adapt = Literal["all", "decayed"] | Rule

# A NamedTuple of lists of tensors.
_State = TypeVar("_State", bound=tuple[list[Tensor], ...])

# Elements that are stepped together on a CPU: weights, gradients, m, v and u in float32 are 5 MB of its cache.
CPU_PORTION = 1 << 18


def trust_ratio(
    weight_norm: Float[Tensor, "*layers"], update_norm: Float[Tensor, "*layers"], phi: Bounds | None = None
) -> Float[Tensor, "*layers"]:
    """Return φ(‖w‖)/‖u‖ per layer, and 1 where ‖w‖ or ‖u‖ is zero (You et al. 2020, Algorithms 1 and 2).

    Args:
        weight_norm: ‖w‖, before φ.
        update_norm: ‖u‖.
        phi: bounds of φ(z) = min(max(z, low), high); None is the identity.
    """
    adapted = (weight_norm > 0) & (update_norm > 0)
    scaled = weight_norm if phi is None else weight_norm.clamp(*phi)
    # The inner where keeps 0/0 from being computed at all. What is no number remains so in u, which this multiplies.
    return torch.where(adapted, scaled / torch.where(adapted, update_norm, 1), 1)


def trust_ratios(
    parameters: Sequence[Tensor], weights: Sequence[Tensor], updates: Sequence[Tensor], phis: Sequence[Bounds | None]
) -> list[Tensor]:
    """Return the trust ratio of each tensor, 0-d, from this process's parts of the weights and updates.

    The norms of all of them are reduced together, see `aleator.optim.sharded_norms`.

    Args:
        parameters: the whole tensors.
        weights: this process's part of each.
        updates: this process's part of the update of each.
        phis: the bounds of φ for each.
    """
    ratios: list[Tensor] = [None] * len(parameters)  # type: ignore[list-item]  # all are filled below
    for placement, indices in by_placement(parameters).items():
        both = norms([weights[i] for i in indices] + [updates[i] for i in indices], placement)
        weight_norms, update_norms = both.chunk(2)
        for phi in {phis[i] for i in indices}:
            for i, ratio in zip(indices, trust_ratio(weight_norms, update_norms, phi).unbind(), strict=True):
                if phis[i] == phi:
                    ratios[i] = ratio
    return ratios


def step_tensors(
    weights: list[Tensor], updates: list[Tensor], lr: float | Tensor, ratios: list[Tensor] | None = None
) -> None:
    """Subtract lr · ratio · u from each weight, in place. The updates are used up.

    Args:
        weights: this process's part of each tensor.
        updates: u, as precise as the weight or more.
        lr: the same for all.
        ratios: 0-d; None stands for ones.
    """
    if isinstance(lr, Tensor):
        factors = [lr.to(u.device, u.dtype) for u in updates]
        factors = factors if ratios is None else list(torch._foreach_mul(ratios, factors))
        lr, ratios = 1.0, factors
    if ratios is None:
        torch._foreach_sub_(weights, updates, alpha=lr)
    elif all(weight.dtype == update.dtype for weight, update in zip(weights, updates, strict=True)):
        torch._foreach_addcmul_(weights, updates, ratios, value=-lr)
    else:
        torch._foreach_mul_(updates, ratios)
        torch._foreach_sub_(weights, updates, alpha=lr)


def portions(
    layers: Sequence[tuple[dict[str, Any], bool, _State]],
) -> Iterator[list[tuple[dict[str, Any], bool, _State]]]:
    """Cut layers into parts that are stepped one after the other.

    On a CPU a small portion stays in its cache, and its updates take the memory of those before. On other devices, and
    where norms are reduced over processes, everything at once needs the fewest launches and a single reduction.

    Args:
        layers: options of a group, whether its tensors here are adapted, and parallel lists of what belongs to them:
            first the whole tensors, then this process's parts.
    """
    whole = list(layers)
    parameters = [parameter for _, _, state in whole for parameter in state[0]]
    if torch.compiler.is_compiling() or any(isinstance(p, DTensor) or p.device.type != "cpu" for p in parameters):
        yield whole
        return
    for group, adapted, state in whole:
        begin = elements = 0
        for end, weight in enumerate(state[1]):
            if end > begin and elements + weight.numel() > CPU_PORTION:
                yield [(group, adapted, _cut(state, begin, end))]
                begin, elements = end, 0
            elements += weight.numel()
        yield [(group, adapted, _cut(state, begin, len(state[1])))]


class TensorwiseOptimizer(Optimizer):
    """Base of LAMB and LARS; not an optimizer by itself."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own; what was not given is as for the other groups.

        Raises:
            ValueError: if an option is out of range.
            TypeError: if a parameter is complex.
            RuntimeError: if a parameter is a slice of several tensors, as FSDP1 makes them.
        """
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            self._check(group)
            for name, parameter in self._named(len(self.param_groups) - 1):
                _check_parameter(name, parameter)
            self._apply_rule(group)
        except Exception:
            self.param_groups.pop()
            raise
        self._warn_of_zeros(group)

    def trust_ratios(self) -> dict[str, Tensor]:
        """Return the factor of every tensor's last update, as 0-d tensors on their devices: nothing waits for them.

        The keys are the parameters' names where the optimizer was made from ``named_parameters()``, else
        ``"GROUP.INDEX"``. Tensors without a step yet are left out; 1 stands for those that are not adapted.
        """
        found = {}
        for number, group in enumerate(self.param_groups):
            for index, (name, parameter) in enumerate(self._named(number)):
                if parameter in self.state:
                    ratio = self.state[parameter]["trust_ratio"]
                    found[name] = ratio.clone() if _is_adapted(group, index) else torch.ones_like(ratio)
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where ``state_dict`` was called. Running means of half-precision weights stay in float32."""
        super().load_state_dict(state_dict)
        # torch has cast them to the weights' own precision on the way.
        numbers = itertools.chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        own = itertools.chain.from_iterable(group["params"] for group in self.param_groups)
        for number, parameter in zip(numbers, own, strict=True):
            if state_dtype(parameter) != parameter.dtype:
                for name, value in state_dict["state"].get(number, {}).items():
                    self.state[parameter][name] = value.to(parameter.device, torch.float32, copy=True)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:  # a state that an older version saved
            for name, value in self.defaults.items():
                if name != "adapt":
                    group.setdefault(name, value)
                    if isinstance(group[name], list):  # a pair that went through torch's distributed checkpoint
                        group[name] = tuple(group[name])

    def _check(self, group: dict[str, Any]) -> None:
        """Check a group's options."""
        raise NotImplementedError

    def _trained(self, group: dict[str, Any], adapted: bool) -> Iterator[Tensor]:
        """Iterate over the parameters of a group that have a gradient and are, or are not, adapted.

        Raises:
            RuntimeError: if a gradient is sparse.
        """
        for index, parameter in enumerate(group["params"]):
            if parameter.grad is None or _is_adapted(group, index) != adapted:
                continue
            if parameter.grad.layout != torch.strided:
                name = next(name for name, other in self._every_name() if other is parameter)
                raise RuntimeError(
                    f"{type(self).__name__} needs dense gradients, got a gradient of layout {parameter.grad.layout} "
                    f"for parameter {name}"
                )
            yield parameter

    def _initial_state(self, parameter: Tensor, *averages: str) -> dict[str, Any]:
        """Return a parameter's state, made on first use: running means of zeros, the step count and the trust ratio."""
        state: dict[str, Any] = self.state[parameter]
        if not state:
            dtype = state_dtype(parameter)
            # Counted per tensor, because one may join late, and on its device, where it is used.
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            for name in averages:
                state[name] = torch.zeros_like(parameter, dtype=dtype, memory_format=torch.preserve_format)
            state["trust_ratio"] = torch.ones((), dtype=dtype, device=parameter.device)
        return state

    def _named(self, index: int) -> list[tuple[str, Tensor]]:
        group = self.param_groups[index]
        names = group.get("param_names") or [f"{index}.{i}" for i in range(len(group["params"]))]
        return list(zip(names, group["params"], strict=True))

    def _every_name(self) -> list[tuple[str, Tensor]]:
        return [pair for index in range(len(self.param_groups)) for pair in self._named(index)]

    def _apply_rule(self, group: dict[str, Any]) -> None:
        """Replace a rule by what it says about each parameter, so that a saved state holds no function."""
        adapt = group["adapt"]
        if callable(adapt):
            named = self._named(len(self.param_groups) - 1)
            group["adapt"] = [bool(adapt(name, parameter)) for name, parameter in named]
        elif not isinstance(adapt, list) and adapt not in ("all", "decayed"):
            raise ValueError(f"adapt must be 'all', 'decayed' or a function of name and parameter, got {adapt!r}")

    def _warn_of_zeros(self, group: dict[str, Any]) -> None:
        names = [
            name
            for index, (name, parameter) in enumerate(self._named(len(self.param_groups) - 1))
            if _is_adapted(group, index)
            and type(parameter) in (Tensor, torch.nn.Parameter)
            and parameter.device.type != "meta"
            and parameter.numel()
            and not parameter.detach().any()
        ]
        if names:
            warnings.warn(
                f"parameters that are adapted start at zero, {', '.join(names[:3])}{', …' if len(names) > 3 else ''}: "
                "from their second step on they grow by at most the factor 1 + lr in a step. To exclude biases and "
                "normalisation: adapt='decayed' with aleator.optim.without_decay(model.named_parameters())",
                stacklevel=5,
            )


def _cut(state: _State, begin: int, end: int) -> _State:
    make: Callable[..., _State] = type(state)  # of a NamedTuple, which takes its fields one by one
    return make(*(column[begin:end] for column in state))


def _is_adapted(group: dict[str, Any], index: int) -> bool:
    adapt = group["adapt"]
    return bool(adapt[index]) if isinstance(adapt, list) else adapt == "all" or group["weight_decay"] != 0


def _check_parameter(name: str, parameter: Tensor) -> None:
    if parameter.is_complex():
        raise TypeError(f"parameters must be real, got {parameter.dtype} for parameter {name}")
    if getattr(parameter, "_is_flat_param", False) or getattr(parameter, "_fsdp_flattened", False):
        raise RuntimeError(
            f"parameters must be whole tensors, got a flat slice made by FullyShardedDataParallel for {name}: "
            "its norm is that of no layer. Shard with torch.distributed.fsdp.fully_shard instead"
        )

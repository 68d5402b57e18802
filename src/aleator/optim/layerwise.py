"""Optimizers that treat every parameter tensor as a layer of its own, by its norm or its spectrum.

Such a number belongs to a whole tensor. So a slice of several tensors is refused, and what a step needs of a tensor
that several processes share out is put together first. What else these optimizers share: names for their tensors, a
group that is refused leaves no trace, running means in float32 for weights in half precision, and states of older
versions that can be read.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from aleator.optim.loading import by_name
from aleator.optim.sharded_norms import state_dtype


class LayerwiseOptimizer(Optimizer):
    """Base of LAMB, LARS and the SPECTRA optimizers; not an optimizer by itself.

    A subclass says what a group's options may be, `_check`, and what a step is, `_take_step`. Options that are no
    group's are attributes named in ``_kept``; options of a group that hold something for each of its tensors are named
    in ``_by_place``.
    """

    _kept: ClassVar[tuple[str, ...]] = ()
    _by_place: ClassVar[tuple[str, ...]] = ()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own; what was not given is as for the other groups.

        Raises:
            ValueError: if an option is out of range.
            TypeError: if a parameter is no real number.
            RuntimeError: if a parameter is a flat slice of several tensors, as FSDP1 makes them.
        """
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            self._check(group)
            for name, parameter in self._named(len(self.param_groups) - 1):
                _check_parameter(name, parameter)
            self._begin(group)
        except Exception:
            self.param_groups.pop()
            raise

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # closures return numbers or tensors
        """Make one step; return what the closure returned.

        Nothing here waits for the device. A NaN or infinity in a gradient therefore spreads over its tensor: look for
        them before the step, as ``GradScaler`` and `aleator.experiment` do.

        Args:
            closure: computes the loss anew and returns it.

        Raises:
            RuntimeError: if a gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._take_step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where ``state_dict`` was called. Running means of half-precision weights stay in float32.

        Where this optimizer and the saved one were made from named parameters, each tensor takes the state of its name,
        in whatever order the model registers its layers. Others are matched by their places, as torch does. Hooks for
        loading see the state as it was saved before, and the optimizer as it goes on after. An option that an older
        version did not save stays as it is, group by group.

        Raises:
            ValueError: if no group that was saved has the names of a group, or a running mean has another shape than
                its tensor.
        """
        loaded: dict[str, Any] = {}
        # torch runs hooks in a row: the saved state is matched after the user's have changed it, and precision is
        # restored before they look.
        handles = (
            self.register_load_state_dict_pre_hook(lambda _, saved: _filled(loaded, self._matched(saved))),
            self.register_load_state_dict_post_hook(lambda _: self._restore(loaded), prepend=True),
        )
        try:
            super().load_state_dict(state_dict)
        finally:
            for handle in handles:
                handle.remove()

    def _matched(self, saved: dict[str, Any]) -> dict[str, Any]:
        """Return a saved state in the order of this optimizer's tensors, with the options that it lacks."""
        groups = saved["param_groups"]
        if len(groups) == len(self.param_groups):  # otherwise torch refuses it
            ordered = by_name(self.param_groups, groups, self._by_place)
            groups = [self._with_own(own, group) for own, group in zip(self.param_groups, ordered, strict=True)]
            for index, group in enumerate(groups):
                for number, (name, parameter) in zip(group["params"], self._named(index), strict=False):
                    self._check_loaded(name, parameter, saved["state"].get(number, {}))
        return {**saved, "param_groups": groups}

    def _with_own(self, own: dict[str, Any], saved: dict[str, Any]) -> dict[str, Any]:
        """Return a saved group with the options that it lacks as this optimizer has them."""
        return {**own, **saved}

    def _restore(self, loaded: dict[str, Any]) -> None:
        """Undo what torch does to a state that it loads: it casts to the weights' precision and shares step counts."""
        numbers = itertools.chain.from_iterable(group["params"] for group in loaded["param_groups"])
        own = itertools.chain.from_iterable(group["params"] for group in self.param_groups)
        for number, parameter in zip(numbers, own, strict=True):
            for name, value in loaded["state"].get(number, {}).items():
                if not isinstance(value, Tensor):
                    continue
                if name == "step":
                    self.state[parameter][name] = self.state[parameter][name].clone()
                elif state_dtype(parameter) != parameter.dtype:
                    dtype = self._loaded_dtype(parameter, value)
                    self.state[parameter][name] = value.to(parameter.device, dtype, copy=True)

    def _check_loaded(self, name: str, parameter: Tensor, state: dict[str, Any]) -> None:
        """Refuse running means of another tensor."""
        for part, value in state.items():
            if isinstance(value, Tensor) and value.ndim and value.shape != parameter.shape:
                raise ValueError(
                    f"{part} of parameter {name} must have its shape {tuple(parameter.shape)}, "
                    f"got {tuple(value.shape)} in the saved state"
                )

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return state | {name: getattr(self, name) for name in self._kept}  # torch copies and pickles only its own

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for name in self.defaults.keys() & group.keys():
                if isinstance(group[name], list):  # a pair that went through torch's distributed checkpoint
                    group[name] = tuple(group[name])

    def _check(self, group: dict[str, Any]) -> None:
        """Check a group's options."""
        raise NotImplementedError

    def _begin(self, group: dict[str, Any]) -> None:
        """Do what a group that was accepted needs once."""

    def _take_step(self) -> None:
        """Step every parameter that has a gradient."""
        raise NotImplementedError

    def _loaded_dtype(self, parameter: Tensor, saved: Tensor) -> torch.dtype:
        """Return the precision that a saved part of a half-precision parameter's state takes."""
        return state_dtype(parameter)

    def _trained(self, group: dict[str, Any]) -> list[tuple[int, Tensor]]:
        """Return the parameters of a group that have a gradient, with their places in it.

        Raises:
            RuntimeError: if a gradient is sparse.
        """
        found = [(index, parameter) for index, parameter in enumerate(group["params"]) if parameter.grad is not None]
        for _, parameter in found:
            if parameter.grad.layout != torch.strided:
                names = itertools.chain.from_iterable(map(self._named, range(len(self.param_groups))))
                name = next(name for name, other in names if other is parameter)
                raise RuntimeError(
                    f"gradients must be dense, got one of layout {parameter.grad.layout} for parameter {name} of "
                    f"shape {tuple(parameter.shape)}"
                )
        return found

    def _state_of(self, parameter: Tensor, *names: str) -> dict[str, Any]:
        """Return a parameter's state, zeros on first use: running means and, by the name ``step``, a count."""
        state: dict[str, Any] = self.state[parameter]
        if not state:
            for name in names:
                if name == "step":  # counted per tensor, because one may join late, and on its device, where it is used
                    state[name] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                else:
                    dtype = state_dtype(parameter)
                    state[name] = torch.zeros_like(parameter, dtype=dtype, memory_format=torch.preserve_format)
        return state

    def _named(self, index: int) -> list[tuple[str, Tensor]]:
        """Return a group's parameters with their names, or ``"GROUP.INDEX"`` where they have none."""
        group = self.param_groups[index]
        names = group.get("param_names") or [f"{index}.{i}" for i in range(len(group["params"]))]
        return list(zip(names, group["params"], strict=True))


def _check_parameter(name: str, parameter: Tensor) -> None:
    if not parameter.is_floating_point():
        raise TypeError(f"parameters must be real, got {parameter.dtype} for parameter {name}")
    if getattr(parameter, "_is_flat_param", False) or getattr(parameter, "_fsdp_flattened", False):
        raise RuntimeError(
            f"parameters must be whole tensors, got a flat slice made by FullyShardedDataParallel for {name}: "
            "its norm and spectrum belong to no layer. Shard with torch.distributed.fsdp.fully_shard instead"
        )


def _filled(loaded: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    loaded.update(state)
    return loaded

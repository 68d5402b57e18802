"""TrAct: a first layer whose weight gradient depends on what an input shows and not on how bright it is.

The layer computes what it always computed. Only the gradient of its weight changes, from Dᵀx to

    G = Dᵀx (xᵀx/N + λI)⁻¹

the smallest change of the weight that moves the pre-activations along their own gradient
(`aleator.nn.tract_weight_grad`). The optimizer, the deeper layers, the bias and inference stay as they are.

The weight passes through an identity whose backward pass is the change above. So whatever else a layer does (groups,
dilation, padding modes, autocast, its own hooks) is done by the layer itself. Where there are fewer rows than inputs of
a row, the output passes through another identity, which keeps D for the first.

F. Petersen, C. Borgelt, S. Ermon, "TrAct: Making First-layer Pre-Activations Trainable", NeurIPS 2024, arXiv
2410.23970.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from aleator.nn.layer_rows import Layer, count_rows, gram, rows
from aleator.nn.tract_gradient import (
    Solver,
    check_floating,
    check_lam,
    check_solver,
    mean_gram,
    right_solve,
    right_solve_dual,
    solving_dtype,
    use_dual,
    without_autocast,
)

Reduce = Literal["local", "global"]
Model = TypeVar("Model", bound=nn.Module)

SUPPORTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class TrAct(nn.Module):
    """A linear layer or convolution with TrAct's weight gradient.

    It stands where the layer stood and shares its parameters, buffers and hooks under their own names: a state dict has
    the same keys with and without it. The layer itself is in ``module``; `remove_tract` puts it back.

    With ``reduce="local"`` every backward pass of a layer is solved by itself. A batch that is cut into micro-batches
    or over processes has then another gradient than the whole batch. With ``reduce="global"`` the backward pass leaves
    the ordinary gradient and sums xᵀx; `TrActPreconditioner` solves once before the step, which is exact.

    Inside `torch.compile` this layer runs uncompiled.

    Args:
        module: a Linear, Conv1d, Conv2d or Conv3d, the first layer with trainable weights that the inputs reach.
        lam: λ, relative to inputs of mean 0 and standard deviation 1; smaller is bolder. The paper tries 0.05, 0.1
            and 0.2.
        compute_dtype: in which xᵀx is summed and the equations are solved; by default float32, or float64 for weights
            in float64. The error grows as the largest eigenvalue of xᵀx/N over λ.
        reduce: whether to solve in the backward pass or before the step.
        solver: how many equations: ``"primal"`` as many as inputs of a row, ``"dual"`` as many as rows, ``"auto"`` the
            fewer. ``"global"`` has the primal only.

    Raises:
        ValueError: if an option is out of range, or ``reduce="global"`` meets a solver or a weight that it cannot
            treat; in the forward pass, if the input has not as many channels as the layer.
        TypeError: if the module is of another kind, computes something of its own, or is lazy and without weights yet;
            in the forward pass, if the input is not of floating point.
        RuntimeError: in the backward pass, on a CPU, if the input was not finite, or is so large beside λ that float32
            does not do; elsewhere the gradient is NaN then. Standardised inputs are far from that; for others there
            is ``compute_dtype``.

    Warns:
        UserWarning: at the first input, if the layer is not the first or the input seems not to be standardised.

    Example:
        >>> layer = TrAct(torch.nn.Conv2d(3, 8, 3, padding=1), lam=0.1)
        >>> layer(torch.ones(2, 3, 8, 8)).mean().backward()
        >>> layer.weight.grad.shape
        torch.Size([8, 3, 3, 3])
    """

    module: Layer
    plain: bool = False
    """Whether the layer is for the moment the one that it stands for, with its ordinary gradient."""

    def __init__(
        self,
        module: nn.Module,
        lam: float = 0.1,
        *,
        compute_dtype: torch.dtype | None = None,
        reduce: Reduce = "local",
        solver: Solver = "auto",
    ) -> None:
        super().__init__()
        _check_module(module)
        check_lam(lam)
        check_solver(solver)
        if reduce not in ("local", "global"):
            raise ValueError(f"reduce must be local or global, got {reduce!r}")
        if compute_dtype not in (None, torch.float32, torch.float64):
            raise ValueError(f"compute_dtype must be float32, float64 or None, got {compute_dtype}")
        if reduce == "global" and solver == "dual":
            raise ValueError("solver must be auto or primal with reduce global, got 'dual'")
        if reduce == "global" and "weight" not in module._parameters:
            raise ValueError("reduce must be local for a weight that is computed by a parametrization, got 'global'")
        # The containers of parameters, buffers, submodules and hooks are the layer's own from here on.
        self._of_every_module = tuple(vars(nn.Module()))
        self.__dict__.update({name: vars(module)[name] for name in self._of_every_module})
        self.__dict__["module"] = cast("Layer", module)  # past nn.Module, which would put it into every name
        self.lam = lam
        self.compute_dtype = compute_dtype
        self.reduce = reduce
        self.solver = solver
        self.name = type(module).__name__
        self.gram_sum: Tensor | None = None
        self.row_count = 0
        self.awaits_preconditioner = reduce == "global"
        self._seen_input = False

    def forward(self, x: Tensor) -> Tensor:
        """Return what the layer returns."""
        weight, kept = self.weight, None
        if torch.is_grad_enabled() and weight.requires_grad and not self.plain:
            weight, kept = _weight_for(weight, x, self)
        if isinstance(self.module, nn.Linear):
            z = F.linear(x, weight, self.module.bias)
        else:
            z = cast("Tensor", self.module._conv_forward(x, weight, self.module.bias))
        return z if kept is None else _kept_for(z, kept)

    def removed(self) -> nn.Module:
        """Return the layer, as it is by now.

        Raises:
            RuntimeError: if a parametrization was registered after TrAct: the layer's class would not know of it.
        """
        computed = cast("nn.ModuleDict", self._modules.get("parametrizations", nn.ModuleDict()))
        if not all(hasattr(type(self.module), name) for name in computed):
            raise RuntimeError(f"{self.name}: parametrizations that were registered after TrAct must be removed first")
        vars(self.module).update({name: vars(self)[name] for name in self._of_every_module})
        return self.module

    def weight_grad(self, grad: Tensor, x: Tensor, grad_z: Tensor | None = None) -> Tensor:
        """Return what the backward pass gives for the weight.

        Args:
            grad: the ordinary gradient Dᵀx, shaped as the weight.
            x: the layer's input.
            grad_z: D, shaped as the layer's output, where the dual form is to be solved.
        """
        layer = self.module
        dtype = self.compute_dtype or solving_dtype(grad.dtype)
        with without_autocast(x):
            if self.reduce == "global":
                self._sum_up(*gram(layer, x, dtype))
                return grad
            groups = getattr(layer, "groups", 1)
            if grad_z is not None:
                last = grad_z if isinstance(layer, nn.Linear) else grad_z.movedim(-len(layer.kernel_size) - 1, -1)
                by_group = last.to(dtype).reshape(-1, groups, grad.shape[0] // groups).movedim(1, 0)
                solved = right_solve_dual(by_group, rows(layer, x, dtype), self.lam, self.name)
            else:
                by_group = grad.to(dtype).reshape(groups, grad.shape[0] // groups, -1)
                solved = right_solve(by_group, mean_gram(*gram(layer, x, dtype)), self.lam, self.name)
            return solved.reshape(grad.shape).to(grad.dtype)

    def is_dual(self, x: Tensor, n: int) -> bool:
        """Whether there are as many equations to solve as rows, for this input, and not n, the inputs of a row."""
        return self.reduce == "local" and use_dual(self.solver, count_rows(self.module, x), n)

    def __getattr__(self, name: str) -> Any:
        # Settings are the layer's, methods and computed weights belong to its class.
        try:
            return super().__getattr__(name)
        except AttributeError:
            if "module" not in self.__dict__:  # while it is unpickled
                raise
            return getattr(self.module, name)

    def __setattr__(self, name: str, value: Any) -> None:
        # A setting of the layer that is changed later, such as its padding, is changed where it is read.
        layer = self.__dict__.get("module")
        if layer is not None and name not in self.__dict__ and name in vars(layer):
            setattr(layer, name, value)
        else:
            super().__setattr__(name, value)

    def extra_repr(self) -> str:
        """Return the layer and λ."""
        return f"{self.module}, lam={self.lam}, reduce={self.reduce!r}"

    def _sum_up(self, total: Tensor, count: int) -> None:
        if self.awaits_preconditioner:
            self.awaits_preconditioner = False
            _warn(
                f"{self.name}: reduce='global' leaves the gradient as it is without a TrActPreconditioner of the model"
            )
        self.gram_sum = total if self.gram_sum is None else self.gram_sum + total
        self.row_count += count

    def check_input(self, x: Tensor) -> None:
        """Check what the layer is given; its values only the first time, because that waits for the device.

        Raises:
            TypeError: if it is not of floating point.
            ValueError: if it has not as many channels as the layer.
        """
        check_floating(x)
        layer = self.module
        expected = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
        dim = -1 if isinstance(layer, nn.Linear) else -len(layer.kernel_size) - 1
        if x.ndim < -dim or x.shape[dim] != expected:
            raise ValueError(
                f"{self.name}: inputs must have {expected} channels in dimension {dim}, got {tuple(x.shape)}"
            )
        if not self._seen_input:
            self._seen_input = True
            self._look_at(x.detach())
            if x.grad_fn is not None:
                _warn(
                    f"{self.name} must be the first layer with trainable weights, got an input that others computed: "
                    "deeper in a network TrAct removes a scaling that training needs"
                )

    def _look_at(self, x: Tensor) -> None:
        if not x.numel():
            return
        deviation, mean = (float(value) for value in torch.std_mean(x.float(), correction=0))
        if not (abs(mean) <= 1 and 0.2 <= deviation <= 5):
            _warn(
                f"{self.name}: inputs should have mean 0 and standard deviation 1, to which lam is relative and which "
                f"float32 is enough for, got mean {mean:.3g} and standard deviation {deviation:.3g}"
            )


class _Kept:
    """D, on its way from the layer's output to its weight within a backward pass."""

    grad: Tensor | None = None


class _Weight(torch.autograd.Function):
    """The identity on a weight, with TrAct's backward pass."""

    @staticmethod
    def forward(weight: Tensor, x: Tensor, layer: TrAct, kept: _Kept | None) -> Tensor:
        return weight.view_as(weight)

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Tensor, Tensor, TrAct, _Kept | None], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])
        ctx.layer, ctx.kept = inputs[2:]  # type: ignore[attr-defined]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (x,), grad_z = ctx.saved_tensors, None
        if ctx.kept is not None:
            grad_z, ctx.kept.grad = ctx.kept.grad, None
        return ctx.layer.weight_grad(grad, x, grad_z), None, None, None


class _Output(torch.autograd.Function):
    """The identity on the layer's output, which keeps the gradient that it passes on."""

    @staticmethod
    def forward(z: Tensor, kept: _Kept) -> Tensor:
        return z.view_as(z)

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Tensor, _Kept], output: Tensor) -> None:
        ctx.kept = inputs[1]  # type: ignore[attr-defined]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        ctx.kept.grad = grad.detach()
        return grad, None


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _weight_for(weight: Tensor, x: Tensor, layer: TrAct) -> tuple[Tensor, _Kept | None]:
    layer.check_input(x)
    kept = _Kept() if layer.is_dual(x, weight[0].numel()) else None
    return cast("Tensor", _Weight.apply(weight, x, layer, kept)), kept  # type: ignore[no-untyped-call]


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _kept_for(z: Tensor, kept: _Kept) -> Tensor:
    return cast("Tensor", _Output.apply(z, kept))  # type: ignore[no-untyped-call]


def apply_tract(
    model: Model,
    first_layer: str = "auto",
    lam: float = 0.1,
    *,
    compute_dtype: torch.dtype | None = None,
    reduce: Reduce = "local",
    solver: Solver = "auto",
) -> Model:
    """Put TrAct in the place of a model's first layer, in place, and return the model.

    The parameters stay the same objects, so an optimizer may exist already. Apply it before the model is compiled,
    sharded or wrapped for data parallelism.

    Args:
        model: with a Linear, Conv1d, Conv2d or Conv3d. If it is one itself, its `TrAct` is returned.
        first_layer: the layer's name in ``named_modules``; ``"auto"`` takes the first one of these kinds that has a
            trainable weight, in the order in which modules were registered.
        lam: see `TrAct`, as for the options that follow.
        compute_dtype: see `TrAct`.
        reduce: see `TrAct`.
        solver: see `TrAct`.

    Raises:
        ValueError: if there is no such layer, it has TrAct already, or an option is out of range.
        TypeError: if the layer is of another kind, or lazy and without weights yet.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> list(apply_tract(model).state_dict())
        ['0.weight', '0.bias', '2.weight', '2.bias']
    """
    name = _first_layer(model) if first_layer == "auto" else first_layer
    modules = dict(model.named_modules(remove_duplicate=False))
    if name not in modules:
        raise ValueError(f"first_layer must be auto or the name of a module, got {first_layer!r}")
    layer = modules[name]
    wrapped = TrAct(layer, lam, compute_dtype=compute_dtype, reduce=reduce, solver=solver)
    wrapped.name = name or wrapped.name
    return _replaced(model, layer, wrapped)


def remove_tract(model: Model) -> Model:
    """Put the layers back that `apply_tract` or `TrAct` took the place of, in place, and return the model.

    If the model is a `TrAct` itself, its layer is returned.

    Raises:
        RuntimeError: if a parametrization was registered after TrAct; remove it first.
    """
    for wrapped in [module for module in model.modules() if isinstance(module, TrAct)]:
        model = _replaced(model, wrapped, wrapped.removed())
    return model


def first_layer_group(model: nn.Module, **options: Any) -> list[dict[str, Any]]:
    """Return two parameter groups, of the layers with TrAct and of all the rest.

    The paper finds SGD for the first layer a little better, also where the rest is trained by Adam. In a model without
    TrAct the first group is of the layer that `apply_tract` would take, so that both can be trained alike.

    Args:
        model: with or without TrAct.
        **options: of the first group, such as ``lr``.

    Raises:
        ValueError: if the model has neither TrAct nor a layer that could have it.

    Example:
        >>> model = apply_tract(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)))
        >>> first, rest = first_layer_group(model)
        >>> optimizers = torch.optim.SGD([first], lr=0.1, momentum=0.9), torch.optim.Adam([rest], lr=1e-3)
    """
    layers: list[nn.Module] = [module for module in model.modules() if isinstance(module, TrAct)]
    if not layers:
        layers = [model.get_submodule(_first_layer(model))]
    first = list(dict.fromkeys(parameter for layer in layers for parameter in layer.parameters()))
    known = set(first)
    return [
        {"params": first, **options},
        {"params": [parameter for parameter in model.parameters() if parameter not in known]},
    ]


def _first_layer(model: nn.Module) -> str:
    for name, module in model.named_modules():
        if isinstance(module, TrAct):
            raise ValueError(f"model must not have TrAct already, got it in {name!r}")
        weight = getattr(module, "weight", None) if isinstance(module, SUPPORTED) else None
        if isinstance(weight, Tensor) and weight.requires_grad:
            return str(name)
    raise ValueError("model must have a Linear, Conv1d, Conv2d or Conv3d with a trainable weight, got none")


def _replaced(model: Model, old: nn.Module, new: nn.Module) -> Model:
    """Put a module in the place of another under all names that it has."""
    if model is old:
        return cast("Model", new)
    for parent in model.modules():
        for name, child in list(parent._modules.items()):  # named_children leaves out second names
            if child is old:
                setattr(parent, name, new)
    return model


def _check_module(module: nn.Module) -> None:
    kinds = "a Linear, Conv1d, Conv2d or Conv3d"
    if isinstance(module, TrAct):
        raise ValueError("module must not have TrAct already")
    if isinstance(module, LazyModuleMixin):
        raise TypeError(f"module must have its weights, got a {type(module).__name__}: call it once on an input first")
    kind = next((kind for kind in SUPPORTED if isinstance(module, kind)), None)
    if kind is None:
        raise TypeError(f"module must be {kinds}, got {type(module).__name__}")
    if isinstance(module, NonDynamicallyQuantizableLinear):
        raise TypeError("module must be called for its output, got the projection of an attention, which reads weights")
    if type(module).forward is not kind.forward or "forward" in vars(module):
        raise TypeError(f"module must be {kinds} with torch's own forward pass, got {type(module).__name__}")


def _warn(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=4)

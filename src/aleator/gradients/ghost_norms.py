"""Norms of per-example gradients without the gradients ("ghost norms").

A layer that multiplies has per-example gradients that are sums of outer products, whose norm needs no product:

    y_t = W a_t      ∇_W ℓ_i = Σ_t δ_t a_tᵀ      ‖∇_W ℓ_i‖² = Σ_{t,u} ⟨a_t, a_u⟩⟨δ_t, δ_u⟩,   δ = ∂ℓ_i/∂y

Over one position t that is ‖a‖²‖δ‖². A convolution is such a layer on the patches of its input, an embedding one whose
a_t are unit vectors, so that ⟨a_t, a_u⟩ says whether two indices are the same. Biases and the gains of normalisation
have gradients small enough to be written out. All δ come from one backward pass, which computes no weight gradients but
their sum over the examples.

Uses of parameters are seen where torch's functions are called, not where modules are: a weight that is tied, or used by
``F.linear`` directly, counts with all its uses. A use that there is no rule for is refused by name.

I. Goodfellow, "Efficient Per-Example Gradient Computations", arXiv 1510.01799; G. Rochette, A. Manoel, E. Tramel,
"Efficient Per-Example Gradient Computations in Convolutional Neural Networks", arXiv 1912.06015; Z. Bu, J. Mao, S. Xu,
"Scalable and Efficient Training of Large Convolutional Neural Networks with Differential Privacy", NeurIPS 2022.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

_CHUNK = 2**24  # numbers of per-example gradients that are written out at a time
_PATCHES = 2**20  # numbers of a convolution's patches at a time: they stay in the cache


class NoGhostNorm(ValueError):
    """A parameter is used in a way that there is no rule for; per-example gradients have to be written out."""


def ghost_norms(
    model: nn.Module, losses: Callable[[], Float[Tensor, " examples"]]
) -> tuple[Float64[Tensor, " examples"], dict[str, Tensor]]:
    """Return ‖∇ℓ_i‖² of every example, over all trained parameters together, and the gradient of the mean loss.

    One forward and one backward pass. Nothing is added to ``.grad``.

    Args:
        model: whose parameters are meant.
        losses: passes examples through the model and returns their losses; an example's may not depend on the others.
            The first dimension of what the model computes is that of the examples.

    Returns:
        The squared norms in float64, and the mean gradient by the parameters' names; one that the losses do not depend
        on is left out.

    Raises:
        NoGhostNorm: naming the parameter and the function that uses it.
        ValueError: if batch normalisation is in training mode, whose gradients are of no example alone.
    """
    refuse_batch_statistics(model)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    with torch.enable_grad(), _Uses(trained) as uses:
        found = losses()
    check_losses(found)
    edges = [use.edge for use in uses.found]
    wanted = [*edges, *trained.values()]
    gradients = cast("tuple[Tensor | None, ...]", torch.autograd.grad(found.sum(), wanted, allow_unused=True))
    of_outputs, of_sum = gradients[: len(edges)], gradients[len(edges) :]
    mean = {
        name: (g.to_dense() if g.is_sparse else g) / len(found)  # of an embedding with ``sparse=True``
        for name, g in zip(trained, of_sum, strict=True)
        if g is not None
    }
    by_name: dict[str, list[_Gradient]] = {}
    for use, delta in zip(uses.found, of_outputs, strict=True):
        if delta is None:
            continue
        _check_length(use, use.length, len(found))
        for name, gradient in use.rule(delta.detach()):
            by_name.setdefault(name, []).append(gradient)
    for name in mean:
        if name not in by_name:  # a function of autograd's own kind, which torch does not show
            raise NoGhostNorm(f"{name} is used in a way that ghost norms do not see")
    squares = torch.zeros(len(found), dtype=torch.float64, device=found.device)
    for gradients_of_one in by_name.values():
        squares += _squared_norms(gradients_of_one)
    return squares, mean


def check_first_dimension(model: nn.Module, losses: Callable[[], Tensor], examples: int) -> None:
    """Check on a few examples that the first dimension is theirs; with all of them it may be as long by chance.

    Args:
        model: as of `ghost_norms`.
        losses: the same, of these few.
        examples: how many they are.

    Raises:
        NoGhostNorm: as `ghost_norms`.
    """
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    with torch.enable_grad(), _Uses(trained) as uses:
        losses()
    for use in uses.found:
        _check_length(use, use.length, examples)


def refuse_batch_statistics(model: nn.Module) -> None:
    """Refuse layers that normalise an example by others: it has no gradient of its own then.

    Raises:
        ValueError: naming the modules.
    """
    kind = nn.modules.batchnorm._BatchNorm
    whole = [
        name or type(module).__name__
        for name, module in model.named_modules()
        if isinstance(module, kind) and (module.training or module.running_mean is None)
    ]
    if whole:
        raise ValueError(
            "per-example gradients need a model whose examples do not depend on each other, got batch normalisation in "
            f"training mode: {', '.join(whole)}"
        )


def check_losses(losses: Tensor) -> None:
    """Check that there is a loss for each of two examples or more.

    Raises:
        ValueError: naming the shape.
    """
    if losses.ndim != 1:
        raise ValueError(f"losses must return one number for each example, got the shape {tuple(losses.shape)}")


def _check_length(use: _Use, length: int, examples: int) -> None:
    if length != examples:
        raise NoGhostNorm(
            f"{', '.join(use.names)} must act on examples in the first dimension for ghost norms, which has {length} "
            f"instead of {examples} entries"
        )


# --- per-example gradients, as what they are made of


@dataclass(frozen=True)
class _Patches:
    """The patches of a convolution's input, which are several times as large: made for a few examples at a time."""

    input: Float[Tensor, "examples channels height width"]
    shape: tuple[int, int, int, int]  # examples, groups, positions, inputs
    kernel: tuple[int, ...]
    dilation: tuple[int, int]
    stride: tuple[int, int]

    def __getitem__(self, part: slice) -> Tensor:
        patches = F.unfold(self.input[part], self.kernel, dilation=self.dilation, stride=self.stride)
        return patches.reshape(-1, self.shape[1], self.shape[3], self.shape[2]).mT


@dataclass(frozen=True)
class _Product:
    """Σ_t δ_t a_tᵀ for each example and each group of a convolution."""

    a: Tensor | _Patches  # examples, groups, positions, inputs
    delta: Float[Tensor, "examples groups positions outputs"]

    def written_out(self) -> Iterator[tuple[slice, Tensor]]:
        inputs, outputs = self.a.shape[-1], self.delta.shape[-1]
        for part in self._parts(inputs * outputs):
            yield part, (self.delta[part].mT @ self.a[part]).flatten(1)

    def squares(self) -> Tensor:
        positions, inputs, outputs = self.a.shape[2], self.a.shape[3], self.delta.shape[3]
        if positions == 1:
            return (_squares(self.a[:]) * _squares(self.delta)).sum((1, 2))
        if positions * (inputs + outputs) > inputs * outputs:
            return torch.cat([_squares(whole) for _, whole in self.written_out()])
        found = []
        for part in self._parts(positions**2):
            a, delta = self.a[part], self.delta[part]
            found.append(((a @ a.mT) * (delta @ delta.mT)).double().sum((1, 2, 3)))
        return torch.cat(found)

    def _parts(self, each: int) -> Iterator[slice]:
        """Cut the examples so that ``each`` number of a group and of its patches stays within bounds."""
        examples, groups, positions, inputs = self.a.shape
        if isinstance(self.a, _Patches):
            each = max(each, positions * inputs * _CHUNK // _PATCHES)
        return _parts(examples, groups * each)


@dataclass(frozen=True)
class _Rows:
    """δ_t added to the row of a table that index t names."""

    indices: Tensor
    delta: Float[Tensor, "examples positions width"]
    rows: int

    def written_out(self) -> Iterator[tuple[slice, Tensor]]:
        width = self.delta.shape[-1]
        for part in _parts(len(self.delta), self.rows * width):
            delta = self.delta[part]
            whole = delta.new_zeros(len(delta), self.rows, width)
            whole.scatter_add_(1, self.indices[part, :, None].expand_as(delta), delta)
            yield part, whole.flatten(1)

    def squares(self) -> Tensor:
        found = []
        for part in _parts(len(self.delta), self.delta.shape[1] ** 2):
            delta, indices = self.delta[part], self.indices[part]
            same = indices[:, :, None] == indices[:, None, :]
            found.append(((delta @ delta.mT) * same).double().sum((1, 2)))
        return torch.cat(found)


@dataclass(frozen=True)
class _Whole:
    """A gradient that is small enough to be written out."""

    gradient: Float[Tensor, "examples numbers"]

    def written_out(self) -> Iterator[tuple[slice, Tensor]]:
        for part in _parts(len(self.gradient), self.gradient.shape[1]):
            yield part, self.gradient[part]

    def squares(self) -> Tensor:
        return _squares(self.gradient)


_Gradient = _Product | _Rows | _Whole
_Rule = Callable[[Tensor], list[tuple[str, _Gradient]]]


def _squared_norms(of_one: list[_Gradient]) -> Tensor:
    """Return the squared norm of a parameter's gradient, which is the sum over its uses."""
    if len(of_one) == 1:
        return of_one[0].squares()
    total: Tensor | None = None
    for gradient in of_one:
        whole = torch.cat([part for _, part in gradient.written_out()])
        total = whole if total is None else total + whole
    assert total is not None
    return _squares(total)


def _squares(tensor: Tensor) -> Tensor:
    """Return squared norms over the last dimension: squared in float64, where the square of a small norm is not 0."""
    norms: Tensor = torch.linalg.vector_norm(tensor, dim=-1)
    return norms.double().square()


def _parts(count: int, each: int) -> Iterator[slice]:
    step = max(_CHUNK // max(each, 1), 1)
    for start in range(0, count, step):
        yield slice(start, start + step)


# --- uses of parameters


@dataclass(frozen=True)
class _Use:
    """A call of a function with trained parameters; the rule makes their gradients of that of the output."""

    names: tuple[str, ...]
    length: int  # of the output's first dimension
    edge: Any
    rule: _Rule


class _Uses(TorchFunctionMode):
    """Writes down every call that a trained parameter goes into."""

    def __init__(self, trained: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._names = {id(parameter): name for name, parameter in trained.items()}
        self.found: list[_Use] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        held = tuple(
            self._names[id(leaf)]
            for leaf in tree_leaves((args, kwargs))
            if isinstance(leaf, nn.Parameter) and id(leaf) in self._names
        )
        if not held or not any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in tree_leaves(out)):
            return out
        name = getattr(func, "__name__", str(func))
        rule = _RULES.get(name)
        if rule is None:
            raise NoGhostNorm(f"{held[0]} is used by {name}, for which there is no ghost norm")
        made = rule(self._names, *args, **kwargs)
        # The edge, and not the tensor: a function in place may put another in its place.
        length = len(out) if out.ndim else 0
        self.found.append(_Use(held, length, torch.autograd.graph.get_gradient_edge(out), made))
        return out


def _whole(gradient: Tensor, dims: int) -> _Whole:
    """Sum over all dimensions but the examples' and the parameter's, which are the last ``dims``."""
    between = tuple(range(1, gradient.ndim - dims))
    return _Whole((gradient.sum(between) if between else gradient).flatten(1))


def _full(tensor: Tensor) -> Tensor:
    """Return a tensor without its graph, in at least single precision."""
    return tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32))


def _linear(names: Mapping[int, str], input: Tensor, weight: Tensor, bias: Tensor | None = None) -> _Rule:
    def rule(delta: Tensor) -> list[tuple[str, _Gradient]]:
        found: list[tuple[str, _Gradient]] = []
        if id(weight) in names:
            a, d = (_full(t).reshape(len(delta), 1, -1, t.shape[-1]) for t in (input, delta))
            found.append((names[id(weight)], _Product(a, d)))
        if bias is not None and id(bias) in names:
            found.append((names[id(bias)], _whole(_full(delta), 1)))
        return found

    return rule


def _convolution(
    names: Mapping[int, str],
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> _Rule:
    flat = weight.ndim == 3
    if weight.ndim not in (3, 4):
        raise NoGhostNorm(f"{names.get(id(weight), 'a weight')} is used by conv3d, for which there is no ghost norm")

    def pair(value: Any, none: int) -> tuple[int, int]:
        values = (value,) if isinstance(value, int) else tuple(value)
        if flat:
            return none, values[0]
        return values if len(values) == 2 else (values[0], values[0])

    def rule(delta: Tensor) -> list[tuple[str, _Gradient]]:
        found: list[tuple[str, _Gradient]] = []
        examples = len(delta)
        if bias is not None and id(bias) in names:
            found.append((names[id(bias)], _Whole(_full(delta).flatten(2).sum(2))))
        if id(weight) not in names:
            return found
        x = _full(input)
        kernel = (1, weight.shape[2]) if flat else tuple(weight.shape[2:])
        strides, dilations = pair(stride, 1), pair(dilation, 1)
        x = x.unsqueeze(2) if flat else x
        if isinstance(padding, str):
            spans = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)] if padding == "same" else [0, 0]
            sides = [(span // 2, span - span // 2) for span in spans]
        else:
            sides = [(p, p) for p in pair(padding, 0)]
        x = F.pad(x, (*sides[1], *sides[0]))
        inputs = weight.shape[1] * math.prod(kernel)
        a = _Patches(x, (examples, groups, delta[0, 0].numel(), inputs), kernel, dilations, strides)
        d = _full(delta).reshape(examples, groups, weight.shape[0] // groups, -1).mT
        return [(names[id(weight)], _Product(a, d)), *found]

    return rule


def _embedding(
    names: Mapping[int, str],
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> _Rule:
    if max_norm is not None or scale_grad_by_freq:
        raise NoGhostNorm(f"{names[id(weight)]} is used by an embedding with max_norm or scale_grad_by_freq")

    def rule(delta: Tensor) -> list[tuple[str, _Gradient]]:
        indices, d = input.reshape(len(delta), -1), _full(delta).reshape(len(delta), -1, delta.shape[-1])
        if padding_idx is not None:
            d = d * (indices != padding_idx % len(weight))[..., None]
        return [(names[id(weight)], _Rows(indices, d, len(weight)))]

    return rule


def _scaled(
    names: Mapping[int, str],
    normalised: Callable[[], Tensor],
    weight: Tensor | None,
    bias: Tensor | None,
    channels: int,
) -> _Rule:
    """The rule of y = x̂ ∘ w + b; w has the last ``channels`` dimensions of x̂, or, for 0, its second."""

    def summed(gradient: Tensor) -> _Whole:
        return _whole(gradient, channels) if channels else _Whole(gradient.flatten(2).sum(2))

    def rule(delta: Tensor) -> list[tuple[str, _Gradient]]:
        found: list[tuple[str, _Gradient]] = []
        d = _full(delta) if delta.ndim > 2 or channels else _full(delta).unsqueeze(2)
        if weight is not None and id(weight) in names:
            found.append((names[id(weight)], summed(d * normalised().reshape(d.shape))))
        if bias is not None and id(bias) in names:
            found.append((names[id(bias)], summed(d)))
        return found

    return rule


def _layer_norm(
    names: Mapping[int, str],
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> _Rule:
    shape = tuple(normalized_shape)
    return _scaled(names, lambda: F.layer_norm(_full(input), shape, None, None, eps), weight, bias, len(shape))


def _rms_norm(
    names: Mapping[int, str],
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    eps: float | None = None,
) -> _Rule:
    own = torch.finfo(input.dtype).eps if eps is None else eps
    shape = tuple(normalized_shape)
    return _scaled(names, lambda: F.rms_norm(_full(input), shape, None, own), weight, None, len(shape))


def _group_norm(
    names: Mapping[int, str],
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> _Rule:
    return _scaled(names, lambda: F.group_norm(_full(input), num_groups, None, None, eps), weight, bias, 0)


def _batch_norm(
    names: Mapping[int, str],
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> _Rule:
    def normalised() -> Tensor:
        return F.batch_norm(_full(input), running_mean, running_var, None, None, False, momentum, eps)

    return _scaled(names, normalised, weight, bias, 0)


_RULES: dict[str, Callable[..., _Rule]] = {
    "linear": _linear,
    "conv1d": _convolution,
    "conv2d": _convolution,
    "embedding": _embedding,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "batch_norm": _batch_norm,
}

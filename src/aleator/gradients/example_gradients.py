"""What a batch's per-example gradients have in sum, as cheaply as it can be had.

With g_i the gradient of example i's loss in all trained parameters together, and ḡ the mean or any other direction:

    ‖g_i‖²        without g_i, see `aleator.gradients.ghost_norms`; else from g_i
    ⟨g_i, ḡ⟩      for all i in one forward-mode pass: the derivative of the losses along ḡ
    mean of g_i²  for each coordinate; only from g_i

Where g_i have to be written out, that is done for a few examples at a time (``vmap`` of ``grad``).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float64
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_unflatten

from aleator.gradients.ghost_norms import NoGhostNorm, check_losses, ghost_norms, refuse_batch_statistics

Losses = Callable[[nn.Module, Any], Tensor]
Method = Literal["auto", "ghost", "vmap"]
Need = Literal["norms", "inner", "second_moment"]

_BYTES = 2**28  # of per-example gradients at a time, where the device does not say how much is free


@dataclass(frozen=True)
class ExampleGradients:
    """What was found out about the gradients of some examples.

    Attributes:
        sq_norms: ‖g_i‖².
        mean: of g_i, by the parameters' names; what the losses do not depend on is left out.
        inner: ⟨g_i, direction⟩, where it was asked for.
        second_moment: the mean of g_i² by the parameters' names, where it was asked for.
    """

    sq_norms: Float64[Tensor, " examples"]
    mean: Mapping[str, Tensor]
    inner: Float64[Tensor, " examples"] | None = None
    second_moment: Mapping[str, Tensor] | None = None


def example_gradients(
    model: nn.Module,
    losses: Losses,
    batch: Any,
    *,
    need: Sequence[Need] = ("norms",),
    direction: Mapping[str, Tensor] | None = None,
    method: Method = "auto",
    chunk: int | None = None,
) -> ExampleGradients:
    """Return norms of per-example gradients, and what else is asked for.

    The model is looked at in the mode that it is in. What it draws, as dropout does, it draws from torch's global
    generator. Nothing is added to ``.grad``.

    Args:
        model: whose trained parameters are meant; neither sharded nor wrapped.
        losses: from the model and a batch to one loss for each example, which may not depend on the other examples.
        batch: a tensor, or tensors in containers, whose first dimension is that of the examples.
        need: ``"norms"``, which are always there, ``"inner"``, ``"second_moment"``.
        direction: of the inner products, by the parameters' names; the mean of the gradients when None.
        method: ``"ghost"``, ``"vmap"``, or ``"auto"``: ghost norms where every use of a parameter has a rule.
        chunk: examples whose gradients are written out at a time; by default as many as fit.

    Raises:
        NoGhostNorm: with ``method="ghost"``, naming the parameter and the function that has no rule.
        ValueError: if batch normalisation is in training mode, naming its modules, or an argument is out of range.
    """
    if method not in ("auto", "ghost", "vmap"):
        raise ValueError(f"method must be 'auto', 'ghost' or 'vmap', got {method!r}")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    for name in need:
        if name not in ("norms", "inner", "second_moment"):
            raise ValueError(f"need must be of norms, inner, second_moment, got {name!r}")
    if method == "ghost" and "second_moment" in need:
        raise ValueError("method must be 'vmap' or 'auto' for second_moment, got 'ghost'")
    refuse_batch_statistics(model)
    whole = _Called(model, losses)
    if method != "vmap" and "second_moment" not in need:
        try:
            sq_norms, mean = ghost_norms(model, lambda: losses(model, batch))
        except NoGhostNorm:
            if method == "ghost":
                raise
        else:
            inner = None
            if "inner" in need:
                inner = inner_products(model, losses, batch, mean if direction is None else direction)
            return ExampleGradients(sq_norms, mean, inner)
    return _written_out(whole, batch, need, direction, chunk)


def inner_products(
    model: nn.Module, losses: Losses, batch: Any, direction: Mapping[str, Tensor]
) -> Float64[Tensor, " examples"]:
    """Return ⟨g_i, direction⟩ of every example, from one forward-mode pass.

    Attention is computed by its formula here, which is the form of it that has a forward derivative.

    Args:
        model: as in `example_gradients`.
        losses: as there.
        batch: as there.
        direction: by the names of trained parameters; what is left out is 0.

    Raises:
        ValueError: if a name is of no trained parameter.
    """
    called = _Called(model, losses)
    trained = called.trained()
    if unknown := [name for name in direction if name not in trained]:
        raise ValueError(f"direction must be of trained parameters, got {unknown[0]!r}")
    along = {name: trained[name] for name in direction}
    tangents = {name: direction[name].to(along[name]) for name in along}
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), _PaddingStandsStill():
        products: Tensor = jvp(lambda moved: called.at(moved, batch), (along,), (tangents,))[1]
    check_losses(products)
    return products.double()


class _PaddingStandsStill(TorchFunctionMode):
    """Gives padding no derivative, as backward passes do; forward-mode differentiation forgets that."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is not F.embedding:
            return out
        given = inspect.signature(F.embedding).bind(*args, **(kwargs or {})).arguments
        if (padding := given.get("padding_idx")) is None:
            return out
        return torch.where((given["input"] == padding % len(given["weight"]))[..., None], out.detach(), out)


class _Called(nn.Module):
    """A model and its losses as one module, whose parameters can be exchanged for a call."""

    def __init__(self, model: nn.Module, losses: Losses) -> None:
        super().__init__()
        self.training = model.training
        self.model = model
        self._losses = losses

    def forward(self, batch: Any) -> Tensor:
        return self._losses(self.model, batch)

    def trained(self) -> dict[str, Tensor]:
        return {name: p.detach() for name, p in self.model.named_parameters() if p.requires_grad}

    def at(self, parameters: Mapping[str, Tensor], batch: Any) -> Tensor:
        """Return the losses at other values of some parameters."""
        named = dict(self.model.named_parameters())
        values = {id(named[name]): value for name, value in parameters.items()}
        # Every place of a tied weight, and no module twice: torch's own tying breaks on a layer that is used twice.
        exchanged = {
            f"{place}.{name}": values[id(own)]
            for place, module in self.named_modules()
            for name, own in module.named_parameters(recurse=False, remove_duplicate=False)
            if id(own) in values
        }
        return functional_call(self, exchanged, (batch,), tie_weights=False)  # type: ignore[no-any-return]


def _written_out(
    called: _Called, batch: Any, need: Sequence[Need], direction: Mapping[str, Tensor] | None, chunk: int | None
) -> ExampleGradients:
    """Write the gradients out, some examples at a time; twice over for products with their own mean."""
    if "inner" in need and direction is None:
        mean = _written_out(called, batch, ("norms",), None, chunk).mean
        return _written_out(called, batch, need, mean, chunk)
    trained = called.trained()
    leaves, form = tree_flatten(batch)
    examples = next(len(leaf) for leaf in leaves if isinstance(leaf, Tensor))
    numbers = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]

    def loss_of_one(parameters: dict[str, Tensor], tensors: list[Tensor]) -> Tensor:
        one = list(leaves)
        for i, tensor in zip(numbers, tensors, strict=True):
            one[i] = tensor[None]
        found = called.at(parameters, tree_unflatten(one, form))
        check_losses(found)
        return found[0]

    gradients_of = vmap(grad(loss_of_one), in_dims=(None, 0), randomness="different")
    step = chunk or _fitting(trained)
    norms, inner = [], []
    sums = {name: torch.zeros_like(p, dtype=_wide(p)) for name, p in trained.items()}
    squares = {name: torch.zeros_like(s) for name, s in sums.items()} if "second_moment" in need else {}
    for start in range(0, examples, step):
        part = [leaves[i][start : start + step] for i in numbers]
        with sdpa_kernel(SDPBackend.MATH):
            gradients = {name: g.detach() for name, g in gradients_of(trained, part).items()}
        flat = [g.flatten(1) for g in gradients.values()]
        norms.append(torch.stack([torch.linalg.vector_norm(g, dim=1).double().square() for g in flat]).sum(0))
        if "inner" in need and direction is not None:
            products = [g.flatten(1) @ direction[n].to(g).flatten() for n, g in gradients.items() if n in direction]
            inner.append(torch.stack([product.double() for product in products]).sum(0))
        for name, g in gradients.items():
            sums[name] += g.sum(0, dtype=sums[name].dtype)
            if squares:
                squares[name] += g.to(squares[name].dtype).square().sum(0)
    return ExampleGradients(
        torch.cat(norms),
        {name: s / examples for name, s in sums.items()},
        torch.cat(inner) if inner else None,
        {name: s / examples for name, s in squares.items()} if squares else None,
    )


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _fitting(trained: Mapping[str, Tensor]) -> int:
    """Return how many gradients may be written out at a time: a quarter of a GPU's free memory, or 256 MiB."""
    some = next(iter(trained.values()))
    free = torch.cuda.mem_get_info(some.device)[0] // 4 if some.is_cuda else _BYTES
    each = sum(p.numel() * p.element_size() for p in trained.values())
    return max(1, int(free // max(each, 1)))

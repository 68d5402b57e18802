"""Curvature matrices that are never formed: products of a Hessian, a Gauss-Newton or a Fisher matrix with a vector.

With outputs f = f(θ) of n examples and their mean loss ℓ(f), J = ∂f/∂θ:

    hessian   ∇²_θ ℓ                     v ↦ ∂/∂θ ⟨∇ℓ, v⟩
    ggn       Jᵀ (∇²_f ℓ) J              v ↦ Jᵀ S J v;  positive semi-definite where ℓ is convex in f
    fisher    (1/n) Σ_i Jᵢᵀ rᵢ rᵢᵀ Jᵢ    r = softmax(f) − e_y with labels y drawn from softmax(f); its mean over draws
                                         is the ggn of the cross entropy

All of them are derivatives of a derivative in reverse mode: Jv = ∂/∂u ⟨Jᵀu, v⟩. Where the data pass through the model
in one piece, the passes' graph is kept, and a product costs about two backward passes and no forward pass. It is made
anew when weights have changed.

Curvature is that of the model in evaluation mode, in float32 or float64. N. N. Schraudolph, "Fast curvature
matrix-vector products for second-order gradient descent", Neural Computation 14, 2002.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_flatten, tree_map

Kind = Literal["hessian", "ggn", "fisher"]
Product = Callable[[list[Tensor]], list[Tensor]]

# By how much two products with one vector may differ, as a share of their norm.
DETERMINISTIC = 1e-5


class CurvatureError(RuntimeError):
    """A curvature that is no number."""


class CurvatureOperator:
    """The curvature of a mean loss at the model's present weights, as something to multiply vectors with.

    Vectors are flat, in the order of the parameters; a tied parameter is in them once, one that is not trained is not.
    Attention is computed by torch's plain formula (``SDPBackend.MATH``), the only one that can be differentiated twice,
    and autocast is off. Nothing of the model is changed, nor are its gradients and torch's global generators.

    A model in ``DistributedDataParallel`` is unwrapped, and each process passes its own share of the data: products are
    those of all examples, the same on every process, by one all-reduce. All processes have to multiply together. With
    ``group`` that goes for any model that is the same on the group's processes.

    Args:
        model: called with ``inputs``. Modules that draw or learn in a forward pass, as dropout and batch normalisation
            do, have to be in evaluation mode.
        loss_fn: from outputs and targets to their mean loss, a scalar. Where it divides by something else than the
            number of examples, as with ``ignore_index`` or class weights, that has to be in proportion to it.
        data: batches ``(inputs, targets)``, weighted by their sizes. Both may be containers of tensors.
        kind: which matrix.
        params: by which to differentiate; None is all that the model trains.
        weight_decay: γ; the matrix is that of the loss plus γ times the identity.
        chunk: examples that pass through the model at once; None takes batches as they are. Pieces of a batch are
            weighted by their sizes. With more than one piece a product makes its own forward passes.
        generator: draws the labels of ``fisher``; for nothing else.
        group: the processes that share the data; None is those of ``DistributedDataParallel``, or this one alone.

    Raises:
        ValueError: if an argument is out of range, there are no data, a parameter is not trained or is sharded.

    Example:
        >>> model = torch.nn.Linear(3, 2)
        >>> data = [(torch.ones(4, 3), torch.tensor([0, 1, 1, 0]))]
        >>> curvature = CurvatureOperator(model, torch.nn.functional.cross_entropy, data, kind="ggn")
        >>> (curvature @ torch.ones(8)).shape
        torch.Size([8])
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: Callable[[Any, Any], Tensor],
        data: Iterable[tuple[Any, Any]],
        kind: Kind = "hessian",
        params: Sequence[Tensor] | None = None,
        weight_decay: float = 0.0,
        chunk: int | None = None,
        *,
        generator: torch.Generator | None = None,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        if kind not in ("hessian", "ggn", "fisher"):
            raise ValueError(f"kind must be 'hessian', 'ggn' or 'fisher', got {kind!r}")
        if chunk is not None and chunk < 1:
            raise ValueError(f"chunk must be at least 1, got {chunk}")
        if not 0 <= weight_decay < float("inf"):
            raise ValueError(f"weight_decay must be finite and not negative, got {weight_decay}")
        if (kind == "fisher") != (generator is not None):
            given = "none" if generator is None else "one"
            raise ValueError(f"generator must be given with kind 'fisher' and with no other, got {given} for {kind!r}")
        self._group = group_of(model, group)
        self._model = cast("nn.Module", model.module) if isinstance(model, DistributedDataParallel) else model
        self._model = getattr(self._model, "_orig_mod", self._model)  # torch.compile has no second derivatives
        self._loss_fn, self.kind, self._weight_decay, self._generator = loss_fn, kind, weight_decay, generator
        self._params = _trained(self._model, params)
        self._pieces = list(_pieces(data, chunk))
        own = sum(count for _, _, count in self._pieces)
        self.examples = self._summed(torch.tensor(own, device=self.device)) if self._group is not None else own
        if self.examples < 1:
            raise ValueError("data must hold at least one example, got none")
        # What belongs to certain weights: labels that were drawn, and the graph of the only piece.
        self._weights: Any = None
        self._labels: dict[int, Tensor] = {}
        self._held: Product | None = None
        self._checked = False

    @property
    def shape(self) -> tuple[int, int]:
        """(P, P), P being the number of trained numbers."""
        size = sum(p.numel() for p in self._params)
        return size, size

    @property
    def dtype(self) -> torch.dtype:
        """Of vectors: float32, or float64 where a parameter is."""
        dtype = torch.float32
        for parameter in self._params:
            dtype = torch.promote_types(dtype, parameter.dtype)
        return dtype

    @property
    def device(self) -> torch.device:
        """Of vectors: that of the first parameter."""
        return self._params[0].device

    def __matmul__(self, vector: Float[Tensor, " parameters"]) -> Float[Tensor, " parameters"]:
        """Return the product with a vector.

        Raises:
            ValueError: if the vector has another shape, or the loss is no scalar.
            RuntimeError: if the model is in training mode where that matters, or passes are not deterministic.
        """
        if vector.shape != self.shape[:1]:
            raise ValueError(f"vector must have the shape ({self.shape[0]},), got {tuple(vector.shape)}")
        parts = self._split(vector)
        total = torch.zeros(self.shape[0], dtype=self.dtype, device=self.device)
        weights = tuple((p._version, p.data_ptr()) for p in self._params)
        if self._weights != weights:
            self._weights, self._labels, self._held = weights, {}, None
            _check_modes(self._model)
        with torch.enable_grad(), self._undisturbed():
            if self._held is None and len(self._pieces) == 1:
                self._held = self._product(0, keep=True)
            for index, (_, _, count) in enumerate(self._pieces):
                product = self._held or self._product(index, keep=False)
                found = self._joined(product(parts))
                if not self._checked:
                    _check_deterministic(found, self._joined(self._product(index, keep=False)(parts)))
                    self._checked = True
                total.add_(found, alpha=count / self.examples)
        if self._group is not None:
            dist.all_reduce(total, group=self._group)
        return total.add_(vector.to(total), alpha=self._weight_decay) if self._weight_decay else total

    def scipy(self) -> Any:
        """Return the matrix as SciPy's ``LinearOperator``, for ``scipy.sparse.linalg.eigsh`` and its like."""
        from scipy.sparse.linalg import LinearOperator

        dtype = np.float64 if self.dtype == torch.float64 else np.float32

        def matvec(vector: Any) -> Any:
            given = torch.from_numpy(np.ascontiguousarray(vector, dtype=dtype).reshape(-1))
            return (self @ given.to(self.device)).cpu().numpy()

        return LinearOperator(self.shape, matvec=matvec, rmatvec=matvec, dtype=dtype)

    # --- one piece of the data

    def _product(self, index: int, keep: bool) -> Product:
        """Pass a piece forward and return what multiplies with its matrix; once only, unless its graph is kept."""
        inputs, targets, _ = self._pieces[index]
        outputs = self._model(inputs)
        if self.kind == "hessian":
            return _of_gradient(
                _grad([_scalar(self._loss_fn(outputs, targets))], self._params, create=True), self._params, keep
            )
        if not isinstance(outputs, Tensor):
            raise ValueError(f"the model must return a tensor for kind {self.kind!r}, got {type(outputs).__name__}")
        detached = outputs.detach().requires_grad_()
        if self.kind == "ggn":
            slope = _grad([_scalar(self._loss_fn(detached, targets))], [detached], create=True)
            curved = slope[0].requires_grad

            def inner(jv: Tensor) -> Tensor:
                return _grad(slope, [detached], [jv], keep=True)[0] if curved else torch.zeros_like(jv)

        else:
            residual = self._residual(index, detached)

            def inner(jv: Tensor) -> Tensor:
                return residual * ((residual * jv).sum(1, keepdim=True) / len(residual))

        return _of_outputs(outputs, inner, self._params, keep)

    def _residual(self, index: int, outputs: Tensor) -> Tensor:
        """Return softmax − e_y of each example, for labels that are drawn once."""
        if outputs.ndim != 2:
            raise ValueError(f"outputs must be (examples, classes) for kind 'fisher', got {tuple(outputs.shape)}")
        assert self._generator is not None
        p = outputs.detach().softmax(1)
        if index not in self._labels:
            drawn = torch.rand(len(p), 1, dtype=torch.float64, generator=self._generator, device=self._generator.device)
            steps = p.double().cumsum(1)
            labels = torch.searchsorted(steps, drawn.to(p.device) * steps[:, -1:], right=True)
            self._labels[index] = labels.clamp(max=p.shape[1] - 1)
        return p.scatter_add(1, self._labels[index], p.new_full((len(p), 1), -1.0))

    # --- vectors

    def _split(self, vector: Tensor) -> list[Tensor]:
        parts = torch.split(vector.detach(), [p.numel() for p in self._params])
        return [part.view(p.shape).to(p) for part, p in zip(parts, self._params, strict=True)]

    def _joined(self, parts: list[Tensor]) -> Tensor:
        return torch.cat([part.detach().reshape(-1).to(self.device, self.dtype) for part in parts])

    def _summed(self, number: Tensor) -> int:
        dist.all_reduce(number, group=self._group)
        return int(number)

    @contextlib.contextmanager
    def _undisturbed(self) -> Iterator[None]:
        device = self.device
        with (
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            torch.autocast(device.type, enabled=False),
            sdpa_kernel(SDPBackend.MATH),
        ):
            yield


def group_of(model: nn.Module, group: dist.ProcessGroup | None) -> dist.ProcessGroup | None:
    """Return the processes that share the data of a model; None for this one alone."""
    return model.process_group if group is None and isinstance(model, DistributedDataParallel) else group


def _trained(model: nn.Module, params: Sequence[Tensor] | None) -> list[Tensor]:
    chosen: list[Tensor] = [p for p in model.parameters() if p.requires_grad] if params is None else list(params)
    if not chosen:
        raise ValueError("params must hold at least one parameter that is trained, got none")
    for parameter in chosen:
        if not parameter.requires_grad:
            raise ValueError(f"params must be trained, got one of shape {tuple(parameter.shape)} without requires_grad")
        if isinstance(parameter, DTensor):
            raise ValueError(
                f"params must be whole tensors, got a sharded one of shape {tuple(parameter.shape)}: "
                "second derivatives through fully_shard are not promised; probe a gathered copy of the model"
            )
    if len({id(parameter) for parameter in chosen}) != len(chosen):
        raise ValueError("params must hold every parameter once, got one twice")
    return chosen


def _pieces(data: Iterable[tuple[Any, Any]], chunk: int | None) -> Iterator[tuple[Any, Any, int]]:
    for inputs, targets in data:
        count = _count((inputs, targets))
        if chunk is None or chunk >= count:
            if count:
                yield inputs, targets, count
            continue
        for start in range(0, count, chunk):
            piece = tree_map(lambda t, a=start: t[a : a + chunk] if isinstance(t, Tensor) else t, (inputs, targets))
            yield piece[0], piece[1], min(chunk, count - start)


def _count(batch: tuple[Any, Any]) -> int:
    leaves = [leaf for leaf in tree_flatten(batch)[0] if isinstance(leaf, Tensor)]
    if not leaves or not leaves[0].ndim:
        raise ValueError("a batch of data must hold tensors with a row for each example, got none")
    return len(leaves[0])


def _check_modes(model: nn.Module) -> None:
    """Refuse modules that draw, or learn, in a forward pass.

    Raises:
        RuntimeError: naming them.
    """
    found = [
        f"{name or 'the model'} ({type(module).__name__})"
        for name, module in model.named_modules()
        if module.training and _draws_or_learns(module)
    ]
    if found:
        raise RuntimeError(
            f"curvature needs a deterministic pass that changes nothing; in training mode are {', '.join(found)}: "
            "call model.eval()"
        )


def _draws_or_learns(module: nn.Module) -> bool:
    if isinstance(module, _DropoutNd):
        return module.p > 0
    return isinstance(module, _NormBase) and module.track_running_stats


def _check_deterministic(first: Tensor, second: Tensor) -> None:
    scale, off = float(torch.linalg.vector_norm(first)), float(torch.linalg.vector_norm(first - second))
    if off > DETERMINISTIC * scale:
        raise RuntimeError(
            f"two products with one vector differ by {off / scale:.1e} of their norm, more than {DETERMINISTIC:g}: the "
            "model draws random numbers, as dropout does, or changes in a pass, as batch normalisation does; call "
            "model.eval(), or seed what it draws"
        )


def _scalar(loss: Any) -> Tensor:
    if not isinstance(loss, Tensor) or loss.ndim:
        got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(f"loss_fn must return a scalar tensor, got {got}")
    return loss


# What is kept refers to no operator: a cycle would hold its graph until the garbage is collected.
def _of_gradient(gradient: list[Tensor], params: list[Tensor], keep: bool) -> Product:
    moving = [i for i, part in enumerate(gradient) if part.requires_grad]

    def product(vectors: list[Tensor]) -> list[Tensor]:
        if not moving:  # the gradient is constant
            return [torch.zeros_like(p) for p in params]
        return _grad([gradient[i] for i in moving], params, [vectors[i] for i in moving], keep=keep)

    return product


def _of_outputs(outputs: Tensor, inner: Callable[[Tensor], Tensor], params: list[Tensor], keep: bool) -> Product:
    if not outputs.requires_grad:
        return lambda vectors: [torch.zeros_like(p) for p in params]
    dual = torch.zeros_like(outputs, requires_grad=True)
    pulled = _grad([outputs], params, [dual], create=True)  # Jᵀu, linear in u
    moving = [i for i, part in enumerate(pulled) if part.requires_grad]

    def product(vectors: list[Tensor]) -> list[Tensor]:
        (jv,) = _grad([pulled[i] for i in moving], [dual], [vectors[i] for i in moving], keep=True)
        return _grad([outputs], params, [inner(jv)], keep=keep)

    return product


def _grad(
    outputs: list[Tensor],
    inputs: Sequence[Tensor],
    vectors: list[Tensor] | None = None,
    *,
    create: bool = False,
    keep: bool = False,
) -> list[Tensor]:
    """Return the derivative; zeros by what does not take part."""
    if not any(output.requires_grad for output in outputs):
        return [torch.zeros_like(x) for x in inputs]
    found = torch.autograd.grad(
        outputs, inputs, vectors, retain_graph=keep or create, create_graph=create, materialize_grads=True
    )
    return list(found)

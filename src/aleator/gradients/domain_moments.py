"""Moments of the gradient in each domain, measured on a sample of examples.

For an example x of domain i, with g(x) = ∇ℓ(x):

    G_i = E_i‖g‖²        μ_i = E_i[g]        V_i = E_i‖g − μ_i‖² = G_i − ‖μ_i‖²

Expectations are over the domain's n_i examples; m_i of them are looked at, drawn without replacement. Means of ‖g‖² and
products μ̂_i·μ̂_j of different domains are unbiased. ‖μ̂_i‖² is not: with U the mean of g(x)·g(y) over pairs x ≠ y of the
sample,

    ‖μ_i‖² is estimated by ((n_i − 1)·U + Ĝ_i) / n_i

which is unbiased, and exact for m_i = n_i. Standard errors are computed for means of h(x) = (‖g‖², g·μ̂_1, …, g·μ̂_K),
to first order, with the correction 1 − m_i/n_i for a finite domain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from aleator.gradients.modes import modes_kept


@dataclass(frozen=True)
class GradientMoments:
    """What was measured, in double precision.

    Attributes:
        names: the K domains.
        samples: m_i, how many examples of each were looked at.
        second: G_i.
        products: μ_i·μ_j, with the unbiased ‖μ_i‖² on the diagonal, which may be negative by chance.
        covariance: for each domain, the covariance of the mean of h = (‖g‖², g·μ_1, …, g·μ_K).
    """

    names: tuple[str, ...]
    samples: tuple[int, ...]
    second: Float64[Tensor, " domains"]
    products: Float64[Tensor, "domains domains"]
    covariance: Float64[Tensor, "domains features features"]

    @property
    def variance(self) -> Float64[Tensor, " domains"]:
        """V_i, the variance of the gradient within each domain."""
        return self.second - self.products.diagonal()

    @property
    def second_error(self) -> Float64[Tensor, " domains"]:
        """Standard errors of G_i."""
        return self.covariance[:, 0, 0].sqrt()

    @property
    def variance_error(self) -> Float64[Tensor, " domains"]:
        """Standard errors of V_i."""
        k = torch.arange(len(self.names))
        own = self.covariance
        square = own[:, 0, 0] - 4 * own[k, 0, k + 1] + 4 * own[k, k + 1, k + 1]
        return square.clamp(min=0).sqrt()


class GradientMomentProbe:
    """Measures `GradientMoments` on a model and its loss, by per-example gradients (`torch.func`).

    The model is left as it is: parameters, gradients, mode. It is measured in evaluation mode, because dropout would
    add to the variance and batch normalisation would make gradients depend on their neighbours. It takes the memory of
    ``chunk_size`` + K gradients.

    Args:
        model: called with all tensors of an example but the last, in batches of one.
        loss: from the model's output and the last tensor, both in batches of one, to a scalar.
        chunk_size: per-example gradients computed at a time.

    Raises:
        ValueError: if the chunk size is below 1, or the model has no parameter to train.

    Example:
        >>> probe = GradientMomentProbe(torch.nn.Linear(2, 3), torch.nn.functional.cross_entropy)
        >>> domains = {"a": (torch.rand(40, 2), torch.zeros(40).long()), "b": (torch.rand(9, 2), torch.ones(9).long())}
        >>> probe.measure(domains, samples=20, generator=torch.Generator()).samples
        (20, 9)
    """

    def __init__(self, model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], chunk_size: int = 16) -> None:
        if chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise ValueError("model must have a parameter to train, got none")
        self.model = model
        self.loss = loss
        self.chunk_size = chunk_size

    def measure(
        self, domains: Mapping[str, Sequence[Tensor]], samples: int = 64, *, generator: torch.Generator
    ) -> GradientMoments:
        """Return the moments of the model's present gradient.

        Every example is looked at twice: for μ_i, and for its product with all of them.

        Args:
            domains: for each name the tensors of all its examples, of the same first dimension.
            samples: how many examples of a domain to look at, at least 2; all of a domain that has fewer.
            generator: draws them.

        Raises:
            ValueError: if there is no domain, one is empty, its tensors differ in length, or samples are fewer than 2;
                if the model has a recurrent layer that ``vmap`` does not support, as GRU.
        """
        if samples < 2:
            raise ValueError(f"samples must be at least 2, got {samples}")
        if not domains:
            raise ValueError("domains must hold at least one domain, got none")
        chosen: list[list[Tensor]] = []
        for name, tensors in domains.items():
            lengths = {len(tensor) for tensor in tensors}
            if len(lengths) != 1 or 0 in lengths:
                raise ValueError(
                    f"tensors of a domain must be equally long and not empty, got {sorted(lengths)} for {name!r}"
                )
            rows = torch.randperm(len(tensors[0]), generator=generator, device=generator.device)[:samples]
            chosen.append([tensor[rows.to(tensor.device)] for tensor in tensors])
        totals = [len(tensors[0]) for tensors in domains.values()]
        with modes_kept(self.model):
            self.model.eval()
            means = torch.stack([self._mean(tensors) for tensors in chosen])
            features = [self._features(tensors, means) for tensors in chosen]
        return _moments(tuple(domains), totals, features, means)

    def _mean(self, tensors: list[Tensor]) -> Tensor:
        total = torch.zeros(())
        for gradients in self._gradients(tensors):
            total = total + gradients.sum(0)
        return total / len(tensors[0])

    def _features(self, tensors: list[Tensor], means: Tensor) -> Float64[Tensor, "sample features"]:
        rows = [
            torch.cat([gradients.square().sum(1, keepdim=True), gradients @ means.T], dim=1)
            for gradients in self._gradients(tensors)
        ]
        return torch.cat(rows).cpu()

    def _gradients(self, tensors: list[Tensor]) -> Iterator[Float64[Tensor, "chunk parameters"]]:
        parameters = {n: p.detach() for n, p in self.model.named_parameters() if p.requires_grad}
        fixed = {n: p.detach() for n, p in self.model.named_parameters() if not p.requires_grad}
        fixed |= dict(self.model.named_buffers())

        def loss_of_one(trained: dict[str, Tensor], *example: Tensor) -> Tensor:
            inputs, target = [tensor[None] for tensor in example[:-1]], example[-1][None]
            return self.loss(functional_call(self.model, {**trained, **fixed}, tuple(inputs)), target)

        per_example = vmap(grad(loss_of_one), in_dims=(None, *[0] * len(tensors)))
        for chunk in zip(*(torch.split(tensor, self.chunk_size) for tensor in tensors), strict=True):
            try:
                gradients = per_example(parameters, *chunk)
            except RuntimeError as error:
                if any(isinstance(module, (nn.RNNBase, nn.RNNCellBase)) for module in self.model.modules()):
                    raise ValueError(
                        "model must have no recurrent layer: per-example gradients by vmap do not support these, "
                        f"got {type(self.model).__name__} with one"
                    ) from error
                raise
            yield torch.cat([g.flatten(1) for g in gradients.values()], dim=1).double()


def _moments(names: tuple[str, ...], totals: list[int], features: list[Tensor], means: Tensor) -> GradientMoments:
    products = (means @ means.T).cpu()
    second, covariance = [], []
    for i, (n, h) in enumerate(zip(totals, features, strict=True)):
        m = len(h)
        square = h[:, 0].mean()
        second.append(square)
        if m > 1:  # of a domain with one example ‖μ‖² is G already
            pairs = (m * products[i, i] - square) / (m - 1)
            products[i, i] = ((n - 1) * pairs + square) / n
        centred = h - h.mean(0)
        covariance.append(centred.T @ centred / max(m - 1, 1) * ((1 - m / n) / m))
    return GradientMoments(
        names, tuple(len(h) for h in features), torch.stack(second), products, torch.stack(covariance)
    )

"""The trust ratio of a layer, by which LAMB and LARS multiply its update u, and what else the two share.

    trust ratio = φ(‖w‖) / ‖u‖,    1 where a norm is zero,    φ(z) = z, or z kept between two bounds

A layer is a parameter tensor w. A rule decides which of them are adapted.

Y. You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", ICLR 2020, arXiv 1904.00962.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim.optimizer import ParamsT

from aleator.optim.arguments import Bounds
from aleator.optim.layerwise import LayerwiseOptimizer
from aleator.optim.rules import KeptRule, Rule
from aleator.optim.sharded_norms import Placement, by_placement, local, local_gradient, norms, state_dtype

Adapt = Literal["all", "decayed"] | Rule

Measure = Callable[[Sequence[Tensor], Placement], Tensor]

# Elements that are stepped together on a CPU: weights, gradients, m, v and u in float32 are 5 MB of its cache.
CPU_PORTION = 1 << 18


class Layers(NamedTuple):
    """Tensors of one group that are all adapted or all not, as parallel lists.

    Attributes:
        group: the options.
        adapted: whether they are multiplied by trust ratios.
        params: the whole tensors. All that follows is this process's part.
        weights: w.
        grads: g.
        steps: how many steps each has made, 0-d.
        ratios: the trust ratio of each in the last step, 0-d.
        averages: the running means, a list for each kind.
    """

    group: dict[str, Any]
    adapted: bool
    params: list[Tensor]
    weights: list[Tensor]
    grads: list[Tensor]
    steps: list[Tensor]
    ratios: list[Tensor]
    averages: tuple[list[Tensor], ...]


def trust_ratio(
    weight_norm: Float[Tensor, "*layers"], update_norm: Float[Tensor, "*layers"], phi: Bounds | None = None
) -> Float[Tensor, "*layers"]:
    """Return φ(‖w‖)/‖u‖ per layer, and 1 where ‖w‖ or ‖u‖ is zero (You et al. 2020, Algorithms 1 and 2).

    Args:
        weight_norm: ‖w‖, before φ.
        update_norm: ‖u‖.
        phi: bounds of φ(z) = min(max(z, low), high); None is the identity.
    """
    adapted = (weight_norm != 0) & (update_norm != 0)
    scaled = weight_norm if phi is None else weight_norm.clamp(*phi)
    # The inner where keeps 0/0 from being computed at all. A norm that is no number makes the ratio none.
    return torch.where(adapted, scaled / torch.where(adapted, update_norm, 1), 1)


def trust_ratios(
    layers: Sequence[Layers], updates: Sequence[list[Tensor]], measure: Measure = norms
) -> list[list[Tensor] | None]:
    """Return the trust ratios, 0-d, of all adapted tensors, and keep them; None for layers that are not adapted.

    The norms of all of them are reduced together, see `aleator.optim.sharded_norms`.

    Args:
        layers: the tensors.
        updates: this process's part of the update of each.
        measure: of the updates' norms; `norms_of_any_size` where they may be as small as gradients are.
    """
    adapted = [(part, us) for part, us in zip(layers, updates, strict=True) if part.adapted]
    pairs = [pair for part, us in adapted for pair in zip(part.weights, us, strict=True)]
    phis = [part.group["phi"] for part, _ in adapted for _ in part.params]
    ratios: list[Tensor] = [None] * len(pairs)  # type: ignore[list-item]  # all are filled below
    for indices, weight_norms, update_norms in norm_pairs([part for part, _ in adapted], pairs, measure):
        for phi in {phis[i] for i in indices}:
            for i, ratio in zip(indices, trust_ratio(weight_norms, update_norms, phi).unbind(), strict=True):
                if phis[i] == phi:
                    ratios[i] = ratio
    return kept_ratios(layers, ratios)


def norm_pairs(
    layers: Sequence[Layers], pairs: Sequence[tuple[Tensor, Tensor]], measure: Measure = norms
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Return the norms of whole tensors, from this process's parts of two for each parameter.

    Args:
        layers: the parameters.
        pairs: two tensors for each parameter of all layers.
        measure: of their norms.

    Yields:
        Numbers of parameters, the norms of the first of their tensors and the norms of the second.
    """
    parameters = [parameter for part in layers for parameter in part.params]
    for placement, indices in by_placement(parameters).items():
        both = measure([pairs[i][0] for i in indices] + [pairs[i][1] for i in indices], placement)
        first, second = both.chunk(2)
        yield indices, first, second


def kept_ratios(layers: Sequence[Layers], ratios: list[Tensor]) -> list[list[Tensor] | None]:
    """Hand the ratios of all adapted tensors out to their layers, where they are kept; None for the others."""
    found: list[list[Tensor] | None] = []
    for part in layers:
        own = None
        if part.adapted:
            own, ratios = ratios[: len(part.params)], ratios[len(part.params) :]
            torch._foreach_copy_(part.ratios, own)
        found.append(own)
    return found


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


def portions(layers: list[Layers]) -> Iterator[list[Layers]]:
    """Cut layers into parts that are stepped one after the other.

    On a CPU a small portion stays in its cache, and its updates take the memory of those before. On other devices, and
    where norms are reduced over processes, everything at once needs the fewest launches and a single reduction.
    """
    parameters = [parameter for part in layers for parameter in part.params]
    if torch.compiler.is_compiling() or any(isinstance(p, DTensor) or p.device.type != "cpu" for p in parameters):
        yield layers
        return
    for part in layers:
        begin = elements = 0
        for end, weight in enumerate(part.weights):
            if end > begin and elements + weight.numel() > CPU_PORTION:
                yield [_cut(part, begin, end)]
                begin, elements = end, 0
            elements += weight.numel()
        yield [_cut(part, begin, len(part.weights))]


class TrustRatioOptimizer(LayerwiseOptimizer):
    """Base of LAMB and LARS; not an optimizer by itself. A subclass names its running means in ``_averages``."""

    _averages: ClassVar[tuple[str, ...]]
    _by_place = ("adapt",)

    def __init__(self, params: ParamsT, defaults: dict[str, Any]) -> None:
        adapt = defaults["adapt"]
        super().__init__(params, {**defaults, "adapt": KeptRule(adapt) if callable(adapt) else adapt})

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

    def _layers(self) -> list[Layers]:
        """Return the tensors that have a gradient, each group's in one or two parts.

        Raises:
            RuntimeError: if a gradient is sparse.
        """
        found = []
        for group in self.param_groups:
            for adapted in _kinds(group):
                part = Layers(group, adapted, [], [], [], [], [], tuple([] for _ in self._averages))
                self._init_group(*part[:-1], *part.averages)
                if part.params:
                    found.append(part)
        return found

    def _init_group(
        self,
        group: dict[str, Any],
        adapted: bool,
        params: list[Tensor],
        weights: list[Tensor],
        grads: list[Tensor],
        steps: list[Tensor],
        ratios: list[Tensor],
        *averages: list[Tensor],
    ) -> None:
        # torch.compile knows this method by its name: it runs it as it is and takes the lists for inputs.
        for index, parameter in self._trained(group):
            if _is_adapted(group, index) != adapted:
                continue
            state = self._state_of(parameter, "step", *self._averages)
            if "trust_ratio" not in state:
                state["trust_ratio"] = torch.ones((), dtype=state_dtype(parameter), device=parameter.device)
            params.append(parameter)
            weights.append(local(parameter))
            grads.append(local_gradient(parameter))
            steps.append(state["step"])
            ratios.append(state["trust_ratio"])
            for name, column in zip(self._averages, averages, strict=True):
                column.append(local(state[name]))

    def _with_own(self, own: dict[str, Any], saved: dict[str, Any]) -> dict[str, Any]:
        """Keep what this optimizer's own rule has decided about its tensors."""
        group = super()._with_own(own, saved)
        return {**group, "adapt": own["adapt"]} if isinstance(own["adapt"], tuple) else group

    def _begin(self, group: dict[str, Any]) -> None:
        """Replace a rule by what it says about each parameter, so that a saved state holds no function."""
        adapt, named = group["adapt"], self._named(len(self.param_groups) - 1)
        if callable(adapt):
            group["adapt"] = tuple(bool(adapt(name, parameter)) for name, parameter in named)
        elif not isinstance(adapt, (tuple, list)) and adapt not in ("all", "decayed"):
            raise ValueError(f"adapt must be 'all', 'decayed' or a function of name and parameter, got {adapt!r}")
        _warn_of_zeros(group, named)


def _warn_of_zeros(group: dict[str, Any], named: list[tuple[str, Tensor]]) -> None:
    names = [
        name
        for index, (name, parameter) in enumerate(named)
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
            stacklevel=7,
        )


def _cut(part: Layers, begin: int, end: int) -> Layers:
    group, adapted, *columns, averages = part
    make: Callable[..., Layers] = Layers
    return make(group, adapted, *(c[begin:end] for c in columns), tuple(c[begin:end] for c in averages))


def _kinds(group: dict[str, Any]) -> tuple[bool, ...]:
    """Return what the tensors of a group are: adapted, not adapted, or some the one and some the other."""
    if isinstance(group["adapt"], (tuple, list)):
        return True, False
    return (_is_adapted(group, 0),)


def _is_adapted(group: dict[str, Any], index: int) -> bool:
    adapt = group["adapt"]
    return bool(adapt[index]) if isinstance(adapt, (tuple, list)) else adapt == "all" or group["weight_decay"] != 0

"""Steps from two passes forward and none backward, for a model as it is: a gradient is a number, and travels as a byte.

    g = probe(closure)          (ℓ(θ + ε z) − ℓ(θ − ε z)) / 2ε,  z by the key (generator_key, round, machine, sample)
    code = encode(g)            what travels
    apply([(machine, sample, code), …])
                                θ ← θ − λ wd θ − Σ λ decode(code)/√n z,  in the order of machines and samples

Whoever has the same weights, options and codes has the same weights afterwards, bit for bit: machines that exchange
codes never exchange weights. In half precision the weights are the master copies, which the state holds: who joins
loads both. `step` is all of it for one machine and one gradient.

The functions underneath are `aleator.gradients.spsa` and `apply_scalars`, and the numbers are theirs. They take a loss
as a function of the weights; here θ ± ε z stands in the model while the loss is computed. Afterwards θ is put back from
a copy: to add ε z and to take it away again leaves a rest, after 1000 times 12 % of a weight in bfloat16.

J. C. Spall 1992; S. Malladi et al., "Fine-Tuning Language Models with Just Forward Passes" (MeZO), arXiv 2305.17333;
E. Zelikman, Q. Huang, P. Liang, N. Haber, N. D. Goodman, "Just One Byte (per gradient)", arXiv 2306.10015.
"""

from __future__ import annotations

import itertools
import math
import numbers
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from aleator.gradients import log8_decode, log8_encode, log9_decode, log9_encode, scalar_coefficients
from aleator.gradients.codes import Codec
from aleator.gradients.modes import same_draws
from aleator.gradients.shards import local_part
from aleator.gradients.spsa import Norm, slope
from aleator.optim.arguments import check_not_negative
from aleator.optim.layerwise import LayerwiseOptimizer
from aleator.optim.sharded_norms import state_dtype
from aleator.random import Kind, Region, checked_keys, subtract_directions

Restore = Literal["master", "snapshot", "inplace"]
Code = int | float | tuple[int, int]
_Versions = dict[str, tuple[int, int]]

_CHOICES = {
    "directions": get_args(Kind),
    "codec": get_args(Codec),
    "norm": get_args(Norm),
    "restore": get_args(Restore),
}
_SHARED = ("eps", "generator_key", *_CHOICES)


class _Weight(NamedTuple):
    """A parameter that is trained, its group, its number among those that are, and what of it is here, and where."""

    name: str
    parameter: Tensor
    group: int
    number: int
    local: Tensor
    region: Region


class SPSAOptimizer(LayerwiseOptimizer):
    """Simultaneous perturbation: gradients from passes forward alone, each of which fits into a byte.

    A direction has an address: tensors that are trained are numbered by their sorted names, and without names by their
    places. Weights that somebody changes between two rounds are taken over.

    With FSDP2 a process changes its own elements, and the loss has to be the same number everywhere. Shard every
    module, the outermost too, with ``reshard_after_forward=True``: else the second pass sees the weights of the first.

    Args:
        params: named parameters, as of ``model.named_parameters()``, parameters, or groups of them with an ``lr`` and
            a ``weight_decay`` of their own. Those that require no gradient are left alone.
        lr: λ, at least 0.
        eps: ε, above 0; half the distance of the two points.
        directions: ``"rademacher"``, ``"popcount"`` or ``"gaussian"``.
        codec: of `encode`: ``"log8"``, a byte; ``"log9"``, the paper's nine bits; ``"float32"``.
        norm: the sum over the n gradients of a round is divided by √n (``"sqrt"``) or by n (``"mean"``).
        weight_decay: wd, at least 0; of tensors with two dimensions or more.
        generator_key: what directions are drawn by, the same on all machines of a run, in [0, 2**64).
        restore: how weights come back behind a probe. ``"master"``: from a copy in float32 at least, which the
            optimizer keeps, steps in and saves; parameters may then be in half precision. ``"snapshot"``: from a copy
            made for the probe. ``"inplace"``: by subtraction, without a copy, and with a rest.

    Raises:
        ValueError: if an option is out of range, differs between groups where it may not, or keeps no copy of
            parameters in half precision.
        TypeError: if a parameter is no real number.
        RuntimeError: if a parameter is a flat slice made by FSDP1.

    Example:
        >>> model = torch.nn.Linear(3, 1)
        >>> optimizer = SPSAOptimizer(model.named_parameters(), lr=1e-2, generator_key=2026)
        >>> x = torch.ones(4, 3)
        >>> loss = optimizer.step(lambda: model(x).square().mean())
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-6,
        eps: float = 1e-3,
        directions: Kind = "rademacher",
        codec: Codec = "log8",
        norm: Norm = "sqrt",
        weight_decay: float = 0.0,
        *,
        generator_key: int,
        restore: Restore = "master",
    ) -> None:
        self._seen: _Versions | None = None  # by the probes of this round, None without one
        defaults = {
            "lr": lr,
            "eps": eps,
            "directions": directions,
            "codec": codec,
            "norm": norm,
            "weight_decay": weight_decay,
            "generator_key": generator_key,
            "restore": restore,
        }
        super().__init__(params, defaults)

    @property
    def round(self) -> int:
        """How many rounds were applied, which is the number of the next one."""
        return int(self.param_groups[0]["round"])

    def probe(self, closure: Callable[[], Tensor | float], *, machine: int = 0, sample: int = 0) -> float:
        """Return the slope g of the loss along a direction, and leave the weights as they are.

        Args:
            closure: returns the loss, a scalar in float32 at least, of the same batch at each call; it is called
                twice, without gradients, and draws the same dropout masks both times. A model in training mode moves
                running statistics twice.
            machine: which of the run's machines this is, from 0.
            sample: which of its gradients in this round.

        Raises:
            NonFiniteLoss: if the loss is not finite on one of the sides.
            ValueError: if the loss is no scalar, a number is out of its range, or somebody changed the weights since
                another probe of this round.
        """
        return self._probe(closure, machine, sample)[0]

    def encode(self, gradient: float) -> Code:
        """Return a gradient as it travels: a byte, (sign, power) with log9, or a number; 0 for what is not finite."""
        codec = self._shared("codec")
        if codec == "log8":
            return log8_encode(float(gradient))
        if codec == "log9":
            return log9_encode(float(gradient))
        with np.errstate(over="ignore"):
            sent = float(np.float32(gradient))
        return sent if math.isfinite(sent) else 0.0

    def decode(self, code: Code) -> float:
        """Return the gradient that a code stands for.

        Raises:
            ValueError: if it is no code of the codec.
        """
        codec = self._shared("codec")
        try:
            if codec == "log8":
                return log8_decode(code)  # type: ignore[arg-type]
            if codec == "log9":
                return log9_decode(*code)  # type: ignore[misc]
            found = float(code)  # type: ignore[arg-type]
        except (TypeError, AttributeError):
            raise ValueError(f"codes must be those of {codec}, got {code!r}") from None
        if not abs(found) <= torch.finfo(torch.float32).max:
            raise ValueError(f"gradients must be finite in float32, got {found}")
        return found

    @torch.no_grad()
    def apply(self, gradients: Iterable[tuple[int, int, Code]], step: int | None = None) -> None:
        """Take the step of a round along all its directions.

        Args:
            gradients: (machine, sample, code) of every gradient of the round, this machine's own included, in any
                order.
            step: the number of the round, to find a gap; None is the next.

        Raises:
            ValueError: if ``step`` is not the next round, a machine has two gradients of one number, a code is none,
                a rate is not finite, or somebody changed the weights since a probe of this round; before anything is
                changed.
        """
        if step is not None and step != self.round:
            raise ValueError(f"step must be the next round, {self.round}, got {step}")
        sent = sorted((((machine, sample), code) for machine, sample, code in gradients), key=lambda each: each[0])
        for (place, _), (following, _) in itertools.pairwise(sent):
            if place == following:
                raise ValueError(f"gradients must be one for each machine and sample, got two for {place}")
        slopes = [self.decode(code) for _, code in sent]
        addresses = checked_keys([(self._shared("generator_key"), self.round, *place) for place, _ in sent])
        rates = [scalar_coefficients(slopes, float(group["lr"]), self._shared("norm")) for group in self.param_groups]
        for weight in self._ready():
            group = self.param_groups[weight.group]
            c = rates[weight.group]
            decays = np.zeros_like(c)
            decays[:1] = float(group["lr"]) * group["weight_decay"]
            master = self._master(weight)
            subtract_directions(
                weight.local if master is None else master,
                c,
                addresses,
                group["directions"],
                tensor=weight.number,
                region=weight.region,
                decays=decays if weight.parameter.ndim >= 2 else None,
            )
            if master is not None:
                weight.local.copy_(master)
        self._seen = None
        self._opt_called = True  # schedulers look whether steps were taken
        for group in self.param_groups:
            group["round"] += 1

    @torch.no_grad()
    def masters(self) -> dict[str, Tensor]:
        """Return the copies that steps are taken in, by name, for who takes steps in them in place of `apply`.

        They are those of the state, in float32 or float64, not copies of them; `adopt_masters` goes with every change.

        Raises:
            ValueError: if ``restore`` is not master.
        """
        return {weight.name: self._master_of(weight) for weight in self._ready()}

    @torch.no_grad()
    def adopt_masters(self, round: int) -> None:
        """Put the copies of `masters` into the model, as the weights before a round, which is the next one.

        Until the next step or call nobody else may change the model's weights; that is found by the next probe.

        Args:
            round: from 0.

        Raises:
            ValueError: if ``restore`` is not master.
        """
        weights = self._weights()
        for weight in weights:
            weight.local.copy_(self._master_of(weight))
        self._seen = _versions(weights)
        for group in self.param_groups:
            group["round"] = round

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a round of one gradient, coded as if it had travelled; return the mean loss of the two sides.

        Raises:
            NonFiniteLoss: if the loss is not finite on one of the sides.
            ValueError: without a closure, unless all rates are 0, where nothing is done; or as `probe`.
        """
        if closure is None and all(float(group["lr"]) == 0 for group in self.param_groups):
            self._ready()  # torch.distributed.checkpoint takes such a step to have a state that it loads into
            return None
        if closure is None:
            raise ValueError("closure must be given, since a step computes the loss twice, got None")
        g, mean = self._probe(closure, 0, 0)
        self.apply([(0, 0, self.encode(g))])
        return mean

    def _probe(self, closure: Callable[[], Any], machine: int, sample: int) -> tuple[float, Tensor]:
        """Return the slope and the mean loss; from here on the weights have to stay until the step."""
        plus, minus, versions = self._sides(closure, machine, sample)
        g = float(slope(plus, minus, self._shared("eps")))
        self._seen = versions
        return g, (plus + minus) / 2

    @torch.no_grad()
    def _sides(self, closure: Callable[[], Any], machine: int, sample: int) -> tuple[Tensor, Tensor, _Versions]:
        """Return the loss at θ + ε z and at θ − ε z and the weights' versions, and leave θ in the model."""
        eps, kind = self._shared("eps"), self._shared("directions")
        address = checked_keys([(self._shared("generator_key"), self.round, machine, sample)])
        weights = self._ready()
        starts = [self._start(weight) for weight in weights]
        at, sides = [0.0] * len(weights), []
        with same_draws({weight.parameter.device for weight in weights}) as again:
            try:
                for goal in (eps, -eps):
                    again()
                    for weight, start in zip(weights, starts, strict=True):
                        by = goal if start is not None else goal - at[weight.number]
                        _displace(weight, start, by, address, kind)
                        at[weight.number] = goal
                    torch.clear_autocast_cache()  # it knows weights by their place in memory
                    sides.append(_scalar(closure()))
            finally:
                for weight, start in zip(weights, starts, strict=True):
                    if start is not None:
                        weight.local.copy_(start)
                    elif at[weight.number]:
                        _displace(weight, None, -at[weight.number], address, kind)
                torch.clear_autocast_cache()
                if self._seen is not None:
                    self._seen = _versions(weights)
        return sides[0], sides[1], _versions(weights)

    def _ready(self) -> list[_Weight]:
        """Return the weights as the next passes find them, those taken over that somebody changed between rounds."""
        weights = self._weights()
        if self._seen is None:  # versions do not tell: who writes by way of ``.data`` is not counted
            for weight in weights:
                master = self._master(weight)
                if master is not None and master.dtype == weight.local.dtype:
                    master.copy_(weight.local)
                elif master is not None:
                    kept = (master.to(weight.local.dtype) == weight.local).all()
                    master.copy_(torch.where(kept, master, weight.local))
            return weights
        versions = _versions(weights)
        changed = sorted(versions.keys() ^ self._seen.keys())
        for weight in weights:
            if versions[weight.name] != self._seen.get(weight.name):
                master = self._master(weight)
                if master is None or not torch.equal(master.to(weight.local.dtype), weight.local):
                    changed.append(weight.name)
        if changed:
            raise ValueError(
                f"parameters must stay as they are between the probes of a round and its step, {changed[0]} was changed"
            )
        return weights

    def _weights(self) -> list[_Weight]:
        found = [
            (name, parameter, index)
            for index in range(len(self.param_groups))
            for name, parameter in self._named(index)
            if parameter.requires_grad
        ]
        if not found:
            raise ValueError("params must have one at least that requires a gradient, got none")
        if "param_names" in self.param_groups[0]:
            found.sort(key=lambda each: each[0])
        return [_Weight(*each, number, *local_part(each[1])) for number, each in enumerate(found)]

    def _master(self, weight: _Weight) -> Tensor | None:
        """Return what is here of the copy that steps are taken in, if there is one."""
        if self._shared("restore") != "master":
            return None
        state = self.state[weight.parameter]
        if "master" not in state:
            with torch.inference_mode(False):  # its tensors could not be stepped in outside of it
                state["master"] = weight.parameter.detach().to(state_dtype(weight.parameter), copy=True)
        return local_part(state["master"])[0]

    def _master_of(self, weight: _Weight) -> Tensor:
        master = self._master(weight)
        if master is None:
            raise ValueError(f"restore must be master where there are master copies, got {self._shared('restore')!r}")
        return master

    def _start(self, weight: _Weight) -> Tensor | None:
        """Return what a weight is put back from."""
        if self._shared("restore") == "inplace":
            return None
        master = self._master(weight)
        return weight.local.clone() if master is None else master

    def _shared(self, name: str) -> Any:
        return self.param_groups[0][name]

    def _check(self, group: dict[str, Any]) -> None:
        check_not_negative(group, "lr", "weight_decay")
        if not 0 < group["eps"] < math.inf:
            raise ValueError(f"eps must be positive and finite, got {group['eps']}")
        for name, accepted in _CHOICES.items():
            if group[name] not in accepted:
                raise ValueError(f"{name} must be one of {', '.join(accepted)}, got {group[name]!r}")
        key = group["generator_key"]
        if not isinstance(key, int) or isinstance(key, bool) or not 0 <= key < 1 << 64:
            raise ValueError(f"generator_key must be a whole number in [0, 2**64), got {key!r}")
        for name in _SHARED:
            if group[name] != self._shared(name):
                raise ValueError(f"{name} must be the same for all groups, {self._shared(name)!r}, got {group[name]!r}")

    def _begin(self, group: dict[str, Any]) -> None:
        names = [name for index in range(len(self.param_groups)) for name, _ in self._named(index)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"params must have names of their own, got {twice[0]} twice")
        for name, parameter in self._named(len(self.param_groups) - 1):
            half = parameter.requires_grad and state_dtype(parameter) != parameter.dtype
            if half and group["restore"] != "master":
                raise ValueError(
                    f"restore must be master for parameters in half precision, got {group['restore']!r} and "
                    f"{parameter.dtype} for {name}"
                )
        group["round"] = self.param_groups[0].get("round", 0)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._seen = None
        for each in self.state.values():
            if "master" in each:  # torch shares a state that it loads with whom it is from
                each["master"] = each["master"].clone()


def _displace(weight: _Weight, start: Tensor | None, by: float, address: npt.NDArray[np.uint64], kind: Kind) -> None:
    """Put start + by·z into the model; without a start, add by·z to what is there."""
    moved = weight.local
    if start is not None:
        if start.dtype == moved.dtype:
            moved.copy_(start)
        else:
            moved = start.clone()
    subtract_directions(moved, [-by], address, kind, tensor=weight.number, region=weight.region)
    if moved is not weight.local:
        weight.local.copy_(moved)


def _scalar(loss: Any) -> Tensor:
    if not isinstance(loss, Tensor | numbers.Real):
        raise ValueError(f"closure must return a scalar, got {loss!r}")
    value = torch.as_tensor(loss)
    if value.numel() != 1 or value.is_complex():
        raise ValueError(f"closure must return a scalar, got shape {tuple(value.shape)} of {value.dtype}")
    return torch.as_tensor(loss, dtype=torch.float64).detach().reshape(())


def _versions(weights: list[_Weight]) -> _Versions:
    return {weight.name: (weight.local.data_ptr(), weight.local._version) for weight in weights}

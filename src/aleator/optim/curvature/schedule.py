"""A learning rate and a momentum that are read off the curvature while training.

Every K steps, λ' and μ are estimated by Lanczos' algorithm from the Gauss-Newton matrix of a sample. With heavy-ball
momentum and a safety factor s,

    α = s · 4/(√λ' + √μ)²        ρ = ((√λ' − √μ)/(√λ' + √μ))²        μ = max(tr⁺ G/P, weight decay, 1e-4 λ')

The first probe sets lr = α and momentum = ρ; later ones lr ← min(√(lr α), 2 lr), and move the momentum by at most 0.05,
because SGD's buffer was summed with the old one. λ' is the largest eigenvalue of the sample, plus what smaller training
batches add where their noise was fitted. The rate of step t is

    lr · min(1, (t + 1)/(2K)) · factor(t).

The paper names an on-the-fly learner without giving its details; this one is a reconstruction from first principles.
Two additions are ours. ``hold="max"``: λ' is never below the largest so far, because sharpness falls once the data are
fitted, and a rate that follows it diverges. And a warm start: after the first probe Lanczos' algorithm begins with the
last eigenvector and a tenth of fresh noise, while μ comes from the noise alone.

D. Granziol, S. Zohren and S. Roberts, "Learning Rates as a Function of Batch Size: A Random Matrix Theory Approach to
Neural Network Training", JMLR 23, 2022, arXiv 2006.09092.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from aleator.gradients.modes import modes_kept
from aleator.optim.curvature.lanczos import lanczos, signs
from aleator.optim.curvature.operator import CurvatureError, CurvatureOperator, group_of
from aleator.optim.curvature.rates import heavy_ball
from aleator.optim.scaling import effective_batch
from aleator.random import Streams

Batches = Iterable[tuple[Any, Any]]

MAX_MOMENTUM = 0.99
MAX_MOMENTUM_CHANGE = 0.05
# Of noise in a warm start, in lengths of the last eigenvector: a new direction has to be found, too.
FRESH = 0.1


class CurvatureLRScheduler(LRScheduler):
    """Learning rate and momentum of SGD from probes of the curvature.

    Call ``step()`` after every optimizer step. The first probe is made at construction, and every ``every``-th call
    makes another. A probe looks at the model in evaluation mode and changes nothing of it: neither running statistics
    nor gradients nor torch's global generators. A probe that is not finite warns, halves the rate and keeps the rest;
    where no eigenvalue is positive, everything is kept.

    Groups keep the ratios of their learning rates; the largest is the learned one. In several processes the model is
    given in ``DistributedDataParallel``, each process probes its own share of a sample, and all have the same
    generator; the rates are then the same. A sharded model is refused.

    Args:
        optimizer: SGD, for which the rule is derived.
        model: that it trains; see `CurvatureOperator`.
        loss_fn: from outputs and targets to their mean loss, convex in the outputs.
        probe_loader: the sample, batches ``(inputs, targets)``, all of which are used; iterated anew for every probe.
            Or a function from a probe's number, from 0, to its batches. Four training batches, and no more than
            4 096 examples, not augmented, are a good size.
        every: K, in steps; an epoch, and at least 20 steps, is a good choice.
        steps: products with the curvature in a probe.
        safety: s.
        set_momentum: whether to set ``momentum``, too.
        hold: ``"max"``, or ``"none"`` for the rule without that memory.
        generator: from which one integer is drawn, here: the key of all probes.
        factor: a schedule of one's own, multiplied with the learned rate: from the number of steps taken to a number.
        slope: c/λ of `fit_broadening`, the noise of the training batch's curvature; 0 leaves it out.
        batch: examples of a training batch; needed with a slope.
        n: examples of the training data, for the same; None for a stream.
        group: as of `CurvatureOperator`.

    Raises:
        ValueError: if an argument is out of range, or the optimizer has no momentum to set.
        RuntimeError: if the model is not deterministic in evaluation mode.

    Example:
        >>> model = torch.nn.Linear(3, 2)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        >>> sample = [(torch.eye(3), torch.tensor([0, 1, 1]))]
        >>> loss = torch.nn.functional.cross_entropy
        >>> schedule = CurvatureLRScheduler(optimizer, model, loss, sample, every=20, generator=torch.Generator())
        >>> schedule.probes
        1
    """

    def __init__(
        self,
        optimizer: Optimizer,
        model: nn.Module,
        loss_fn: Callable[[Any, Any], Tensor],
        probe_loader: Batches | Callable[[int], Batches],
        every: int,
        steps: int = 10,
        safety: float = 0.1,
        set_momentum: bool = True,
        hold: Literal["max", "none"] = "max",
        *,
        generator: torch.Generator,
        factor: Callable[[int], float] | None = None,
        slope: float = 0.0,
        batch: int | None = None,
        n: int | None = None,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be a torch optimizer, got {type(optimizer).__name__}")
        for name, value in (("every", every), ("steps", steps)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 < safety < math.inf:
            raise ValueError(f"safety must be positive and finite, got {safety}")
        if hold not in ("max", "none"):
            raise ValueError(f"hold must be 'max' or 'none', got {hold!r}")
        if not 0 <= slope < math.inf:
            raise ValueError(f"slope must be finite and not negative, got {slope}")
        if slope and batch is None:
            raise ValueError("batch must be given with a slope, got None")
        if isinstance(probe_loader, Iterator):
            raise ValueError(
                f"probe_loader must give its batches again for every probe, got a {type(probe_loader).__name__}, which "
                "gives them once"
            )
        if set_momentum and any("momentum" not in own for own in optimizer.param_groups):
            raise ValueError(f"set_momentum must be False with {type(optimizer).__name__}, which has none, got True")
        self.optimizer = optimizer
        self.model, self.loss_fn, self.probe_loader = model, loss_fn, probe_loader
        self.every, self.steps, self.safety, self.set_momentum, self.hold = every, steps, safety, set_momentum, hold
        self.factor, self.slope, self.batch, self.n = factor, slope, batch, n
        for own in optimizer.param_groups:
            own.setdefault("initial_lr", _copied(own["lr"]))
        self._group = group_of(model, group)
        self.base_lrs = [own["initial_lr"] for own in optimizer.param_groups]

        # What is remembered from step to step.
        self.last_epoch = 0
        self.probes = 0
        self.lr: float = max(map(float, self.base_lrs))
        self.momentum: float | None = None
        self.lmbda: float | None = None
        self.mu: float | None = None
        self._key = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        self._vector: Tensor | None = None

        self.probe()
        self._set()

    @property
    def due(self) -> bool:
        """Whether the next ``step()`` probes."""
        return (self.last_epoch + 1) % self.every == 0

    def step(self, epoch: int | None = None) -> None:
        """Count an optimizer step, probe if it is time, and set the rates of the next one."""
        self.last_epoch += 1
        if self.last_epoch % self.every == 0:
            self.probe()
        self._set()

    def probe(self) -> None:
        """Measure the curvature and learn from it; rates are set by the next ``step()``."""
        number, self.probes = self.probes, self.probes + 1
        try:
            top, mu, examples = self._measured(number)
        except CurvatureError as error:
            self.lr /= 2
            warnings.warn(f"{error}; the learning rate is halved to {self.lr:.3g}", stacklevel=3)
            return
        if top > 0:
            self._learn(top, mu, examples)

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rate of every group at the present step."""
        t = self.last_epoch
        rate = self.lr * min(1.0, (t + 1) / (2 * self.every)) * (1.0 if self.factor is None else self.factor(t))
        largest = max(float(group["initial_lr"]) for group in self.optimizer.param_groups)
        ratios = [float(g["initial_lr"]) / largest if largest else 1.0 for g in self.optimizer.param_groups]
        return [rate * ratio for ratio in ratios]

    def get_last_lr(self) -> list[float | Tensor]:
        """Return the learning rate of every group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return what is remembered: numbers, and the last eigenvector."""
        vector = None if self._vector is None else self._vector.clone()
        return {name: getattr(self, name) for name in _NUMBERS} | {"key": self._key, "vector": vector}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        for name in _NUMBERS:
            setattr(self, name, state_dict[name])
        self._key = state_dict["key"]
        vector = state_dict["vector"]
        self._vector = None if vector is None else vector.clone()
        self._set()

    # --- a probe

    def _measured(self, number: int) -> tuple[float, float, int]:
        """Return the largest eigenvalue, the mean of the positive ones, and how many examples were looked at."""
        generator = Streams(self._key).generator("probe", number)
        with modes_kept(self.model):
            self.model.eval()
            with torch.random.fork_rng(_cuda_of(self.model)):
                loader = self.probe_loader(number) if callable(self.probe_loader) else self.probe_loader
                data = [(inputs, targets) for inputs, targets in loader]
            curvature = CurvatureOperator(self.model, self.loss_fn, data, "ggn", group=self._group)
            fresh = signs(curvature.shape[0], curvature.dtype, curvature.device, generator)
            fresh /= torch.linalg.vector_norm(fresh)
            if self._vector is None or self.steps == 1:
                t = lanczos(curvature, self.steps, fresh)
                values, vectors = t.ritz()
                mu = float((vectors[0].square() * values.clamp(min=0)).sum())
            else:
                last = self._vector.to(fresh)
                away = fresh - torch.dot(last, fresh) * last
                # Of one parameter there is no other direction.
                tiny = torch.finfo(away.dtype).tiny
                t = lanczos(curvature, self.steps - 1, last + FRESH * away / torch.linalg.vector_norm(away).clamp(tiny))
                values, vectors = t.ritz()
                mu = float(torch.dot(fresh, curvature @ fresh))
        if not math.isfinite(mu):
            raise CurvatureError("a product with the curvature is not finite")
        assert t.Q is not None
        vector = t.Q @ vectors[:, -1].to(t.Q)
        self._vector = vector / torch.linalg.vector_norm(vector)
        top, mu = self._agreed(float(values[-1]), max(mu, 0.0))
        return top, mu, curvature.examples

    def _agreed(self, *numbers: float) -> list[float]:
        """Return the first process's numbers."""
        if self._group is None:
            return list(numbers)
        said = torch.tensor(numbers, dtype=torch.float64, device=next(self.model.parameters()).device)
        dist.broadcast(said, dist.get_global_rank(self._group, 0), group=self._group)
        return said.tolist()

    def _learn(self, top: float, mu: float, examples: int) -> None:
        lmbda = top
        if self.slope:
            assert self.batch is not None
            of_batch, of_sample = effective_batch(self.batch, self.n), effective_batch(examples, self.n, "the probe")
            lmbda = max(top + self.slope * (1 / of_batch - 1 / of_sample), top / 2)
        if self.hold == "max" and self.lmbda is not None:
            lmbda = max(lmbda, self.lmbda)
        decay = max(float(group.get("weight_decay", 0.0)) for group in self.optimizer.param_groups)
        mu = min(max(mu, decay, 1e-4 * lmbda), lmbda)
        best, rho = heavy_ball(lmbda, mu)
        lr, rho = self.safety * best, min(rho, MAX_MOMENTUM)
        if self.lmbda is None:
            self.lr, self.momentum = lr, rho
        else:
            assert self.momentum is not None
            self.lr = min(math.sqrt(self.lr * lr), 2 * self.lr)
            change = rho - self.momentum
            self.momentum += min(max(change, -MAX_MOMENTUM_CHANGE), MAX_MOMENTUM_CHANGE)
        self.lmbda, self.mu = lmbda, mu

    def _set(self) -> None:
        for group in self.optimizer.param_groups:
            group.setdefault("initial_lr", _copied(group["lr"]))  # added after construction
        for group, lr in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr
            if self.set_momentum and self.momentum is not None:
                group["momentum"] = self.momentum


_NUMBERS = ("last_epoch", "probes", "lr", "momentum", "lmbda", "mu")


def _cuda_of(model: nn.Module) -> list[torch.device]:
    """Return the GPUs of a model: of others no generator is looked at, which would need memory on each."""
    return list({parameter.device for parameter in model.parameters() if parameter.is_cuda})


def _copied(lr: Any) -> Any:
    return lr.clone() if isinstance(lr, Tensor) else lr

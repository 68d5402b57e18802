"""A condition that is there with probability p only, so that a model cannot come to rely on it.

A model that is given a detailed copy of what it shall make learns to copy, with all that should not be copied. Given
the copy at random,

    c̃_b = keep_b c_b + (1 − keep_b) null,    keep_b ~ Bernoulli(p),

it learns to do without, and takes from the copy what it cannot have elsewhere. Training has stages, each with a p of
its own: EchoVideo has p = 0 first, and lets the shallow features of a photograph in at random afterwards.

keep_b is a function of (key, step, rank, sample) and of nothing else, so that a resumed run, a second pass of gradient
checkpointing and a batch that was cut into pieces have the masks that they would have had anyway.

J. Wei et al., "EchoVideo: Identity-Preserving Human Video Generation by Multimodal Feature Fusion", arXiv 2501.13452;
its code has no training, so the mechanism is a reconstruction, and p = 0.5 our choice.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor, nn

from aleator.random import random_bits

Condition = Tensor | Mapping[str, Tensor]


@dataclass(frozen=True)
class Stage:
    """Some steps of training with one probability, or with a schedule of it.

    Attributes:
        steps: its length, at least 1. The last stage goes on for as long as training does.
        p: probability in [0, 1] that a sample has its condition, or a function of the share of the stage that is done,
            in [0, 1], that returns it.

    Raises:
        ValueError: if a value is out of its range.
    """

    steps: int
    p: float | Callable[[float], float] = 0.5

    def __post_init__(self) -> None:
        steps: Any = self.steps
        if not isinstance(steps, int) or steps < 1:
            raise ValueError(f"steps of a stage must be a whole number of at least 1, got {steps!r}")
        if not callable(self.p):
            _check_probability(self.p)


class Conditioned(NamedTuple):
    """A condition as the model gets it.

    Attributes:
        condition: of the same form as the given one.
        keep: which samples have theirs.
    """

    condition: Any
    keep: Bool[Tensor, " batch"]


class StochasticConditioning(nn.Module):
    """Lets a condition through for each sample with the probability of the stage, and puts a null in its place else.

        conditioning = StochasticConditioning([Stage(1000, p=0.0), Stage(1000, p=0.5)], generator=generator)
        latents, keep = conditioning(latents, step)

    In evaluation mode everything passes, as with dropout. What is not kept has no gradient, and is not looked at:
    numbers that are not finite do no harm there. `keep` tells the mask ahead, so that a dropped condition need not be
    computed. ``state_dict`` holds the key and the counts behind `realised_rate`.

    Args:
        stages: one after the other.
        null: what stands in the place of a condition: ``"zeros"``, or a tensor that broadcasts against a sample, or of
            a condition by names a tensor of each; a parameter is learnt.
        per_sample: whether each sample is drawn; otherwise one draw holds for the whole batch.
        generator: one integer is drawn from it, here and never again; None stands for 0, so that two modules without a
            generator drop the same samples.
        rank: of this process, so that processes with one generator do not drop together. Leave it at 0 where
            ``samples`` number the batch of all processes.

    Raises:
        ValueError: if there is no stage, the null is unknown, or the rank negative.

    Example:
        >>> conditioning = StochasticConditioning([Stage(10, p=0.0), Stage(10, p=1.0)])
        >>> [float(conditioning(torch.ones(1, 2), step).condition.sum()) for step in (9, 10)]
        [0.0, 2.0]
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        *,
        null: Literal["zeros"] | Tensor | Mapping[str, Tensor] = "zeros",
        per_sample: bool = True,
        generator: torch.Generator | None = None,
        rank: int = 0,
    ) -> None:
        super().__init__()
        if not stages:
            raise ValueError("stages must have at least one stage, got none")
        if isinstance(null, str) and null != "zeros":
            raise ValueError(f"null must be 'zeros', a tensor or a dict of tensors, got {null!r}")
        if rank < 0:
            raise ValueError(f"rank must not be negative, got {rank}")
        self.stages, self.per_sample, self.rank = tuple(stages), per_sample, rank
        # Buffers, so that they go to a device with the module and not at every step.
        self._nulls: dict[str, str] | None = None
        if not isinstance(null, str):
            given = {"": null} if isinstance(null, Tensor) else null
            self._nulls = {name: f"null_{number}" for number, name in enumerate(given)}
            for name, buffer in self._nulls.items():
                if isinstance(given[name], nn.Parameter):
                    setattr(self, buffer, given[name])
                else:
                    self.register_buffer(buffer, given[name], persistent=False)
        self._key = 0
        if generator is not None:
            self._key = int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))
        self._kept: Tensor | int = 0
        self._seen = 0
        self._counted: tuple[int, set[object]] = (-1, set())

    def extra_repr(self) -> str:
        """Name the stages."""
        return f"stages={list(self.stages)}, per_sample={self.per_sample}, rank={self.rank}"

    def probability(self, step: int) -> float:
        """Return p at a step, counted from 0.

        Raises:
            ValueError: if the step is negative or no integer, or a schedule returns no probability.
        """
        step = _whole(step)
        begin, stage = 0, self.stages[0]
        for following in self.stages[1:]:
            if step < begin + stage.steps:
                break
            begin, stage = begin + stage.steps, following
        p = stage.p(min(1.0, (step - begin) / stage.steps)) if callable(stage.p) else stage.p
        return _check_probability(p)

    def keep(
        self,
        step: int,
        batch: int,
        *,
        samples: Int64[Tensor, " batch"] | None = None,
        device: torch.device | str = "cpu",
    ) -> Bool[Tensor, " batch"]:
        """Return which samples of a step's batch have their condition.

        Args:
            step: of training, counted from 0.
            batch: number of samples.
            samples: their numbers within the step, for a batch that is cut into pieces or shared out to processes: what
                has other numbers is drawn apart. Default: 0 to batch − 1.
            device: of the mask; no device is waited for.

        Raises:
            ValueError: if a value is out of its range, or there are not as many numbers as samples.
        """
        p = self.probability(step)
        if samples is not None and samples.shape != (batch,):
            raise ValueError(f"samples must be {batch} numbers, one for each sample, got {list(samples.shape)}")
        if not self.per_sample:
            numbers = torch.zeros(batch, dtype=torch.int64, device=device)
        else:
            numbers = torch.arange(batch, device=device) if samples is None else samples.to(device)
        if not batch:
            return numbers.bool()
        bits = random_bits((self._key, _whole(step), self.rank, 0), 0, numbers)
        return bits < round(p * 2**32)

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # counts change, so it would be compiled at every step
    def forward(
        self, condition: Condition, step: int, *, samples: Int64[Tensor, " batch"] | None = None
    ) -> Conditioned:
        """Return the condition of each sample that is kept, the null of each other, and the mask.

        Args:
            condition: a tensor, or tensors by name, whose first dimension is the batch.
            step: of training, counted from 0.
            samples: see `keep`.

        Raises:
            ValueError: if there is no tensor, batches differ, or the null has other names or does not broadcast.
        """
        parts = condition if isinstance(condition, Mapping) else {"": condition}
        batches = {len(part) if part.dim() else -1 for part in parts.values()}
        if len(batches) != 1 or -1 in batches:
            shapes = {name: list(part.shape) for name, part in parts.items()}
            raise ValueError(f"condition must have one number of samples in its first dimension, got {shapes}")
        (batch,) = batches
        device = next(iter(parts.values())).device
        if not self.training:
            return Conditioned(condition, torch.ones(batch, dtype=torch.bool, device=device))
        mask = self.keep(step, batch, samples=samples, device=device)
        self._count(step, mask, samples)
        chosen = {
            name: torch.where(mask.view(-1, *(1,) * (part.dim() - 1)), part, self._null_of(name, part))
            for name, part in parts.items()
        }
        return Conditioned(chosen if isinstance(condition, Mapping) else chosen[""], mask)

    @property
    def realised_rate(self) -> Tensor:
        """Share of the samples so far that were kept, a 0-d tensor; not a number before the first.

        A sample that is seen twice in one step counts once. Pieces are told apart by ``samples`` on a CPU only; of
        those whose numbers are on a device the first of a step counts.
        """
        kept = torch.as_tensor(self._kept, dtype=torch.float64)
        return kept / self._seen

    def get_extra_state(self) -> Tensor:
        """Return the key and the counts, which torch puts into ``state_dict``."""
        return torch.tensor([self._key, int(self._kept), self._seen])

    def set_extra_state(self, state: Tensor) -> None:
        """Go on with the key and the counts of another one."""
        self._key, self._kept, self._seen = (int(number) for number in state)
        self._counted = (-1, set())

    def _count(self, step: int, mask: Tensor, samples: Tensor | None) -> None:
        """Count a batch, unless this is a second pass over it, as gradient checkpointing makes."""
        counted_step, counted = self._counted
        if step != counted_step:
            counted = set()
        # A sample's first number tells pieces apart. On a device it is not read, which would be a wait.
        piece = None if samples is None or not len(samples) or samples.device.type != "cpu" else int(samples[0])
        if piece not in counted:
            self._kept = self._kept + mask.sum().detach()
            self._seen += len(mask)
        self._counted = (step, counted | {piece})

    def _null_of(self, name: str, part: Tensor) -> Tensor:
        if self._nulls is None:
            return part.new_zeros(())
        if name not in self._nulls:
            given = "a tensor" if list(self._nulls) == [""] else list(self._nulls)
            raise ValueError(f"null must be of the condition's form, with {name or 'one tensor'!r}, got {given}")
        null: Tensor = getattr(self, self._nulls[name])
        try:
            return null.to(part).expand(part.shape[1:])
        except RuntimeError:
            raise ValueError(
                f"null must broadcast to {list(part.shape[1:])}, a sample of the condition, got {list(null.shape)}"
            ) from None


def _check_probability(p: Any) -> float:
    if not (isinstance(p, int | float | np.floating) and 0 <= p <= 1):
        raise ValueError(f"p must be in [0, 1], got {p!r}")
    return float(p)


def _whole(step: int) -> int:
    number = operator.index(step)
    if number < 0:
        raise ValueError(f"step must not be negative, got {step}")
    return number

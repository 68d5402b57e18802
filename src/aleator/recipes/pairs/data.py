"""The problems of the recipe ``pairs``: inputs, two responses to each, and what is known of the truth.

Training items come from the seed of the run; those for validation and test are the same for every seed. The items for
calibration, from which the factor of the intervals is found, are of the seed, and neither trained nor chosen with.

Shifted inputs have the truth of the problem and another distribution: the line beyond its end; all digits of pi asked
for equally often; images with noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor

from aleator.data import PairSampler, RepeatedRandomSampler, load
from aleator.random import Streams
from aleator.recipes.pairs import digits_of_pi
from aleator.recipes.pairs.options import Pairs

Batch = tuple[Tensor, Tensor, Tensor]
PartName = Literal["validation", "calibration", "test", "shifted"]

HALF_LINE_HELD_OUT: dict[PartName, int] = {"validation": 2000, "calibration": 2000, "test": 4000, "shifted": 2000}
PI_HELD_OUT: dict[PartName, int] = {"validation": 2000, "calibration": 2000, "test": 4000}
CIFAR_HELD_OUT = (1000, 1000, 2000)  # of the last, 10,000 − 6,000 − 2,000: validation and calibration share 2,000
NOISE = 0.5  # deviation of the noise in shifted images, in units of the pixels' deviation


@dataclass(frozen=True, eq=False)
class Part:
    """Items that are held out.

    Attributes:
        inputs: of every item.
        y1: its first response.
        y2: its second.
        p_true: the true distribution of its responses, where that is known.
        counts: how often each label was given, where that is known instead.
    """

    inputs: Tensor
    y1: Tensor
    y2: Tensor
    p_true: Float[Tensor, "items K"] | None = None
    counts: Tensor | None = None

    @property
    def frequencies(self) -> Float[Tensor, "items K"]:
        """The true distribution, or the shares of the labels."""
        if self.p_true is not None:
            return self.p_true
        assert self.counts is not None
        return self.counts.double() / self.counts.sum(-1, keepdim=True)


class Problem:
    """What is asked.

    Attributes:
        num_labels: K.
        held_out: by name.
    """

    num_labels: int
    held_out: dict[PartName, Part]

    def batches(self, step: int) -> Iterator[Batch]:
        """Yield this process's share of the batches from a step on: inputs, first and second responses."""
        raise NotImplementedError

    def network_input(self, inputs: Tensor, dtype: torch.dtype) -> Tensor:
        """Return what the network gets of some inputs."""
        return inputs.to(dtype)


class ItemProblem(Problem):
    """A fixed set of items, each with several responses, gone through in rounds; pairs are drawn anew in every one."""

    def __init__(
        self, inputs: Tensor, responses: PairSampler, batch_size: int, streams: Streams, accelerator: Accelerator
    ) -> None:
        if batch_size > len(inputs):
            raise ValueError(f"batch_size must be at most the {len(inputs)} training items, got {batch_size}")
        self.inputs, self.responses, self.batch_size = inputs, responses, batch_size
        self.device = accelerator.device
        self.sampler = RepeatedRandomSampler(
            len(inputs),
            ratio=1.0,
            seed=streams.key("rounds"),
            num_replicas=accelerator.num_processes,
            rank=accelerator.process_index,
        )

    def batches(self, step: int) -> Iterator[Batch]:
        """Yield batches; the short last one of a round is left out."""
        per_round = len(self.inputs) // self.batch_size
        round, skipped = divmod(step, per_round)
        while True:
            self.sampler.set_epoch(round)
            for index, rows in enumerate(self.sampler.batches(self.batch_size)):
                if index >= skipped:
                    y1, y2 = self.pairs(round, rows)
                    yield tuple(t.to(self.device) for t in (self.inputs[rows], y1, y2))  # type: ignore[misc]
            round, skipped = round + 1, 0

    def pairs(self, round: int, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return two responses of each of some items."""
        return self.responses.pairs(round, rows)


class HalfLine(ItemProblem):
    """p(1 | x) is smooth for x < 0, and for x > 0 jumps faster than any network can see."""

    num_labels = 2

    def __init__(self, options: Pairs, streams: Streams, accelerator: Accelerator) -> None:
        settings = options.chosen
        assert settings.train_size is not None
        train = self._part(settings.train_size, streams.generator("items"))
        responses = PairSampler(list(torch.stack([train.y1, train.y2], 1)), num_labels=2, seed=streams.key("responses"))
        self.alone = train.y1 if options.responses == 1 else None
        super().__init__(train.inputs, responses, settings.batch_size, streams, accelerator)
        self.held_out = {
            name: self._part(
                size,
                streams.generator("calibration") if name == "calibration" else Streams(0).generator("pairs", name),
                *((1.0, 1.5) if name == "shifted" else ()),
            )
            for name, size in HALF_LINE_HELD_OUT.items()
        }

    def network_input(self, inputs: Tensor, dtype: torch.dtype) -> Tensor:
        """Return x and four slow waves of it."""
        x = inputs.unsqueeze(-1)
        return torch.cat([x, *(wave(a * x) for a in (3, 6) for wave in (torch.sin, torch.cos))], -1).to(dtype)

    def pairs(self, round: int, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return two responses of each of some items, or one response twice where only one is wanted."""
        return super().pairs(round, rows) if self.alone is None else (self.alone[rows], self.alone[rows])

    @staticmethod
    def _part(count: int, generator: torch.Generator, low: float = -1.0, high: float = 1.0) -> Part:
        x = low + (high - low) * torch.rand(count, generator=generator, dtype=torch.float64)
        p1 = torch.where(x < 0, 0.5 + 0.4 * torch.sin(6 * x), 0.5 + 0.4 * torch.sign(torch.sin(400 * x)))
        y1, y2 = (torch.rand(count, generator=generator, dtype=torch.float64) < p1 for _ in range(2))
        return Part(x, y1.long(), y2.long(), torch.stack([1 - p1, p1], -1))


class DigitsOfPi(Problem):
    """Statements about digit n of pi as 54 classes; n is seen as three decimal digits. Every pair is new."""

    def __init__(self, options: Pairs, streams: Streams, accelerator: Accelerator) -> None:
        self.probabilities, self.asked = digits_of_pi.probabilities(), digits_of_pi.frequencies()
        self.num_labels = self.probabilities.shape[1]
        self.batch_size, self.key, self.accelerator = options.chosen.batch_size, streams.key("questions"), accelerator
        self.held_out = {
            name: self.part(torch.multinomial(self.asked, size, replacement=True, generator=generator), generator)
            for name, size in PI_HELD_OUT.items()
            for generator in [streams.generator(name) if name == "calibration" else Streams(0).generator("pairs", name)]
        }
        everything = torch.arange(digits_of_pi.COUNT)
        self.held_out["shifted"] = self.part(everything, Streams(0).generator("pairs", "shifted"))

    def batches(self, step: int) -> Iterator[Batch]:
        """Yield batches; each is a function of its step."""
        own = slice(self.accelerator.process_index, None, self.accelerator.num_processes)
        while True:
            generator = Streams(self.key).generator("questions", step)
            n = torch.multinomial(self.asked, self.batch_size, replacement=True, generator=generator)
            part = self.part(n, generator)
            yield tuple(t[own].to(self.accelerator.device) for t in (part.inputs, part.y1, part.y2))  # type: ignore[misc]
            step += 1

    def part(self, n: Tensor, generator: torch.Generator) -> Part:
        """Return questions, numbered from 0, with two answers to each."""
        p = self.probabilities[n]
        y1, y2 = torch.multinomial(p, 2, replacement=True, generator=generator).unbind(1)
        return Part(n, y1, y2, p)

    def network_input(self, inputs: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the three decimal digits of n, each one of ten."""
        decimals = torch.stack([inputs // 100, inputs // 10 % 10, inputs % 10], -1)
        return torch.nn.functional.one_hot(decimals, 10).flatten(-2).to(dtype)


class Cifar10H(ItemProblem):
    """What about 51 people each saw in the test images of CIFAR-10; the parts are the same for every seed."""

    def __init__(self, options: Pairs, streams: Streams, accelerator: Accelerator) -> None:
        self.images = load("cifar10h")
        settings = options.chosen
        assert settings.train_size is not None
        available = len(self.images.inputs) - sum(CIFAR_HELD_OUT)
        if settings.train_size > available:
            raise ValueError(f"train_size must be at most {available} for cifar10h, got {settings.train_size}")
        everyone = PairSampler(self.images.counts, seed=streams.key("responses"))
        self.num_labels = everyone.num_labels
        *parts, train = everyone.split(*CIFAR_HELD_OUT, settings.train_size)
        names: tuple[PartName, ...] = ("validation", "calibration", "test")
        super().__init__(self.images.inputs[train.items], train, settings.batch_size, streams, accelerator)
        self.held_out = {name: self._part(part) for name, part in zip(names, parts, strict=True)}
        test = self.held_out["test"]
        noise = torch.empty(test.inputs.shape).normal_(generator=Streams(0).generator("pairs", "noise"))
        noisy = self.network_input(test.inputs, torch.float32) + NOISE * noise
        self.held_out["shifted"] = Part(noisy, test.y1, test.y2, counts=test.counts)

    def network_input(self, inputs: Tensor, dtype: torch.dtype) -> Tensor:
        """Return bytes as standardised numbers, and numbers as they are."""
        return inputs.to(dtype) if inputs.is_floating_point() else self.images.normalise(inputs, dtype)

    def _part(self, sampler: PairSampler) -> Part:
        # Epoch 0 of a fixed key: the pairs of the evaluation are the same in every run.
        fixed = PairSampler(self.images.counts).take(sampler.items)
        y1, y2 = fixed.pairs(0)
        return Part(self.images.inputs[sampler.items], y1, y2, counts=fixed.counts())


def problem(options: Pairs, streams: Streams, accelerator: Accelerator) -> Problem:
    """Return the problem that the options name.

    Raises:
        ValueError: if there are fewer items than the options ask for.
    """
    known = {"half-line": HalfLine, "digits-of-pi": DigitsOfPi, "cifar10h": Cifar10H}
    return known[options.data](options, streams, accelerator)

"""The examples that a run is trained on: all, one random subset, or a new one in every round (RS2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from aleator.recipes.parts.checks import refuse_unless
from aleator.recipes.parts.part import Act, Order, Part

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from aleator.data import RepeatedRandomSampler
    from aleator.recipes.parts.batch import Examples
    from aleator.recipes.parts.run import Run


@dataclass(frozen=True)
class Subset(Part):
    """Repeated random sampling, and the static subset that it is compared with."""

    card: ClassVar[str] = "rs2"

    subset: Literal["full", "static", "rs2", "rs2-with-replacement"] = "full"
    """All examples, one random subset, or a new one in every round, without or with replacement between rounds."""
    ratio: float | None = None
    """Size of the subset as a fraction of the training data, in (0, 1]."""
    stratified: bool = False
    """Draw subsets with the classes in proportion."""
    schedule_length: Literal["own", "full", "compressed"] = "own"
    """Over how many steps the schedule stretches: this run's own; the steps of a run on the full data for as many
    rounds; or the steps of the subset's run, to which a run on the full data is then cut too."""

    def check(self) -> None:
        """Check what can be checked without data."""
        if self.ratio is not None and not 0 < self.ratio <= 1:
            raise ValueError(f"ratio must be in (0, 1], got {self.ratio}")
        subset, compressed = self.subset != "full", self.schedule_length == "compressed"
        refuse_unless(subset, "subset full", self, "stratified")
        refuse_unless(subset or compressed, "subset full, unless schedule_length is compressed", self, "ratio")
        if self.schedule_length == "full" and getattr(self, "steps", None) is not None:
            raise ValueError("schedule_length must be own or compressed with steps, got full")
        if self.schedule_length == "full" and not subset:
            raise ValueError("schedule_length must be own or compressed with subset full, got full")
        if (subset or compressed) and self.ratio is None:
            chosen = f"subset {self.subset}" if subset else "schedule_length compressed"
            raise ValueError(f"ratio must be given with {chosen}, got None")

    def arms(self) -> Sequence[Mapping[str, Any]]:
        """Return the paper's shares of the data, its headline's first."""
        return [{"subset": "rs2", "ratio": ratio} for ratio in (0.1, 0.3)]

    def act(self, run: Run) -> Act | None:
        """Return the sampler's act."""
        return None if self.subset == "full" and self.schedule_length == "own" else _SubsetAct(self, run)


class _SubsetAct(Act):
    """Keeps a subset, or orders the examples by rounds of subsets."""

    def __init__(self, options: Subset, run: Run) -> None:
        self._options, self._run = options, run
        self._available = 0
        self._kept = 0

    def kept(self, train: Examples) -> Tensor | None:
        self._available = len(train)
        if self._options.subset != "static":
            return None
        assert self._options.ratio is not None
        drawn = self._sampler(train, self._options.ratio, self._run.generator("subset")).round_indices(0)
        self._kept = len(drawn)
        return drawn

    def ordered(self, train: Examples) -> Order | None:
        from aleator.recipes.parts.gradient_task import check_shares, endless

        options, run = self._options, self._run
        check_shares(run.options.batch_size, run.accelerator)
        if options.subset == "static":
            sampler = self._sampler(None, 1.0, run.generator("data"), self._kept, shared=True)
        else:
            ratio = 1.0 if options.subset == "full" else options.ratio
            assert ratio is not None
            sampler = self._sampler(train, ratio, run.generator("data"), shared=True)

        def steps(ratio: float) -> int:
            total: int = run.options.total_steps(self._available, ratio)
            return total

        assert options.ratio is not None
        own = steps(options.ratio)
        return Order(sampler, endless(sampler), own, steps(1.0) if options.schedule_length == "full" else own)

    def _sampler(
        self,
        train: Examples | None,
        ratio: float,
        generator: torch.Generator,
        n: int | None = None,
        shared: bool = False,
    ) -> RepeatedRandomSampler:
        from aleator.data import RepeatedRandomSampler

        options = self._options
        return RepeatedRandomSampler(
            len(train) if train is not None else n,
            labels=_labels(train) if train is not None and options.stratified else None,
            ratio=ratio,
            replacement_between_rounds=options.subset == "rs2-with-replacement",
            stratified=options.stratified and train is not None,
            generator=generator,
            num_replicas=self._run.processes if shared else 1,
            rank=self._run.rank if shared else 0,
        )


def _labels(train: Examples) -> Tensor:
    """Return the class of every example.

    Raises:
        ValueError: if they are not known.
    """
    import torch

    labels = train.targets if train.dataset is None else getattr(train.dataset, "targets", None)
    if labels is None or torch.as_tensor(labels).is_floating_point() or torch.as_tensor(labels).ndim != 1:
        raise ValueError(
            "stratified needs one class for each example: integer targets in memory, or a data set's attribute targets"
        )
    return torch.as_tensor(labels).cpu()

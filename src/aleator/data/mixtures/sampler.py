"""Batches from a mixture of domains: which examples, without going through the ones before.

A domain's examples are read in an order of its own, one shuffled epoch after the other: the d-th example drawn from
domain i is

    π_{i, d div n_i}(d mod n_i)        π_{i,e}: the permutation of domain i and epoch e, a function of the key

so that every example of a domain is used once before one of them returns. How many are drawn in which step is decided
by the mixture (`aleator.data.mixtures.allocation`). Nothing has to be saved but the step and, for each domain, the
number of examples drawn.
"""

from __future__ import annotations

import functools
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping, Sized
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils.data import Sampler

from aleator.data.mixtures.allocation import LARGEST_BATCH
from aleator.data.mixtures.mixture import DomainMixture
from aleator.data.permutation import FeistelPermutation, shuffled
from aleator.data.repeated_random import LARGEST_SHUFFLE
from aleator.random import derive_key

_SLOTS = 2**16  # slots of batches that are planned together
_CELLS = 2**20  # counts, steps × domains, that are planned together
_READ_AHEAD = 256  # examples of a domain looked up at a time, if fewer are asked for

_Indices = npt.NDArray[np.int64]


class MixtureSampler(Sampler[list[int]]):
    """A batch sampler over the concatenation of several data sets, in the proportions of a `DomainMixture`.

    It goes where a batch sampler goes, or, for data in memory, `batches` goes into an `InMemoryLoader`:

        loader = DataLoader(ConcatDataset(parts.values()), batch_sampler=MixtureSampler(parts, mixture, 256))

    A batch is a step of the mixture. A pass runs from the present step to the mixture's last one; a pass that was
    broken off is continued by the next one. Within a batch, quotas are in the order of the domains.

    Several processes: every rank gets ``num_replicas`` and its ``rank`` (the sampler does not look at
    ``torch.distributed``) and takes every ``num_replicas``-th index of the same global batch, which leaves the domains
    divided evenly as well. Where a loader splits batches by itself, as Accelerate's ``prepare`` does, leave
    ``num_replicas`` at 1.

    Resuming: `state_dict` holds the step. A loader with worker processes asks for batches ahead of the training loop,
    so there the loop has to say how far it is: ``sampler.state_dict(step=steps_done)``.

    Args:
        datasets: for each domain of the mixture, in its order, its data set or the number of its examples.
        mixture: the proportions.
        batch_size: B, examples of a global batch; a multiple of ``num_replicas``.
        seed: any non-negative integer, 0 by default. A domain's order depends on the seed, its name and its length.
        generator: instead of a seed; one integer is drawn from it, here and never again.
        num_replicas: number of processes that share each batch.
        rank: this process, in [0, num_replicas).

    Raises:
        ValueError: if a value is out of range, the domains are not the mixture's, or one that is drawn is empty.

    Warns:
        UserWarning: if quotas are drawn for more domains than a batch has examples.

    Example:
        >>> mixture = DomainMixture({"en": 900, "ro": 100}, temperature=5.0, total_steps=100)
        >>> sampler = MixtureSampler({"en": 900, "ro": 100}, mixture, batch_size=32)
        >>> sum(len(batch) for batch in sampler), sampler.draws
        (3200, {'en': 1945, 'ro': 1255})
    """

    step: int  # the next to be handed out
    _rows: tuple[Tensor, ...]  # this rank's batches from step _planned_from on

    def __init__(
        self,
        datasets: Mapping[str, SupportsIndex | Sized],
        mixture: DomainMixture,
        batch_size: int,
        *,
        seed: int | None = None,
        generator: torch.Generator | None = None,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        if seed is not None and generator is not None:
            raise ValueError(f"seed cannot be used with generator, got {seed}")
        if num_replicas < 1:
            raise ValueError(f"num_replicas must be at least 1, got {num_replicas}")
        if not 0 <= rank < num_replicas:
            raise ValueError(f"rank must be in [0, {num_replicas}), got {rank}")
        if not 1 <= batch_size <= LARGEST_BATCH or batch_size % num_replicas:
            raise ValueError(
                f"batch_size must be a positive multiple of num_replicas, {num_replicas}, up to {LARGEST_BATCH}, "
                f"got {batch_size}"
            )
        if tuple(datasets) != mixture.names:
            raise ValueError(f"datasets must be {', '.join(mixture.names)}, in this order, got {', '.join(datasets)}")
        lengths = [len(d) if isinstance(d, Sized) else operator.index(d) for d in datasets.values()]
        for name, length in zip(mixture.names, lengths, strict=True):
            if length < 0 or (length == 0 and mixture.sizes[name] > 0):
                raise ValueError(f"datasets must have examples of every domain with a size, got {length} of {name!r}")
        filled = sum(length > 0 for length in lengths)
        if mixture.allocation == "quota" and batch_size < filled:
            warnings.warn(
                f"a batch of {batch_size} has no room for all of {filled} domains: they take turns in successive ones",
                stacklevel=2,
            )
        self.mixture = mixture
        self.batch_size = batch_size
        self.num_replicas = num_replicas
        self.rank = rank
        self.lengths = tuple(lengths)
        self._ends = torch.tensor(lengths).cumsum(0)
        self._identity = {
            "names": list(mixture.names),
            "lengths": lengths,
            "batch_size": batch_size,
            "allocation": mixture.allocation,
        }
        if generator is None:
            key = derive_key(0 if seed is None else seed, "mixture")
        else:
            key = int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))
        self._set_key(key)
        self._go_to(0, np.zeros(len(lengths), np.int64))

    @property
    def draws(self) -> dict[str, int]:
        """How many examples of each domain were handed out, over all ranks."""
        return dict(zip(self.mixture.names, self._counts_at(self.step).tolist(), strict=True))

    @property
    def epochs(self) -> dict[str, float]:
        """How often each domain was gone through: draws / examples, and 0 for an empty domain."""
        drawn = self._counts_at(self.step).tolist()
        pairs = zip(self.mixture.names, drawn, self.lengths, strict=True)
        return {name: count / length if length else 0.0 for name, count, length in pairs}

    def domain_ids(self, indices: Int64[Tensor, " batch"]) -> Int64[Tensor, " batch"]:
        """Return the domain of each example, as numbers into ``mixture.names``.

        Raises:
            ValueError: if an index belongs to no example.
        """
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < int(self._ends[-1]):
            raise ValueError(f"indices must be in [0, {int(self._ends[-1])}), got {indices.tolist()}")
        return torch.searchsorted(self._ends, indices, right=True)

    def __len__(self) -> int:
        """Return the number of batches from the present step to the last."""
        return max(self.mixture.total_steps - self.step, 0)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield this rank's part of each batch: indices into the data sets joined end to end."""
        for batch in self._remaining():
            yield batch.tolist()

    def batches(self) -> MixtureBatches:
        """Return the same batches as LongTensors: the fast path for data that is indexed by tensors.

        A batch is the caller's to keep and to change.
        """
        return MixtureBatches(self)

    def observe(self, losses: Mapping[str, float]) -> bool:
        """Tell the mixture validation losses by domain, see `AutoCooldown`; a switch begins with the next batch.

        Returns:
            Whether this was the switch.

        Raises:
            ValueError: if a domain is unknown.
        """
        return self.mixture.observe(self.step, losses)

    def seek(self, step: int) -> None:
        """Continue with any step, as if all steps before it had been drawn with the present mixture.

        With quotas and a schedule of few changes that takes milliseconds for any step, else it counts all steps.

        Raises:
            ValueError: if the step is not in the mixture's range.
        """
        self._go_to(self._checked(step), self.mixture.counts(0, step, self.batch_size, self._slots_key))

    def state_dict(self, step: int | None = None) -> dict[str, Any]:
        """Return the key, the step, the draws and what the sampler was made with: tensors, integers and strings.

        Args:
            step: how many steps the loop has done, if that is fewer than were handed out because a loader asks ahead.

        Raises:
            ValueError: if the step is later than that.
        """
        step = self.step if step is None else step
        if not 0 <= step <= self.step:
            raise ValueError(f"step must be in [0, {self.step}], the steps handed out, got {step}")
        return {
            **self._identity,
            "key": self.key,
            "step": step,
            "draws": torch.from_numpy(self._counts_at(step)),
            "mixture": self.mixture.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called, with its key, on any number of ranks; nothing is replayed.

        Another schedule or other sizes are accepted: they hold from this step on.

        Raises:
            ValueError: if the state was saved by a sampler made with other domains, batches or allocation, or its step
                or draws are none of this sampler's.
        """
        for name, own in self._identity.items():
            if state.get(name) != own:
                raise ValueError(f"the saved sampler has {name}={state.get(name)!r}, this one has {name}={own!r}")
        step, draws = operator.index(state["step"]), state["draws"]
        if step < 0:
            raise ValueError(f"step must not be negative, got {step}")
        if len(draws) != len(self.lengths) or int(draws.min()) < 0 or int(draws.sum()) != step * self.batch_size:
            raise ValueError(
                f"draws must be a number for each of {len(self.lengths)} domains, {step * self.batch_size} in all "
                f"after {step} steps, got {draws.tolist()}"
            )
        self.mixture.load_state_dict(state["mixture"])
        self._set_key(state["key"])
        self._go_to(step, draws.numpy().copy())

    def _remaining(self) -> Iterator[Int64[Tensor, " batch"]]:
        # All state is the sampler's: several passes at once share the batches among them.
        while self.step < self.mixture.total_steps:
            row = self.step - self._planned_from
            if row == len(self._rows) or self._revision != self.mixture.revision:
                self._plan()
                row = 0
            self.step += 1
            yield self._rows[row]

    def _plan(self) -> None:
        """Look up the examples of the next steps."""
        self._go_to(self.step, self._counts_at(self.step), ahead=2 * len(self._rows))
        most = max(min(_SLOTS // self.batch_size, _CELLS // len(self.lengths)), 1)
        # The first plan is one step, so that the first batch comes soon, and then they double.
        stop = min(self.step + min(max(self._ahead, 1), most), self.mixture.total_steps)
        self._domains = self.mixture.domains(self.step, stop, self.batch_size, self._slots_key)
        flat = self._domains.ravel().astype(np.uint16 if len(self.lengths) <= 2**16 else np.int64)  # sorted by radix
        totals = np.bincount(flat, minlength=len(self.lengths))
        taken = [self._readers[i].take(int(self._counts[i]), int(totals[i])) for i in np.flatnonzero(totals)]
        examples = np.empty(len(flat), np.int64)
        examples[np.argsort(flat, kind="stable")] = np.concatenate(taken)
        own = examples.reshape(self._domains.shape)[:, self.rank :: self.num_replicas]
        self._rows = torch.from_numpy(np.ascontiguousarray(own)).unbind()

    def _counts_at(self, step: int) -> _Indices:
        """Return the draws before a step: up to the plan's first step, and from there to this one."""
        if step < self._planned_from:
            return self._counts - self.mixture.counts(step, self._planned_from, self.batch_size, self._slots_key)
        planned = self._domains[: step - self._planned_from].ravel()
        return self._counts + np.bincount(planned, minlength=len(self._counts))

    def _go_to(self, step: int, counts: _Indices, ahead: int = 1) -> None:
        self.step = self._planned_from = step
        self._counts, self._ahead = counts, ahead
        self._domains = np.empty((0, self.batch_size), np.int64)
        self._rows = ()
        self._revision = self.mixture.revision

    def _set_key(self, key: int) -> None:
        self.key = key
        self._slots_key = derive_key(key, "slots")
        offsets = (self._ends - torch.tensor(self.lengths)).tolist()
        self._readers = [
            _DomainReader(length, offset, functools.partial(self._order, domain))
            for domain, (length, offset) in enumerate(zip(self.lengths, offsets, strict=True))
        ]

    def _order(self, domain: int, epoch: int) -> Tensor | FeistelPermutation:
        """Return the order of a domain's examples in an epoch: the place to put another one, such as RS2's."""
        length, key = self.lengths[domain], derive_key(self.key, "domain", self.mixture.names[domain])
        # All shuffles that are kept hold together no more than one of the largest.
        if length > LARGEST_SHUFFLE // len(self.lengths):
            return FeistelPermutation(length, key, epoch)
        return shuffled(length, key, epoch)

    def _checked(self, step: int) -> int:
        if not 0 <= step <= self.mixture.total_steps:
            raise ValueError(f"step must be in [0, {self.mixture.total_steps}], got {step}")
        return step


class MixtureBatches:
    """The batches of a sampler as tensors, see `MixtureSampler.batches`. Its length is the number of those left."""

    def __init__(self, sampler: MixtureSampler) -> None:
        self._sampler = sampler

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[Int64[Tensor, " batch"]]:
        return self._sampler._remaining()


class _DomainReader:
    """One domain's examples, epoch after epoch, at any position; the last epoch's order and a few examples are kept."""

    def __init__(self, length: int, offset: int, order: Callable[[int], Tensor | FeistelPermutation]) -> None:
        self._length, self._offset, self._order = length, offset, order
        self._epoch: tuple[int, Tensor | FeistelPermutation] | None = None
        self._begin, self._block = 0, np.empty(0, np.int64)

    def take(self, position: int, count: int) -> _Indices:
        """Return the examples number ``position`` to ``position + count − 1`` that are drawn from the domain."""
        skip = position - self._begin
        if not 0 <= skip <= len(self._block) - count:
            ahead = max(count, min(_READ_AHEAD, self._length - position % self._length))
            self._begin, self._block, skip = position, self._read(position, ahead), 0
        return self._block[skip : skip + count]

    def _read(self, position: int, count: int) -> _Indices:
        block = np.empty(count, np.int64)
        done = 0
        while done < count:
            epoch, start = divmod(position + done, self._length)
            if self._epoch is None or self._epoch[0] != epoch:
                self._epoch = epoch, self._order(epoch)
            piece = self._epoch[1][start : start + count - done].numpy()
            block[done : done + len(piece)] = piece
            done += len(piece)
        block += self._offset
        return block
